/* SPDX-License-Identifier: Apache-2.0 */

#include "apiserver/read/read.h"

#include <inttypes.h>
#include <string.h>

#include "apiserver/json/selector.h"
#include "apiserver/json/table.h"
#include "apiserver/request/reply.h"
#include "base/jsonwrite.h"
#include "base/util.h"

#define WATCH_TIMEOUT_MAX_S (24 * 3600)
#define WATCH_TIMEOUT_MIN_S 1800 /* if the client sets no timeout: a random time between this and twice this */

static bool check_include(struct request *r) {
	const char *v = request_param(r, "includeObject");
	if (r->accept != MEDIA_TABLE || !v || !*v || streq(v, "Object") || streq(v, "None") || streq(v, "Metadata"))
		return true;
	reply_bad_request(r, "unrecognized includeObject value: %.63s", v);
	return false;
}

static enum table_include include_of(const struct request *r) {
	const char *v = request_param(r, "includeObject");
	return streq(v, "Object") ? TABLE_OBJECT : streq(v, "None") ? TABLE_NONE : TABLE_METADATA;
}

/* Reads the parameter resourceVersion; *RET is -1 if it is absent. -EINVAL: the reply is set. */
static int parse_version(struct request *r, const struct store *store, int64_t *ret) {
	const char *v = request_param(r, "resourceVersion");
	*ret = -1;
	if (!v || !*v)
		return 0;
	if (parse_i64(v, 0, INT64_MAX, ret, NULL) < 0) {
		reply_bad_request(
			r, "invalid resource version: resourceVersion: Invalid value: \"%.80s\": not a number", v);
		return -EINVAL;
	}
	if (*ret > store_version(store)) {
		const struct status_details d = {.retry_after_s = 1,
		                                 .cause_reason = "ResourceVersionTooLarge",
		                                 .cause_message = "Too large resource version"};
		reply_status(&r->reply, 504, "Timeout", &d,
		             "Timeout: Too large resource version: %" PRId64 ", current: %" PRId64, *ret,
		             store_version(store));
		return -EINVAL;
	}
	return 0;
}

void handle_get(const struct store *store, struct request *r) {
	const struct route *rt = &r->route;
	int64_t version;
	if (parse_version(r, store, &version) < 0)
		return;
	const struct object *o = store_get(store, rt->kind_index, rt->ns, rt->name);
	if (!o) {
		reply_not_found(r);
		return;
	}
	if (r->accept == MEDIA_PARTIAL_LIST)
		reply_not_partial(r);
	else if (r->accept == MEDIA_TABLE) {
		_buf_free_ struct buf b = {0};
		const struct json_span item = {o->value->data, o->value->len};
		table_print(&b, rt->kind, &item, o->rv, include_of(r), now_realtime_us());
		reply_json(&r->reply, 200, &b);
	} else
		reply_object(r, 200, o->value->data, o->value->len);
}

/*
 * The selected objects. A long selection continues in other turns of the loop: the objects that are yet to be checked
 * are then kept here, so that the list still shows the state of one version. [0, n) are selected, [at, end) are yet to
 * be checked.
 */
struct page {
	struct blob **v;
	size_t n, at, end, cap, work;
	char cont[600];    /* where the next page begins; "": there is none */
	int64_t remaining; /* how many objects come after this page; 0: none, or unknown */
};

static int page_add(struct page *p, struct blob *b) {
	if (MAX(p->n, p->end) >= p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		struct blob **v = reallocarray(p->v, cap, sizeof(struct blob *));
		if (!v)
			return -ENOMEM;
		p->v = v;
		p->cap = cap;
	}
	p->v[p->end ? p->end++ : p->n++] = blob_ref(b);
	return 0;
}

static void page_clear(struct page *p) {
	for (size_t i = 0; i < p->n; i++)
		blob_unref(p->v[i]);
	for (size_t i = p->at; i < p->end; i++)
		blob_unref(p->v[i]);
	free(p->v);
	*p = (struct page){0};
}

struct list_params {
	const struct selector *sel;
	const char *ns, *from_ns, *from_name; /* the list begins at the key FROM_NS/FROM_NAME */
	size_t limit;                         /* 0: no limit */
	int64_t version;
};

/*
 * Adds B if it is selected. 1: the page is full, and the next page begins with this key. Without a selector the
 * remaining objects are counted.
 */
static int emit(const struct list_params *lp, struct page *p, const char *ns, const char *name, struct blob *b) {
	if (p->end)
		return page_add(p, b);
	if (p->work > SELECTOR_WORK_MAX) {
		/* One place stays free before it, so that END is not 0. */
		p->at = p->end = p->n + 1;
		return page_add(p, b);
	}
	if (!selector_matches(lp->sel, ns, name, b->data, b->len, &p->work))
		return 0;
	if (lp->limit && p->n == lp->limit) {
		if (!p->remaining++)
			snprintf(p->cont, sizeof(p->cont), "v1:%" PRId64 ":%s/%s", lp->version, ns, name);
		if (!lp->sel)
			return 0;
		p->remaining = 0;
		return 1;
	}
	return page_add(p, b);
}

/* Reads a string that has no escapes: gives "a" for "\"a\"". Names are such strings. */
static void get_plain(const struct blob *b, const char *path, char *out, size_t size) {
	const char *text;
	size_t len;
	bool found = json_find(b->data, b->len, path, &text, &len) && len > 2;
	snprintf(out, size, "%.*s", found ? (int)len - 2 : 0, found ? text + 1 : "");
}

/* Checks some more of the objects that were kept. */
static void page_go_on(struct page *p, const struct list_params *lp) {
	for (p->work = 0; p->at < p->end && p->work <= SELECTOR_WORK_MAX && !*p->cont;) {
		char ns[64], name[254];
		_blob_unref_ struct blob *b = p->v[p->at++];
		get_plain(b, "metadata.namespace", ns, sizeof(ns));
		get_plain(b, "metadata.name", name, sizeof(name));
		if (!selector_matches(lp->sel, ns, name, b->data, b->len, &p->work))
			continue;
		if (lp->limit && p->n == lp->limit)
			snprintf(p->cont, sizeof(p->cont), "v1:%" PRId64 ":%s/%s", lp->version, ns, name);
		else
			p->v[p->n++] = TAKE_PTR(b);
	}
	if (*p->cont)
		for (; p->at < p->end; p->at++)
			blob_unref(p->v[p->at]);
}

/* Orders by key, then by version. */
static int undo_cmp(const void *a, const void *b) {
	const struct watch_event *x = *(const struct watch_event *const *)a, *y = *(const struct watch_event *const *)b;
	int c = api_key_cmp(x->ns, x->name, y->ns, y->name);
	return c ? c : (x->rv > y->rv) - (x->rv < y->rv);
}

/*
 * Finds the events to undo to see the objects as of lp->version: for each key from the beginning of the list on the
 * first event after that version, in order of keys. -EXPIRED_VERSION: some of these events have been forgotten.
 */
static int undo_since(const struct store *store, unsigned kind, const struct list_params *lp,
                      const struct watch_event ***ret, size_t *ret_n) {
	uint64_t seq, end = store_event_end(store, kind);
	int r = store_event_after(store, kind, lp->version, &seq);
	size_t n = 0, m = 0;
	if (r < 0)
		return r;
	const struct watch_event **v = calloc(end - seq + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (; seq < end; seq++) {
		const struct watch_event *e = store_event(store, kind, seq);
		if (e && api_key_cmp(e->ns, e->name, lp->from_ns, lp->from_name) >= 0 &&
		    (!*lp->ns || streq(lp->ns, e->ns)))
			v[n++] = e;
	}
	qsort(v, n, sizeof(*v), undo_cmp);
	for (size_t i = 0; i < n; i++)
		if (m == 0 || api_key_cmp(v[m - 1]->ns, v[m - 1]->name, v[i]->ns, v[i]->name) != 0)
			v[m++] = v[i];
	*ret = v;
	*ret_n = m;
	return 0;
}

static const struct object *in_namespace(const struct object *o, const char *ns) {
	return o && (!*ns || streq(o->ns, ns)) ? o : NULL;
}

static int read_collect(const struct store *store, unsigned kind, const struct list_params *lp, struct page *p) {
	const struct watch_event **undo = NULL;
	size_t n_undo = 0, u = 0;
	const char *only = selector_name(lp->sel);
	const struct object *o;
	int r = 0;
	if (lp->version < store_version(store))
		r = undo_since(store, kind, lp, &undo, &n_undo);
	else if (only && *lp->ns) {
		o = store_get(store, kind, lp->ns, only);
		return o ? emit(lp, p, o->ns, o->name, o->value) : 0;
	}
	if (r < 0)
		return r;
	o = in_namespace(store_seek(store, kind, lp->from_ns, lp->from_name), lp->ns);
	while (r == 0 && (o || u < n_undo)) {
		int c = !o ? 1 : u == n_undo ? -1 : api_key_cmp(o->ns, o->name, undo[u]->ns, undo[u]->name);
		if (c < 0)
			r = emit(lp, p, o->ns, o->name, o->value);
		else if (undo[u]->prev)
			r = emit(lp, p, undo[u]->ns, undo[u]->name, undo[u]->prev);
		u += c >= 0;
		if (c <= 0)
			o = in_namespace(store_next(store, kind, o), lp->ns);
	}
	free(undo);
	return MIN(r, 0);
}

/* Parses "v1:VERSION:NS/NAME". It splits TEXT, which LP then points into. */
static int parse_continue(char *text, struct list_params *lp) {
	char *colon = starts_with(text, "v1:") ? strchr(text + 3, ':') : NULL;
	char *slash = colon ? strchr(colon, '/') : NULL;
	if (!slash)
		return -EINVAL;
	*colon = *slash = '\0';
	if (parse_i64(text + 3, 1, INT64_MAX, &lp->version, NULL) < 0)
		return -EINVAL;
	lp->from_ns = colon + 1;
	lp->from_name = slash + 1;
	return *lp->ns && !streq(lp->ns, lp->from_ns) ? -EINVAL : 0;
}

/* The items of P follow the content of B. They are printed when they are sent. */
static void reply_items(struct request *r, struct buf *b, struct page *p, const char *tail,
                        void (*print)(struct buf *b, const struct item_style *style, const struct json_span *item)) {
	reply_json(&r->reply, 200, b);
	r->reply.items = TAKE_PTR(p->v);
	r->reply.n_items = p->n;
	r->reply.tail = tail;
	r->reply.style = (struct item_style){print, r->route.kind, include_of(r), now_realtime_us()};
	p->n = 0;
}

static void reply_list(struct request *r, struct page *p, int64_t version) {
	const struct api_kind *k = r->route.kind;
	char gv[64], list_kind[80], rv[24];
	struct buf b = {0};
	if (r->accept == MEDIA_TABLE) {
		table_begin(&b, k, version, p->cont, p->remaining);
		reply_items(r, &b, p, "]}", table_row);
		return;
	}
	bool partial = r->accept == MEDIA_PARTIAL_LIST;
	api_kind_version(k, gv);
	snprintf(list_kind, sizeof(list_kind), "%sList", partial ? "PartialObjectMetadata" : k->kind);
	snprintf(rv, sizeof(rv), "%" PRId64, version);
	jw_begin(&b, '{');
	jw_kv_string(&b, "kind", list_kind);
	jw_kv_string(&b, "apiVersion", partial ? "meta.k8s.io/v1" : gv);
	jw_key(&b, "metadata");
	jw_begin(&b, '{');
	jw_kv_string(&b, "resourceVersion", rv);
	if (*p->cont)
		jw_kv_string(&b, "continue", p->cont);
	if (p->remaining)
		jw_kv_i64(&b, "remainingItemCount", p->remaining);
	jw_end(&b, '}');
	jw_key(&b, "items");
	/* kube-apiserver answers null for the items of an empty PartialObjectMetadataList. */
	if (partial && p->n == 0) {
		jw_null(&b);
		buf_puts(&b, "}\n");
		reply_json(&r->reply, 200, &b);
		return;
	}
	jw_begin(&b, '[');
	reply_items(r, &b, p, "]}\n", partial ? partial_item : NULL);
}

/*
 * Checks the rules of ListOptions about resourceVersionMatch, sendInitialEvents and continue. -EINVAL: the reply is
 * set.
 */
static int check_list_options(struct request *r) {
	static const char path[] = "resourceVersionMatch";
	const char *match = request_param(r, path), *v = request_param(r, "resourceVersion");
	const char *cont = request_param(r, "continue");
	bool watch = r->route.verb == VERB_WATCH, version = v && *v, more = cont && *cont;
	bool initial = request_param(r, "sendInitialEvents"), given = match && *match;
	struct api_errors errs = {0};
	if (initial && !watch)
		api_errors_add(&errs, API_FORBIDDEN, "sendInitialEvents",
		               "Forbidden: sendInitialEvents is forbidden for list");
	if (initial && watch && !streq(match, "NotOlderThan"))
		api_errors_add(&errs, API_FORBIDDEN, path,
		               "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
	if (given && watch && !initial)
		api_errors_add(
			&errs, API_FORBIDDEN, path,
			"Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
	if (given && !watch && !version)
		api_errors_add(&errs, API_FORBIDDEN, path,
		               "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided");
	else if (given && !watch && more)
		api_errors_add(&errs, API_FORBIDDEN, path,
		               "Forbidden: resourceVersionMatch is forbidden when continue is provided");
	else if (given && !streq(match, "NotOlderThan") && (watch || !streq(match, "Exact")))
		api_errors_add(&errs, API_NOT_SUPPORTED, path, "Unsupported value: \"%.63s\": supported values: %s",
		               match, watch ? "\"NotOlderThan\"" : "\"Exact\", \"NotOlderThan\", \"\"");
	else if (given && !watch && streq(match, "Exact") && streq(v, "0"))
		api_errors_add(&errs, API_FORBIDDEN, path,
		               "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
	if (errs.n)
		reply_invalid_as(r, "meta.k8s.io", "ListOptions", NULL, &errs);
	else if (!watch && more && version && !streq(v, "0"))
		reply_bad_request(r, "specifying resource version is not allowed when using continue");
	else
		return 0;
	return -EINVAL;
}

/* A negative limit means none. False: it is not a number; the reply is set. */
static bool parse_limit(struct request *r, int64_t *ret) {
	const char *text = request_param(r, "limit");
	*ret = 0;
	if (!text || !*text || parse_i64(text, INT64_MIN, INT64_MAX, ret, NULL) == 0)
		return true;
	reply_bad_request(r, "limit must be a number, not `%.40s`", text);
	return false;
}

struct listing {
	struct held held; /* first */
	struct page page;
	struct list_params lp; /* without the key where the list begins */
};

static void listing_free(struct held *h) {
	struct listing *l = (struct listing *)h;
	page_clear(&l->page);
	free(l);
}

void list_more(struct request *r) {
	struct listing *l = (struct listing *)r->rest;
	page_go_on(&l->page, &l->lp);
	if (l->page.at < l->page.end)
		return;
	l->page.at = l->page.end = 0;
	reply_list(r, &l->page, l->lp.version);
	r->rest = NULL;
	listing_free(&l->held);
}

/* Continues the list in another turn of the loop. */
static void list_later(struct request *r, struct page *p, const struct list_params *lp) {
	struct listing *l = calloc(1, sizeof(*l));
	if (!l) {
		reply_internal(r, "out of memory");
		return;
	}
	*l = (struct listing){{listing_free}, *p, {.sel = lp->sel, .limit = lp->limit, .version = lp->version}};
	*p = (struct page){0};
	r->rest = &l->held;
}

void handle_list(const struct store *store, struct request *r) {
	_cleanup_(page_clear) struct page page = {0};
	struct list_params lp = {.ns = r->route.ns, .from_ns = r->route.ns, .from_name = ""};
	int64_t version, limit;
	bool exact = streq(request_param(r, "resourceVersionMatch"), "Exact");
	const char *cont = request_param(r, "continue");
	_free_ char *token = cont && *cont ? strdup(cont) : NULL;

	if (r->accept == MEDIA_PARTIAL) {
		reply_not_partial(r);
		return;
	}
	if (!check_include(r) || request_check_selector(r) < 0 || check_list_options(r) < 0 ||
	    parse_version(r, store, &version) < 0 || !parse_limit(r, &limit))
		return;
	lp.sel = r->selector;
	lp.limit = (size_t)MAX(limit, (int64_t)0);
	lp.version = exact && version > 0 ? version : store_version(store);
	if (token && (parse_continue(token, &lp) < 0 || lp.version > store_version(store))) {
		reply_bad_request(r, "continue key is not valid");
		return;
	}
	int e = read_collect(store, r->route.kind_index, &lp, &page);
	if (e == -EXPIRED_VERSION)
		reply_status(&r->reply, 410, "Expired", NULL,
		             "the version of this list, %" PRId64 ", is too old to continue; list again", lp.version);
	else if (e < 0)
		reply_internal(r, "out of memory");
	else if (page.end)
		list_later(r, &page, &lp);
	else
		reply_list(r, &page, lp.version);
}

static bool watch_initial(struct request *r, int64_t version, bool send_initial, bool *ret) {
	if (check_list_options(r) < 0)
		return false;
	/* Without a version, or from 0, a watch begins with the existing objects, unless the client says otherwise. */
	*ret = send_initial || (version <= 0 && !request_param(r, "sendInitialEvents"));
	return true;
}

void handle_watch(struct watches *watches, struct request *r) {
	int64_t version, limit, timeout = 0; /* the limit is checked but has no effect on a watch */
	bool initial, send_initial = request_flag(r, "sendInitialEvents");
	const char *t = request_param(r, "timeoutSeconds");

	if (watches->ended) {
		const struct status_details d = {.retry_after_s = 1};
		reply_status(&r->reply, 503, "ServiceUnavailable", &d, "the server is stopping");
		return;
	}
	if (t && *t && parse_i64(t, 0, INT64_MAX, &timeout, NULL) < 0) {
		reply_bad_request(r, "timeoutSeconds must be a number of 0 or more, not `%.40s`", t);
		return;
	}
	if (!parse_limit(r, &limit) || parse_version(r, watches->store, &version) < 0 ||
	    !watch_initial(r, version, send_initial, &initial))
		return;
	if (request_check_selector(r) < 0)
		return;
	const struct watch_options o = {
		.kind = r->route.kind_index,
		.ns = r->route.ns,
		.selector = TAKE_PTR(r->selector),
		.initial = initial,
		.initial_end = send_initial && request_flag(r, "allowWatchBookmarks"),
		.bookmarks = request_flag(r, "allowWatchBookmarks"),
		.table = r->accept == MEDIA_TABLE,
		.partial = r->accept == MEDIA_PARTIAL,
		.table_object = include_of(r) == TABLE_OBJECT,
		.after = version <= 0 ? store_version(watches->store) : version,
		.timeout_s = timeout ? (uint64_t)MIN(timeout, (int64_t)WATCH_TIMEOUT_MAX_S)
	                             : WATCH_TIMEOUT_MIN_S + (uint64_t)(random() % WATCH_TIMEOUT_MIN_S),
	};
	struct watch *w;
	int e = watch_new(&w, watches, &o);
	if (e == -EXPIRED_VERSION) {
		/* Clients look for this error in a stream with one ERROR event. */
		_buf_free_ struct buf b = {0};
		buf_puts(&b, "{\"type\":\"ERROR\",\"object\":");
		status_print(&b, 410, "Expired", NULL, "too old resource version");
		buf_puts(&b, "}\n");
		reply_json(&r->reply, 200, &b);
	} else if (e < 0)
		reply_internal(r, "out of memory");
	else {
		reply_text(&r->reply, 200, "");
		r->reply.content_type = "application/json";
		r->reply.watch = w;
	}
}
