/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The handlers of each verb that changes something: each sets r->reply. They are called again after WRITE_LATER. */

#include "apiserver/write/stage.h"

/* write.c */
enum write_result handle_create(const struct stage *s, struct request *r);
enum write_result handle_update(const struct stage *s, struct request *r);
enum write_result handle_patch(const struct stage *s, struct request *r);
/* delete.c */
enum write_result handle_delete(const struct stage *s, struct request *r);
enum write_result handle_delete_collection(const struct stage *s, struct request *r);
/* scale.c; the second one is of any verb that changes something */
void handle_scale_get(const struct store *store, struct request *r);
enum write_result handle_scale(const struct stage *s, struct request *r);
