/* SPDX-License-Identifier: Apache-2.0 */
#include "api/edgepeer.h"

#include <string.h>

#include "api/access.h"

static int check_ifname(const char *s, struct error *err) {
	/*
	 * The names that the kernel allows (dev_valid_name(), net/core/dev.c), except those that FRR's command line
	 * would split.
	 */
	bool ok = strlen(s) <= 15 && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
	for (const char *p = s; ok && *p; p++)
		ok = (*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z') || strchr("-_.", *p);
	return ok ? 0 : error_set(err, EINVAL, "`%.40s` is not the name of a network interface", s);
}

static const struct api_format api_format_ifname = {"interface name", "^[A-Za-z0-9_.-]+$", NULL, NULL, check_ifname};
API_DEFINE(edgepeer_spec, EDGEPEER_SPEC)
API_DEFINE(edgepeer_status, EDGEPEER_STATUS)
API_DEFINE(edgepeer, EDGEPEER)

static void edgepeer_check(const void *obj, struct api_errors *errs) {
	const struct edgepeer_spec *s = ((const struct edgepeer *)obj)->spec;
	if (!s->interface == !s->address)
		api_errors_add(errs, API_INVALID, "spec", "exactly one of interface and address must be set");
}

static const struct api_rule rules[] = {
	{"spec", "has(self.interface) != has(self.address)", "exactly one of interface and address must be set"},
	{0},
};
static const char *const selectable[] = {"spec.edge", NULL};
static const struct api_column columns[] = {
	{"Edge", "string", ".spec.edge", "Host that has the session.", 0},
	{"State", "string", ".status.state", "State of the session.", 0},
	{"ASN", "integer", ".spec.remoteASN", "The router's AS number.", 0},
	{"Received", "integer", ".status.prefixesReceived", "Prefixes received.", 0},
	{"Announced", "integer", ".status.prefixesAnnounced", "Prefixes announced.", 0},
	{0},
};

static const struct api_access edgepeer_access = {
	.agents = {.whose = ACCESS_OF_EDGE, .own = "spec.edge", .reads = ACCESS_READ, .status = "*"},
};

const struct api_kind api_kind_edgepeer = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "EdgePeer",
	.plural = "edgepeers",
	.singular = "edgepeer",
	.doc = "One BGP session of an edge with a router outside.",
	.has_status = true,
	.desc = &api_desc_edgepeer,
	.access = &edgepeer_access,
	.check = edgepeer_check,
	.rules = rules,
	.columns = columns,
	.selectable_fields = selectable,
};
