/* SPDX-License-Identifier: Apache-2.0 */

/* The picture as SVG: boxes within boxes. Boxes are collected with their sizes, inner ones first, and then placed. */

#include <string.h>

#include "hw/draw.h"

#define LEAF_WIDTH  176
#define LEAF_CHARS  25
#define LEAF_HEIGHT 80
#define GAP         8
#define TITLE       22
#define WIDTH_MAX   1240 /* boxes side by side wrap here */
#define LINES       5
#define LINK_LINE   3

enum style {
	STYLE_GPU,
	STYLE_NIC,
	STYLE_NVME,
	STYLE_NVSWITCH,
	STYLE_SWITCH,
	STYLE_ROOT,
	STYLE_NODE,
	STYLE_SOCKET,
	STYLE_HOST
};

struct box {
	enum style style;
	bool is_slow; /* its link runs below what it could */
	char lines[LINES][200];
	int x, y, width, height; /* x and y within the box around it */
	int first, next;         /* children; -1 ends */
};

struct picture {
	const struct hw_host *h;
	struct box *boxes;
	int n, cap;
	struct buf *out;
};

/* The index of a new box, -1 without memory. */
static int svg_box_add(struct picture *p, enum style style) {
	if (p->n == p->cap) {
		int cap = p->cap ? p->cap * 2 : 64;
		struct box *v = reallocarray(p->boxes, (size_t)cap, sizeof(*v));
		if (!v)
			return -1;
		p->boxes = v;
		p->cap = cap;
	}
	p->boxes[p->n] = (struct box){.style = style, .first = -1, .next = -1};
	return p->n++;
}

/* Appends CHILD to the children of BOX. False if CHILD is -1. */
static bool svg_box_hold(struct picture *p, int box, int child) {
	if (child < 0)
		return false;
	int *at = &p->boxes[box].first;
	while (*at >= 0)
		at = &p->boxes[*at].next;
	*at = child;
	return true;
}

/* Places the children in rows, and makes the box as large as they and its title need. */
static void svg_box_fit(struct picture *p, int box, int width_max) {
	struct box *b = &p->boxes[box];
	int x = GAP, y = TITLE, row = 0, longest = 0;
	b->width = LEAF_WIDTH + 2 * GAP;
	for (int i = b->first; i >= 0; i = p->boxes[i].next) {
		struct box *c = &p->boxes[i];
		if (x > GAP && x + c->width + GAP > width_max) {
			x = GAP;
			y += row + GAP;
			row = 0;
		}
		c->x = x;
		c->y = y;
		x += c->width + GAP;
		row = MAX(row, c->height);
		b->width = MAX(b->width, x);
	}
	longest = (int)strlen(b->lines[0]) * 7 + 2 * GAP;
	longest = MIN(longest, width_max);
	b->width = MAX(b->width, longest);
	b->height = y + row + GAP;
}

static int svg_device_box(struct picture *p, const struct hw_device *d) {
	int i = svg_box_add(p, (enum style)d->kind);
	if (i < 0)
		return i;
	struct box *b = &p->boxes[i];
	snprintf(b->lines[0], sizeof(b->lines[0]), "%s %s", hw_text_kind(d->kind), d->address);
	hw_text_device_model(d, b->lines[1], LEAF_CHARS + 1);
	hw_text_device(d, b->lines[2], LEAF_CHARS + 1);
	b->is_slow = hw_text_device_link(p->h, d, b->lines[LINK_LINE], LEAF_CHARS + 1);
	hw_text_device_notes(p->h, d, b->lines[LINK_LINE + 1], LEAF_CHARS + 1);
	b->width = LEAF_WIDTH;
	b->height = LEAF_HEIGHT;
	return i;
}

static int svg_children_boxes(struct picture *p, int box, int64_t root, int64_t sw);

static int svg_switch_box(struct picture *p, size_t index) {
	const struct hw_switch *s = &p->h->switches[index];
	char link[48], model[HW_MODEL_MAX + 1], text[40];
	int i = svg_box_add(p, STYLE_SWITCH);
	if (i < 0)
		return i;
	hw_text_switch(s, text, sizeof(text));
	hw_text_switch_model(s, model, sizeof(model));
	p->boxes[i].is_slow = hw_text_switch_link(s, link, sizeof(link));
	snprintf(p->boxes[i].lines[0], sizeof(p->boxes[i].lines[0]), "switch %s %s %s%s%s", s->address, model, link,
	         text[0] ? ", " : "", text);
	return svg_children_boxes(p, i, s->root, (int64_t)index) < 0 ? -1 : i;
}

static int svg_children_boxes(struct picture *p, int box, int64_t root, int64_t sw) {
	struct hw_child *v = calloc(HW_SWITCHES_MAX + HW_DEVICES_MAX, sizeof(*v));
	if (!v)
		return -1;
	size_t n = hw_children(p->h, root, sw, v);
	bool held = true;
	for (size_t i = 0; held && i < n; i++)
		held = svg_box_hold(p, box,
		                    v[i].is_switch ? svg_switch_box(p, v[i].index)
		                                   : svg_device_box(p, &p->h->devices[v[i].index]));
	free(v);
	svg_box_fit(p, box, WIDTH_MAX - 60);
	return held ? 0 : -1;
}

static bool svg_root_boxes(struct picture *p, int box, int64_t node) {
	for (size_t k = 0; k < p->h->n_roots; k++) {
		const struct hw_root *root = &p->h->roots[k];
		if (root->node != node)
			continue;
		int i = svg_box_add(p, STYLE_ROOT);
		if (i < 0)
			return false;
		snprintf(p->boxes[i].lines[0], sizeof(p->boxes[i].lines[0]), "root complex %s", root->address);
		if (svg_children_boxes(p, i, (int64_t)k, -1) < 0 || !svg_box_hold(p, box, i))
			return false;
	}
	svg_box_fit(p, box, WIDTH_MAX - 40);
	return true;
}

static bool svg_node_boxes(struct picture *p, int box, int64_t socket) {
	for (size_t k = 0; k < p->h->n_nodes; k++) {
		const struct hw_node *n = &p->h->nodes[k];
		char text[100];
		if (n->socket != socket || hw_text_node_is_empty(p->h, n))
			continue;
		int i = svg_box_add(p, STYLE_NODE);
		if (i < 0)
			return false;
		hw_text_node(n, text, sizeof(text));
		snprintf(p->boxes[i].lines[0], sizeof(p->boxes[i].lines[0]), "node %lld: %s", (long long)n->id, text);
		if (!svg_root_boxes(p, i, n->id) || !svg_box_hold(p, box, i))
			return false;
	}
	char empty[40];
	if (!hw_text_empty_nodes(p->h, socket, empty, sizeof(empty)))
		return true;
	int i = svg_box_add(p, STYLE_NODE);
	if (i < 0)
		return false;
	snprintf(p->boxes[i].lines[0], sizeof(p->boxes[i].lines[0]), "%s: no CPUs, no memory", empty);
	svg_box_fit(p, i, WIDTH_MAX - 40);
	return svg_box_hold(p, box, i);
}

static int svg_host_box(struct picture *p) {
	int host = svg_box_add(p, STYLE_HOST);
	if (host < 0)
		return host;
	char text[120], extra[70];
	hw_text_host(p->h, text, sizeof(text));
	bool has_extra = hw_text_extra_nodes(p->h, extra, sizeof(extra));
	snprintf(p->boxes[host].lines[0], sizeof(p->boxes[host].lines[0]), "%s%s%s", text, has_extra ? ", " : "",
	         has_extra ? extra : "");
	for (size_t k = 0; k < p->h->n_sockets; k++) {
		int i = svg_box_add(p, STYLE_SOCKET);
		if (i < 0)
			return i;
		snprintf(p->boxes[i].lines[0], sizeof(p->boxes[i].lines[0]), "socket %lld",
		         (long long)p->h->sockets[k].id);
		if (!svg_node_boxes(p, i, p->h->sockets[k].id) || !svg_box_hold(p, host, i))
			return -1;
		svg_box_fit(p, i, WIDTH_MAX - 20);
	}
	if (!svg_node_boxes(p, host, -1))
		return -1;
	for (size_t k = 0; k < p->h->n_roots; k++)
		if (p->h->roots[k].node < 0) {
			int i = svg_box_add(p, STYLE_NODE);
			if (i < 0)
				return i;
			snprintf(p->boxes[i].lines[0], sizeof(p->boxes[i].lines[0]), "NUMA node unknown");
			if (!svg_root_boxes(p, i, -1) || !svg_box_hold(p, host, i))
				return -1;
			break;
		}
	svg_box_fit(p, host, WIDTH_MAX);
	return host;
}

static void svg_put_text(struct buf *out, const char *s) {
	for (; *s; s++)
		switch (*s) {
		case '<': buf_puts(out, "&lt;"); break;
		case '>': buf_puts(out, "&gt;"); break;
		case '&': buf_puts(out, "&amp;"); break;
		default: buf_putc(out, *s);
		}
}

static void svg_put_box(struct picture *p, int index, int x, int y) {
	static const char *const fills[] = {"#d5ecd4", "#d3e3f8", "#f8ecd0", "#e8dcf5", "#eeeeee",
	                                    "#ffffff", "#f6f6f6", "#ffffff", "#ffffff"};
	const struct box *b = &p->boxes[index];
	x += b->x;
	y += b->y;
	buf_printf(p->out,
	           "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"4\" fill=\"%s\" stroke=\"#777777\"/>\n", x,
	           y, b->width, b->height, fills[b->style]);
	for (int i = 0; i < LINES; i++) {
		if (!b->lines[i][0])
			continue;
		bool is_title = i == 0;
		bool is_red = b->is_slow && (b->style == STYLE_SWITCH || i == LINK_LINE);
		buf_printf(p->out, "<text x=\"%d\" y=\"%d\"%s%s>", x + GAP, y + 15 + i * 14,
		           is_title ? " font-weight=\"bold\"" : "", is_red ? " fill=\"#b00000\"" : "");
		svg_put_text(p->out, b->lines[i]);
		buf_puts(p->out, "</text>\n");
	}
	for (int i = b->first; i >= 0; i = p->boxes[i].next)
		svg_put_box(p, i, x, y);
}

int hw_draw_svg(const struct hw_host *h, struct buf *out, struct error *err) {
	struct picture p = {.h = h, .out = out};
	int host = svg_host_box(&p);
	if (host >= 0) {
		const struct box *b = &p.boxes[host];
		buf_printf(out,
		           "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
		           "font-family=\"monospace\" font-size=\"11\">\n",
		           b->width, b->height, b->width, b->height);
		svg_put_box(&p, host, 0, 0);
		buf_puts(out, "</svg>\n");
	}
	free(p.boxes);
	return host < 0 ? error_oom(err) : buf_error(out, "the picture", err);
}
