/* SPDX-License-Identifier: Apache-2.0 */

/* Which parts of objects are moved, and files that were changed after writing. tests/api/test_move.py tests whole
 * moves. */

#include "base/testing.h"

#include <string.h>
#include <sys/stat.h>

#include "api/account.h"
#include "api/endpoint.h"
#include "api/instance.h"
#include "api/rbac.h"
#include "api/tenantquota.h"
#include "base/util.h"
#include "move/archive.h"
#include "move/object.h"
#include "move/plan.h"

static json_t *load(const char *text) {
	json_t *v = json_loads(text, 0, NULL);
	assert_non_null(v);
	return v;
}

#define META(name, uid, more) "\"metadata\":{\"name\":\"" name "\",\"uid\":\"" uid "\",\"namespace\":\"t\"" more "}"
#define NACRE(kind)           "\"apiVersion\":\"nacre.dev/v1alpha1\",\"kind\":\"" kind "\","
#define OWNER(kind, uid)      "\"owner\":{\"kind\":\"" kind "\",\"namespace\":\"t\",\"name\":\"o\",\"uid\":\"" uid "\"}"

static void test_kinds(void **state) {
	size_t n = 0, all = 0;
	const struct api_kind *k;
	(void)state;
	while (api_kinds[all])
		all++;
	for (; (k = object_kind(n)); n++)
		for (size_t i = 0; i < n; i++)
			assert_ptr_not_equal(k, object_kind(i));
	assert_int_equal(n, all - 2);
	assert_string_equal(object_kind(0)->kind, "Namespace");
	assert_string_equal(object_kind(n - 1)->kind, "TenantQuota");
}

static void test_what_is_moved(void **state) {
	static const struct {
		const struct api_kind *kind;
		const char *obj;
		bool moved;
	} t[] = {
		{&api_kind_instance, "{" META("a", "u", "") "}", true},
		{&api_kind_configmap, "{" META("kube-root-ca.crt", "u", "") "}", false},
		{&api_kind_configmap, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"kube-system\"}}", false},
		{&api_kind_secret, "{" META("a", "u", "") ",\"type\":\"Opaque\"}", true},
		{&api_kind_secret, "{" META("a", "u", "") ",\"type\":\"kubernetes.io/service-account-token\"}", false},
		{&api_kind_clusterrole, "{\"metadata\":{\"name\":\"system:mine\"}}", false},
		{&api_kind_clusterrole, "{\"metadata\":{\"name\":\"nacre:edit\"}}", false},
		{&api_kind_clusterrole, "{\"metadata\":{\"name\":\"cluster-admin\"}}", false},
		{&api_kind_clusterrole, "{\"metadata\":{\"name\":\"mine\"}}", true},
		{&api_kind_role, "{" META("nacre:edit", "u", "") "}", true}, /* a Role, not a default ClusterRole */
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		json_t *obj = load(t[i].obj);
		if (object_is_moved(t[i].kind, obj) != t[i].moved)
			fail_msg("%s", t[i].obj);
		json_decref(obj);
	}
}

static const char *uid_of(const char *uid, void *userdata) {
	(void)userdata;
	return streq(uid, "there") ? "new" : streq(uid, "later") ? "" : NULL;
}

static void test_wanted(void **state) {
	struct error err;
	json_t *obj, *want;
	(void)state;
	/* The owner of kind Instance is named by its status.id, which stays the same. */
	static const struct {
		const char *owner, *uid;
	} owners[] = {
		{OWNER("Instance", "there"), "there"}, {OWNER("Host", "there"), "new"}, {OWNER("Host", "x"), "x"}};
	for (size_t i = 0; i < ARRAY_SIZE(owners); i++) {
		_free_ char *text =
			strf("{" META("a", "u", "") ",\"spec\":{%s},\"status\":{\"x\":1}}", owners[i].owner);
		obj = load(text);
		assert_int_equal(object_wanted(&api_kind_endpoint, obj, uid_of, NULL, &want, &err), 0);
		const json_t *owner = json_object_get(json_object_get(want, "spec"), "owner");
		assert_string_equal(json_string_value(json_object_get(owner, "uid")), owners[i].uid);
		assert_null(json_object_get(want, "status"));
		assert_string_equal(object_meta(want, "uid"), "");
		json_decref(want);
		json_decref(obj);
	}
	/* Owners that are not in the file are omitted; for an owner that is created later the object waits. */
	obj = load("{" META("a", "u",
	                    ",\"finalizers\":[\"a/b\",\"foregroundDeletion\"],\"ownerReferences\":[{\"uid\":\"x\"},"
	                    "{\"uid\":\"there\"}]") "}");
	assert_int_equal(object_wanted(&api_kind_configmap, obj, uid_of, NULL, &want, &err), 0);
	_free_ char *text = json_dumps(json_object_get(want, "metadata"), JSON_COMPACT);
	assert_string_equal(text, "{\"name\":\"a\",\"namespace\":\"t\",\"finalizers\":[\"a/b\"],\"ownerReferences\":[{"
	                          "\"uid\":\"new\"}]}");
	json_decref(want);
	json_decref(obj);
	obj = load("{" META("a", "u", ",\"ownerReferences\":[{\"uid\":\"there\"},{\"uid\":\"later\"}]") "}");
	assert_int_equal(object_wanted(&api_kind_configmap, obj, uid_of, NULL, &want, &err), 0);
	assert_null(want);
	json_decref(obj);
}

static void test_strip(void **state) {
	struct error err;
	(void)state;
	json_t *obj = load("{" META(
		"a", "u",
		",\"generation\":3,\"resourceVersion\":\"7\",\"managedFields\":[]") ",\"status\":"
	                                                                            "{\"conditions\":[{"
	                                                                            "\"observedGeneration\":3},{"
	                                                                            "\"observedGeneration\":2},{}]}}");
	assert_int_equal(object_strip(&api_kind_instance, obj, &err), 0);
	_free_ char *text = json_dumps(obj, JSON_COMPACT);
	assert_string_equal(
		text, "{\"metadata\":{\"name\":\"a\",\"uid\":\"u\",\"namespace\":\"t\"},\"status\":{\"conditions\":"
		      "[{\"observedGeneration\":1},{},{}],\"id\":\"u\"},\"apiVersion\":\"nacre.dev/v1alpha1\","
		      "\"kind\":\"Instance\"}");
	json_decref(obj);
}

static void test_same(void **state) {
	static const struct {
		const char *want, *have, *path; /* NULL: equal */
	} t[] = {
		{"{\"spec\":{\"a\":1}}", "{\"spec\":{\"a\":1},\"status\":{\"x\":1}}", NULL},
		{"{\"spec\":{\"a\":1}}", "{\"spec\":{\"a\":1,\"b\":[],\"c\":{},\"d\":null}}", NULL},
		{"{\"spec\":{\"a\":1}}", "{\"spec\":{\"a\":2}}", "spec.a"},
		{"{\"spec\":{\"a\":1}}", "{\"spec\":{\"a\":1,\"b\":0}}", "spec.b"},
		{"{\"spec\":{\"a\":[1,2]}}", "{\"spec\":{\"a\":[2,1]}}", "spec.a"},
		{"{\"spec\":{\"a\":[1]}}", "{}", "spec"},
		{"{}", "{\"spec\":{\"a\":[1]}}", "spec"},
		{"{\"metadata\":{\"labels\":{\"a\":\"b\"}}}", "{\"metadata\":{\"labels\":{\"a\":\"b\",\"c\":\"d\"}}}",
	         NULL},
		{"{\"metadata\":{\"labels\":{\"a\":\"b\"}}}", "{\"metadata\":{\"labels\":{\"a\":\"c\"}}}",
	         "metadata.labels.a"},
		{"{\"metadata\":{\"finalizers\":[\"a\"]}}", "{\"metadata\":{\"finalizers\":[\"a\",\"orphan\"]}}", NULL},
		{"{\"metadata\":{\"finalizers\":[\"a\"]}}", "{\"metadata\":{}}", "metadata.finalizers"},
		{"{}", "{\"metadata\":{\"ownerReferences\":[{\"uid\":\"a\"}]}}", "metadata.ownerReferences"},
	};
	char path[OBJECT_PATH_MAX];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		json_t *want = load(t[i].want), *have = load(t[i].have);
		bool same = object_same(&api_kind_instance, want, have, path);
		if (same != !t[i].path || (!same && !streq(path, t[i].path)))
			fail_msg("%s and %s: %d %s", t[i].want, t[i].have, same, path);
		json_decref(want);
		json_decref(have);
	}
}

#define INSTANCE_LINE "{" NACRE("Instance") META("a", "u", "") ",\"spec\":{\"type\":\"s\",\"image\":\"i\"}}"

static void test_archive(void **state) {
	_free_ char *path = strf("/tmp/nacre-test-move-%d", getpid());
	_free_ char *part = strf("%s.part", path), *text = NULL;
	struct archive *a;
	struct error err;
	struct stat st;
	json_t *list;
	size_t len;
	(void)state;
	test_claim("dir", path);
	test_claim("dir", part);
	json_t *obj = load(INSTANCE_LINE);
	/* An archive that is freed without finish leaves no file. */
	assert_int_equal(archive_create(&a, path, "here", &err), 0);
	assert_int_equal(archive_add(a, obj, &err), 0);
	archive_free(a);
	assert_true(access(path, F_OK) < 0 && access(part, F_OK) < 0);
	assert_int_equal(archive_create(&a, path, "here", &err), 0);
	assert_int_equal(archive_add(a, obj, &err), 0);
	assert_int_equal(archive_finish(a, &err), 0);
	archive_free(a);
	json_decref(obj);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(access(part, F_OK) < 0);
	assert_int_equal(archive_read(path, &list, &err), 0);
	assert_int_equal(json_array_size(list), 1);
	json_decref(list);
	assert_int_equal(read_file(path, 1 << 20, &text, &len, &err), 0);
	unlink(path);
	/* A file with any missing end or any changed byte is refused. */
	for (size_t n = 0; n < len; n++) {
		_free_ char *cut = strndup(text, n);
		assert_true(archive_parse(cut, n, "x", &list, &err) < 0);
		char was = text[n];
		text[n] = (char)(was == 'x' ? 'y' : 'x');
		assert_true(archive_parse(text, len, "x", &list, &err) < 0);
		text[n] = was;
	}
	assert_int_equal(archive_parse(text, len, "x", &list, &err), 0);
	json_decref(list);
}

static void test_plan(void **state) {
	struct plan p;
	struct error err = {0};
	(void)state;
	json_t *list = load("[" INSTANCE_LINE "," INSTANCE_LINE "]");
	assert_int_equal(plan_init(&p, list, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "same name"));
	plan_clear(&p);
	list = load("[" INSTANCE_LINE "]");
	assert_int_equal(plan_init(&p, list, &err), 0);
	assert_string_equal(plan_uid("u", &p), "");
	assert_null(plan_uid("x", &p));
	json_t *have = load("{" NACRE("Instance") META("a", "new", "") ",\"spec\":{\"type\":\"s\",\"image\":\"i\"}}");
	assert_int_equal(plan_look(&p, &p.items[0], have, &err), 0);
	assert_true(plan_item_is_done(&p.items[0]));
	assert_string_equal(plan_uid("u", &p), "new");
	json_decref(have);
	have = load("{" NACRE("Instance") META("a", "new", "") ",\"spec\":{\"type\":\"other\",\"image\":\"i\"}}");
	assert_int_equal(plan_look(&p, &p.items[0], have, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "Instance t/a is there already, and spec.type differs"));
	json_decref(have);
	plan_clear(&p);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds), cmocka_unit_test(test_what_is_moved), cmocka_unit_test(test_wanted),
		cmocka_unit_test(test_strip), cmocka_unit_test(test_same),          cmocka_unit_test(test_archive),
		cmocka_unit_test(test_plan),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
