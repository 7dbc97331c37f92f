/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/util.h"
#include "net/frrconf-internal.h"

struct frrconf_steps {
	const struct frrconf_line *context; /* the daemon's context after the last step */
	struct buf *out;
};

/* A context that stays when it is empty, and is only left. */
static bool frrconf_is_family(const struct frrconf_line *l) {
	return starts_with(l->text, "address-family");
}

/* The line with the same text in the same contexts of another model, or NULL. */
static const struct frrconf_line *frrconf_same(const struct frrconf_line *l, const struct frrconf_line *other_root) {
	if (!l->parent)
		return other_root;
	const struct frrconf_line *parent = frrconf_same(l->parent, other_root);
	return parent ? frrconf_find(parent, l->text) : NULL;
}

/* The line that creates the neighbor of which L is a setting; NULL if L is not a setting of a neighbor or creates it
 * itself. */
static const struct frrconf_line *frrconf_neighbor_of(const struct frrconf_line *l) {
	char prefix[FRRCONF_NEIGHBOR_SIZE];
	if (!frrconf_neighbor_prefix(l, prefix))
		return NULL;
	const struct frrconf_line *bgp = frrconf_is_family(l->parent) ? l->parent->parent : l->parent;
	const struct frrconf_line *maker = bgp ? frrconf_find_neighbor(bgp, prefix) : NULL;
	return maker == l ? NULL : maker;
}

/* True if the daemon keeps the line: it is in both models, and so is the line that creates its neighbor. */
static bool frrconf_kept(const struct frrconf_line *l, const struct frrconf_line *other_root) {
	const struct frrconf_line *other = frrconf_same(l, other_root);
	if (!other)
		return false;
	const struct frrconf_line *maker = frrconf_neighbor_of(l), *other_maker = frrconf_neighbor_of(other);
	return streq(maker ? maker->text : NULL, other_maker ? other_maker->text : NULL);
}

static void frrconf_say(const char *before, const char *text, struct buf *out) {
	buf_puts(out, before);
	buf_puts(out, text);
	buf_putc(out, '\n');
}

static void frrconf_say_contexts(const struct frrconf_line *l, struct buf *out) {
	if (!l->parent)
		return;
	frrconf_say_contexts(l->parent, out);
	frrconf_say(" ", l->text, out);
}

static void frrconf_enter(struct frrconf_steps *s, const struct frrconf_line *context) {
	if (s->context == context)
		return;
	s->context = context;
	buf_putc(s->out, '\n');
	frrconf_say_contexts(context, s->out);
}

static void frrconf_say_removals(struct frrconf_steps *s, const struct frrconf_line *parent,
                                 const struct frrconf_line *new_root) {
	const struct frrconf_line *l;
	/* Backwards: a line that refers to another one comes after it, and must be removed before it. */
	TAILQ_FOREACH_REVERSE(l, &parent->lines, frrconf_lines, link) {
		if (frrconf_is_family(l) || frrconf_kept(l, new_root)) {
			frrconf_say_removals(s, l, new_root);
			continue;
		}
		/* The neighbor is removed as a whole. If its settings were removed one by one, it would be without its
		 * lists for a moment. */
		const struct frrconf_line *neighbor = frrconf_neighbor_of(l);
		if (neighbor && !frrconf_kept(neighbor, new_root))
			continue;
		frrconf_enter(s, parent);
		if (starts_with(l->text, "no "))
			frrconf_say("-", l->text + 3, s->out);
		else
			frrconf_say("-no ", l->text, s->out);
	}
}

static void frrconf_say_additions(struct frrconf_steps *s, const struct frrconf_line *parent,
                                  const struct frrconf_line *old_root) {
	const struct frrconf_line *l;
	TAILQ_FOREACH (l, &parent->lines, link) {
		if (!frrconf_kept(l, old_root)) {
			frrconf_enter(s, parent);
			frrconf_say("+", l->text, s->out);
			if (!TAILQ_EMPTY(&l->lines))
				s->context = l;
		}
		frrconf_say_additions(s, l, old_root);
	}
}

int frrconf_diff(const struct frrconf *old, const struct frrconf *new, enum frrconf_daemon daemon, struct buf *out,
                 struct error *err) {
	const struct frrconf_line *from = old->root[daemon], *to = new->root[daemon];
	struct frrconf_steps s = {.context = from, .out = out};
	size_t before = out->len;
	frrconf_say_removals(&s, from, to);
	if (out->len > before)
		buf_putc(out, '\n');
	s.context = to;
	frrconf_say_additions(&s, to, from);
	return buf_error(out, "FRR configuration", err);
}

int frrconf_give_routes(const struct frrconf *c, struct buf *out, struct error *err) {
	const struct frrconf_line *root = c->root[FRRCONF_BGPD], *bgp, *family;
	struct frrconf_steps s = {.context = root, .out = out};
	TAILQ_FOREACH (bgp, &root->lines, link)
		TAILQ_FOREACH (family, &bgp->lines, link)
			if (frrconf_is_family(family)) {
				frrconf_enter(&s, family);
				/* We use no table map. FRR has no other command that gives zebra routes that have not
				 * changed, and ends no session. */
				frrconf_say("+", "no table-map none", out);
			}
	return buf_error(out, "FRR configuration", err);
}
