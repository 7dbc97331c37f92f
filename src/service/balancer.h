/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The balancer of a host: an XDP program on the NICs of `underlay` (bpf/balancer.bpf.c) that sends packets for shared
 * IPv4 addresses on to the hosts of the slices' owners, and the tables that it reads.
 *
 * Program and tables live in the kernel as long as the program is attached to a NIC. They outlive this process, and the
 * next one adopts them, so that a restart or an upgrade loses no packet, wherever the process ended:
 *
 * - balancer_open() finds the tables of the attached program. If there are none, or their layout is that of another
 *   version, it makes empty ones, and the attached program goes on with its own.
 * - balancer_begin(), balancer_set()…, balancer_end(): all that is known. What isn't set in between is removed.
 * - balancer_attach() attaches the program to a NIC, or atomically replaces the older one. To be called only after the
 *   tables are complete, and again at any time (a NIC came, or lost its program).
 * - balancer_set(), balancer_clear()…: single changes from now on.
 *
 * One process at a time may write a host's tables; the caller sees to that (a lock). No function may be called from two
 * threads at once. balancer_open(), balancer_attach() and balancer_detach() take some 10 ms. The others are quick, with
 * one exception: when memory that was in use is to be used again, a call waits until all running programs have ended
 * (RCU, 10 to 50 ms). That is so when the tables are nearly full, or ten thousands of hosts or addresses have gone.
 *
 * A function that fails has changed nothing, unless it says otherwise. Limits are in bpf/balancer.h; an error names the
 * limit (-ENOSPC). Needs Linux 6.1 or newer, CAP_SYS_ADMIN (tables are found by their numbers) and CAP_NET_ADMIN.
 */

#include "base/slice.h"
#include "bpf/balancer.h"

struct balancer;

struct balancer_config {
	int netns_fd;            /* `underlay`; the table keeps a duplicate */
	const char *const *nics; /* where an attached program may be; only used by balancer_open() */
	size_t n_nics;           /* a NIC that doesn't exist is skipped */
	struct addr vtep;        /* of this host, IPv6 */
	uint32_t vni;            /* of the public overlay */
};

int balancer_open(struct balancer **ret, const struct balancer_config *c, struct error *err) _must_use_;
/* Leaves the kernel as it is: if the program is attached, it goes on. */
struct balancer *balancer_free(struct balancer *b);
DEFINE_CLEANUP(balancer, struct balancer *, balancer_free)
#define _balancer_free_ _cleanup_(cleanup_balancer)
/* Whether the tables are those of a program that was attached. */
bool balancer_is_adopted(const struct balancer *b);

/*
 * A packet to an address in one of these prefixes is never passed to the host's own stack, which would send it back to
 * an edge: if no slice has its port it is dropped. Put all prefixes of all shared pools. Putting one again changes
 * nothing.
 */
int balancer_set_prefix(struct balancer *b, const struct prefix *p, struct error *err) _must_use_;
/* Succeeds if it is not there. Slices in it stay, and packets to their addresses are still treated as above. */
int balancer_clear_prefix(struct balancer *b, const struct prefix *p, struct error *err) _must_use_;

/* Where packets of a slice go: a host, and there the device with this MAC. */
struct balancer_endpoint {
	struct addr vtep; /* IPv6 */
	struct mac mac;
};

/*
 * Gives the ports of the slice to the endpoint, whoever had them. Each port changes from one owner to the other at
 * once; a packet meanwhile goes to one of them. -EINVAL: the slice isn't aligned, or the MAC is that of the VTEP's
 * router, to which packets could go round in circles.
 */
int balancer_set(struct balancer *b, const struct slice *s, const struct balancer_endpoint *e,
                 struct error *err) _must_use_;
/* Nobody has the ports of the slice any more. Succeeds if nobody had them. The slice must be aligned (-EINVAL). */
int balancer_clear(struct balancer *b, const struct slice *s, struct error *err) _must_use_;

/*
 * From balancer_begin() to balancer_end() the caller sets all prefixes and slices that there are. balancer_end()
 * removes, port by port, what was not set. Until then what was there before still works. A second balancer_begin()
 * begins anew. If balancer_end() fails it has removed a part, and can be called again.
 */
void balancer_begin(struct balancer *b);
int balancer_end(struct balancer *b, struct error *err) _must_use_;

enum balancer_mode {
	BALANCER_NATIVE,  /* in the driver */
	BALANCER_GENERIC, /* in the stack, before everything else: slower, works on every device */
};
const char *balancer_mode_name(enum balancer_mode mode); /* "native", "generic" */

/*
 * Makes the program run on the NIC. WANT is the mode for a NIC that has none yet: BALANCER_NATIVE falls back to generic
 * where the driver can't; *RET_MODE (may be NULL) says what it has become. A NIC that has an older program keeps its
 * mode, because the mode can't be changed without a gap. -EBUSY: the NIC has the XDP program of somebody else, which
 * stays. -ENODEV: there is no such NIC.
 *
 * On a veth want BALANCER_GENERIC: in native mode a veth sends packets only to a peer that has an XDP program, too, and
 * forgets that the checksum of a packet from the same machine isn't complete yet.
 */
int balancer_attach(struct balancer *b, const char *nic, enum balancer_mode want, enum balancer_mode *ret_mode,
                    struct error *err) _must_use_;
/* Takes the program, of whatever version, off the NIC. Succeeds if it isn't there or the NIC doesn't exist; leaves
 * programs of others. Once no NIC has it and B is freed the tables are gone. */
int balancer_detach(struct balancer *b, const char *nic, struct error *err);

struct balancer_stats {
	uint64_t packets[BALANCER_COUNTERS]; /* since the tables were made */
	size_t prefixes, addresses, hosts;
	size_t groups;     /* groups of ports that have an owner */
	size_t group_room; /* groups for which there is memory in the table, of BALANCER_OWNERS */
};
int balancer_stats(const struct balancer *b, struct balancer_stats *ret, struct error *err) _must_use_;
/* "forwarded", "local", "no_owner", "fragment", … */
const char *balancer_counter_name(enum balancer_counter c);
/* A descriptor of the loaded program, which belongs to B. For tests and benchmarks. */
int balancer_program(const struct balancer *b);
