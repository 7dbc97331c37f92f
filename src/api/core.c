/* SPDX-License-Identifier: Apache-2.0 */
#include "api/core.h"

API_DEFINE_OPEN(namespace_spec, NAMESPACE_SPEC, true)
API_DEFINE_OPEN(namespace_status, NAMESPACE_STATUS, true)
API_DEFINE_OPEN(namespace_, NAMESPACE, true)
API_DEFINE_OPEN(event_ref, EVENT_REF, true)
API_DEFINE_OPEN(event_source, EVENT_SOURCE, true)
API_DEFINE_OPEN(event, EVENT, true)
API_DEFINE_OPEN(lease_spec, LEASE_SPEC, true)
API_DEFINE_OPEN(lease, LEASE, true)

static const char *const namespace_short[] = {"ns", NULL};
static const char *const event_short[] = {"ev", NULL};
static const char *const event_selectable[] = {"involvedObject.kind",
                                               "involvedObject.namespace",
                                               "involvedObject.name",
                                               "involvedObject.uid",
                                               "involvedObject.apiVersion",
                                               "involvedObject.resourceVersion",
                                               "involvedObject.fieldPath",
                                               "reason",
                                               "reportingComponent",
                                               "type",
                                               NULL};
static const struct api_column namespace_columns[] = {
	{"Status", "string", ".status.phase", "Active or Terminating.", 0},
	{0},
};
static const struct api_column event_columns[] = {
	{"Last Seen", "date", ".lastTimestamp", "When it was last seen.", 0},
	{"Type", "string", ".type", "Normal or Warning.", 0},
	{"Reason", "string", ".reason", "One word.", 0},
	{"Object", "string", ".involvedObject.name", "What it is about.", 0},
	{"Message", "string", ".message", "A sentence.", 0},
	{"Count", "integer", ".count", "How often.", 1},
	{0},
};
static const struct api_column lease_columns[] = {
	{"Holder", "string", ".spec.holderIdentity", "Who holds it.", 0},
	{0},
};

const struct api_kind api_kind_namespace = {
	.group = "",
	.version = "v1",
	.kind = "Namespace",
	.plural = "namespaces",
	.singular = "namespace",
	.short_names = namespace_short,
	.doc = "A tenant: a scope for names and rights.",
	.has_status = true,
	.name_format = &api_format_label,
	.desc = &api_desc_namespace_,
	.columns = namespace_columns,
};

const struct api_kind api_kind_event = {
	.group = "",
	.version = "v1",
	.kind = "Event",
	.plural = "events",
	.singular = "event",
	.short_names = event_short,
	.doc = "Something that happened to an object.",
	.namespaced = true,
	.desc = &api_desc_event,
	.columns = event_columns,
	.selectable_fields = event_selectable,
};

const struct api_kind api_kind_lease = {
	.group = "coordination.k8s.io",
	.version = "v1",
	.kind = "Lease",
	.plural = "leases",
	.singular = "lease",
	.doc = "A lock or heartbeat that must be renewed.",
	.namespaced = true,
	.desc = &api_desc_lease,
	.columns = lease_columns,
};
