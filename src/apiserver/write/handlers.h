/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The handlers of the verbs that change something. Each sets r->reply. After WRITE_LATER it is called again. */

#include "apiserver/write/stage.h"

/* write.c */
enum write_result handle_create(const struct stage *s, struct request *r);
enum write_result handle_update(const struct stage *s, struct request *r);
enum write_result handle_patch(const struct stage *s, struct request *r);
/* delete.c */
enum write_result handle_delete(const struct stage *s, struct request *r);
enum write_result handle_delete_collection(const struct stage *s, struct request *r);
/* These are in scale.c. The second one is for all verbs that change something. */
void handle_scale_get(const struct store *store, struct request *r);
enum write_result handle_scale(const struct stage *s, struct request *r);
