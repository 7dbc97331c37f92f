/* SPDX-License-Identifier: Apache-2.0 */

/* Which packets that firewalls dropped the agent tells about. */

#include "node/testing.h"

#include "node/internal.h"

static void each_guest_has_a_turn(void **state) {
	(void)state;
	static const size_t many[16] = {20, 20, 0, 20, 1, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 2};
	struct watch_turn turns[24];
	size_t of[16] = {0};

	assert_int_equal(watch_turns(many, 16, turns, 24), 24);
	for (size_t i = 0; i < 24; i++) {
		assert_true(turns[i].list < 16 && turns[i].place == of[turns[i].list]);
		of[turns[i].list]++;
	}
	for (size_t k = 0; k < 16; k++)
		assert_in_range(of[k], many[k] > 0, MIN(many[k], (size_t)2));
	/* One that is alone has all rows. */
	assert_int_equal(watch_turns((const size_t[]){0, 20, 0}, 3, turns, 24), 20);
	assert_true(turns[19].list == 1 && turns[19].place == 19);
	assert_int_equal(watch_turns((const size_t[]){0, 0}, 2, turns, 24), 0);
}

/* With many guests a look at one comes later than ten seconds after the one before. */
static void nothing_is_missed_between_two_looks(void **state) {
	(void)state;
	const uint64_t now_ns = 1000 * NSEC_PER_SEC;

	assert_true(watch_is_news(29000, now_ns, now_ns - 30 * NSEC_PER_SEC));
	assert_false(watch_is_news(31000, now_ns, now_ns - 30 * NSEC_PER_SEC));
	assert_false(watch_is_news(5000, now_ns, now_ns - 4 * NSEC_PER_SEC));
	assert_true(watch_is_news(9000, now_ns, 0));
	assert_false(watch_is_news(11000, now_ns, 0));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_guest_has_a_turn),
		cmocka_unit_test(nothing_is_missed_between_two_looks),
	};
	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
