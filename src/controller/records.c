/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Deletes AllocationRecords that are older than historyDays of their AddressPool. If there are more than
 * historyRecords, the oldest ones of the namespace that has the most go, so that nobody who makes many records removes
 * those of others. For a pool that is gone the defaults hold. The queue has the names of pools; each look deletes only
 * a few, and the next one comes a little later. The cache holds names only: there may be many records.
 */

#include <stdlib.h>
#include <string.h>

#include "api/addresspool.h"
#include "base/tree.h"
#include "base/util.h"
#include "controller/work.h"

#define TURN_US  (10 * USEC_PER_MSEC) /* between two looks at a pool that has more to delete */
#define NEW_US   USEC_PER_SEC         /* from a new record to the look at its pool */
#define AGAIN_US (30 * USEC_PER_SEC)  /* from a deletion that was not seen to happen to the next attempt */
#define DAY_US   (24 * 3600 * USEC_PER_SEC)

struct history;
struct tenant;

struct record {
	RB_ENTRY(record) by_name;
	/* While it stays. */
	RB_ENTRY(record) by_age, of_tenant;
	/* Once its deletion was begun. */
	TAILQ_ENTRY(record) entry;
	uint64_t deleted_us; /* monotonic: when that was; 0: it stays */
	struct history *history;
	struct tenant *tenant;
	uint64_t until_us;
	char name[];
};

static int record_age_cmp(const struct record *a, const struct record *b) {
	return a->until_us != b->until_us ? (a->until_us < b->until_us ? -1 : 1) : strcmp(a->name, b->name);
}

static int record_name_cmp(const struct record *a, const struct record *b) {
	return strcmp(a->name, b->name);
}

RB_HEAD(records_by_age, record);
RB_GENERATE_INTERNAL(records_by_age, record, by_age, record_age_cmp, _unused_ static)
RB_HEAD(records_of_tenant, record); /* by age */
RB_GENERATE_INTERNAL(records_of_tenant, record, of_tenant, record_age_cmp, _unused_ static)
RB_HEAD(records_by_name, record);
RB_GENERATE_INTERNAL(records_by_name, record, by_name, record_name_cmp, _unused_ static)

/* A namespace whose objects have records of a pool that stay; never without one. */
struct tenant {
	RB_ENTRY(tenant) by_name, by_size;
	struct records_of_tenant records;
	size_t n;
	char name[];
};

static int tenant_name_cmp(const struct tenant *a, const struct tenant *b) {
	return strcmp(a->name, b->name);
}

static int tenant_size_cmp(const struct tenant *a, const struct tenant *b) {
	return a->n != b->n ? (a->n < b->n ? -1 : 1) : strcmp(a->name, b->name);
}

RB_HEAD(tenants_by_name, tenant);
RB_GENERATE_INTERNAL(tenants_by_name, tenant, by_name, tenant_name_cmp, _unused_ static)
RB_HEAD(tenants_by_size, tenant);
RB_GENERATE_INTERNAL(tenants_by_size, tenant, by_size, tenant_size_cmp, _unused_ static)

/* The records of one pool; never without one. */
struct history {
	RB_ENTRY(history) node;
	struct records_by_age records; /* that stay */
	struct tenants_by_name tenants;
	struct tenants_by_size sizes;
	TAILQ_HEAD(, record) deleted; /* the one whose deletion was begun first comes first */
	size_t n;                     /* that stay */
	char pool[];
};

static int history_cmp(const struct history *a, const struct history *b) {
	return strcmp(a->pool, b->pool);
}

RB_HEAD(histories, history);
RB_GENERATE_INTERNAL(histories, history, node, history_cmp, _unused_ static)

struct records {
	struct records_by_name names;
	struct histories histories;
};

static struct records *records_of(const struct controller *c) {
	return concern_state(c, &concern_records);
}

static struct history *history_find(const struct records *r, const char *pool) {
	return TREE_FIND_STRING(history, &r->histories, node, pool, pool);
}

static void *records_alloc(size_t size) {
	void *p = calloc(1, size);
	if (!p)
		abort(); /* the record would stay for ever */
	return p;
}

static struct history *history_get(struct records *r, const char *pool) {
	struct history *h = history_find(r, pool);
	if (h)
		return h;
	h = records_alloc(sizeof(*h) + strlen(pool) + 1);
	strcpy(h->pool, pool);
	RB_INIT(&h->records);
	RB_INIT(&h->tenants);
	RB_INIT(&h->sizes);
	TAILQ_INIT(&h->deleted);
	RB_INSERT(histories, &r->histories, h);
	return h;
}

static struct tenant *tenant_get(struct history *h, const char *name) {
	struct tenant *t = TREE_FIND_STRING(tenant, &h->tenants, by_name, name, name);
	if (t)
		return t;
	t = records_alloc(sizeof(*t) + strlen(name) + 1);
	strcpy(t->name, name);
	RB_INIT(&t->records);
	RB_INSERT(tenants_by_name, &h->tenants, t);
	RB_INSERT(tenants_by_size, &h->sizes, t);
	return t;
}

static void record_add(struct records *r, const struct allocationrecord *obj) {
	struct record *rec = records_alloc(sizeof(*rec) + strlen(obj->meta.name) + 1);
	struct history *h = rec->history = history_get(r, obj->spec->pool);
	struct tenant *t = rec->tenant = tenant_get(h, obj->spec->owner->ns ? obj->spec->owner->ns : "");
	strcpy(rec->name, obj->meta.name);
	(void)!time_parse(obj->spec->until, &rec->until_us);
	RB_INSERT(records_by_name, &r->names, rec);
	RB_INSERT(records_by_age, &h->records, rec);
	h->n++;
	RB_REMOVE(tenants_by_size, &h->sizes, t);
	t->n++;
	RB_INSERT(tenants_by_size, &h->sizes, t);
	RB_INSERT(records_of_tenant, &t->records, rec);
}

/* The record stays no longer, or is gone. */
static void record_uncount(struct record *rec) {
	struct history *h = rec->history;
	struct tenant *t = rec->tenant;
	RB_REMOVE(records_by_age, &h->records, rec);
	h->n--;
	RB_REMOVE(tenants_by_size, &h->sizes, t);
	RB_REMOVE(records_of_tenant, &t->records, rec);
	rec->tenant = NULL;
	if (--t->n) {
		RB_INSERT(tenants_by_size, &h->sizes, t);
		return;
	}
	RB_REMOVE(tenants_by_name, &h->tenants, t);
	free(t);
}

static void record_remove(struct records *r, struct record *rec) {
	struct history *h = rec->history;
	RB_REMOVE(records_by_name, &r->names, rec);
	if (rec->deleted_us)
		TAILQ_REMOVE(&h->deleted, rec, entry);
	else
		record_uncount(rec);
	free(rec);
	if (h->n || !TAILQ_EMPTY(&h->deleted))
		return;
	RB_REMOVE(histories, &r->histories, h);
	free(h);
}

static void records_record_changed(struct controller *c, const struct kube_change *ch) {
	struct records *r = records_of(c);
	struct record *have = TREE_FIND_STRING(record, &r->names, by_name, name, ch->name);
	const struct allocationrecord *obj = ch->obj;
	if (ch->type == KUBE_DELETED && have)
		record_remove(r, have);
	else if (ch->type == KUBE_ADDED && !have) {
		record_add(r, obj);
		concern_enqueue_after(c, &concern_records, NULL, obj->spec->pool, NEW_US);
	}
}

/* The next record to delete now; NULL: none. */
static struct record *history_surplus(const struct history *h, const struct addresspool_spec *spec, uint64_t mono) {
	struct record *rec = TAILQ_FIRST(&h->deleted);
	const uint64_t age = (uint64_t)addresspool_history_days(spec) * DAY_US;
	if (rec && mono - rec->deleted_us >= AGAIN_US)
		return rec;
	rec = RB_MIN(records_by_age, (struct records_by_age *)&h->records);
	if (rec && rec->until_us + age <= now_realtime_us())
		return rec;
	if (h->n <= (size_t)addresspool_history_records(spec))
		return NULL;
	struct tenant *t = RB_MAX(tenants_by_size, (struct tenants_by_size *)&h->sizes);
	return RB_MIN(records_of_tenant, &t->records);
}

static void records_reconcile(struct work *w, const void *obj) {
	static const struct addresspool_spec gone = {.use = (char *)"instance"};
	const struct addresspool_spec *spec = obj ? ((const struct addresspool *)obj)->spec : &gone;
	struct history *h = history_find(records_of(work_controller(w)), work_key(w));
	const uint64_t mono = now_monotonic_ns() / 1000, age = (uint64_t)addresspool_history_days(spec) * DAY_US;
	struct record *rec;
	while (h && (rec = history_surplus(h, spec, mono))) {
		if (!work_room(w)) {
			work_again(w, TURN_US);
			return;
		}
		if (rec->deleted_us)
			TAILQ_REMOVE(&h->deleted, rec, entry);
		else
			record_uncount(rec);
		rec->deleted_us = mono;
		TAILQ_INSERT_TAIL(&h->deleted, rec, entry);
		work_delete(w, &api_kind_allocationrecord, &(struct api_meta){.name = rec->name});
	}
	uint64_t next = UINT64_MAX;
	if (h && (rec = TAILQ_FIRST(&h->deleted)))
		next = AGAIN_US - (mono - rec->deleted_us);
	if (h && (rec = RB_MIN(records_by_age, &h->records))) {
		const uint64_t now = now_realtime_us(), end = MAX(rec->until_us + age, now);
		next = MIN(next, end - now);
	}
	if (next != UINT64_MAX)
		work_again(w, MIN(next, DAY_US));
}

/* Pools are queued by themselves, but not those that are gone. */
static void records_started(struct controller *c) {
	struct history *h;
	RB_FOREACH (h, histories, &records_of(c)->histories)
		concern_enqueue(c, &concern_records, NULL, h->pool);
}

static int records_open(_unused_ struct controller *c, _unused_ const struct controller_options *o, void **ret,
                        struct error *err) {
	struct records *r = calloc(1, sizeof(*r));
	if (!r)
		return error_oom(err);
	RB_INIT(&r->names);
	RB_INIT(&r->histories);
	*ret = r;
	return 0;
}

static void records_close(void *state) {
	struct records *r = state;
	struct record *rec;
	while ((rec = RB_MIN(records_by_name, &r->names)))
		record_remove(r, rec);
	free(r);
}

const struct concern concern_records = {
	.name = "records",
	.kind = &api_kind_addresspool,
	.watches = {{.kind = &api_kind_allocationrecord, .names_only = true, .changed = records_record_changed}},
	.open = records_open,
	.reconcile = records_reconcile,
	.started = records_started,
	.close = records_close,
};
