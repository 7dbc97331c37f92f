/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A list on its way out, sent from where its objects are; those that are shown otherwise are printed one by one as they
 * are sent, so that neither the memory nor the time of a turn grows with the list.
 */

#include <microhttpd.h>

#include "apiserver/request/limits.h"

/* So much is sent at a time, and of objects that are printed so many bytes are read before others have their turn. */
#define LIST_CHUNK ((size_t)65536)
#define PRINT_MAX  ((size_t)256 << 10)

/* Takes the items and the body of R, which has a tail. PARTY, which outlives it, is charged. NULL on no memory. */
struct MHD_Response *list_response(struct reply *r, struct party *party);

/* What the response reads from: for tests. Takes as above. */
struct parts;
struct parts *parts_new(struct reply *r);
ssize_t parts_read(void *parts, uint64_t pos, char *buf, size_t max);
void parts_free(void *parts);
