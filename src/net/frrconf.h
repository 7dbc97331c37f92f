/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model of the configuration of the two FRR daemons in a namespace. Underlay, edge and lab fill it with the typed
 * functions below; net/frr.h applies it. No other code writes FRR configuration.
 *
 * A model holds statements: lines of FRR's language, each in its context. A statement is in a context once, however
 * often it is given. The configuration that FRR applied before is read back from its text by frrconf_parse(); lines
 * that no function below makes (another version of Nacre wrote them) are kept, so that they can be removed. The order
 * of statements has no meaning, but a list or neighbor is printed before the statements that refer to it.
 *
 * Every value is checked before it becomes part of a line: no value can end the line and begin another command, or be
 * read as another word of the same command. A function that refuses a value adds nothing. The model stores the first
 * error, which names object and field, and all later calls do nothing: fill the whole model, then call frrconf_error()
 * once. frr_ensure() calls it, too. No message holds a password.
 *
 * The model owns copies of all values that it is given.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/inet.h"

enum frrconf_daemon { FRRCONF_ZEBRA, FRRCONF_BGPD, FRRCONF_DAEMONS };

/* The content of a new model. */
enum frrconf_profile {
	FRRCONF_EMPTY,       /* nothing; for text that is read back */
	FRRCONF_TRADITIONAL, /* FRR's own defaults; zebra without kernel nexthop objects */
	FRRCONF_DATACENTER,  /* as FRRCONF_TRADITIONAL, but with FRR's defaults for data centres */
};

#define FRRCONF_DEPTH_MAX 8      /* contexts in contexts */
#define FRRCONF_LINES_MAX 200000 /* lines in a model */
#define FRRCONF_NAME_MAX  63     /* characters of the name of a group or list */

struct frrconf;

int frrconf_new(struct frrconf **ret, enum frrconf_profile profile, struct error *err) _must_use_;
struct frrconf *frrconf_free(struct frrconf *c);
DEFINE_CLEANUP(frrconf, struct frrconf *, frrconf_free)
#define _frrconf_free_ _cleanup_(cleanup_frrconf)

/* Returns the first error of the functions that filled C, or 0. */
int frrconf_error(const struct frrconf *c, struct error *err) _must_use_;

/* -- BGP: lists first, then the instance, its neighbors, and what they do in address families -- */

/* Lists that neighbors refer to. A route that no entry permits is refused. SEQ is FRR's number of the entry; 0: FRR
 * numbers it. A prefix list has the family of its prefix, and matches only that prefix. */
void frrconf_prefix_list_permit(struct frrconf *c, const char *name, unsigned seq, const struct prefix *p);
/* REGEX is a POSIX 1003.2 expression for the AS path, in printable ASCII without blanks. */
void frrconf_as_path_list_permit(struct frrconf *c, const char *name, unsigned seq, const char *regex);

struct frrconf_bgp {
	uint32_t asn;         /* 1 to 4294967294 */
	uint32_t router_id;   /* not 0; printed as an IPv4 address, but it is not an address */
	uint16_t coalesce_ms; /* how long a change waits so that others can be sent with it; 0: FRR's default */
	bool any_network;     /* announce networks of frrconf_network() even while the host has no route to them */
	bool no_policy; /* exchange routes with external neighbors that have no lists (RFC 8212), which is the default
	                   of FRRCONF_DATACENTER only */
};

/* Adds the BGP instance; once per model. No family is active by default. Equal paths with different AS paths are used
 * together. */
void frrconf_bgp(struct frrconf *c, const struct frrconf_bgp *bgp);

enum frrconf_neighbor_kind {
	FRRCONF_GROUP,   /* a peer group: the common settings of its members */
	FRRCONF_DEVICE,  /* the router at the other end of a network device, unnumbered (RFC 5549) */
	FRRCONF_ADDRESS, /* the router that has an address */
};

struct frrconf_neighbor {
	enum frrconf_neighbor_kind kind;
	const char *name;                        /* name of a group, name of a device, or address in canonical form */
	uint32_t remote_asn;                     /* 1 to 4294967294, or 0: any except our own */
	uint16_t keepalive_s, hold_s, connect_s; /* hold: 3 or more, and not below keepalive; connect: 1 or more */
	bool advertise_at_once;                  /* changes are sent to this neighbor without delay */
	bool extended_nexthop;                   /* IPv4 routes may have IPv6 next hops (RFC 8950) */
	bool ttl_security;                       /* RFC 5082, directly connected */
	const char *password;                    /* net/bgp-password.h; NULL or "": none */
};

void frrconf_neighbor(struct frrconf *c, const struct frrconf_neighbor *n);
/* Adds the router at the other end of DEVICE as a neighbor with the settings of GROUP. */
void frrconf_group_member(struct frrconf *c, const char *group, const char *device);

/* In address families AF_INET and AF_INET6 (unicast): */

struct frrconf_activation {
	const char *prefix_list_in;   /* routes that are accepted; NULL: all */
	const char *as_path_list_out; /* routes that are announced; NULL: all */
	uint32_t max_prefixes;        /* a neighbor that announces more is cut off for five minutes; 0: no limit */
	bool originate_default;
};

/* Exchanges routes of FAMILY with a neighbor or group. The neighbor and the lists must be in the model. */
void frrconf_activate(struct frrconf *c, int family, const char *neighbor, const struct frrconf_activation *a);
void frrconf_network(struct frrconf *c, const struct prefix *p);
/* Sets how many equal paths are used at once, 1 to 256. */
void frrconf_paths(struct frrconf *c, int family, unsigned paths);

/* -- statements of a configuration that was read back -- */

/* The AS number of the BGP instance of C; 0: there is none. */
uint32_t frrconf_asn(const struct frrconf *c);
/*
 * Adds the neighbors of OLD that C does not have, with the settings that they have in OLD, and exchanges routes with
 * them as IPV4 and IPV6 say, whatever OLD says of that. C must have an instance with OLD's AS number, unless OLD has no
 * instance. Groups and their members are left out.
 */
void frrconf_keep_neighbors(struct frrconf *c, const struct frrconf *old, const struct frrconf_activation *ipv4,
                            const struct frrconf_activation *ipv6);
/* Adds the networks of OLD. */
void frrconf_keep_networks(struct frrconf *c, const struct frrconf *old);

/* -- text and difference -- */

/* Appends the configuration file for the daemon. Errors are those of the buffer. */
void frrconf_print(const struct frrconf *c, enum frrconf_daemon daemon, struct buf *out);

/*
 * Adds the statements of a text: one per line, one blank of indentation for each context. Blanks at the end, empty
 * lines and lines that begin with "!" or "#" are ignored. -EINVAL (with the number of the line) for a line without
 * context, with control characters, or past the limits above.
 */
int frrconf_parse(struct frrconf *c, enum frrconf_daemon daemon, const char *text, struct error *err) _must_use_;

/*
 * Appends the steps that change a daemon from OLD to NEW, one per line: "" returns to the top level, " LINE" enters a
 * context, "-LINE" runs a command that removes a statement, "+LINE" adds one. Appends nothing if the two are equal. A
 * neighbor whose first line differs is removed, which removes all its settings, and added again with all of them.
 */
int frrconf_diff(const struct frrconf *old, const struct frrconf *new, enum frrconf_daemon daemon, struct buf *out,
                 struct error *err) _must_use_;

/*
 * Appends the steps, in the same form, that make a bgpd with configuration C give zebra all its routes again. They
 * change nothing in the configuration. Appends nothing if no address family has statements.
 */
int frrconf_give_routes(const struct frrconf *c, struct buf *out, struct error *err) _must_use_;
