/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The limits for the size of an object. They apply to users. What Nacre's programs write has its own limits and may
 * make an object exceed these; users may then still write what doesn't make it larger. If a function returns -EINVAL or
 * -EMSGSIZE, the reply is set. OLD NULL: OBJ is being created.
 */

#include "apiserver/json/tree.h"
#include "apiserver/request/request.h"

/*
 * The number of entries that metadata.managedFields may have. Kubernetes limits only the entries of updates, to 10. The
 * limit for users is lower, so that a tenant can't keep an agent from writing the status of his instance.
 */
#define MANAGED_ENTRIES_MAX   128
#define MANAGED_ENTRIES_USERS 100
/* In bytes: how far Nacre's programs may make an object exceed OBJECT_MAX. */
#define PROGRAMS_BYTES ((size_t)64 << 10)

/*
 * True if R is a change by one of Nacre's programs: their statuses and finalizers must be stored even if a tenant has
 * filled its namespace or the object. A create (CREATE) is no such change, nor is a write of an Event.
 */
bool bounds_is_program(const struct request *r, bool create);

/*
 * Checks that no list of OBJ, which comes from outside, is too long; to be called before all other checks. The stored
 * object has STORED_ENTRIES entries in managedFields. 0 or -EINVAL.
 */
int bounds_check_lengths(struct request *r, const json_t *obj, size_t stored_entries) _must_use_;

/*
 * Checks the number of values and the depth of OBJ, given in SIZE. OLD has no managedFields; MANAGED are those of OLD.
 * 0 or -EINVAL.
 */
int bounds_check_values(struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                        const struct tree_size *size) _must_use_;
/* Checks the size of OBJ, LEN bytes. 0 or -EMSGSIZE. */
int bounds_check_size(const struct store *store, struct request *r, const json_t *old, const json_t *obj,
                      size_t len) _must_use_;
/* Adds an error to ERRS if OBJ has too many entries in managedFields. MANAGED are those of OLD. */
void bounds_check_managed(const struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                          struct api_errors *errs);
