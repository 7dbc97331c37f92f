/* SPDX-License-Identifier: Apache-2.0 */

/* Requests of a guest for its metadata (vm/http1.h, vm/metadata.h), one after the other. What holds for each is
 * checked. */

#include "fuzz.h"

#include <string.h>

#include "vm/metadata.h"

/* Nothing of an answer can be mistaken for another: one status line, one length, which is right. */
static void check_answer(const struct buf *out, bool has_body) {
	const char *end = memmem(out->data, out->len, "\r\n\r\n", 4);
	const char *length = strstr(out->data, "\r\nContent-Length: ");

	CHECK(!out->failed && strncmp(out->data, "HTTP/1.1 ", 9) == 0 && atoi(out->data + 9) >= 200);
	CHECK(end && length && length < end);
	size_t body = out->len - (size_t)(end + 4 - out->data);
	CHECK(has_body ? body == strtoul(length + 18, NULL, 10) : body == 0);
	CHECK(!memmem(out->data, (size_t)(end - out->data), "\n\n", 2));
}

/* True if all characters of S are in the text, so that nothing behind a string was read. */
static void check_string(const char *s, const char *text, size_t len) {
	CHECK(s >= text && s + strlen(s) < text + len);
}

static void check_request(const struct http1_request *q, const char *text, size_t len) {
	CHECK(q->len > 0 && q->len <= len && q->len <= HTTP1_HEAD_MAX);
	CHECK(q->path[0] == '/' && q->n_fields <= HTTP1_FIELDS_MAX);
	check_string(q->path, text, q->len);
	for (size_t i = 0; i < q->n_fields; i++) {
		check_string(q->fields[i].name, text, q->len);
		check_string(q->fields[i].value, text, q->len);
		CHECK(q->fields[i].name[0] && !strpbrk(q->fields[i].name, " \t\r\n:"));
		CHECK(!strpbrk(q->fields[i].value, "\r\n"));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const char text[] =
		"{\"name\":\"t/web\",\"uuid\":\"0b5ac4a8-4b0e-4c35-9c3d-000000000001\",\"kernel\":\"/k\","
		"\"mac\":\"02:4e:01:00:00:05\",\"tap\":\"tap\",\"prefix\":\"2001:db8:1:1::/64\",\"ipv4\":\"192.0.0.2\","
		"\"ipv4Router\":\"169.254.0.1\",\"hostname\":\"web\",\"domain\":\"a.example\"}";
	const struct imdstoken_key key = {{1}};
	_free_ char *copy = malloc(size + 1); /* of this size, so that a read behind the end is found */
	struct http1_request q;
	struct error err = {0};
	struct vm_config c;
	int r = 1;

	CHECK(copy && vm_config_parse(text, sizeof(text) - 1, &c, &err) == 0);
	memcpy(copy, data, size);
	for (size_t at = 0; at < size && r > 0; at += q.len) {
		_buf_free_ struct buf out = {.max = METADATA_ANSWER_MAX};
		r = http1_parse(copy + at, size - at, &q);
		if (r > 0) {
			check_request(&q, copy + at, size - at);
			metadata_answer(&(struct imds){.config = &c, .seed = -1}, &key, 0, &q, &out);
		} else if (r < 0) {
			CHECK(r <= -400 && r > -600);
			metadata_refuse(-r, &out);
		}
		if (r)
			check_answer(&out, r < 0 || q.method != HTTP1_HEAD);
	}
	return 0;
}
