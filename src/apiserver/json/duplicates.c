/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/duplicates.h"

#include <errno.h>
#include <string.h>

#include "base/jsonread.h"
#include "base/util.h"

struct walk {
	struct jr jr;
	struct buf path;
	struct api_errors *errs;
};

struct keys {
	char **v;
	size_t n, cap;
};

static int keys_add(struct keys *k, const char *key, size_t len) {
	if (k->n == k->cap) {
		size_t cap = k->cap ? k->cap * 2 : 16;
		char **v = reallocarray(k->v, cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		k->v = v;
		k->cap = cap;
	}
	k->v[k->n] = strndup(key, len);
	return k->v[k->n] ? (k->n++, 0) : -ENOMEM;
}

static void keys_free(struct keys *k) {
	for (size_t i = 0; i < k->n; i++)
		free(k->v[i]);
	free(k->v);
}

static int by_text(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int walk_value(struct walk *w);

/* Reads the value below the current path, then cuts the path back to LEN. */
static int walk_below(struct walk *w, size_t len) {
	int r = walk_value(w);
	w->path.len = len;
	w->path.failed = false;
	return r;
}

static int walk_object(struct walk *w) {
	_cleanup_(keys_free) struct keys keys = {0};
	const char *key;
	size_t n, len = w->path.len;
	int r = jr_object(&w->jr);
	while (r >= 0 && (r = jr_key(&w->jr, &key, &n)) > 0) {
		r = keys_add(&keys, key, n);
		if (r == 0) {
			buf_printf(&w->path, "%s%s", len ? "." : "", keys.v[keys.n - 1]);
			r = walk_below(w, len);
		}
	}
	if (r < 0)
		return r;
	if (keys.n > 1)
		qsort(keys.v, keys.n, sizeof(*keys.v), by_text);
	for (size_t i = 1; i < keys.n; i++)
		if (streq(keys.v[i], keys.v[i - 1]) && (i == 1 || !streq(keys.v[i], keys.v[i - 2])))
			api_errors_add(w->errs, API_INVALID, "", "duplicate field \"%.*s%s%.63s\"",
			               (int)MIN(len, (size_t)128), len ? w->path.data : "", len ? "." : "", keys.v[i]);
	return 0;
}

static int walk_value(struct walk *w) {
	int type = jr_peek(&w->jr), r;
	size_t len = w->path.len;
	if (type == JR_OBJECT)
		return walk_object(w);
	if (type != JR_ARRAY)
		return jr_skip(&w->jr, NULL, NULL);
	r = jr_array(&w->jr);
	for (size_t i = 0; r >= 0 && (r = jr_elem(&w->jr)) > 0; i++) {
		buf_printf(&w->path, "[%zu]", i);
		r = walk_below(w, len);
	}
	return r;
}

int json_duplicates(const char *text, size_t len, struct api_errors *errs) {
	struct walk w = {.path = {.max = 512}, .errs = errs};
	jr_init(&w.jr, text, len);
	int r = walk_value(&w);
	jr_done(&w.jr);
	buf_free(&w.path);
	return r == -ENOMEM ? r : 0;
}
