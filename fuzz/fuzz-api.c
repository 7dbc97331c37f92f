/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The API engine: the first byte picks a kind, the rest is JSON. An object that parses must print, and parse again to
 * the same object.
 */

#include "fuzz.h"

#include <string.h>

#include "api/dom.h"
#include "api/schema.h"

static void check_tree(const struct api_kind *k, const char *text, size_t len) {
	json_t *tree = json_loadb(text, len, 0, NULL);
	struct api_errors unknown = {0};
	if (!json_is_object(tree)) {
		json_decref(tree);
		return;
	}
	api_prune(k->desc, tree, &unknown);
	CHECK(api_default(k->desc, tree) == 0);
	for (const struct api_column *c = k->columns; c && c->name; c++) {
		int64_t n;
		bool is_integer;
		free(api_jsonpath(tree, c->path, &n, &is_integer));
	}
	json_decref(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	unsigned n = 0;
	void *obj = NULL, *again = NULL;
	struct api_errors errs = {0};
	if (size < 1)
		return 0;
	while (api_kinds[n])
		n++;
	const struct api_kind *k = api_kinds[data[0] % n];
	const char *text = (const char *)data + 1;
	if (api_parse(k, text, size - 1, &obj, &errs) < 0) {
		CHECK(errs.n > 0 && !obj);
	} else {
		_buf_free_ struct buf b = {0};
		api_print(k, obj, &b);
		CHECK(!b.failed);
		struct api_errors none = {0};
		CHECK(api_parse(k, b.data, b.len, &again, &none) == 0);
		CHECK(api_equal(k->desc, obj, again));
		api_check_update(k, obj, again, &none);
		CHECK(none.n == 0);
		api_free(k, obj);
		api_free(k, again);
	}
	check_tree(k, text, size - 1);
	return 0;
}
