/* SPDX-License-Identifier: Apache-2.0 */
#include "stored.h"

#include <string.h>

#include "api/meta.h"
#include "apiserver/json/tree.h"
#include "base/util.h"
#include "fuzz.h"

/* The depth of valid JSON. */
static size_t depth_of(const char *p, size_t n) {
	size_t depth = 0, most = 0;
	bool text = false;
	for (size_t i = 0; i < n; i++) {
		if (text && p[i] == '\\')
			i++;
		else if (p[i] == '"')
			text = !text;
		else if (!text && (p[i] == '{' || p[i] == '['))
			most = MAX(most, ++depth);
		else if (!text && (p[i] == '}' || p[i] == ']'))
			depth--;
	}
	CHECK(!text && depth == 0);
	return most;
}

void check_stored(const struct store *s) {
	for (unsigned kind = 0; api_kinds[kind]; kind++)
		for (const struct object *o = store_seek(s, kind, "", ""); o; o = store_next(s, kind, o)) {
			struct api_errors errs = {0};
			void *obj = NULL;
			CHECK(api_parse(api_kinds[kind], o->value->data, o->value->len, &obj, &errs) == 0);
			const struct api_meta *m = api_meta(obj);
			CHECK(streq(m->name, o->name) && streq(m->ns ? m->ns : "", o->ns) && m->uid &&
			      m->resource_version);
			CHECK(strtoll(m->resource_version, NULL, 10) == o->rv);
			CHECK(depth_of(o->value->data, o->value->len) <= TREE_DEPTH_MAX);
			api_free(api_kinds[kind], obj);
		}
}
