/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include "fabric/internal.h"

static unsigned said;
static const char *last;

static void on_state(const char *what, const struct error *err, void *userdata) {
	(void)userdata;
	(void)err;
	said++;
	last = what;
}

/* With errors in all subjects at once, each error is reported once and not repeated because of the others. */
static void test_say(void **state) {
	struct fabric f = {.c.state = on_state};
	struct error err;
	(void)state;
	for (int round = 0; round < 3; round++)
		for (enum subject s = 0; s < N_SUBJECTS; s++) {
			error_set(&err, EIO, "trouble %d", (int)s);
			fabric_say(&f, s, &err);
			assert_non_null(last);
		}
	assert_int_equal(said, N_SUBJECTS);
	error_set(&err, EIO, "another trouble");
	fabric_say(&f, SUBJECT_HOST, &err);
	assert_int_equal(said, N_SUBJECTS + 1);
	assert_string_equal(last, "host");
	for (int round = 0; round < 3; round++)
		for (enum subject s = 0; s < N_SUBJECTS; s++)
			fabric_say(&f, s, NULL);
	assert_int_equal(said, 2 * N_SUBJECTS + 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_say)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
