/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "apiserver/write/quota.h"
#include "apiserver/write/stage.h"

/*
 * May the namespace store OBJ, whose JSON is TEXT, by its quotas and by its limits? OLD NULL: OBJ is being created. If
 * not, MSG says why.
 */
bool room_allows(const struct stage *s, const struct request *r, const json_t *old, const json_t *obj,
                 const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]);
