/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/fields/typed.h"

#include <string.h>

#include "apiserver/json/object.h"
#include "base/util.h"

/*
 * The declared type of a value: of an object (what it consists of), or of a field. If both are NULL, it is not
 * declared.
 */
struct type {
	const struct api_desc *d;
	const struct api_field *f;
	bool atomic, item;
};

enum shape { LEAF, MEMBERS, ITEMS };

static struct type type_of_field(const struct api_field *f) {
	bool nested = f->type == API_TYPE_obj || f->type == API_TYPE_inl;
	return (struct type){.d = nested ? f->sub : NULL,
	                     .f = nested || f->type == API_TYPE_raw ? NULL : f,
	                     .atomic = (f->flags & API_ATOMIC) && !api_list_key(f)};
}

static const struct api_field *typed_declared(struct type t, const char *name) {
	for (size_t i = 0; t.d && i < t.d->n_fields; i++)
		if (strcmp(t.d->fields[i].name, name) == 0)
			return &t.d->fields[i];
	return NULL;
}

static struct type member_type(struct type t, const char *name) {
	const struct api_field *f = typed_declared(t, name);
	return f ? type_of_field(f) : (struct type){0};
}

static struct type item_type(struct type t) {
	bool list = t.f && t.f->type == API_TYPE_list;
	return (struct type){.d = list ? t.f->sub : NULL, .item = true, .atomic = list && (t.f->flags & API_ATOMIC)};
}

static bool has_items(struct type t) {
	return t.f && (t.f->flags & (API_SET | API_KEYS));
}

static enum shape shape_of(struct type t, const json_t *v) {
	if (t.atomic)
		return LEAF;
	if (json_is_object(v))
		return MEMBERS;
	return json_is_array(v) && has_items(t) ? ITEMS : LEAF;
}

static bool is_empty(const json_t *v) {
	return json_object_size(v) == 0 && json_array_size(v) == 0;
}

/* ---- elements of lists ---- */

struct item {
	const char *text; /* of its path element; NULL: it has no key, so it can't be told from other elements */
	json_t *value;
	size_t index;
};

struct items {
	enum element element;
	struct item *v; /* sorted by text, then by index */
	size_t n;
};

static const char *item_text(struct arena *m, struct type t, json_t *v) {
	const char *name = api_list_key(t.f);
	json_t *key = name ? json_object() : json_incref(v);
	if (name && (!json_is_object(v) || !json_object_get(v, name) ||
	             json_object_set(key, name, json_object_get(v, name)) < 0)) {
		json_decref(key);
		return NULL;
	}
	char *s = json_dumps(key, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
	const char *text = s ? arena_strndup(m, s, strlen(s)) : NULL;
	free(s);
	json_decref(key);
	return text;
}

static int item_cmp(const void *a, const void *b) {
	const struct item *x = a, *y = b;
	int c = strcmp(x->text, y->text);
	return c ? c : (x->index > y->index) - (x->index < y->index);
}

/* The elements that have a key; of several with one key only the first. */
static struct items items_of(struct arena *m, struct type t, const json_t *list) {
	struct items out = {.element = api_list_key(t.f) ? ELEMENT_KEY : ELEMENT_VALUE};
	size_t i, n = json_array_size(list), unique = 0;
	json_t *v;
	out.v = arena_alloc(m, n * sizeof(*out.v));
	if (!out.v)
		return out;
	json_array_foreach((json_t *)list, i, v) {
		const char *text = item_text(m, t, v);
		if (text)
			out.v[out.n++] = (struct item){text, v, i};
	}
	qsort(out.v, out.n, sizeof(*out.v), item_cmp);
	for (i = 0; i < out.n; i++)
		if (i == 0 || strcmp(out.v[unique - 1].text, out.v[i].text) != 0)
			out.v[unique++] = out.v[i];
	out.n = unique;
	return out;
}

static const struct item *items_find(const struct items *s, const char *text) {
	size_t lo = 0, hi = s->n;
	while (text && lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(s->v[mid].text, text);
		if (c == 0)
			return &s->v[mid];
		*(c < 0 ? &lo : &hi) = c < 0 ? mid + 1 : mid;
	}
	return NULL;
}

/* ---- the set of an object ---- */

struct part {
	bool member;
	const struct fields *below;
};

static struct part set_of(struct arena *m, struct type t, const json_t *v) {
	struct fields_builder b = {.arena = m};
	const char *key;
	json_t *child;
	switch (shape_of(t, v)) {
	case LEAF: return (struct part){.member = true};
	case MEMBERS:
		json_object_foreach((json_t *)v, key, child) {
			struct part p = set_of(m, member_type(t, key), child);
			bool empty = json_is_object(child) && is_empty(child);
			fields_add(&b, ELEMENT_FIELD, key, p.member || empty || !typed_declared(t, key), p.below);
		}
		break;
	case ITEMS: {
		struct items items = items_of(m, t, v);
		for (size_t i = 0; i < items.n; i++)
			fields_add(&b, items.element, items.v[i].text, true,
			           set_of(m, item_type(t), items.v[i].value).below);
		break;
	}
	}
	return (struct part){.below = fields_build(&b)};
}

const struct fields *typed_set(const struct typed *t, const json_t *obj) {
	return set_of(t->arena, (struct type){.d = t->kind->desc}, obj).below;
}

/* ---- differences ---- */

struct diff {
	struct part added, removed, modified;
};

struct diff_builder {
	struct fields_builder added, removed, modified;
};

static void diff_add(struct diff_builder *b, enum element element, const char *text, const struct diff *d) {
	fields_add(&b->added, element, text, d->added.member, d->added.below);
	fields_add(&b->removed, element, text, d->removed.member, d->removed.below);
	fields_add(&b->modified, element, text, d->modified.member, d->modified.below);
}

static struct diff diff_build(struct diff_builder *b) {
	return (struct diff){.added.below = fields_build(&b->added),
	                     .removed.below = fields_build(&b->removed),
	                     .modified.below = fields_build(&b->modified)};
}

static struct diff typed_compare_values(const struct typed *c, struct type t, const json_t *old, const json_t *now);

static void compare_members(const struct typed *c, struct type t, const json_t *old, const json_t *now,
                            struct diff_builder *b) {
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)old, key, v) {
		struct diff d = typed_compare_values(c, member_type(t, key), v, json_object_get(now, key));
		diff_add(b, ELEMENT_FIELD, key, &d);
	}
	json_object_foreach((json_t *)now, key, v) {
		if (json_object_get(old, key))
			continue;
		struct diff d = typed_compare_values(c, member_type(t, key), NULL, v);
		diff_add(b, ELEMENT_FIELD, key, &d);
	}
}

static void compare_items(const struct typed *c, struct type t, const json_t *old, const json_t *now,
                          struct diff_builder *b) {
	struct items x = items_of(c->arena, t, old), y = items_of(c->arena, t, now);
	for (size_t i = 0, j = 0; i < x.n || j < y.n;) {
		int o = i == x.n ? 1 : j == y.n ? -1 : strcmp(x.v[i].text, y.v[j].text);
		const char *text = o <= 0 ? x.v[i].text : y.v[j].text;
		const json_t *l = o <= 0 ? x.v[i++].value : NULL, *r = o >= 0 ? y.v[j++].value : NULL;
		struct diff d = typed_compare_values(c, item_type(t), l, r);
		diff_add(b, x.element, text, &d);
	}
}

static struct diff typed_compare_values(const struct typed *c, struct type t, const json_t *old, const json_t *now) {
	struct diff_builder b = {{.arena = c->arena}, {.arena = c->arena}, {.arena = c->arena}};
	struct diff d = {0};
	enum shape x = old ? shape_of(t, old) : LEAF, y = now ? shape_of(t, now) : LEAF;
	if (old && now && json_equal(old, now))
		return d;
	if (x == MEMBERS || y == MEMBERS)
		compare_members(c, t, x == MEMBERS ? old : NULL, y == MEMBERS ? now : NULL, &b);
	if (x == ITEMS || y == ITEMS)
		compare_items(c, t, x == ITEMS ? old : NULL, y == ITEMS ? now : NULL, &b);
	d = diff_build(&b);
	/*
	 * In a Kubernetes kind (one without a generation) the objects of its declaration count as present even if they
	 * are empty.
	 */
	if (t.d && !t.atomic && !t.item && !object_has_generation(c->kind) && (!old || !now))
		return d;
	d.added.member = !old;
	d.removed.member = !now;
	d.modified.member = old && now && (x != y || x == LEAF);
	return d;
}

struct typed_diff typed_compare(const struct typed *t, const json_t *old, const json_t *obj) {
	struct diff d = typed_compare_values(t, (struct type){.d = t->kind->desc}, old, obj);
	return (struct typed_diff){d.added.below, d.removed.below, d.modified.below};
}

/* ---- merging ---- */

static json_t *typed_merge_values(struct arena *m, struct type t, json_t *live, json_t *config);

static json_t *merge_members(struct arena *m, struct type t, json_t *live, json_t *config) {
	json_t *out = json_object(), *v;
	const char *key;
	int r = out ? 0 : -1;
	json_object_foreach(live, key, v) r |= json_object_set_new(
		out, key, typed_merge_values(m, member_type(t, key), v, json_object_get(config, key)));
	json_object_foreach(config, key, v) if (!json_object_get(live, key)) r |= json_object_set(out, key, v);
	if (r == 0)
		return out;
	json_decref(out);
	return NULL;
}

/*
 * Merges two lists. Elements of CONFIG get the order of CONFIG. An element that only LIVE has stays in front of the
 * element that followed it, as far as the order of CONFIG allows.
 */
static json_t *merge_items(struct arena *m, struct type t, json_t *live, json_t *config) {
	const struct items x = items_of(m, t, live), y = items_of(m, t, config);
	const size_t n = json_array_size(live), k = json_array_size(config);
	json_t *out = json_array();
	size_t i = 0, j = 0, shared = 0; /* shared: index of the next element of CONFIG that LIVE has, too */
	int r = out ? 0 : -1;
	while (r == 0 && (i < n || j < k)) {
		json_t *l = json_array_get(live, i), *c = json_array_get(config, j);
		const char *l_text = l ? item_text(m, t, l) : NULL, *c_text = c ? item_text(m, t, c) : NULL;
		const struct item *in_config = items_find(&y, l_text), *in_live = items_find(&x, c_text);
		for (shared = MAX(shared, j); shared < k; shared++)
			if (items_find(&x, item_text(m, t, json_array_get(config, shared))))
				break;
		if (l && !in_config && (!c || !streq(l_text, c_text))) {
			r = json_array_append(out, l);
			i++;
		} else if (l && c && !streq(l_text, c_text) && in_config && shared < k && in_config->index != shared)
			i++; /* an element of both lists is placed when CONFIG comes to it */
		else {
			if (l && in_config && (in_config->index < j || streq(l_text, c_text)))
				i++;
			if (c)
				r = json_array_append_new(
					out, in_live ? typed_merge_values(m, item_type(t), in_live->value, c)
						     : json_incref(c));
			j += c != NULL;
		}
	}
	if (r == 0 && !m->failed)
		return out;
	json_decref(out);
	return NULL;
}

static json_t *typed_merge_values(struct arena *m, struct type t, json_t *live, json_t *config) {
	enum shape shape = config ? shape_of(t, config) : LEAF;
	if (!config)
		return json_incref(live);
	if (!live || shape == LEAF || shape_of(t, live) != shape || (is_empty(live) && is_empty(config)))
		return json_incref(config);
	return shape == MEMBERS ? merge_members(m, t, live, config) : merge_items(m, t, live, config);
}

json_t *typed_merge(const struct typed *t, json_t *live, json_t *config) {
	return typed_merge_values(t->arena, (struct type){.d = t->kind->desc}, live, config);
}

/* ---- removing ---- */

/* V without SET, a new reference. NULL: nothing is left, or there is no memory. */
static json_t *without(struct arena *m, struct type t, json_t *v, const struct fields *set) {
	enum shape shape = shape_of(t, v);
	const char *key;
	json_t *child, *out;
	size_t i;
	int r = 0;
	if (shape == LEAF)
		return json_is_object(v) || json_is_array(v) ? NULL : json_incref(v);
	out = shape == MEMBERS ? json_object() : json_array();
	json_object_foreach(v, key, child) {
		const struct fields_node *n = fields_find(set, ELEMENT_FIELD, key);
		if (n && n->member)
			continue;
		json_t *kept = n ? without(m, member_type(t, key), child, n->below) : json_incref(child);
		if (kept)
			r |= json_object_set_new(out, key, kept);
	}
	json_array_foreach(v, i, child) {
		enum element element = api_list_key(t.f) ? ELEMENT_KEY : ELEMENT_VALUE;
		const struct fields_node *n = fields_find(set, element, item_text(m, t, child));
		if (n && n->member)
			continue;
		json_t *kept = n ? without(m, item_type(t), child, n->below) : json_incref(child);
		if (kept)
			r |= json_array_append_new(out, kept);
	}
	if (r < 0 || !out)
		m->failed = true;
	if (r == 0 && !is_empty(out))
		return out;
	json_decref(out);
	return NULL;
}

json_t *typed_remove(const struct typed *t, json_t *obj, const struct fields *set) {
	json_t *out = set ? without(t->arena, (struct type){.d = t->kind->desc}, obj, set) : json_incref(obj);
	return t->arena->failed ? (json_decref(out), NULL) : out ? out : json_object();
}

static const struct fields *with_parents(struct arena *m, struct type t, const struct fields *set) {
	struct fields_builder b = {.arena = m};
	for (size_t i = 0; set && i < set->n; i++) {
		const struct fields_node *n = &set->v[i];
		bool field = n->type == ELEMENT_FIELD;
		struct type below = field ? member_type(t, n->text) : item_type(t);
		fields_add(&b, n->type, n->text, n->member || (n->below && field && typed_declared(t, n->text)),
		           n->below ? with_parents(m, below, n->below) : NULL);
	}
	return fields_build(&b);
}

const struct fields *typed_with_parents(const struct typed *t, const struct fields *set) {
	return with_parents(t->arena, (struct type){.d = t->kind->desc}, set);
}

/* ---- checking ---- */

static int typed_wrong(struct error *err, const struct buf *path, const char *what) {
	return error_set(err, EINVAL, "%.200s: %.280s", path->data ? path->data : "", what);
}

static int typed_wrong_type(struct error *err, const struct buf *path, const char *want, const json_t *got) {
	_free_ char *text =
		json_is_string(got) ? strdup(json_string_value(got)) : json_dumps(got, JSON_ENCODE_ANY | JSON_COMPACT);
	_free_ char *what = strf("expected %s, got &{%.100s}", want, text ? text : "");
	return typed_wrong(err, path, what ? what : "");
}

static int typed_check_value(struct arena *m, struct type t, const json_t *v, struct buf *path, bool top,
                             struct error *err);

static int check_members(struct arena *m, struct type t, const json_t *v, struct buf *path, bool top,
                         struct error *err) {
	const char *key;
	json_t *child;
	const size_t len = path->len;
	json_object_foreach((json_t *)v, key, child) {
		bool known = !t.d || t.d->open || typed_declared(t, key) ||
		             (top && (streq(key, "apiVersion") || streq(key, "kind")));
		buf_printf(path, ".%s", key);
		int r = known ? typed_check_value(m, member_type(t, key), child, path, false, err)
		              : typed_wrong(err, path, "field not declared in schema");
		if (r < 0)
			return r;
		path->failed = false;
		path->len = len;
		path->data[len] = '\0';
	}
	return 0;
}

/* Checks a map of strings. */
static int check_map(const json_t *v, struct buf *path, struct error *err) {
	const char *key;
	json_t *child;
	if (!json_is_object(v))
		return typed_wrong_type(err, path, "map", v);
	json_object_foreach((json_t *)v, key, child) {
		if (json_is_string(child) || json_is_null(child))
			continue;
		buf_printf(path, ".%s", key);
		return typed_wrong_type(err, path, "string", child);
	}
	return 0;
}

static int check_items(struct arena *m, struct type t, const json_t *v, struct buf *path, struct error *err) {
	const char *key = api_list_key(t.f);
	const size_t len = path->len;
	size_t i;
	json_t *child;
	json_array_foreach((json_t *)v, i, child) {
		_free_ char *text = NULL;
		if (key && !json_is_object(child))
			text = strf("element %zu: associative list with keys may not have non-map elements", i);
		else if (key && !json_object_get(child, key))
			text = strf("element %zu: associative list with keys has an element that omits all key fields "
			            "[\"%s\"] (and doesn't have default values for any key fields)",
			            i, key);
		else if (!key && (json_is_object(child) || json_is_array(child) || json_is_null(child)))
			text = strf("element %zu: associative list without keys has an element that's no plain value",
			            i);
		if (text)
			return typed_wrong(err, path, text);
		buf_printf(path, "[%zu]", i);
		int r = key ? typed_check_value(m, item_type(t), child, path, false, err) : 0;
		if (r < 0)
			return r;
		path->len = len;
		path->failed = false;
		path->data[len] = '\0';
	}
	struct items items = items_of(m, t, v);
	if (items.n == json_array_size(v))
		return 0;
	/* An element whose index is missing in ITEMS has the same key as one that is in it. */
	for (i = 0; i < items.n; i++)
		for (size_t j = items.v[i].index + 1; j < json_array_size(v); j++) {
			json_t *other = json_array_get(v, j);
			if (!(key ? json_equal(json_object_get(other, key), json_object_get(items.v[i].value, key))
			          : json_equal(other, items.v[i].value)))
				continue;
			_free_ char *id = json_dumps(key ? json_object_get(other, key) : other, JSON_ENCODE_ANY);
			_free_ char *text = strf("duplicate entries for key [%s=%.100s]", key ? key : "", id ? id : "");
			return typed_wrong(err, path, text ? text : "");
		}
	return typed_wrong(err, path, "out of memory");
}

/* Checks the elements of a list that is managed as a whole. */
static int check_elements(struct arena *m, struct type t, const json_t *v, struct buf *path, struct error *err) {
	const size_t len = path->len;
	size_t i;
	json_t *child;
	json_array_foreach((json_t *)v, i, child) {
		buf_printf(path, "[%zu]", i);
		int r = typed_check_value(m, item_type(t), child, path, false, err);
		if (r < 0)
			return r;
		path->len = len;
		path->failed = false;
		path->data[len] = '\0';
	}
	return 0;
}

static int typed_check_value(struct arena *m, struct type t, const json_t *v, struct buf *path, bool top,
                             struct error *err) {
	enum api_type type = t.d ? API_TYPE_obj : t.f ? t.f->type : API_TYPE_raw;
	if (json_is_null(v))
		return 0;
	switch (type) {
	case API_TYPE_raw: return json_is_object(v) ? check_members(m, t, v, path, false, err) : 0;
	case API_TYPE_str: return json_is_string(v) ? 0 : typed_wrong_type(err, path, "string", v);
	case API_TYPE_flag: return json_is_boolean(v) ? 0 : typed_wrong_type(err, path, "boolean", v);
	case API_TYPE_i64: return json_is_number(v) ? 0 : typed_wrong_type(err, path, "numeric (int or float)", v);
	case API_TYPE_obj:
	case API_TYPE_inl:
		return json_is_object(v) ? check_members(m, t, v, path, top, err)
		                         : typed_wrong_type(err, path, "map", v);
	case API_TYPE_map: return check_map(v, path, err);
	case API_TYPE_list:
	case API_TYPE_strs:
		if (!json_is_array(v))
			return typed_wrong_type(err, path, "list", v);
		return has_items(t) ? check_items(m, t, v, path, err) : check_elements(m, t, v, path, err);
	}
	return 0;
}

int typed_check(const struct typed *t, const json_t *obj, struct error *err) {
	_buf_free_ struct buf path = {.max = 4096};
	return typed_check_value(t->arena, (struct type){.d = t->kind->desc}, obj, &path, true, err);
}
