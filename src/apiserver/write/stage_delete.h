/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "apiserver/store/store.h"

enum propagation { PROPAGATE_BACKGROUND, PROPAGATE_FOREGROUND, PROPAGATE_ORPHAN };

/*
 * Deletes, or where finalizers stand in the way marks as being deleted. 1: a change is staged, *RET (may be NULL) is
 * the object's new state, NULL if it is gone; 0: it was marked already; -ENOMEM. An object that can't be read goes
 * whatever its finalizers are.
 */
int stage_delete(struct store *st, unsigned kind, const struct object *o, enum propagation how, bool dry_run,
                 json_t **ret) _must_use_;
