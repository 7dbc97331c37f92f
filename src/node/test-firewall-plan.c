/* SPDX-License-Identifier: Apache-2.0 */

/* The compiler of an instance's firewall against a naive interpreter of its rules. */

#include "node/test-firewall.h"

#define FIREWALLS 3

static struct firewall_plan plan_of(const struct instnet_spec *spec, const struct firewall *const *v, size_t n) {
	const struct firewall_attached a = {.v = v, .n = n};
	struct firewall_plan p;

	OK(firewall_plan(spec, &a, &p, &error));
	return p;
}

static void free_firewalls(struct firewall **v, size_t n) {
	for (size_t i = 0; i < n; i++)
		free_firewall(v[i]);
}

/* A Firewall that lets the members of the team in, whose group has the id *RET. */
static struct firewall *firewall_for(const char *team, char ret[static FIREWALL_GROUP_ID_MAX]) {
	_free_ char *json = strf("{\"peers\":{\"matchLabels\":{\"team\":\"%s\"}}}", team);
	struct firewall *f = firewall_with(team, json, "");

	OK(firewall_group_id(NS, f->spec->ingress.v[0].peers, ret));
	return f;
}

/* ---- the naive interpreter ---- */

static const uint8_t numbers[] = {FIREWALL_ANY, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6};
static const char *const sources[] = {"2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:2::1", "2001:db8:3::1",
                                      "fd00::1",         "10.1.2.3",        "10.1.2.4",      "10.1.3.1",
                                      "10.2.0.1",        "192.0.2.1"};

/* The first packet of a connection, from or to an address outside. */
struct packet {
	struct addr addr;
	uint8_t protocol;
	int64_t port; /* or type of ICMP */
	bool member[ARRAY_SIZE(teams)];
};

static bool rule_is_for_address(const struct firewall_rule *r, const struct packet *k) {
	if (!r->prefixes.n && !r->peers)
		return true;
	for (size_t i = 0; i < r->prefixes.n; i++) {
		const struct prefix p = pfx(r->prefixes.v[i]);
		if (prefix_contains_addr(&p, &k->addr))
			return true;
	}
	for (size_t i = 0; r->peers && i < ARRAY_SIZE(teams); i++)
		if (k->member[i] && streq(r->peers->match_labels.v[0].value, teams[i]))
			return true;
	return false;
}

static bool rule_allows(const struct firewall_rule *r, const struct packet *k) {
	uint8_t protocol = FIREWALL_ANY;

	for (size_t i = 0; r->protocol && i < ARRAY_SIZE(words); i++)
		if (streq(words[i], r->protocol))
			protocol = numbers[i];
	if (protocol != FIREWALL_ANY && protocol != k->protocol)
		return false;
	if (r->port.set && (k->port < r->port.v || k->port > (r->end_port.set ? r->end_port.v : r->port.v)))
		return false;
	if (r->icmp_type.set && k->port != r->icmp_type.v)
		return false;
	return rule_is_for_address(r, k);
}

static bool firewall_allows(const struct firewall *f, bool out, const struct packet *k) {
	typeof(f->spec->ingress.v) v = out ? f->spec->egress.v : f->spec->ingress.v;
	size_t n = out ? f->spec->egress.n : f->spec->ingress.n;

	for (size_t i = 0; i < n; i++)
		if (rule_allows(&v[i], k))
			return true;
	return false;
}

static bool own_allows(const struct instnet_spec *s, const struct packet *k) {
	for (size_t i = 0; i < s->n_ingress; i++) {
		const struct instnet_ingress *in = &s->ingress[i];
		bool address = !in->from.addr.family || prefix_contains_addr(&in->from, &k->addr);
		if (in->proto == INSTNET_ICMP ? (k->protocol == IPPROTO_ICMP && k->port == 8) ||
		                                        (k->protocol == IPPROTO_ICMPV6 && k->port == 128)
		                              : k->protocol == (in->proto == INSTNET_UDP ? IPPROTO_UDP : IPPROTO_TCP) &&
		                                        k->port == in->port)
			if (address)
				return true;
	}
	return false;
}

/* ---- the maps ---- */

static bool element_matches(const struct firewall_plan *p, const struct firewall_element *e, const struct packet *k) {
	char id[FIREWALL_GROUP_ID_MAX];

	if (e->protocol != FIREWALL_ANY && (e->protocol != k->protocol || k->port < e->first || k->port > e->last))
		return false;
	if (e->target < FIREWALL_GROUP0)
		return prefix_contains_addr(&e->prefix, &k->addr);
	for (size_t i = 0; i < ARRAY_SIZE(teams); i++) {
		free_firewall(firewall_for(teams[i], id));
		if (k->member[i] && streq(p->groups[e->target - FIREWALL_GROUP0], id))
			return true;
	}
	return false;
}

static bool plan_allows(const struct firewall_plan *p, bool out, const struct packet *k) {
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].out == out && element_matches(p, &p->v[i], k))
			return true;
	return false;
}

/* The kernel takes only elements of one map that have nothing in common. */
static void assert_disjoint(const struct firewall_plan *p) {
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = i + 1; k < p->n; k++) {
			const struct firewall_element *a = &p->v[i], *b = &p->v[k];
			if (a->out != b->out || a->target != b->target || a->protocol != b->protocol ||
			    a->layer != b->layer)
				continue;
			assert_false(prefix_overlaps(&a->prefix, &b->prefix) && a->first <= b->last &&
			             b->first <= a->last);
		}
}

static struct packet random_packet(void) {
	struct packet k = {.addr = addr(sources[below(ARRAY_SIZE(sources))])};
	bool four = k.addr.family == AF_INET;
	const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, four ? IPPROTO_ICMP : IPPROTO_ICMPV6, 47};

	k.protocol = protocols[below(ARRAY_SIZE(protocols))];
	k.port = k.protocol == IPPROTO_ICMP     ? (below(2) ? 8 : 13)
	         : k.protocol == IPPROTO_ICMPV6 ? (below(2) ? 128 : 139)
	                                        : 1 + below(18);
	for (size_t i = 0; i < ARRAY_SIZE(teams); i++)
		k.member[i] = below(4) == 0;
	return k;
}

static void random_own(struct instnet_spec *s) {
	for (unsigned n = below(4); n; n--) {
		struct instnet_ingress *in = &s->ingress[s->n_ingress++];
		in->proto = (enum instnet_proto)below(3);
		in->port = 1 + below(12);
		if (below(2))
			in->from = pfx(places[below(5)]);
	}
}

static void check_packets(const struct firewall_plan *p, const struct instnet_spec *own, struct firewall *const *v,
                          size_t n) {
	bool deny = false;

	for (size_t i = 0; i < n; i++)
		deny |= firewall_denies_egress(v[i]);
	assert_int_equal(p->deny_out, deny);
	for (int i = 0; i < 100; i++) {
		const struct packet k = random_packet();
		bool in = own_allows(own, &k), out = false;
		for (size_t f = 0; f < n; f++)
			if (!(p->deep & UINT32_C(1) << f)) {
				in |= firewall_allows(v[f], false, &k);
				out |= firewall_allows(v[f], true, &k);
			}
		assert_int_equal(plan_allows(p, false, &k), in);
		if (deny)
			assert_int_equal(plan_allows(p, true, &k), out);
	}
}

static void maps_allow_what_the_rules_say(void **state) {
	(void)state;
	unsigned applied = 0;

	srandom(20261201);
	for (int round = 0; round < 300; round++) {
		struct instnet_spec own = nothing;
		struct firewall *v[FIREWALLS];
		size_t n = below(FIREWALLS + 1);
		random_own(&own);
		for (size_t i = 0; i < n; i++)
			v[i] = random_firewall((const char *[]){"a", "b", "c"}[i]);
		struct firewall_plan p = plan_of(&own, (const struct firewall *const *)v, n);
		assert_int_equal(p.limited, 0);
		applied += p.deep == 0;
		assert_disjoint(&p);
		check_packets(&p, &own, v, n);
		firewall_plan_done(&p);
		free_firewalls(v, n);
	}
	assert_true(applied > 290);
}

/* ---- overlaps ---- */

static void an_element_within_another_is_left_out(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a",
	                                   "{\"protocol\":\"tcp\",\"port\":22,\"prefixes\":[\"2001:db8:1::/48\"]},"
	                                   "{\"protocol\":\"tcp\",\"port\":20,\"endPort\":25,\"prefixes\":"
	                                   "[\"2001:db8::/32\"]},"
	                                   "{\"protocol\":\"tcp\",\"port\":20,\"endPort\":25,\"prefixes\":"
	                                   "[\"2001:db8::/32\"]},"
	                                   "{\"protocol\":\"tcp\",\"port\":24,\"endPort\":30,\"prefixes\":"
	                                   "[\"2001:db8:1::/48\"]}",
	                                   "");
	struct firewall_plan p = plan_of(&nothing, (const struct firewall *const[]){f}, 1);

	assert_int_equal(p.n, 2);
	assert_int_equal(p.v[0].rule, 1);
	assert_int_equal(p.v[0].layer, 0);
	assert_int_equal(p.v[1].rule, 3);
	assert_int_equal(p.v[1].layer, 1);
	firewall_plan_done(&p);
	free_firewall(f);
}

/* N rules of ports, of which each overlaps the next ones in part. */
static struct firewall *stairs(const char *name, unsigned n, unsigned width) {
	_buf_free_ struct buf b = {0};

	for (unsigned i = 0; i < n; i++)
		buf_printf(&b, "%s{\"protocol\":\"tcp\",\"port\":%u,\"endPort\":%u}", i ? "," : "", 1 + i,
		           1 + i + width);
	return firewall_with(name, b.data, "");
}

static void too_many_layers(void **state) {
	(void)state;
	struct firewall *v[] = {stairs("a", 8, 20), stairs("b", 1000, 2000),
	                        firewall_with("c", "{\"protocol\":\"udp\"}", "{\"protocol\":\"udp\"}")};
	struct firewall_plan p = plan_of(&nothing, (const struct firewall *const *)v, 3);
	const struct packet k = {.addr = addr("10.1.2.3"), .protocol = IPPROTO_TCP, .port = 1500};

	assert_int_equal(p.deep, 2);
	assert_int_equal(p.limited, 0);
	assert_true(p.deny_out);
	/* Both families of the first one's rules and of the last one's two. */
	assert_int_equal(p.n, 2 * 8 + 2 * 2);
	assert_false(plan_allows(&p, false, &k));
	firewall_plan_done(&p);
	free_firewalls(v, ARRAY_SIZE(v));
}

static void beyond_a_limit(void **state) {
	(void)state;
	struct firewall *v[FIREWALL_ATTACHED_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		char name[8];
		snprintf(name, sizeof(name), "f%02zu", i);
		v[i] = i == 1 ? stairs(name, 10000, 0) : firewall_with(name, "{\"protocol\":\"tcp\",\"port\":22}", "");
	}
	struct firewall_plan p = plan_of(&nothing, (const struct firewall *const *)v, ARRAY_SIZE(v));
	/* Two families: 20,000 elements and those of the first one are too many. */
	assert_int_equal(p.limited, 2);
	assert_int_equal(p.n, 2);
	firewall_plan_done(&p);
	free_firewalls(v, ARRAY_SIZE(v));
}

/* ---- maps of hashes ---- */

/* N rules of one port each for both families, one of two ports, and one of a prefix of another length. */
static void expect_hashed(unsigned n, bool hashed) {
	_buf_free_ struct buf b = {0};
	size_t found = 0;

	for (unsigned i = 0; i < n; i++)
		buf_printf(&b, "{\"protocol\":\"%s\",\"port\":%u,\"prefixes\":[\"2001:db8::/32\",\"10.0.0.0/8\"]},",
		           i % 2 ? "tcp" : "udp", 1 + i);
	buf_puts(&b, "{\"protocol\":\"tcp\",\"port\":60000,\"endPort\":60001,\"prefixes\":[\"10.0.0.0/8\"]},"
	             "{\"protocol\":\"tcp\",\"port\":60000,\"prefixes\":[\"192.0.2.0/24\"]}");
	struct firewall *f = firewall_with("a", b.data, "");
	struct firewall_plan p = plan_of(&nothing, (const struct firewall *const[]){f}, 1);
	assert_int_equal(p.n, 2 * n + 2);
	for (size_t i = 0; i < p.n; i++) {
		found += p.v[i].hashed;
		assert_false(p.v[i].hashed && p.v[i].first == 60000);
	}
	assert_int_equal(found, hashed ? 2 * n : 0);
	firewall_plan_done(&p);
	free_firewall(f);
}

static void many_elements_of_one_port_are_hashed(void **state) {
	(void)state;
	expect_hashed(FIREWALL_HASHED_MIN - 1, false);
	expect_hashed(FIREWALL_HASHED_MIN, true);
}

/* ---- hostile and large ---- */

/* 10,000 rules with ports of their own, at a hundred prefixes each within the one before. */
static struct firewall *nested(void) {
	_buf_free_ struct buf b = {0};
	struct addr all = addr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");
	char text[PREFIX_STR_MAX];

	for (unsigned i = 0; i < 10000; i++) {
		const struct prefix p = prefix_of(&all, (uint8_t)(28 + i % 100));
		buf_printf(&b, "%s{\"protocol\":\"tcp\",\"port\":%u,\"endPort\":%u,\"prefixes\":[\"%s\"]}",
		           i ? "," : "", 1 + 3 * i, 2 + 3 * i + i % 5, prefix_str(&p, text));
	}
	return firewall_with("nested", b.data, "");
}

/* All members together are what the kernel must hold. */
static void too_many_members(void **state) {
	(void)state;
	struct firewall *v[3];
	struct members m[3];
	struct firewall_plan p;
	struct groups *g;

	OK(groups_new(&g, &error));
	for (int i = 0; i < 3; i++) {
		m[i].groups = g;
		v[i] = firewall_for(teams[i], m[i].id);
		members_fill(&m[i], i < 2 ? FIREWALL_ADDRESSES_MAX / 2 : 1);
	}
	const struct firewall_attached a = {.v = (const struct firewall *const *)v, .n = 3, .groups = g};
	OK(firewall_plan(&nothing, &a, &p, &error));
	assert_int_equal(p.crowded, 4);
	assert_int_equal(p.limited, 0);
	assert_int_equal(p.n_groups, 2);
	firewall_plan_done(&p);
	member_remove(&m[0], "2001:db8:1:5::/64");
	OK(firewall_plan(&nothing, &a, &p, &error));
	assert_int_equal(p.crowded, 0);
	assert_int_equal(p.n_groups, 3);
	firewall_plan_done(&p);
	groups_free(g);
	free_firewalls(v, 3);
}

/* A Firewall that is one too many for the instance allows nothing there, but its defaultEgress holds. */
static void a_firewall_beyond_the_limit_denies(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", "{\"protocol\":\"tcp\",\"port\":22}", "");
	const struct firewall *v[] = {f};
	const struct firewall_attached open = {.v = v, .n = 1}, closed = {.v = v, .n = 1, .deny_beyond = true};
	struct firewall_plan p;

	OK(firewall_plan(&nothing, &open, &p, &error));
	assert_false(p.deny_out);
	firewall_plan_done(&p);
	OK(firewall_plan(&nothing, &closed, &p, &error));
	assert_true(p.deny_out);
	firewall_plan_done(&p);
	free_firewall(f);
}

static uint64_t plan_ms(const struct firewall *f, size_t *ret_n, uint32_t *ret_deep) {
	uint64_t began = now_thread_cpu_ns();
	struct firewall_plan p = plan_of(&nothing, &f, 1);
	uint64_t took = (now_thread_cpu_ns() - began) / NSEC_PER_MSEC;

	*ret_n = p.n;
	*ret_deep = p.deep;
	firewall_plan_done(&p);
	return took;
}

/* The limit is ten times what was measured. */
static void plans_of_ten_thousand_rules(void **state) {
	(void)state;
	struct firewall *v[] = {ten_thousand(), nested(), stairs("stairs", 1000, 40000)};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		size_t n;
		uint32_t deep;
		uint64_t ms = plan_ms(v[i], &n, &deep);
		print_message("%s: %zu elements, mask of those too deep %u, %llu ms\n", v[i]->meta.name, n, deep,
		              (unsigned long long)ms);
		assert_true(ms < 3000);
		assert_int_equal(deep, i == 2);
		free_firewall(v[i]);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_allow_what_the_rules_say),
		cmocka_unit_test(an_element_within_another_is_left_out),
		cmocka_unit_test(too_many_layers),
		cmocka_unit_test(beyond_a_limit),
		cmocka_unit_test(many_elements_of_one_port_are_hashed),
		cmocka_unit_test(too_many_members),
		cmocka_unit_test(a_firewall_beyond_the_limit_denies),
		cmocka_unit_test(plans_of_ten_thousand_rules),
	};
	return cmocka_run_group_tests_name("firewall-plan", tests, NULL, NULL);
}
