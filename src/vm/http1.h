/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The head of an HTTP/1.1 request (RFC 9112) without a body, for the metadata service (vm/metadata.h). The sender is
 * hostile, so the parser is strict where the RFC lets a server choose: a line ends with CR LF, a folded line, a control
 * character and a space before a colon are malformed, and a target begins with `/`. The text is parsed in place and
 * nothing is allocated.
 */

#include <stdbool.h>
#include <stddef.h>

#define HTTP1_HEAD_MAX   4096 /* bytes of a request, up to and with the empty line */
#define HTTP1_FIELDS_MAX 32

enum http1_method { HTTP1_GET, HTTP1_HEAD, HTTP1_PUT, HTTP1_OTHER };

struct http1_request {
	enum http1_method method;
	const char *path; /* printable ASCII, as sent: nothing is decoded, and a query belongs to it */
	bool keep_alive;  /* the client may send another request by this connection */
	size_t len;       /* of the head; what follows is the next request */
	struct {
		const char *name, *value; /* as sent; without white space around the value */
	} fields[HTTP1_FIELDS_MAX];
	size_t n_fields;
};

/*
 * Parses the request at the beginning of the LEN bytes at TEXT, of which it overwrites delimiters by NUL. The strings
 * in *RET point into TEXT. 1: there is one. 0: it is not complete. Otherwise the result is the negative HTTP status
 * with which to refuse the request, after which the connection can't be used: -400 (malformed; no or several `Host`),
 * -413 (it has a body), -431 (too large), -505 (another version).
 */
int http1_parse(char *text, size_t len, struct http1_request *ret);

/* How many fields have NAME, in any case. *RET is the value of the first one, or NULL. */
size_t http1_field(const struct http1_request *r, const char *name, const char **ret);
