/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <stdio.h>

#include "apiserver/store/store.h"
#include "base/util.h"

#define KIND 0

struct seen {
	unsigned events, commits;
	int result;
};

static void on_event(void *userdata, unsigned kind, const struct watch_event *e) {
	struct seen *s = userdata;
	assert_int_equal(kind, KIND);
	assert_non_null(e->value);
	s->events++;
}

static void on_commit(void *userdata, int r, const struct error *cause) {
	struct seen *s = userdata;
	(void)cause;
	s->commits++;
	s->result = r;
}

static struct store *open_store(const char *path, struct seen *seen) {
	struct store *s = NULL;
	struct error err = {0};
	const struct store_hooks hooks = {on_event, on_commit, seen};
	if (store_open(&s, path, NULL, &hooks, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

static void put(struct store *s, const char *ns, const char *name, const char *json) {
	assert_int_equal(store_put(s, KIND, ns, name, blob_new(json, strlen(json))), 0);
}

static void remove_one(struct store *s, const char *ns, const char *name, const char *json) {
	assert_int_equal(store_remove(s, KIND, ns, name, blob_new(json, strlen(json))), 0);
}

static const char *value(struct store *s, const char *ns, const char *name) {
	const struct object *o = store_get(s, KIND, ns, name);
	if (!o)
		return NULL;
	assert_int_equal(o->value->data[o->value->len], ',');
	o->value->data[o->value->len] = '\0';
	static char out[256];
	snprintf(out, sizeof(out), "%s", o->value->data);
	o->value->data[o->value->len] = ',';
	return out;
}

static void test_nothing_is_seen_before_the_commit(void **state) {
	struct seen seen = {0};
	struct store *s = open_store(NULL, &seen);
	(void)state;
	store_commit(s); /* nothing staged: nothing happens */
	assert_int_equal(seen.commits, 0);
	assert_int_equal(store_next_version(s), 1);
	put(s, "", "a", "{\"n\":1}");
	assert_true(store_staged(s, KIND, "", "a"));
	assert_false(store_staged(s, KIND, "", "b"));
	assert_true(store_staged_kind(s, KIND));
	assert_false(store_staged_kind(s, KIND + 1));
	assert_null(store_get(s, KIND, "", "a"));
	assert_int_equal(store_version(s), 0);
	store_commit(s);
	assert_int_equal(seen.events, 1);
	assert_int_equal(seen.commits, 1);
	assert_string_equal(value(s, "", "a"), "{\"n\":1}");
	assert_int_equal(store_version(s), 1);
	assert_int_equal(store_staged_count(s), 0);
	assert_int_equal(store_count(s, KIND), 1);
	store_free(s);
}

static void test_order(void **state) {
	struct seen seen = {0};
	struct store *s = open_store(NULL, &seen);
	(void)state;
	put(s, "b", "x", "{}");
	put(s, "a", "z", "{}");
	put(s, "a", "y", "{}");
	put(s, "a-b", "a", "{}");
	store_commit(s);
	static const char *const want[][2] = {{"a", "y"}, {"a", "z"}, {"a-b", "a"}, {"b", "x"}};
	size_t i = 0;
	for (const struct object *o = store_seek(s, KIND, "", ""); o; o = store_next(s, KIND, o), i++) {
		assert_string_equal(o->ns, want[i][0]);
		assert_string_equal(o->name, want[i][1]);
	}
	assert_int_equal(i, 4);
	assert_string_equal(store_seek(s, KIND, "a", "y1")->name, "z");
	assert_string_equal(store_seek(s, KIND, "a", "zz")->ns, "a-b");
	assert_null(store_seek(s, KIND, "b", "y"));
	char longer[600];
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_null(store_get(s, KIND, "a", longer));
	store_free(s);
}

static void test_events(void **state) {
	struct seen seen = {0};
	struct store *s = open_store(NULL, &seen);
	uint64_t seq;
	(void)state;
	put(s, "", "a", "{\"n\":1}");
	store_commit(s);
	put(s, "", "a", "{\"n\":2}");
	put(s, "", "b", "{}");
	store_commit(s);
	remove_one(s, "", "a", "{\"n\":2,\"rv\":4}");
	store_commit(s);
	assert_int_equal(store_event_after(s, KIND, 0, &seq), 0);
	assert_int_equal(store_event_end(s, KIND) - seq, 4);
	assert_int_equal(store_event_after(s, KIND, 1, &seq), 0);
	const struct watch_event *e = store_event(s, KIND, seq);
	assert_int_equal(e->rv, 2);
	assert_int_equal(e->type, EVENT_MODIFIED);
	assert_int_equal(e->prev_rv, 1);
	assert_memory_equal(e->prev->data, "{\"n\":1}", 7);
	assert_int_equal(store_event_after(s, KIND, 3, &seq), 0);
	assert_int_equal(store_event(s, KIND, seq)->type, EVENT_DELETED);
	assert_null(store_event(s, KIND, seq + 1));
	assert_null(store_get(s, KIND, "", "a"));
	assert_int_equal(store_event_after(s, KIND, 4, &seq), 0);
	assert_int_equal(seq, store_event_end(s, KIND));
	store_free(s);
}

static char *temp_dir(char dir[static 64]) {
	snprintf(dir, 64, "/tmp/nacre-test-store-XXXXXX");
	return test_mkdtemp(dir);
}

static void test_reopen(void **state) {
	struct seen seen = {0};
	char dir[64], path[128];
	uint64_t seq;
	(void)state;
	assert_non_null(temp_dir(dir));
	snprintf(path, sizeof(path), "%s/db", dir);
	struct store *s = open_store(path, &seen);
	put(s, "n", "a", "{\"n\":1}");
	put(s, "n", "b", "{\"n\":1}");
	store_commit(s);
	put(s, "n", "a", "{\"n\":2}");
	store_commit(s);
	remove_one(s, "n", "b", "{\"n\":1}");
	store_commit(s);
	struct store *second = NULL;
	struct error err = {0};
	assert_int_equal(store_open(&second, path, NULL, NULL, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "another nacre-apiserver"));
	store_free(s);

	s = open_store(path, &seen);
	assert_int_equal(store_version(s), 4);
	assert_int_equal(store_next_version(s), 5);
	assert_string_equal(value(s, "n", "a"), "{\"n\":2}");
	assert_null(store_get(s, KIND, "n", "b"));
	assert_int_equal(store_event_after(s, KIND, 2, &seq), 0);
	const struct watch_event *e = store_event(s, KIND, seq);
	assert_int_equal(e->type, EVENT_MODIFIED);
	assert_memory_equal(e->prev->data, "{\"n\":1}", 7);
	assert_int_equal(store_event(s, KIND, seq + 1)->type, EVENT_DELETED);
	store_free(s);
	assert_int_equal(remove_tree(dir, NULL), 0);
}

/* Events beyond the limit are forgotten, on disk as well; objects are not. */
static void test_forgetting(void **state) {
	struct seen seen = {0};
	char dir[64], path[128];
	uint64_t seq;
	(void)state;
	assert_non_null(temp_dir(dir));
	snprintf(path, sizeof(path), "%s/db", dir);
	struct store *s = open_store(path, &seen);
	put(s, "", "still", "{}");
	store_commit(s);
	_free_ char *big = malloc(1 << 20);
	assert_non_null(big);
	memset(big, ' ', 1 << 20);
	big[0] = '{';
	big[(1 << 20) - 1] = '}';
	for (int i = 0; i < 100; i++) {
		assert_int_equal(store_put(s, KIND, "", "big", blob_new(big, 1 << 20)), 0);
		store_commit(s);
	}
	assert_int_equal(store_event_after(s, KIND, 1, &seq), -EXPIRED_VERSION);
	assert_int_equal(store_event_after(s, KIND, 71, &seq), 0);
	assert_int_equal(store_event_end(s, KIND) - seq, 30);
	store_free(s);
	s = open_store(path, &seen);
	assert_int_equal(store_event_after(s, KIND, 1, &seq), -EXPIRED_VERSION);
	assert_string_equal(value(s, "", "still"), "{}");
	assert_int_equal(store_count(s, KIND), 2);
	/* About 32 versions are kept. */
	_free_ char *content = NULL;
	size_t len = 0;
	put(s, "", "still", "{\"n\":2}");
	store_commit(s);
	store_free(s);
	assert_int_equal(read_file(path, (size_t)256 << 20, &content, &len, NULL), 0);
	assert_true(len < (size_t)80 << 20);
	assert_int_equal(remove_tree(dir, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_seen_before_the_commit),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_forgetting),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
