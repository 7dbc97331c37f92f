/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The addresses of the members of groups: which addresses the instances have that a `peers` selector of a Firewall
 * matches (api/firewall.h). The status of an Endpoint names the groups of its instance, and its routes are the
 * instance's addresses.
 *
 * It is fed with every change of an Endpoint. Several Endpoints may have the same address: the address is in the group
 * until the last one of them is gone. Changes are numbered by one counter, and each group remembers its own last ones,
 * so that a namespace that has the state as of a number can be brought up to date by a few elements, whatever has
 * happened to other groups.
 *
 * Without memory the process ends (abort), as with the cache.
 */

#include "api/endpoint.h"
#include "base/inet.h"

#define GROUPS_CHANGES    64   /* each group remembers so many, or as many as it had members if these were more */
#define GROUPS_RING       4096 /* but no more than this */
#define GROUPS_EMPTY      1024 /* so many groups without members are remembered with their changes */
#define GROUP_ID_LEN      32   /* hex digits */
#define GROUP_CLASSES_MAX 66   /* 49 lengths of IPv6 prefixes, whole IPv4 addresses, 16 sizes of slices */

/*
 * A prefix, or an aligned slice of the ports of an IPv4 address (base/slice.h).
 *
 * Elements of one class have the same family, length and size of slices: a packet is compared with all of them by one
 * lookup. Elements are what an instance can be given: IPv6 prefixes of /60 and /64, IPv4 addresses (/32) and aligned
 * slices. Other routes give none, whoever announced them.
 */
struct group_element {
	struct prefix prefix;
	uint8_t port_bits; /* 0: all ports; otherwise the slice has 65536 >> port_bits ports, from PORT */
	uint16_t port;
};

struct groups;

int groups_new(struct groups **ret, struct error *err) _must_use_;
struct groups *groups_free(struct groups *g);

/* An Endpoint was added (OLD is NULL), changed, or deleted (NEW is NULL). */
void groups_endpoint(struct groups *g, const struct endpoint *old, const struct endpoint *new);

/* The number of the last change; 0: there was none. */
uint64_t groups_seq(const struct groups *g);

/* How many elements the group has. */
size_t groups_count(const struct groups *g, const char *id);

typedef void (*groups_fn)(const struct group_element *e, void *userdata);
/* Calls FN for each element of the group, by class: family, then prefix length, then size of slices. */
void groups_each(const struct groups *g, const char *id, groups_fn fn, void *userdata);

struct group_change {
	uint64_t seq;
	bool removed;
	struct group_element element;
};
typedef void (*groups_change_fn)(const struct group_change *c, void *userdata);
/*
 * Calls FN for each change of the group after number SINCE, in their order. 1: they are no longer all remembered, and
 * FN wasn't called.
 */
int groups_changes(const struct groups *g, const char *id, uint64_t since, groups_change_fn fn,
                   void *userdata) _must_use_;
