/* SPDX-License-Identifier: Apache-2.0 */

/* Who owns which ports: the calls that the table gets, and that they don't depend on the order of the changes. */

#include "base/testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "lb/assignments.h"

#define ADDRESS "198.51.100.3"

/* A table that knows for each port of ADDRESS the last byte of its owner's MAC; 0: nobody. */
struct table {
	struct assignments *assignments;
	uint8_t of[65536];
	size_t room; /* slices that fit */
	size_t slices, calls, conflicts;
	bool broken;     /* nothing can be cleared */
	uint8_t refuses; /* the last byte of a MAC that can't get anything */
};

static int table_set(const struct slice *s, const struct balancer_endpoint *to, struct error *err, void *userdata) {
	struct table *t = userdata;
	const bool new = !t->of[s->first];
	t->calls++;
	if ((new && t->slices >= t->room) || (t->refuses && t->refuses == to->mac.bytes[5]))
		return error_set(err, ENOSPC, "full");
	t->slices += new;
	memset(t->of + s->first, to->mac.bytes[5], slice_size(s));
	return 0;
}

static int table_clear(const struct slice *s, struct error *err, void *userdata) {
	struct table *t = userdata;
	t->calls++;
	if (t->broken)
		return error_set(err, EIO, "broken");
	t->slices -= t->of[s->first] != 0;
	memset(t->of + s->first, 0, slice_size(s));
	return 0;
}

static void table_conflict(_unused_ const struct slice *s, _unused_ const char *loser, _unused_ const char *winner,
                           void *userdata) {
	struct table *t = userdata;
	t->conflicts++;
}

static struct table *table_new(void) {
	struct table *t = calloc(1, sizeof(*t));
	struct error err;
	assert_non_null(t);
	const struct assignments_config c = {table_set, table_clear, table_conflict, t};
	t->room = SIZE_MAX;
	assert_int_equal(assignments_new(&t->assignments, &c, &err), 0);
	return t;
}

static void table_free(struct table *t) {
	assignments_free(t->assignments);
	free(t);
}

/* An Endpoint NAME, whose number is its last letter, with slices such as "1024-1535 2048-2559". */
static int put(struct table *t, const char *name, const char *created, const char *slices) {
	struct balancer_endpoint to = {.mac.bytes = {2, 0, 0, 0, 0, (uint8_t)name[strlen(name) - 1]}};
	struct slice s[16];
	struct error err = {0};
	size_t n = 0;
	unsigned first, last;
	assert_int_equal(addr_parse("fd00::1", &to.vtep, &err), 0);
	for (const char *p = slices; sscanf(p, "%u-%u", &first, &last) == 2;
	     p = strchr(p, ' ') ? strchr(p, ' ') + 1 : "") {
		s[n] = (struct slice){.first = (uint16_t)first, .last = (uint16_t)last};
		assert_int_equal(addr_parse(ADDRESS, &s[n++].addr, &err), 0);
	}
	return assignments_put(t->assignments, name, created, &to, s, n, &err);
}

static void apply(struct table *t) {
	struct error err = {0};
	assert_int_equal(assignments_apply(t->assignments, SIZE_MAX, &err), 0);
}

static size_t conflicts(const struct table *t) {
	struct assignments_stats s;
	assignments_stats(t->assignments, &s);
	return s.conflicts;
}

static void test_changes(void **state) {
	struct table *t = table_new();
	struct assignments_stats s;
	(void)state;
	assert_int_equal(put(t, "a", "2026-01-01T00:00:00Z", "1024-1535 2048-2559"), 0);
	assert_int_equal(t->calls, 0);
	apply(t);
	assert_int_equal(t->calls, 2);
	assert_true(t->of[1024] == 'a' && t->of[1535] == 'a' && t->of[2559] == 'a' && !t->of[1023] && !t->of[1536]);
	/* What is the same makes no calls. */
	assert_int_equal(put(t, "a", "2026-01-01T00:00:00Z", "1024-1535 2048-2559"), 0);
	apply(t);
	assert_int_equal(put(t, "a", "2026-01-01T00:00:00Z", "1024-1535"), 0);
	apply(t);
	assert_int_equal(t->calls, 3);
	assert_true(t->of[1024] == 'a' && !t->of[2048]);
	/* A slice that goes from one to the other is never nobody's. */
	assert_int_equal(put(t, "b", "2026-01-02T00:00:00Z", "1024-1535"), 0);
	assignments_remove(t->assignments, "a");
	apply(t);
	assert_int_equal(t->calls, 4);
	assert_int_equal(t->of[1100], 'b');
	assignments_remove(t->assignments, "b");
	assignments_remove(t->assignments, "b");
	apply(t);
	assignments_stats(t->assignments, &s);
	assert_true(!t->of[1100] && s.addresses == 0 && s.slices == 0 && s.endpoints == 0 && s.changes == 5);
	/* Slices that aren't aligned change nothing. */
	assert_int_equal(put(t, "c", "2026-01-01T00:00:00Z", "1024-1535"), 0);
	assert_int_equal(put(t, "c", "2026-01-01T00:00:00Z", "1024-1534"), -EINVAL);
	assert_int_equal(put(t, "c", "2026-01-01T00:00:00Z", "1100-1611"), -EINVAL);
	apply(t);
	assert_int_equal(t->of[1535], 'c');
	table_free(t);
}

static void test_conflicts(void **state) {
	struct table *t = table_new();
	(void)state;
	/* The older one has them, whichever came first; then the first by name. */
	assert_int_equal(put(t, "b", "2026-01-02T00:00:00Z", "1024-1535"), 0);
	apply(t);
	assert_int_equal(t->of[1024], 'b');
	assert_int_equal(put(t, "a", "2026-01-03T00:00:00Z", "1024-1535"), 0);
	apply(t);
	assert_true(t->of[1024] == 'b' && t->conflicts == 1 && conflicts(t) == 1);
	assert_int_equal(put(t, "c", "2026-01-01T00:00:00Z", "1024-1535"), 0);
	apply(t);
	assert_true(t->of[1024] == 'c' && t->conflicts == 2 && conflicts(t) == 2);
	assignments_remove(t->assignments, "c");
	apply(t);
	assert_true(t->of[1024] == 'b' && t->conflicts == 2 && conflicts(t) == 1);
	assert_int_equal(put(t, "a", "2026-01-02T00:00:00Z", "1024-1535"), 0);
	apply(t);
	assert_true(t->of[1024] == 'a' && conflicts(t) == 1);
	/* A slice of which some ports are an older one's is lost as a whole. */
	assert_int_equal(put(t, "d", "2026-01-05T00:00:00Z", "1024-2047"), 0);
	apply(t);
	assert_true(!t->of[1600] && conflicts(t) == 2);
	assignments_remove(t->assignments, "a");
	assignments_remove(t->assignments, "b");
	apply(t);
	assert_true(t->of[1024] == 'd' && t->of[2047] == 'd' && conflicts(t) == 0);
	table_free(t);
}

/* Any order of the same changes ends in the same table, and that is what the rule says port by port. */
static void test_order(void **state) {
	static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
	(void)state;
	srand(9);
	for (int round = 0; round < 300; round++) {
		struct table *t = table_new(), *again = table_new();
		char created[8][32], slices[8][128];
		for (int i = 0; i < 8; i++) {
			snprintf(created[i], sizeof(created[i]), "2026-01-0%dT00:00:00Z", 1 + rand() % 3);
			slices[i][0] = 0;
			for (int k = rand() % 4; k > 0; k--) {
				const int size = 64 << (rand() % 4), first = rand() % (2048 / size) * size;
				const size_t used = strlen(slices[i]);
				snprintf(slices[i] + used, sizeof(slices[i]) - used, "%s%d-%d", used ? " " : "", first,
				         first + size - 1);
			}
		}
		for (int i = 0; i < 8; i++)
			assert_int_equal(put(t, names[i], created[i], slices[i]), 0);
		apply(t);
		for (int n = 0; n < 40; n++) {
			const int i = rand() % 8;
			if (rand() % 2)
				assignments_remove(again->assignments, names[i]);
			else
				assert_int_equal(put(again, names[i], created[rand() % 8], slices[rand() % 8]), 0);
			if (rand() % 2)
				apply(again);
		}
		for (int i = 7; i >= 0; i--)
			assert_int_equal(put(again, names[i], created[i], slices[i]), 0);
		apply(again);
		assert_memory_equal(t->of, again->of, sizeof(t->of));
		assert_int_equal(conflicts(t), conflicts(again));
		table_free(t);
		table_free(again);
	}
}

static void test_failures(void **state) {
	struct table *t = table_new();
	struct assignments_stats s;
	struct error err = {0};
	(void)state;
	t->room = 1;
	assert_int_equal(put(t, "a", "2026-01-01T00:00:00Z", "1024-1535 2048-2559"), 0);
	assert_int_equal(assignments_apply(t->assignments, SIZE_MAX, &err), -ENOSPC);
	assignments_stats(t->assignments, &s);
	assert_true(s.slices == 1 && s.failed == 1 && t->of[1024] == 'a' && !t->of[2048]);
	/* Without a reason nothing is tried again. */
	apply(t);
	assert_int_equal(t->calls, 2);
	assignments_retry(t->assignments);
	assert_int_equal(assignments_apply(t->assignments, SIZE_MAX, &err), -ENOSPC);
	assert_int_equal(t->calls, 3);
	t->room = 2;
	assignments_retry(t->assignments);
	apply(t);
	assignments_stats(t->assignments, &s);
	assert_true(s.slices == 2 && s.failed == 0 && t->of[2048] == 'a');
	/* What can't be cleared isn't given to another one in part, and is cleared later. */
	t->broken = true;
	assignments_remove(t->assignments, "a");
	assert_int_equal(put(t, "b", "2026-01-01T00:00:00Z", "1024-2047"), 0);
	assert_int_equal(assignments_apply(t->assignments, SIZE_MAX, &err), -EIO);
	assert_true(t->of[1024] == 'a' && !t->of[1600]);
	t->broken = false;
	assignments_retry(t->assignments);
	apply(t);
	assert_true(t->of[1024] == 'b' && t->of[2047] == 'b' && !t->of[2048]);
	/* After the table was lost everything is set again. */
	memset(t->of, 0, sizeof(t->of));
	t->slices = 0;
	assignments_forget(t->assignments);
	apply(t);
	assignments_stats(t->assignments, &s);
	assert_true(t->of[1024] == 'b' && s.slices == 1);
	table_free(t);
}

/* Who has lost a slice doesn't keep it because the new owner can't be set. */
static void test_refused_owner(void **state) {
	struct table *t = table_new();
	struct assignments_stats s;
	struct error err = {0};
	(void)state;
	t->refuses = 'b';
	assert_int_equal(put(t, "a", "2026-01-01T00:00:00Z", "1024-1535"), 0);
	apply(t);
	assignments_remove(t->assignments, "a");
	assert_int_equal(put(t, "b", "2026-01-01T00:00:00Z", "1024-1535"), 0);
	assert_int_equal(assignments_apply(t->assignments, SIZE_MAX, &err), -ENOSPC);
	assert_string_equal(err.msg, "full");
	assignments_stats(t->assignments, &s);
	assert_true(!t->of[1024] && t->slices == 0 && s.slices == 0 && s.failed == 1);
	t->refuses = 0;
	assignments_retry(t->assignments);
	apply(t);
	assignments_stats(t->assignments, &s);
	assert_true(t->of[1535] == 'b' && s.slices == 1 && s.failed == 0 && s.changes == 3);
	/* As long as it can't be cleared it is known to be there. */
	t->refuses = 'c';
	t->broken = true;
	assignments_remove(t->assignments, "b");
	assert_int_equal(put(t, "c", "2026-01-01T00:00:00Z", "1024-1535"), 0);
	assert_int_equal(assignments_apply(t->assignments, SIZE_MAX, &err), -ENOSPC);
	assert_int_equal(t->of[1024], 'b');
	t->broken = false;
	assignments_retry(t->assignments);
	assert_int_equal(assignments_apply(t->assignments, SIZE_MAX, &err), -ENOSPC);
	assert_int_equal(t->of[1024], 0);
	table_free(t);
}

/* A turn changes no more addresses than it may, and all get their turn: those that fail, too. */
static void test_turns(void **state) {
	struct table *t = table_new();
	struct assignments_stats s;
	struct error err = {0};
	(void)state;
	t->room = 0;
	for (unsigned i = 0; i < 100; i++) {
		const struct balancer_endpoint to = {.mac.bytes = {2}};
		struct slice one = {
			.addr = {.family = AF_INET, .bytes = {198, 51, 100, (uint8_t)i}}, .first = 512, .last = 1023};
		char name[16];
		snprintf(name, sizeof(name), "e%u", i);
		assert_int_equal(assignments_put(t->assignments, name, "2026-01-01T00:00:00Z", &to, &one, 1, &err), 0);
	}
	for (unsigned round = 0; round < 2; round++) {
		t->calls = 0;
		for (size_t done = 30; done <= 120; done += 30) {
			assert_int_equal(assignments_apply(t->assignments, 30, &err), -ENOSPC);
			assignments_stats(t->assignments, &s);
			assert_true(t->calls == MIN(done, 100U) && s.failed == t->calls && s.waiting == 100 - t->calls);
		}
		assert_int_equal(assignments_apply(t->assignments, 30, &err), 0);
		assignments_retry(t->assignments);
		assignments_stats(t->assignments, &s);
		assert_true(s.waiting == 100 && s.failed == 0);
	}
	table_free(t);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),  cmocka_unit_test(test_conflicts),     cmocka_unit_test(test_order),
		cmocka_unit_test(test_failures), cmocka_unit_test(test_refused_owner), cmocka_unit_test(test_turns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
