/* SPDX-License-Identifier: Apache-2.0 */

/*
 * OpenAPI 2.0 as protobuf. The messages and field numbers are those of openapiv2/OpenAPIv2.proto in
 * google/gnostic-models. A map of JSON is a list of names and values there, and a value that may have one of several
 * forms is wrapped in a message.
 */

#include <endian.h>
#include <string.h>

#include "apiserver/schema/openapi2.h"
#include "base/util.h"

enum wire_type {
	WIRE_STRING,
	WIRE_STRINGS,
	WIRE_BOOL,
	WIRE_INT,
	WIRE_DOUBLE,
	WIRE_ANY, /* any JSON value, as text in field 2 of a message */
	WIRE_ANYS,
	WIRE_MESSAGE,
	WIRE_MESSAGES,
	WIRE_NAMED,      /* an object whose members are messages of a name (1) and a value (2) */
	WIRE_EXTENSIONS, /* all members that begin with "x-", as names and ANYs */
	WIRE_FORM,       /* the whole object again, if its member "in" equals the name; name NULL: always */
};

struct wire_field {
	const char *name;
	enum wire_type type;
	uint8_t path[3]; /* the number of the field, then those of the fields that wrap the value; ends with 0 */
	const struct wire_field *sub;
};
#define WIRE_END \
	{ 0 }

static const struct wire_field schema[] = {
	{"$ref", WIRE_STRING, {1}, NULL},
	{"format", WIRE_STRING, {2}, NULL},
	{"description", WIRE_STRING, {4}, NULL},
	{"maximum", WIRE_DOUBLE, {7}, NULL},
	{"minimum", WIRE_DOUBLE, {9}, NULL},
	{"maxLength", WIRE_INT, {11}, NULL},
	{"minLength", WIRE_INT, {12}, NULL},
	{"pattern", WIRE_STRING, {13}, NULL},
	{"maxItems", WIRE_INT, {14}, NULL},
	{"minItems", WIRE_INT, {15}, NULL},
	{"maxProperties", WIRE_INT, {17}, NULL},
	{"required", WIRE_STRINGS, {19}, NULL},
	{"enum", WIRE_ANYS, {20}, NULL},
	{"additionalProperties", WIRE_MESSAGE, {21, 1}, schema},
	{"type", WIRE_STRING, {22, 1}, NULL},
	{"items", WIRE_MESSAGE, {23, 1}, schema},
	{"properties", WIRE_NAMED, {25, 1}, schema},
	{NULL, WIRE_EXTENSIONS, {31}, NULL},
	WIRE_END,
};
static const struct wire_field body_parameter[] = {
	{"name", WIRE_STRING, {2}, NULL},
	{"in", WIRE_STRING, {3}, NULL},
	{"required", WIRE_BOOL, {4}, NULL},
	{"schema", WIRE_MESSAGE, {5}, schema},
	WIRE_END,
};
static const struct wire_field query_parameter[] = {
	{"in", WIRE_STRING, {2}, NULL},   {"description", WIRE_STRING, {3}, NULL}, {"name", WIRE_STRING, {4}, NULL},
	{"type", WIRE_STRING, {6}, NULL}, {"uniqueItems", WIRE_BOOL, {20}, NULL},  WIRE_END,
};
static const struct wire_field path_parameter[] = {
	{"required", WIRE_BOOL, {1}, NULL},
	{"in", WIRE_STRING, {2}, NULL},
	{"name", WIRE_STRING, {4}, NULL},
	{"type", WIRE_STRING, {5}, NULL},
	WIRE_END,
};
/* Parameter; its field 2 is a NonBodyParameter. */
static const struct wire_field parameter[] = {
	{"body", WIRE_FORM, {1, 1}, body_parameter},
	{"query", WIRE_FORM, {1, 2, 3}, query_parameter},
	{"path", WIRE_FORM, {1, 2, 4}, path_parameter},
	WIRE_END,
};
static const struct wire_field response[] = {
	{"description", WIRE_STRING, {1}, NULL},
	{"schema", WIRE_MESSAGE, {2, 1}, schema},
	WIRE_END,
};
static const struct wire_field response_value[] = {{NULL, WIRE_FORM, {1}, response}, WIRE_END};
static const struct wire_field operation[] = {
	{"tags", WIRE_STRINGS, {1}, NULL},
	{"operationId", WIRE_STRING, {5}, NULL},
	{"produces", WIRE_STRINGS, {6}, NULL},
	{"consumes", WIRE_STRINGS, {7}, NULL},
	{"parameters", WIRE_MESSAGES, {8}, parameter},
	{"responses", WIRE_NAMED, {9, 1}, response_value},
	{"schemes", WIRE_STRINGS, {10}, NULL},
	{NULL, WIRE_EXTENSIONS, {13}, NULL},
	WIRE_END,
};
static const struct wire_field path_item[] = {
	{"get", WIRE_MESSAGE, {2}, operation},
	{"put", WIRE_MESSAGE, {3}, operation},
	{"post", WIRE_MESSAGE, {4}, operation},
	{"delete", WIRE_MESSAGE, {5}, operation},
	{"patch", WIRE_MESSAGE, {8}, operation},
	{"parameters", WIRE_MESSAGES, {9}, parameter},
	WIRE_END,
};
static const struct wire_field info[] = {
	{"title", WIRE_STRING, {1}, NULL},
	{"version", WIRE_STRING, {2}, NULL},
	WIRE_END,
};
static const struct wire_field document[] = {
	{"swagger", WIRE_STRING, {1}, NULL},
	{"info", WIRE_MESSAGE, {2}, info},
	{"paths", WIRE_NAMED, {8, 2}, path_item},
	{"definitions", WIRE_NAMED, {9, 1}, schema},
	WIRE_END,
};

static void put_varint(struct buf *b, uint64_t v) {
	for (; v >= 0x80; v >>= 7)
		buf_putc(b, (char)(v | 0x80));
	buf_putc(b, (char)v);
}

static void put_bytes(struct buf *b, uint8_t number, const char *data, size_t len) {
	put_varint(b, (uint64_t)number << 3 | 2);
	put_varint(b, len);
	buf_add(b, data, len);
}

/* Writes CONTENT to the field that PATH names, with the messages that wrap it. */
static void put_at(struct buf *b, const uint8_t path[static 3], const struct buf *content) {
	_buf_free_ struct buf inner = {0}, outer = {0};
	b->failed |= content->failed;
	if (!path[1]) {
		put_bytes(b, path[0], content->data, content->len);
		return;
	}
	put_bytes(&inner, path[2] ? path[2] : path[1], content->data, content->len);
	if (path[2])
		put_bytes(&outer, path[1], inner.data, inner.len);
	const struct buf *last = path[2] ? &outer : &inner;
	b->failed |= last->failed;
	put_bytes(b, path[0], last->data, last->len);
}

static void put_message(struct buf *b, const json_t *obj, const struct wire_field *fields);

/* Writes an Any: the JSON text in field 2. */
static void put_any(struct buf *b, const json_t *v) {
	_free_ char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	b->failed |= !text;
	if (text)
		put_bytes(b, 2, text, strlen(text));
}

/* Writes a name (1) and a value (2), which is a message with the fields SUB or, if SUB is NULL, an Any. */
static void put_named(struct buf *b, uint8_t number, const char *name, const json_t *v, const struct wire_field *sub) {
	_buf_free_ struct buf value = {0}, entry = {0};
	sub ? put_message(&value, v, sub) : put_any(&value, v);
	put_bytes(&entry, 1, name, strlen(name));
	put_bytes(&entry, 2, value.data, value.len);
	b->failed |= value.failed || entry.failed;
	put_bytes(b, number, entry.data, entry.len);
}

static void put_number(struct buf *b, const struct wire_field *f, const json_t *v) {
	if (f->type == WIRE_DOUBLE) {
		double d = json_number_value(v);
		uint64_t bits;
		memcpy(&bits, &d, sizeof(bits));
		bits = htole64(bits);
		put_varint(b, (uint64_t)f->path[0] << 3 | 1);
		buf_add(b, &bits, sizeof(bits));
		return;
	}
	put_varint(b, (uint64_t)f->path[0] << 3);
	put_varint(b, f->type == WIRE_BOOL ? json_is_true(v) : (uint64_t)json_integer_value(v));
}

static void put_value(struct buf *b, const struct wire_field *f, const json_t *v) {
	_buf_free_ struct buf content = {0};
	switch (f->type) {
	case WIRE_BOOL:
	case WIRE_INT:
	case WIRE_DOUBLE: put_number(b, f, v); return;
	case WIRE_STRING:
	case WIRE_STRINGS: buf_add(&content, json_string_value(v), json_string_length(v)); break;
	case WIRE_ANY:
	case WIRE_ANYS: put_any(&content, v); break;
	default: put_message(&content, v, f->sub); break;
	}
	put_at(b, f->path, &content);
}

/* The field is one message with all entries of the map. */
static void put_map(struct buf *b, const struct wire_field *f, const json_t *map) {
	_buf_free_ struct buf entries = {0};
	const char *name;
	json_t *v;
	json_object_foreach((json_t *)map, name, v) {
		put_named(&entries, f->path[1], name, v, f->sub);
	}
	b->failed |= entries.failed;
	put_bytes(b, f->path[0], entries.data, entries.len);
}

static void put_message(struct buf *b, const json_t *obj, const struct wire_field *fields) {
	const char *in = json_string_value(json_object_get(obj, "in")), *name;
	json_t *v, *e;
	size_t i;
	for (const struct wire_field *f = fields; f->path[0]; f++) {
		if (f->type == WIRE_EXTENSIONS) {
			json_object_foreach((json_t *)obj, name, v) {
				if (starts_with(name, "x-"))
					put_named(b, f->path[0], name, v, NULL);
			}
			continue;
		}
		if (f->type == WIRE_FORM) {
			if (!f->name || streq(f->name, in))
				put_value(b, f, obj);
			continue;
		}
		v = json_object_get(obj, f->name);
		if (!v)
			continue;
		if (f->type == WIRE_NAMED)
			put_map(b, f, v);
		else if (json_is_array(v)) {
			json_array_foreach(v, i, e) {
				put_value(b, f, e);
			}
		} else
			put_value(b, f, v);
	}
}

void openapi2_encode(struct buf *out, const json_t *doc) {
	put_message(out, doc, document);
}
