/* SPDX-License-Identifier: Apache-2.0 */

/* Compares two FRR configurations as trees, by indentation. */

#include <string.h>

#include "base/util.h"
#include "net/frr.h"

#define LINES_MAX 200000
#define DEPTH_MAX 8

struct line {
	const char *text;
	size_t len;
	int parent;    /* index, or -1 */
	bool children; /* opens a context */
	uint64_t path; /* hash over text and all parents */
	bool common;   /* in the other configuration too */
};

struct tree {
	struct line *lines;
	size_t n;
};

static uint64_t hash(uint64_t h, const char *s, size_t len) {
	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)s[i]) * 0x100000001b3ULL;
	return (h ^ 0xff) * 0x100000001b3ULL;
}

static int parse(const char *text, struct tree *t, struct error *err) {
	int open[DEPTH_MAX] = {0};
	size_t size = 0;
	for (const char *p = text; *p;) {
		size_t all = strcspn(p, "\n"), indent = strspn(p, " ");
		struct line l = {.text = p + indent, .len = all - MIN(indent, all), .parent = -1};
		p += all + (p[all] == '\n');
		while (l.len && l.text[l.len - 1] == ' ')
			l.len--;
		if (!l.len || l.text[0] == '!' || l.text[0] == '#')
			continue;
		if (indent >= DEPTH_MAX || t->n == LINES_MAX)
			return error_set(err, EINVAL, "FRR configuration: nested too deeply or too long at `%.*s`",
			                 (int)MIN(l.len, (size_t)80), l.text);
		if (indent) {
			l.parent = open[indent - 1];
			if (!t->n || l.parent < 0)
				return error_set(err, EINVAL, "FRR configuration: no context for `%.*s`",
				                 (int)MIN(l.len, (size_t)80), l.text);
			t->lines[l.parent].children = true;
		}
		l.path = hash(indent ? t->lines[l.parent].path : 0xcbf29ce484222325ULL, l.text, l.len);
		if (t->n == size) {
			size = size ? size * 2 : 64;
			struct line *more = reallocarray(t->lines, size, sizeof(*more));
			if (!more)
				return error_oom(err);
			t->lines = more;
		}
		open[indent] = (int)t->n;
		for (size_t i = indent + 1; i < DEPTH_MAX; i++)
			open[i] = -1;
		t->lines[t->n++] = l;
	}
	return 0;
}

static int by_path(const void *a, const void *b) {
	uint64_t x = (*(struct line *const *)a)->path, y = (*(struct line *const *)b)->path;
	return x < y ? -1 : x > y;
}

static int sorted(const struct tree *t, struct line ***ret, struct error *err) {
	struct line **s = calloc(t->n + 1, sizeof(*s));
	if (!s)
		return error_oom(err);
	for (size_t i = 0; i < t->n; i++)
		s[i] = &t->lines[i];
	qsort(s, t->n, sizeof(*s), by_path);
	*ret = s;
	return 0;
}

static int mark_common(struct tree *a, struct tree *b, struct error *err) {
	_free_ struct line **sa = NULL, **sb = NULL;
	int r = sorted(a, &sa, err);
	if (r >= 0)
		r = sorted(b, &sb, err);
	if (r < 0)
		return r;
	for (size_t i = 0, j = 0; i < a->n && j < b->n;) {
		if (sa[i]->path == sb[j]->path)
			sa[i++]->common = sb[j]->common = true;
		else if (sa[i]->path < sb[j]->path)
			i++;
		else
			j++;
	}
	return 0;
}

/* A context that one leaves instead of taking it back. */
static bool is_address_family(const struct line *l) {
	return l->len >= 14 && memcmp(l->text, "address-family", 14) == 0;
}

/* Says the contexts of a line, from the top; an empty line stands for going back there. */
static void say_contexts(const struct tree *t, int parent, int *context, struct buf *out) {
	int chain[DEPTH_MAX], n = 0;
	if (parent == *context)
		return;
	*context = parent;
	buf_putc(out, '\n');
	for (; parent >= 0 && n < DEPTH_MAX; parent = t->lines[parent].parent)
		chain[n++] = parent;
	while (n--) {
		buf_putc(out, ' ');
		buf_add(out, t->lines[chain[n]].text, t->lines[chain[n]].len);
		buf_putc(out, '\n');
	}
}

static void say_removals(const struct tree *t, struct buf *out) {
	int context = -1;
	/* Backwards: what refers to something comes after it, and has to go before it. */
	for (size_t i = t->n; i-- > 0;) {
		const struct line *l = &t->lines[i];
		bool with_parent = false;
		for (int p = l->parent; p >= 0; p = t->lines[p].parent)
			with_parent |= !t->lines[p].common && !is_address_family(&t->lines[p]);
		if (l->common || with_parent || is_address_family(l))
			continue;
		say_contexts(t, l->parent, &context, out);
		if (l->len > 3 && memcmp(l->text, "no ", 3) == 0) {
			buf_putc(out, '-');
			buf_add(out, l->text + 3, l->len - 3);
		} else {
			buf_puts(out, "-no ");
			buf_add(out, l->text, l->len);
		}
		buf_putc(out, '\n');
	}
}

static void say_additions(const struct tree *t, struct buf *out) {
	int context = -1;
	for (size_t i = 0; i < t->n; i++) {
		const struct line *l = &t->lines[i];
		if (l->common)
			continue;
		say_contexts(t, l->parent, &context, out);
		buf_putc(out, '+');
		buf_add(out, l->text, l->len);
		buf_putc(out, '\n');
		if (l->children)
			context = (int)i;
	}
}

int frr_config_diff(const char *old, const char *new, struct buf *out, struct error *err) {
	struct tree a = {0}, b = {0};
	int r = parse(old, &a, err);
	if (r >= 0)
		r = parse(new, &b, err);
	if (r >= 0)
		r = mark_common(&a, &b, err);
	if (r >= 0) {
		say_removals(&a, out);
		if (out->len)
			buf_putc(out, '\n');
		say_additions(&b, out);
		r = buf_error(out, "FRR configuration", err);
	}
	free(a.lines);
	free(b.lines);
	return r;
}
