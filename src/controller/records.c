/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Deletes AllocationRecords that are older than historyDays of their AddressPool, and the oldest ones if there are more
 * than historyRecords. For a pool that is gone the defaults hold. The queue has the names of pools; each look deletes
 * only a few, and the next one comes a little later. The cache holds names only: there may be many records.
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

struct record {
	RB_ENTRY(record) by_age, by_name;
	struct history *history;
	uint64_t until_us;
	uint64_t deleted_us; /* monotonic: when its deletion was begun; 0: it was not */
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
RB_HEAD(records_by_name, record);
RB_GENERATE_INTERNAL(records_by_name, record, by_name, record_name_cmp, _unused_ static)

/* The records of one pool; never empty. */
struct history {
	RB_ENTRY(history) node;
	struct records_by_age records;
	size_t n;
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

static void record_add(struct records *r, const struct allocationrecord *obj) {
	struct history *h = history_find(r, obj->spec->pool);
	struct record *rec = records_alloc(sizeof(*rec) + strlen(obj->meta.name) + 1);
	if (!h) {
		h = records_alloc(sizeof(*h) + strlen(obj->spec->pool) + 1);
		strcpy(h->pool, obj->spec->pool);
		RB_INIT(&h->records);
		RB_INSERT(histories, &r->histories, h);
	}
	strcpy(rec->name, obj->meta.name);
	rec->history = h;
	(void)!time_parse(obj->spec->until, &rec->until_us);
	RB_INSERT(records_by_name, &r->names, rec);
	RB_INSERT(records_by_age, &h->records, rec);
	h->n++;
}

static void record_remove(struct records *r, struct record *rec) {
	struct history *h = rec->history;
	RB_REMOVE(records_by_name, &r->names, rec);
	RB_REMOVE(records_by_age, &h->records, rec);
	free(rec);
	if (--h->n)
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

static void records_reconcile(struct work *w, const void *obj) {
	static const struct addresspool_spec gone = {.use = (char *)"instance"};
	const struct addresspool_spec *spec = obj ? ((const struct addresspool *)obj)->spec : &gone;
	const struct history *h = history_find(records_of(work_controller(w)), work_key(w));
	const uint64_t now = now_realtime_us(), mono = now_monotonic_ns() / 1000;
	const uint64_t age = (uint64_t)addresspool_history_days(spec) * DAY_US;
	struct record *rec = h ? RB_MIN(records_by_age, &((struct history *)h)->records) : NULL;
	size_t left = h ? h->n : 0;
	for (; rec && (left > (size_t)addresspool_history_records(spec) || rec->until_us + age <= now);
	     rec = RB_NEXT(records_by_age, &h->records, rec)) {
		if (!rec->deleted_us || mono - rec->deleted_us > AGAIN_US) {
			if (!work_room(w)) {
				work_again(w, TURN_US);
				return;
			}
			rec->deleted_us = mono;
			work_delete(w, &api_kind_allocationrecord, &(struct api_meta){.name = rec->name});
		}
		left--;
	}
	/* REC is the oldest one that stays. */
	if (rec)
		work_again(w, MIN(rec->until_us + age - now, DAY_US));
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
