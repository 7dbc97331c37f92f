/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What must hold for every host that a reader of hw returns. */

#include "fuzz.h"

#include <string.h>

#include "hw/draw.h"
#include "hw/read.h"

static inline void check(const struct hw_host *h) {
	_buf_free_ struct buf json = {0}, again = {0}, text = {0}, svg = {0};
	_hw_free_ struct hw_host *copy = NULL;
	struct error err = {0};
	CHECK(hw_check(h, NULL) == 0);
	hw_print(h, &json);
	CHECK(hw_read_text(json.data, json.len, &copy, &err) == 0);
	hw_print(copy, &again);
	CHECK(strcmp(json.data, again.data) == 0);
	CHECK(hw_draw(h, false, &text, &err) == 0);
	for (const char *p = text.data; *p; p += strcspn(p, "\n") + 1) {
		CHECK(strcspn(p, "\n") <= HW_DRAW_COLUMNS);
		for (const char *c = p; *c && *c != '\n'; c++)
			CHECK(*c >= ' ' && *c <= '~');
	}
	CHECK(hw_draw_svg(h, &svg, &err) == 0);
	if (hw_count(h, HW_GPU) + hw_count(h, HW_NIC))
		CHECK(hw_draw_matrix(h, &svg, &err) == 0);
	for (size_t i = 0; i < h->n_devices && i < 8; i++)
		for (size_t k = 0; k < h->n_devices && k < 8; k++)
			CHECK(hw_relation(h, i, k) == hw_relation(h, k, i));
}
