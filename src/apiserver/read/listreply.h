/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sends the answer to a list from where the objects are. Objects that are shown in another form are printed one by one
 * as they are sent, so that neither the memory nor the time of a turn grows with the list.
 */

#include <microhttpd.h>

#include "apiserver/request/limits.h"

/* In bytes: how much is sent at a time, and how much of printed objects is read before others have their turn. */
#define LIST_CHUNK ((size_t)65536)
#define PRINT_MAX  ((size_t)256 << 10)

/*
 * Takes the items and the body of R, which must have a tail. The time is charged to PARTY, which must outlive the
 * response. NULL: no memory.
 */
struct MHD_Response *list_response(struct reply *r, struct party *party);

/* The reader behind the response, for tests. parts_new() takes from R what list_response() takes; NULL: no memory. */
struct parts;
struct parts *parts_new(struct reply *r);
ssize_t parts_read(void *parts, uint64_t pos, char *buf, size_t max);
void parts_free(void *parts);
