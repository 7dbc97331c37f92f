/* SPDX-License-Identifier: Apache-2.0 */

/* The tree for the terminal. Rows are collected first, since columns are as wide as their widest cell. */

#include "hw/draw.h"

#include <string.h>

#define LEVELS        14 /* deeper ones are drawn at this level, so that lines keep their room */
#define CELLS         3  /* model, names, link */
#define CELL_SIZE     64
#define MODEL_MAX     32 /* columns of a model */
#define LINK_MAX      24 /* columns of a link with what is unusual */
#define DISTANCES_MAX 16

struct row {
	unsigned level;
	bool is_last[LEVELS + 1]; /* at each level: nothing follows at that level */
	bool is_more;             /* about the row before */
	char label[40];
	char cells[CELLS][CELL_SIZE];
	char rest[120]; /* instead of cells */
};

struct drawing {
	const struct hw_host *h;
	struct row *rows;
	size_t n, cap;
	bool is_last[LEVELS + 1];
	bool failed;
};

/* A new row below the one at LEVEL - 1. The pointer is valid until the next call; NULL without memory. */
static struct row *draw_row_add(struct drawing *d, unsigned level, bool is_last) {
	level = MIN(level, (unsigned)LEVELS);
	d->is_last[level] = is_last;
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 64;
		struct row *rows = reallocarray(d->rows, cap, sizeof(*rows));
		if (!rows) {
			d->failed = true;
			return NULL;
		}
		d->rows = rows;
		d->cap = cap;
	}
	struct row *r = &d->rows[d->n++];
	memset(r, 0, sizeof(*r));
	r->level = level;
	memcpy(r->is_last, d->is_last, sizeof(r->is_last));
	return r;
}

static void draw_device(struct drawing *d, const struct hw_device *dev, unsigned level, bool is_last) {
	struct row *r = draw_row_add(d, level, is_last);
	char notes[CELL_SIZE];
	if (!r)
		return;
	snprintf(r->label, sizeof(r->label), "%-4s %s", hw_text_kind(dev->kind), dev->address);
	hw_text_device_model(dev, r->cells[0], CELL_SIZE);
	hw_text_device(dev, r->cells[1], CELL_SIZE);
	hw_text_device_link(d->h, dev, r->cells[2], CELL_SIZE);
	hw_text_device_notes(d->h, dev, notes, sizeof(notes));
	size_t used = strlen(r->cells[2]);
	if (!used || used + 2 + strlen(notes) <= LINK_MAX) {
		snprintf(r->cells[2] + used, CELL_SIZE - used, "%s%s", used && notes[0] ? ", " : "", notes);
		return;
	}
	r = draw_row_add(d, level, is_last); /* one long cell would take room from all rows */
	if (!r)
		return;
	r->is_more = true;
	snprintf(r->rest, sizeof(r->rest), "%s", notes);
}

static void draw_children(struct drawing *d, int64_t root, int64_t sw, unsigned level) {
	struct hw_child *v = calloc(HW_SWITCHES_MAX + HW_DEVICES_MAX, sizeof(*v));
	if (!v) {
		d->failed = true;
		return;
	}
	size_t n = hw_children(d->h, root, sw, v);
	for (size_t i = 0; i < n; i++) {
		if (!v[i].is_switch) {
			draw_device(d, &d->h->devices[v[i].index], level, i + 1 == n);
			continue;
		}
		const struct hw_switch *s = &d->h->switches[v[i].index];
		struct row *r = draw_row_add(d, level, i + 1 == n);
		if (!r)
			break;
		snprintf(r->label, sizeof(r->label), "switch %s", s->address);
		hw_text_switch_model(s, r->cells[0], CELL_SIZE);
		hw_text_switch(s, r->cells[1], CELL_SIZE);
		hw_text_switch_link(s, r->cells[2], CELL_SIZE);
		draw_children(d, root, (int64_t)v[i].index, level + 1);
	}
	free(v);
}

static bool draw_is_at(const struct hw_root *r, int64_t node) {
	return r->node == node;
}

static void draw_roots(struct drawing *d, int64_t node, unsigned level) {
	size_t left = 0;
	for (size_t i = 0; i < d->h->n_roots; i++)
		left += draw_is_at(&d->h->roots[i], node);
	for (size_t i = 0; i < d->h->n_roots; i++) {
		const struct hw_root *root = &d->h->roots[i];
		if (!draw_is_at(root, node))
			continue;
		struct row *r = draw_row_add(d, level, --left == 0);
		if (!r)
			return;
		snprintf(r->label, sizeof(r->label), root->address[0] ? "root complex %s" : "root complex%s",
		         root->address);
		draw_children(d, (int64_t)i, -1, level + 1);
	}
}

static void draw_nodes(struct drawing *d, int64_t socket, unsigned level) {
	char empty[40];
	bool has_empty = hw_text_empty_nodes(d->h, socket, empty, sizeof(empty));
	size_t left = has_empty;
	for (size_t i = 0; i < d->h->n_nodes; i++)
		left += d->h->nodes[i].socket == socket && !hw_text_node_is_empty(d->h, &d->h->nodes[i]);
	for (size_t i = 0; i < d->h->n_nodes; i++) {
		const struct hw_node *n = &d->h->nodes[i];
		if (n->socket != socket || hw_text_node_is_empty(d->h, n))
			continue;
		struct row *r = draw_row_add(d, level, --left == 0);
		if (!r)
			return;
		snprintf(r->label, sizeof(r->label), "node %lld", (long long)n->id);
		hw_text_node(n, r->rest, sizeof(r->rest));
		draw_roots(d, n->id, level + 1);
	}
	struct row *r = has_empty ? draw_row_add(d, level, true) : NULL;
	if (r) {
		snprintf(r->label, sizeof(r->label), "%s", empty);
		snprintf(r->rest, sizeof(r->rest), "no CPUs, no memory");
	}
}

static void draw_host(struct drawing *d) {
	const struct hw_host *h = d->h;
	for (size_t i = 0; i < h->n_sockets; i++) {
		struct row *r = draw_row_add(d, 0, true);
		if (r)
			snprintf(r->label, sizeof(r->label), "socket %lld", (long long)h->sockets[i].id);
		draw_nodes(d, h->sockets[i].id, 1);
	}
	draw_nodes(d, -1, 0);
	for (size_t i = 0; i < h->n_roots; i++)
		if (h->roots[i].node < 0) {
			struct row *r = draw_row_add(d, 0, true);
			if (r)
				snprintf(r->label, sizeof(r->label), "NUMA node unknown");
			draw_roots(d, -1, 1);
			return;
		}
}

/* TEXT in WIDTH columns: cut, or filled up with spaces. */
static void draw_put_cell(struct buf *out, const char *text, size_t width) {
	size_t n = strlen(text);
	if (n > width && width > 3)
		buf_printf(out, "%.*s...", (int)width - 3, text);
	else
		buf_printf(out, "%-*.*s", (int)width, (int)width, text);
}

static void draw_put_row(const struct row *r, const size_t *widths, bool utf8, struct buf *out) {
	size_t start = out->len, left = HW_DRAW_COLUMNS, used = (size_t)r->level * 3;
	for (unsigned i = 1; i <= r->level; i++)
		if (i < r->level || r->is_more)
			buf_puts(out, r->is_last[i] ? "   " : utf8 ? "│  " : "|  ");
		else
			buf_puts(out, r->is_last[i] ? (utf8 ? "└─ " : "`- ") : utf8 ? "├─ " : "|- ");
	if (r->is_more) {
		buf_puts(out, "     ");
		draw_put_cell(out, r->rest, MIN(strlen(r->rest), left - used - 5));
	} else if (r->rest[0]) {
		buf_printf(out, "%s  ", r->label);
		draw_put_cell(out, r->rest, MIN(strlen(r->rest), left - used - strlen(r->label) - 2));
	} else if (r->cells[0][0] || r->cells[1][0] || r->cells[2][0]) {
		draw_put_cell(out, r->label, MAX(widths[0], used) - used);
		for (size_t i = 0; i < CELLS; i++) {
			buf_puts(out, widths[i + 1] ? "  " : "");
			draw_put_cell(out, r->cells[i], widths[i + 1]);
		}
	} else {
		buf_puts(out, r->label);
	}
	while (out->len > start && out->data && out->data[out->len - 1] == ' ')
		out->data[--out->len] = 0;
	buf_putc(out, '\n');
}

/* Widths of the label with its tree, and of the cells. If all is too wide, models and names give way, then the rest. */
static void draw_measure(const struct drawing *d, size_t widths[static CELLS + 1]) {
	size_t total = 0;
	memset(widths, 0, (CELLS + 1) * sizeof(*widths));
	for (size_t i = 0; i < d->n; i++) {
		const struct row *r = &d->rows[i];
		if (!r->cells[0][0] && !r->cells[1][0] && !r->cells[2][0])
			continue;
		widths[0] = MAX(widths[0], (size_t)r->level * 3 + strlen(r->label));
		for (size_t k = 0; k < CELLS; k++)
			widths[k + 1] = MAX(widths[k + 1], strlen(r->cells[k]));
	}
	widths[1] = MIN(widths[1], (size_t)MODEL_MAX);
	for (size_t k = 0; k <= CELLS; k++)
		total += widths[k] ? widths[k] + 2 : 0;
	static const size_t gives_way[] = {1, 2, 1, 2, 0, 3}, least[] = {15, 16, 8, 6, 40, 38};
	for (size_t k = 0; k < ARRAY_SIZE(gives_way) && total > HW_DRAW_COLUMNS + 2; k++) {
		size_t *w = &widths[gives_way[k]];
		size_t cut = *w > least[k] ? MIN(*w - least[k], total - HW_DRAW_COLUMNS - 2) : 0;
		*w -= cut;
		total -= cut;
	}
}

/* Of more nodes than fit into a line, those with CPUs. */
static void draw_put_distances(const struct hw_host *h, struct buf *out) {
	const struct hw_node *v[DISTANCES_MAX];
	size_t n = 0, left_out = 0;
	for (size_t i = 0; i < h->n_nodes; i++)
		if (n < DISTANCES_MAX && (h->n_nodes <= DISTANCES_MAX || h->nodes[i].cpus[0]))
			v[n++] = &h->nodes[i];
		else
			left_out++;
	if (n < 2 || !v[0]->n_distances)
		return;
	buf_puts(out, "\nNUMA distances");
	if (left_out)
		buf_printf(out, " (those of %zu more nodes: --json)", left_out);
	buf_puts(out, "\n       ");
	for (size_t i = 0; i < n; i++)
		buf_printf(out, " %4lld", (long long)v[i]->id);
	buf_putc(out, '\n');
	for (size_t i = 0; i < n; i++) {
		buf_printf(out, "%7lld", (long long)v[i]->id);
		for (size_t k = 0; k < n; k++)
			buf_printf(out, " %4lld", (long long)hw_distance(h, v[i]->id, v[k]->id));
		buf_putc(out, '\n');
	}
}

int hw_draw(const struct hw_host *h, bool utf8, struct buf *out, struct error *err) {
	struct drawing d = {.h = h};
	size_t widths[CELLS + 1];
	char text[HW_DRAW_COLUMNS + 1];
	draw_host(&d);
	draw_measure(&d, widths);
	hw_text_host(h, text, sizeof(text));
	buf_printf(out, "%s\n", text);
	if (hw_text_extra_nodes(h, text, sizeof(text)))
		buf_printf(out, "%s\n", text);
	for (size_t i = 0; i < d.n; i++)
		draw_put_row(&d.rows[i], widths, utf8, out);
	hw_draw_gpu_links(h, out);
	draw_put_distances(h, out);
	free(d.rows);
	return d.failed ? error_oom(err) : buf_error(out, "the drawing", err);
}
