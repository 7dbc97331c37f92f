/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One Cluster: its members NAME-0, NAME-1, … are created, kept like the template, and deleted from the highest number
 * down. The members that have no host yet are a gang. The quotas admit the gang as a whole; then its members are
 * created. When hosts and values are found for all of them at one moment, each member is given a seat (seats.h), takes
 * its addresses and is bound. Members that have a host already, because the cluster grew or a controller died, are not
 * part of the gang.
 *
 * Quota, room and values are taken for the gang as a whole, in that order, or not at all. So if two gangs fit alone but
 * not together, one of them gets everything. A gang that waits for quota has no members, and one that waits for room or
 * for values has neither seats nor members with values.
 *
 * Each look compares what exists with what should exist, and begins as many requests as one piece of work may begin.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "api/cluster.h"
#include "base/jsonwrite.h"
#include "base/log.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/gang.h"
#include "controller/placement.h"
#include "controller/quota.h"
#include "controller/room.h"
#include "controller/seats.h"

#define MESSAGE_MAX 1024

/* What a look finds. All pointers point into the caches. */
struct look {
	struct work *w;
	struct controller *c;
	const struct cluster *cl;
	const struct instancetype *type; /* NULL: not there */
	size_t want, exist, ready;
	size_t unbound;                           /* wanted members without a host, existing or not */
	const struct instance *v[CLUSTER_MAX];    /* by number */
	const struct instance *gang[CLUSTER_MAX]; /* unbound members that exist */
	size_t n_gang;
	struct room_want want_room;  /* n is 0: it doesn't wait for room */
	const char *status, *reason; /* of condition Scheduled */
	char message[MESSAGE_MAX];
};

static void look_say(struct look *l, const char *status, const char *reason, const char *fmt, ...) _printf_(4, 5);
static void look_say(struct look *l, const char *status, const char *reason, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(l->message, sizeof(l->message), fmt, ap);
	va_end(ap);
	l->status = status;
	l->reason = reason;
}

static bool member_condition_is(const struct instance *i, const char *type, const char *status) {
	const struct api_condition *c =
		i->status ? api_condition_find(i->status->conditions.v, i->status->conditions.n, type) : NULL;
	return c && streq(c->status, status);
}

static bool cluster_owns(const struct cluster *cl, const struct instance *i) {
	const struct api_owner_ref *o = gang_owner(&i->meta);
	return o && streq(o->uid, cl->meta.uid) && streq(o->name, cl->meta.name);
}

/*
 * A tenant can give the Cluster an Instance that was not made from its template. Such an Instance is no member: it
 * could not use what is kept for a member.
 */
static bool cluster_has_member(const struct cluster *cl, const struct instance *i) {
	return cluster_owns(cl, i) && api_equal_immutable(&api_desc_instance_spec, cl->spec->template, i->spec);
}

/* The number in a member's name; negative if there is none. */
static int64_t member_number(const struct instance *i, const char *cluster) {
	const char *p = starts_with(i->meta.name, cluster) ? i->meta.name + strlen(cluster) : "";
	int64_t n;
	if (*p != '-' || parse_i64(p + 1, 0, CLUSTER_MAX - 1, &n, NULL) < 0 || (p[1] == '0' && p[2]))
		return -1;
	return n;
}

/* The next Instance whose owner is a Cluster of this name, perhaps an earlier Cluster: see cluster_owns(). */
static const struct instance *cluster_next(const struct controller *c, const struct cluster *cl,
                                           const struct instance *prev) {
	return gangs_member_next(gangs_of(c), cl->meta.ns, cl->meta.name, prev);
}

/* One request is always left for the status. */
static bool look_may_begin(const struct look *l) {
	return work_room(l->w) > 1;
}

static struct look *look_new(struct work *w, const struct cluster *cl) {
	struct controller *c = work_controller(w);
	struct look *l = calloc(1, sizeof(*l));
	if (!l)
		abort(); /* the key would stay active for ever */
	*l = (struct look){.w = w, .c = c, .cl = cl, .want = (size_t)cl->spec->replicas.v};
	l->type = kube_cache_get(controller_cache(c, &api_kind_instancetype), NULL, cl->spec->template->type);
	for (const struct instance *i = NULL; (i = cluster_next(c, cl, i));) {
		int64_t n = cluster_has_member(cl, i) ? member_number(i, cl->meta.name) : -1;
		if (n < 0)
			continue;
		l->v[n] = i;
		l->exist++;
		l->ready +=
			(size_t)n < l->want && member_condition_is(i, "Ready", "True") && !i->meta.deletion_timestamp;
	}
	for (size_t n = 0; n < l->want; n++) {
		const struct instance *i = l->v[n];
		if (i && instance_is_bound(i) && !i->meta.deletion_timestamp)
			continue;
		l->unbound++;
		if (i && !instance_is_bound(i))
			l->gang[l->n_gang++] = i;
	}
	return l;
}

/* True if some of its members have a host and some don't. */
static bool cluster_is_partial(const struct controller *c, const struct cluster *cl) {
	bool bound = false, unbound = false;
	for (const struct instance *i = NULL; (i = cluster_next(c, cl, i));) {
		if (!cluster_has_member(cl, i))
			continue;
		bound |= instance_is_bound(i);
		unbound |= !instance_is_bound(i);
	}
	return bound && unbound;
}

/* ---- members come and go ---- */

static bool member_fill_spec(struct instance *i, const struct cluster *cl) {
	_buf_free_ struct buf b = {0};
	struct api_errors errs = {0};
	struct jr r;
	api_print_value(&api_desc_instance_spec, cl->spec->template, &b);
	i->spec = calloc(1, sizeof(*i->spec));
	if (!i->spec || b.failed)
		return false;
	jr_init(&r, b.data, b.len);
	int e = api_parse_value(&api_desc_instance_spec, &r, i->spec, &errs);
	jr_done(&r);
	return e == 0;
}

static struct instance *member_new(const struct cluster *cl, size_t n) {
	struct instance *i = api_new(&api_kind_instance);
	if (!i)
		return NULL;
	i->meta.name = strf("%s-%zu", cl->meta.name, n);
	i->meta.ns = strdup(cl->meta.ns);
	i->meta.labels.v = calloc(1, sizeof(*i->meta.labels.v));
	i->meta.finalizers.v = calloc(1, sizeof(*i->meta.finalizers.v));
	i->meta.owner_refs.v = calloc(1, sizeof(*i->meta.owner_refs.v));
	if (i->meta.labels.v && i->meta.finalizers.v && i->meta.owner_refs.v) {
		i->meta.labels.n = i->meta.finalizers.n = i->meta.owner_refs.n = 1;
		i->meta.labels.v[0] = (struct api_kv){strdup(CLUSTER_LABEL), strdup(cl->meta.name)};
		i->meta.finalizers.v[0] = strdup(FINALIZER_INSTANCE);
		i->meta.owner_refs.v[0] = (struct api_owner_ref){.api_version = strdup("nacre.dev/v1alpha1"),
		                                                 .kind = strdup("Cluster"),
		                                                 .name = strdup(cl->meta.name),
		                                                 .uid = strdup(cl->meta.uid),
		                                                 .controller = API_BOOL(true)};
		const struct api_owner_ref *o = i->meta.owner_refs.v;
		if (i->meta.name && i->meta.ns && i->meta.labels.v[0].key && i->meta.labels.v[0].value &&
		    i->meta.finalizers.v[0] && o->api_version && o->kind && o->name && o->uid &&
		    member_fill_spec(i, cl))
			return i;
	}
	api_free(&api_kind_instance, i);
	return NULL;
}

/* ---- status ---- */

static const struct api_condition *cluster_condition(const struct cluster *cl, const char *type) {
	return cl->status ? api_condition_find(cl->status->conditions.v, cl->status->conditions.n, type) : NULL;
}

static bool cluster_set_condition(struct cluster *n, const char *type, const char *status, const char *reason,
                                  const char *message) {
	return api_condition_set(&n->status->conditions.v, &n->status->conditions.n, type, status, reason, message,
	                         n->meta.generation.v, now_realtime_us()) >= 0;
}

static void cluster_event(struct controller *c, const struct cluster *old, const struct cluster *now, const char *type,
                          const char *failed) {
	const struct api_condition *a = cluster_condition(old, type), *b = cluster_condition(now, type);
	bool ok = b && streq(b->status, "True");
	if (!b || (a && streq(a->status, b->status) && streq(a->reason, b->reason) && streq(a->message, b->message)))
		return;
	/* Being under way, and therefore not ready, is no reason for a warning. */
	if (!ok && (!failed || streq(b->reason, "Gathering")))
		return;
	kube_event(controller_recorder(c), &api_kind_cluster, now, ok ? KUBE_EVENT_NORMAL : KUBE_EVENT_WARNING,
	           ok ? b->reason : failed, "%s", b->message ? b->message : "");
}

static bool cluster_fill_status(struct cluster *n, const struct look *l) {
	char text[MESSAGE_MAX];
	struct cluster_status *s = n->status;
	s->replicas = API_I64((int64_t)l->exist);
	s->ready_replicas = API_I64((int64_t)l->ready);
	if (!s->selector && !(s->selector = strf(CLUSTER_LABEL "=%s", n->meta.name)))
		return false;
	const size_t want = l->want;
	bool ok = cluster_set_condition(n, "Scheduled", l->status, l->reason, l->message);
	snprintf(text, sizeof(text), "%zu of %zu members are ready", l->ready, want);
	if (streq(l->status, "False"))
		ok &= cluster_set_condition(n, "Ready", "False", l->reason, l->message);
	else if (l->ready < want)
		ok &= cluster_set_condition(n, "Ready", "False", "MembersNotReady", text);
	else
		ok &= cluster_set_condition(n, "Ready", "True", "Ready", text);
	return ok;
}

static void cluster_patch_status(struct work *w, const struct cluster *cl, struct cluster *n) {
	if (!work_patch_status(w, &api_kind_cluster, cl, n, WORK_NO_THEN))
		return;
	cluster_event(work_controller(w), cl, n, "Scheduled", "FailedScheduling");
	cluster_event(work_controller(w), cl, n, "Ready", NULL);
}

/* ---- making ---- */

/* The server refused to create a member, because of a quota or another rule. */
static void member_created(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	/* A refusal for a Cluster that is gone would count for a later one of its name. */
	if (r->error != -EACCES || !work_object(w))
		return;
	gangs_refuse(gangs_of(work_controller(w)), work_key(w), r->err.msg);
	work_again(w, 0);
}

/* Begins to create the missing members. */
static void members_create(struct look *l) {
	for (size_t n = 0; n < l->want && look_may_begin(l); n++) {
		if (l->v[n])
			continue;
		struct instance *i = member_new(l->cl, n);
		if (!i) {
			work_fail_oom(l->w);
			return;
		}
		work_create(l->w, &api_kind_instance, i, WORK_THEN(member_created));
		api_free(&api_kind_instance, i);
	}
}

static void member_delete(struct look *l, const struct instance *i) {
	seats_drop(seats_of(l->c), i);
	if (!i->meta.deletion_timestamp && look_may_begin(l))
		work_delete(l->w, &api_kind_instance, &i->meta);
}

/* Deletes the gang's members: they never had a host, and they hold what others may need. */
static void gang_withdraw(struct look *l) {
	quotas_release_gang(quotas_of(l->c), &l->cl->meta);
	for (size_t k = l->n_gang; k-- > 0;)
		member_delete(l, l->gang[k]);
}

/* ---- the gang ---- */

/* False: the quotas refuse the gang, and L says why. */
static bool gang_admit(struct look *l) {
	char msg[QUOTA_MESSAGE_MAX];
	if (quotas_admit_gang(quotas_of(l->c), l->cl, l->type, l->unbound, msg))
		return true;
	look_say(l, "False", "QuotaExceeded", "%zu members need hosts: %s", l->unbound, msg);
	l->want_room = (struct room_want){.sort = ROOM_QUOTA, .of = l->cl->meta.ns, .size = l->type, .n = l->unbound};
	return false;
}

/* True if the server refused a member; then the rest of the gang must give way to others. */
static bool gang_must_make_way(struct look *l) {
	uint64_t left;
	const char *why = gangs_refused(gangs_of(l->c), work_key(l->w), &left);
	if (!why)
		return false;
	look_say(l, "False", strstr(why, "exceeded quota") ? "QuotaExceeded" : "Refused", "%s", why);
	work_again(l->w, left);
	return true;
}

/* True if there are values for the N members V; otherwise L says which values are short. */
static bool gang_has_values(struct look *l, const struct instance *const *v, size_t n) {
	const struct addresses *a = addresses_of(l->c);
	for (enum use u = 0; u < N_USES; u++) {
		uint64_t lack = 0, room = addresses_room(a, use_names[u]);
		for (size_t k = 0; k < n; k++)
			lack += addresses_lacks(a, v[k], u);
		if (room >= lack)
			continue;
		look_say(l, "False", "PoolExhausted",
		         "%" PRIu64 " of %" PRIu64
		         " members can have addresses: AddressPools with use %s are short of them",
		         room, lack, use_names[u]);
		l->want_room = (struct room_want){.sort = ROOM_VALUES, .of = use_names[u], .n = lack};
		return false;
	}
	return true;
}

/* A gang that waits must not keep values from others: members that have some are deleted and created again. */
static void gang_give_back_values(struct look *l) {
	for (size_t k = l->n_gang; k-- > 0;)
		for (enum use u = 0; u < N_USES; u++)
			if (addresses_has(addresses_of(l->c), l->gang[k], u)) {
				member_delete(l, l->gang[k]);
				break;
			}
}

/* Keeps seats for the N members V if there are hosts and values for each; otherwise L says what is short. */
static bool gang_keep_seats(struct look *l, const struct instance *const *v, size_t n) {
	struct controller *c = l->c;
	char why[FIT_MESSAGE_MAX];
	const char **hosts = calloc(n, sizeof(*hosts));
	if (!hosts)
		abort();
	size_t fit = placement_choose_gang(placement_of(c), l->cl->spec->template, l->type, n, hosts, why);
	bool all = fit == n && gang_has_values(l, v, n);
	if (fit < n) {
		look_say(l, "False", "Unschedulable",
		         "%zu of %zu members fit, and are placed together or not at all: %s", fit, n, why);
		l->want_room = (struct room_want){.sort = ROOM_HOSTS, .size = l->type, .n = n};
	}
	for (size_t k = 0; all && k < n; k++) {
		seats_keep(seats_of(c), v[k], hosts[k], l->type);
		concern_enqueue(c, &concern_instances, l->cl->meta.ns, v[k]->meta.name);
	}
	free(hosts);
	return all;
}

/* Gives seats to all members of the gang, or to none. */
static void gang_seat(struct look *l) {
	struct seats *s = seats_of(l->c);
	const struct instance *v[CLUSTER_MAX];
	size_t n = 0;
	bool unknown = false;
	for (size_t k = 0; k < l->n_gang; k++) {
		if (seats_host(s, l->gang[k], l->type))
			continue;
		seats_drop(s, l->gang[k]);
		unknown |= seats_is_binding(s, l->gang[k]);
		v[n++] = l->gang[k];
	}
	if (unknown) {
		look_say(l, "False", "Gathering", "members that may have been bound are waited for");
		return; /* what becomes of them causes the next look */
	}
	if (!n || gang_keep_seats(l, v, n)) {
		look_say(l, "False", "Gathering", "hosts are found for all members; they are being bound");
		if (n)
			log_info("gang placed", "cluster=%s members=%zu seated_before=%zu", work_key(l->w), n,
			         l->n_gang - n);
		return;
	}
	if (n == l->n_gang) {
		gang_give_back_values(l);
		return;
	}
	/* There may be room for all when the seats of the others are free, so it is decided anew. */
	for (size_t k = 0; k < l->n_gang; k++)
		seats_drop(s, l->gang[k]);
	l->want_room.n = 0;
	look_say(l, "False", "Gathering", "some members have lost their places; places are looked for anew for all");
	work_again(l->w, 0);
}

static void gang_place(struct look *l) {
	struct controller *c = l->c;
	const struct api_meta *m = &l->cl->meta;
	const struct instance *leaving = NULL, *foreign = NULL;
	char taken[KUBE_KEY_MAX];
	for (size_t n = 0; n < l->want; n++) {
		char name[CLUSTER_NAME_MAX + 32];
		snprintf(name, sizeof(name), "%s-%zu", m->name, n);
		if (!l->v[n])
			foreign = foreign ? foreign
			                  : kube_cache_get(controller_cache(c, &api_kind_instance), m->ns, name);
		else if (l->v[n]->meta.deletion_timestamp)
			leaving = l->v[n];
	}
	bool waits = true, away = false;
	if (!l->unbound) {
		look_say(l, "True", "Scheduled", "all %zu members have hosts", l->want);
		gangs_forget_refusal(gangs_of(c), work_key(l->w));
		waits = false;
	} else if (foreign) {
		look_say(l, "False", "NameTaken",
		         "Instance %s exists and is not a member of this Cluster; delete it, or give the Cluster "
		         "another name",
		         foreign->meta.name);
		l->want_room =
			(struct room_want){.sort = ROOM_NAME, .of = kube_key(m->ns, foreign->meta.name, taken), .n = 1};
	} else if (leaving) {
		look_say(l, "False", "Gathering", "member %s is being deleted; it is created again after that",
		         leaving->meta.name);
		return; /* its deletion causes the next look */
	} else if (!l->type) {
		look_say(l, "False", "InstanceTypeMissing", "InstanceType `%s` does not exist",
		         l->cl->spec->template->type);
		l->want_room = (struct room_want){.sort = ROOM_TYPE, .n = 1};
	} else if (gang_must_make_way(l) || !gang_admit(l))
		away = true;
	else {
		waits = false;
		if (l->n_gang == l->unbound)
			gang_seat(l);
		else
			look_say(l, "False", "Gathering", "members are being created");
		members_create(l);
	}
	if (away)
		gang_withdraw(l);
	/* No quota is kept for members that are not being created. */
	else if (waits || !l->unbound)
		quotas_release_gang(quotas_of(c), m);
	if (!l->want_room.n)
		return;
	l->want_room.spec = l->cl->spec->template;
	const bool slices = l->want_room.sort == ROOM_VALUES && streq(l->want_room.of, use_names[USE_SHARED]);
	l->want_room.rank = (slices ? ROOM_RANK_NO_HOST : 0) + (l->want > l->unbound ? ROOM_RANK_BEGUN : 0);
	room_wait(c, &concern_clusters, m, &l->want_room);
}

/* ---- keeping alike ---- */

/* Begins the list of N elements, or writes null in its place: false. */
static bool carry_list(struct buf *b, const char *name, size_t n) {
	jw_key(b, name);
	if (n)
		jw_begin(b, '[');
	else
		jw_null(b);
	return n;
}

/* Writes VALUE, which has type D, or null in its place. */
static void carry_value(struct buf *b, const char *name, const struct api_desc *d, const void *value) {
	jw_key(b, name);
	if (value)
		api_print_value(d, value, b);
	else
		jw_null(b);
}

/* SSH keys and user data. */
static void carry_guest_data(struct buf *b, const struct instance_spec *t) {
	if (carry_list(b, "sshKeys", t->ssh_keys.n)) {
		for (size_t k = 0; k < t->ssh_keys.n; k++)
			jw_string(b, t->ssh_keys.v[k]);
		jw_end(b, ']');
	}
	carry_value(b, "sshKeysFrom", &api_desc_instance_keys_from, t->ssh_keys_from);
	carry_value(b, "userDataFrom", &api_desc_instance_data_from, t->user_data_from);
	jw_key(b, "userData");
	if (t->user_data)
		jw_string(b, t->user_data);
	else
		jw_null(b);
}

/* Patches the fields of the template that an Instance lets change. */
static void member_carry_over(struct look *l, const struct instance *i) {
	const struct instance_spec *t = l->cl->spec->template;
	_buf_free_ struct buf b = {0};
	jw_begin(&b, '{');
	jw_key(&b, "metadata");
	jw_begin(&b, '{');
	jw_kv_string(&b, "uid", i->meta.uid);
	jw_kv_string(&b, "resourceVersion", i->meta.resource_version);
	jw_end(&b, '}');
	jw_key(&b, "spec");
	jw_begin(&b, '{');
	jw_kv_bool(&b, "running", t->running.v);
	if (carry_list(&b, "ingress", t->ingress.n)) {
		for (size_t k = 0; k < t->ingress.n; k++)
			api_print_value(&api_desc_instance_ingress, &t->ingress.v[k], &b);
		jw_end(&b, ']');
	}
	if (carry_list(&b, "forwards", t->forwards.n)) {
		for (size_t k = 0; k < t->forwards.n; k++)
			api_print_value(&api_desc_instance_forward, &t->forwards.v[k], &b);
		jw_end(&b, ']');
	}
	carry_guest_data(&b, t);
	jw_end(&b, '}');
	jw_end(&b, '}');
	work_patch(l->w, &api_kind_instance, &i->meta, &b);
}

/* The fields of S that an Instance lets change; borrowed. */
static struct instance_spec changeable(const struct instance_spec *s) {
	return (struct instance_spec){.running = s->running,
	                              .ingress = s->ingress,
	                              .forwards = s->forwards,
	                              .ssh_keys = s->ssh_keys,
	                              .ssh_keys_from = s->ssh_keys_from,
	                              .user_data = s->user_data,
	                              .user_data_from = s->user_data_from};
}

static bool member_is_alike(const struct look *l, const struct instance *i) {
	const struct instance_spec want = changeable(l->cl->spec->template), is = changeable(i->spec);
	return api_equal(&api_desc_instance_spec, &want, &is);
}

static void members_keep_alike(struct look *l) {
	for (size_t n = 0; n < l->want && look_may_begin(l); n++)
		if (l->v[n] && !l->v[n]->meta.deletion_timestamp && !member_is_alike(l, l->v[n]))
			member_carry_over(l, l->v[n]);
}

/* Deletes the members past the wanted number. Those that can't be deleted in this look must not be bound meanwhile. */
static void members_shrink(struct look *l) {
	for (size_t n = l->want; n < CLUSTER_MAX; n++)
		if (l->v[n])
			seats_drop(seats_of(l->c), l->v[n]);
	for (size_t n = CLUSTER_MAX; n-- > l->want && look_may_begin(l);)
		if (l->v[n] && !l->v[n]->meta.deletion_timestamp)
			work_delete(l->w, &api_kind_instance, &l->v[n]->meta);
}

/* ---- the end ---- */

static void cluster_finish(struct work *w, const struct cluster *cl) {
	struct controller *c = work_controller(w);
	bool clean = true;
	/*
	 * A deletion with the finalizer `orphan` keeps the members: wait until the server has removed their owner
	 * references.
	 */
	if (!has_finalizer(&cl->meta, FINALIZER_CLUSTER) || has_finalizer(&cl->meta, "orphan"))
		return;
	quotas_release_gang(quotas_of(c), &cl->meta);
	gangs_forget_refusal(gangs_of(c), work_key(w));
	for (const struct instance *i = NULL; (i = cluster_next(c, cl, i));) {
		if (!cluster_owns(cl, i))
			continue;
		clean = false;
		seats_drop(seats_of(c), i);
		if (!i->meta.deletion_timestamp && work_room(w))
			work_delete(w, &api_kind_instance, &i->meta);
	}
	if (clean)
		work_patch_finalizers(w, &api_kind_cluster, &cl->meta, FINALIZER_CLUSTER, false);
}

/* The server has answered whether the Cluster exists. Deletes members whose Cluster doesn't exist. */
static void cluster_owner_asked(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	const struct controller *c = work_controller(w);
	void *cl = NULL;
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	kube_key_split(work_key(w), buf, &ns, &name);
	if ((r->error && r->error != -ENOENT) ||
	    (r->error == 0 && kube_response_parse(r, &api_kind_cluster, &cl, NULL) < 0))
		return;
	const struct instance *i = NULL;
	while (work_room(w) && (i = gangs_member_next(gangs_of(c), ns, name, i)))
		if (!(cl && streq(api_meta(cl)->uid, gang_owner(&i->meta)->uid)) && !i->meta.deletion_timestamp)
			work_delete(w, &api_kind_instance, &i->meta);
	api_free(&api_kind_cluster, cl);
}

/*
 * If there are members whose Cluster the cache doesn't have, asks the server: an absence in the cache is only a
 * suspicion.
 */
static void cluster_check_owner(struct work *w, const struct cluster *cl) {
	const struct controller *c = work_controller(w);
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	kube_key_split(work_key(w), buf, &ns, &name);
	for (const struct instance *i = NULL; (i = gangs_member_next(gangs_of(c), ns, name, i));) {
		if ((cl && streq(cl->meta.uid, gang_owner(&i->meta)->uid)) || i->meta.deletion_timestamp)
			continue;
		work_get(w, &api_kind_cluster, ns, name, WORK_THEN(cluster_owner_asked));
		return;
	}
}

/* ---- ---- */

static void cluster_advance(struct work *w, const struct cluster *cl) {
	if (!has_finalizer(&cl->meta, FINALIZER_CLUSTER)) {
		work_patch_finalizers(w, &api_kind_cluster, &cl->meta, FINALIZER_CLUSTER, true);
		return;
	}
	struct look *l = look_new(w, cl);
	members_shrink(l);
	gang_place(l);
	members_keep_alike(l);
	struct cluster *n = api_copy_with_status(&api_kind_cluster, cl);
	if (n && cluster_fill_status(n, l))
		cluster_patch_status(w, cl, n);
	else
		work_fail_oom(w);
	api_free(&api_kind_cluster, n);
	free(l);
}

static void cluster_reconcile(struct work *w, const void *obj) {
	const struct cluster *cl = obj;
	if (cl && cl->meta.deletion_timestamp)
		cluster_finish(w, cl);
	else if (cl)
		cluster_advance(w, cl);
	if (work_room(w))
		cluster_check_owner(w, cl);
}

/* ---- what changes queue ---- */

static void clusters_cluster_changed(struct controller *c, const struct kube_change *ch) {
	char key[KUBE_KEY_MAX];
	if (ch->type != KUBE_DELETED)
		return;
	quotas_release_gang(quotas_of(c), ch->obj);
	gangs_forget_refusal(gangs_of(c), kube_key(ch->ns, ch->name, key));
}

static void clusters_instance_changed(struct controller *c, const struct kube_change *ch) {
	const struct api_owner_ref *gang = gang_owner(ch->obj);
	if (gang)
		concern_enqueue(c, &concern_clusters, ch->ns, gang->name);
}

/* Clusters that an earlier controller was placing when it ended come first. */
static void clusters_started(struct controller *c) {
	const struct kube_cache *clusters = controller_cache(c, &api_kind_cluster);
	const struct cluster *cl;
	KUBE_CACHE_FOREACH(cl, clusters) {
		if (cluster_is_partial(c, cl))
			concern_enqueue(c, &concern_clusters, cl->meta.ns, cl->meta.name);
	}
}

const struct concern concern_clusters = {
	.name = "clusters",
	.kind = &api_kind_cluster,
	.first = true,
	.watches = {{.kind = &api_kind_cluster, .changed = clusters_cluster_changed},
                    {.kind = &api_kind_instance, .changed = clusters_instance_changed},
                    {.kind = &api_kind_instancetype}},
	.reconcile = cluster_reconcile,
	.started = clusters_started,
};
