/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/protobuf.h"

#include <string.h>

#include "base/base64.h"
#include "base/util.h"

#define FIELDS_MAX 4096 /* in one message and all messages in it */

enum pb_type {
	PB_STRING,
	PB_STRINGS,
	PB_INT,
	PB_BOOL,
	PB_TIME,      /* a message of seconds and nanoseconds */
	PB_MICROTIME, /* the same, printed with microseconds */
	PB_MESSAGE,
	PB_MESSAGES,
	PB_MAP,      /* of strings */
	PB_BYTES,    /* a map of bytes: base64 in JSON */
	PB_MULTIMAP, /* a map of messages whose field 1 is strings: lists in JSON */
};

struct pb_field {
	uint32_t number; /* 0 ends a table */
	enum pb_type type;
	const char *name;
	const struct pb_field *sub;
};

static const struct pb_field owner_reference[] = {
	{1, PB_STRING, "kind", NULL},
	{3, PB_STRING, "name", NULL},
	{4, PB_STRING, "uid", NULL},
	{5, PB_STRING, "apiVersion", NULL},
	{6, PB_BOOL, "controller", NULL},
	{7, PB_BOOL, "blockOwnerDeletion", NULL},
	{0},
};
/* Fields that the server sets itself (times, generation, managedFields) are skipped. */
static const struct pb_field object_meta[] = {
	{1, PB_STRING, "name", NULL},
	{2, PB_STRING, "generateName", NULL},
	{3, PB_STRING, "namespace", NULL},
	{5, PB_STRING, "uid", NULL},
	{6, PB_STRING, "resourceVersion", NULL},
	{11, PB_MAP, "labels", NULL},
	{12, PB_MAP, "annotations", NULL},
	{13, PB_MESSAGES, "ownerReferences", owner_reference},
	{14, PB_STRINGS, "finalizers", NULL},
	{0},
};
static const struct pb_field namespace_spec[] = {{1, PB_STRINGS, "finalizers", NULL}, {0}};
static const struct pb_field namespace_status[] = {{1, PB_STRING, "phase", NULL}, {0}};
static const struct pb_field namespace_fields[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGE, "spec", namespace_spec},
	{3, PB_MESSAGE, "status", namespace_status},
	{0},
};
static const struct pb_field preconditions[] = {
	{1, PB_STRING, "uid", NULL},
	{2, PB_STRING, "resourceVersion", NULL},
	{0},
};
static const struct pb_field delete_options[] = {
	{1, PB_INT, "gracePeriodSeconds", NULL}, {2, PB_MESSAGE, "preconditions", preconditions},
	{3, PB_BOOL, "orphanDependents", NULL},  {4, PB_STRING, "propagationPolicy", NULL},
	{5, PB_STRINGS, "dryRun", NULL},         {0},
};

static const struct pb_field policy_rule[] = {
	{1, PB_STRINGS, "verbs", NULL},           {2, PB_STRINGS, "apiGroups", NULL},
	{3, PB_STRINGS, "resources", NULL},       {4, PB_STRINGS, "resourceNames", NULL},
	{5, PB_STRINGS, "nonResourceURLs", NULL}, {0},
};
static const struct pb_field selector_term[] = {
	{1, PB_STRING, "key", NULL},
	{2, PB_STRING, "operator", NULL},
	{3, PB_STRINGS, "values", NULL},
	{0},
};
static const struct pb_field label_selector[] = {
	{1, PB_MAP, "matchLabels", NULL},
	{2, PB_MESSAGES, "matchExpressions", selector_term},
	{0},
};
static const struct pb_field aggregation_rule[] = {
	{1, PB_MESSAGES, "clusterRoleSelectors", label_selector},
	{0},
};
static const struct pb_field role[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGES, "rules", policy_rule},
	{3, PB_MESSAGE, "aggregationRule", aggregation_rule}, /* of a ClusterRole */
	{0},
};
static const struct pb_field subject[] = {
	{1, PB_STRING, "kind", NULL},
	{2, PB_STRING, "apiGroup", NULL},
	{3, PB_STRING, "name", NULL},
	{4, PB_STRING, "namespace", NULL},
	{0},
};
static const struct pb_field role_ref[] = {
	{1, PB_STRING, "apiGroup", NULL},
	{2, PB_STRING, "kind", NULL},
	{3, PB_STRING, "name", NULL},
	{0},
};
static const struct pb_field role_binding[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGES, "subjects", subject},
	{3, PB_MESSAGE, "roleRef", role_ref},
	{0},
};
static const struct pb_field secret[] = {
	{1, PB_MESSAGE, "metadata", object_meta}, {2, PB_BYTES, "data", NULL},     {3, PB_STRING, "type", NULL},
	{4, PB_MAP, "stringData", NULL},          {5, PB_BOOL, "immutable", NULL}, {0},
};
static const struct pb_field config_map[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MAP, "data", NULL},
	{3, PB_BYTES, "binaryData", NULL},
	{4, PB_BOOL, "immutable", NULL},
	{0},
};
static const struct pb_field object_ref[] = {
	{1, PB_STRING, "kind", NULL},       {2, PB_STRING, "namespace", NULL},
	{3, PB_STRING, "name", NULL},       {4, PB_STRING, "uid", NULL},
	{5, PB_STRING, "apiVersion", NULL}, {6, PB_STRING, "resourceVersion", NULL},
	{7, PB_STRING, "fieldPath", NULL},  {0},
};
static const struct pb_field local_ref[] = {{1, PB_STRING, "name", NULL}, {0}};
static const struct pb_field service_account[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGES, "secrets", object_ref},
	{3, PB_MESSAGES, "imagePullSecrets", local_ref},
	{4, PB_BOOL, "automountServiceAccountToken", NULL},
	{0},
};
static const struct pb_field event_source[] = {
	{1, PB_STRING, "component", NULL},
	{2, PB_STRING, "host", NULL},
	{0},
};
static const struct pb_field event_series[] = {
	{1, PB_INT, "count", NULL},
	{2, PB_MICROTIME, "lastObservedTime", NULL},
	{0},
};
static const struct pb_field event[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGE, "involvedObject", object_ref},
	{3, PB_STRING, "reason", NULL},
	{4, PB_STRING, "message", NULL},
	{5, PB_MESSAGE, "source", event_source},
	{6, PB_TIME, "firstTimestamp", NULL},
	{7, PB_TIME, "lastTimestamp", NULL},
	{8, PB_INT, "count", NULL},
	{9, PB_STRING, "type", NULL},
	{10, PB_MICROTIME, "eventTime", NULL},
	{11, PB_MESSAGE, "series", event_series},
	{12, PB_STRING, "action", NULL},
	{13, PB_MESSAGE, "related", object_ref},
	{14, PB_STRING, "reportingComponent", NULL},
	{15, PB_STRING, "reportingInstance", NULL},
	{0},
};
static const struct pb_field lease_spec[] = {
	{1, PB_STRING, "holderIdentity", NULL},  {2, PB_INT, "leaseDurationSeconds", NULL},
	{3, PB_MICROTIME, "acquireTime", NULL},  {4, PB_MICROTIME, "renewTime", NULL},
	{5, PB_INT, "leaseTransitions", NULL},   {6, PB_STRING, "strategy", NULL},
	{7, PB_STRING, "preferredHolder", NULL}, {0},
};
static const struct pb_field lease[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGE, "spec", lease_spec},
	{0},
};
static const struct pb_field resource_attributes[] = {
	{1, PB_STRING, "namespace", NULL}, {2, PB_STRING, "verb", NULL},
	{3, PB_STRING, "group", NULL},     {4, PB_STRING, "version", NULL},
	{5, PB_STRING, "resource", NULL},  {6, PB_STRING, "subresource", NULL},
	{7, PB_STRING, "name", NULL},      {0},
};
static const struct pb_field url_attributes[] = {
	{1, PB_STRING, "path", NULL},
	{2, PB_STRING, "verb", NULL},
	{0},
};
/* A SelfSubjectAccessReview has only the first two. */
static const struct pb_field access_spec[] = {
	{1, PB_MESSAGE, "resourceAttributes", resource_attributes},
	{2, PB_MESSAGE, "nonResourceAttributes", url_attributes},
	{3, PB_STRING, "user", NULL},
	{4, PB_STRINGS, "groups", NULL},
	{5, PB_MULTIMAP, "extra", NULL},
	{6, PB_STRING, "uid", NULL},
	{0},
};
static const struct pb_field access_review[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGE, "spec", access_spec},
	{0},
};
static const struct pb_field rules_spec[] = {{1, PB_STRING, "namespace", NULL}, {0}};
static const struct pb_field rules_review[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGE, "spec", rules_spec},
	{0},
};
static const struct pb_field self_review[] = {{1, PB_MESSAGE, "metadata", object_meta}, {0}};
static const struct pb_field bound_object[] = {
	{1, PB_STRING, "kind", NULL},
	{2, PB_STRING, "apiVersion", NULL},
	{3, PB_STRING, "name", NULL},
	{4, PB_STRING, "uid", NULL},
	{0},
};
static const struct pb_field token_request_spec[] = {
	{1, PB_STRINGS, "audiences", NULL},
	{3, PB_MESSAGE, "boundObjectRef", bound_object},
	{4, PB_INT, "expirationSeconds", NULL},
	{0},
};
static const struct pb_field token_request[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGE, "spec", token_request_spec},
	{0},
};
static const struct pb_field token_review_spec[] = {
	{1, PB_STRING, "token", NULL},
	{2, PB_STRINGS, "audiences", NULL},
	{0},
};
static const struct pb_field token_review[] = {
	{1, PB_MESSAGE, "metadata", object_meta},
	{2, PB_MESSAGE, "spec", token_review_spec},
	{0},
};

static const struct {
	const char *kind;
	const struct pb_field *fields;
} messages[] = {
	{"DeleteOptions", delete_options},
	{"Namespace", namespace_fields},
	{"Event", event},
	{"Lease", lease},
	{"ConfigMap", config_map},
	{"Secret", secret},
	{"ServiceAccount", service_account},
	{"Role", role},
	{"ClusterRole", role},
	{"RoleBinding", role_binding},
	{"ClusterRoleBinding", role_binding},
	{"SelfSubjectAccessReview", access_review},
	{"SubjectAccessReview", access_review},
	{"LocalSubjectAccessReview", access_review},
	{"SelfSubjectRulesReview", rules_review},
	{"SelfSubjectReview", self_review},
	{"TokenRequest", token_request},
	{"TokenReview", token_review},
};

const char *protobuf_kind(unsigned i) {
	return i < ARRAY_SIZE(messages) ? messages[i].kind : NULL;
}

static const struct pb_field *protobuf_fields_of(const char *kind) {
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		if (streq(messages[i].kind, kind))
			return messages[i].fields;
	return NULL;
}

struct reader {
	const uint8_t *p, *end;
	unsigned *budget;
};

static bool read_varint(struct reader *r, uint64_t *ret) {
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
		uint8_t b = *r->p++;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

struct value {
	uint32_t number;
	uint64_t varint;
	const uint8_t *data; /* NULL for a varint, and for a fixed-width value, which is skipped */
	size_t len;
};

/* Reads the next field: 1 if there is one, 0 at the end, -EINVAL. */
static int protobuf_read_field(struct reader *r, struct value *ret) {
	uint64_t key, len;
	if (r->p == r->end)
		return 0;
	if ((*r->budget)-- == 0 || !read_varint(r, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX)
		return -EINVAL;
	*ret = (struct value){.number = (uint32_t)(key >> 3)};
	switch (key & 7) {
	case 0: return read_varint(r, &ret->varint) ? 1 : -EINVAL;
	case 1: len = 8; break;
	case 5: len = 4; break;
	case 2:
		if (!read_varint(r, &len))
			return -EINVAL;
		ret->data = r->p;
		break;
	default: return -EINVAL;
	}
	if (len > (size_t)(r->end - r->p))
		return -EINVAL;
	ret->len = len;
	r->p += len;
	return 1;
}

/* NULL: the value is not valid UTF-8, or contains NUL. */
static json_t *string(const struct value *v) {
	return memchr(v->data, 0, v->len) ? NULL : json_stringn((const char *)v->data, v->len);
}

static json_t *protobuf_message(const struct reader *parent, const struct value *v, const struct pb_field *fields);

/* metav1.Time: seconds (1) and nanoseconds (2); null for none, as Kubernetes writes the zero time. */
static json_t *time_of(const struct reader *parent, const struct value *v, bool micro) {
	struct reader r = {v->data, v->data + v->len, parent->budget};
	struct value part;
	uint64_t seconds = 0, nanos = 0;
	char text[TIME_STR_MAX];
	int more;
	while ((more = protobuf_read_field(&r, &part)) > 0) {
		if (part.number == 1)
			seconds = part.varint;
		else if (part.number == 2)
			nanos = part.varint;
	}
	/* RFC 3339 ends with the year 9999. */
	if (more < 0 || seconds > UINT64_C(253402300799) || nanos >= NSEC_PER_SEC)
		return NULL;
	if (seconds == 0 && nanos == 0)
		return json_null();
	return json_string(time_str(seconds * USEC_PER_SEC + nanos / 1000, micro, text));
}

static json_t *protobuf_scalar(const struct reader *r, const struct pb_field *f, const struct value *v) {
	bool is_varint = f->type == PB_INT || f->type == PB_BOOL;
	if (is_varint != (v->data == NULL))
		return NULL;
	switch (f->type) {
	case PB_INT: return json_integer((json_int_t)v->varint);
	case PB_BOOL: return json_boolean(v->varint != 0);
	case PB_TIME:
	case PB_MICROTIME: return time_of(r, v, f->type == PB_MICROTIME);
	case PB_MESSAGE:
	case PB_MESSAGES: return protobuf_message(r, v, f->sub);
	default: return string(v);
	}
}

static json_t *bytes(const struct value *v) {
	_buf_free_ struct buf b = {0};
	base64_encode(&b, v->data, v->len);
	return b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
}

/* ExtraValue: items (1). */
static const struct pb_field extra_value[] = {{1, PB_STRINGS, "items", NULL}, {0}};

static json_t *items_of(const struct reader *r, const struct value *v) {
	json_t *m = protobuf_message(r, v, extra_value), *items = json_incref(json_object_get(m, "items"));
	bool ok = m != NULL;
	json_decref(m);
	return items || !ok ? items : json_array();
}

/* An entry of a map is a message of key (1) and value (2). */
static int add_entry(const struct reader *parent, const struct value *v, enum pb_type type, json_t *map) {
	struct reader r = {v->data, v->data + v->len, parent->budget};
	struct value part;
	json_t *key = NULL, *value = NULL;
	int more;
	while ((more = protobuf_read_field(&r, &part)) > 0) {
		json_t **to = part.number == 1 ? &key : part.number == 2 ? &value : NULL;
		if (!to || !part.data)
			continue;
		json_decref(*to);
		*to = to == &key || type == PB_MAP ? string(&part)
		      : type == PB_BYTES           ? bytes(&part)
		                                   : items_of(&r, &part);
		if (!*to)
			more = -EINVAL;
		if (more < 0)
			break;
	}
	int e = more < 0 || !key ? -EINVAL : 0;
	if (e == 0 && json_object_set_new(map, json_string_value(key),
	                                  value                 ? json_incref(value)
	                                  : type == PB_MULTIMAP ? json_array()
	                                                        : json_string("")) < 0)
		e = -EINVAL;
	json_decref(key);
	json_decref(value);
	return e;
}

static int add_value(const struct reader *r, const struct pb_field *f, const struct value *v, json_t *out) {
	bool list = f->type == PB_STRINGS || f->type == PB_MESSAGES;
	json_t *there = json_object_get(out, f->name);
	if (f->type >= PB_MAP || list) {
		if (!there) {
			there = list ? json_array() : json_object();
			if (json_object_set_new(out, f->name, there) < 0)
				return -EINVAL;
		}
		if (!list)
			return v->data ? add_entry(r, v, f->type, there) : -EINVAL;
		return json_array_append_new(there, protobuf_scalar(r, f, v)) < 0 ? -EINVAL : 0;
	}
	/* protobuf doesn't tell an empty string from an absent one; JSON omits both. */
	if (f->type == PB_STRING && v->data && v->len == 0)
		return 0;
	return json_object_set_new(out, f->name, protobuf_scalar(r, f, v)) < 0 ? -EINVAL : 0;
}

static json_t *protobuf_message(const struct reader *parent, const struct value *v, const struct pb_field *fields) {
	struct reader r = {v->data, v->data + v->len, parent->budget};
	struct value part;
	json_t *out = json_object();
	int e;
	while (out && (e = protobuf_read_field(&r, &part)) != 0) {
		const struct pb_field *f = fields;
		while (f->number && (e < 0 || f->number != part.number))
			f++;
		if (e > 0 && f->number)
			e = add_value(&r, f, &part, out);
		if (e < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

/* runtime.Unknown: type (1: apiVersion 1, kind 2), raw (2), contentEncoding (3), contentType (4). */
static const struct pb_field type_meta[] = {{1, PB_STRING, "apiVersion", NULL}, {2, PB_STRING, "kind", NULL}, {0}};

int protobuf_decode(const char *want, const char *data, size_t len, json_t **ret, struct error *err) {
	static const char magic[4] = {'k', '8', 's', 0};
	const struct pb_field *fields = protobuf_fields_of(want);
	unsigned budget = FIELDS_MAX;
	struct value part, raw = {0};
	json_t *type = NULL;
	int e;
	if (!fields)
		return error_set(err, EOPNOTSUPP, "%s can't be sent as protobuf here; send JSON", want);
	if (len < sizeof(magic) || memcmp(data, magic, sizeof(magic)) != 0)
		return error_set(err, EINVAL, "the body is not Kubernetes protobuf: it does not begin with k8s\\0");
	struct reader r = {(const uint8_t *)data + sizeof(magic), (const uint8_t *)data + len, &budget};
	while ((e = protobuf_read_field(&r, &part)) > 0) {
		if (part.number == 1 && part.data && !type)
			type = protobuf_message(&r, &part, type_meta);
		else if (part.number == 2)
			raw = part;
	}
	const char *kind = json_string_value(json_object_get(type, "kind"));
	json_t *out = NULL;
	if (e < 0 || !raw.data)
		e = error_set(err, EINVAL, "the protobuf body is malformed");
	else if (!streq(kind, want))
		e = error_set(err, EINVAL, "the body is a %.63s, not a %s", kind ? kind : "?", want);
	else if (!(out = protobuf_message(&r, &raw, fields)))
		e = error_set(err, EINVAL, "the protobuf %s is malformed", kind);
	if (out && json_object_update_missing(out, type) < 0)
		e = error_oom(err);
	json_decref(type);
	if (e < 0) {
		json_decref(out);
		return e;
	}
	*ret = out;
	return 0;
}
