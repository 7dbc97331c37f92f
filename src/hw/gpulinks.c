/* SPDX-License-Identifier: Apache-2.0 */

/* GPUs that have links beside PCIe: which are connected, and what the drawing says about it. */

#include <string.h>

#include "hw/draw.h"

/* The first GPU of the set that I is in. Members refer to earlier members, so this ends. */
static int gpulinks_first(const int *set, int i) {
	while (set[i] != i)
		i = set[i];
	return i;
}

static void gpulinks_join(int *set, int a, int b) {
	a = gpulinks_first(set, a);
	b = gpulinks_first(set, b);
	set[MAX(a, b)] = MIN(a, b);
}

void hw_gpu_sets(const struct hw_host *h, int set[static HW_DEVICES_MAX]) {
	bool has_link[HW_DEVICES_MAX] = {false};
	int at_switches = -1; /* all switches of a host are one network */
	for (int i = 0; i < HW_DEVICES_MAX; i++)
		set[i] = i;
	for (size_t i = 0; i < h->n_gpu_links; i++) {
		const struct hw_gpu_link *l = &h->gpu_links[i];
		int peer = (int)l->peer;
		if (l->kind == HW_C2C)
			continue;
		if (peer < 0)
			peer = at_switches = at_switches < 0 ? (int)l->gpu : at_switches;
		gpulinks_join(set, (int)l->gpu, peer);
		has_link[l->gpu] = has_link[peer] = true;
	}
	for (int i = 0; i < HW_DEVICES_MAX; i++)
		set[i] = has_link[i] ? gpulinks_first(set, i) : -1;
}

/* Whether each GPU of the set FIRST has a link to each other, whichever of the two tells about it. */
static bool gpulinks_is_full(const struct hw_host *h, const int *set, int first) {
	bool linked[HW_DEVICES_MAX][HW_DEVICES_MAX] = {{false}};
	for (size_t i = 0; i < h->n_gpu_links; i++) {
		const struct hw_gpu_link *l = &h->gpu_links[i];
		if (l->kind != HW_C2C && l->peer >= 0)
			linked[l->gpu][l->peer] = linked[l->peer][l->gpu] = true;
	}
	for (size_t i = 0; i < h->n_devices; i++)
		for (size_t k = 0; k < i; k++)
			if (set[i] == first && set[k] == first && !linked[i][k])
				return false;
	return true;
}

static void gpulinks_put_set(const struct hw_host *h, const int *set, int first, size_t n, struct buf *out) {
	const struct hw_gpu_link *link = NULL;
	bool has_switch = false;
	for (size_t i = 0; i < h->n_gpu_links; i++) {
		const struct hw_gpu_link *l = &h->gpu_links[i];
		if (l->kind == HW_C2C || set[l->gpu] != first)
			continue;
		link = link ? link : l;
		has_switch |= l->peer < 0;
	}
	buf_printf(out, "%s connects %s%zu GPUs%s", jt_words_hw_gpu_link_kind[link->kind],
	           n == hw_count(h, HW_GPU) ? "all " : "", n,
	           has_switch                        ? " through switches"
	           : gpulinks_is_full(h, set, first) ? ", each with each"
	                                             : ", some through others");
	if (n < hw_count(h, HW_GPU)) {
		const char *end = n > 4 ? " ..." : "";
		size_t left = 4;
		for (size_t i = 0; i < h->n_devices && left; i++)
			if (set[i] == first) {
				buf_printf(out, "%s %s", left == 4 ? ":" : "", h->devices[i].address);
				left--;
			}
		buf_puts(out, end);
	}
	buf_putc(out, '\n');
}

void hw_draw_gpu_links(const struct hw_host *h, struct buf *out) {
	int set[HW_DEVICES_MAX];
	size_t to_processor = 0;
	hw_gpu_sets(h, set);
	for (size_t i = 0; i < h->n_gpu_links; i++)
		to_processor += h->gpu_links[i].kind == HW_C2C;
	if (h->n_gpu_links)
		buf_putc(out, '\n');
	for (int i = 0; i < (int)h->n_devices; i++) {
		size_t n = 0;
		for (size_t k = 0; k < h->n_devices; k++)
			n += set[k] == i;
		if (n)
			gpulinks_put_set(h, set, i, n, out);
	}
	if (to_processor)
		buf_printf(out, "C2C connects %zu %s to the processor\n", to_processor,
		           to_processor == 1 ? "GPU" : "GPUs");
}
