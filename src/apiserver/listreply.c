/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/listreply.h"

#include <string.h>

#include "base/util.h"

#define LIST_CHUNK ((size_t)65536)

/* What an answer of several parts must keep until it is sent: head, items with commas between them, tail. */
struct parts {
	char *head;
	const char *tail;
	struct blob **items;
	size_t head_len, n;
	size_t at, offset; /* how far it was read: part 0 is the head, n + 1 the tail */
};

static void parts_free(void *cls) {
	struct parts *p = cls;
	for (size_t i = 0; i < p->n; i++)
		blob_unref(p->items[i]);
	free(p->items);
	free(p->head);
	free(p);
}

static const char *part(const struct parts *p, size_t i, size_t *ret_len) {
	if (i == 0) {
		*ret_len = p->head_len;
		return p->head;
	}
	if (i > p->n) {
		*ret_len = strlen(p->tail);
		return p->tail;
	}
	/* A comma follows each object in memory. */
	*ret_len = p->items[i - 1]->len + (i < p->n);
	return p->items[i - 1]->data;
}

/* MHD reads from the beginning to the end, never twice. */
static ssize_t read_parts(void *cls, uint64_t pos, char *buf, size_t max) {
	struct parts *p = cls;
	size_t done = 0;
	(void)pos;
	while (done < max && p->at < p->n + 2) {
		size_t len;
		const char *data = part(p, p->at, &len);
		size_t n = MIN(len - p->offset, max - done);
		memcpy(buf + done, data + p->offset, n);
		done += n;
		p->offset += n;
		if (p->offset == len) {
			p->at++;
			p->offset = 0;
		}
	}
	return done ? (ssize_t)done : MHD_CONTENT_READER_END_OF_STREAM;
}

/*
 * A list is sent from where its objects are. (Not by MHD_create_response_from_iovec(): that needs room for all parts in
 * the connection's memory, and libmicrohttpd 0.9.75 aborts the program without it.)
 */
struct MHD_Response *list_response(struct reply *r) {
	struct parts *p = calloc(1, sizeof(*p));
	uint64_t total = 0;
	if (!p)
		return NULL;
	p->head_len = r->body.len;
	p->head = buf_steal(&r->body);
	p->tail = r->tail;
	p->items = TAKE_PTR(r->items);
	p->n = r->n_items;
	r->n_items = 0;
	for (size_t i = 0; i < p->n + 2; i++) {
		size_t len;
		(void)part(p, i, &len);
		total += len;
	}
	struct MHD_Response *resp =
		p->head ? MHD_create_response_from_callback(total, LIST_CHUNK, read_parts, p, parts_free) : NULL;
	if (!resp)
		parts_free(p);
	return resp;
}
