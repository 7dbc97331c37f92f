/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Label selectors (equality and set based) and field selectors (metadata.name, metadata.namespace and what the kind
 * lists), matched against stored JSON without building a tree.
 */

#include "api/api.h"

#define SELECTOR_TERMS_MAX 64
#define SELECTOR_TEXT_MAX  ((size_t)4096)

struct selector;

/*
 * LABELS and FIELDS as in the query parameters; NULL or "" selects all, and *RET is NULL if both do.
 * -EINVAL with a message for a client.
 */
int selector_parse(const struct api_kind *k, const char *labels, const char *fields, struct selector **ret,
                   struct error *err) _must_use_;
struct selector *selector_free(struct selector *s);
DEFINE_CLEANUP(selector, struct selector *, selector_free)

/*
 * SEL may be NULL. What it took is added to WORK, in bytes that were looked at: whoever asks for many objects goes on
 * in another turn of the loop once it is SELECTOR_WORK_MAX.
 */
#define SELECTOR_WORK_MAX ((size_t)1 << 20)
bool selector_matches(const struct selector *sel, const char *ns, const char *name, const char *json, size_t len,
                      size_t *work);

/* The namespace and name that SEL pins, or NULL: then only one object need be looked at. */
const char *selector_name(const struct selector *sel);

/* True if SEL takes only objects whose FIELD ("status.host") is VALUE. */
bool selector_requires(const struct selector *sel, const char *field, const char *value);

/* Of text that is known to be good JSON, as what is stored is. */
struct json_span {
	const char *text;
	size_t len;
};

/* The texts of the members called NAMES of a JSON object, in one pass; "" of those that aren't there. */
void json_members(const char *json, size_t len, const char *const *names, struct json_span *ret, size_t n);

/* The text of the value at PATH ("metadata.labels") in a JSON object. False if there is none. */
bool json_find(const char *json, size_t len, const char *path, const char **ret, size_t *ret_len);
