/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/quota.h"

#include <string.h>

#include "api/core.h"
#include "api/firewall.h"
#include "api/instance.h"
#include "apiserver/json/selector.h"
#include "base/util.h"

/* Objects of a class and their bytes. For staged changes both may be negative. */
struct stored {
	int64_t objects, bytes;
};

enum class { OBJECTS, EVENTS, FIREWALLS, CLASSES };

struct tenant {
	RB_ENTRY(tenant) node;
	TAILQ_ENTRY(tenant) link; /* in `staged` */
	bool is_staged;
	struct resources stored, staged; /* taken by instances */
	struct stored all[CLASSES], all_staged[CLASSES];
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
	unsigned instances, types, quotas, events, firewalls; /* indexes of kinds */
};

static struct tenant *quota_find(const struct quota *q, const char *ns) {
	return TREE_FIND_STRING(tenant, &q->tenants, node, ns, ns);
}

static struct tenant *find_or_add(struct quota *q, const char *ns) {
	struct tenant *t = quota_find(q, ns);
	size_t n = strlen(ns) + 1;
	if (t || !(t = calloc(1, sizeof(*t) + n)))
		return t;
	memcpy(t->ns, ns, n);
	RB_INSERT(tenants, &q->tenants, t);
	return t;
}

static int64_t number_at(const char *json, size_t len, const char *path) {
	const char *v;
	size_t n;
	int64_t ret = 0;
	if (!json_find(json, len, path, &v, &n))
		return 0;
	struct jr r;
	jr_init(&r, v, n);
	if (jr_i64(&r, &ret) < 0)
		ret = 0;
	jr_done(&r);
	return ret;
}

/* The name of a type is a DNS name and so has no escapes. */
static const struct object *type_of(const struct quota *q, const struct json_span *spec) {
	char name[256];
	const char *v;
	size_t n;
	if (!json_find(spec->text, spec->len, "type", &v, &n) || n < 2 || n - 2 >= sizeof(name))
		return NULL;
	memcpy(name, v + 1, n - 2);
	name[n - 2] = '\0';
	return store_get(q->store, q->types, "", name);
}

/* As instance_is_bound(), by the text of the status. */
static bool is_bound(const struct json_span *status) {
	const char *host;
	size_t n;
	return json_find(status->text, status->len, "host", &host, &n) && *host == '"' && n > 2;
}

/*
 * As instance_charge(), with instance_size() for an instance that has a host, else with the size of its type. An absent
 * amount is 0.
 */
static struct resources takes(const struct quota *q, const char *json, size_t len) {
	static const char *const names[] = {"spec", "status"};
	struct json_span found[2], size = {.text = ""};
	struct resources ret = {.v[RESOURCE_instances] = 1};
	const struct object *type;
	const char *ipv4;
	size_t n;
	json_members(json, len, names, found, 2);
	if (is_bound(&found[1]))
		size = found[1];
	else if ((type = type_of(q, &found[0])))
		json_members(type->value->data, type->value->len, names, &size, 1);
	RESOURCES_FOREACH (i)
		if (RESOURCES_OF_TYPES & 1U << i)
			ret.v[i] = number_at(size.text, size.len, resources_name(i));
	if (json_find(found[0].text, found[0].len, "ipv4", &ipv4, &n))
		ret.v[RESOURCE_dedicated_ipv4] = n == 11 && memcmp(ipv4, "\"dedicated\"", n) == 0;
	return ret;
}

/* Forgets a namespace that stores nothing. */
static void quota_drop_empty(struct quota *q, struct tenant *t) {
	if (t->is_staged || t->all[OBJECTS].objects || t->all[EVENTS].objects || t->all[FIREWALLS].objects)
		return;
	RB_REMOVE(tenants, &q->tenants, t);
	free(t);
}

static enum class class_of(const struct quota *q, unsigned kind) {
	return kind == q->events      ? EVENTS
	       : kind == q->firewalls ? FIREWALLS
	                              : OBJECTS;
}

static void quota_count(struct quota *q, struct tenant *t, unsigned kind, const struct blob *b, int sign) {
	struct stored *all = &t->all[class_of(q, kind)];
	all->objects += sign;
	all->bytes += sign * (int64_t)b->len;
	if (kind != q->instances)
		return;
	const struct resources s = takes(q, b->data, b->len);
	if (sign > 0)
		resources_add(&t->stored, &s);
	else
		resources_subtract(&t->stored, &s);
}

static int count_kind(struct quota *q, unsigned kind) {
	for (const struct object *o = store_seek(q->store, kind, "", ""); o; o = store_next(q->store, kind, o)) {
		struct tenant *t = find_or_add(q, o->ns);
		if (!t)
			return -ENOMEM;
		quota_count(q, t, kind, o->value, 1);
	}
	return 0;
}

/* Counts all instances again, since the size of a type that was created or deleted changes what its instances take. */
static void count_instances(struct quota *q) {
	struct tenant *t;
	RB_FOREACH (t, tenants, &q->tenants)
		t->stored = (struct resources){0};
	for (const struct object *o = store_seek(q->store, q->instances, "", ""); o;
	     o = store_next(q->store, q->instances, o)) {
		struct resources s = takes(q, o->value->data, o->value->len);
		if ((t = quota_find(q, o->ns)))
			resources_add(&t->stored, &s);
	}
}

void quota_notice(struct quota *q, unsigned kind, const struct watch_event *e) {
	if (kind == q->types && e->type != EVENT_MODIFIED) /* the size of a type can't be changed */
		count_instances(q);
	if (!*e->ns)
		return;
	struct tenant *t = find_or_add(q, e->ns);
	if (!t)
		abort(); /* the counts would be wrong from now on */
	if (e->type != EVENT_DELETED)
		quota_count(q, t, kind, e->value, 1);
	if (e->prev)
		quota_count(q, t, kind, e->prev, -1);
	quota_drop_empty(q, t);
}

static bool exceeds(const struct object *o, const char *name, const struct resources *used,
                    const struct resources *want, char msg[static QUOTA_MESSAGE_MAX]) {
	struct api_errors ignored = {0};
	void *quota;
	if (api_parse(&api_kind_tenantquota, o->value->data, o->value->len, &quota, &ignored) < 0)
		return false;
	bool over = tenantquota_exceeded(name, ((struct tenantquota *)quota)->spec, used, want, msg);
	api_free(&api_kind_tenantquota, quota);
	return over;
}

bool quota_allows(const struct quota *q, const char *ns, const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]) {
	const struct object *o = store_seek(q->store, q->quotas, ns, ""), *standard = NULL;
	if (!o || !streq(o->ns, ns)) {
		o = NULL;
		standard = store_get(q->store, q->quotas, TENANTQUOTA_DEFAULT_NS, TENANTQUOTA_DEFAULT);
		if (!standard)
			return true;
	}
	const struct tenant *t = quota_find(q, ns);
	struct resources want = takes(q, text->data, text->len), used = t ? t->stored : (struct resources){0};
	if (t)
		resources_add(&used, &t->staged);
	if (standard)
		return !exceeds(standard, TENANTQUOTA_DEFAULT_TEXT, &used, &want, msg);
	for (; o && streq(o->ns, ns); o = store_next(q->store, q->quotas, o))
		if (exceeds(o, o->name, &used, &want, msg))
			return false;
	return true;
}

bool quota_stores(const struct quota *q, unsigned kind, const char *ns, size_t was, size_t n,
                  char msg[static QUOTA_MESSAGE_MAX]) {
	static const struct {
		const char *what;
		size_t objects, bytes;
	} max[] = {[OBJECTS] = {"objects", STORED_OBJECTS_MAX, STORED_BYTES_MAX},
	           [EVENTS] = {"Events", STORED_EVENTS_MAX, EVENT_BYTES_MAX},
	           [FIREWALLS] = {"Firewalls", FIREWALL_STORED_MAX, FIREWALL_BYTES_MAX}};
	const enum class c = class_of(q, kind);
	const struct tenant *t = *ns ? quota_find(q, ns) : NULL;
	if (!t || n <= was)
		return true;
	size_t objects = (size_t)(t->all[c].objects + t->all_staged[c].objects);
	size_t bytes = (size_t)(t->all[c].bytes + t->all_staged[c].bytes);
	if (objects + !was <= max[c].objects && bytes + n - was <= max[c].bytes)
		return true;
	snprintf(msg, QUOTA_MESSAGE_MAX,
	         "namespace %.63s may store %zu %s of %zu MiB together; it has %zu of %.1f MiB, and this would add "
	         "%s%zu bytes: delete what is not needed",
	         ns, max[c].objects, max[c].what, max[c].bytes >> 20, objects, (double)bytes / (1 << 20),
	         was ? "" : "another of ", n - was);
	return false;
}

int quota_stage(struct quota *q, unsigned kind, const char *ns, size_t was, const struct buf *text) {
	struct tenant *t = *ns ? find_or_add(q, ns) : NULL;
	if (!t)
		return *ns ? -ENOMEM : 0;
	struct stored *all = &t->all_staged[class_of(q, kind)];
	if (!t->is_staged)
		TAILQ_INSERT_TAIL(&q->staged, t, link);
	t->is_staged = true;
	all->objects += !was;
	all->bytes += (int64_t)text->len - (int64_t)was;
	if (kind == q->instances && !was) {
		struct resources s = takes(q, text->data, text->len);
		resources_add(&t->staged, &s);
	}
	return 0;
}

void quota_settled(struct quota *q) {
	struct tenant *t;
	while ((t = TAILQ_FIRST(&q->staged))) {
		TAILQ_REMOVE(&q->staged, t, link);
		t->is_staged = false;
		t->staged = (struct resources){0};
		memset(t->all_staged, 0, sizeof(t->all_staged));
		quota_drop_empty(q, t);
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
	q->instances = api_kind_index(&api_kind_instance);
	q->types = api_kind_index(&api_kind_instancetype);
	q->quotas = api_kind_index(&api_kind_tenantquota);
	q->events = api_kind_index(&api_kind_event);
	q->firewalls = api_kind_index(&api_kind_firewall);
	RB_INIT(&q->tenants);
	TAILQ_INIT(&q->staged);
	for (unsigned k = 0; api_kinds[k]; k++)
		if (api_kinds[k]->namespaced && count_kind(q, k) < 0) {
			quota_free(q);
			return error_oom(err);
		}
	*ret = q;
	return 0;
}
