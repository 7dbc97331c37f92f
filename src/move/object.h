/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a move takes of an object and what it leaves: no requests, no files.
 *
 * uid, resourceVersion, generation, creationTimestamp and managedFields are each server's own. Of those the uid stays
 * in the file, because owners are named by it; the others do not. Events and Leases are of the moment and stay where
 * they are, as does what every server makes for itself: namespaces kube-*, its roles, tokens of ServiceAccounts.
 */

#include <jansson.h>

#include "api/api.h"

#define OBJECT_NAME_MAX 640
#define OBJECT_PATH_MAX 256

/* Kinds that are moved, in the order in which they are made; NULL after the last. */
const struct api_kind *object_kind(size_t i);
const struct api_kind *object_kind_of(const json_t *obj);
bool object_is_nacre(const struct api_kind *k);

const char *object_meta(const json_t *obj, const char *key); /* "" if it isn't there, or is no string */
bool object_is_deleted(const json_t *obj);
/* "Instance red/web" */
const char *object_name(const struct api_kind *k, const json_t *obj, char out[static OBJECT_NAME_MAX]);

/* True if it is moved, and not a server's own. */
bool object_is_moved(const struct api_kind *k, const json_t *obj);
/* Takes from OBJ, as a server gave it, what doesn't go into the file. 0 or -ENOMEM. */
int object_strip(const struct api_kind *k, json_t *obj, struct error *err) _must_use_;
/* An object of a file: of a kind that is moved, valid, with a uid. */
int object_check(const json_t *obj, struct error *err) _must_use_;

/*
 * The uid that the object of UID has on the other server: "" if it has none yet, NULL if it is not in the file.
 */
typedef const char *(*object_uid_fn)(const char *uid, void *userdata);

/*
 * What the other server shall be sent to make OBJ: without uid and status, with the uids of owners that are there.
 * An owner that is not in the file is left out. *RET NULL: an owner is not there yet.
 */
int object_wanted(const struct api_kind *k, const json_t *obj, object_uid_fn uid, void *userdata, json_t **ret,
                  struct error *err) _must_use_;
/* Its status, as far as it is moved; NULL or empty: none. Borrowed. */
const json_t *object_status(const struct api_kind *k, const json_t *obj);

/*
 * True if HAVE, an object of the server, says all that WANT (object_wanted()) says, and nothing else but labels and
 * annotations. Else PATH is the first field that differs.
 */
bool object_same(const struct api_kind *k, const json_t *want, const json_t *have, char path[static OBJECT_PATH_MAX]);
/* True if the two values say the same: an empty list or object is none. */
bool object_equal(const json_t *a, const json_t *b, const char *where, char path[static OBJECT_PATH_MAX]);
/* Servers make these themselves: what is there is brought to what is wanted. */
bool object_is_adopted(const struct api_kind *k, const json_t *obj);
