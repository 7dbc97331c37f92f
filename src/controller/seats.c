/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/seats.h"

#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/placement.h"

struct seat {
	RB_ENTRY(seat) node;
	struct resources size;
	bool promised[N_USES];
	bool binding;    /* the instance may be bound already */
	bool given_back; /* ends as soon as it is not binding */
	char host[256];
	char key[];
};

static int seat_cmp(const struct seat *a, const struct seat *b) {
	return strcmp(a->key, b->key);
}

RB_HEAD(seat_tree, seat);
RB_GENERATE_INTERNAL(seat_tree, seat, node, seat_cmp, _unused_ static)

struct seats {
	struct controller *c;
	struct seat_tree tree;
};

static struct seat *seat_find(const struct seats *s, const struct instance *i) {
	char key[KUBE_KEY_MAX];
	kube_key(i->meta.ns, i->meta.name, key);
	return TREE_FIND_STRING(seat, &s->tree, node, key, key);
}

/* I: the instance in the cache, as for placement_settle(). */
static void seat_drop(struct seats *s, struct seat *e, const struct instance *i) {
	placement_settle(placement_of(s->c), i, e->host, &e->size);
	for (enum use u = 0; u < N_USES; u++)
		if (e->promised[u])
			addresses_take_back(addresses_of(s->c), u);
	RB_REMOVE(seat_tree, &s->tree, e);
	free(e);
}

bool seats_has(const struct seats *s, const struct instance *i) {
	return seat_find(s, i);
}

const char *seats_host(const struct seats *s, const struct instance *i, const struct instancetype *type) {
	const struct seat *e = seat_find(s, i);
	if (!e || e->given_back)
		return NULL;
	const struct resources size = instancetype_size(type);
	return e->binding || (resources_equal(&e->size, &size) && placement_takes(placement_of(s->c), e->host, i->spec))
	               ? e->host
	               : NULL;
}

void seats_drop(struct seats *s, const struct instance *i) {
	struct seat *e = seat_find(s, i);
	if (e && e->binding)
		e->given_back = true;
	else if (e)
		seat_drop(s, e, NULL);
}

void seats_bind_begun(struct seats *s, const struct instance *i) {
	struct seat *e = seat_find(s, i);
	if (e)
		e->binding = true;
}

bool seats_is_binding(const struct seats *s, const struct instance *i) {
	const struct seat *e = seat_find(s, i);
	return e && e->binding;
}

bool seats_bind_ended(struct seats *s, const struct instance *i) {
	struct seat *e = seat_find(s, i);
	if (!e)
		return false;
	e->binding = false;
	bool given_back = e->given_back;
	if (given_back)
		seat_drop(s, e, NULL);
	return given_back;
}

void seats_keep(struct seats *s, const struct instance *i, const char *host, const struct instancetype *type) {
	char key[KUBE_KEY_MAX];
	size_t n = strlen(kube_key(i->meta.ns, i->meta.name, key)) + 1;
	struct seat *e = calloc(1, sizeof(*e) + n);
	if (!e)
		abort(); /* its place would be given to others */
	memcpy(e->key, key, n);
	snprintf(e->host, sizeof(e->host), "%s", host);
	e->size = instancetype_size(type);
	seats_drop(s, i);
	RB_INSERT(seat_tree, &s->tree, e);
	placement_assume(placement_of(s->c), host, &e->size);
	for (enum use u = 0; u < N_USES; u++) {
		e->promised[u] = addresses_lacks(addresses_of(s->c), i, u);
		if (e->promised[u])
			addresses_promise(addresses_of(s->c), u);
	}
}

void seats_spend(struct seats *s, const struct instance *i, unsigned use) {
	struct seat *e = seat_find(s, i);
	if (!e || !e->promised[use])
		return;
	e->promised[use] = false;
	addresses_spend(addresses_of(s->c), use);
}

/* ---- ---- */

/*
 * A bound instance counts by itself (placement.c). One that is being deleted will not be bound, even if it is binding:
 * a status patch names the version that it is based on.
 */
static void seats_instance_changed(struct controller *c, const struct kube_change *ch) {
	const struct instance *i = ch->obj;
	struct seat *e = seat_find(seats_of(c), i);
	if (e && (ch->type == KUBE_DELETED || instance_is_bound(i) || i->meta.deletion_timestamp))
		seat_drop(seats_of(c), e, ch->type == KUBE_DELETED ? NULL : i);
}

/* Another controller may place instances now. A patch of this one may still bind an instance. */
static void seats_stopped(struct controller *c) {
	struct seats *s = seats_of(c);
	struct seat *e, *next;
	RB_FOREACH_SAFE (e, seat_tree, &s->tree, next) {
		if (e->binding)
			e->given_back = true;
		else
			seat_drop(s, e, NULL);
	}
}

static int seats_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                      struct error *err) {
	struct seats *s = calloc(1, sizeof(*s));
	if (!s)
		return error_oom(err);
	s->c = c;
	RB_INIT(&s->tree);
	*ret = s;
	return 0;
}

static void seats_close(void *state) {
	struct seats *s = state;
	struct seat *e;
	while ((e = RB_MIN(seat_tree, &s->tree))) {
		RB_REMOVE(seat_tree, &s->tree, e);
		free(e);
	}
	free(s);
}

const struct concern concern_seats = {
	.name = "seats",
	.watches = {{.kind = &api_kind_instance, .changed = seats_instance_changed}},
	.open = seats_open,
	.stopped = seats_stopped,
	.close = seats_close,
};
