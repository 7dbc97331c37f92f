/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "kube/config.h"

#define PEM64 "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="
#define PEM   "-----BEGIN CERTIFICATE-----\n"

#define CLUSTER(text) "clusters:\n- name: c\n  cluster: {" text "}\n"
#define USER(text)    "users:\n- name: u\n  user: {" text "}\n"
#define CONTEXT       "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n"
#define SERVER        "server: 'https://[fd4e::1]:6443'"

static int parse(const char *text, const char *context, struct kube_config *ret, struct error *err) {
	return kube_config_parse(text, strlen(text), "/etc/nacre/kubeconfig", context, ret, err);
}

static const char good[] =
	"apiVersion: v1\nkind: Config\ncurrent-context: x\n"
	"contexts:\n- name: x\n  context: {cluster: c, user: u}\n- name: other\n  context: {cluster: c, user: bob}\n"
	"clusters:\n- name: c\n  cluster:\n    server: 'https://[fd4e::1]:6443'\n"
	"    certificate-authority-data: " PEM64 "\n    tls-server-name: api\n"
	"users:\n- name: u\n  user:\n    client-certificate: pki/u.crt\n    client-key: /k/u.key\n    tokenFile: t\n"
	"- name: bob\n  user:\n    token: abc\n";

static const char good_json[] =
	"{\"contexts\":[{\"name\":\"y\",\"context\":{\"cluster\":\"c\",\"user\":\"u\"}}],"
	"\"clusters\":[{\"name\":\"c\",\"cluster\":{\"server\":\"https://h\",\"insecure-skip-tls-verify\":true}}],"
	"\"users\":[{\"name\":\"u\",\"user\":{\"token\":\"abc\"}}]}";

static void test_good(_unused_ void **state) {
	struct error err;
	_kube_config_ struct kube_config c = {0};
	_kube_config_ struct kube_config json = {0};
	assert_int_equal(parse(good, NULL, &c, &err), 0);
	assert_string_equal(c.server, "https://[fd4e::1]:6443");
	assert_string_equal(c.ca.data, PEM);
	assert_string_equal(c.tls_server_name, "api");
	assert_string_equal(c.cert.file, "/etc/nacre/pki/u.crt");
	assert_string_equal(c.key.file, "/k/u.key");
	assert_string_equal(c.token.file, "/etc/nacre/t");
	assert_string_equal(c.context, "x");
	assert_int_equal(parse(good_json, "y", &json, &err), 0);
	assert_true(json.insecure);
	assert_string_equal(json.token.data, "abc");
}

static void test_bad(_unused_ void **state) {
	static const struct {
		const char *text, *words;
	} bad[] = {
		{"", "must be a mapping"},
		{"- a\n", "must be a mapping"},
		{"a: [", "line "},
		{"a: b\n", "no current-context"},
		{"current-context: x\n", "no context `x`"},
		{CONTEXT, "no cluster `c`"},
		{CONTEXT CLUSTER(SERVER), "no user `u`"},
		{CONTEXT CLUSTER("server: ftp://h") USER(""), "cluster `c`: server"},
		{CONTEXT CLUSTER("server: [a]") USER(""), "server: must be text"},
		{CONTEXT CLUSTER(SERVER ", proxy-url: 'http://p'") USER(""), "`proxy-url` is not supported"},
		{CONTEXT CLUSTER(SERVER ", insecure-skip-tls-verify: maybe") USER(""), "true or false"},
		{CONTEXT CLUSTER(SERVER ", insecure-skip-tls-verify: true, certificate-authority: a") USER(""),
	         "exclude each other"},
		{CONTEXT CLUSTER(SERVER ", certificate-authority-data: '!'") USER(""), "base64"},
		{CONTEXT CLUSTER(SERVER ", certificate-authority-data: AAAA") USER(""), "base64"},
		{CONTEXT CLUSTER(SERVER) USER("exec: {command: x}"), "user `u`: `exec` is not supported"},
		{CONTEXT CLUSTER(SERVER) USER("as: root"), "`as` is not supported"},
		{CONTEXT CLUSTER(SERVER) USER("client-certificate: a"), "need each other"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct kube_config c = {0};
		struct error err = {0};
		assert_int_equal(parse(bad[i].text, NULL, &c, &err), -EINVAL);
		if (!strstr(err.msg, bad[i].words) || !strstr(err.msg, "/etc/nacre/kubeconfig"))
			fail_msg("`%s` is not in: %s", bad[i].words, err.msg);
		assert_null(c.server);
	}
}

static void put(const char *dir, const char *name, const char *text) {
	_free_ char *path = strf("%s/%s", dir, name);
	assert_int_equal(write_file_atomic(path, text, strlen(text), 0600, NULL), 0);
}

static void test_files(_unused_ void **state) {
	char dir[] = "/tmp/nacre-test-config-XXXXXX";
	struct error err;
	_kube_config_ struct kube_config c = {0};
	_kube_config_ struct kube_config fresh = {0};
	_kube_config_ struct kube_config none = {0};
	assert_non_null(test_mkdtemp(dir));
	_free_ char *path = strf("%s/config", dir);
	struct kube_access a = {.kubeconfig = path};
	assert_int_equal(kube_config_load(&a, &none, &err), -ENOENT);
	put(dir, "config", CONTEXT CLUSTER(SERVER ", certificate-authority: ca") USER("tokenFile: token"));
	put(dir, "token", "first\n");
	put(dir, "ca", "no pem");
	assert_int_equal(kube_config_load(&a, &c, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "is not PEM"));
	put(dir, "ca", PEM);
	assert_int_equal(kube_config_load(&a, &c, &err), 0);
	assert_string_equal(c.token.data, "first");
	assert_false(kube_config_changed(&c));
	put(dir, "token", "second");
	assert_true(kube_config_changed(&c));
	assert_int_equal(kube_config_reload(&c, &fresh, &err), 0);
	assert_string_equal(fresh.token.data, "second");
	put(dir, "token", "a b");
	assert_int_equal(kube_config_reload(&c, &none, &err), -EINVAL);

	/* Which setting takes precedence. */
	setenv("KUBECONFIG", path, 1);
	put(dir, "token", "third");
	assert_int_equal(kube_config_load(&(struct kube_access){0}, &none, &err), 0);
	assert_string_equal(none.token.data, "third");
	kube_config_clear(&none);
	assert_int_equal(kube_config_load(&(struct kube_access){.api = "unix:/x"}, &none, &err), 0);
	assert_string_equal(none.server, "unix:/x");
	kube_config_clear(&none);
	a.api = "unix:/x";
	assert_int_equal(kube_config_load(&a, &none, &err), -EINVAL);
	setenv("KUBECONFIG", "a:b", 1);
	assert_int_equal(kube_config_load(&(struct kube_access){0}, &none, &err), -EINVAL);
	unsetenv("KUBECONFIG");
	unsetenv("KUBERNETES_SERVICE_HOST");
	assert_int_equal(kube_config_load(&(struct kube_access){0}, &none, &err), 0);
	assert_string_equal(none.server, KUBE_API_DEFAULT);
	assert_int_equal(remove_tree(dir, &err), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
