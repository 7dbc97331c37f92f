/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A document and a patch of it, as the two elements of a list: [document, patch]. The document must not change. Our
 * reader and writer of trees must agree with jansson's.
 */

#include "fuzz.h"

#include <string.h>

#include "apiserver/json/patch.h"
#include "apiserver/json/tree.h"

static void compare(const char *text, size_t size) {
	json_t *tree = tree_load(text, size);
	struct buf b = {0};
	if (tree) {
		json_t *want = json_loadb(text, size, JSON_DECODE_ANY, NULL);
		char *dumped = json_dumps(want, JSON_COMPACT | JSON_ENCODE_ANY);
		CHECK(json_equal(tree, want) && dumped);
		tree_dump(&b, tree);
		CHECK(strcmp(b.data, dumped) == 0);
		free(dumped);
		json_decref(want);
	}
	buf_free(&b);
	json_decref(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	json_t *both = json_loadb((const char *)data, size, 0, NULL), *got = NULL;
	json_t *target = json_array_get(both, 0), *patch = json_array_get(both, 1);
	struct error err = {0};
	compare((const char *)data, size);
	if (target && patch) {
		json_t *before = json_deep_copy(target);
		if (patch_json(target, patch, &got, &err) == 0)
			json_decref(got);
		else
			CHECK(err.msg[0]);
		CHECK(json_equal(before, target));
		CHECK(patch_merge(target, patch, &got) == 0);
		CHECK(json_equal(before, target));
		json_t *twice = NULL;
		CHECK(patch_merge(got, patch, &twice) == 0);
		CHECK(json_equal(got, twice));
		json_decref(got);
		json_decref(twice);
		json_decref(before);
	}
	json_decref(both);
	return 0;
}
