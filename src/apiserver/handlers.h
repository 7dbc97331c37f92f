/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The handlers of each verb. Each sets r->reply; the writes are `run` functions of struct write. */

#include "apiserver/server.h"

/* read.c */
void handle_get(struct server *s, struct request *r);
/* Sets r->listing if it takes longer; then list_more() is called in other turns of the loop until that is NULL. */
void handle_list(struct server *s, struct request *r);
void list_more(struct server *s, struct request *r);
void handle_watch(struct server *s, struct request *r);

/* write.c, delete.c; they are called again from scratch after WRITE_LATER. */
enum write_result handle_create(struct server *s, struct request *r);
enum write_result handle_update(struct server *s, struct request *r);
enum write_result handle_patch(struct server *s, struct request *r);
enum write_result handle_delete(struct server *s, struct request *r);
enum write_result handle_delete_collection(struct server *s, struct request *r);

/* scale.c; the second one is a write, of any verb */
void handle_scale_get(struct server *s, struct request *r);
enum write_result handle_scale(struct server *s, struct request *r);

/* discovery.c: everything that is not about objects. Answers 404 by itself. */
void handle_other(struct server *s, struct request *r);
