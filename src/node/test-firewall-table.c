/* SPDX-License-Identifier: Apache-2.0 */

/* The table of an instance's firewall in the kernel: when another replaces it, and what is left if that fails. */

#include "node/test-firewall.h"

static void other_rules_replace_the_table(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", "{\"protocol\":\"tcp\",\"port\":22}", "");
	const struct firewall *v[] = {f};
	const struct firewall_attached a = {.v = v, .n = 1}, unknown = {.v = v, .n = 0, .unknown = true},
				       denied = {.v = v, .n = 1, .deny_beyond = true};
	struct firewall_state s = {0};

	kernel_begin();
	/* Nobody knows yet: nothing may pass. */
	assert_true(ensure(&unknown, false, &s));
	assert_int_equal(set_size("current"), 1);
	assert_int_equal(set_size("in6p0"), -ENOENT);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(set_size("in6p0"), 1);
	assert_false(ensure(&unknown, true, &s));
	assert_false(ensure(&unknown, false, &s));
	assert_int_equal(set_size("in6p0"), 1);
	/* One more denies egress. */
	assert_true(ensure(&denied, true, &s));
	assert_false(ensure(&denied, true, &s));
	assert_true(ensure(&a, true, &s));
	uint32_t generation = s.generation;
	f->meta.generation = API_I64(2);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation + 1);
	/* Another process than the one that made the table: another generation. */
	s = (struct firewall_state){0};
	assert_true(ensure(&a, false, &s));
	assert_int_equal(s.generation, generation + 2);
	free_firewall(f);
	kernel_end();
}

/* The old table stays if the kernel refuses the new one. */
static void a_refused_table_changes_nothing(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", "{\"protocol\":\"tcp\",\"port\":22}", "");
	const struct firewall *v[] = {f};
	const struct firewall_attached a = {.v = v, .n = 1};
	struct firewall_state s = {0}, before;
	bool changed = false;
	uint32_t genid, now, current;

	kernel_begin();
	assert_true(ensure(&a, false, &s));
	OK(nftset_genid(nl, &genid, &error));
	before = s;
	/* A rule that the API would not have accepted. */
	f->spec->ingress.v[0].port = API_I64(10);
	f->spec->ingress.v[0].end_port = API_I64(5);
	f->meta.generation = API_I64(2);
	current = genid_if(true);
	assert_true(firewall_ensure(fd, nl, &nothing, &a, &current, &s, &changed, &error) < 0);
	assert_false(changed);
	OK(nftset_genid(nl, &now, &error));
	assert_int_equal(now, genid);
	assert_int_equal(set_size("in6p0"), 1);
	/* It is not tried again at once, unless something else is wanted. */
	assert_int_equal(s.failures, 1);
	uint64_t retry_ns = s.retry_ns;
	assert_int_equal(firewall_ensure(fd, nl, &nothing, &a, &current, &s, &changed, &error), -EAGAIN);
	current = 0;
	assert_int_equal(firewall_ensure(fd, nl, &nothing, &a, &current, &s, &changed, &error), -EAGAIN);
	assert_int_equal(s.retry_ns, retry_ns);
	s.retry_ns = now_monotonic_ns();
	current = genid_if(true);
	assert_true(firewall_ensure(fd, nl, &nothing, &a, &current, &s, &changed, &error) < 0);
	assert_int_equal(s.failures, 2);
	assert_true(s.retry_ns > retry_ns);
	s.failures = s.failed = 0;
	s.retry_ns = 0;
	assert_memory_equal(&s, &before, sizeof(s));
	f->spec->ingress.v[0].end_port = API_I64(10);
	f->meta.generation = API_I64(3);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.failures, 0);
	free_firewall(f);
	kernel_end();
}

/* The kernel takes whatever random rules become. */
static void random_rules_load(void **state) {
	(void)state;

	kernel_begin();
	srandom(7);
	for (int i = 0; i < 40; i++) {
		struct firewall *v[] = {random_firewall("a"), random_firewall("b")};
		const struct firewall_attached a = {.v = (const struct firewall *const *)v, .n = 2};
		struct firewall_state s = {0};
		struct firewall_seen seen;
		assert_true(ensure(&a, false, &s));
		OK(firewall_read(fd, &s, true, &seen, &error));
		assert_int_equal(seen.n_counts, 0);
		firewall_seen_done(&seen);
		free_firewall(v[0]);
		free_firewall(v[1]);
	}
	kernel_end();
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_rules_replace_the_table),
		cmocka_unit_test(a_refused_table_changes_nothing),
		cmocka_unit_test(random_rules_load),
	};
	return cmocka_run_group_tests_name("node-firewall-table", tests, setup, teardown);
}
