/* SPDX-License-Identifier: Apache-2.0 */

/* The answers of the metadata service (vm/metadata.h), which touch memory and the seed only. */

#include "vm/metadata.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/util.h"

#define TOKEN_PATH   "/latest/api/token"
#define TOKEN_HEADER "X-aws-ec2-metadata-token"
#define TTL_HEADER   "X-aws-ec2-metadata-token-ttl-seconds"

struct answer {
	int status;
	const char *allow; /* of 405 */
	int64_t ttl_s;     /* of a token; 0: none */
	struct buf body;
};

static const char *reason_of(int status) {
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {{200, "OK"},
	               {400, "Bad Request"},
	               {401, "Unauthorized"},
	               {403, "Forbidden"},
	               {404, "Not Found"},
	               {405, "Method Not Allowed"},
	               {413, "Content Too Large"},
	               {421, "Misdirected Request"},
	               {431, "Request Header Fields Too Large"},
	               {505, "HTTP Version Not Supported"}};

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Internal Server Error";
}

/* The body of a failure is its reason, for a person. */
static void answer_print(struct answer *a, bool keep_alive, bool with_body, struct buf *out) {
	if (a->body.failed)
		a->status = 500;
	if (a->status != 200) {
		buf_reset(&a->body);
		buf_printf(&a->body, "%d %s\n", a->status, reason_of(a->status));
	}
	buf_printf(out,
	           "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n",
	           a->status, reason_of(a->status), a->body.len);
	if (a->allow)
		buf_printf(out, "Allow: %s\r\n", a->allow);
	if (a->ttl_s)
		buf_printf(out, TTL_HEADER ": %lld\r\n", (long long)a->ttl_s);
	buf_printf(out, "Connection: %s\r\n\r\n", keep_alive ? "keep-alive" : "close");
	if (with_body)
		buf_add(out, a->body.data, a->body.len);
}

/* True if TEXT is one of the addresses, with or without the port. */
static bool is_our_host(const char *text) {
	char host[64];
	struct in6_addr ours, a;
	int n = snprintf(host, sizeof(host), "%s", text);

	if (n >= (int)sizeof(host))
		return false;
	if (n > 3 && streq(host + n - 3, ":80"))
		host[n -= 3] = 0;
	if (host[0] != '[')
		return streq(host, METADATA_ADDRESS4);
	if (host[n - 1] != ']')
		return false;
	host[n - 1] = 0;
	return inet_pton(AF_INET6, host + 1, &a) == 1 && inet_pton(AF_INET6, METADATA_ADDRESS6, &ours) == 1 &&
	       memcmp(&a, &ours, sizeof(a)) == 0;
}

static int make_token(const struct imdstoken_key *key, uint64_t now_s, const struct http1_request *q,
                      struct answer *a) {
	char token[IMDSTOKEN_LEN + 1];
	const char *text;
	int64_t ttl;

	if (http1_field(q, TTL_HEADER, &text) != 1 || parse_i64(text, 1, IMDSTOKEN_TTL_MAX, &ttl, NULL) < 0)
		return 400;
	imdstoken_make(key, now_s, (uint32_t)ttl, token);
	buf_puts(&a->body, token);
	a->ttl_s = ttl;
	return 200;
}

static int metadata_decide(const struct imds *m, const struct imdstoken_key *key, uint64_t now_s,
                           const struct http1_request *q, struct answer *a) {
	const char *text;

	if (http1_field(q, "X-Forwarded-For", &text))
		return 403;
	/* HTTP/1.0 needs none, and each browser sends one. */
	if (http1_field(q, "Host", &text) && !is_our_host(text))
		return 421;
	if (streq(q->path, TOKEN_PATH)) {
		if (q->method == HTTP1_PUT)
			return make_token(key, now_s, q, a);
		a->allow = "PUT";
		return 405;
	}
	if (q->method != HTTP1_GET && q->method != HTTP1_HEAD) {
		a->allow = "GET, HEAD";
		return 405;
	}
	if (imds_needs_token(q->path) &&
	    (http1_field(q, TOKEN_HEADER, &text) != 1 || !imdstoken_valid(key, now_s, text)))
		return 401;
	return imds_get(m, q->path, &a->body);
}

void metadata_answer(const struct imds *m, const struct imdstoken_key *key, uint64_t now_s,
                     const struct http1_request *q, struct buf *out) {
	struct answer a = {.body = {.max = METADATA_ANSWER_MAX}};

	a.status = metadata_decide(m, key, now_s, q, &a);
	answer_print(&a, q->keep_alive, q->method != HTTP1_HEAD, out);
	buf_free(&a.body);
}

void metadata_refuse(int status, struct buf *out) {
	struct answer a = {.status = status};

	answer_print(&a, false, true, out);
	buf_free(&a.body);
}
