/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Label selectors (equality and set based) and field selectors (metadata.name, metadata.namespace and the fields that
 * the kind lists). They are matched against stored JSON without building a tree.
 */

#include "api/api.h"

#define SELECTOR_TERMS_MAX 64
#define SELECTOR_TEXT_MAX  ((size_t)4096)

struct selector;

/*
 * LABELS and FIELDS are query parameters; NULL or "" selects everything. If both do, *RET is NULL. -EINVAL: ERR has a
 * message for the client.
 */
int selector_parse(const struct api_kind *k, const char *labels, const char *fields, struct selector **ret,
                   struct error *err) _must_use_;
struct selector *selector_free(struct selector *s);
DEFINE_CLEANUP(selector, struct selector *, selector_free)

/*
 * True if the object matches SEL, which may be NULL. The cost, in bytes read, is added to WORK. A caller that checks
 * many objects stops when WORK reaches SELECTOR_WORK_MAX and continues in a later turn of the loop.
 */
#define SELECTOR_WORK_MAX ((size_t)1 << 20)
bool selector_matches(const struct selector *sel, const char *ns, const char *name, const char *json, size_t len,
                      size_t *work);

/* The name (or namespace) that SEL requires, or NULL. If SEL requires both, only one object can match. */
const char *selector_name(const struct selector *sel);

/* True if SEL only matches objects whose FIELD ("status.host") is VALUE. */
bool selector_requires(const struct selector *sel, const char *field, const char *value);

/* A part of JSON text that is known to be well-formed, such as a stored object. */
struct json_span {
	const char *text;
	size_t len;
};

/* Finds the members called NAMES of a JSON object in one pass. RET gets the text of each value, "" if it is absent. */
void json_members(const char *json, size_t len, const char *const *names, struct json_span *ret, size_t n);

/* Finds the text of the value at PATH ("metadata.labels") in a JSON object. False: there is none. */
bool json_find(const char *json, size_t len, const char *path, const char **ret, size_t *ret_len);
