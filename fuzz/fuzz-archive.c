/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files of nacre export: the input is used as the lines of a file, to which a valid end is added, and as a whole file.
 */

#include "fuzz.h"

#include <gnutls/crypto.h>
#include <string.h>

#include "base/buf.h"
#include "move/archive.h"
#include "move/plan.h"

static void parse(const char *text, size_t len) {
	struct error err = {0};
	struct plan p;
	json_t *list;
	if (archive_parse(text, len, "file", &list, &err) < 0) {
		CHECK(err.code && *err.msg);
		return;
	}
	if (plan_init(&p, list, &err) == 0)
		for (size_t i = 0; i < p.n; i++) {
			json_t *want;
			CHECK(object_wanted(p.items[i].kind, p.items[i].obj, plan_uid, &p, &want, &err) == 0);
			json_decref(want);
			CHECK(strcmp(plan_uid(p.items[i].uid, &p), "") == 0);
		}
	plan_clear(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct buf b = {0};
	uint8_t sum[32];
	size_t lines = 0;
	buf_puts(&b, "{\"kind\":\"Export\",\"apiVersion\":\"nacre.dev/v1alpha1\"}\n");
	for (size_t i = 0; i < size; i++) {
		buf_putc(&b, data[i] ? (char)data[i] : ' ');
		lines += data[i] == '\n';
	}
	if (size && data[size - 1] != '\n') {
		buf_putc(&b, '\n');
		lines++;
	}
	CHECK(!b.failed && gnutls_hash_fast(GNUTLS_DIG_SHA256, b.data, b.len, sum) == 0);
	size_t body = b.len;
	buf_printf(&b, "{\"objects\":%zu,\"sha256\":\"", lines);
	for (size_t i = 0; i < sizeof(sum); i++)
		buf_printf(&b, "%02x", sum[i]);
	buf_puts(&b, "\"}\n");
	CHECK(!b.failed);
	parse(b.data, b.len);
	parse(b.data, body);
	buf_free(&b);
	return 0;
}
