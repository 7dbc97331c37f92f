/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "apiserver/store/store.h"

enum propagation { PROPAGATE_BACKGROUND, PROPAGATE_FOREGROUND, PROPAGATE_ORPHAN };

/*
 * Deletes an object, or marks it as being deleted if it has finalizers. 1: a change is staged; *RET (may be NULL) is
 * the new state of the object, a new reference, or NULL if it was removed. 0: it was marked before; *RET is its state.
 * -ENOMEM. With DRY_RUN nothing is staged. An object that can't be parsed is removed even if it has finalizers.
 */
int stage_delete(struct store *st, unsigned kind, const struct object *o, enum propagation how, bool dry_run,
                 json_t **ret) _must_use_;
