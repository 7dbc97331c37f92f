/* SPDX-License-Identifier: Apache-2.0 */

/* The looks at many guests' use of ports, by one worker. */

#include "node/testing.h"

#include "node/internal.h"

#define N 3

struct fixture {
	struct hypervisor h;
	struct guest guests[N];
	struct slices_look look;
};

/* Guests without a network namespace. */
static void fill(struct fixture *f) {
	*f = (struct fixture){.look = {.h = &f->h, .n = N}};
	RB_INIT(&f->h.all);
	for (size_t k = 0; k < N; k++) {
		struct guest *i = &f->guests[k];
		snprintf(i->uid, sizeof(i->uid), "0b5ac4a8-4b0e-4c35-9c3d-00000000000%zu", k);
		snprintf(i->name, sizeof(i->name), "no-such-namespace-%zu", k);
		memcpy(f->look.uid[k], i->uid, sizeof(i->uid));
		RB_INSERT(guests, &f->h.all, i);
	}
}

static void a_slow_look_ends_in_time(void **state) {
	(void)state;
	static struct fixture f;
	struct slices_seen seen = {0};
	fill(&f);
	slices_see(&f.look, UINT64_MAX, &seen);
	assert_int_equal(seen.n, N);
	assert_int_equal(seen.ok, 0);
	/* It always gets on. */
	seen = (struct slices_seen){0};
	slices_see(&f.look, now_monotonic_ns(), &seen);
	assert_int_equal(seen.n, 1);
}

/* A slice is given back only if nothing used it when the kernel had the rules that spare it. */
static void rules_come_before_the_look(void **state) {
	(void)state;
	static struct fixture f;
	struct slices_seen seen = {0};
	if (geteuid() != 0)
		skip();
	fill(&f);
	for (size_t k = 0; k < N; k++) {
		struct guest *i = &f.guests[k];
		snprintf(i->name, sizeof(i->name), "%s", public_name);
		i->spec.net.n_slices = 2;
		i->ports.open_slices = 1;
		i->network.open_slices = k > 0;
		i->state.current = k > 1;
	}
	slices_see(&f.look, UINT64_MAX, &seen);
	assert_int_equal(seen.ok, 7);
	assert_false(seen.look[0].drained);
	assert_false(seen.look[1].drained);
	assert_true(seen.look[2].drained);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slow_look_ends_in_time),
		cmocka_unit_test(rules_come_before_the_look),
	};
	return cmocka_run_group_tests_name("slices", tests, setup, teardown);
}
