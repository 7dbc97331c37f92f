/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The nftables rules of an instance's firewall (node/firewall.h). The chain `forward` comes before that of the table
 * `nacre`, which lets pass only packets with a mark between tap and uplink (node/instnet_rules.c). The last rule drops,
 * without counting, what is not for the guest or from it to the outside: a packet without a connection, which has
 * neither mark nor direction; one from outside to a port of a slice that no forward leads to the guest, which would go
 * from the uplink back to the uplink; one of the guest to an address of its own prefixes.
 *
 * Packets of a connection that these rules have allowed pass by its mark. Others are looked up, whatever their state:
 * as packets of a connection that came in or went out, in the direction in which it began (`f`) or the other one (`r`).
 * What allows its first packet allows an answer, too, with the addresses and ports the other way round. So after a
 * change whichever packet comes first decides.
 *
 * A connection that was cut has no mark. Of protocols without a beginning and an end, such as UDP, the kernel keeps it
 * as long as either side sends, with the direction in which it began. If both ends use the same port (WireGuard, IKE,
 * NTP), packets of a connection the other way round would belong to it. So its further packets against its direction
 * are also looked up as the first ones of a connection of their own direction.
 *
 * An ICMP error about a connection has the connection's mark, but its own addresses. It is never looked up: it would be
 * a way to mark a connection that is not allowed.
 *
 * The names of maps are, one part after the other: in or out · 6, 4 or gN (members of group N) · p (protocol and port),
 * i (type of ICMP; of groups i4 and i6) or a (all protocols) · the layer; or h (protocol and port, hashed) · the length
 * of the prefix (node/firewall_plan.h). Sets of members: gN_6_LEN, gN_4, and for slices of 65536 >> BITS ports
 * gN_s_BITS and gN_i_BITS. Numbers of protocols are used since names would be looked up in /etc/protocols.
 */

#include "node/firewall_rules.h"

#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "node/instnet.h"

#define DROPS_PORTS 96 /* flows of TCP and UDP that are remembered, of each family and direction */
#define DROPS_OTHER 32
_Static_assert(4 * (DROPS_PORTS + DROPS_OTHER) == FIREWALL_DROPS_MAX, "all fit into struct firewall_seen");

/* ---- maps of elements ---- */

static void put_target(uint8_t target, struct buf *b) {
	if (target < FIREWALL_GROUP0)
		buf_putc(b, target == FIREWALL_IPV6 ? '6' : '4');
	else
		buf_printf(b, "g%d", target - FIREWALL_GROUP0);
}

static const char *kind_of(const struct firewall_element *e) {
	bool group = e->target >= FIREWALL_GROUP0;

	switch (e->protocol) {
	case FIREWALL_ANY: return "a";
	case IPPROTO_ICMP: return group ? "i4_" : "i";
	case IPPROTO_ICMPV6: return group ? "i6_" : "i";
	default: return e->hashed ? "h" : "p";
	}
}

static int number_of(const struct firewall_element *e) {
	return e->hashed ? e->prefix.len : e->layer;
}

static void put_map_name(const struct firewall_element *e, struct buf *b) {
	buf_puts(b, e->out ? "out" : "in");
	put_target(e->target, b);
	buf_printf(b, "%s%d", kind_of(e), number_of(e));
}

/* False for groups, whose sets have the addresses, and for hashed elements that are for all addresses. */
static bool map_has_address(const struct firewall_element *e) {
	return e->target < FIREWALL_GROUP0 && !(e->hashed && e->prefix.len == 0);
}

static void put_map_type(const struct firewall_element *e, struct buf *b) {
	bool address = map_has_address(e);
	const char *protocol = e->protocol == FIREWALL_ANY     ? ""
	                       : e->protocol == IPPROTO_ICMP   ? "icmp_type"
	                       : e->protocol == IPPROTO_ICMPV6 ? "icmpv6_type"
	                                                       : "inet_proto . inet_service";

	buf_puts(b, !address ? *protocol ? "" : "nf_proto" : e->target == FIREWALL_IPV6 ? "ipv6_addr" : "ipv4_addr");
	buf_printf(b, "%s%s", address && *protocol ? " . " : "", protocol);
}

/* The rule that allowed a packet is told by the comment of the element that counted it. */
static void put_element(const struct firewall_element *e, struct buf *b) {
	char prefix[PREFIX_STR_MAX], addr[ADDR_STR_MAX];
	bool address = map_has_address(e), ports = e->protocol == IPPROTO_TCP || e->protocol == IPPROTO_UDP;

	if (address)
		buf_puts(b, e->hashed ? addr_str(&e->prefix.addr, addr) : prefix_str(&e->prefix, prefix));
	if (address && e->protocol != FIREWALL_ANY)
		buf_puts(b, " . ");
	if (ports)
		buf_printf(b, "%d . ", e->protocol);
	if (e->protocol != FIREWALL_ANY)
		buf_printf(b, e->first == e->last ? "%d" : "%d-%d", e->first, e->last);
	if (e->owner != FIREWALL_OWN)
		buf_printf(b, " comment \"%d.%u\"", e->owner - 1, e->rule);
	buf_puts(b, " : goto ok, ");
}

static void put_any_of_group(const struct firewall_element *e, struct buf *b) {
	for (int i = 4; i <= 6; i += 2)
		buf_printf(b, "ipv%d comment \"%d.%u\" : goto ok, ", i, e->owner - 1, e->rule);
}

/* TCP and UDP share their maps; in a plan they come one after the other, but with all layers each. */
static int map_order(const void *x, const void *y) {
	const struct firewall_element *a = *(const struct firewall_element *const *)x;
	const struct firewall_element *b = *(const struct firewall_element *const *)y;
	int order;

	if (a->out != b->out)
		return a->out ? 1 : -1;
	if (a->target != b->target)
		return a->target < b->target ? -1 : 1;
	order = strcmp(kind_of(a), kind_of(b));
	if (order)
		return order;
	if (number_of(a) != number_of(b))
		return number_of(a) < number_of(b) ? -1 : 1;
	return a < b ? -1 : a > b;
}

static bool is_same_map(const struct firewall_element *a, const struct firewall_element *b) {
	return a->out == b->out && a->target == b->target && number_of(a) == number_of(b) &&
	       streq(kind_of(a), kind_of(b));
}

/* The elements in the order of their maps; for a map its first element stands. */
struct layout {
	const struct firewall_element **v;
	size_t n;
};

static void put_maps(const struct layout *l, struct buf *b) {
	for (size_t i = 0; i < l->n; i++) {
		const struct firewall_element *e = l->v[i];
		bool any_of_group = e->target >= FIREWALL_GROUP0 && e->protocol == FIREWALL_ANY;
		if (i == 0 || !is_same_map(e, l->v[i - 1])) {
			buf_puts(b, "\tmap ");
			put_map_name(e, b);
			buf_puts(b, " {\n\t\ttype ");
			put_map_type(e, b);
			buf_printf(b, " : verdict\n%s\t\tcounter\n\t\telements = { ",
			           any_of_group || e->hashed ? "" : "\t\tflags interval\n");
		}
		if (any_of_group)
			put_any_of_group(e, b);
		else
			put_element(e, b);
		if (i + 1 == l->n || !is_same_map(e, l->v[i + 1]))
			buf_puts(b, "}\n\t}\n");
	}
}

/* ---- members of groups ---- */

size_t firewall_sets_of(size_t group, const struct group_element *e, char out[static 2][FIREWALL_NAME_MAX]) {
	if (e->prefix.addr.family == AF_INET6)
		snprintf(out[0], FIREWALL_NAME_MAX, "g%zu_6_%d", group, e->prefix.len);
	else if (!e->port_bits)
		snprintf(out[0], FIREWALL_NAME_MAX, "g%zu_4", group);
	else
		snprintf(out[0], FIREWALL_NAME_MAX, "g%zu_s_%d", group, e->port_bits);
	snprintf(out[1], FIREWALL_NAME_MAX, "g%zu_i_%d", group, e->port_bits);
	return e->prefix.addr.family == AF_INET && e->port_bits ? 2 : 1;
}

static bool is_same_class(const struct group_element *a, const struct group_element *b) {
	return a->prefix.addr.family == b->prefix.addr.family && a->prefix.len == b->prefix.len &&
	       a->port_bits == b->port_bits;
}

/* The classes of the members of a group: one element of each. */
struct classes {
	size_t n;
	struct group_element v[GROUP_CLASSES_MAX];
};

struct member_sets {
	struct buf *b;
	size_t group;
	struct classes classes;
	struct buf identifiers; /* the second set of the open class, if it is of slices */
};

static void member_sets_close(struct member_sets *m) {
	if (!m->classes.n)
		return;
	buf_puts(m->b, "}\n\t}\n");
	if (m->identifiers.len)
		buf_printf(m->b, "%s}\n\t}\n", m->identifiers.data);
	buf_reset(&m->identifiers);
}

static void member_sets_open(struct member_sets *m, const struct group_element *e) {
	char names[2][FIREWALL_NAME_MAX];
	bool slice = firewall_sets_of(m->group, e, names) == 2;

	buf_printf(m->b, "\tset %s {\n\t\ttype %s%s\n\t\telements = { ", names[0],
	           e->prefix.addr.family == AF_INET6 ? "ipv6_addr" : "ipv4_addr", slice ? " . inet_service" : "");
	if (slice)
		buf_printf(&m->identifiers, "\tset %s {\n\t\ttypeof ip saddr . icmp id\n\t\telements = { ", names[1]);
}

static void member_put(const struct group_element *e, void *userdata) {
	struct member_sets *m = userdata;
	struct classes *c = &m->classes;
	char address[ADDR_STR_MAX];

	if (!c->n || !is_same_class(e, &c->v[c->n - 1])) {
		member_sets_close(m);
		c->v[c->n++] = *e;
		member_sets_open(m, e);
	}
	addr_str(&e->prefix.addr, address);
	if (e->port_bits) {
		buf_printf(m->b, "%s . %d, ", address, e->port);
		buf_printf(&m->identifiers, "%s . %d, ", address, e->port);
	} else {
		buf_printf(m->b, "%s, ", address);
	}
}

static void put_members(const struct firewall_plan *p, const struct groups *groups, size_t group, struct classes *ret,
                        struct buf *b) {
	struct member_sets m = {.b = b, .group = group};

	if (groups)
		groups_each(groups, p->groups[group], member_put, &m);
	member_sets_close(&m);
	if (m.identifiers.failed)
		b->failed = true;
	buf_free(&m.identifiers);
	*ret = m.classes;
}

/* ---- chains ---- */

/* A way that packets are looked up: of connections that went OUT or came in; REPLY: against their direction. */
struct way {
	bool out, reply;
};

static void put_way(const struct way *w, struct buf *b) {
	buf_printf(b, "%s_%c", w->out ? "out" : "in", w->reply ? 'r' : 'f');
}

/* The address outside, its port, and the port to which the connection was made. */
static const char *other_address(const struct way *w) {
	return w->out == w->reply ? "saddr" : "daddr";
}

static const char *other_port(const struct way *w) {
	return w->out == w->reply ? "sport" : "dport";
}

static const char *service_port(const struct way *w) {
	return w->reply ? "sport" : "dport";
}

static const char *family_word(uint8_t target) {
	return target == FIREWALL_IPV6 ? "ip6" : "ip";
}

static void put_mask(uint8_t family, uint8_t len, struct buf *b) {
	struct addr ones = {.family = family};
	char text[ADDR_STR_MAX];

	memset(ones.bytes, 0xff, family == AF_INET6 ? 16 : 4);
	const struct prefix mask = prefix_of(&ones, len);
	buf_puts(b, addr_str(&mask.addr, text));
}

/* The address outside, of which a map of hashes has the first bits only. */
static void put_lookup_address(const struct way *w, const struct firewall_element *e, struct buf *b) {
	const uint8_t family = e->prefix.addr.family;

	buf_printf(b, "%s %s", family_word(e->target), other_address(w));
	if (e->hashed && e->prefix.len < (family == AF_INET6 ? 128 : 32)) {
		buf_puts(b, " & ");
		put_mask(family, e->prefix.len, b);
	}
	buf_puts(b, e->protocol == FIREWALL_ANY ? "" : " . ");
}

/* Looks a packet up in the map that E is in. */
static void put_lookup(const struct way *w, const struct firewall_element *e, struct buf *b) {
	buf_puts(b, "\t\t");
	if (map_has_address(e))
		put_lookup_address(w, e, b);
	else if (e->protocol == FIREWALL_ANY)
		buf_puts(b, "meta nfproto");
	if (e->protocol == IPPROTO_ICMP || e->protocol == IPPROTO_ICMPV6)
		buf_puts(b, e->protocol == IPPROTO_ICMP ? "icmp type" : "icmpv6 type");
	else if (e->protocol != FIREWALL_ANY)
		buf_printf(b, "meta l4proto . th %s", service_port(w));
	buf_puts(b, " vmap @");
	put_map_name(e, b);
	buf_putc(b, '\n');
}

static void put_lookups(const struct way *w, const struct layout *l, uint8_t target, struct buf *b) {
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i]->out == w->out && l->v[i]->target == target &&
		    (i == 0 || !is_same_map(l->v[i], l->v[i - 1])))
			put_lookup(w, l->v[i], b);
}

/* Goes to the chain of the group if the packet is from or to a member of this class. */
static void put_class(const struct way *w, size_t group, const struct group_element *class, struct buf *b) {
	const char *address = other_address(w);
	char names[2][FIREWALL_NAME_MAX];
	unsigned mask = 0xffff & ~(0xffffU >> class->port_bits);

	firewall_sets_of(group, class, names);
	if (class->prefix.addr.family == AF_INET6) {
		buf_printf(b, "\t\tip6 %s & ", address);
		put_mask(AF_INET6, class->prefix.len, b);
		buf_printf(b, " @%s", names[0]);
	} else if (!class->port_bits) {
		buf_printf(b, "\t\tip %s @%s", address, names[0]);
	} else {
		buf_printf(b, "\t\tmeta l4proto { 6, 17 } ip %s . th %s & %u @%s", address, other_port(w), mask,
		           names[0]);
	}
	buf_puts(b, " jump ");
	put_way(w, b);
	buf_printf(b, "_g%zu\n", group);
	if (class->prefix.addr.family == AF_INET && class->port_bits && !w->out) {
		buf_printf(b, "\t\ticmp type { echo-request, echo-reply } ip %s . icmp id & %u @%s jump ", address,
		           mask, names[1]);
		put_way(w, b);
		buf_printf(b, "_g%zu\n", group);
	}
}

/*
 * A connection that is cut loses its mark, so that nothing of it passes by the mark alone while tables are replaced.
 */
static void put_drop(const struct way *w, uint8_t target, bool deny_out, struct buf *b) {
	const char *name = w->out ? "out" : "in", *family = family_word(target), *address = other_address(w);
	int digit = target == FIREWALL_IPV6 ? 6 : 4;

	if (w->reply)
		buf_printf(b, "\t\tct mark 0 meta l4proto != { 1, 6, 33, 58, 132 } goto %s\n",
		           w->out     ? "in_f"
		           : deny_out ? "out_f"
		                      : "ok");
	buf_printf(b,
	           "\t\tct mark set 0\n"
	           "\t\tcounter name dropped_%s\n"
	           "\t\tmeta l4proto { 6, 17 } update @dropped_%s%d { %s %s . meta l4proto . th %s } drop\n"
	           "\t\tmeta l4proto != { 6, 17 } update @dropped_%s%d_other { %s %s . meta l4proto } drop\n"
	           "\t\tdrop\n\t}\n",
	           name, name, digit, family, address, service_port(w), name, digit, family, address);
}

static void put_family(const struct way *w, const struct layout *l, uint8_t target, const struct classes *classes,
                       const struct firewall_plan *p, struct buf *b) {
	buf_puts(b, "\tchain ");
	put_way(w, b);
	buf_printf(b, "%c {\n", target == FIREWALL_IPV6 ? '6' : '4');
	put_lookups(w, l, target, b);
	for (size_t i = 0; i < p->n_groups; i++)
		for (size_t k = 0; k < classes[i].n; k++)
			if ((classes[i].v[k].prefix.addr.family == AF_INET6) == (target == FIREWALL_IPV6))
				put_class(w, i, &classes[i].v[k], b);
	put_drop(w, target, p->deny_out, b);
}

static void put_chains(const struct way *w, const struct layout *l, const struct classes *classes,
                       const struct firewall_plan *p, struct buf *b) {
	for (size_t i = 0; i < p->n_groups; i++) {
		buf_puts(b, "\tchain ");
		put_way(w, b);
		buf_printf(b, "_g%zu {\n", i);
		put_lookups(w, l, (uint8_t)(FIREWALL_GROUP0 + i), b);
		buf_puts(b, "\t}\n");
	}
	put_family(w, l, FIREWALL_IPV6, classes, p, b);
	put_family(w, l, FIREWALL_IPV4, classes, p, b);
	buf_puts(b, "\tchain ");
	put_way(w, b);
	buf_puts(b, " {\n\t\tmeta nfproto ipv4 goto ");
	put_way(w, b);
	buf_puts(b, "4\n\t\tgoto ");
	put_way(w, b);
	buf_puts(b, "6\n\t}\n");
}

/* ---- the table ---- */

const char *const firewall_tables[FIREWALL_TABLES] = {"nacre_firewall", "nacre_firewall2"};

/*
 * With a size, the kernel keeps the set in a hash that can't grow, which is the cheapest one to look up; without one it
 * takes a hash that can. There is one generation, and two while one takes the other's place.
 */
static void put_generation(uint32_t generation, struct buf *b) {
	buf_printf(b,
	           "\tset current {\n\t\ttype mark\n\t\tsize 2\n\t\telements = { %u }\n\t}\n"
	           "\tmap generation {\n\t\ttype nf_proto : mark\n\t\telements = { ipv4 : %u, ipv6 : %u }\n\t}\n"
	           "\tchain ok {\n\t\tct mark set meta nfproto map @generation accept\n\t}\n",
	           generation, generation, generation);
}

static void put_drop_sets(const char *direction, struct buf *b) {
	for (int digit = 4; digit <= 6; digit += 2) {
		buf_printf(b,
		           "\tset dropped_%s%d {\n\t\ttype ipv%d_addr . inet_proto . inet_service\n\t\tsize %d\n"
		           "\t\tflags dynamic,timeout\n\t\ttimeout %ds\n\t\tcounter\n\t}\n",
		           direction, digit, digit, DROPS_PORTS, FIREWALL_DROP_MS / 1000);
		buf_printf(b,
		           "\tset dropped_%s%d_other {\n\t\ttype ipv%d_addr . inet_proto\n\t\tsize %d\n"
		           "\t\tflags dynamic,timeout\n\t\ttimeout %ds\n\t\tcounter\n\t}\n",
		           direction, digit, digit, DROPS_OTHER, FIREWALL_DROP_MS / 1000);
	}
	buf_printf(b, "\tcounter dropped_%s {\n\t}\n", direction);
}

#define COMES_IN "\"" INSTNET_UPLINK "\" . \"" INSTNET_TAP "\""
#define GOES_OUT "\"" INSTNET_TAP "\" . \"" INSTNET_UPLINK "\""

/*
 * The policy is `accept`, and the last rule drops. While the kernel changes from one table to the other, a packet may
 * meet the chain of one that has no rules yet, or none any more. A packet that meets only such chains has no mark, and
 * is dropped after them, or belongs to a connection that was allowed until now: one that has been cut has none.
 *
 * A forwarded port is open to all; `dnat` also has the guest's way to its own forwards, from tap to tap.
 */
void firewall_rules_switch(const struct firewall_plan *p, size_t table, bool replaces, struct buf *b) {
	const char *name = firewall_tables[table], *other = firewall_tables[!table];

	buf_printf(b,
	           "table inet %s {\n"
	           "\tset " FIREWALL_IN_FORCE " {\n\t\ttype mark\n\t}\n"
	           "\tchain forward {\n\t\ttype filter hook forward priority filter + 10; policy accept;\n"
	           "\t\tct mark @current accept\n"
	           "\t\tct state related drop\n"
	           "\t\tct status dnat goto ok\n"
	           "\t\tiifname . oifname . ct direction vmap { " COMES_IN " . original : goto in_f, " GOES_OUT
	           " . reply : goto in_r, " GOES_OUT " . original : goto %s, " COMES_IN
	           " . reply : goto %s }\n\t\tdrop\n\t}\n}\n",
	           name, p->deny_out ? "out_f" : "ok", p->deny_out ? "out_r" : "ok");
	if (replaces)
		buf_printf(b, "flush chain inet %s forward\ndelete set inet %s " FIREWALL_IN_FORCE "\n", other, other);
}

void firewall_rules_delete(size_t table, struct buf *b) {
	buf_printf(b, "table inet %s {}\ndelete table inet %s\n", firewall_tables[table], firewall_tables[table]);
}

static void put_table(const struct firewall_plan *p, const struct groups *groups, const char *name, uint32_t generation,
                      const struct layout *l, struct classes *classes, struct buf *b) {
	buf_printf(b, "table inet %s {\n", name);
	put_generation(generation, b);
	put_drop_sets("in", b);
	put_drop_sets("out", b);
	put_maps(l, b);
	for (size_t i = 0; i < p->n_groups; i++)
		put_members(p, groups, i, &classes[i], b);
	for (int i = 0; i < (p->deny_out ? 4 : 2); i++)
		put_chains(&(struct way){.out = i / 2, .reply = i % 2}, l, classes, p, b);
	buf_puts(b, "}\n");
}

void firewall_rules(const struct firewall_plan *p, const struct groups *groups, size_t table, uint32_t generation,
                    struct buf *b) {
	_free_ struct classes *classes = calloc(FIREWALL_GROUPS_MAX, sizeof(*classes));
	_free_ const struct firewall_element **order = calloc(p->n + 1, sizeof(const struct firewall_element *));
	const struct layout l = {.v = order, .n = p->n};

	if (!classes || !order) {
		b->failed = true;
		return;
	}
	for (size_t i = 0; i < p->n; i++)
		order[i] = &p->v[i];
	if (p->n)
		qsort(order, p->n, sizeof(*order), map_order);
	firewall_rules_delete(table, b);
	put_table(p, groups, firewall_tables[table], generation, &l, classes, b);
}
