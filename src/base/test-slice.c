/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include "base/slice.h"
#include "base/util.h"

static struct error error;

static struct slice slice(const char *s) {
	struct slice r;
	OK(slice_parse(s, &r, &error));
	return r;
}

static void test_text(void **state) {
	static const char *const good[] = {"198.51.100.3:1024-1535", "0.0.0.0:0-0", "255.255.255.255:65535-65535",
	                                   "198.51.100.3:0-65535", "198.51.100.3:1000-1001"};
	static const char *const bad[] = {"",
	                                  "198.51.100.3",
	                                  "198.51.100.3:1024",
	                                  "198.51.100.3:1024-",
	                                  "198.51.100.3:-1535",
	                                  "198.51.100.3:1535-1024",
	                                  "198.51.100.3:1024-65536",
	                                  "198.51.100.3:01024-1535",
	                                  "198.51.100.3:1024-+1535",
	                                  "198.51.100.3: 1024-1535",
	                                  "198.51.100.3:1024-1535 ",
	                                  "198.51.100.03:1024-1535",
	                                  "2001:db8::1:1024-1535",
	                                  "::1:1-2",
	                                  "a:1-2",
	                                  "255.255.255.255:65535-655355",
	                                  "198.51.100.3:1024-1535-1"};
	char text[SLICE_STR_MAX];
	struct slice s, before = slice("192.0.2.1:1-2");
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		s = slice(good[i]);
		assert_string_equal(slice_str(&s, text), good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		s = before;
		assert_int_equal(slice_parse(bad[i], &s, &error), -EINVAL);
		assert_int_equal(slice_cmp(&s, &before), 0);
	}
}

static void test_arithmetic(void **state) {
	struct slice s = slice("198.51.100.3:1024-1535"), all = slice("198.51.100.3:0-65535");
	struct addr other = slice("198.51.100.4:1-2").addr;
	assert_int_equal(slice_size(&s), 512);
	assert_int_equal(slice_size(&all), 65536);
	assert_true(slice_is_aligned(&s));
	assert_true(slice_is_aligned(&all));
	assert_true(slice_is_aligned(&(struct slice){.addr = s.addr, .first = 7, .last = 7}));
	assert_false(slice_is_aligned(&(struct slice){.addr = s.addr, .first = 1024, .last = 1534}));
	assert_false(slice_is_aligned(&(struct slice){.addr = s.addr, .first = 1280, .last = 1791}));
	assert_false(slice_is_aligned(&(struct slice){.addr = s.addr, .first = 2, .last = 1}));
	assert_true(slice_contains(&s, &s.addr, 1024) && slice_contains(&s, &s.addr, 1535));
	assert_false(slice_contains(&s, &s.addr, 1023) || slice_contains(&s, &s.addr, 1536));
	assert_false(slice_contains(&s, &other, 1024));
	struct slice next = slice("198.51.100.3:1536-2047"), edge = slice("198.51.100.3:1535-1536");
	assert_false(slice_overlaps(&s, &next));
	assert_true(slice_overlaps(&s, &edge) && slice_overlaps(&edge, &next) && slice_overlaps(&all, &s));
	next.addr = other;
	assert_false(slice_overlaps(&next, &edge));
	struct slice of = slice_of(&s.addr, 1300, 512);
	assert_int_equal(slice_cmp(&of, &s), 0);
	of = slice_of(&s.addr, 1300, 65536);
	assert_int_equal(slice_cmp(&of, &all), 0);
	of = slice_of(&s.addr, 1300, 1);
	assert_true(of.first == 1300 && of.last == 1300);
	assert_true(slice_cmp(&all, &s) < 0 && slice_cmp(&s, &next) < 0 && slice_cmp(&next, &s) > 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_arithmetic)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
