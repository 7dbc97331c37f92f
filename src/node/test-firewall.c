/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The compiler of an instance's firewall against a naive interpreter of its rules, and its table in the kernel, in a
 * namespace of this run. Packets are in tests/node/test_firewall.py.
 */

#include "node/testing.h"

#include "net/nft.h"
#include "net/nftset.h"
#include "node/firewall_rules.h"

#define NS        "t"
#define FIREWALLS 3

static void fill(struct groups *g, const char *id, unsigned n);
static void endpoint_change(struct groups *g, const char *id, const char *route, bool slice, bool add);

static struct firewall *firewall_of(const char *json) {
	struct api_errors errs = {0};
	void *f = NULL;

	if (api_parse(&api_kind_firewall, json, strlen(json), &f, &errs) < 0) {
		api_errors_to_error(&errs, &error);
		fail_msg("%.200s: %s", json, error.msg);
	}
	return f;
}

/* A Firewall with these lists of rules, in JSON. */
static struct firewall *firewall_with(const char *name, const char *ingress, const char *egress) {
	_free_ char *json =
		strf("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"" NS "\",\"uid\":\"%s\",\"generation\":1},"
	             "\"spec\":{\"instances\":{},\"ingress\":[%s]%s%s%s}}",
	             name, name, ingress, *egress ? ",\"defaultEgress\":\"deny\",\"egress\":[" : "", egress,
	             *egress ? "]" : "");
	assert_non_null(json);
	return firewall_of(json);
}

static void free_firewall(struct firewall *f) {
	api_free(&api_kind_firewall, f);
}

static struct firewall_plan plan_of(const struct instnet_spec *spec, const struct firewall *const *v, size_t n) {
	const struct firewall_attached a = {.v = v, .n = n};
	struct firewall_plan p;

	OK(firewall_plan(spec, &a, &p, &error));
	return p;
}

static const struct instnet_spec nothing;

/* ---- the naive interpreter ---- */

static const char *const words[] = {"any", "tcp", "udp", "icmp", "icmpv6"};
static const uint8_t numbers[] = {FIREWALL_ANY, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6};
static const char *const places[] = {
	"::/0",      "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:1::/64", "2001:db8:2::/48",
	"0.0.0.0/0", "10.0.0.0/8",    "10.1.0.0/16",     "10.1.2.0/24",       "10.1.2.3/32"};
static const char *const sources[] = {"2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:2::1", "2001:db8:3::1",
                                      "fd00::1",         "10.1.2.3",        "10.1.2.4",      "10.1.3.1",
                                      "10.2.0.1",        "192.0.2.1"};
static const char *const teams[] = {"a", "b", "c"};

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
		_free_ char *json = strf("{\"peers\":{\"matchLabels\":{\"team\":\"%s\"}}}", teams[i]);
		struct firewall *f = firewall_with("x", json, "");
		OK(firewall_group_id(NS, f->spec->ingress.v[0].peers, id));
		free_firewall(f);
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

/* ---- random rules ---- */

static unsigned below(unsigned n) {
	return (unsigned)random() % n;
}

static void put_random_rule(struct buf *b) {
	unsigned protocol = below(ARRAY_SIZE(words));
	unsigned n = below(3);

	buf_printf(b, "{\"protocol\":\"%s\"", words[protocol]);
	if ((protocol == 1 || protocol == 2) && below(4)) {
		unsigned port = 1 + below(12);
		buf_printf(b, ",\"port\":%u", port);
		if (below(2))
			buf_printf(b, ",\"endPort\":%u", port + below(6));
	}
	if (protocol >= 3 && below(2))
		buf_printf(b, ",\"icmpType\":%d", below(2) ? 8 : 128);
	/* The first half are IPv6, the second IPv4. */
	for (unsigned i = 0; i < n; i++) {
		unsigned half = protocol == 3 ? 5 : protocol == 4 ? 0 : 5 * below(2);
		buf_printf(b, "%s\"%s\"", i ? "," : ",\"prefixes\":[", places[half + below(5)]);
	}
	buf_puts(b, n ? "]" : "");
	if (below(3) == 0)
		buf_printf(b, ",\"peers\":{\"matchLabels\":{\"team\":\"%s\"}}", teams[below(ARRAY_SIZE(teams))]);
	buf_putc(b, '}');
}

static struct firewall *random_firewall(const char *name) {
	_buf_free_ struct buf in = {0}, out = {0};
	unsigned n_in = below(12), n_out = below(2) ? 1 + below(8) : 0;

	buf_puts(&in, "");
	buf_puts(&out, "");
	for (unsigned i = 0; i < n_in; i++) {
		buf_puts(&in, i ? "," : "");
		put_random_rule(&in);
	}
	for (unsigned i = 0; i < n_out; i++) {
		buf_puts(&out, i ? "," : "");
		put_random_rule(&out);
	}
	return firewall_with(name, in.data, out.data);
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
		for (size_t i = 0; i < n; i++)
			free_firewall(v[i]);
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
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		free_firewall(v[i]);
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
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		free_firewall(v[i]);
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

static struct firewall *ten_thousand(void) {
	_buf_free_ struct buf b = {0};

	for (unsigned i = 0; i < 10000; i++)
		buf_printf(&b,
		           "%s{\"protocol\":\"%s\",\"port\":%u,\"prefixes\":[\"2001:db8:%x::/48\",\"10.%u.%u.0/24\"]}",
		           i ? "," : "", i % 2 ? "tcp" : "udp", 1 + i % 5000, 1 + i, i >> 8, i & 255);
	return firewall_with("large", b.data, "");
}

/* All members together are what the kernel must hold. */
static void too_many_members(void **state) {
	(void)state;
	struct firewall *v[3];
	char id[3][FIREWALL_GROUP_ID_MAX];
	struct firewall_plan p;
	struct groups *g;

	OK(groups_new(&g, &error));
	for (int i = 0; i < 3; i++) {
		_free_ char *json = strf("{\"peers\":{\"matchLabels\":{\"team\":\"%s\"}}}", teams[i]);
		v[i] = firewall_with(teams[i], json, "");
		OK(firewall_group_id(NS, v[i]->spec->ingress.v[0].peers, id[i]));
		fill(g, id[i], i < 2 ? FIREWALL_ADDRESSES_MAX / 2 : 1);
	}
	const struct firewall_attached a = {.v = (const struct firewall *const *)v, .n = 3, .groups = g};
	OK(firewall_plan(&nothing, &a, &p, &error));
	assert_int_equal(p.crowded, 4);
	assert_int_equal(p.limited, 0);
	assert_int_equal(p.n_groups, 2);
	firewall_plan_done(&p);
	endpoint_change(g, id[0], "2001:db8:1:5::/64", false, false);
	OK(firewall_plan(&nothing, &a, &p, &error));
	assert_int_equal(p.crowded, 0);
	assert_int_equal(p.n_groups, 3);
	firewall_plan_done(&p);
	groups_free(g);
	for (int i = 0; i < 3; i++)
		free_firewall(v[i]);
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

/* ---- in the kernel ---- */

static int fd = -1;
static struct nl *nl;
static char netns[INSTNET_NAME_MAX];

static void kernel_begin(void) {
	snprintf(netns, sizeof(netns), "%sfw", prefix);
	OK(netns_ensure(netns, NULL, &error));
	OK(netns_open(netns, &fd, &error));
	OK(nl_open_netfilter(&nl, fd, &error));
}

static void kernel_end(void) {
	nl = nl_free(nl);
	fd = safe_close(fd);
	OK(netns_delete(netns, &error));
}

static bool ensure(const struct firewall_attached *a, bool current, struct firewall_state *s) {
	bool changed = false;

	OK(firewall_ensure(fd, nl, &nothing, a, current, s, &changed, &error));
	return changed;
}

static void count_element(const struct nftset_element *e, void *userdata) {
	(void)e;
	++*(size_t *)userdata;
}

/* The table that is in force. */
static const char *table(void) {
	size_t n = 0;

	return nftset_each(nl, firewall_tables[0], FIREWALL_IN_FORCE, count_element, &n, &error) < 0
	               ? firewall_tables[1]
	               : firewall_tables[0];
}

static size_t elements_of(const char *set) {
	size_t n = 0;

	OK(nftset_each(nl, table(), set, count_element, &n, &error));
	return n;
}

#define PEERS "{\"protocol\":\"tcp\",\"port\":443,\"peers\":{\"matchLabels\":{\"team\":\"a\"}}}"

static void endpoint_change(struct groups *g, const char *id, const char *route, bool slice, bool add) {
	struct endpoint_route r = {.prefix = (char *)route};
	struct endpoint_spec spec = {.routes = {.v = &r, .n = 1}};
	char *groups[] = {(char *)id};
	struct endpoint_status status = {.groups = {.v = groups, .n = 1}};
	const struct endpoint e = {.spec = &spec, .status = &status};

	if (slice) {
		r.first_port = API_I64(1024);
		r.last_port = API_I64(1535);
	}
	groups_endpoint(g, add ? NULL : &e, add ? &e : NULL);
}

static void a_member_is_one_element(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", PEERS, "");
	const struct firewall *v[] = {f};
	struct firewall_state s = {0};
	struct groups *g;
	char id[FIREWALL_GROUP_ID_MAX];

	if (geteuid() != 0)
		skip();
	kernel_begin();
	OK(groups_new(&g, &error));
	OK(firewall_group_id(NS, f->spec->ingress.v[0].peers, id));
	const struct firewall_attached a = {.v = v, .n = 1, .groups = g};
	endpoint_change(g, id, "2001:db8:1:1::/64", false, true);
	endpoint_change(g, id, "198.51.100.3/32", true, true);
	assert_true(ensure(&a, false, &s));
	assert_false(ensure(&a, true, &s));
	uint32_t generation = s.generation;
	/* More of the same classes are elements, and connections go on. */
	endpoint_change(g, id, "2001:db8:1:2::/64", false, true);
	endpoint_change(g, id, "198.51.100.4/32", true, true);
	endpoint_change(g, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "2001:db8:1:3::/64", false, true);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation);
	assert_int_equal(s.seq, 5);
	assert_int_equal(elements_of("g0_6_64"), 2);
	assert_int_equal(elements_of("g0_s_7"), 2);
	assert_int_equal(elements_of("g0_i_7"), 2);
	/* Who has gone may have connections. */
	endpoint_change(g, id, "198.51.100.4/32", true, false);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation + 1);
	assert_int_equal(elements_of("g0_s_7"), 1);
	assert_int_equal(elements_of("current"), 1);
	assert_int_equal(elements_of("generation"), 2);
	/* A class that is new is another table. */
	endpoint_change(g, id, "2001:db8:2::/60", false, true);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(elements_of("g0_6_60"), 1);
	assert_int_equal(s.generation, generation + 2);
	/* One more member lets a Firewall in that had too many. */
	s.crowded = 2;
	generation = s.generation;
	endpoint_change(g, id, "2001:db8:1:5::/64", false, true);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation + 1);
	assert_int_equal(s.crowded, 0);
	endpoint_change(g, id, "2001:db8:1:5::/64", false, false);
	assert_true(ensure(&a, true, &s));
	/* An element that isn't there as it should be. */
	_free_ char *flush = strf("flush set inet %s g0_6_64", table());
	OK(nft_apply(fd, flush, &error));
	endpoint_change(g, id, "2001:db8:1:2::/64", false, false);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(elements_of("g0_6_64"), 1);
	/* However much other groups change, nothing happens here. */
	generation = s.generation;
	for (int i = 0; i < GROUPS_RING; i++) {
		endpoint_change(g, "cccccccccccccccccccccccccccccccc", "2001:db8:1:9::/64", false, true);
		endpoint_change(g, "cccccccccccccccccccccccccccccccc", "2001:db8:1:9::/64", false, false);
	}
	assert_false(ensure(&a, true, &s));
	assert_int_equal(s.generation, generation);
	/* More changes than are remembered. */
	for (int i = 0; i < GROUPS_RING; i++) {
		endpoint_change(g, id, "2001:db8:1:9::/64", false, true);
		endpoint_change(g, id, "2001:db8:1:9::/64", false, false);
	}
	assert_true(ensure(&a, true, &s));
	assert_int_equal(s.seq, groups_seq(g));
	groups_free(g);
	free_firewall(f);
	kernel_end();
}

/* Somebody wrote a Firewall that is not understood: the rules stay, and members come and go. */
static void members_of_a_table_that_stays(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", PEERS, ""), *other = firewall_with("b", "{\"protocol\":\"tcp\"}", "");
	struct firewall *more = firewall_with("c", "{\"peers\":{\"matchLabels\":{\"team\":\"b\"}}}", "");
	const struct firewall *v[] = {f, other}, *w[] = {f, more};
	struct firewall_state s = {0};
	struct groups *g;
	char id[FIREWALL_GROUP_ID_MAX];

	if (geteuid() != 0)
		skip();
	kernel_begin();
	OK(groups_new(&g, &error));
	OK(firewall_group_id(NS, f->spec->ingress.v[0].peers, id));
	const struct firewall_attached a = {.v = v, .n = 1, .groups = g},
				       unknown = {.v = v, .n = 1, .groups = g, .unknown = true},
				       changed = {.v = v, .n = 2, .groups = g, .unknown = true},
				       regrouped = {.v = w, .n = 2, .groups = g, .unknown = true};
	endpoint_change(g, id, "2001:db8:1:1::/64", false, true);
	endpoint_change(g, id, "2001:db8:1:2::/64", false, true);
	endpoint_change(g, id, "2001:db8:1:3::/64", false, true);
	assert_true(ensure(&a, false, &s));
	endpoint_change(g, id, "2001:db8:1:1::/64", false, false);
	uint32_t generation = s.generation;
	assert_true(ensure(&unknown, true, &s));
	assert_int_equal(elements_of("g0_6_64"), 2);
	assert_int_equal(s.generation, generation + 1);
	/* A class that is new makes another table of the same rules. */
	endpoint_change(g, id, "2001:db8:2::/60", false, true);
	assert_true(ensure(&unknown, true, &s));
	assert_int_equal(elements_of("g0_6_60"), 1);
	assert_int_equal(nftset_each(nl, table(), "out6p0", count_element, &(size_t){0}, &error), -ENOENT);
	/* The others have changed meanwhile. */
	endpoint_change(g, id, "2001:db8:1:2::/64", false, false);
	assert_true(ensure(&changed, true, &s));
	assert_int_equal(elements_of("g0_6_64"), 1);
	assert_int_equal(nftset_each(nl, table(), "in6p0", count_element, &(size_t){0}, &error), -ENOENT);
	/* Their groups have other numbers, or another process made the table. */
	endpoint_change(g, id, "2001:db8:1:3::/64", false, false);
	assert_false(ensure(&regrouped, true, &s));
	assert_false(ensure(&unknown, false, &s));
	assert_int_equal(elements_of("g0_6_64"), 1);
	/* Now it is understood. */
	assert_true(ensure(&a, true, &s));
	assert_int_equal(nftset_each(nl, table(), "g0_6_64", count_element, &(size_t){0}, &error) < 0
	                         ? 0
	                         : elements_of("g0_6_64"),
	                 0);
	groups_free(g);
	free_firewall(f);
	free_firewall(other);
	free_firewall(more);
	kernel_end();
}

static void other_rules_replace_the_table(void **state) {
	(void)state;
	struct firewall *f = firewall_with("a", "{\"protocol\":\"tcp\",\"port\":22}", "");
	const struct firewall *v[] = {f};
	const struct firewall_attached a = {.v = v, .n = 1}, unknown = {.v = v, .n = 0, .unknown = true},
				       denied = {.v = v, .n = 1, .deny_beyond = true};
	struct firewall_state s = {0};

	if (geteuid() != 0)
		skip();
	kernel_begin();
	/* Nobody knows yet: nothing may pass. */
	assert_true(ensure(&unknown, false, &s));
	assert_int_equal(elements_of("current"), 1);
	assert_int_equal(nftset_each(nl, table(), "in6p0", count_element, &(size_t){0}, &error), -ENOENT);
	assert_true(ensure(&a, true, &s));
	assert_int_equal(elements_of("in6p0"), 1);
	assert_false(ensure(&unknown, true, &s));
	assert_false(ensure(&unknown, false, &s));
	assert_int_equal(elements_of("in6p0"), 1);
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
	uint32_t genid, now;

	if (geteuid() != 0)
		skip();
	kernel_begin();
	assert_true(ensure(&a, false, &s));
	OK(nftset_genid(nl, &genid, &error));
	before = s;
	/* A rule that the API would not have accepted. */
	f->spec->ingress.v[0].port = API_I64(10);
	f->spec->ingress.v[0].end_port = API_I64(5);
	f->meta.generation = API_I64(2);
	assert_true(firewall_ensure(fd, nl, &nothing, &a, true, &s, &changed, &error) < 0);
	assert_false(changed);
	OK(nftset_genid(nl, &now, &error));
	assert_int_equal(now, genid);
	assert_int_equal(elements_of("in6p0"), 1);
	/* It is not tried again at once, unless something else is wanted. */
	assert_int_equal(s.failures, 1);
	uint64_t retry_ns = s.retry_ns;
	assert_int_equal(firewall_ensure(fd, nl, &nothing, &a, true, &s, &changed, &error), -EAGAIN);
	assert_int_equal(firewall_ensure(fd, nl, &nothing, &a, false, &s, &changed, &error), -EAGAIN);
	assert_int_equal(s.retry_ns, retry_ns);
	s.retry_ns = now_monotonic_ns();
	assert_true(firewall_ensure(fd, nl, &nothing, &a, true, &s, &changed, &error) < 0);
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

static void fill(struct groups *g, const char *id, unsigned n) {
	char route[PREFIX_STR_MAX];

	for (unsigned i = 0; i < n; i++) {
		snprintf(route, sizeof(route), "2001:db8:%x:%x::/64", 1 + (i >> 14), 1 + (i & 0x3fff));
		endpoint_change(g, id, route, false, true);
	}
}

/* 10,000 rules, 100,000 members. Times are printed; that nothing is lost is asserted. */
static void the_largest_table(void **state) {
	(void)state;
	struct firewall *large = ten_thousand(), *f = firewall_with("peers", "", PEERS);
	const struct firewall *v[] = {large, f};
	struct firewall_state s = {0};
	struct firewall_seen seen;
	struct groups *g;
	char id[FIREWALL_GROUP_ID_MAX];

	if (geteuid() != 0)
		skip();
	kernel_begin();
	OK(groups_new(&g, &error));
	OK(firewall_group_id(NS, f->spec->egress.v[0].peers, id));
	fill(g, id, 100000);
	const struct firewall_attached a = {.v = v, .n = 2, .groups = g};
	uint64_t t[5] = {now_monotonic_ns()};
	assert_true(ensure(&a, false, &s));
	t[1] = now_monotonic_ns();
	assert_int_equal(s.limited | s.deep, 0);
	endpoint_change(g, id, "fd00:1:2:3::/64", false, true);
	assert_true(ensure(&a, true, &s));
	t[2] = now_monotonic_ns();
	endpoint_change(g, id, "fd00:1:2:3::/64", false, false);
	assert_true(ensure(&a, true, &s));
	t[3] = now_monotonic_ns();
	OK(firewall_read(fd, &s, true, &seen, &error));
	t[4] = now_monotonic_ns();
	firewall_seen_done(&seen);
	print_message("load %llu ms, one member more %llu us, one less %llu us, counters read %llu ms\n",
	              (unsigned long long)((t[1] - t[0]) / NSEC_PER_MSEC), (unsigned long long)((t[2] - t[1]) / 1000),
	              (unsigned long long)((t[3] - t[2]) / 1000), (unsigned long long)((t[4] - t[3]) / NSEC_PER_MSEC));
	assert_int_equal(elements_of("g0_6_64"), 100000);
	assert_int_equal(elements_of("in6h48"), 10000);
	assert_int_equal(elements_of("in4h24"), 10000);
	groups_free(g);
	free_firewall(large);
	free_firewall(f);
	kernel_end();
}

/* The kernel takes whatever random rules become. */
static void random_rules_load(void **state) {
	(void)state;

	if (geteuid() != 0)
		skip();
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
		cmocka_unit_test(maps_allow_what_the_rules_say),
		cmocka_unit_test(an_element_within_another_is_left_out),
		cmocka_unit_test(too_many_layers),
		cmocka_unit_test(beyond_a_limit),
		cmocka_unit_test(many_elements_of_one_port_are_hashed),
		cmocka_unit_test(too_many_members),
		cmocka_unit_test(a_firewall_beyond_the_limit_denies),
		cmocka_unit_test(plans_of_ten_thousand_rules),
		cmocka_unit_test(a_member_is_one_element),
		cmocka_unit_test(members_of_a_table_that_stays),
		cmocka_unit_test(other_rules_replace_the_table),
		cmocka_unit_test(a_refused_table_changes_nothing),
		cmocka_unit_test(the_largest_table),
		cmocka_unit_test(random_rules_load),
	};
	return cmocka_run_group_tests_name("node-firewall", tests, setup, teardown);
}
