/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/quota.h"

#include <string.h>

#include "api/instance.h"
#include "apiserver/selector.h"
#include "base/util.h"

struct tenant {
	RB_ENTRY(tenant) node;
	TAILQ_ENTRY(tenant) link; /* while something is staged */
	struct quota_sum stored, staged;
	char ns[];
};

static int tenant_cmp(const struct tenant *a, const struct tenant *b) {
	return strcmp(a->ns, b->ns);
}

RB_HEAD(tenants, tenant);
RB_GENERATE_INTERNAL(tenants, tenant, node, tenant_cmp, _unused_ static)

struct quota {
	const struct store *store;
	struct tenants tenants;
	TAILQ_HEAD(, tenant) staged;
	unsigned instances, types, quotas; /* kinds */
};

static struct tenant *find(const struct quota *q, const char *ns) {
	struct tenant *t = RB_ROOT(&q->tenants);
	int c;
	while (t && (c = strcmp(ns, t->ns)))
		t = c < 0 ? RB_LEFT(t, node) : RB_RIGHT(t, node);
	return t;
}

static struct tenant *find_or_add(struct quota *q, const char *ns) {
	struct tenant *t = find(q, ns);
	size_t n = strlen(ns) + 1;
	if (t || !(t = calloc(1, sizeof(*t) + n)))
		return t;
	memcpy(t->ns, ns, n);
	RB_INSERT(tenants, &q->tenants, t);
	return t;
}

static int64_t number_at(const char *json, size_t len, const char *path, int64_t otherwise) {
	const char *v;
	size_t n;
	int64_t ret = otherwise;
	if (!json_find(json, len, path, &v, &n))
		return otherwise;
	struct jr r;
	jr_init(&r, v, n);
	if (jr_i64(&r, &ret) < 0)
		ret = otherwise;
	jr_done(&r);
	return ret;
}

/* A type's name is a DNS name and so has no escapes. */
static const struct object *type_of(const struct quota *q, const char *json, size_t len) {
	char name[256];
	const char *v;
	size_t n;
	if (!json_find(json, len, "spec.type", &v, &n) || n < 2 || n - 2 >= sizeof(name))
		return NULL;
	memcpy(name, v + 1, n - 2);
	name[n - 2] = '\0';
	return store_get(q->store, q->types, "", name);
}

static struct quota_sum takes(const struct quota *q, const char *json, size_t len) {
	const char *status = "";
	size_t n = 0;
	(void)json_find(json, len, "status", &status, &n);
	struct quota_sum s = {1, number_at(status, n, "vcpus", -1), number_at(status, n, "memoryMiB", -1)};
	const struct object *type = s.vcpus < 0 || s.memory_mib < 0 ? type_of(q, json, len) : NULL;
	if (s.vcpus < 0)
		s.vcpus = type ? number_at(type->value->data, type->value->len, "spec.vcpus", 0) : 0;
	if (s.memory_mib < 0)
		s.memory_mib = type ? number_at(type->value->data, type->value->len, "spec.memoryMiB", 0) : 0;
	return s;
}

static int count(struct quota *q, const char *ns, const struct blob *b, int sign) {
	struct tenant *t = find_or_add(q, ns);
	if (!t)
		return -ENOMEM;
	struct quota_sum s = takes(q, b->data, b->len);
	quota_sum_add(&t->stored, &s, sign);
	if (!t->stored.instances && !t->staged.instances) {
		RB_REMOVE(tenants, &q->tenants, t);
		free(t);
	}
	return 0;
}

static int count_all(struct quota *q) {
	struct tenant *t;
	int r = 0;
	RB_FOREACH (t, tenants, &q->tenants)
		t->stored = (struct quota_sum){0};
	for (const struct object *o = store_seek(q->store, q->instances, "", ""); r == 0 && o;
	     o = store_next(q->store, q->instances, o))
		r = count(q, o->ns, o->value, 1);
	return r;
}

void quota_notice(struct quota *q, unsigned kind, const struct watch_event *e) {
	int r = 0;
	if (kind == q->instances) {
		/* First what comes: a namespace must not vanish in between. */
		if (e->type != EVENT_DELETED)
			r = count(q, e->ns, e->value, 1);
		if (r == 0 && e->prev)
			r = count(q, e->ns, e->prev, -1);
	} else if (kind == q->types && e->type != EVENT_MODIFIED) /* sizes can't be changed */
		r = count_all(q);
	if (r < 0)
		abort(); /* what is used would not be known any more */
}

bool quota_allows(const struct quota *q, const char *ns, const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]) {
	const struct object *o = store_seek(q->store, q->quotas, ns, "");
	if (!o || !streq(o->ns, ns))
		return true;
	const struct tenant *t = find(q, ns);
	struct quota_sum want = takes(q, text->data, text->len), used = t ? t->stored : (struct quota_sum){0};
	if (t)
		quota_sum_add(&used, &t->staged, 1);
	for (; o && streq(o->ns, ns); o = store_next(q->store, q->quotas, o)) {
		struct api_errors ignored = {0};
		void *quota;
		if (api_parse(&api_kind_tenantquota, o->value->data, o->value->len, &quota, &ignored) < 0)
			continue;
		bool over = tenantquota_exceeded(o->name, ((struct tenantquota *)quota)->spec, &used, &want, msg);
		api_free(&api_kind_tenantquota, quota);
		if (over)
			return false;
	}
	return true;
}

int quota_stage(struct quota *q, const char *ns, const struct buf *text) {
	struct tenant *t = find_or_add(q, ns);
	if (!t)
		return -ENOMEM;
	struct quota_sum s = takes(q, text->data, text->len);
	if (!t->staged.instances)
		TAILQ_INSERT_TAIL(&q->staged, t, link);
	quota_sum_add(&t->staged, &s, 1);
	return 0;
}

void quota_settled(struct quota *q) {
	struct tenant *t;
	while ((t = TAILQ_FIRST(&q->staged))) {
		TAILQ_REMOVE(&q->staged, t, link);
		t->staged = (struct quota_sum){0};
		if (t->stored.instances)
			continue;
		RB_REMOVE(tenants, &q->tenants, t);
		free(t);
	}
}

struct quota *quota_free(struct quota *q) {
	struct tenant *t;
	if (!q)
		return NULL;
	while ((t = RB_MIN(tenants, &q->tenants))) {
		RB_REMOVE(tenants, &q->tenants, t);
		free(t);
	}
	free(q);
	return NULL;
}

int quota_new(struct quota **ret, const struct store *store, struct error *err) {
	struct quota *q = calloc(1, sizeof(*q));
	if (!q)
		return error_oom(err);
	q->store = store;
	q->instances = kind_index(&api_kind_instance);
	q->types = kind_index(&api_kind_instancetype);
	q->quotas = kind_index(&api_kind_tenantquota);
	RB_INIT(&q->tenants);
	TAILQ_INIT(&q->staged);
	if (count_all(q) < 0) {
		quota_free(q);
		return error_oom(err);
	}
	*ret = q;
	return 0;
}
