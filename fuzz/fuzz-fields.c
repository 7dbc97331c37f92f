/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Field ownership: a list [live, config, managedFields, patch] of an Instance. For all inputs: inputs that are only
 * read don't change, printed fields read back the same, a second apply changes nothing, and YAML that is JSON is read
 * like JSON.
 */

#include "fuzz.h"

#include <string.h>

#include "api/instance.h"
#include "apiserver/fields/apply.h"
#include "apiserver/json/strategic.h"
#include "apiserver/json/yamlread.h"

static void check_sets(struct arena *m, const json_t *a, const json_t *b) {
	const struct fields *x, *y, *again;
	if (fields_parse(m, a, &x) < 0 || fields_parse(m, b, &y) < 0)
		return;
	json_t *text = fields_print(x);
	CHECK(fields_parse(m, text, &again) == 0 && fields_equal(x, again));
	const struct fields *both = fields_intersection(m, x, y), *one = fields_difference(m, x, y);
	CHECK(fields_equal(fields_union(m, both, one), x));
	CHECK(!fields_intersection(m, one, y));
	CHECK(fields_equal(fields_union(m, x, y), fields_union(m, y, x)));
	json_decref(text);
}

static void check_apply(struct arena *m, json_t *live, json_t *config, const json_t *list) {
	const struct typed t = {.kind = &api_kind_instance, .arena = m};
	const struct writer who = {
		.manager = "fuzz", .version = "nacre.dev/v1alpha1", .subresource = "", .now = "2026-01-01T00:00:00Z"};
	const struct apply a = {.type = &t, .who = &who, .force = true};
	struct managed e;
	struct conflicts conflicts;
	struct error err;
	json_t *got = NULL, *twice = NULL;
	drop_nulls(live);
	drop_nulls(config);
	if (!json_is_object(live) || typed_check(&t, live, &err) < 0 || typed_check(&t, config, &err) < 0 ||
	    !json_is_object(config) || managed_read(m, list, &e) < 0)
		return;
	json_t *before = json_deep_copy(live);
	CHECK(apply(&a, &e, live, config, &got, &conflicts) == 0);
	CHECK(json_equal(before, live));
	json_t *managers = managed_print(&e);
	CHECK(managers && managed_read(m, managers, &e) == 0);
	CHECK(apply(&a, &e, got, config, &twice, &conflicts) == 0);
	CHECK(json_equal(got, twice));
	json_decref(before);
	json_decref(managers);
	json_decref(got);
	json_decref(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_arena_free_ struct arena m = {0};
	struct error err = {0};
	json_t *yaml = NULL, *all = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL), *got = NULL;
	int r = yaml_parse((const char *)data, size, true, &yaml, &err);
	CHECK(r == 0 || err.msg[0]);
	json_decref(yaml);
	json_t *live = json_array_get(all, 0), *config = json_array_get(all, 1);
	json_t *list = json_array_get(all, 2), *patch = json_array_get(all, 3);
	if (live && patch) {
		json_t *before = json_deep_copy(live);
		r = strategic_merge(&api_desc_instance, live, patch, &got, &err);
		CHECK(r == 0 || err.msg[0]);
		CHECK(json_equal(before, live));
		json_decref(got);
		json_decref(before);
	}
	check_sets(&m, list, patch);
	if (live && config)
		check_apply(&m, live, config, list);
	json_decref(all);
	return 0;
}
