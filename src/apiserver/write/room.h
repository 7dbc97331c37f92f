/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "apiserver/write/quota.h"
#include "apiserver/write/stage.h"

/*
 * Whether the namespace has room for OBJ, whose JSON is TEXT (OLD NULL: it is created), by its quotas and by what it
 * may store: true, or false and MSG.
 */
bool room_allows(const struct stage *s, const struct request *r, const json_t *old, const json_t *obj,
                 const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]);
