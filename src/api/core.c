/* SPDX-License-Identifier: Apache-2.0 */
#include "api/core.h"

#include "api/access.h"
#include "api/roles.h"
#include "base/util.h"

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
	{"Last Seen", "date", ".lastTimestamp", "When it last happened.", 0},
	{"Type", "string", ".type", "Normal or Warning.", 0},
	{"Reason", "string", ".reason", "One word.", 0},
	{"Object", "string", ".involvedObject.name", "Object that the Event is about.", 0},
	{"Message", "string", ".message", "A sentence.", 0},
	{"Count", "integer", ".count", "How often.", 1},
	{0},
};
static const struct api_column lease_columns[] = {
	{"Holder", "string", ".spec.holderIdentity", "Identity of the holder.", 0},
	{0},
};

static const struct access_grant namespace_grants[] = {
	{ACCESS_KUBE_VIEW, ". status", ACCESS_READ},
	{0},
};
static const struct api_access namespace_access = {.grants = namespace_grants};

const struct api_kind api_kind_namespace = {
	.group = "",
	.version = "v1",
	.kind = "Namespace",
	.plural = "namespaces",
	.singular = "namespace",
	.short_names = namespace_short,
	.doc = "A tenant: a scope for names and access rights.",
	.has_status = true,
	.name_format = &api_format_label,
	.desc = &api_desc_namespace_,
	.access = &namespace_access,
	.columns = namespace_columns,
};

static const struct access_grant event_grants[] = {
	{ACCESS_CONTROLLER, ".", "create update patch"},
	{ACCESS_TENANT_EDIT, ".", ACCESS_READ},
	{ACCESS_KUBE_VIEW, ".", ACCESS_READ},
	{ACCESS_KUBE_EDIT, ".", ACCESS_WRITE},
	{0},
};

/* Returns the kind that an Event is about; NULL: this agent writes the status of no such kind. */
static const struct api_kind *involved_kind(const struct access_write *w) {
	const char *kind = access_string(w->obj, "involvedObject.kind");
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		const struct access_agents *g = access_agents(*k, w->agent->whose);
		if (streq((*k)->kind, kind) && g && g->status)
			return *k;
	}
	return NULL;
}

static int check_kind(const struct access_write *w, struct error *err) {
	const char *kind = access_string(w->obj, "involvedObject.kind");
	if (involved_kind(w))
		return 0;
	return error_set(err, EPERM,
	                 "%s %s may record Events only about objects whose status it writes: not about %.63s",
	                 w->agent->what, w->agent->host, kind ? kind : "?");
}

/* Here and in check_place(), an Event about another kind is allowed: check_kind() refuses it. */
static int check_involved(const struct access_write *w, struct error *err) {
	const struct access_agent *a = w->agent;
	const struct api_kind *k = involved_kind(w);
	const char *ns = access_string(w->obj, "involvedObject.namespace");
	const char *name = access_string(w->obj, "involvedObject.name");
	const char *uid = access_string(w->obj, "involvedObject.uid");
	if (!k)
		return 0;
	json_t *about = w->load(w->store, k, k->namespaced ? ns : "", name);
	const bool fits = access_is_own(access_agents(k, a->whose), a, about) &&
	                  (!uid || !*uid || streq(uid, access_string(about, "metadata.uid")));
	json_decref(about);
	if (fits)
		return 0;
	return error_set(err, EPERM,
	                 "%s %s may record Events only about its own objects that exist: not about %s %.253s", a->what,
	                 a->host, k->kind, name ? name : "?");
}

static int check_place(const struct access_write *w, struct error *err) {
	const struct api_kind *k = involved_kind(w);
	const char *ns = access_string(w->obj, "involvedObject.namespace");
	if (!k)
		return 0;
	if (!k->namespaced && ns && *ns)
		return error_set(err, EPERM, "involvedObject.namespace must be empty: a %s has no namespace", k->kind);
	/* kube_event() and client-go put Events about cluster-scoped objects there. */
	const char *place = k->namespaced ? ns : "default";
	if (place && streq(w->ns, place))
		return 0;
	return error_set(err, EPERM, "an Event about this %s must be in namespace %.63s", k->kind, place ? place : "?");
}

/* Returns the name of a string in OBJ with more than MAX bytes; NULL: there is none. */
static const char *long_string(const json_t *obj, size_t max) {
	const char *name;
	json_t *v;
	json_object_foreach((json_t *)obj, name, v) {
		if (json_string_length(v) > max)
			return name;
	}
	return NULL;
}

static int check_short(const struct access_write *w, struct error *err) {
	const char *name = long_string(w->obj, 1024);
	if (name)
		return error_set(err, EPERM, "its %.63s has more than 1024 bytes", name);
	if ((name = long_string(json_object_get(w->obj, "involvedObject"), 253)))
		return error_set(err, EPERM, "its involvedObject.%.63s has more than 253 bytes", name);
	if (json_is_object(json_object_get(w->obj, "related")))
		return error_set(err, EPERM, "an Event of an agent is about one object: it may not have related");
	return 0;
}

/* A policy can't look up whether the object exists, nor whom it belongs to unless the name shows it. */
static const struct access_rule event_rules[] = {
	{ACCESS_OF_ALL, "may record Events only about its Host and objects whose status it writes", check_kind,
         "variables.states.all(o, o.involvedObject.kind in variables.reports && "
         "(!(o.involvedObject.kind in variables.named) || o.involvedObject.name == variables.host))"},
	{ACCESS_OF_ALL,
         "may record Events only about objects that exist and are its own, and have the uid if one is given",
         check_involved, NULL},
	{ACCESS_OF_ALL, "must record an Event in the namespace of its object, or in default if the object has none",
         check_place,
         "object.involvedObject.kind in variables.namespaced ? has(object.involvedObject.namespace) && "
         "request.namespace == object.involvedObject.namespace : request.namespace == 'default' && "
         "(!has(object.involvedObject.namespace) || object.involvedObject.namespace == '')"},
	{ACCESS_OF_ALL, "may record only short Events, about one object", check_short,
         "['message', 'reason', 'type', 'action', 'reportingComponent', 'reportingInstance'].all(k, "
         "!(k in object) || size(bytes(object[k])) <= 1024) && !has(object.related) && "
         "object.involvedObject.all(k, size(bytes(object.involvedObject[k])) <= 253)"},
	{0},
};
static const struct api_access event_access = {
	.grants = event_grants,
	.agents = {.whose = ACCESS_OF_ALL,
                   .own = "source.host",
                   .creates = "*",
                   .updates = "*",
                   .max_bytes = ACCESS_SMALL,
                   .counts = true,
                   .rules = event_rules},
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
	.access = &event_access,
	.columns = event_columns,
	.selectable_fields = event_selectable,
};

static const struct access_grant lease_grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " create update patch delete", ROLES_SYSTEM_NS},
	{ACCESS_KUBE_EDIT, ".", ACCESS_READ " " ACCESS_WRITE},
	{0},
};

static int check_values(const struct access_write *w, struct error *err) {
	const char *name = long_string(json_object_get(w->obj, "spec"), 253);
	return name ? error_set(err, EPERM, "its spec.%.63s has more than 253 bytes", name) : 0;
}

static const struct access_rule lease_rules[] = {
	{ACCESS_OF_ALL, "may write no value in the spec of its Lease with more than 253 bytes", check_values,
         "object.spec.all(k, size(bytes(string(object.spec[k]))) <= 253)"},
	{0},
};
static const struct api_access lease_access = {
	.grants = lease_grants,
	.agents = {.whose = ACCESS_OF_ALL,
                   .own = "metadata.name",
                   .own_prefix = "host-",
                   .ns = ROLES_SYSTEM_NS,
                   .reads = "get",
                   .creates = "*",
                   .updates = "*",
                   .max_bytes = ACCESS_SMALL,
                   .rules = lease_rules},
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
	.access = &lease_access,
	.columns = lease_columns,
};
