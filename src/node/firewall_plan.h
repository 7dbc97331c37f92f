/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The rules of an instance as elements of maps: the first step of node/firewall_rules.c. An element says that
 * connections of one protocol are allowed, to a range of ports, with the addresses of a prefix or the members of a
 * group.
 *
 * The kernel refuses elements of one map that overlap in part, such as ports 1 to 100 of ::/0 and ports 50 to 150 of
 * 2001:db8::/32. So an element that lies within another one is left out, and one that overlaps another in part goes
 * into another map, the next layer.
 *
 * Elements of one port each, if there are many whose prefixes have the same length, are in a map of hashes: its lookup
 * costs the same whatever their number is, while that of a map of intervals costs more with each element.
 */

#include <stdint.h>

#include "node/firewall.h"

/* What an element compares the address of a packet with. */
enum { FIREWALL_IPV6, FIREWALL_IPV4, FIREWALL_GROUP0 };

#define FIREWALL_OWN 0 /* the owner of the elements of the instance's spec.ingress */
#define FIREWALL_ANY 0 /* the protocol of an element that is for all protocols */

/*
 * So many elements of one port, with prefixes of one length, have a map of hashes. Each such map costs a packet about
 * as much as so many elements in a map of intervals do.
 */
#define FIREWALL_HASHED_MIN 256
#define FIREWALL_LENGTHS    129 /* lengths that a prefix may have */

struct firewall_element {
	bool out;
	uint8_t target;   /* FIREWALL_IPV6, FIREWALL_IPV4, or FIREWALL_GROUP0 and the number of the group */
	uint8_t protocol; /* IPPROTO_*, or FIREWALL_ANY */
	uint8_t owner;    /* FIREWALL_OWN, or 1 and the place of the Firewall in `attached` */
	uint8_t layer;
	bool hashed;          /* it is in the map of its prefix's length, not in that of its layer */
	uint16_t first, last; /* destination ports; ICMP: types; without meaning for FIREWALL_ANY */
	uint32_t rule;        /* its place in the list that it comes from */
	struct prefix prefix; /* of groups: all zero */
};

struct firewall_plan {
	bool deny_out;
	uint32_t limited, deep, crowded; /* as in struct firewall_state */
	size_t n;                        /* in order of direction, target, protocol and prefix */
	struct firewall_element *v;
	size_t n_groups;
	char groups[FIREWALL_GROUPS_MAX][GROUP_ID_LEN + 1]; /* in order of id; their numbers are their places */
};

/*
 * Makes the plan. The time grows with the number of elements, times the depth of nested prefixes. The caller frees it
 * with firewall_plan_done().
 */
int firewall_plan(const struct instnet_spec *spec, const struct firewall_attached *attached, struct firewall_plan *ret,
                  struct error *err) _must_use_;
/* The same without the elements: which Firewalls are within the limits, and their groups. */
int firewall_plan_groups(const struct firewall_attached *attached, struct firewall_plan *ret,
                         struct error *err) _must_use_;
void firewall_plan_done(struct firewall_plan *p);

/*
 * The sizes of the first N Firewalls, FIREWALL_ATTACHED_MAX at most, in V; those that are not known already are
 * measured. The caller frees what was measured with firewall_sizes_done(), after a failure, too. 0 or -ENOMEM.
 */
struct firewall_sizes {
	size_t n;
	const struct firewall_size *v[FIREWALL_ATTACHED_MAX];
	struct firewall_size measured[FIREWALL_ATTACHED_MAX];
};
int firewall_sizes(const struct firewall_attached *attached, struct firewall_sizes *ret) _must_use_;
void firewall_sizes_done(struct firewall_sizes *s);

/* The number of the group; -1: no rule uses it. */
int firewall_plan_group(const struct firewall_plan *p, const char *id);
