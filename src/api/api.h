/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The API engine. Each type has one declaration, which gives a C struct and a table. The table is used to parse and
 * validate (parse.c), to print and compare (print.c), to prune and default (dom.c), and to make OpenAPI schemas and
 * CRDs (schema.c) and reference docs (docs.c).
 *
 * A type is a list of fields, an X-macro of
 *     F(T, kind, member, "json", flags, arg, min, max, def, "doc")
 * kind   member in C                         JSON        arg              min..max bounds
 * str    char *                (NULL absent) string      a format         length in bytes
 * i64    struct api_i64                      number      _                value
 * flag   struct api_bool                     boolean     _                -
 * obj    struct ARG *          (NULL absent) object      a declared type  -
 * inl    struct ARG (in place)               object      a declared type  -
 * list   struct { struct ARG *v; size_t n; } array       a declared type  count
 * strs   struct { char **v; size_t n; }      array       a format         count (each at most format.max bytes)
 * map    struct api_map                      object      _                count (of string to string)
 * raw    char * (JSON text)                  anything    _                -
 * def is the default as JSON text, or NULL. An absent field is distinct from 0, false and "". An empty list or map is
 * printed as absent.
 *
 * Ranges (of ports, of anything) are inclusive at both ends everywhere in this API.
 *
 * Objects are malloc'ed trees. The caller owns them and frees them as a whole with api_free().
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/jsonread.h"

struct api_i64 {
	int64_t v;
	bool set;
};

struct api_bool {
	bool v, set;
};

struct api_kv {
	char *key, *value;
};

struct api_map {
	struct api_kv *v;
	size_t n;
};

/* For assignments: spec->vcpus = API_I64(4). */
#define API_I64(x)  ((struct api_i64){.v = (x), .set = true})
#define API_BOOL(x) ((struct api_bool){.v = (x), .set = true})

enum api_type {
	API_TYPE_str,
	API_TYPE_i64,
	API_TYPE_flag,
	API_TYPE_obj,
	API_TYPE_inl,
	API_TYPE_list,
	API_TYPE_strs,
	API_TYPE_map,
	API_TYPE_raw,
};

enum {
	API_REQ = 1 << 0,            /* must be present; a string must not be empty */
	API_IMMUT = 1 << 1,          /* can't change once set */
	API_KEY_NAME = 1 << 2,       /* list-type map, keyed by the element's "name" */
	API_KEY_TYPE = 1 << 3,       /* the same, keyed by "type" */
	API_SET = 1 << 4,            /* list-type set: all elements are different */
	API_MAP_VALUES_ANY = 1 << 5, /* map: values may be empty or of any length up to 256 KiB (annotations) */
	API_MAP_DATA = 1 << 6,       /* map: keys are file names, values any text up to 2 MiB (ConfigMap) */
	API_MAY_BE_EMPTY = 1 << 7,   /* strs: "" is a valid element */
	API_KEY_UID = 1 << 8,        /* list-type map, keyed by "uid" */
	API_ATOMIC = 1 << 9,         /* obj, map, element of a keyed list: has field managers only as a whole */
};
#define API_KEYS (API_KEY_NAME | API_KEY_TYPE | API_KEY_UID)

/* The longest string in bytes of a field without a smaller limit. */
#define API_STR_MAX 4096
/* The longest element of a list of strings whose format has no other limit. */
#define API_ELEM_MAX 253

/* The valid values of a string: a check, or a list of values; and how a schema says so. */
struct api_format {
	const char *name;          /* for the docs */
	const char *pattern;       /* for schemas, may be NULL */
	const char *schema_format; /* OpenAPI "format", may be NULL */
	const char *const *values; /* enumeration, NULL-terminated; or NULL */
	int (*check)(const char *s, struct error *err);
	const char *rule; /* CEL over `self` for what pattern and format don't express; may be NULL */
	size_t max;       /* strs: the longest element in bytes; 0: API_ELEM_MAX */
};

struct api_field {
	const char *name, *doc;
	size_t offset;
	enum api_type type;
	unsigned flags;
	int64_t min, max;
	const char *def;
	const struct api_desc *sub;
	const struct api_format *format;
};

/* The member by which elements of a keyed list are told apart. NULL for other fields, and if F is NULL. */
static inline const char *api_list_key(const struct api_field *f) {
	return !f                        ? NULL
	       : f->flags & API_KEY_NAME ? "name"
	       : f->flags & API_KEY_TYPE ? "type"
	       : f->flags & API_KEY_UID  ? "uid"
	                                 : NULL;
}

/* The longest element in bytes of F, a list of strings. */
static inline int64_t api_elem_max(const struct api_field *f) {
	return (int64_t)(f->format->max ? f->format->max : API_ELEM_MAX);
}

struct api_desc {
	const char *name; /* the C name, for docs */
	size_t size;
	const struct api_field *fields;
	size_t n_fields;
	bool open; /* the server keeps fields that are not listed (core kinds are declared only in part) */
};

struct api_meta;
struct api_errors;
struct api_access;

struct api_column {
	const char *name, *type, *path, *doc; /* type: string, integer, date; path: ".spec.host" */
	int priority;                         /* 1: only with -o wide */
};

/* Special paths: instead of a path, or in front of one. Not for custom resources. */
#define API_COLUMN_AGE   "age" /* the age of the object; then no column AGE is added at the end */
#define API_COLUMN_COUNT "#"   /* in front of a path: the number of elements */

/* A rule about several fields. nacre-apiserver checks it in `check`, a kube-apiserver by the CEL. */
struct api_rule {
	const char *path; /* "spec", "spec.ingress[]"; "": the object */
	const char *cel, *message;
};

/* The paths of the three values that the scale subresource shows: "spec.replicas". */
struct api_scale {
	const char *spec_replicas, *status_replicas, *selector;
};

struct api_kind {
	const char *group, *version, *kind, *plural, *singular, *doc;
	const char *const *short_names; /* NULL-terminated, may be NULL */
	bool namespaced, has_status;
	const struct api_scale *scale;        /* NULL: the kind has no scale subresource */
	const struct api_format *name_format; /* of metadata.name; NULL: api_format_subdomain */
	const struct api_desc *desc;          /* first member: struct api_meta meta */
	const struct api_access *access;      /* who may do what with the kind, see access.h; never NULL */
	size_t max_bytes;  /* of one object as JSON, for all users; a CRD can't say it. 0: only the general limit */
	size_t max_values; /* of one object's JSON without managedFields, for nacre-apiserver; 0: the general limit */
	/* Checks rules about several fields and adds to ERRS. It is called only if all fields are valid. */
	void (*check)(const void *obj, struct api_errors *errs);
	/*
	 * Checks changes, in addition to API_IMMUT; may be NULL. nacre-apiserver calls it only if the desired state or
	 * an Instance's status.id differs: see check_change() in apiserver/write/validate.c.
	 */
	void (*check_update)(const void *old, const void *new, struct api_errors *errs);
	const struct api_rule *rules;         /* ends with path NULL; may be NULL */
	const struct api_column *columns;     /* ends with name NULL; may be NULL; AGE is added at the end */
	const char *const *selectable_fields; /* "spec.host", in addition to metadata.name and namespace; may be NULL */
};

/* All kinds, NULL-terminated. */
extern const struct api_kind *const api_kinds[];

const struct api_kind *api_kind_find(const char *group, const char *version, const char *plural);
const struct api_kind *api_kind_find_by_kind(const char *group, const char *version, const char *kind);
/*
 * The categories of K, by which `kubectl get all` and `kubectl get nacre` find it, NULL-terminated. NULL: none. Only
 * kinds of tenants are in `all`.
 */
const char *const *api_kind_categories(const struct api_kind *k);
/* The index of K in api_kinds, by which the server's tables are ordered. K must be in it. */
unsigned api_kind_index(const struct api_kind *k);
unsigned api_kinds_count(void);
/* Writes "v1" or "nacre.dev/v1alpha1". */
void api_kind_version(const struct api_kind *k, char out[static 64]);

/* ---- errors of validation ---- */

/* The names of the causes of a 422 in Kubernetes (metav1.CauseType). */
enum api_reason {
	API_INVALID,
	API_REQUIRED,
	API_DUPLICATE,
	API_NOT_SUPPORTED,
	API_TYPE_INVALID,
	API_TOO_LONG,
	API_TOO_MANY,
	API_FORBIDDEN
};
const char *api_reason_str(enum api_reason r); /* "FieldValueInvalid", … */

#define API_ERRORS_MAX 16
struct api_errors {
	size_t n; /* errors past API_ERRORS_MAX are dropped */
	struct api_field_error {
		enum api_reason reason;
		char path[128]; /* "spec.ingress[2].port" */
		char msg[256];  /* "must be 1 to 65535, not 70000" */
	} v[API_ERRORS_MAX];
};

void api_errors_add(struct api_errors *e, enum api_reason reason, const char *path, const char *fmt, ...)
	_printf_(4, 5);
/* Joins all errors as "path: msg" by "; " into ERR. Returns -EINVAL. */
int api_errors_to_error(const struct api_errors *e, struct error *err);

/* ---- parse, print, compare, free ---- */

/*
 * Parses and validates one object of kind K: types, bounds, formats, required fields, K->check. Unknown fields are
 * ignored, null means absent. apiVersion and kind must be K's if they are present. 0: *RET is the object, which the
 * caller frees with api_free(). -EINVAL: ERRS says why (bad JSON has path ""). -ENOMEM. ERRS must not be NULL.
 */
int api_parse(const struct api_kind *k, const char *json, size_t len, void **ret, struct api_errors *errs) _must_use_;
/*
 * The same for the next value in R, which has type D. OUT has D->size bytes and is zeroed. On failure its content is
 * freed and zeroed again.
 */
int api_parse_value(const struct api_desc *d, struct jr *r, void *out, struct api_errors *errs) _must_use_;
/*
 * The same, but fields that are wrong or missing are no failure: they stay zero, or hold what is wrong with them. For
 * what must be known about an object that another version wrote. R may end anywhere in the value. 0, -ENOMEM, or
 * -EINVAL if the JSON is bad.
 */
int api_parse_part(const struct api_desc *d, struct jr *r, void *out) _must_use_;

/* A zeroed object of the kind for the caller to fill in; its strings must be malloc'ed. NULL: no memory. */
void *api_new(const struct api_kind *k);
void api_free(const struct api_kind *k, void *obj);    /* OBJ may be NULL */
void api_clear(const struct api_desc *d, void *value); /* frees the content of VALUE and zeroes it */

/* Appends the object, with apiVersion and kind. If memory runs out, out->failed is set. */
void api_print(const struct api_kind *k, const void *obj, struct buf *out);
void api_print_value(const struct api_desc *d, const void *value, struct buf *out);

/* Copies a valid object by printing and parsing it. NULL: no memory. */
void *api_copy(const struct api_kind *k, const void *obj) _must_use_;
/* The same for a kind with a status, for the caller to write a new status: if OBJ has none, that of the copy is empty.
 */
void *api_copy_with_status(const struct api_kind *k, const void *obj) _must_use_;

/* Compares objects of a kind by namespace, then by name. */
static inline int api_key_cmp(const char *ns_a, const char *name_a, const char *ns_b, const char *name_b) {
	int c = strcmp(ns_a, ns_b);
	return c ? c : strcmp(name_a, name_b);
}

bool api_equal(const struct api_desc *d, const void *a, const void *b);
/* Compares only the fields of D that can't change after the creation (API_IMMUT), not those of objects within. An
 * absent field equals its default. */
bool api_equal_immutable(const struct api_desc *d, const void *a, const void *b);

/* The metadata of any object. */
static inline struct api_meta *api_meta(void *obj) {
	return obj;
}

const char *api_map_get(const struct api_map *m, const char *key); /* NULL if absent */

/* ---- declaring ---- */

#define API_MEMBER_str(m, arg)  char *m;
#define API_MEMBER_i64(m, arg)  struct api_i64 m;
#define API_MEMBER_flag(m, arg) struct api_bool m;
#define API_MEMBER_obj(m, arg)  struct arg *m;
#define API_MEMBER_inl(m, arg)  struct arg m;
#define API_MEMBER_list(m, arg) \
	struct {                \
		struct arg *v;  \
		size_t n;       \
	} m;
#define API_MEMBER_strs(m, arg) \
	struct {                \
		char **v;       \
		size_t n;       \
	} m;
#define API_MEMBER_map(m, arg)                                       struct api_map m;
#define API_MEMBER_raw(m, arg)                                       char *m;
#define API_MEMBER(T, kind, m, json, flags, arg, min, max, def, doc) API_MEMBER_##kind(m, arg)

#define API_SUB_str(arg)     NULL
#define API_SUB_i64(arg)     NULL
#define API_SUB_flag(arg)    NULL
#define API_SUB_obj(arg)     &api_desc_##arg
#define API_SUB_inl(arg)     &api_desc_##arg
#define API_SUB_list(arg)    &api_desc_##arg
#define API_SUB_strs(arg)    NULL
#define API_SUB_map(arg)     NULL
#define API_SUB_raw(arg)     NULL
#define API_FORMAT_str(arg)  &api_format_##arg
#define API_FORMAT_i64(arg)  NULL
#define API_FORMAT_flag(arg) NULL
#define API_FORMAT_obj(arg)  NULL
#define API_FORMAT_inl(arg)  NULL
#define API_FORMAT_list(arg) NULL
#define API_FORMAT_strs(arg) &api_format_##arg
#define API_FORMAT_map(arg)  NULL
#define API_FORMAT_raw(arg)  NULL
#define API_FIELD(T, kind, m, json, flags, arg, min, max, def, doc)           \
	{json, doc, offsetof(struct T, m), API_TYPE_##kind,       flags, min, \
	 max,  def, API_SUB_##kind(arg),   API_FORMAT_##kind(arg)},

/* In a header: declares the struct and its table. */
#define API_DECLARE(T, FIELDS)        \
	struct T {                    \
		FIELDS(API_MEMBER, T) \
	};                            \
	extern const struct api_desc api_desc_##T;
/* In one C file: defines the table. */
#define API_DEFINE_OPEN(T, FIELDS, is_open)                                           \
	static const struct api_field api_fields_##T[] = {FIELDS(API_FIELD, T)};      \
	const struct api_desc api_desc_##T = {.name = #T,                             \
	                                      .size = sizeof(struct T),               \
	                                      .fields = api_fields_##T,               \
	                                      .n_fields = ARRAY_SIZE(api_fields_##T), \
	                                      .open = is_open};
#define API_DEFINE(T, FIELDS) API_DEFINE_OPEN(T, FIELDS, false)

/* The first field of every kind. */
#define API_META(F, T) F(T, inl, meta, "metadata", 0, api_meta, 0, 0, NULL, "Standard object metadata.")
