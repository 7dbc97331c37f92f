/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What every host of the fabric does, compute or edge: joins the underlay, follows all Endpoints and keeps the public
 * overlay equal to them, registers its Host object, and renews the Lease that says it lives.
 *
 * The namespaces, FRR, routes and objects outlive the process; a restart adopts them. While the API is away the
 * overlay stays as it was.
 */

#include <systemd/sd-event.h>

#include "api/endpoint.h"
#include "api/resources.h"
#include "base/opt.h"
#include "kube/client.h"
#include "net/overlay.h"
#include "net/underlay.h"

struct fabric_config {
	sd_event *loop;
	struct kube_client *client;
	const char *host; /* name of the Host object */
	const char *role; /* "compute" or "edge" */
	struct underlay_config underlay;
	struct resources capacity; /* for instances; 0 on an edge */
	uint32_t lease_s;          /* others take the host for dead after so long without a renewal */
	/*
	 * Default routes of other hosts' endpoints are not for this one: an edge has its own, by BGP. (FRR would not
	 * even install it next to one of ours, for it prefers what it finds in the kernel.)
	 */
	bool own_defaults;
	/*
	 * Where an endpoint of this host hangs: the name of its device in `public`, written to OUT and returned;
	 * NULL if it isn't routed here. CALLBACK NULL: none is.
	 */
	const char *(*device)(const struct endpoint *ep, char out[static 16], void *userdata);
	/* Is this host able to do its work, besides? Only then it says so in its Host object. NULL: it always is. */
	bool (*able)(void *userdata);
	/* What is the matter (WHAT: "underlay", "overlay", ...), once a change; ERR NULL: all is well again. */
	void (*state)(const char *what, const struct error *err, void *userdata);
	void *userdata;
};

struct fabric;

/*
 * Namespaces, NICs and the VXLAN device are there when it returns; FRR and the rest follow from the loop. Strings of C
 * must outlive the fabric.
 */
int fabric_new(struct fabric **ret, const struct fabric_config *c, struct error *err) _must_use_;
/* Leaves the host as it is. */
struct fabric *fabric_free(struct fabric *f);
DEFINE_CLEANUP(fabric, struct fabric *, fabric_free)

/* The namespaces; valid as long as the fabric. */
const struct underlay *fabric_underlay(const struct fabric *f);
struct overlay *fabric_overlay(const struct fabric *f);
/* The overlay was given all Endpoints there are. */
bool fabric_synced(const struct fabric *f);
/* Besides, a look has found the underlay well, FRR included, and the Host object is as it should be. */
bool fabric_ready(const struct fabric *f);
/* What config.able() says may have changed. */
void fabric_update(struct fabric *f);
/* uid of the Host object, "" until it is known. */
const char *fabric_host_uid(const struct fabric *f);

/* The options that all agents share. */
struct fabric_options {
	struct kube_access access;
	const char *host, *vtep, *prefix, *run_dir;
	struct opt_list nics;
	const char *underlay_password;
	int64_t asn, vni, lease_s, underlay_max_prefixes;
};
#define FABRIC_OPTIONS_DEFAULT \
	{ .prefix = "", .run_dir = "/run/nacre", .vni = 4096, .lease_s = 15, }
/* clang-format off */
#define FABRIC_OPTIONS(o) \
	KUBE_ACCESS_OPTIONS((o).access), \
	{"host", OPT_STR, &(o).host, "NAME", "name of this host", 0, 0, true}, \
	{"vtep", OPT_STR, &(o).vtep, "ADDRESS", "IPv6 address of the host's tunnel endpoint", 0, 0, true}, \
	{"asn", OPT_I64, &(o).asn, "N", "AS number of the host in the underlay", 1, 4294967294, true}, \
	{"nic", OPT_LIST, &(o).nics, "NAME", "network device of the underlay, moved there", 0, 0, true}, \
	{"underlay-password", OPT_STR, &(o).underlay_password, "FILE", "password of the underlay's BGP sessions (TCP-MD5): one line, mode 0600", 0, 0, false}, \
	{"underlay-max-prefixes", OPT_I64, &(o).underlay_max_prefixes, "N", "cut a neighbour of the underlay off for 5 minutes that sends more prefixes", 1, 4294967295, false}, \
	{"vni", OPT_I64, &(o).vni, "N", "VXLAN network identifier of the public overlay", 1, 16777215, false}, \
	{"netns-prefix", OPT_STR, &(o).prefix, "P", "put before the names of network namespaces", 0, 0, false}, \
	{"run-dir", OPT_STR, &(o).run_dir, "DIR", "directory for what lasts until the next boot", 0, 0, false}, \
	{"lease-seconds", OPT_I64, &(o).lease_s, "N", "the host counts as lost after so long without a sign of life", 3, 3600, false}
/* clang-format on */

/* Checks O and fills host, underlay and lease_s of C (strings point into O). */
int fabric_options_apply(const struct fabric_options *o, struct fabric_config *c, struct error *err) _must_use_;
