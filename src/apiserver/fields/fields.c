/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/fields/fields.h"

#include <string.h>

#include "apiserver/json/tree.h"
#include "base/util.h"

/* ---- memory ---- */

#define CHUNK_SIZE ((size_t)16 << 10)

struct arena_chunk {
	struct arena_chunk *next;
	_Alignas(max_align_t) char data[];
};

void *arena_alloc(struct arena *a, size_t size) {
	size = (size + 15) & ~(size_t)15;
	if (size > ARENA_MAX - MIN(a->total, ARENA_MAX)) {
		a->failed = true;
		return NULL;
	}
	if (!a->chunks || size > a->size - a->used) {
		size_t want = MAX(size, CHUNK_SIZE);
		struct arena_chunk *c = malloc(sizeof(*c) + want);
		if (!c) {
			a->failed = true;
			return NULL;
		}
		c->next = a->chunks;
		a->chunks = c;
		a->size = want;
		a->used = 0;
	}
	void *p = a->chunks->data + a->used;
	a->used += size;
	a->total += size;
	return p;
}

const char *arena_strndup(struct arena *a, const char *s, size_t len) {
	char *p = arena_alloc(a, len + 1);
	if (!p)
		return NULL;
	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

void arena_free(struct arena *a) {
	struct arena_chunk *next;
	for (struct arena_chunk *c = a->chunks; c; c = next) {
		next = c->next;
		free(c);
	}
	*a = (struct arena){0};
}

/* ---- building ---- */

static int rank(enum element type) {
	return type == ELEMENT_FIELD ? 0 : type == ELEMENT_KEY ? 1 : type == ELEMENT_VALUE ? 2 : 3;
}

int fields_node_cmp(const struct fields_node *a, const struct fields_node *b) {
	int c = rank(a->type) - rank(b->type);
	return c ? c : strcmp(a->text, b->text);
}

static int sort_cmp(const void *a, const void *b) {
	return fields_node_cmp(a, b);
}

void fields_add(struct fields_builder *b, enum element type, const char *text, bool member,
                const struct fields *below) {
	if (!text || (!member && !below) || b->arena->failed)
		return;
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 8;
		struct fields_node *v = reallocarray(b->v, cap, sizeof(*v));
		if (!v) {
			b->arena->failed = true;
			return;
		}
		b->v = v;
		b->cap = cap;
	}
	b->v[b->n++] = (struct fields_node){type, member, text, below};
}

const struct fields *fields_build(struct fields_builder *b) {
	struct fields *s = NULL;
	if (b->n && !b->arena->failed)
		s = arena_alloc(b->arena, sizeof(*s) + b->n * sizeof(s->v[0]));
	if (s) {
		bool sorted = true;
		for (size_t i = 1; i < b->n && sorted; i++)
			sorted = fields_node_cmp(&b->v[i - 1], &b->v[i]) < 0;
		if (!sorted)
			qsort(b->v, b->n, sizeof(b->v[0]), sort_cmp);
		s->n = 0;
		for (size_t i = 0; i < b->n; i++) {
			struct fields_node *last = s->n ? &s->v[s->n - 1] : NULL;
			if (last && fields_node_cmp(last, &b->v[i]) == 0) {
				last->member |= b->v[i].member;
				last->below = fields_union(b->arena, last->below, b->v[i].below);
			} else
				s->v[s->n++] = b->v[i];
		}
	}
	free(b->v);
	*b = (struct fields_builder){.arena = b->arena};
	return s;
}

/* ---- finding ---- */

const struct fields_node *fields_find(const struct fields *s, enum element type, const char *text) {
	const struct fields_node key = {.type = type, .text = text};
	return s && text ? bsearch(&key, s->v, s->n, sizeof(s->v[0]), sort_cmp) : NULL;
}

bool fields_equal(const struct fields *a, const struct fields *b) {
	if (a == b)
		return true;
	if (!a || !b || a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].member != b->v[i].member || fields_node_cmp(&a->v[i], &b->v[i]) != 0 ||
		    !fields_equal(a->v[i].below, b->v[i].below))
			return false;
	return true;
}

/* ---- operations ---- */

static size_t fields_count(const struct fields *s) {
	return s ? s->n : 0;
}

static const struct fields *fields_merge(struct arena *m, const struct fields *a, const struct fields *b,
                                         void (*both)(struct arena *m, struct fields_builder *out,
                                                      const struct fields_node *x, const struct fields_node *y),
                                         bool keep_a, bool keep_b) {
	struct fields_builder out = {.arena = m};
	for (size_t i = 0, j = 0; i < fields_count(a) || j < fields_count(b);) {
		int c = i == fields_count(a) ? 1 : j == fields_count(b) ? -1 : fields_node_cmp(&a->v[i], &b->v[j]);
		const struct fields_node *x = c <= 0 ? &a->v[i++] : NULL, *y = c >= 0 ? &b->v[j++] : NULL;
		if (c == 0)
			both(m, &out, x, y);
		else if (c < 0 && keep_a)
			fields_add(&out, x->type, x->text, x->member, x->below);
		else if (c > 0 && keep_b)
			fields_add(&out, y->type, y->text, y->member, y->below);
	}
	return fields_build(&out);
}

static void fields_unite(struct arena *m, struct fields_builder *out, const struct fields_node *x,
                         const struct fields_node *y) {
	fields_add(out, x->type, x->text, x->member || y->member, fields_union(m, x->below, y->below));
}

const struct fields *fields_union(struct arena *m, const struct fields *a, const struct fields *b) {
	if (!a || a == b)
		return b;
	return b ? fields_merge(m, a, b, fields_unite, true, true) : a;
}

static void intersect(struct arena *m, struct fields_builder *out, const struct fields_node *x,
                      const struct fields_node *y) {
	fields_add(out, x->type, x->text, x->member && y->member, fields_intersection(m, x->below, y->below));
}

const struct fields *fields_intersection(struct arena *m, const struct fields *a, const struct fields *b) {
	return a && b ? fields_merge(m, a, b, intersect, false, false) : NULL;
}

static void subtract(struct arena *m, struct fields_builder *out, const struct fields_node *x,
                     const struct fields_node *y) {
	fields_add(out, x->type, x->text, x->member && !y->member, fields_difference(m, x->below, y->below));
}

const struct fields *fields_difference(struct arena *m, const struct fields *a, const struct fields *b) {
	return a && b ? fields_merge(m, a, b, subtract, true, false) : a;
}

static void cut(struct arena *m, struct fields_builder *out, const struct fields_node *x, const struct fields_node *y) {
	if (!y->member)
		fields_add(out, x->type, x->text, x->member, fields_without(m, x->below, y->below));
}

const struct fields *fields_without(struct arena *m, const struct fields *a, const struct fields *b) {
	return a && b ? fields_merge(m, a, b, cut, true, false) : a;
}

const struct fields *fields_copy(struct arena *m, const struct fields *s) {
	struct fields_builder b = {.arena = m};
	for (size_t i = 0; i < fields_count(s); i++)
		fields_add(&b, s->v[i].type, arena_strndup(m, s->v[i].text, strlen(s->v[i].text)), s->v[i].member,
		           fields_copy(m, s->v[i].below));
	return fields_build(&b);
}

/* ---- FieldsV1 ---- */

/* Each JSON value has one canonical text, so that texts can be compared. */
static const char *canonical(struct arena *m, const char *text) {
	json_t *v = tree_load(text, strlen(text));
	_free_ char *s = v ? json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) : NULL;
	json_decref(v);
	return s ? arena_strndup(m, s, strlen(s)) : NULL;
}

static int fields_parse_node(struct arena *m, const json_t *json, unsigned depth, bool *self,
                             const struct fields **ret) {
	struct fields_builder b = {.arena = m};
	const char *key;
	json_t *value;
	int r = json_is_object(json) && depth < FIELDS_DEPTH_MAX ? 0 : -EINVAL;
	*self = false;
	json_object_foreach((json_t *)json, key, value) {
		const struct fields *below;
		const char *text = key + 2;
		bool member;
		if (r < 0)
			break;
		if (streq(key, ".")) {
			*self = true;
			continue;
		}
		if (!key[0] || key[1] != ':') {
			r = -EINVAL;
			break;
		}
		if (!strchr("fkvi", key[0]))
			continue;
		if (key[0] == 'k' || key[0] == 'v')
			text = canonical(m, text);
		if (!text || (key[0] == 'k' && *text != '{') ||
		    (key[0] == 'i' && parse_i64(text, 0, INT32_MAX, &(int64_t){0}, NULL) < 0))
			r = -EINVAL;
		else
			r = fields_parse_node(m, value, depth + 1, &member, &below);
		if (r == 0)
			fields_add(&b, (enum element)key[0], text, member || !below, below);
	}
	const struct fields *s = fields_build(&b);
	if (m->failed)
		return -ENOMEM;
	if (r == 0)
		*ret = s;
	return r;
}

int fields_parse(struct arena *m, const json_t *json, const struct fields **ret) {
	bool self;
	return fields_parse_node(m, json, 0, &self, ret);
}

static json_t *print(const struct fields *s, bool self) {
	json_t *out = json_object();
	_buf_free_ struct buf key = {0};
	int r = out ? 0 : -1;
	if (self)
		r |= json_object_set_new(out, ".", json_object());
	for (size_t i = 0; r == 0 && i < fields_count(s); i++) {
		const struct fields_node *n = &s->v[i];
		buf_reset(&key);
		buf_putc(&key, (char)n->type);
		buf_putc(&key, ':');
		buf_puts(&key, n->text);
		json_t *below = n->below ? print(n->below, n->member) : json_object();
		r = key.failed || !below ? -1 : json_object_set_new(out, key.data, below);
	}
	if (r == 0)
		return out;
	json_decref(out);
	return NULL;
}

json_t *fields_print(const struct fields *s) {
	return print(s, false);
}

/* ---- as text ---- */

static void path_add(struct buf *path, const struct fields_node *n) {
	if (n->type == ELEMENT_FIELD)
		buf_printf(path, ".%s", n->text);
	else if (n->type == ELEMENT_INDEX)
		buf_printf(path, "[%s]", n->text);
	else if (n->type == ELEMENT_VALUE)
		buf_printf(path, "[=%s]", n->text);
	else {
		json_t *keys = tree_load(n->text, strlen(n->text)), *value;
		const char *key, *sep = "[";
		json_object_foreach(keys, key, value) {
			_free_ char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
			buf_printf(path, "%s%s=%s", sep, key, text ? text : "");
			sep = ",";
		}
		buf_puts(path, *sep == '[' ? "[]" : "]");
		json_decref(keys);
	}
}

static void each_below(const struct fields *s, struct buf *path, void (*each)(void *userdata, const char *path),
                       void *userdata) {
	size_t len = path->len;
	/* At each level the members come before the members below them. */
	for (int deep = 0; deep < 2; deep++)
		for (size_t i = 0; i < fields_count(s); i++) {
			if (deep ? !s->v[i].below : !s->v[i].member)
				continue;
			path_add(path, &s->v[i]);
			if (deep)
				each_below(s->v[i].below, path, each, userdata);
			else if (path->data)
				each(userdata, path->data);
			path->failed = false;
			path->len = len;
			if (path->data)
				path->data[len] = '\0';
		}
}

void fields_each(const struct fields *s, void (*each)(void *userdata, const char *path), void *userdata) {
	_buf_free_ struct buf path = {.max = 4096};
	each_below(s, &path, each, userdata);
}
