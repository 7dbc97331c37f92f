/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How large one object may be. The bounds are for users. What Nacre's programs write has bounds of its own and may take
 * an object past these; then users may still write what makes the object no larger. Where a function returns -EINVAL or
 * -EMSGSIZE the reply is set. OLD NULL: the object is created.
 */

#include "apiserver/json/tree.h"
#include "apiserver/request/request.h"

/*
 * How many entries metadata.managedFields may have; Kubernetes bounds only those of updates, to 10. Users leave room
 * for Nacre's programs, or a tenant could keep an agent from reporting on his instance.
 */
#define MANAGED_ENTRIES_MAX   128
#define MANAGED_ENTRIES_USERS 100
/* By so much may an object grow past OBJECT_MAX by what Nacre's programs write. */
#define PROGRAMS_BYTES ((size_t)64 << 10)

/*
 * R is a change by one of Nacre's programs: statuses and finalizers must not fail because a tenant has filled its
 * namespace or the object. No status is an Event, though. CREATE: the object is created, which is no such change.
 */
bool bounds_is_program(const struct request *r, bool create);

/*
 * Whether no list of OBJ, from outside, is too long: to be asked first. The stored object has STORED_ENTRIES of
 * managedFields. 0 or -EINVAL.
 */
int bounds_check_lengths(struct request *r, const json_t *obj, size_t stored_entries) _must_use_;

/* OBJ is of SIZE. MANAGED: the managedFields of OLD, which is without them. 0 or -EINVAL. */
int bounds_check_values(struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                        const struct tree_size *size) _must_use_;
/* OBJ is of LEN bytes. 0 or -EMSGSIZE. */
int bounds_check_size(const struct store *store, struct request *r, const json_t *old, const json_t *obj,
                      size_t len) _must_use_;
/* Adds to ERRS if OBJ has too many entries of managedFields. */
void bounds_check_managed(const struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                          struct api_errors *errs);
