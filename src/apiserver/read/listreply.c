/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/read/listreply.h"

#include <string.h>

#include "base/util.h"

/* An answer of several parts, until it has been sent: head, items with commas between them, tail. */
struct parts {
	char *head;
	const char *tail;
	struct blob **items;
	struct item_style style;
	struct party *party;
	struct buf printed; /* the item at AT, if it is not sent as it is stored */
	size_t head_len, n;
	size_t at, offset; /* how far the answer was read: part 0 is the head, part n + 1 the tail */
};

void parts_free(void *cls) {
	struct parts *p = cls;
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++)
		blob_unref(p->items[i]);
	free(p->items);
	free(p->head);
	buf_free(&p->printed);
	free(p);
}

static const char *part(struct parts *p, size_t i, size_t *ret_len) {
	if (i == 0) {
		*ret_len = p->head_len;
		return p->head;
	}
	if (i > p->n) {
		*ret_len = strlen(p->tail);
		return p->tail;
	}
	if (p->style.print) {
		*ret_len = p->printed.len;
		return p->printed.data;
	}
	/* In memory each object is followed by a comma. */
	*ret_len = p->items[i - 1]->len + (i < p->n);
	return p->items[i - 1]->data;
}

/* Prints item I and releases its object, so that a slow reader holds less and less. */
static void print_item(struct parts *p, size_t i) {
	struct blob *b = p->items[i - 1];
	buf_reset(&p->printed);
	const struct json_span item = {b->data, b->len};
	p->style.print(&p->printed, &p->style, &item);
	if (i < p->n)
		buf_putc(&p->printed, ',');
	p->items[i - 1] = blob_unref(b);
}

/* MHD reads from the beginning to the end, and nothing twice. */
ssize_t parts_read(void *cls, uint64_t pos, char *buf, size_t max) {
	struct parts *p = cls;
	size_t done = 0, read = 0;
	(void)pos;
	while (done < max && p->at < p->n + 2) {
		size_t len;
		if (p->style.print && p->at > 0 && p->at <= p->n && p->offset == 0) {
			if (done && read + p->items[p->at - 1]->len > PRINT_MAX)
				break;
			read += p->items[p->at - 1]->len;
			print_item(p, p->at);
			if (p->printed.failed)
				return MHD_CONTENT_READER_END_WITH_ERROR;
		}
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

struct parts *parts_new(struct reply *r) {
	struct parts *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->head_len = r->body.len;
	p->head = buf_steal(&r->body);
	p->tail = r->tail;
	p->items = TAKE_PTR(r->items);
	p->n = r->n_items;
	p->style = r->style;
	r->n_items = 0;
	if (p->head)
		return p;
	parts_free(p);
	return NULL;
}

static ssize_t read_charged(void *cls, uint64_t pos, char *buf, size_t max) {
	struct parts *p = cls;
	party_work(p->party, WORK_REQUEST, NULL);
	return parts_read(p, pos, buf, max);
}

/*
 * A list is sent from where its objects are. MHD_create_response_from_iovec() is not used: it needs room for all parts
 * in the connection's memory, and libmicrohttpd 0.9.75 aborts the program if there is none.
 */
struct MHD_Response *list_response(struct reply *r, struct party *party) {
	struct parts *p = parts_new(r);
	uint64_t total = 0;
	if (p)
		p->party = party;
	for (size_t i = 0; p && !p->style.print && i < p->n + 2; i++) {
		size_t len;
		(void)part(p, i, &len);
		total += len;
	}
	struct MHD_Response *resp = p ? MHD_create_response_from_callback(p->style.print ? MHD_SIZE_UNKNOWN : total,
	                                                                  LIST_CHUNK, read_charged, p, parts_free)
	                              : NULL;
	if (!resp)
		parts_free(p);
	return resp;
}
