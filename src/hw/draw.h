/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Pictures of a host: a tree for the terminal, an SVG and a table. docs/topology.md says what they mean. */

#include "hw/text.h"

#define HW_DRAW_COLUMNS 100 /* no line is longer */

/* Appends the tree to OUT, which records a failure (base/buf.h). Without UTF8 it is plain ASCII. -ENOMEM without
 * memory. */
int hw_draw(const struct hw_host *h, bool utf8, struct buf *out, struct error *err) _must_use_;
/* The same as an SVG document. */
int hw_draw_svg(const struct hw_host *h, struct buf *out, struct error *err) _must_use_;

/* How close GPUs and NICs are to each other (hw_relation()), as a table. Lines are as long as they have to be. */
int hw_draw_matrix(const struct hw_host *h, struct buf *out, struct error *err) _must_use_;

/* A line for each set of GPUs that NVLink or xGMI connects. */
void hw_draw_gpu_links(const struct hw_host *h, struct buf *out);

/*
 * What both pictures say about things, at most SIZE - 1 bytes of ASCII. "8 GPUs, 8 NICs, ..." of the whole host; CPUs,
 * memory and hugepages of a node; names and ports of a device.
 */
void hw_text_host(const struct hw_host *h, char *out, size_t size);
/* The nodes without CPUs, which hw_text_host() leaves out. False if there are none. */
bool hw_text_extra_nodes(const struct hw_host *h, char *out, size_t size);
void hw_text_node(const struct hw_node *n, char *out, size_t size);
/* "nodes 4-33" of SOCKET, which have nothing. False if there are none. */
bool hw_text_empty_nodes(const struct hw_host *h, int64_t socket, char *out, size_t size);
bool hw_text_node_is_empty(const struct hw_host *h, const struct hw_node *n);
/* The model. Without one: of a GPU its ids, of others the name in pci.ids or else their ids. */
void hw_text_device_model(const struct hw_device *d, char *out, size_t size);
void hw_text_switch_model(const struct hw_switch *s, char *out, size_t size);
/* "2 levels, 1 port empty". */
void hw_text_switch(const struct hw_switch *s, char *out, size_t size);
void hw_text_device(const struct hw_device *d, char *out, size_t size);
/*
 * "gen5 x16"; "gen4 x8 ! of gen5 x16" for a link that runs below its maximum; "gen1 x16 idle? of gen5" for a GPU of
 * which only the speed is lower, and no GPU of its model is faster; "at most gen5 x16" or "63.0 GB/s" where only that
 * is known, with "!" if another device of the model has more. True if there is a "!".
 */
bool hw_text_device_link(const struct hw_host *h, const struct hw_device *d, char *out, size_t size);
bool hw_text_switch_link(const struct hw_switch *s, char *out, size_t size);
/* What is unusual: "node 1" if its root complex is at another node, "card can x16" if its slot has less, "a BAR has no
 * address". Or empty. */
void hw_text_device_notes(const struct hw_host *h, const struct hw_device *d, char *out, size_t size);
const char *hw_text_kind(enum hw_kind kind);

/* The switches and devices right below a root complex (SW -1) or a switch, in the order of their addresses. */
struct hw_child {
	bool is_switch;
	size_t index;
	struct hw_address address;
};
size_t hw_children(const struct hw_host *h, int64_t root, int64_t sw,
                   struct hw_child out[static HW_SWITCHES_MAX + HW_DEVICES_MAX]);
