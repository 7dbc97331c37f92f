/* SPDX-License-Identifier: Apache-2.0 */
#include "node/firewall.h"

#include <linux/netfilter.h>
#include <string.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "base/util.h"
#include "net/nft.h"
#include "net/nftset.h"
#include "node/firewall_rules.h"
#include "node/instnet.h"

/* ---- what is wanted ---- */

/* Firewalls are what the API says they are: another generation means another text. */
static uint64_t firewall_hash(const struct instnet_spec *spec, const struct firewall_attached *a) {
	uint64_t hash = fnv1a(FNV1A_BASIS, &a->deny_beyond, sizeof(a->deny_beyond));

	for (size_t i = 0; i < a->n; i++) {
		const char *uid = a->v[i]->meta.uid ? a->v[i]->meta.uid : "";
		hash = fnv1a(hash, uid, strlen(uid) + 1);
		hash = fnv1a(hash, &a->v[i]->meta.generation.v, sizeof(a->v[i]->meta.generation.v));
	}
	for (size_t i = 0; i < spec->n_ingress; i++) {
		const struct instnet_ingress *in = &spec->ingress[i];
		char from[PREFIX_STR_MAX] = "";
		if (in->from.addr.family)
			prefix_str(&in->from, from);
		hash = fnv1a(hash, &in->proto, sizeof(in->proto));
		hash = fnv1a(hash, &in->port, sizeof(in->port));
		hash = fnv1a(hash, from, strlen(from) + 1);
	}
	return hash;
}

/* Of the groups and their numbers, which are in the names of sets. */
static uint32_t firewall_groups_hash(const struct firewall_plan *p) {
	return (uint32_t)fnv1a(FNV1A_BASIS, p->groups, p->n_groups * sizeof(p->groups[0]));
}

/* ---- generations ---- */

static void generation_seen(const struct nftset_element *e, void *userdata) {
	if (e->key_len == sizeof(uint32_t))
		memcpy(userdata, e->key, sizeof(uint32_t));
}

uint32_t firewall_generation_after(uint32_t generation) {
	return generation == UINT32_MAX ? 1 : generation + 1;
}

static void nothing_seen(_unused_ const struct nftset_element *e, _unused_ void *userdata) {
}

/* Which table is in force, and its generation. -ENOENT: there is none. */
static int firewall_find(struct nl *nl, uint32_t *ret_table, uint32_t *ret_generation, struct error *err) {
	int r = -ENOENT;

	for (uint32_t i = 0; i < FIREWALL_TABLES && r == -ENOENT; i++) {
		*ret_table = i;
		r = nftset_each(nl, firewall_tables[i], FIREWALL_IN_FORCE, nothing_seen, NULL, err);
	}
	return r < 0 ? r
	             : nftset_each(nl, firewall_tables[*ret_table], "current", generation_seen, ret_generation, err);
}

static void generation_swap(struct nftset_batch *b, uint32_t from, uint32_t to) {
	static const uint8_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};

	nftset_change(b, "current", false, &from, sizeof(from), NULL, 0);
	nftset_change(b, "current", true, &to, sizeof(to), NULL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		nftset_change(b, "generation", false, &families[i], sizeof(families[i]), NULL, 0);
		nftset_change(b, "generation", true, &families[i], sizeof(families[i]), &to, sizeof(to));
	}
}

/* ---- members come and go ---- */

struct following {
	struct nftset_batch batch;
	size_t group; /* the number of the one whose changes are read */
	bool removed;
};

static void firewall_change_member(const struct group_change *c, void *userdata) {
	struct following *f = userdata;
	char names[2][FIREWALL_NAME_MAX];
	const struct group_element *e = &c->element;
	size_t len = e->prefix.addr.family == AF_INET6 ? 16 : 4, sets = firewall_sets_of(f->group, e, names);
	uint8_t key[16] = {0};

	memcpy(key, e->prefix.addr.bytes, len);
	if (sets == 2) {
		key[len] = (uint8_t)(e->port >> 8);
		key[len + 1] = (uint8_t)e->port;
		len += 4;
	}
	for (size_t i = 0; i < sets; i++)
		nftset_change(&f->batch, names[i], !c->removed, key, len, NULL, 0);
	f->removed |= c->removed;
}

/* The changes of the groups that the rules are about. 1: they are no longer all remembered. */
static int firewall_collect(const struct firewall_plan *p, const struct groups *g, uint64_t seq, struct following *f) {
	for (f->group = 0; f->group < p->n_groups && !f->batch.messages.failed; f->group++)
		if (groups_changes(g, p->groups[f->group], seq, firewall_change_member, f) == 1)
			return 1;
	return 0;
}

/*
 * Collects in F, which has an empty batch, what brings the sets up to date, and in *RET what is known after that. 1:
 * that can't be done by changing elements.
 */
static int firewall_plan_changes(const struct firewall_attached *a, const struct firewall_state *state,
                                 struct following *f, struct firewall_state *ret, struct error *err) {
	struct firewall_state new = *state;
	struct firewall_plan p;
	int r = firewall_plan_groups(a, &p, err);

	if (r < 0)
		return r;
	if (firewall_groups_hash(&p) != state->groups || p.crowded != state->crowded)
		return 1;
	if (firewall_collect(&p, a->groups, state->seq, f) == 1)
		return 1;
	if (f->removed) {
		new.generation = firewall_generation_after(state->generation);
		generation_swap(&f->batch, state->generation, new.generation);
	}
	r = buf_error(&f->batch.messages, "changes of members", err);
	if (r < 0)
		return r == -EMSGSIZE ? 1 : r;
	new.seq = groups_seq(a->groups);
	*ret = new;
	return 0;
}

/* Brings the sets up to date. 1: that can't be done by changing elements. The rules may be others than those of A. */
static int firewall_follow(struct nl *nl, const struct firewall_attached *a, struct firewall_state *state,
                           uint32_t *genid, struct error *err) {
	struct following f = {.batch = {.table = firewall_tables[state->table], .genid = *genid}};
	struct firewall_state new;
	int r = firewall_plan_changes(a, state, &f, &new, err);

	if (r == 0 && f.batch.n) {
		/* A set or an element isn't there, or somebody else has changed something. */
		r = nftset_commit(nl, &f.batch, err) < 0;
		if (r == 0)
			*genid = nftset_genid_after(*genid);
	}
	nftset_batch_done(&f.batch);
	if (r == 0)
		*state = new;
	return r;
}

int firewall_members(const struct instnet_spec *spec, const struct firewall_attached *a,
                     const struct firewall_state *state, struct nftset_batch *b, struct firewall_state *ret,
                     struct error *err) {
	struct following f = {.batch = *b};

	f.batch.table = firewall_tables[state->table];
	if (a->unknown || !a->groups || !state->generation || state->seq > groups_seq(a->groups) ||
	    state->hash != firewall_hash(spec, a))
		return 1;
	int r = firewall_plan_changes(a, state, &f, ret, err);
	if (r != 0)
		nftset_batch_done(&f.batch);
	else
		*b = f.batch;
	return r;
}

/* ---- the whole table ---- */

/* What the table has dropped that is about to be replaced. */
static void firewall_keep_totals(struct nl *nl, const char *table, struct firewall_state *state) {
	struct error ignored;
	uint64_t in = 0, out = 0;

	if (nftset_counter(nl, table, "dropped_in", &in, &ignored) < 0 ||
	    nftset_counter(nl, table, "dropped_out", &out, &ignored) < 0)
		return;
	state->dropped_in += in;
	state->dropped_out += out;
}

static int firewall_apply(int fd, struct buf *text, struct error *err) {
	int r = buf_error(text, "rules", err);

	if (r >= 0)
		r = nft_apply(fd, text->data, err);
	buf_reset(text);
	return r;
}

/* STATE has the table and the generation to make. REPLACES: the other table is in force. */
static int firewall_load(int fd, struct nl *nl, const struct firewall_plan *p, const struct groups *groups,
                         bool replaces, struct firewall_state *state, struct error *err) {
	_buf_free_ struct buf text = {.max = FIREWALL_TEXT_MAX};

	firewall_rules(p, groups, state->table, state->generation, &text);
	int r = firewall_apply(fd, &text, err);
	if (r < 0)
		return r;
	firewall_keep_totals(nl, firewall_tables[!state->table], state);
	firewall_rules_switch(p, state->table, replaces, &text);
	r = firewall_apply(fd, &text, err);
	if (r < 0)
		return r;
	firewall_rules_delete(!state->table, &text);
	return firewall_apply(fd, &text, err);
}

/*
 * If there is no table, connections may still have marks of one that somebody has deleted, so the generation is a
 * random one.
 */
static int firewall_replace(int fd, struct nl *nl, const struct instnet_spec *spec, const struct firewall_attached *a,
                            uint64_t hash, struct firewall_state *state, struct error *err) {
	struct firewall_state new = *state;
	struct firewall_plan p;
	uint32_t table = 0, generation = 0;
	int r = firewall_find(nl, &table, &generation, err);

	if (r < 0 && r != -ENOENT)
		return r;
	bool replaces = r >= 0;
	if (!generation)
		random_bytes(&generation, sizeof(generation));
	r = firewall_plan(spec, a, &p, err);
	if (r < 0)
		return error_prefix(err, "firewall");
	new.table = !table;
	new.generation = firewall_generation_after(generation);
	new.hash = hash;
	new.groups = firewall_groups_hash(&p);
	new.seq = a->groups ? groups_seq(a->groups) : 0;
	new.limited = p.limited;
	new.deep = p.deep;
	new.crowded = p.crowded;
	new.failures = 0;
	r = firewall_load(fd, nl, &p, a->groups, replaces, &new, err);
	firewall_plan_done(&p);
	if (r < 0)
		return error_prefix(err, "firewall");
	*state = new;
	return 0;
}

/* The new table could not be made. Notes when to try again, and whether *STATE is still what is in force. */
static void firewall_failed(struct nl *nl, uint64_t hash, struct firewall_state *state) {
	uint64_t doubled_s = UINT64_C(1) << MIN(state->failures, 20U);
	uint32_t table = 0, generation = 0;
	struct error ignored;

	state->failures++;
	state->failed = (uint32_t)hash;
	state->retry_ns = now_monotonic_ns() + MIN(doubled_s, (uint64_t)FIREWALL_RETRY_MAX_S) * NSEC_PER_SEC;
	if (firewall_find(nl, &table, &generation, &ignored) < 0 || table != state->table ||
	    generation != state->generation)
		state->generation = 0;
}

static bool firewall_must_wait(const struct firewall_state *state, uint64_t hash) {
	return state->failures && state->failed == (uint32_t)hash && now_monotonic_ns() < state->retry_ns;
}

/* The rules in the kernel stay. Members come and go if that takes no other table. */
static int firewall_stay(struct nl *nl, const struct firewall_attached *a, struct firewall_state *state,
                         uint32_t *genid, struct error *err) {
	int r = a->groups && state->seq < groups_seq(a->groups) ? firewall_follow(nl, a, state, genid, err) : 0;

	return r == 1 ? 0 : r;
}

static bool firewall_is_large(const struct firewall_attached *a) {
	size_t n = 0;

	for (size_t i = 0; a->sizes && i < a->n; i++) {
		const struct firewall_size *s = a->sizes[i];
		n += s->ingress + s->egress;
		for (size_t k = 0; a->groups && s->groups && k < s->n_groups; k++)
			n += groups_count(a->groups, s->groups[k].id);
	}
	return n > FIREWALL_MUCH;
}

/* OURS: *STATE is what the kernel has, so members can come and go. */
static int firewall_postpone(struct nl *nl, const struct firewall_attached *a, bool ours, struct firewall_state *state,
                             uint32_t *genid, const char *why, struct error *err) {
	int r = ours ? firewall_stay(nl, a, state, genid, err) : 0;

	return r < 0 ? r : error_set(err, EAGAIN, "%s", why);
}

int firewall_ensure(int netns_fd, struct nl *nl, const struct instnet_spec *spec, const struct firewall_attached *a,
                    uint32_t *genid, struct firewall_state *state, bool *ret_changed, struct error *err) {
	static const struct firewall_attached closed = {.unknown = true};
	uint64_t hash = firewall_hash(spec, a), seq = a->groups ? groups_seq(a->groups) : 0;
	bool ours = *genid && state->generation && state->seq <= seq, same = ours && state->hash == hash;
	/* What is unknown has no part in a table that is of what is known. */
	struct firewall_attached all = *a;
	int r;

	all.unknown = false;
	if (same && state->seq == seq)
		return 0;
	if (a->unknown && same) {
		a = &all;
	} else if (a->unknown) {
		r = firewall_find(nl, &(uint32_t){0}, &(uint32_t){0}, err);
		if (r != -ENOENT)
			return r < 0 || !ours ? r : firewall_stay(nl, a, state, genid, err);
		a = &closed;
		hash = 0;
	}
	r = same ? firewall_follow(nl, a, state, genid, err) : 1;
	if (r == 1 && firewall_must_wait(state, hash))
		return firewall_postpone(nl, a, ours, state, genid,
		                         "the firewall's table could not be made a short time ago", err);
	if (r == 1 && a->ret_postponed && firewall_is_large(a)) {
		*a->ret_postponed = true;
		/* The caller notes that nothing has changed since, so what was unknown must stay unknown. */
		if (!ours)
			state->generation = 0;
		return firewall_postpone(nl, a, ours, state, genid, "the firewall's table is large", err);
	}
	if (r == 1) {
		r = firewall_replace(netns_fd, nl, spec, a, hash, state, err);
		if (r < 0)
			firewall_failed(nl, hash, state);
		*ret_changed |= r >= 0;
	}
	return r;
}

/* ---- what it counted ---- */

/* Of each direction: those of both families and of all groups, of each layer and length, and the sets of drops. */
#define MAPS_MAX                                                             \
	((size_t)2 * (2 * (2 * FIREWALL_LAYERS_MAX + 1 + FIREWALL_LENGTHS) + \
	              FIREWALL_GROUPS_MAX * (3 * FIREWALL_LAYERS_MAX + 1) + 4))

struct reading_counters {
	struct firewall_seen *seen;
	size_t room;
	bool failed;
	char names[MAPS_MAX][FIREWALL_NAME_MAX];
	size_t n_names;
	const char *table;
	const char *name; /* the set that is being read */
	bool counts;
};

static bool is_out(const char *name) {
	return starts_with(name, "out") || starts_with(name, "dropped_out");
}

static void counters_name(const char *name, void *userdata) {
	struct reading_counters *c = userdata;

	bool wanted = starts_with(name, "dropped_") || (c->counts && (starts_with(name, "in") || is_out(name)));

	if (wanted && c->n_names < ARRAY_SIZE(c->names))
		snprintf(c->names[c->n_names++], FIREWALL_NAME_MAX, "%s", name);
}

static void counters_add(struct reading_counters *c, const struct firewall_count *count) {
	struct firewall_seen *s = c->seen;

	if (s->n_counts == c->room) {
		size_t room = c->room ? 2 * c->room : 64;
		struct firewall_count *more = reallocarray(s->counts, room, sizeof(*more));
		if (!more) {
			c->failed = true;
			return;
		}
		s->counts = more;
		c->room = room;
	}
	s->counts[s->n_counts++] = *count;
}

/* An element of a rule: the comment is "FIREWALL.RULE". */
static void counters_rule(const struct nftset_element *e, void *userdata) {
	struct reading_counters *c = userdata;
	struct firewall_count count = {.out = is_out(c->name), .packets = e->packets, .bytes = e->bytes};

	if (e->packets && e->comment && sscanf(e->comment, "%hhu.%u", &count.firewall, &count.rule) == 2)
		counters_add(c, &count);
}

static void counters_drop(const struct nftset_element *e, void *userdata) {
	struct reading_counters *c = userdata;
	struct firewall_drop d = {.out = is_out(c->name), .packets = e->packets, .bytes = e->bytes};
	bool six = strchr(c->name, '6') != NULL;
	size_t len = six ? 16 : 4;

	if (c->seen->n_drops == FIREWALL_DROPS_MAX || e->key_len < len + 4)
		return;
	d.addr.family = six ? AF_INET6 : AF_INET;
	memcpy(d.addr.bytes, e->key, len);
	d.protocol = e->key[len];
	if (e->key_len >= len + 8)
		d.port = (uint16_t)(e->key[len + 4] << 8 | e->key[len + 5]);
	if (e->expires_ms < FIREWALL_DROP_MS)
		d.age_ms = (uint32_t)(FIREWALL_DROP_MS - e->expires_ms);
	c->seen->drops[c->seen->n_drops++] = d;
}

static int count_by_rule(const void *x, const void *y) {
	const struct firewall_count *a = x, *b = y;

	if (a->firewall != b->firewall)
		return a->firewall < b->firewall ? -1 : 1;
	if (a->out != b->out)
		return a->out ? 1 : -1;
	return a->rule < b->rule ? -1 : a->rule > b->rule;
}

static int count_by_packets(const void *x, const void *y) {
	const struct firewall_count *a = x, *b = y;

	if (a->packets != b->packets)
		return a->packets > b->packets ? -1 : 1;
	return count_by_rule(a, b);
}

/* A rule may have several elements. */
static void counters_sum(struct firewall_seen *s) {
	size_t n = 0;

	if (!s->n_counts)
		return;
	qsort(s->counts, s->n_counts, sizeof(*s->counts), count_by_rule);
	for (size_t i = 1; i < s->n_counts; i++) {
		if (count_by_rule(&s->counts[n], &s->counts[i]) != 0) {
			s->counts[++n] = s->counts[i];
			continue;
		}
		s->counts[n].packets += s->counts[i].packets;
		s->counts[n].bytes += s->counts[i].bytes;
	}
	s->n_counts = n + 1;
	qsort(s->counts, s->n_counts, sizeof(*s->counts), count_by_packets);
}

static int counters_read(struct nl *nl, struct reading_counters *c, struct error *err) {
	struct firewall_seen *s = c->seen;
	uint64_t in = 0, out = 0;
	int r = nftset_counter(nl, c->table, "dropped_in", &in, err);

	if (r >= 0)
		r = nftset_counter(nl, c->table, "dropped_out", &out, err);
	if (r >= 0)
		r = nftset_names(nl, c->table, counters_name, c, err);
	for (size_t i = 0; i < c->n_names && r >= 0; i++) {
		c->name = c->names[i];
		bool drops = starts_with(c->name, "dropped_");
		r = nftset_each(nl, c->table, c->name, drops ? counters_drop : counters_rule, c, err);
	}
	s->dropped_in += in;
	s->dropped_out += out;
	return r < 0 || !c->failed ? r : error_oom(err);
}

int firewall_read(int netns_fd, const struct firewall_state *state, bool counts, struct firewall_seen *ret,
                  struct error *err) {
	_free_ struct firewall_seen *s = calloc(1, sizeof(*s));
	_free_ struct reading_counters *c = calloc(1, sizeof(*c));
	_nl_free_ struct nl *nl = NULL;

	if (!s || !c)
		return error_oom(err);
	c->seen = s;
	c->counts = counts;
	c->table = firewall_tables[state->table];
	s->dropped_in = state->dropped_in;
	s->dropped_out = state->dropped_out;
	int r = nl_open_netfilter(&nl, netns_fd, err);
	if (r >= 0)
		r = counters_read(nl, c, err);
	if (r < 0) {
		firewall_seen_done(s);
		return r;
	}
	counters_sum(s);
	*ret = *s;
	return 0;
}

void firewall_seen_done(struct firewall_seen *s) {
	free(s->counts);
	s->counts = NULL;
	s->n_counts = 0;
}
