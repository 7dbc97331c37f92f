/* SPDX-License-Identifier: Apache-2.0 */

/* What the agent says about the limits of connection tracking. */

#include "base/testing.h"

#include <string.h>

#include "base/util.h"
#include "node/conntrack.h"

static char dir[64];
static struct error error;

static int setup(_unused_ void **state) {
	snprintf(dir, sizeof(dir), "/tmp/nacre-test-conntrack-%d", getpid());
	test_claim("dir", dir);
	return mkdir_p(dir, 0755, &error);
}

static int teardown(_unused_ void **state) {
	return remove_tree(dir, &error);
}

/* NULL: the file doesn't exist. */
static void put(const char *name, const char *text) {
	_free_ char *path = strf("%s/%s", dir, name);
	assert_non_null(path);
	if (text)
		OK(write_file_atomic(path, text, strlen(text), 0644, &error));
	else
		(void)unlink(path);
}

/* The result with these settings. */
static int check(const char *max, const char *buckets) {
	struct conntrack_limits l;
	put("nf_conntrack_max", max);
	put("nf_conntrack_buckets", buckets);
	int r = conntrack_read(dir, &l, &error);
	return r < 0 ? r : conntrack_judge(&l, &error);
}

static void says(const char *words) {
	if (!strstr(error.msg, words))
		fail_msg("`%s' is not in: %s", words, error.msg);
}

static void test_good(_unused_ void **state) {
	OK(check("65536\n", "262144\n"));
	OK(check("262144\n", "262144\n"));
	OK(check("262144\n", "65536\n"));
	OK(check("0\n", "1024\n"));
}

static void test_too_large(_unused_ void **state) {
	assert_int_equal(check("262145\n", "1048576\n"), -ERANGE);
	says("net.netfilter.nf_conntrack_max is 262145");
	says("80 MiB");
	says("set it to at most 262144");
	assert_int_equal(check("2147483647\n", "1024\n"), -ERANGE);
	says("655359 MiB");
}

static void test_too_few_buckets(_unused_ void **state) {
	assert_int_equal(check("65536\n", "16383\n"), -ERANGE);
	says("net.netfilter.nf_conntrack_buckets is 16383");
	says("set it to at least 16384");
	assert_int_equal(check("65537\n", "16384\n"), -ERANGE);
	says("set it to at least 16385");
	OK(check("65536\n", "16384\n"));
}

static void test_unknown(_unused_ void **state) {
	assert_int_equal(check(NULL, "262144\n"), -ENOENT);
	says("deploy/modules-load.d/nacre.conf");
	says("nf_conntrack_max");
	assert_int_equal(check("65536\n", NULL), -ENOENT);
	says("nf_conntrack_buckets");
	static const char *const bad[] = {"", "\n", "many\n", "-1\n", "1 2\n", "99999999999999999999\n"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(check(bad[i], "262144\n") < 0);
	assert_int_equal(check("0000000000000000000000000000000000000000000000000000000000000000000000\n", "262144\n"),
	                 -EFBIG);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_too_few_buckets),
		cmocka_unit_test(test_unknown),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
