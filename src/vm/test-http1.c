/* SPDX-License-Identifier: Apache-2.0 */

/* The heads of HTTP requests. */

#include "base/testing.h"

#include "base/util.h"
#include "vm/http1.h"

static int parse(const char *text, size_t len, struct http1_request *q) {
	static char head[2 * HTTP1_HEAD_MAX];

	assert_true(len <= sizeof(head));
	memcpy(head, text, len);
	return http1_parse(head, len, q);
}

static void requests(void **state) {
	(void)state;
	static const struct {
		const char *text;
		int result;
	} table[] = {
		{"", 0},
		{"GET / HTTP/1.1\r\nHost: a\r\n", 0},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1},
		{"GET / HTTP/1.0\r\n\r\n", 1},
		{"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET", 1},
		{"M-SEARCH /x HTTP/1.1\r\nHOST:\ta \r\nEmpty:\r\nName: j\xc3\xb6rg\r\n\r\n", 1},
		{"GET / HTTP/1.1\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", -400},
		{"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", -400},
		{"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost: \x01\r\n\r\n", -400},
		{"GET / HTTP/1.1\r\nHost: \x7f\r\n\r\n", -400},
		{"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"\r\n\r\n", -400},
		{"GET /\r\n\r\n", -400},
		{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", -505},
		{"GET / / HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"G,T / HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{" / HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"GET /\xc3\xb6 HTTP/1.1\r\nHost: a\r\n\r\n", -400},
		{"GET / HTTP/2.0\r\nHost: a\r\n\r\n", -505},
		{"GET / HTCPCP/1.0\r\nHost: a\r\n\r\n", -400},
		{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", -413},
		{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n", -413},
		{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ncontent-length: 5\r\n\r\n", -413},
		{"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", -413},
	};
	struct http1_request q;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		int r = parse(table[i].text, strlen(table[i].text), &q);
		if (r != table[i].result)
			fail_msg("entry %zu: %d", i, r);
	}
	static const char nul[] = "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n";
	assert_int_equal(parse(nul, sizeof(nul) - 1, &q), -400);
}

static void parts_of_a_request(void **state) {
	(void)state;
	static const char text[] = "PUT /a?b HTTP/1.1\r\nHost: x\r\nA:  1 2\t\r\na: 3\r\n\r\nrest";
	static const struct {
		const char *text;
		bool keep_alive;
	} table[] = {
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, Close\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nconnection: close\r\n\r\n", false},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
		{"GET / HTTP/1.0\r\nConnection: keep-alive,close\r\n\r\n", false},
	};
	struct http1_request q;
	const char *value;

	assert_int_equal(parse(text, sizeof(text) - 1, &q), 1);
	assert_int_equal(q.method, HTTP1_PUT);
	assert_string_equal(q.path, "/a?b");
	assert_int_equal(q.len, sizeof(text) - 1 - 4);
	assert_int_equal(http1_field(&q, "a", &value), 2);
	assert_string_equal(value, "1 2");
	assert_int_equal(http1_field(&q, "b", &value), 0);
	assert_null(value);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(parse(table[i].text, strlen(table[i].text), &q), 1);
		assert_int_equal(q.keep_alive, table[i].keep_alive);
	}
}

static void sizes_of_requests(void **state) {
	(void)state;
	_buf_free_ struct buf b = {0};
	struct http1_request q;

	/* The largest head, with more behind it; one byte more; and a line that never ends. */
	for (size_t extra = 0; extra < 2; extra++) {
		buf_reset(&b);
		buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
		while (b.len < HTTP1_HEAD_MAX - 4 + extra)
			buf_putc(&b, 'x');
		buf_puts(&b, "\r\n\r\nGET / HTTP/1.1\r\n\r\n");
		assert_int_equal(parse(b.data, b.len, &q), extra ? -431 : 1);
	}
	assert_int_equal(parse(b.data, HTTP1_HEAD_MAX - 1, &q), 0);
	assert_int_equal(parse(b.data, HTTP1_HEAD_MAX, &q), -431);
	for (size_t extra = 0; extra < 2; extra++) {
		buf_reset(&b);
		buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
		for (size_t i = 1; i < HTTP1_FIELDS_MAX + extra; i++)
			buf_puts(&b, "x: y\r\n");
		buf_puts(&b, "\r\n");
		assert_int_equal(parse(b.data, b.len, &q), extra ? -431 : 1);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(parts_of_a_request),
		cmocka_unit_test(sizes_of_requests),
	};
	return cmocka_run_group_tests_name("vm-http1", tests, NULL, NULL);
}
