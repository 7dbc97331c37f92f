/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/protobuf.h"

#include <string.h>

#include "api/core.h"
#include "base/util.h"

#define FIELDS_MAX 4096 /* in one message with all it holds */

enum pb_type { PB_STRING, PB_STRINGS, PB_INT, PB_BOOL, PB_MESSAGE, PB_MESSAGES, PB_MAP };

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
/* What the server sets by itself (times, generation, managed fields) is passed over. */
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
	const uint8_t *data; /* NULL: a varint, or a fixed width that is passed over */
	size_t len;
};

/* 1 and the next field, 0 at the end, -EINVAL. */
static int read_field(struct reader *r, struct value *ret) {
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

/* NULL: no UTF-8, or a NUL inside. */
static json_t *string(const struct value *v) {
	return memchr(v->data, 0, v->len) ? NULL : json_stringn((const char *)v->data, v->len);
}

static json_t *message(const struct reader *parent, const struct value *v, const struct pb_field *fields);

static json_t *scalar(const struct reader *r, const struct pb_field *f, const struct value *v) {
	bool is_varint = f->type == PB_INT || f->type == PB_BOOL;
	if (is_varint != (v->data == NULL))
		return NULL;
	switch (f->type) {
	case PB_INT: return json_integer((json_int_t)v->varint);
	case PB_BOOL: return json_boolean(v->varint != 0);
	case PB_MESSAGE:
	case PB_MESSAGES: return message(r, v, f->sub);
	default: return string(v);
	}
}

/* An entry of a map is a message of key (1) and value (2). */
static int add_entry(const struct reader *parent, const struct value *v, json_t *map) {
	struct reader r = {v->data, v->data + v->len, parent->budget};
	struct value part;
	json_t *key = NULL, *value = NULL;
	int more;
	while ((more = read_field(&r, &part)) > 0) {
		json_t **to = part.number == 1 ? &key : part.number == 2 ? &value : NULL;
		if (!to || !part.data)
			continue;
		json_decref(*to);
		*to = string(&part);
		if (!*to)
			more = -EINVAL;
		if (more < 0)
			break;
	}
	int e = more < 0 || !key ? -EINVAL : 0;
	if (e == 0 &&
	    json_object_set_new(map, json_string_value(key), value ? json_incref(value) : json_string("")) < 0)
		e = -EINVAL;
	json_decref(key);
	json_decref(value);
	return e;
}

static int add_value(const struct reader *r, const struct pb_field *f, const struct value *v, json_t *out) {
	bool list = f->type == PB_STRINGS || f->type == PB_MESSAGES;
	json_t *there = json_object_get(out, f->name);
	if (f->type == PB_MAP || list) {
		if (!there) {
			there = list ? json_array() : json_object();
			if (json_object_set_new(out, f->name, there) < 0)
				return -EINVAL;
		}
		if (!list)
			return v->data ? add_entry(r, v, there) : -EINVAL;
		return json_array_append_new(there, scalar(r, f, v)) < 0 ? -EINVAL : 0;
	}
	/* An empty string is an absent one. */
	if (f->type == PB_STRING && v->data && v->len == 0)
		return 0;
	return json_object_set_new(out, f->name, scalar(r, f, v)) < 0 ? -EINVAL : 0;
}

static json_t *message(const struct reader *parent, const struct value *v, const struct pb_field *fields) {
	struct reader r = {v->data, v->data + v->len, parent->budget};
	struct value part;
	json_t *out = json_object();
	int e;
	while (out && (e = read_field(&r, &part)) != 0) {
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

int protobuf_decode(const struct api_kind *k, const char *data, size_t len, json_t **ret, struct error *err) {
	static const char magic[4] = {'k', '8', 's', 0};
	const struct pb_field *fields = k == NULL ? delete_options : k == &api_kind_namespace ? namespace_fields : NULL;
	unsigned budget = FIELDS_MAX;
	struct value part, raw = {0};
	json_t *type = NULL;
	int e;
	if (!fields)
		return error_set(err, EOPNOTSUPP, "%s can't be sent as protobuf here; send JSON", k->kind);
	if (len < sizeof(magic) || memcmp(data, magic, sizeof(magic)) != 0)
		return error_set(err, EINVAL, "the body is no protobuf of Kubernetes: it does not begin with k8s\\0");
	struct reader r = {(const uint8_t *)data + sizeof(magic), (const uint8_t *)data + len, &budget};
	while ((e = read_field(&r, &part)) > 0) {
		if (part.number == 1 && part.data && !type)
			type = message(&r, &part, type_meta);
		else if (part.number == 2)
			raw = part;
	}
	const char *kind = json_string_value(json_object_get(type, "kind"));
	json_t *out = NULL;
	if (e < 0 || !raw.data)
		e = error_set(err, EINVAL, "the protobuf body is malformed");
	else if (!streq(kind, k ? k->kind : "DeleteOptions"))
		e = error_set(err, EINVAL, "the body is a %.63s, not a %s", kind ? kind : "?",
		              k ? k->kind : "DeleteOptions");
	else if (!(out = message(&r, &raw, fields)))
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
