/* SPDX-License-Identifier: Apache-2.0 */

/* The client against a TLS server that answers with the identity that it saw. */

#include "base/testing.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <string.h>

#include "base/pki.h"
#include "base/util.h"
#include "kube/client.h"

struct world {
	char dir[64], server[64];
	struct MHD_Daemon *mhd;
	char *ca, *cert, *key;
	sd_event *loop;
};

static char *file(const struct world *w, const char *name) {
	char *path = strf("%s/%s", w->dir, name);
	assert_non_null(path);
	return path;
}

static char *content(const struct world *w, const char *name) {
	_free_ char *path = file(w, name);
	char *text;
	assert_int_equal(read_file(path, 1 << 20, &text, NULL, NULL), 0);
	return text;
}

static void put(const struct world *w, const char *name, const char *text) {
	_free_ char *path = file(w, name);
	assert_int_equal(write_file_atomic(path, text, strlen(text), 0600, NULL), 0);
}

/* "CN=…" of the client's certificate, "" without one. */
static void peer(struct MHD_Connection *c, char *out, size_t size) {
	const union MHD_ConnectionInfo *ci = MHD_get_connection_info(c, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	unsigned n = 0;
	const gnutls_datum_t *raw = ci ? gnutls_certificate_get_peers(ci->tls_session, &n) : NULL;
	gnutls_x509_crt_t crt;
	*out = '\0';
	if (!raw || !n || gnutls_x509_crt_init(&crt) < 0)
		return;
	if (gnutls_x509_crt_import(crt, raw, GNUTLS_X509_FMT_DER) >= 0)
		gnutls_x509_crt_get_dn(crt, out, &size);
	gnutls_x509_crt_deinit(crt);
}

static enum MHD_Result answer(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *data, size_t *len, void **state) {
	char who[256], text[600];
	const char *token = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
	(void)cls, (void)method, (void)version, (void)data, (void)len, (void)state;
	peer(c, who, sizeof(who));
	int n = snprintf(text, sizeof(text), "%s|%s", who, token ? token : "");
	struct MHD_Response *r = MHD_create_response_from_buffer((size_t)n, text, MHD_RESPMEM_MUST_COPY);
	MHD_add_response_header(r, "Retry-After", "7");
	enum MHD_Result ok = MHD_queue_response(c, streq(url, "/401") ? 401 : 200, r);
	MHD_destroy_response(r);
	return ok;
}

static void issue(const struct world *w, const char *name, const char *server_name) {
	struct pki_request rq = {
		.name = name, .names = &server_name, .n_names = server_name ? 1 : 0, .server = server_name};
	_free_ char *prefix = file(w, name);
	assert_int_equal(pki_issue_files(w->dir, &rq, prefix, NULL), 0);
}

static int setup(void **state) {
	struct world *w = calloc(1, sizeof(*w));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	assert_non_null(w);
	strcpy(w->dir, "/tmp/nacre-test-tls-XXXXXX");
	assert_non_null(test_mkdtemp(w->dir));
	assert_int_equal(pki_init(w->dir, "test", NULL), 0);
	issue(w, "server", "api.test");
	issue(w, "alice", NULL);
	issue(w, "bob", NULL);
	w->ca = content(w, "ca.crt");
	w->cert = content(w, "server.crt");
	w->key = content(w, "server.key");
	w->mhd = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_TLS, 0, NULL, NULL, answer, NULL,
	                          MHD_OPTION_SOCK_ADDR, &a, MHD_OPTION_HTTPS_MEM_CERT, w->cert,
	                          MHD_OPTION_HTTPS_MEM_KEY, w->key, MHD_OPTION_HTTPS_MEM_TRUST, w->ca, MHD_OPTION_END);
	assert_non_null(w->mhd);
	snprintf(w->server, sizeof(w->server), "https://127.0.0.1:%u",
	         MHD_get_daemon_info(w->mhd, MHD_DAEMON_INFO_BIND_PORT)->port);
	assert_int_equal(sd_event_new(&w->loop), 0);
	*state = w;
	return 0;
}

static int teardown(void **state) {
	struct world *w = *state;
	sd_event_unref(w->loop);
	MHD_stop_daemon(w->mhd);
	free(w->ca);
	free(w->cert);
	free(w->key);
	int r = remove_tree(w->dir, NULL);
	free(w);
	return r;
}

/* A client with a kubeconfig that has these lines for cluster and user. */
static struct kube_client *open_client(struct world *w, const char *cluster, const char *user) {
	_free_ char *path = file(w, "kubeconfig");
	_free_ char *text = strf("current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
	                         "clusters: [{name: c, cluster: {server: '%s', %s}}]\nusers: [{name: u, user: {%s}}]\n",
	                         w->server, cluster, user);
	struct kube_client *c;
	struct error err = {0};
	put(w, "kubeconfig", text);
	if (kube_client_open(&c, w->loop, &(struct kube_access){.kubeconfig = path}, "test", &err) < 0)
		fail_msg("%s", err.msg);
	return c;
}

static int get(struct kube_client *c, const char *path, struct kube_response *ret) {
	return kube_perform(c, &(struct kube_spec){.method = "GET", .path = path}, ret);
}

static void expect(struct kube_client *c, const char *body) {
	struct kube_response r;
	if (get(c, "/", &r) < 0)
		fail_msg("%s", r.err.msg);
	assert_string_equal(r.body, body);
	kube_response_clear(&r);
}

#define GOOD "certificate-authority: ca.crt, tls-server-name: api.test"

static void test_certificates(void **state) {
	struct world *w = *state;
	struct kube_response r;
	_cleanup_(cleanup_kube_client) struct kube_client *alice =
		open_client(w, GOOD, "client-certificate: alice.crt, client-key: alice.key");
	expect(alice, "CN=alice|");
	_cleanup_(cleanup_kube_client) struct kube_client *nobody = open_client(w, GOOD, "");
	expect(nobody, "|");
	_cleanup_(cleanup_kube_client) struct kube_client *blind = open_client(w, "insecure-skip-tls-verify: true", "");
	expect(blind, "|");
	/* A name that is not in the certificate, and an authority that did not sign it. */
	_cleanup_(cleanup_kube_client) struct kube_client *name = open_client(w, "certificate-authority: ca.crt", "");
	assert_int_equal(get(name, "/", &r), -EPROTO);
	assert_true(kube_response_retriable(&r));
	kube_response_clear(&r);
	_free_ char *other = file(w, "other");
	assert_int_equal(pki_init(other, "other", NULL), 0);
	_cleanup_(cleanup_kube_client) struct kube_client *strange =
		open_client(w, "certificate-authority: other/ca.crt, tls-server-name: api.test", "");
	assert_int_equal(get(strange, "/", &r), -EPROTO);
	assert_non_null(strstr(r.err.msg, w->server));
	kube_response_clear(&r);
}

static void test_refused(void **state) {
	struct kube_response r;
	_cleanup_(cleanup_kube_client) struct kube_client *c = open_client(*state, GOOD, "token: abc");
	expect(c, "|Bearer abc");
	assert_int_equal(get(c, "/401", &r), -EACCES);
	assert_non_null(strstr(r.err.msg, "/kubeconfig`"));
	assert_int_equal(r.retry_after_s, 7);
	kube_response_clear(&r);
}

/* Repeats the request until the answer is BODY: the client checks the files once a second. */
static void await(struct kube_client *c, const char *body) {
	struct kube_response r;
	uint64_t deadline = now_monotonic_ns() + 120 * NSEC_PER_SEC;
	bool same;
	do {
		assert_int_equal(get(c, "/", &r), 0);
		same = streq(r.body, body);
		kube_response_clear(&r);
		usleep(20000);
	} while (!same && now_monotonic_ns() < deadline);
	assert_true(same);
}

static void test_renewed(void **state) {
	struct world *w = *state;
	_free_ char *crt = content(w, "bob.crt");
	_free_ char *key = content(w, "bob.key");
	_free_ char *before = content(w, "alice.crt");
	put(w, "me.crt", before);
	_free_ char *alice_key = content(w, "alice.key");
	put(w, "me.key", alice_key);
	put(w, "token", "one\n");
	_cleanup_(cleanup_kube_client) struct kube_client *c =
		open_client(w, GOOD, "client-certificate: me.crt, client-key: me.key, tokenFile: token");
	expect(c, "CN=alice|Bearer one");
	put(w, "token", "two");
	await(c, "CN=alice|Bearer two");
	/* A file that can't be read changes nothing. */
	put(w, "token", "no token");
	await(c, "CN=alice|Bearer two");
	put(w, "token", "three");
	put(w, "me.key", key);
	put(w, "me.crt", crt);
	await(c, "CN=bob|Bearer three");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_renewed),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
