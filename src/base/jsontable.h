/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * C structs that are written as JSON objects and read from them. One list of fields declares the struct and the JSON:
 *
 *     #define PORT_FIELDS(F, T)                  \
 *             F(T, text, name, "name", 15)       \
 *             F(T, i64, vlan, "vlan", 1, 4094, 1)
 *     JT_DECLARE(port, PORT_FIELDS)        in a header: struct port, and
 *     JT_DEFINE(port, PORT_FIELDS)         in a file: its table, jt_port
 *
 * F(T, KIND, MEMBER, "key", …) with the arguments of KIND:
 *
 *     text MAX             char MEMBER[MAX + 1]: at most MAX bytes, no control characters
 *     i64  MIN, MAX, INIT  int64_t
 *     flag                 bool
 *     word T               enum T; jt_words_T has its names, ended by NULL
 *     mac, addr, prefix    base/inet.h
 *     obj  T               struct T, with a table of its own
 *     list T, MAX          size_t n_MEMBER; struct T MEMBER[MAX]
 *
 * Such structs have no pointers. Empty fields (no text, no address, no elements, false) are not written. All other
 * fields are written in the order of the list, so two structs are equal exactly if their JSON is equal.
 */

#include <stdint.h>

#include "base/inet.h"
#include "base/jsonread.h"

enum jt_kind { JT_TEXT, JT_I64, JT_FLAG, JT_WORD, JT_MAC, JT_ADDR, JT_PREFIX, JT_OBJ, JT_LIST };

struct jt_table;

struct jt_field {
	const char *key;
	enum jt_kind kind;
	size_t offset, count_offset;
	int64_t min, max, init;
	const char *const *words;
	const struct jt_table *sub;
};

#define JT_FIELDS_MAX 64

struct jt_table {
	const struct jt_field *fields;
	size_t n, size; /* size: of the struct, in bytes */
};

/* Empties all fields, but gives numbers their INIT. Padding is zero, until jt_read() or an assignment changes OBJ. */
void jt_init(const struct jt_table *t, void *obj);

/*
 * Reads the next object into OBJ, which jt_init() has initialised. Strict: unknown and duplicate keys, wrong types and
 * values out of range are -EINVAL, with a message that names the field. OBJ may have been changed when this fails.
 */
int jt_read(const struct jt_table *t, struct jr *r, void *obj, struct error *err) _must_use_;
/* Appends OBJ as a JSON object to OUT, which records a failure (base/buf.h). */
void jt_print(const struct jt_table *t, const void *obj, struct buf *out);

#define JT_MEMBER_text(m, max)           char m[(max) + 1];
#define JT_MEMBER_i64(m, min, max, init) int64_t m;
#define JT_MEMBER_flag(m, ...)           bool m;
#define JT_MEMBER_word(m, T)             enum T m;
#define JT_MEMBER_mac(m, ...)            struct mac m;
#define JT_MEMBER_addr(m, ...)           struct addr m;
#define JT_MEMBER_prefix(m, ...)         struct prefix m;
#define JT_MEMBER_obj(m, T)              struct T m;
#define JT_MEMBER_list(m, T, max) \
	size_t n_##m;             \
	struct T m[max];
#define JT_MEMBER(T, KIND, m, json, ...) JT_MEMBER_##KIND(m, __VA_ARGS__)

#define JT_ENTRY_text(S, m, longest)         .kind = JT_TEXT, .max = (longest)
#define JT_ENTRY_i64(S, m, least, most, def) .kind = JT_I64, .min = (least), .max = (most), .init = (def)
#define JT_ENTRY_flag(S, m, ...)             .kind = JT_FLAG
#define JT_ENTRY_word(S, m, T)               .kind = JT_WORD, .words = jt_words_##T
#define JT_ENTRY_mac(S, m, ...)              .kind = JT_MAC
#define JT_ENTRY_addr(S, m, ...)             .kind = JT_ADDR
#define JT_ENTRY_prefix(S, m, ...)           .kind = JT_PREFIX
#define JT_ENTRY_obj(S, m, T)                .kind = JT_OBJ, .sub = &jt_##T
#define JT_ENTRY_list(S, m, T, most) \
	.kind = JT_LIST, .sub = &jt_##T, .max = (most), .count_offset = offsetof(struct S, n_##m)
#define JT_ENTRY(T, KIND, m, json, ...) \
	{.key = json, .offset = offsetof(struct T, m), JT_ENTRY_##KIND(T, m, __VA_ARGS__)},

#define JT_DECLARE(T, FIELDS)        \
	struct T {                   \
		FIELDS(JT_MEMBER, T) \
	};                           \
	extern const struct jt_table jt_##T;
#define JT_DEFINE(T, FIELDS)                                                                            \
	static const struct jt_field jt_fields_##T[] = {FIELDS(JT_ENTRY, T)};                           \
	_Static_assert(ARRAY_SIZE(jt_fields_##T) <= JT_FIELDS_MAX, "the set of keys has so many bits"); \
	const struct jt_table jt_##T = {jt_fields_##T, ARRAY_SIZE(jt_fields_##T), sizeof(struct T)};
