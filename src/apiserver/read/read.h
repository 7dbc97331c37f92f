/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Get, list and watch: all from memory. Each sets r->reply. */

#include "apiserver/read/watch.h"

void handle_get(const struct store *store, struct request *r);
/* Sets r->rest if it takes longer; then list_more() is called in other turns of the loop until that is NULL. */
void handle_list(const struct store *store, struct request *r);
void list_more(struct request *r);
void handle_watch(struct watches *watches, struct request *r);
