/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What every host of the fabric does, whatever its role: joins the underlay, follows all Endpoints and keeps the public
 * overlay equal to them (without routes of slices of ports, which balancers forward), creates and updates its Host
 * object, and renews the Lease that shows that the host is alive.
 *
 * The namespaces, FRR, routes and objects outlive the process; a restart adopts them. While the API can't be reached
 * the overlay stays as it was. While an Endpoint is not understood (kube/cache.h), routes that no other Endpoint asks
 * for stay, since they may be its own.
 */

#include <systemd/sd-event.h>

#include "api/endpoint.h"
#include "api/resources.h"
#include "base/opt.h"
#include "kube/cache.h"
#include "kube/client.h"
#include "net/overlay.h"
#include "net/underlay.h"

/* A condition of the Host object, besides Ready. */
struct fabric_condition {
	const char *type, *reason;
	bool holds;
	char message[256];
};

struct fabric_config {
	sd_event *loop;
	struct kube_client *client;
	const char *host; /* name of the Host object */
	const char *role; /* spec.role of the Host object */
	struct underlay_config underlay;
	struct resources capacity; /* for instances; 0 on others than compute hosts */
	uint32_t lease_s;          /* without renewal for so long, others consider the host dead */
	/*
	 * This host does not use default routes of other hosts' endpoints: an edge has its own, by BGP. (FRR would not
	 * install its own route next to one of ours, because it prefers routes that it finds in the kernel.)
	 */
	bool own_defaults;
	/*
	 * The device in `public` through which an endpoint of this host is reached: its name is written to OUT and
	 * returned; NULL if the endpoint is not routed here. CALLBACK NULL: no endpoint is.
	 */
	const char *(*device)(const struct endpoint *ep, char out[static 16], void *userdata);
	/*
	 * Called for each change of an Endpoint, before the overlay gets it; the cache has names only (kube/cache.h).
	 * NULL: nobody wants to know.
	 */
	void (*endpoint)(const struct kube_change *ch, void *userdata);
	/*
	 * Fills in the state of a condition that the Host object is to have; RET->type NULL: it isn't known yet. NULL:
	 * the Host has only Ready.
	 */
	void (*condition)(struct fabric_condition *ret, void *userdata);
	/* True if this host can do its work; its Host object becomes ready only then. NULL: always true. */
	bool (*able)(void *userdata);
	/* Called when the state changes: WHAT is "underlay", "overlay", ...; ERR says what is wrong; NULL: all is well
	 * again. */
	void (*state)(const char *what, const struct error *err, void *userdata);
	void *userdata;
};

struct fabric;

/*
 * Creates namespaces, NICs and the VXLAN device before it returns; FRR and the rest follow from the loop. Strings of C
 * must outlive the fabric.
 */
int fabric_new(struct fabric **ret, const struct fabric_config *c, struct error *err) _must_use_;
/* Leaves the host's kernel state, FRR and objects as they are. */
struct fabric *fabric_free(struct fabric *f);
DEFINE_CLEANUP(fabric, struct fabric *, fabric_free)

/* The namespaces; valid until the fabric is freed. */
const struct underlay *fabric_underlay(const struct fabric *f);
struct overlay *fabric_overlay(const struct fabric *f);
/* True once the overlay was given all Endpoints. */
bool fabric_synced(const struct fabric *f);
/* How many Endpoints are not understood (kube/cache.h); the overlay may lack them. */
size_t fabric_endpoints_not_understood(const struct fabric *f);
/* True once fabric_synced() holds, a look has found the underlay and FRR in order, and the Host object is correct. */
bool fabric_ready(const struct fabric *f);
/* To be called when the result of config.able() or config.condition() may have changed. */
void fabric_update(struct fabric *f);
/* uid of the Host object; "" until it is known. */
const char *fabric_host_uid(const struct fabric *f);

/* The options that all agents have. */
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
	{"nic", OPT_LIST, &(o).nics, "NAME", "network device of the underlay; moved into its namespace", 0, 0, true}, \
	{"underlay-password", OPT_STR, &(o).underlay_password, "FILE", "password of the underlay's BGP sessions (TCP-MD5): one line, mode 0600", 0, 0, false}, \
	{"underlay-max-prefixes", OPT_I64, &(o).underlay_max_prefixes, "N", "cut off an underlay neighbour for 5 minutes if it sends more prefixes", 1, 4294967295, false}, \
	{"vni", OPT_I64, &(o).vni, "N", "VXLAN network identifier of the public overlay", 1, 16777215, false}, \
	{"netns-prefix", OPT_STR, &(o).prefix, "P", "prefix of the names of network namespaces", 0, 0, false}, \
	{"run-dir", OPT_STR, &(o).run_dir, "DIR", "directory for state that lasts until the next boot", 0, 0, false}, \
	{"lease-seconds", OPT_I64, &(o).lease_s, "N", "the host counts as lost after so many seconds without a heartbeat", 3, 3600, false}
/* clang-format on */

/* Checks O and sets host, underlay and lease_s of C (strings point into O). */
int fabric_options_apply(const struct fabric_options *o, struct fabric_config *c, struct error *err) _must_use_;
