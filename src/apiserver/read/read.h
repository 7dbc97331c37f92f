/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Get, list and watch. They read only from memory. Each sets r->reply. */

#include "apiserver/read/watch.h"

void handle_get(const struct store *store, struct request *r);
/* A list that takes long sets r->rest. Then list_more() is called in other turns of the loop until r->rest is NULL. */
void handle_list(const struct store *store, struct request *r);
void list_more(struct request *r);
void handle_watch(struct watches *watches, struct request *r);
