/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads a kubeconfig (https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/). libyaml makes a tree of the
 * document; a few scalars at fixed depth are taken from it.
 */

#include "kube/config.h"

#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "base/base64.h"
#include "base/util.h"

#define CONFIG_MAX ((size_t)1 << 20)
#define SECRET_MAX ((size_t)256 << 10)

#define IN_CLUSTER "/var/run/secrets/kubernetes.io/serviceaccount"

static void secret_clear(struct kube_secret *s) {
	free(s->file);
	if (s->data)
		explicit_bzero(s->data, strlen(s->data));
	free(s->data);
	*s = (struct kube_secret){0};
}

void kube_config_clear(struct kube_config *c) {
	free(c->path);
	free(c->context);
	free(c->server);
	free(c->tls_server_name);
	secret_clear(&c->ca);
	secret_clear(&c->cert);
	secret_clear(&c->key);
	secret_clear(&c->token);
	*c = (struct kube_config){0};
}

/* ---- YAML ---- */

/* One entry of `clusters`, `users` or `contexts`, or the top of the document. WHAT names it in messages. */
struct section {
	yaml_document_t *doc;
	yaml_node_t *map;
	const char *path;
	char what[160];
};

static int section_error(const struct section *s, struct error *err, const char *fmt, ...) _printf_(3, 4);
static int section_error(const struct section *s, struct error *err, const char *fmt, ...) {
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return error_set(err, EINVAL, "kubeconfig `%s`%s: %s", s->path, s->what, text);
}

static yaml_node_t *member(const struct section *s, const char *key) {
	if (!s->map || s->map->type != YAML_MAPPING_NODE)
		return NULL;
	for (yaml_node_pair_t *p = s->map->data.mapping.pairs.start; p < s->map->data.mapping.pairs.top; p++) {
		yaml_node_t *k = yaml_document_get_node(s->doc, p->key);
		if (k && k->type == YAML_SCALAR_NODE && k->data.scalar.length == strlen(key) &&
		    memcmp(k->data.scalar.value, key, k->data.scalar.length) == 0)
			return yaml_document_get_node(s->doc, p->value);
	}
	return NULL;
}

/* *RET becomes a copy of the text KEY; it stays NULL if KEY is missing or empty. */
static int get_text(const struct section *s, const char *key, char **ret, struct error *err) {
	const yaml_node_t *n = member(s, key);
	if (!n)
		return 0;
	if (n->type != YAML_SCALAR_NODE || strlen((char *)n->data.scalar.value) != n->data.scalar.length)
		return section_error(s, err, "%s: must be text", key);
	const char *v = (char *)n->data.scalar.value;
	bool null = !*v || (n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (streq(v, "null") || streq(v, "~")));
	if (null)
		return 0;
	free(*ret);
	*ret = strdup(v);
	return *ret ? 0 : error_oom(err);
}

static int get_bool(const struct section *s, const char *key, bool *ret, struct error *err) {
	_free_ char *text = NULL;
	int r = get_text(s, key, &text, err);
	if (r < 0 || !text)
		return r;
	if (!streq(text, "true") && !streq(text, "false"))
		return section_error(s, err, "%s: must be true or false", key);
	*ret = streq(text, "true");
	return 0;
}

/* NAME-data takes precedence over NAME, as in client-go. */
static int get_pem(const struct section *s, const char *file_key, const char *data_key, struct kube_secret *ret,
                   struct error *err) {
	_free_ char *data = NULL;
	int r = get_text(s, data_key, &data, err);
	if (r < 0 || !data)
		return r < 0 ? r : get_text(s, file_key, &ret->file, err);
	_buf_free_ struct buf text = {.max = SECRET_MAX};
	size_t at;
	if (base64_decode(&text, data, strlen(data), &at) < 0 || text.failed || memchr(text.data, '\0', text.len))
		return section_error(s, err, "%s: is not base64 of text", data_key);
	ret->data = buf_steal(&text);
	return ret->data ? 0 : error_oom(err);
}

/* The member named LIST[].KIND of the entry called NAME. */
static int find_entry(const struct section *top, const char *list, const char *kind, const char *name,
                      struct section *ret, struct error *err) {
	const yaml_node_t *l = member(top, list);
	if (l && l->type == YAML_SEQUENCE_NODE)
		for (yaml_node_item_t *i = l->data.sequence.items.start; i < l->data.sequence.items.top; i++) {
			struct section entry = {top->doc, yaml_document_get_node(top->doc, *i), top->path, ""};
			const yaml_node_t *n = member(&entry, "name");
			if (!n || n->type != YAML_SCALAR_NODE || !streq((char *)n->data.scalar.value, name))
				continue;
			*ret = (struct section){top->doc, member(&entry, kind), top->path, ""};
			snprintf(ret->what, sizeof(ret->what), ": %s `%.100s`", kind, name);
			if (!ret->map || ret->map->type == YAML_MAPPING_NODE)
				return 0;
			bool empty = ret->map->type == YAML_SCALAR_NODE; /* "user:" without a value */
			return empty ? 0 : section_error(ret, err, "must be a mapping");
		}
	return section_error(top, err, "there is no %s `%.100s`", kind, name);
}

/* ---- the parts of a kubeconfig ---- */

static int refuse(const struct section *s, const char *const *keys, const char *why, struct error *err) {
	for (; *keys; keys++)
		if (member(s, *keys))
			return section_error(s, err, "`%s` is not supported: %s", *keys, why);
	return 0;
}

static int check_server(const char *server) {
	return starts_with(server, "https://") || starts_with(server, "http://") || starts_with(server, "unix:/")
	               ? 0
	               : -EINVAL;
}

static int take_cluster(const struct section *s, struct kube_config *c, struct error *err) {
	static const char *const no[] = {"proxy-url", NULL};
	int r = refuse(s, no, "Nacre reaches the API server without a proxy", err);
	if (r >= 0)
		r = get_text(s, "server", &c->server, err);
	if (r >= 0 && (!c->server || check_server(c->server) < 0))
		r = section_error(s, err, "server: must be https://HOST:PORT, http://HOST:PORT or unix:/PATH");
	if (r >= 0)
		r = get_text(s, "tls-server-name", &c->tls_server_name, err);
	if (r >= 0)
		r = get_bool(s, "insecure-skip-tls-verify", &c->insecure, err);
	if (r >= 0)
		r = get_pem(s, "certificate-authority", "certificate-authority-data", &c->ca, err);
	if (r >= 0 && c->insecure && (c->ca.file || c->ca.data))
		r = section_error(s, err, "insecure-skip-tls-verify and a certificate-authority exclude each other");
	return r;
}

static int take_user(const struct section *s, struct kube_config *c, struct error *err) {
	static const char *const plugins[] = {"exec", "auth-provider", NULL};
	static const char *const other[] = {"username", "password", "as", "as-uid", "as-groups", "as-user-extra", NULL};
	int r = refuse(s, plugins, "Nacre's programs run no plug-ins; give a client-certificate or a tokenFile", err);
	if (r >= 0)
		r = refuse(s, other, "give a client-certificate or a token", err);
	if (r >= 0)
		r = get_pem(s, "client-certificate", "client-certificate-data", &c->cert, err);
	if (r >= 0)
		r = get_pem(s, "client-key", "client-key-data", &c->key, err);
	/* The file takes precedence over the text, as in client-go. */
	if (r >= 0)
		r = get_text(s, "tokenFile", &c->token.file, err);
	if (r >= 0 && !c->token.file)
		r = get_text(s, "token", &c->token.data, err);
	bool cert = c->cert.file || c->cert.data, key = c->key.file || c->key.data;
	if (r >= 0 && cert != key)
		r = section_error(s, err, "client-certificate and client-key need each other");
	return r;
}

/* File names are relative to the directory of the kubeconfig. */
static int resolve(struct kube_secret *s, const char *path, struct error *err) {
	const char *slash = strrchr(path, '/');
	if (!s->file || *s->file == '/' || !slash)
		return 0;
	char *full = strf("%.*s/%s", (int)(slash - path), path, s->file);
	if (!full)
		return error_oom(err);
	free(s->file);
	s->file = full;
	return 0;
}

static int take_document(yaml_document_t *doc, const char *context, struct kube_config *c, struct error *err) {
	struct section top = {doc, yaml_document_get_root_node(doc), c->path, ""}, part;
	_free_ char *cluster = NULL;
	_free_ char *user = NULL;
	int r = 0;
	if (!top.map || top.map->type != YAML_MAPPING_NODE)
		return section_error(&top, err, "must be a mapping with clusters, users and contexts");
	if (context)
		c->context = strdup(context);
	else
		r = get_text(&top, "current-context", &c->context, err);
	if (r >= 0 && !c->context)
		r = section_error(&top, err, "has no current-context; name a context with --context");
	if (r >= 0)
		r = find_entry(&top, "contexts", "context", c->context, &part, err);
	if (r >= 0)
		r = get_text(&part, "cluster", &cluster, err);
	if (r >= 0)
		r = get_text(&part, "user", &user, err);
	if (r >= 0 && !cluster)
		r = section_error(&part, err, "names no cluster");
	if (r >= 0)
		r = find_entry(&top, "clusters", "cluster", cluster, &part, err);
	if (r >= 0)
		r = take_cluster(&part, c, err);
	if (r >= 0 && user)
		r = find_entry(&top, "users", "user", user, &part, err);
	if (r >= 0 && user)
		r = take_user(&part, c, err);
	return r;
}

int kube_config_parse(const char *text, size_t len, const char *path, const char *context, struct kube_config *ret,
                      struct error *err) {
	_kube_config_ struct kube_config c = {.path = strdup(path)};
	yaml_parser_t parser;
	yaml_document_t doc;
	if (!c.path || !yaml_parser_initialize(&parser))
		return error_oom(err);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	int r = yaml_parser_load(&parser, &doc) ? 0 : -EINVAL;
	if (r < 0)
		error_set(err, EINVAL, "kubeconfig `%s`: line %zu: %s", path, parser.problem_mark.line + 1,
		          parser.problem ? parser.problem : "is not YAML");
	else {
		r = take_document(&doc, context, &c, err);
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	struct kube_secret *const secrets[] = {&c.ca, &c.cert, &c.key, &c.token};
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(secrets); i++)
		r = resolve(secrets[i], path, err);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct kube_config){0};
	return 0;
}

/* ---- files ---- */

static uint64_t mix(uint64_t h, uint64_t v) {
	return (h ^ v) * 1099511628211U;
}

static uint64_t stamp_of(const struct kube_config *c) {
	const char *const files[] = {c->path, c->ca.file, c->cert.file, c->key.file, c->token.file};
	uint64_t h = 14695981039346656037U;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct stat st = {0};
		if (files[i] && stat(files[i], &st) < 0)
			st.st_ino = 0;
		h = mix(mix(h, st.st_ino), (uint64_t)st.st_size);
		h = mix(mix(h, (uint64_t)st.st_mtim.tv_sec), (uint64_t)st.st_mtim.tv_nsec);
	}
	return h;
}

bool kube_config_changed(const struct kube_config *c) {
	return stamp_of(c) != c->stamp;
}

static int read_secret(struct kube_secret *s, const char *what, struct error *err) {
	size_t len;
	if (!s->file)
		return 0;
	int r = read_file(s->file, SECRET_MAX, &s->data, &len, err);
	if (r < 0)
		return error_prefix(err, "%s", what);
	return strlen(s->data) == len ? 0 : error_set(err, EINVAL, "%s `%s`: is not text", what, s->file);
}

static int check_pem(const struct kube_config *c, const struct kube_secret *s, const char *what, struct error *err) {
	if (!s->data || strstr(s->data, "-----BEGIN "))
		return 0;
	return error_set(err, EINVAL, "%s of `%s`: is not PEM", what, s->file ? s->file : c->path);
}

static int read_secrets(struct kube_config *c, struct error *err) {
	/* The stamp is taken before the files are read: a file that changes meanwhile is read again. */
	c->stamp = stamp_of(c);
	int r = read_secret(&c->ca, "certificate authority", err);
	if (r >= 0)
		r = read_secret(&c->cert, "client certificate", err);
	if (r >= 0)
		r = read_secret(&c->key, "client key", err);
	if (r >= 0)
		r = read_secret(&c->token, "token", err);
	if (r >= 0)
		r = check_pem(c, &c->ca, "certificate authority", err);
	if (r >= 0)
		r = check_pem(c, &c->cert, "client certificate", err);
	if (r >= 0)
		r = check_pem(c, &c->key, "client key", err);
	if (r < 0 || !c->token.data)
		return r;
	c->token.data[strcspn(c->token.data, "\r\n")] = '\0';
	for (const char *p = c->token.data; *p; p++)
		if (*p <= ' ' || *p > '~')
			return error_set(err, EINVAL, "token of `%s`: holds a space or a byte that is not ASCII",
			                 c->token.file ? c->token.file : c->path);
	return 0;
}

static int load_file(const char *path, const char *context, struct kube_config *ret, struct error *err) {
	_free_ char *text = NULL;
	size_t len;
	_kube_config_ struct kube_config c = {0};
	int r = read_file(path, CONFIG_MAX, &text, &len, err);
	if (r < 0)
		return error_prefix(err, "kubeconfig");
	r = kube_config_parse(text, len, path, context, &c, err);
	explicit_bzero(text, len);
	if (r >= 0)
		r = read_secrets(&c, err);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct kube_config){0};
	return 0;
}

/* The service account of a Pod (client-go, rest.InClusterConfig). */
static int load_in_cluster(struct kube_config *ret, struct error *err) {
	const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
	_kube_config_ struct kube_config c = {0};
	if (!host)
		return error_set(err, ENOENT, "KUBERNETES_SERVICE_HOST is not set: the program does not run in a Pod");
	bool v6 = strchr(host, ':') != NULL;
	c.server = strf("https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port && *port ? port : "443");
	c.ca.file = strdup(IN_CLUSTER "/ca.crt");
	c.token.file = strdup(IN_CLUSTER "/token");
	if (!c.server || !c.ca.file || !c.token.file)
		return error_oom(err);
	int r = read_secrets(&c, err);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct kube_config){0};
	return 0;
}

int kube_config_load(const struct kube_access *a, struct kube_config *ret, struct error *err) {
	const char *path = a->kubeconfig, *env = getenv("KUBECONFIG"), *api = a->api;
	if (path && api)
		return error_set(err, EINVAL, "--api and --kubeconfig exclude each other");
	if (!path && !api && env && *env) {
		if (strchr(env, ':'))
			return error_set(err, EINVAL, "$KUBECONFIG `%s` names several files; give one by --kubeconfig",
			                 env);
		path = env;
	}
	if (path)
		return load_file(path, a->context, ret, err);
	if (a->context)
		return error_set(err, EINVAL, "--context needs --kubeconfig");
	if (!api && getenv("KUBERNETES_SERVICE_HOST") && access(IN_CLUSTER "/token", F_OK) == 0)
		return load_in_cluster(ret, err);
	api = api ? api : KUBE_API_DEFAULT;
	if (check_server(api) < 0)
		return error_set(err, EINVAL,
		                 "API server `%s`: must be http://HOST:PORT, https://HOST:PORT or unix:/PATH", api);
	char *server = strdup(api);
	if (!server)
		return error_oom(err);
	*ret = (struct kube_config){.server = server};
	ret->stamp = stamp_of(ret);
	return 0;
}

int kube_config_reload(const struct kube_config *c, struct kube_config *ret, struct error *err) {
	if (c->path)
		return load_file(c->path, c->context, ret, err);
	return load_in_cluster(ret, err);
}
