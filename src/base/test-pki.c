/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <sys/stat.h>

#include "base/pki.h"
#include "base/util.h"

static int set_up(void **state) {
	char dir[] = "/tmp/nacre-pki-XXXXXX";
	*state = mkdtemp(dir) ? strdup(dir) : NULL;
	return *state ? 0 : -1;
}

static int tear_down(void **state) {
	remove_tree(*state, NULL);
	free(*state);
	return 0;
}

static void test_issue(void **state) {
	static const char *const groups[] = {"system:nacre:hosts", "b"}, *const names[] = {"api.example", "::1"};
	const char *dir = *state;
	_free_ char *prefix = strf("%s/x", dir), *crt = strf("%s/x.crt", dir), *key = strf("%s/x.key", dir),
		    *ca = strf("%s/ca.crt", dir), *ca_key = strf("%s/ca.key", dir);
	struct pki_request rq = {.name = "system:nacre:host:h1", .groups = groups, .n_groups = 2, .days = 2};
	struct error err = {0};
	struct pki_info info;
	struct stat st;
	assert_int_equal(pki_issue_files(dir, &rq, prefix, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "nacre pki init"));
	assert_true(pki_due(crt));
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	assert_int_equal(pki_info(ca, &info, &err), 0);
	assert_string_equal(info.subject, "CN=ca");
	/* Asked again it keeps what is there. */
	_free_ char *before = NULL, *after = NULL;
	size_t len;
	assert_int_equal(read_file(ca_key, 4096, &before, &len, &err), 0);
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	assert_int_equal(read_file(ca_key, 4096, &after, &len, &err), 0);
	assert_string_equal(before, after);
	assert_int_equal(stat(ca_key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(pki_issue_files(dir, &rq, prefix, &err), 0);
	assert_int_equal(stat(key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(pki_info(crt, &info, &err), 0);
	assert_non_null(strstr(info.subject, "CN=system:nacre:host:h1"));
	assert_non_null(strstr(info.subject, "O=system:nacre:hosts"));
	assert_non_null(strstr(info.subject, "O=b"));
	assert_false(info.due);
	assert_int_equal(info.not_after_s - info.not_before_s, 2 * 24 * 3600 + 300);
	rq = (struct pki_request){.name = "server", .names = names, .n_names = 2, .server = true};
	assert_int_equal(pki_issue_files(dir, &rq, prefix, &err), 0);
	assert_false(pki_due(crt));
}

static void test_refused(void **state) {
	static const char *const bad[] = {"a b"};
	const char *dir = *state;
	char long_name[PKI_NAME_MAX + 2];
	_buf_free_ struct buf crt = {0}, key = {0};
	_free_ char *ca_key = strf("%s/ca.key", dir);
	struct error err = {0};
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	const struct pki_request cases[] = {
		{.name = ""},
		{.name = "a\nb"},
		{.name = long_name},
		{.name = "a", .days = -1},
		{.name = "a", .days = 100000},
		{.name = "a", .server = true},
		{.name = "a", .server = true, .names = bad, .n_names = 1},
		{.name = "a", .groups = bad, .n_groups = PKI_NAMES_MAX + 1},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_true(pki_issue(dir, &cases[i], &crt, &key, &err) < 0);
	const struct pki_request good = {.name = "a"};
	assert_int_equal(write_file_atomic(ca_key, "junk", 4, 0600, &err), 0);
	assert_int_equal(pki_issue(dir, &good, &crt, &key, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "ca.key"));
	assert_int_equal(unlink(ca_key), 0);
	assert_int_equal(pki_init(dir, "ca", &err), -ENOENT);
	assert_int_equal(crt.len, 0);
	long_name[PKI_NAME_MAX] = '\0';
	const struct pki_request longest = {.name = long_name};
	_free_ char *ca = strf("%s/ca.crt", dir);
	assert_int_equal(unlink(ca), 0);
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	if (pki_issue(dir, &longest, &crt, &key, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_kubeconfig(void **state) {
	const char *dir = *state;
	_free_ char *path = strf("%s/k", dir), *text = NULL;
	struct pki_request rq = {.name = "ann \"x\""};
	struct pki_kubeconfig k = {.server = "https://127.0.0.1:6443", .ns = "red"};
	char file[PKI_NAME_MAX + 1];
	struct error err = {0};
	size_t len;
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	assert_int_equal(pki_kubeconfig_file(dir, &rq, k, path, &err), 0);
	assert_int_equal(read_file(path, 1 << 20, &text, &len, &err), 0);
	assert_non_null(strstr(text, "\n    server: \"https://127.0.0.1:6443\"\n"));
	assert_non_null(strstr(text, "\n- name: \"ann \\\"x\\\"\"\n"));
	assert_non_null(strstr(text, "\n    certificate-authority-data: LS0tLS1CRUdJTi"));
	assert_non_null(strstr(text, "\n    namespace: \"red\"\n"));
	k.server = "http://x";
	assert_int_equal(pki_kubeconfig_file(dir, &rq, k, path, &err), -EINVAL);
	pki_file_name("../system:nacre:host:h1.x", file);
	assert_string_equal(file, "-.-system-nacre-host-h1.x");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_issue, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kubeconfig, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
