/* SPDX-License-Identifier: Apache-2.0 */

/* The members of groups in the table of an instance's firewall: a change of them is a change of elements. */

#include "node/test-firewall.h"

/* A rule for the members of a team. */
#define OF_TEAM(team) "{\"protocol\":\"tcp\",\"port\":443,\"peers\":{\"matchLabels\":{\"team\":\"" team "\"}}}"

static void a_member_is_one_element(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", OF_TEAM("a"), "");
	const struct firewall *v[] = {f};
	struct firewall_state s = {0};

	kernel_begin();
	struct members m = members_of(f->spec->ingress.v[0].peers),
		       other = {m.groups, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"};
	const struct firewall_attached a = {.v = v, .n = 1, .groups = m.groups};
	member_add(&m, "2001:db8:1:1::/64");
	member_add(&m, "198.51.100.3/32");
	assert_true(ensure(&a, false, &s));
	assert_false(ensure(&a, true, &s));
	uint32_t generation = s.generation;
	/* More of the same classes are elements, and connections go on. */
	member_add(&m, "2001:db8:1:2::/64");
	member_add(&m, "198.51.100.4/32");
	member_add(&other, "2001:db8:1:3::/64");
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation);
	assert_int_equal(s.seq, 5);
	assert_int_equal(set_size("g0_6_64"), 2);
	assert_int_equal(set_size("g0_s_7"), 2);
	assert_int_equal(set_size("g0_i_7"), 2);
	/* Who has gone may have connections. */
	member_remove(&m, "198.51.100.4/32");
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation + 1);
	assert_int_equal(set_size("g0_s_7"), 1);
	assert_int_equal(set_size("current"), 1);
	assert_int_equal(set_size("generation"), 2);
	/* A class that is new is another table. */
	member_add(&m, "2001:db8:2::/60");
	assert_true(ensure(&a, true, &s));
	assert_int_equal(set_size("g0_6_60"), 1);
	assert_int_equal(s.generation, generation + 2);
	/* One more member lets a Firewall in that had too many. */
	s.crowded = 2;
	generation = s.generation;
	member_add(&m, "2001:db8:1:5::/64");
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation + 1);
	assert_int_equal(s.crowded, 0);
	member_remove(&m, "2001:db8:1:5::/64");
	assert_true(ensure(&a, true, &s));
	/* An element that isn't there as it should be. */
	_free_ char *flush = strf("flush set inet %s g0_6_64", table());
	OK(nft_apply(fd, flush, &error));
	member_remove(&m, "2001:db8:1:2::/64");
	assert_true(ensure(&a, true, &s));
	assert_int_equal(set_size("g0_6_64"), 1);
	/* However much other groups change, nothing happens here. */
	generation = s.generation;
	for (int i = 0; i < GROUPS_RING; i++) {
		member_add(&other, "2001:db8:1:9::/64");
		member_remove(&other, "2001:db8:1:9::/64");
	}
	assert_false(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation);
	/* More changes than are remembered. */
	for (int i = 0; i < GROUPS_RING; i++) {
		member_add(&m, "2001:db8:1:9::/64");
		member_remove(&m, "2001:db8:1:9::/64");
	}
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.seq, groups_seq(m.groups));
	groups_free(m.groups);
	free_firewall(f);
	kernel_end();
}

/* What firewall_members() collects, sent by somebody else, is what firewall_ensure() would have done. */
static void members_are_collected(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", OF_TEAM("a"), ""),
			*second = firewall_with("b", "{\"protocol\":\"tcp\"}", "");
	const struct firewall *v[] = {f, second};
	struct firewall_state s = {0}, then;
	struct nftset_batch b = {0};

	kernel_begin();
	struct members m = members_of(f->spec->ingress.v[0].peers),
		       other = {m.groups, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"};
	const struct firewall_attached a = {.v = v, .n = 1, .groups = m.groups},
				       more = {.v = v, .n = 2, .groups = m.groups},
				       unknown = {.v = v, .n = 1, .groups = m.groups, .unknown = true};
	member_add(&m, "2001:db8:1:1::/64");
	assert_int_equal(firewall_members(&nothing, &a, &s, &b, &then, &error), 1);
	assert_true(ensure(&a, false, &s));
	member_add(&m, "2001:db8:1:2::/64");
	member_remove(&m, "2001:db8:1:1::/64");
	/* Other rules, or rules that may not be all, take more than that. */
	assert_int_equal(firewall_members(&nothing, &more, &s, &b, &then, &error), 1);
	assert_int_equal(firewall_members(&nothing, &unknown, &s, &b, &then, &error), 1);
	assert_int_equal(b.n, 0);
	assert_int_equal(firewall_members(&nothing, &a, &s, &b, &then, &error), 0);
	assert_true(b.n > 0);
	OK(nftset_commit(nl, &b, &error));
	nftset_batch_done(&b);
	assert_int_equal(set_size("g0_6_64"), 1);
	assert_int_equal(then.generation, s.generation + 1);
	assert_false(ensure(&a, true, &then));
	/* What happens in another group is no change here. */
	member_add(&other, "2001:db8:1:3::/64");
	b = (struct nftset_batch){0};
	assert_int_equal(firewall_members(&nothing, &a, &then, &b, &s, &error), 0);
	assert_int_equal(b.n, 0);
	assert_int_equal(s.seq, groups_seq(m.groups));
	nftset_batch_done(&b);
	groups_free(m.groups);
	free_firewall(f);
	free_firewall(second);
	kernel_end();
}

/* Somebody wrote a Firewall that is not understood: the rules stay, and members come and go. */
static void members_of_a_table_that_stays(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", OF_TEAM("a"), ""),
			*other = firewall_with("b", "{\"protocol\":\"tcp\"}", "");
	struct firewall *more = firewall_with("c", OF_TEAM("b"), "");
	const struct firewall *v[] = {f, other}, *w[] = {f, more};
	struct firewall_state s = {0};

	kernel_begin();
	struct members m = members_of(f->spec->ingress.v[0].peers);
	const struct firewall_attached a = {.v = v, .n = 1, .groups = m.groups},
				       unknown = {.v = v, .n = 1, .groups = m.groups, .unknown = true},
				       changed = {.v = v, .n = 2, .groups = m.groups, .unknown = true},
				       regrouped = {.v = w, .n = 2, .groups = m.groups, .unknown = true};
	member_add(&m, "2001:db8:1:1::/64");
	member_add(&m, "2001:db8:1:2::/64");
	member_add(&m, "2001:db8:1:3::/64");
	assert_true(ensure(&a, false, &s));
	member_remove(&m, "2001:db8:1:1::/64");
	uint32_t generation = s.generation;
	assert_true(ensure(&unknown, true, &s));
	assert_int_equal(set_size("g0_6_64"), 2);
	assert_int_equal(s.generation, generation + 1);
	/* A class that is new makes another table of the same rules. */
	member_add(&m, "2001:db8:2::/60");
	assert_true(ensure(&unknown, true, &s));
	assert_int_equal(set_size("g0_6_60"), 1);
	assert_int_equal(set_size("out6p0"), -ENOENT);
	/* The others have changed meanwhile. */
	member_remove(&m, "2001:db8:1:2::/64");
	assert_true(ensure(&changed, true, &s));
	assert_int_equal(set_size("g0_6_64"), 1);
	assert_int_equal(set_size("in6p0"), -ENOENT);
	/* Their groups have other numbers, or another process made the table. */
	member_remove(&m, "2001:db8:1:3::/64");
	assert_false(ensure(&regrouped, true, &s));
	assert_false(ensure(&unknown, false, &s));
	assert_int_equal(set_size("g0_6_64"), 1);
	/* Now it is understood. */
	assert_true(ensure(&a, true, &s));
	assert_true(set_size("g0_6_64") <= 0);
	groups_free(m.groups);
	free_firewall(f);
	free_firewall(other);
	free_firewall(more);
	kernel_end();
}

/* 10,000 rules, 100,000 members. Times are printed; that nothing is lost is asserted. */
static void the_largest_table(void **state) {
	(void)state;
	struct firewall *large = ten_thousand(), *f = firewall_with("peers", "", OF_TEAM("a"));
	const struct firewall *v[] = {large, f};
	struct firewall_state s = {0};
	struct firewall_seen seen;

	kernel_begin();
	struct members m = members_of(f->spec->egress.v[0].peers);
	members_fill(&m, 100000);
	const struct firewall_attached a = {.v = v, .n = 2, .groups = m.groups};
	uint64_t t[5] = {now_monotonic_ns()};
	assert_true(ensure(&a, false, &s));
	t[1] = now_monotonic_ns();
	assert_int_equal(s.limited | s.deep, 0);
	member_add(&m, "fd00:1:2:3::/64");
	assert_true(ensure(&a, true, &s));
	t[2] = now_monotonic_ns();
	member_remove(&m, "fd00:1:2:3::/64");
	assert_true(ensure(&a, true, &s));
	t[3] = now_monotonic_ns();
	OK(firewall_read(fd, &s, true, &seen, &error));
	t[4] = now_monotonic_ns();
	firewall_seen_done(&seen);
	print_message("load %llu ms, one member more %llu us, one less %llu us, counters read %llu ms\n",
	              (unsigned long long)((t[1] - t[0]) / NSEC_PER_MSEC), (unsigned long long)((t[2] - t[1]) / 1000),
	              (unsigned long long)((t[3] - t[2]) / 1000), (unsigned long long)((t[4] - t[3]) / NSEC_PER_MSEC));
	assert_int_equal(set_size("g0_6_64"), 100000);
	assert_int_equal(set_size("in6h48"), 10000);
	assert_int_equal(set_size("in4h24"), 10000);
	groups_free(m.groups);
	free_firewall(large);
	free_firewall(f);
	kernel_end();
}

/* The caller loads large tables elsewhere: what comes and goes does so, and nothing is loaded. */
static void large_tables_are_postponed(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", OF_TEAM("a"), "");
	const struct firewall *v[] = {f};
	struct firewall_size size = {0};
	const struct firewall_size *sizes[] = {&size};
	struct firewall_state s = {0};
	bool postponed = false, changed = false;

	kernel_begin();
	struct members m = members_of(f->spec->ingress.v[0].peers);
	OK(firewall_measure(f, &size));
	const struct firewall_attached here = {.v = v, .sizes = sizes, .n = 1, .groups = m.groups},
				       elsewhere = {.v = v,
	                                            .sizes = sizes,
	                                            .n = 1,
	                                            .groups = m.groups,
	                                            .ret_postponed = &postponed};
	member_add(&m, "2001:db8::/64");
	assert_true(ensure(&elsewhere, false, &s));
	members_fill(&m, FIREWALL_MUCH);
	/* Members are elements. */
	assert_true(ensure(&elsewhere, true, &s));
	assert_int_equal(set_size("g0_6_64"), FIREWALL_MUCH + 1);
	assert_false(postponed);
	/* A class that is new, other rules, and a namespace that another process has changed take another table. */
	uint32_t generation = s.generation, genid = genid_if(true);
	member_add(&m, "2001:db8:ffff::/60");
	assert_int_equal(firewall_ensure(fd, nl, &nothing, &elsewhere, &genid, &s, &changed, &error), -EAGAIN);
	assert_true(postponed);
	assert_false(changed);
	assert_true(ensure(&here, true, &s));
	assert_int_equal(s.generation, generation + 1);
	postponed = false;
	s.hash++;
	member_remove(&m, "2001:db8::/64");
	genid = genid_if(true);
	assert_int_equal(firewall_ensure(fd, nl, &nothing, &elsewhere, &genid, &s, &changed, &error), -EAGAIN);
	assert_true(postponed);
	assert_int_equal(set_size("g0_6_64"), FIREWALL_MUCH);
	assert_int_equal(genid, genid_if(true));
	assert_true(ensure(&here, true, &s));
	postponed = false;
	genid = 0;
	assert_int_equal(firewall_ensure(fd, nl, &nothing, &elsewhere, &genid, &s, &changed, &error), -EAGAIN);
	assert_true(postponed);
	assert_true(ensure(&here, true, &s));
	groups_free(m.groups);
	firewall_size_clear(&size);
	free_firewall(f);
	kernel_end();
}

/* The table of a Firewall with one member is in the kernel; a second member has come since. */
struct followed {
	struct firewall *f;
	const struct firewall *v[1];
	struct members m;
	struct firewall_attached a;
	struct firewall_state s;
};

static void followed_begin(struct followed *w) {
	*w = (struct followed){.f = firewall_with("a", OF_TEAM("a"), "")};
	w->v[0] = w->f;
	kernel_begin();
	w->m = members_of(w->f->spec->ingress.v[0].peers);
	w->a = (struct firewall_attached){.v = w->v, .n = 1, .groups = w->m.groups};
	member_add(&w->m, "2001:db8:1:1::/64");
	assert_true(ensure(&w->a, false, &w->s));
	member_add(&w->m, "2001:db8:1:2::/64");
}

static void followed_end(struct followed *w) {
	groups_free(w->m.groups);
	free_firewall(w->f);
	kernel_end();
}

/* Another process changes nftables between the check and the change. */
static void somebody_else_was_faster(void **state) {
	(void)state;
	struct followed w;
	struct firewall_state then;
	bool changed = false;

	followed_begin(&w);
	uint32_t genid = genid_if(true);
	struct nftset_batch b = {.genid = genid};
	assert_int_equal(firewall_members(&nothing, &w.a, &w.s, &b, &then, &error), 0);
	OK(nft_apply(fd, "add table inet other", &error));
	assert_int_equal(nftset_commit(nl, &b, &error), -ESTALE);
	assert_int_equal(set_size("g0_6_64"), 1);
	/* The table is made anew. */
	uint32_t generation = w.s.generation;
	OK(firewall_ensure(fd, nl, &nothing, &w.a, &genid, &w.s, &changed, &error));
	assert_true(changed);
	assert_int_equal(w.s.generation, generation + 1);
	assert_int_equal(set_size("g0_6_64"), 2);
	nftset_batch_done(&b);
	followed_end(&w);
}

/* Changes for which there is no memory, or no room, are not taken for none. */
static void no_change_is_lost(void **state) {
	(void)state;
	struct followed w;
	struct firewall_state then;

	followed_begin(&w);
	/* Too little for the first message, as if memory had failed then. */
	struct nftset_batch b = {.messages.max = 100};
	assert_int_equal(firewall_members(&nothing, &w.a, &w.s, &b, &then, &error), -ENOMEM);
	members_fill(&w.m, 100);
	b = (struct nftset_batch){.messages.max = 4096};
	assert_int_equal(firewall_members(&nothing, &w.a, &w.s, &b, &then, &error), 1);
	followed_end(&w);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_member_is_one_element),
		cmocka_unit_test(members_are_collected),
		cmocka_unit_test(members_of_a_table_that_stays),
		cmocka_unit_test(the_largest_table),
		cmocka_unit_test(large_tables_are_postponed),
		cmocka_unit_test(somebody_else_was_faster),
		cmocka_unit_test(no_change_is_lost),
	};
	return cmocka_run_group_tests_name("node-firewall-members", tests, setup, teardown);
}
