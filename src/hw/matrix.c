/* SPDX-License-Identifier: Apache-2.0 */

/* The relations between GPUs and NICs as a table, as `nvidia-smi topo -m` has it. */

#include <string.h>

#include "hw/draw.h"

#define MATRIX_COLUMN 6 /* "NIC10 " */

/* "GPU0", "NIC0": devices are counted by kind, in the order of the model. */
static void matrix_put_name(const struct hw_host *h, size_t index, struct buf *out) {
	char name[16];
	size_t n = 0;
	for (size_t i = 0; i < index; i++)
		n += h->devices[i].kind == h->devices[index].kind;
	snprintf(name, sizeof(name), "%s%zu", hw_text_kind(h->devices[index].kind), n);
	buf_printf(out, "%-*s", MATRIX_COLUMN, name);
}

/* Indexes of the GPUs and then of the NICs. */
static size_t matrix_order(const struct hw_host *h, size_t order[static HW_DEVICES_MAX]) {
	static const enum hw_kind kinds[] = {HW_GPU, HW_NIC};
	size_t n = 0;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (size_t i = 0; i < h->n_devices; i++)
			if (h->devices[i].kind == kinds[k])
				order[n++] = i;
	return n;
}

/* Spaces at the end of a line say nothing. */
static void matrix_end_line(struct buf *out) {
	while (out->len && out->data[out->len - 1] == ' ')
		out->data[--out->len] = 0;
	buf_putc(out, '\n');
}

int hw_draw_matrix(const struct hw_host *h, struct buf *out, struct error *err) {
	size_t order[HW_DEVICES_MAX], n = matrix_order(h, order);
	if (!n)
		return error_set(err, EINVAL, "the host has no GPUs and no NICs");
	buf_printf(out, "%*s", MATRIX_COLUMN, "");
	for (size_t i = 0; i < n; i++)
		matrix_put_name(h, order[i], out);
	matrix_end_line(out);
	for (size_t i = 0; i < n; i++) {
		matrix_put_name(h, order[i], out);
		for (size_t k = 0; k < n; k++)
			buf_printf(out, "%-*s", MATRIX_COLUMN, hw_relation_name(hw_relation(h, order[i], order[k])));
		matrix_end_line(out);
	}
	buf_putc(out, '\n');
	for (size_t i = 0; i < n; i++) {
		const struct hw_device *d = &h->devices[order[i]];
		char model[HW_MODEL_MAX + 1], node[32] = "node unknown";
		if (d->node >= 0)
			snprintf(node, sizeof(node), "node %lld", (long long)d->node);
		hw_text_device_model(d, model, sizeof(model));
		matrix_put_name(h, order[i], out);
		buf_printf(out, "%s  %s%s%s%s%s", d->address, node, model[0] ? "  " : "", model, d->name[0] ? "  " : "",
		           d->name);
		matrix_end_line(out);
	}
	buf_puts(out,
	         "\nPIX: one switch or one card. PXB: several switches. PHB: one root complex. NODE: one NUMA node.\n"
	         "SYS: across NUMA nodes, or a node is unknown.\n");
	return buf_error(out, "the matrix", err);
}
