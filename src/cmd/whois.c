/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/whois.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "api/addresspool.h"
#include "base/util.h"
#include "cmd/command.h"
#include "cmd/session.h"

#define NOBODY 3
#define PAGE   "500"

/* Somebody had a value of a pool from one time to another. */
struct holder {
	char *value, *pool, *owner, *uid, *from, *until; /* until NULL: still */
	char *record;                                    /* the name that its AllocationRecord has or would have */
};

struct whois {
	struct kube_client *client;
	struct addr address;
	int64_t port;     /* -1: none was given */
	uint64_t at_us;   /* of the question */
	bool now;         /* no time was given */
	bool is_shared;   /* the address has slices, but no port was given */
	struct holder *v; /* everybody that is known */
	size_t n;
};

static void whois_free(struct whois *w) {
	for (size_t i = 0; i < w->n; i++) {
		struct holder *h = &w->v[i];
		char *const strings[] = {h->value, h->pool, h->owner, h->uid, h->from, h->until, h->record};
		for (size_t k = 0; k < ARRAY_SIZE(strings); k++)
			free(strings[k]);
	}
	free(w->v);
}

static int holder_cmp(const void *a, const void *b) {
	const struct holder *x = a, *y = b;
	int c = strcmp(x->from, y->from);
	return c ? c : strcmp(x->value, y->value);
}

/* True if VALUE holds the address and port that are asked for. */
static bool whois_matches(struct whois *w, const char *value) {
	struct slice s;
	struct prefix p;
	struct addr a;
	if (slice_parse(value, &s, NULL) == 0) {
		w->is_shared |= w->port < 0;
		return slice_contains(&s, &w->address, w->port);
	}
	if (prefix_parse(value, &p, NULL) == 0)
		return prefix_contains_addr(&p, &w->address);
	return addr_parse(value, &a, NULL) == 0 && addr_cmp(&a, &w->address) == 0;
}

static int whois_add(struct whois *w, const char *value, const char *pool, const struct api_object_ref *owner,
                     const char *from, const char *until, const char *record, struct error *err) {
	if (!whois_matches(w, value))
		return 0;
	for (size_t i = 0; i < w->n; i++)
		if (streq(w->v[i].record, record))
			return 0;
	struct holder *v = reallocarray(w->v, w->n + 1, sizeof(*v));
	if (!v)
		return error_oom(err);
	w->v = v;
	v += w->n++;
	*v = (struct holder){.value = strdup(value),
	                     .pool = strdup(pool),
	                     .owner = strf("%s%s%s", owner->ns ? owner->ns : "", owner->ns ? "/" : "", owner->name),
	                     .uid = strdup(owner->uid),
	                     .from = strdup(from ? from : ""),
	                     .until = until ? strdup(until) : NULL,
	                     .record = strdup(record)};
	if (!v->value || !v->pool || !v->owner || !v->uid || !v->from || !v->until != !until || !v->record)
		return error_oom(err);
	return 0;
}

/* ---- asking the server ---- */

typedef int (*whois_each)(struct whois *w, const void *obj, struct error *err);

/* Gives each object of the list that comes next in J to EACH. */
static int whois_read_items(struct whois *w, const struct api_kind *k, struct jr *j, whois_each each,
                            struct error *err) {
	const char *text;
	size_t n;
	int r = jr_array(j);
	while (r >= 0 && (r = jr_elem(j)) > 0) {
		struct api_errors errs = {0};
		void *obj;
		if ((r = jr_skip(j, &text, &n)) < 0)
			break;
		if (api_parse(k, text, n, &obj, &errs) < 0)
			return api_errors_to_error(&errs, err);
		r = each(w, obj, err);
		api_free(k, obj);
		if (r < 0)
			return r;
	}
	return r < 0 ? jr_error(j, err) : 0;
}

/* Appends metadata.continue of the list, whose metadata comes next in J, to NEXT. */
static int whois_read_continue(struct jr *j, struct buf *next) {
	const char *key, *text;
	size_t n;
	int r = jr_object(j);
	while (r >= 0 && (r = jr_key(j, &key, &n)) > 0) {
		if (n != 8 || memcmp(key, "continue", 8) != 0)
			r = jr_skip(j, &text, &n);
		else if ((r = jr_string(j, &text, &n)) == 0)
			buf_add(next, text, n);
	}
	return r;
}

static int whois_read_page(struct whois *w, const struct api_kind *k, const struct kube_response *resp,
                           struct buf *next, whois_each each, struct error *err) {
	const char *key, *text;
	size_t n;
	struct jr j;
	jr_init(&j, resp->body, resp->len);
	int r = jr_object(&j), failed = 0;
	while (r >= 0 && !failed && (r = jr_key(&j, &key, &n)) > 0) {
		if (n == 5 && memcmp(key, "items", 5) == 0)
			failed = whois_read_items(w, k, &j, each, err);
		else if (n == 8 && memcmp(key, "metadata", 8) == 0)
			r = whois_read_continue(&j, next);
		else
			r = jr_skip(&j, &text, &n);
	}
	if (r < 0 && !failed)
		failed = jr_error(&j, err);
	jr_done(&j);
	return failed;
}

/* Gives all objects of kind K for which FIELD is VALUE (NULL: all) to EACH. */
static int whois_list(struct whois *w, const struct api_kind *k, const char *field, const char *value, whois_each each,
                      struct error *err) {
	_buf_free_ struct buf next = {0};
	do {
		_buf_free_ struct buf path = {0};
		_free_ char *selector = field ? strf("%s=%s", field, value) : NULL;
		struct kube_response r = {0};
		kube_path(&path, k, NULL, NULL, NULL);
		kube_query(&path, "limit", PAGE);
		if (selector)
			kube_query(&path, "fieldSelector", selector);
		if (next.len)
			kube_query(&path, "continue", next.data);
		buf_reset(&next);
		if (path.failed || !selector != !field)
			return error_oom(err);
		int e = kube_perform(w->client, &(struct kube_spec){.method = "GET", .path = path.data}, &r);
		if (e < 0)
			*err = r.err;
		else
			e = whois_read_page(w, k, &r, &next, each, err);
		kube_response_clear(&r);
		if (e < 0)
			return e;
	} while (next.len);
	return 0;
}

/* Looks up the Allocation of VALUE. */
static int whois_ask_allocation(struct whois *w, const char *value, struct error *err) {
	_buf_free_ struct buf path = {0};
	struct kube_response r = {0};
	char name[64];
	void *obj = NULL;
	allocation_name(value, name);
	kube_path(&path, &api_kind_allocation, NULL, name, NULL);
	if (path.failed)
		return error_oom(err);
	int e = kube_perform(w->client, &(struct kube_spec){.method = "GET", .path = path.data}, &r);
	if (e == 0)
		e = kube_response_parse(&r, &api_kind_allocation, &obj, err);
	else if (e == -ENOENT)
		e = 0;
	else
		*err = r.err;
	kube_response_clear(&r);
	const struct allocation *al = obj;
	char record[ALLOCATIONRECORD_NAME_MAX], since[TIME_STR_MAX];
	if (al) {
		allocationrecord_name(al, record);
		e = whois_add(w, al->spec->value, al->spec->pool, al->spec->owner,
		              allocation_since(al, since) ? since : NULL, al->status ? al->status->released_at : NULL,
		              record, err);
	}
	api_free(&api_kind_allocation, obj);
	return e;
}

/* If POOL has slices of the address: looks up that with the port. */
static int whois_ask_pool(struct whois *w, const void *obj, struct error *err) {
	const struct addresspool_spec *s = ((const struct addresspool *)obj)->spec;
	char value[SLICE_STR_MAX];
	struct prefix p;
	if (!streq(s->use, "shared") || !s->prefix || prefix_parse(s->prefix, &p, NULL) < 0 ||
	    !prefix_contains_addr(&p, &w->address))
		return 0;
	w->is_shared |= w->port < 0;
	if (w->port < 0)
		return 0;
	const int64_t size = addresspool_slice_ports(s), first = w->port / size * size;
	slice_str(&(struct slice){w->address, (uint16_t)first, (uint16_t)(first + size - 1)}, value);
	return whois_ask_allocation(w, value, err);
}

static int whois_take_record(struct whois *w, const void *obj, struct error *err) {
	const struct allocationrecord *r = obj;
	const struct allocationrecord_spec *s = r->spec;
	return whois_add(w, s->value, s->pool, s->owner, s->from, s->until, r->meta.name, err);
}

/* Allocations first: one that is gone by then has its record already. */
static int whois_ask(struct whois *w, struct error *err) {
	char text[ADDR_STR_MAX], value[PREFIX_STR_MAX], other[ADDR_STR_MAX];
	if (w->address.family == AF_INET) {
		addr_str(&w->address, text);
		int r = whois_ask_allocation(w, text, err);
		if (r == 0)
			r = whois_list(w, &api_kind_addresspool, NULL, NULL, whois_ask_pool, err);
		return r < 0 ? r
		             : whois_list(w, &api_kind_allocationrecord, "spec.address", text, whois_take_record, err);
	}
	const struct prefix p = prefix_of(&w->address, 64), q = prefix_of(&w->address, 60);
	int r = whois_ask_allocation(w, prefix_str(&p, value), err);
	if (r == 0)
		r = whois_ask_allocation(w, prefix_str(&q, value), err);
	if (r == 0)
		r = whois_list(w, &api_kind_allocationrecord, "spec.address", addr_str(&p.addr, text),
		               whois_take_record, err);
	if (r == 0 && !streq(text, addr_str(&q.addr, other)))
		r = whois_list(w, &api_kind_allocationrecord, "spec.address", other, whois_take_record, err);
	return r;
}

/* ---- the answer ---- */

/*
 * Times of the API are whole seconds: whoever had it at some time in that second is meant. Who has it now needs no
 * comparison of times, because this machine's clock may differ.
 */
static bool holder_had_it(const struct whois *w, const struct holder *h) {
	uint64_t from = 0, until = UINT64_MAX;
	if (w->now)
		return !h->until;
	(void)!time_parse(h->from, &from);
	if (h->until && time_parse(h->until, &until) < 0)
		return false;
	return from <= w->at_us && w->at_us / USEC_PER_SEC * USEC_PER_SEC <= until;
}

static void whois_print(const struct whois *w) {
	static const char *const heads[] = {"INSTANCE", "UID", "VALUE", "POOL", "FROM", "UNTIL"};
	int width[ARRAY_SIZE(heads)];
	for (size_t k = 0; k < ARRAY_SIZE(heads); k++)
		width[k] = (int)strlen(heads[k]);
	for (int pass = 0; pass < 2; pass++) {
		for (size_t k = 0; pass && k < ARRAY_SIZE(heads); k++)
			printf("%-*s%s", k + 1 < ARRAY_SIZE(heads) ? width[k] : 0, heads[k],
			       k + 1 < ARRAY_SIZE(heads) ? "  " : "\n");
		for (size_t i = 0; i < w->n; i++) {
			const struct holder *h = &w->v[i];
			const char *const cells[] = {h->owner, h->uid,  h->value,
			                             h->pool,  h->from, h->until ? h->until : "now"};
			for (size_t k = 0; holder_had_it(w, h) && k < ARRAY_SIZE(heads); k++) {
				width[k] = MAX(width[k], (int)strlen(cells[k]));
				if (pass)
					printf("%-*s%s", k + 1 < ARRAY_SIZE(heads) ? width[k] : 0, cells[k],
					       k + 1 < ARRAY_SIZE(heads) ? "  " : "\n");
			}
		}
	}
}

static int whois_nobody(const struct whois *w, const char *prog, const char *time) {
	const struct holder *before = NULL;
	char address[ADDR_STR_MAX], port[32] = "";
	for (size_t i = 0; i < w->n; i++) {
		uint64_t until;
		if (w->v[i].until && time_parse(w->v[i].until, &until) == 0 && (w->now || until <= w->at_us))
			before = before && strcmp(before->until, w->v[i].until) > 0 ? before : &w->v[i];
	}
	if (w->port >= 0)
		snprintf(port, sizeof(port), " port %lld", (long long)w->port);
	fprintf(stderr, "%s: nobody %s %s%s%s%s", prog, w->now ? "has" : "had", addr_str(&w->address, address), port,
	        w->now ? " now" : " at ", w->now ? "" : time);
	if (before)
		fprintf(stderr, "; %s had it until %s", before->owner, before->until);
	else if (!w->now)
		fprintf(stderr, ", as far back as AllocationRecords are kept (AddressPool, historyDays)");
	fprintf(stderr, "\n");
	return NOBODY;
}

int cmd_whois(int argc, char **argv) {
	struct kube_access access = {0};
	const struct opt opts[] = {KUBE_ACCESS_OPTIONS(access), {0}};
	const struct opt_program prog = {
		"nacre whois", "Tells which instance has a public address, or had it at some time.",
		"[OPTIONS] ADDRESS [PORT] [TIME]",
		"ADDRESS is IPv4 or IPv6. PORT (or the identifier of an ICMP echo) is needed if the address is shared "
		"by\n"
		"slices of its ports. TIME is as in RFC 3339: 2026-01-31T12:00:00Z, 2026-01-31T14:00:00+02:00. Whoever "
		"had\n"
		"it in that second is listed.\n"
		"Exit status: 0 somebody is listed, 1 the server can't be asked, 2 wrong usage, 3 nobody had it.\n",
		opts};
	_cleanup_(session_close) struct session s = {0};
	_cleanup_(whois_free) struct whois w = {.port = -1, .now = true, .at_us = now_realtime_us()};
	struct error err = {0};
	int i = opt_parse_or_exit(&prog, argc, argv);
	if (i == argc || argc - i > 3)
		return command_usage(&prog, "give an ADDRESS, and perhaps a PORT and a TIME");
	const char *address = argv[i++], *time = NULL;
	w.address.family = strchr(address, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(w.address.family, address, w.address.bytes) != 1) {
		error_set(&err, EINVAL, "ADDRESS: `%.64s` is not an IP address", address);
		return command_usage(&prog, err.msg);
	}
	if (i < argc && !strchr(argv[i], '-') && parse_i64(argv[i++], 0, 65535, &w.port, &err) < 0)
		return command_usage(&prog, "PORT: must be 0 to 65535");
	if (i < argc) {
		time = argv[i++];
		w.now = false;
		if (time_parse(time, &w.at_us) < 0)
			return command_usage(&prog, "TIME: must be as in RFC 3339, such as 2026-01-31T12:00:00Z");
	}
	if (i < argc)
		return command_usage(&prog, "the TIME comes last");
	if (session_open(&s, &access, &err) < 0)
		return command_failed(prog.name, &err);
	w.client = s.client;
	if (whois_ask(&w, &err) < 0)
		return command_failed(prog.name, &err);
	qsort(w.v, w.n, sizeof(*w.v), holder_cmp);
	bool found = false;
	for (size_t k = 0; k < w.n; k++)
		found |= holder_had_it(&w, &w.v[k]);
	if (found) {
		whois_print(&w);
		return 0;
	}
	if (w.is_shared)
		return command_usage(&prog, "the address is shared by slices of its ports: give the PORT");
	return whois_nobody(&w, prog.name, time);
}
