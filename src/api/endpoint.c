/* SPDX-License-Identifier: Apache-2.0 */
#include "api/endpoint.h"

#include <string.h>

#include "base/inet.h"
#include "base/util.h"

API_DEFINE(endpoint_route, ENDPOINT_ROUTE)
API_DEFINE(endpoint_spec, ENDPOINT_SPEC)
API_DEFINE(endpoint, ENDPOINT)

static const char *const short_names[] = {"ep", NULL};
static const char *const selectable[] = {"spec.host", NULL};
static const struct api_column columns[] = {
	{"Host", "string", ".spec.host", "Host that it is on.", 0},
	{"IP", "string", ".spec.ip", "Address in the overlay.", 0},
	{"Routes", "string", ".spec.routes[*].prefix", "What is reached through it.", 0},
	{"VTEP", "string", ".spec.vtep", "Tunnel endpoint of the host.", 1},
	{"MAC", "string", ".spec.mac", "MAC in the overlay.", 1},
	{0},
};

const struct api_kind api_kind_endpoint = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Endpoint",
	.plural = "endpoints",
	.singular = "endpoint",
	.short_names = short_names,
	.doc = "One thing that sits in the public overlay and the prefixes reached through it.",
	.desc = &api_desc_endpoint,
	.max_bytes = ENDPOINT_MAX,
	.columns = columns,
	.selectable_fields = selectable,
};

bool endpoint_name_is_own(const struct endpoint *e) {
	const struct api_object_ref *o = e->spec->owner;
	const char *id =
		starts_with(e->meta.name, ENDPOINT_OF_INSTANCE) ? e->meta.name + strlen(ENDPOINT_OF_INSTANCE) : NULL;
	const char *edge = starts_with(e->meta.name, ENDPOINT_OF_EDGE) ? e->meta.name + strlen(ENDPOINT_OF_EDGE) : NULL;
	if (id || (o && streq(o->kind, "Instance")))
		return id && o && streq(o->kind, "Instance") && streq(o->uid, id);
	return !edge || (!o && streq(e->spec->host, edge));
}
