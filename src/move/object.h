/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which parts of an object are moved. No requests, no files.
 *
 * uid, resourceVersion, generation, creationTimestamp and managedFields are each server's own. Of these the file keeps
 * only the uid, because owner references name it. Events and Leases are not moved, because they describe only the
 * moment. Objects that every server makes for itself are not moved either: namespaces kube-*, default roles, tokens of
 * ServiceAccounts.
 */

#include <jansson.h>

#include "api/api.h"

#define OBJECT_NAME_MAX 640
#define OBJECT_PATH_MAX 256

/* Kinds that are moved, in the order in which they are created; NULL after the last. */
const struct api_kind *object_kind(size_t i);
const struct api_kind *object_kind_of(const json_t *obj);
bool object_is_nacre(const struct api_kind *k);

const char *object_meta(const json_t *obj, const char *key); /* "" if it is missing or not a string */
bool object_is_deleted(const json_t *obj);
/* "Instance red/web" */
const char *object_name(const struct api_kind *k, const json_t *obj, char out[static OBJECT_NAME_MAX]);

/* True if the object is moved, and is not one that every server makes for itself. */
bool object_is_moved(const struct api_kind *k, const json_t *obj);
/* Removes from OBJ, as a server returned it, what the file does not keep. 0 or -ENOMEM. */
int object_strip(const struct api_kind *k, json_t *obj, struct error *err) _must_use_;
/* Checks an object of a file: its kind is moved, it is valid, and it has a uid. */
int object_check(const json_t *obj, struct error *err) _must_use_;

/*
 * The uid on the other server of the object that has UID in the file: "" if it does not exist there yet, NULL if the
 * file has no such object.
 */
typedef const char *(*object_uid_fn)(const char *uid, void *userdata);

/*
 * The object to send to the other server to create OBJ: without uid and status, and with the owners' uids of that
 * server. An owner that is not in the file is omitted. *RET is NULL if an owner does not exist yet; else the caller
 * frees it.
 */
int object_wanted(const struct api_kind *k, const json_t *obj, object_uid_fn uid, void *userdata, json_t **ret,
                  struct error *err) _must_use_;
/* The part of its status that is moved; NULL or empty: none. Borrowed from OBJ. */
const json_t *object_status(const struct api_kind *k, const json_t *obj);

/*
 * True if HAVE, an object of the server, has everything in WANT (object_wanted()), and beyond that only labels and
 * annotations. Else PATH is the first field that differs.
 */
bool object_same(const struct api_kind *k, const json_t *want, const json_t *have, char path[static OBJECT_PATH_MAX]);
/* True if the two values are equal, where an empty list or object equals a missing one. Else PATH is the first field
 * that differs. */
bool object_equal(const json_t *a, const json_t *b, const char *where, char path[static OBJECT_PATH_MAX]);
/* True if servers make this object themselves, so that the import patches it instead of creating it. */
bool object_is_adopted(const struct api_kind *k, const json_t *obj);
