/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An API server's answer to a list ("L…") or to a watch (any other first byte, which is also the number of bytes that
 * come at once). The parsers belong to the reflector, which is why this file includes it.
 */

#include "fuzz.h"

#include "../src/kube/reflector.c" /* NOLINT */
#include "api/instance.h"

static void on_list_begin(void *userdata) {
	(void)userdata;
}

static void on_apply(void *obj, void *userdata) {
	(void)userdata;
	CHECK(((struct api_meta *)obj)->name);
	api_free(&api_kind_instance, obj);
}

static void on_remove(const struct api_meta *meta, void *userdata) {
	(void)userdata;
	CHECK(meta->name);
}

static void on_bad(void *part, const struct error *err, void *userdata) {
	(void)userdata;
	CHECK(err->msg[0]);
	api_free(&api_kind_instance, part);
}

static void feed_watch(struct kube_reflector *r, const char *bytes, size_t len, size_t step) {
	struct buf in = {0};
	bool ended = false;
	for (size_t at = 0; at < len && !ended; at += step) {
		buf_add(&in, bytes + at, MIN(step, len - at));
		ssize_t n = watch_data(in.data, in.len, r);
		CHECK(n <= (ssize_t)in.len);
		ended = n < 0;
		if (n > 0)
			buf_consume(&in, (size_t)n);
	}
	buf_free(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct kube_reflector r = {
		.kind = &api_kind_instance,
		.ops = {.list_begin = on_list_begin, .apply = on_apply, .remove = on_remove, .bad = on_bad}};
	char *version = NULL, *more = NULL;
	struct error err = {0};
	if (size < 1)
		return 0;
	if (*data == 'L')
		CHECK(take_page(&r, (const char *)data + 1, size - 1, &version, &more, &err) == 0 || err.msg[0]);
	else
		feed_watch(&r, (const char *)data + 1, size - 1, *data ? *data : 1);
	free(version);
	free(more);
	free(r.version);
	return 0;
}
