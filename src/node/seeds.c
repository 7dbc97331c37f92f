/* SPDX-License-Identifier: Apache-2.0 */
#include "node/seeds.h"

#include <stdlib.h>
#include <string.h>

#include "base/tree.h"
#include "base/util.h"

struct seed_entry {
	RB_ENTRY(seed_entry) node;
	char uuid[37];
	int64_t number;
	struct seed seed;
};

static int seed_entry_cmp(const struct seed_entry *a, const struct seed_entry *b) {
	return strcmp(a->uuid, b->uuid);
}
RB_HEAD(seed_entries, seed_entry);
RB_GENERATE_INTERNAL(seed_entries, seed_entry, node, seed_entry_cmp, _unused_ static)

struct seeds {
	struct seed_entries all;
	int64_t last_number;
};

static void seed_free_bytes(const char *bytes, size_t len) {
	if (bytes)
		explicit_bzero((char *)bytes, len);
	free((char *)bytes);
}

static void seed_clear(struct seed *seed) {
	seed_free_bytes(seed->user_data, seed->user_data_len);
	seed_free_bytes(seed->ssh_keys, seed->ssh_keys_len);
	*seed = (struct seed){0};
}

int seeds_new(struct seeds **ret, struct error *err) {
	struct seeds *s = calloc(1, sizeof(*s));

	if (!s)
		return error_oom(err);
	RB_INIT(&s->all);
	*ret = s;
	return 0;
}

static struct seed_entry *seeds_find(const struct seeds *s, const char *uuid) {
	return TREE_FIND_STRING(seed_entry, &s->all, node, uuid, uuid);
}

void seeds_drop(struct seeds *s, const char *uuid) {
	struct seed_entry *e = seeds_find(s, uuid);

	if (!e)
		return;
	RB_REMOVE(seed_entries, &s->all, e);
	seed_clear(&e->seed);
	free(e);
}

struct seeds *seeds_free(struct seeds *s) {
	struct seed_entry *e;

	while (s && (e = RB_MIN(seed_entries, &s->all)))
		seeds_drop(s, e->uuid);
	free(s);
	return NULL;
}

static bool bytes_equal(const char *a, size_t n, const char *b, size_t m) {
	return a && b ? n == m && memcmp(a, b, n) == 0 : a == b;
}

/* One byte more than LEN, so that an empty content isn't NULL. */
static bool bytes_copy(const char **to, size_t *to_len, const char *from, size_t len) {
	char *copy = from ? calloc(1, len + 1) : NULL;

	if (copy)
		memcpy(copy, from, len);
	*to = copy;
	*to_len = len;
	return copy || !from;
}

int seeds_put(struct seeds *s, const char *uuid, const struct seed *seed, int64_t *ret_number) {
	struct seed_entry *e = seeds_find(s, uuid);
	struct seed copy = {.keep_user_data = seed->keep_user_data, .keep_ssh_keys = seed->keep_ssh_keys};

	if (e && e->seed.keep_user_data == seed->keep_user_data && e->seed.keep_ssh_keys == seed->keep_ssh_keys &&
	    bytes_equal(e->seed.user_data, e->seed.user_data_len, seed->user_data, seed->user_data_len) &&
	    bytes_equal(e->seed.ssh_keys, e->seed.ssh_keys_len, seed->ssh_keys, seed->ssh_keys_len)) {
		*ret_number = e->number;
		return 0;
	}
	if (!bytes_copy(&copy.user_data, &copy.user_data_len, seed->user_data, seed->user_data_len) ||
	    !bytes_copy(&copy.ssh_keys, &copy.ssh_keys_len, seed->ssh_keys, seed->ssh_keys_len) ||
	    (!e && !(e = calloc(1, sizeof(*e))))) {
		seed_clear(&copy);
		return -ENOMEM;
	}
	if (!e->number) {
		snprintf(e->uuid, sizeof(e->uuid), "%s", uuid);
		RB_INSERT(seed_entries, &s->all, e);
	}
	seed_clear(&e->seed);
	e->seed = copy;
	*ret_number = e->number = ++s->last_number;
	return 0;
}

const struct seed *seeds_get(const struct seeds *s, const char *uuid) {
	const struct seed_entry *e = seeds_find(s, uuid);

	return e ? &e->seed : NULL;
}
