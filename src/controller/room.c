/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/room.h"

#include <string.h>

#include "api/addresspool.h"
#include "api/host.h"
#include "api/instance.h"
#include "api/tenantquota.h"
#include "base/tree.h"
#include "base/util.h"

struct waiter {
	RB_ENTRY(waiter) node;
	const struct concern *concern;
	bool first;
	char created[32];
	char *name;
	char ns[];
};

static int waiter_cmp(const struct waiter *a, const struct waiter *b) {
	if (a->first != b->first)
		return a->first ? -1 : 1;
	int c = strcmp(a->created, b->created);
	c = c ? c : strcmp(a->concern->name, b->concern->name);
	c = c ? c : strcmp(a->ns, b->ns);
	return c ? c : strcmp(a->name, b->name);
}

RB_HEAD(waiters, waiter);
RB_GENERATE_INTERNAL(waiters, waiter, node, waiter_cmp, _unused_ static)

struct room {
	struct waiters waiters;
};

static struct room *room_of(const struct controller *c) {
	return concern_state(c, &concern_room);
}

void room_wait(struct controller *c, const struct concern *concern, const struct api_meta *m, bool first) {
	const char *ns = m->ns ? m->ns : "";
	size_t n = strlen(ns) + 1;
	struct waiter *w = calloc(1, sizeof(*w) + n + strlen(m->name) + 1);
	if (!w)
		abort(); /* it would wait for ever */
	memcpy(w->ns, ns, n);
	w->name = strcpy(w->ns + n, m->name);
	snprintf(w->created, sizeof(w->created), "%s", m->creation_timestamp ? m->creation_timestamp : "");
	w->concern = concern;
	w->first = first;
	if (RB_INSERT(waiters, &room_of(c)->waiters, w))
		free(w);
}

void room_made(struct controller *c) {
	struct room *room = room_of(c);
	struct waiter *w;
	while ((w = RB_MIN(waiters, &room->waiters))) {
		RB_REMOVE(waiters, &room->waiters, w);
		concern_enqueue(c, w->concern, w->ns, w->name);
		free(w);
	}
}

/* ---- ---- */

static void room_changed(struct controller *c, _unused_ const struct kube_change *ch) {
	room_made(c);
}

static void room_freed(struct controller *c, const struct kube_change *ch) {
	if (ch->type == KUBE_DELETED)
		room_made(c);
}

/* A TenantQuota that is new can allow more than the default one, which held until now. */
static void room_quota_changed(struct controller *c, const struct kube_change *ch) {
	const struct tenantquota *now = ch->obj, *old = ch->old;
	if (ch->type != KUBE_MODIFIED || !api_equal(&api_desc_tenantquota_spec, now->spec, old->spec))
		room_made(c);
}

static int room_open(_unused_ struct controller *c, _unused_ const struct controller_options *o, void **ret,
                     struct error *err) {
	struct room *room = calloc(1, sizeof(*room));
	if (!room)
		return error_oom(err);
	RB_INIT(&room->waiters);
	*ret = room;
	return 0;
}

static void room_close(void *state) {
	struct room *room = state;
	struct waiter *w;
	while ((w = RB_MIN(waiters, &room->waiters))) {
		RB_REMOVE(waiters, &room->waiters, w);
		free(w);
	}
	free(room);
}

const struct concern concern_room = {
	.name = "room",
	.watches = {{.kind = &api_kind_instance, .changed = room_freed},
                    {.kind = &api_kind_allocation, .changed = room_freed},
                    {.kind = &api_kind_addresspool, .changed = room_changed},
                    {.kind = &api_kind_instancetype, .changed = room_changed},
                    {.kind = &api_kind_host, .changed = room_changed},
                    {.kind = &api_kind_tenantquota, .changed = room_quota_changed}},
	.open = room_open,
	.close = room_close,
};
