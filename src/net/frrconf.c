/* SPDX-License-Identifier: Apache-2.0 */
#include "net/frrconf-internal.h"

#include <stdarg.h>
#include <string.h>

#include "base/util.h"

int frrconf_line_cmp(const struct frrconf_line *a, const struct frrconf_line *b) {
	return strcmp(a->text, b->text);
}
RB_GENERATE(frrconf_tree, frrconf_line, node, frrconf_line_cmp)

static struct frrconf_line *frrconf_line_new(struct frrconf_line *parent, const char *text, size_t len) {
	struct frrconf_line *l = calloc(1, sizeof(*l) + len + 1);
	if (!l)
		return NULL;
	l->text = memcpy(l + 1, text, len);
	l->parent = parent;
	TAILQ_INIT(&l->lines);
	RB_INIT(&l->tree);
	return l;
}

static void frrconf_line_free(struct frrconf_line *l) {
	struct frrconf_line *child, *next;
	if (!l)
		return;
	TAILQ_FOREACH_SAFE (child, &l->lines, link, next)
		frrconf_line_free(child);
	free(l);
}

int frrconf_new(struct frrconf **ret, enum frrconf_profile profile, struct error *err) {
	_frrconf_free_ struct frrconf *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	for (int d = 0; d < FRRCONF_DAEMONS; d++) {
		if (!(c->root[d] = frrconf_line_new(NULL, "", 0)))
			return error_oom(err);
		if (profile == FRRCONF_DATACENTER)
			frrconf_add(c, c->root[d], NULL, "frr defaults datacenter");
	}
	/*
	 * With nexthop objects zebra 8.4 forgets a member of a group that went down and came up again: the route keeps
	 * one path, and is lost when that path is lost.
	 */
	if (profile != FRRCONF_EMPTY)
		frrconf_add(c, c->root[FRRCONF_ZEBRA], NULL, "no zebra nexthop kernel enable");
	int r = frrconf_error(c, err);
	if (r >= 0)
		*ret = TAKE_PTR(c);
	return r;
}

struct frrconf *frrconf_free(struct frrconf *c) {
	if (!c)
		return NULL;
	for (int d = 0; d < FRRCONF_DAEMONS; d++)
		frrconf_line_free(c->root[d]);
	free(c);
	return NULL;
}

int frrconf_error(const struct frrconf *c, struct error *err) {
	return c->err.code ? error_set(err, c->err.code, "%s", c->err.msg) : 0;
}

void frrconf_fail(struct frrconf *c, int code, const char *fmt, ...) {
	va_list ap;
	if (c->err.code)
		return;
	c->err.code = code;
	va_start(ap, fmt);
	vsnprintf(c->err.msg, sizeof(c->err.msg), fmt, ap);
	va_end(ap);
	(void)error_prefix(&c->err, "FRR configuration");
}

/* Adds the LEN bytes of TEXT as a line; TEXT need not end there. */
static struct frrconf_line *frrconf_add_text(struct frrconf *c, struct frrconf_line *parent,
                                             struct frrconf_line *before, const char *text, size_t len) {
	if (c->err.code)
		return NULL;
	/* One line is one command, even if a caller did not check a value. */
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)text[i] < ' ' || text[i] == 0x7f) {
			frrconf_fail(c, EINVAL, "a line has a control character");
			return NULL;
		}
	if (c->n == FRRCONF_LINES_MAX) {
		frrconf_fail(c, E2BIG, "more than %d lines", FRRCONF_LINES_MAX);
		return NULL;
	}
	struct frrconf_line *l = frrconf_line_new(parent, text, len);
	if (!l) {
		frrconf_fail(c, ENOMEM, "out of memory");
		return NULL;
	}
	struct frrconf_line *same = RB_INSERT(frrconf_tree, &parent->tree, l);
	if (same) {
		frrconf_line_free(l);
		return same;
	}
	if (before)
		TAILQ_INSERT_BEFORE(before, l, link);
	else
		TAILQ_INSERT_TAIL(&parent->lines, l, link);
	c->n++;
	return l;
}

struct frrconf_line *frrconf_add(struct frrconf *c, struct frrconf_line *parent, struct frrconf_line *before,
                                 const char *fmt, ...) {
	_free_ char *text = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		frrconf_fail(c, ENOMEM, "out of memory");
		return NULL;
	}
	return frrconf_add_text(c, parent, before, text, (size_t)n);
}

const struct frrconf_line *frrconf_find(const struct frrconf_line *parent, const char *text) {
	struct frrconf_line key = {.text = text};
	return RB_FIND(frrconf_tree, (struct frrconf_tree *)&parent->tree, &key);
}

const struct frrconf_line *frrconf_find_prefix(const struct frrconf_line *parent, const char *prefix) {
	struct frrconf_line key = {.text = prefix};
	const struct frrconf_line *l = RB_NFIND(frrconf_tree, (struct frrconf_tree *)&parent->tree, &key);
	return l && starts_with(l->text, prefix) ? l : NULL;
}

bool frrconf_neighbor_prefix(const struct frrconf_line *l, char out[static FRRCONF_NEIGHBOR_SIZE]) {
	const size_t before = strlen(FRRCONF_NEIGHBOR);
	if (!starts_with(l->text, FRRCONF_NEIGHBOR))
		return false;
	size_t n = before + strcspn(l->text + before, " ") + 1;
	if (n > strlen(l->text) || n >= FRRCONF_NEIGHBOR_SIZE)
		return false;
	memcpy(out, l->text, n);
	out[n] = 0;
	return true;
}

const struct frrconf_line *frrconf_find_neighbor(const struct frrconf_line *bgp, const char *prefix) {
	const struct frrconf_line *found = NULL;
	size_t n = strlen(prefix);
	for (const struct frrconf_line *l = frrconf_find_prefix(bgp, prefix); l && starts_with(l->text, prefix);
	     l = RB_NEXT(frrconf_tree, NULL, (struct frrconf_line *)l)) {
		/* A group or an unnumbered neighbor has its AS number in another line. */
		if (streq(l->text + n, "peer-group") || starts_with(l->text + n, "interface "))
			return l;
		if (starts_with(l->text + n, "remote-as "))
			found = l;
	}
	return found;
}

static void frrconf_print_lines(const struct frrconf_line *parent, unsigned depth, struct buf *out) {
	const struct frrconf_line *l;
	TAILQ_FOREACH (l, &parent->lines, link) {
		for (unsigned i = 0; i < depth; i++)
			buf_putc(out, ' ');
		buf_puts(out, l->text);
		buf_putc(out, '\n');
		frrconf_print_lines(l, depth + 1, out);
	}
}

void frrconf_print(const struct frrconf *c, enum frrconf_daemon daemon, struct buf *out) {
	buf_puts(out, ""); /* a model without lines gives an empty text */
	frrconf_print_lines(c->root[daemon], 0, out);
}

int frrconf_parse(struct frrconf *c, enum frrconf_daemon daemon, const char *text, struct error *err) {
	struct frrconf_line *context[FRRCONF_DEPTH_MAX + 1] = {c->root[daemon]};
	size_t number = 0;
	for (const char *p = text; *p && !c->err.code;) {
		size_t all = strcspn(p, "\n"), indent = MIN(strspn(p, " "), all), len = all - indent;
		const char *line = p + indent;
		p += all + (p[all] == '\n');
		number++;
		while (len && line[len - 1] == ' ')
			len--;
		if (!len || line[0] == '!' || line[0] == '#')
			continue;
		/* Messages name the number of the line, because the line itself may hold a password. */
		if (indent >= FRRCONF_DEPTH_MAX) {
			frrconf_fail(c, EINVAL, "line %zu is nested too deeply", number);
		} else if (!context[indent]) {
			frrconf_fail(c, EINVAL, "line %zu has no context", number);
		} else {
			context[indent + 1] = frrconf_add_text(c, context[indent], NULL, line, len);
			if (c->err.code)
				(void)error_prefix(&c->err, "line %zu", number);
			for (size_t i = indent + 2; i <= FRRCONF_DEPTH_MAX; i++)
				context[i] = NULL;
		}
	}
	return frrconf_error(c, err);
}
