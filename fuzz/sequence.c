/* SPDX-License-Identifier: Apache-2.0 */
#include "sequence.h"

#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "fuzz.h"

/* test_cost.py has larger bodies: they would make fuzzing slow. */
#define BODY_MAX  ((size_t)256 << 10)
#define STEPS_MAX (1U << 17)

static const char verbs[] = "glwWcupmsydDUMSCGrotR";
static const char users[] = "ath-eb";
static const char spaces[] = "rb*";
static const char name_keys[] = "abcdhpqn";
static const char *const names[] = {"a", "b", "c", "d", "h1", "i-x", "host-h1", "default"};

static const struct {
	char key;
	const char *kind, *rest;
} kinds[] = {
	{'i', "Instance",
         ",\"spec\":{\"type\":\"a\",\"image\":\"a\",\"ingress\":[{\"protocol\":\"tcp\",\"port\":80}]}"},
	{'k', "Cluster", ",\"spec\":{\"replicas\":2,\"template\":{\"type\":\"a\",\"image\":\"a\"}}"},
	{'t', "InstanceType", ",\"spec\":{\"vcpus\":1,\"memoryMiB\":64}"},
	{'m', "Image", ",\"spec\":{\"kernel\":{\"kernel\":\"k\"}}"},
	{'h', "Host", ",\"spec\":{\"role\":\"host\",\"vtep\":\"fd00::1\"}"},
	{'e', "Endpoint",
         ",\"spec\":{\"host\":\"h1\",\"vtep\":\"fd00::1\",\"ip\":\"fd01::1\",\"mac\":\"02:00:00:00:00:01\",\"routes\":["
         "]}"},
	{'p', "AddressPool", ",\"spec\":{\"use\":\"overlay\",\"prefix\":\"fd01::/64\"}"},
	{'q', "TenantQuota", ",\"spec\":{\"instances\":2}"},
	{'n', "Namespace", ""},
	{'v', "Event", ",\"involvedObject\":{\"kind\":\"Instance\",\"name\":\"a\"}"},
	{'l', "Lease", ",\"spec\":{\"holderIdentity\":\"h1\"}"},
	{'c', "ConfigMap", ",\"data\":{\"a\":\"b\"}"},
	{'s', "Secret", ",\"stringData\":{\"a\":\"b\"}"},
	{'a', "ServiceAccount", ""},
	{'r', "Role", ",\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"events\"]}]"},
	{'R', "ClusterRole",
         ",\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"events\"]}],\"aggregationRule\":{"
         "\"clusterRoleSelectors\":[{\"matchLabels\":{\"a\":\"b\"}}]}"},
	{'b', "RoleBinding",
         ",\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"a\"},\"subjects\":[{"
         "\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"User\",\"name\":\"red\"}]"},
};

static const struct {
	char key;
	const char *query, *accept;
} options[] = {
	{'.', "", NULL},
	{'d', "dryRun=All", NULL},
	{'o', "propagationPolicy=Orphan", NULL},
	{'f', "propagationPolicy=Foreground", NULL},
	{'b', "propagationPolicy=Background", NULL},
	{'F', "fieldManager=m&force=true", NULL},
	{'n', "fieldManager=n", NULL},
	{'x', "fieldValidation=Strict", NULL},
	{'l', "labelSelector=a%3Db", NULL},
	{'!', "labelSelector=!a,b+notin+(c)", NULL},
	{'i', "fieldSelector=metadata.name%3Da", NULL},
	{'1', "limit=1", NULL},
	{'T', "", "application/json;as=Table;g=meta.k8s.io;v=v1"},
	{'P', "", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"},
	{'p', "", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"},
	{'e', "allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", NULL},
	{'Y', "", NULL}, /* the body is YAML */
	{'B', "", NULL}, /* the body is protobuf */
};

static const char *const reviews[] = {
	"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
	"/apis/authorization.k8s.io/v1/subjectaccessreviews",
	"/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
	"/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
	"/apis/authentication.k8s.io/v1/selfsubjectreviews",
	"/apis/authentication.k8s.io/v1/tokenreviews",
	"/api/v1/namespaces/default/serviceaccounts/default/token",
};

static const char *const others[] = {"/api", "/apis", "/version", "/openapi/v2", "/openapi/v3", "/healthz?verbose"};

/* The index of C in KEYS. Any other byte also gets an index. */
static size_t place(const char *keys, char c) {
	const char *p = c ? strchr(keys, c) : NULL;
	return p ? (size_t)(p - keys) : (unsigned char)c % strlen(keys);
}

static size_t kind_place(char c) {
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].key == c)
			return i;
	return (unsigned char)c % ARRAY_SIZE(kinds);
}

static size_t option_place(char c) {
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].key == c)
			return i;
	return 0;
}

static unsigned kind_of(size_t at) {
	unsigned k = 0;
	while (!streq(api_kinds[k]->kind, kinds[at].kind))
		k++;
	return k;
}

/* ---- bodies ---- */

struct writer {
	const struct server *server;
	const struct step *step;
	size_t kind; /* into kinds */
	int64_t old_version;
	unsigned steps; /* steps so far; their limit also ends empty repetitions */
	struct buf out;
};

static const struct object *stored(const struct writer *w, unsigned kind, const char *name) {
	return store_get(w->server->store, kind, api_kinds[kind]->namespaced ? w->step->ns : "", name);
}

static void put_uid(struct buf *b, const struct object *o) {
	const char *text;
	size_t n;
	if (o && json_find(o->value->data, o->value->len, "metadata.uid", &text, &n))
		buf_add(b, text, n);
	else
		buf_puts(b, "\"none\"");
}

static void put_owner(struct writer *w, char kind_key, char name_key) {
	const size_t at = kind_place(kind_key);
	const unsigned kind = kind_of(at);
	const char *name = names[place(name_keys, name_key)];
	char gv[64];
	api_kind_version(api_kinds[kind], gv);
	buf_printf(&w->out,
	           "{\"apiVersion\":\"%s\",\"kind\":\"%s\",\"name\":\"%s\",\"blockOwnerDeletion\":true,\"uid\":", gv,
	           kinds[at].kind, name);
	put_uid(&w->out, stored(w, kind, name));
	buf_putc(&w->out, '}');
}

static void put_text(struct writer *w, const char *p, const char *end, unsigned repeated);

/* The end of the repetition that begins at P. */
static const char *repetition_end(const char *p, const char *end) {
	for (int depth = 1; p + 1 < end; p++) {
		if (*p == '$' && p[1] == '[')
			depth++;
		if (*p == '$' && p[1] == ']' && --depth == 0)
			return p;
	}
	return end;
}

/* Writes what `$` at P stands for; returns where to continue. */
static const char *put_one(struct writer *w, const char *p, const char *end, unsigned repeated) {
	const struct step *st = w->step;
	const struct object *o = stored(w, st->kind, st->name);
	char gv[64];
	switch (p[1]) {
	case 't':
		api_kind_version(api_kinds[st->kind], gv);
		buf_printf(&w->out, "\"apiVersion\":\"%s\",\"kind\":\"%s\",", gv, api_kinds[st->kind]->kind);
		return p + 2;
	case 'm': buf_printf(&w->out, "\"metadata\":{\"name\":\"%s\"", st->name); return p + 2;
	case 's': buf_puts(&w->out, kinds[w->kind].rest); return p + 2;
	case 'g': buf_add(&w->out, o ? o->value->data : "{}", o ? o->value->len : 2); return p + 2;
	case 'v': buf_printf(&w->out, "\"%" PRId64 "\"", o ? o->rv : 1); return p + 2;
	case 'V': buf_printf(&w->out, "\"%" PRId64 "\"", w->old_version); return p + 2;
	case 'u': put_uid(&w->out, o); return p + 2;
	case 'n': buf_putc(&w->out, '\n'); return p + 2;
	case '#': buf_printf(&w->out, "%u", repeated); return p + 2;
	case 'x':
		if (p + 3 >= end)
			return end;
		put_owner(w, p[2], p[3]);
		return p + 4;
	case '[': {
		if (p + 2 >= end)
			return end;
		const unsigned times = 1U << (unsigned char)(p[2] - 'a') % 14;
		const char *stop = repetition_end(p + 3, end);
		for (unsigned i = 0; i < times && w->out.len < BODY_MAX && w->steps++ < STEPS_MAX; i++)
			put_text(w, p + 3, stop, i);
		return stop + 2 < end ? stop + 2 : end;
	}
	default: buf_putc(&w->out, '$'); return p + 1;
	}
}

static void put_text(struct writer *w, const char *p, const char *end, unsigned repeated) {
	while (p < end && w->out.len < BODY_MAX && w->steps++ < STEPS_MAX)
		if (*p == '$' && p + 1 < end)
			p = put_one(w, p, end, repeated);
		else
			buf_putc(&w->out, *p++);
}

/* ---- requests ---- */

static struct user *user_of(char key) {
	static const struct {
		const char *name, *group;
	} who[] = {{NULL, NULL},
	           {"red", NULL},
	           {"system:nacre:host:h1", "system:nacre:hosts"},
	           {NULL, NULL},
	           {"system:nacre:edge:e1", "system:nacre:edges"},
	           {"system:nacre:balancer:l1", "system:nacre:balancers"}};
	const size_t i = place(users, key);
	if (!who[i].name)
		return users[i] == 'a' ? user_new_admin() : user_new_anonymous();
	struct user *u = user_new(who[i].name, NULL);
	CHECK(u && user_add_group(u, GROUP_AUTHENTICATED) == 0);
	CHECK(!who[i].group || user_add_group(u, who[i].group) == 0);
	return u;
}

static const char *method_of(char verb) {
	switch (verb) {
	case 'c':
	case 'r': return "POST";
	case 'u':
	case 'U':
	case 'S': return "PUT";
	case 'p':
	case 'm':
	case 's':
	case 'y':
	case 'M':
	case 'C': return "PATCH";
	case 'd':
	case 'D': return "DELETE";
	default: return "GET";
	}
}

static const char *type_of(char verb, char option) {
	switch (verb) {
	case 'p': return "application/json-patch+json";
	case 'm':
	case 'M':
	case 'C': return "application/merge-patch+json";
	case 's': return "application/strategic-merge-patch+json";
	case 'y': return "application/apply-patch+yaml";
	default:
		return option == 'Y'   ? "application/yaml"
		       : option == 'B' ? "application/vnd.kubernetes.protobuf"
		                       : "application/json";
	}
}

static char *target_of(const struct step *st, char name_key, const char *query, int64_t old_version) {
	const struct api_kind *k = api_kinds[st->kind];
	const bool whole = memchr("lwWcD", st->verb, 5);
	struct buf b = {0};
	if (st->verb == 'r')
		buf_puts(&b, reviews[(unsigned char)name_key % ARRAY_SIZE(reviews)]);
	else if (st->verb == 'o')
		buf_puts(&b, others[(unsigned char)name_key % ARRAY_SIZE(others)]);
	else {
		buf_printf(&b, *k->group ? "/apis/%s/%s" : "/api%s/%s", k->group, k->version);
		if (k->namespaced && *st->ns)
			buf_printf(&b, "/namespaces/%s", st->ns);
		buf_printf(&b, "/%s", k->plural);
		if (!whole)
			buf_printf(&b, "/%s", st->name);
		buf_puts(&b, memchr("UM", st->verb, 2) ? "/status" : memchr("SCG", st->verb, 3) ? "/scale" : "");
		buf_puts(&b, "?");
		if (st->verb == 'w' || st->verb == 'W')
			buf_puts(&b, "watch=1&");
		if (st->verb == 'W')
			buf_printf(&b, "resourceVersion=%" PRId64 "&", old_version);
		if (st->verb == 'y' && !strstr(query, "fieldManager"))
			buf_puts(&b, "fieldManager=y&");
		buf_puts(&b, query);
	}
	CHECK(!b.failed);
	return buf_steal(&b);
}

void sequence_step(const struct server *s, const char *line, size_t n, int64_t old_version, struct step *ret) {
	char head[6] = {0};
	memcpy(head, line, MIN(n, sizeof(head)));
	const size_t kind = kind_place(head[2]), option = option_place(head[5]);
	static const char *const namespaces[] = {"default", "nacre-system", ""};
	*ret = (struct step){.verb = verbs[place(verbs, head[0])],
	                     .option = options[option].key,
	                     .kind = kind_of(kind),
	                     .selector = strstr(options[option].query, "Selector") ? options[option].query : "",
	                     .ns = namespaces[place(spaces, head[3])],
	                     .name = names[place(name_keys, head[4])]};
	if (ret->verb == 't' || ret->verb == 'R')
		return;
	_free_ char *target = target_of(ret, head[4], options[option].query, old_version);
	struct request *r = request_new(method_of(ret->verb), target);
	CHECK(r);
	r->user = user_of(head[1]);
	CHECK(r->user);
	struct writer w = {.server = s, .step = ret, .kind = kind, .old_version = old_version};
	const size_t begin = MIN(n, n > 6 && line[6] == ' ' ? 7U : 6U);
	if (request_set_content_type(r, type_of(ret->verb, ret->option)) == 0 &&
	    request_set_accept(r, options[option].accept) == 0)
		put_text(&w, line + begin, line + n, 0);
	CHECK(!w.out.failed);
	r->body = w.out;
	ret->request = r;
}

struct request *sequence_ask(const char *method, const char *target) {
	struct request *r = request_new(method, target);
	CHECK(r);
	r->user = user_new_admin();
	CHECK(r->user);
	return r;
}
