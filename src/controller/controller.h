/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The controller: one process, one loop. It runs concerns (concern.h), each of which is one file and one row of a
 * table. controller.c opens a cache for every kind that a concern watches and a work queue for every concern that
 * reconciles, and knows no concern by name. A concern compares what the caches say with what should be, and begins the
 * requests that are missing (work.h). The answers are fed back into the caches, so the next look sees them. No state is
 * kept anywhere else: the process can be killed at any time.
 *
 *   with a queue
 *     clusters     members of gangs: created, kept alike, placed together, deleted    cluster.c
 *     instances    finalizer, addresses, placement, conditions, release at the end    instance.c
 *     ipv4         slices of ports and forwards of instances that have a host         ipv4.c (slices.c)
 *     pools        finalizer, usage, overlaps                                         pools.c
 *     records      AllocationRecords that are too old or too many are deleted         records.c
 *     allocations  those past their quarantine or without an owner are deleted        allocations.c (owner.c)
 *     endpoints    those without an owner, or of a lost host, or that claim what
 *                  is not their host's, are deleted                                   endpoints.c (claims.c, owner.c)
 *     secrets      which agents may read which Secrets that instances name             secrets.c
 *     firewalls    the status of Firewalls                                            firewalls.c
 *     groups       which groups an instance is in, in the status of its Endpoint      groups.c (evaluation.c)
 *     quotas       what the instances of a namespace take together; an instance
 *                  that exceeds a TenantQuota waits                                   quota.c
 *     hosts        heartbeats, and the condition Ready of lost hosts                   hosts.c
 *   indexes, which others ask
 *     addresses    which values of a pool are free, who owns which Allocations        addresses.c (ranges.c)
 *     dns          which instances have the DNS settings of a pool                    dns.c
 *     placement    what is promised on each host                                      placement.c (fit.c)
 *     seats        hosts and values kept for instances that are being bound           seats.c
 *     gangs        members of Clusters, and why the server refused one                gang.c
 *     vteps        which Host a VTEP belongs to if two Hosts name it                  vteps.c
 *     walls        Firewalls, the instances that they select, and groups              walls.c (sums.c)
 *     room         instances and clusters that wait for room, and which of them is
 *                  looked at when something becomes free                              room.c (waiters.c)
 *
 * Who writes what in an Instance's status: the agent of the host that the instance is placed on writes phase, restarts,
 * portSlicesWanted, firewall and the conditions Ready, PortsAvailable and FirewallApplied. The controller writes
 * everything else, and Ready while the instance is not placed. Two exceptions: while the host is lost the controller
 * writes Ready=Unknown (HostLost), and with the placement itself Ready=False (Placed). The agent overwrites both with
 * what it sees. Every status patch carries the resourceVersion that it is based on, so neither undoes the other's
 * changes.
 *
 * With leader election one controller acts at a time. If two act all the same (--no-leader-election, or a leader that
 * stood still past its lease), no value is handed out twice (Allocations are named by value), and no instance is placed
 * twice or gets two values (one status patch wins by resourceVersion; the loser's Allocations are deleted again). One
 * rule needs the leader: two instances that are placed at the same moment must not overcommit a host.
 */

#include "kube/cache.h"
#include "kube/event.h"
#include "kube/lease.h"

struct controller;

struct controller_options {
	struct kube_access access;
	const char *identity;
	bool no_election;
	int64_t lease_ms, deadline_ms, retry_ms;
	int64_t host_grace_s; /* for hosts whose lease names no duration */
};

int controller_new(struct controller **ret, sd_event *loop, const struct controller_options *o,
                   struct error *err) _must_use_;
struct controller *controller_free(struct controller *c);
DEFINE_CLEANUP(controller, struct controller *, controller_free)
bool controller_ready(void *c); /* all caches are filled */

/* ---- what concerns ask of it ---- */

/* The cache of a kind that some concern watches; any other kind ends the process (abort). */
struct kube_cache *controller_cache(const struct controller *c, const struct api_kind *k);
sd_event *controller_loop(const struct controller *c);
struct kube_client *controller_client(const struct controller *c);
struct kube_recorder *controller_recorder(const struct controller *c);
/* True while this controller may write: all caches are filled, and it leads by its own clock. */
bool controller_may_act(const struct controller *c);
