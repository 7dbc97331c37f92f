/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <sys/stat.h>

#include "apiserver/auth/token.h"
#include "base/util.h"

static void expect_bad(const struct token_key *k, const char *token) {
	struct error err = {0};
	json_t *claims = NULL;
	assert_int_equal(token_verify(k, token, &claims, &err), -EACCES);
	assert_null(claims);
	assert_true(*err.msg);
}

static void test_round_trip(void **state) {
	struct token_key *k = NULL, *other = NULL;
	struct error err = {0};
	(void)state;
	assert_int_equal(token_key_load(&k, NULL, &err), 0);
	assert_int_equal(token_key_load(&other, NULL, &err), 0);
	/* Often enough to get signatures whose halves have leading zeros. */
	for (int i = 0; i < 600; i++) {
		json_t *in = json_pack("{s:i, s:s}", "n", i, "x", "\xc3\xa4"), *out = NULL;
		_free_ char *t = token_sign(k, in, &err);
		assert_non_null(t);
		assert_int_equal(token_verify(k, t, &out, &err), 0);
		assert_true(json_equal(in, out));
		json_decref(in);
		json_decref(out);
		if (i % 100)
			continue;
		expect_bad(other, t);
		/* Each byte is changed in turn. */
		for (char *p = t; *p; p++) {
			char c = *p;
			*p = c == 'A' ? 'B' : 'A';
			struct error e = {0};
			json_t *claims = NULL;
			/* The last character of a part has bits that mean nothing. */
			int r = token_verify(k, t, &claims, &e);
			assert_true(r == -EACCES || p[1] == '\0');
			json_decref(claims);
			*p = c;
		}
	}
	token_key_free(k);
	token_key_free(other);
}

static void test_bad_text(void **state) {
	static const char *const cases[] = {"",
	                                    ".",
	                                    "..",
	                                    "...",
	                                    "a.b",
	                                    "a.b.c",
	                                    "e30.e30.e30",
	                                    "e30.e30.",
	                                    "=.=.=",
	                                    "\xff.\xff.\xff",
	                                    "eyJhbGciOiJub25lIn0.e30.",
	                                    "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"};
	struct token_key *k = NULL;
	struct error err = {0};
	(void)state;
	assert_int_equal(token_key_load(&k, NULL, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_bad(k, cases[i]);
	_free_ char *longest = malloc(TOKEN_MAX + 2);
	memset(longest, 'a', TOKEN_MAX + 1);
	longest[TOKEN_MAX + 1] = '\0';
	expect_bad(k, longest);
	longest[TOKEN_MAX] = '\0';
	longest[10] = longest[TOKEN_MAX - 20] = '.';
	expect_bad(k, longest);
	/* Claims that are too long for a token. */
	memset(longest, 'a', TOKEN_MAX);
	json_t *big = json_pack("{s:s}", "x", longest);
	assert_null(token_sign(k, big, &err));
	json_decref(big);
	token_key_free(k);
}

static void test_key_file(void **state) {
	char dir[] = "/tmp/nacre-token-XXXXXX";
	struct token_key *a = NULL, *b = NULL;
	struct error err = {0};
	struct stat st;
	json_t *claims = json_object(), *out = NULL;
	(void)state;
	assert_non_null(test_mkdtemp(dir));
	_free_ char *path = strf("%s/key", dir);
	assert_int_equal(token_key_load(&a, path, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	_free_ char *pem = NULL;
	size_t len;
	assert_int_equal(read_file(path, 4096, &pem, &len, &err), 0);
	assert_true(starts_with(pem, "-----BEGIN EC PRIVATE KEY-----"));
	assert_int_equal(token_key_load(&b, path, &err), 0);
	_free_ char *t = token_sign(a, claims, &err);
	assert_int_equal(token_verify(b, t, &out, &err), 0);
	assert_int_equal(write_file_atomic(path, "junk", 4, 0600, &err), 0);
	token_key_free(a);
	a = NULL;
	assert_int_equal(token_key_load(&a, path, &err), -EINVAL);
	assert_non_null(strstr(err.msg, path));
	assert_null(a);
	token_key_free(b);
	json_decref(claims);
	json_decref(out);
	remove_tree(dir, NULL);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_key_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
