/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the tests of an instance's firewall share: Firewalls, random ones too, their groups' members, and a namespace
 * for the table in the kernel. test-firewall-plan.c has the compiler, test-firewall-table.c the table, and
 * test-firewall-members.c the members in it. Packets are in tests/node/test_firewall.py.
 */

#include "node/testing.h"

#include "net/nft.h"
#include "net/nftset.h"
#include "node/firewall_rules.h"

#define NS "t"

static const struct instnet_spec nothing;

_unused_ static struct firewall *firewall_of(const char *json) {
	struct api_errors errs = {0};
	void *f = NULL;

	if (api_parse(&api_kind_firewall, json, strlen(json), &f, &errs) < 0) {
		api_errors_to_error(&errs, &error);
		fail_msg("%.200s: %s", json, error.msg);
	}
	return f;
}

/* A Firewall with these lists of rules, in JSON. */
_unused_ static struct firewall *firewall_with(const char *name, const char *ingress, const char *egress) {
	_free_ char *json =
		strf("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"" NS "\",\"uid\":\"%s\",\"generation\":1},"
	             "\"spec\":{\"instances\":{},\"ingress\":[%s]%s%s%s}}",
	             name, name, ingress, *egress ? ",\"defaultEgress\":\"deny\",\"egress\":[" : "", egress,
	             *egress ? "]" : "");
	assert_non_null(json);
	return firewall_of(json);
}

_unused_ static void free_firewall(struct firewall *f) {
	api_free(&api_kind_firewall, f);
}

/* ---- random Firewalls ---- */

static const char *const words[] = {"any", "tcp", "udp", "icmp", "icmpv6"};
static const char *const places[] = {
	"::/0",      "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:1::/64", "2001:db8:2::/48",
	"0.0.0.0/0", "10.0.0.0/8",    "10.1.0.0/16",     "10.1.2.0/24",       "10.1.2.3/32"};
static const char *const teams[] = {"a", "b", "c"};

_unused_ static unsigned below(unsigned n) {
	return (unsigned)random() % n;
}

_unused_ static void put_random_rule(struct buf *b) {
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

_unused_ static struct firewall *random_firewall(const char *name) {
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

/* 10,000 rules of one port each, at two prefixes of their own. */
_unused_ static struct firewall *ten_thousand(void) {
	_buf_free_ struct buf b = {0};

	for (unsigned i = 0; i < 10000; i++)
		buf_printf(&b,
		           "%s{\"protocol\":\"%s\",\"port\":%u,\"prefixes\":[\"2001:db8:%x::/48\",\"10.%u.%u.0/24\"]}",
		           i ? "," : "", i % 2 ? "tcp" : "udp", 1 + i % 5000, 1 + i, i >> 8, i & 255);
	return firewall_with("large", b.data, "");
}

/* ---- groups ---- */

/* Members of one group. */
struct members {
	struct groups *groups; /* those that the hypervisor knows */
	char id[FIREWALL_GROUP_ID_MAX];
};

/* The group of these peers, in new groups without members. */
_unused_ static struct members members_of(const struct api_selector *peers) {
	struct members m;

	OK(groups_new(&m.groups, &error));
	OK(firewall_group_id(NS, peers, m.id));
	return m;
}

/* A member comes or goes: by a prefix of IPv6, or by 512 ports of an IPv4 address. */
_unused_ static void member_change(struct members *m, const char *route, bool add) {
	struct endpoint_route r = {.prefix = (char *)route};
	struct endpoint_spec spec = {.routes = {.v = &r, .n = 1}};
	char *groups[] = {m->id};
	struct endpoint_status status = {.groups = {.v = groups, .n = 1}};
	const struct endpoint e = {.spec = &spec, .status = &status};

	if (strchr(route, '.')) {
		r.first_port = API_I64(1024);
		r.last_port = API_I64(1535);
	}
	groups_endpoint(m->groups, add ? NULL : &e, add ? &e : NULL);
}

_unused_ static void member_add(struct members *m, const char *route) {
	member_change(m, route, true);
}

_unused_ static void member_remove(struct members *m, const char *route) {
	member_change(m, route, false);
}

_unused_ static void members_fill(struct members *m, unsigned n) {
	char route[PREFIX_STR_MAX];

	for (unsigned i = 0; i < n; i++) {
		snprintf(route, sizeof(route), "2001:db8:%x:%x::/64", 1 + (i >> 14), 1 + (i & 0x3fff));
		member_add(m, route);
	}
}

/* ---- in the kernel ---- */

static int fd = -1;
static struct nl *nl;
static char netns[INSTNET_NAME_MAX];

/* Without root the test ends here. */
_unused_ static void kernel_begin(void) {
	if (geteuid() != 0)
		skip();
	snprintf(netns, sizeof(netns), "%sfw", prefix);
	OK(netns_ensure(netns, NULL, &error));
	OK(netns_open(netns, &fd, &error));
	OK(nl_open_netfilter(&nl, fd, &error));
}

_unused_ static void kernel_end(void) {
	nl = nl_free(nl);
	fd = safe_close(fd);
	OK(netns_delete(netns, &error));
}

/* The number that firewall_ensure() is given. */
_unused_ static uint32_t genid_if(bool current) {
	uint32_t genid;

	OK(nftset_genid(nl, &genid, &error));
	return current ? genid : 0;
}

/* True if something was changed. */
_unused_ static bool ensure(const struct firewall_attached *a, bool current, struct firewall_state *s) {
	uint32_t before = genid_if(current), genid = before, now = genid_if(true);
	bool changed = false;

	OK(firewall_ensure(fd, nl, &nothing, a, &genid, s, &changed, &error));
	if (current && !changed)
		assert_int_equal(genid, genid_if(true));
	return now != genid_if(true);
}

_unused_ static void count_element(const struct nftset_element *e, void *userdata) {
	(void)e;
	++*(size_t *)userdata;
}

/* The table that is in force. */
_unused_ static const char *table(void) {
	size_t n = 0;

	return nftset_each(nl, firewall_tables[0], FIREWALL_IN_FORCE, count_element, &n, &error) < 0
	               ? firewall_tables[1]
	               : firewall_tables[0];
}

/* -ENOENT: the table has no such set. */
_unused_ static int set_size(const char *set) {
	size_t n = 0;
	int r = nftset_each(nl, table(), set, count_element, &n, &error);

	return r < 0 ? r : (int)n;
}
