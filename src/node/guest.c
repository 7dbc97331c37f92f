/* SPDX-License-Identifier: Apache-2.0 */
#include "node/guest.h"

#include "base/util.h"

/* One field for each row, so that `size` needs no change for a new resource. */
#define GUEST_RESOURCE(F, T, m, name, ...) \
	{.key = name, .kind = JT_I64, .offset = offsetof(struct resources, v[RESOURCE_##m]), .max = INT64_MAX},
static const struct jt_field guest_resources[] = {RESOURCES(GUEST_RESOURCE, _, _)};
const struct jt_table jt_resources = {guest_resources, N_RESOURCES, sizeof(struct resources)};

JT_DEFINE(guest_spec, GUEST_SPEC_FIELDS)

bool guest_spec_equal(const struct guest_spec *a, const struct guest_spec *b) {
	_buf_free_ struct buf x = {0}, y = {0};

	jt_print(&jt_guest_spec, a, &x);
	jt_print(&jt_guest_spec, b, &y);
	/* Without memory they count as different, which costs only a look. */
	return !x.failed && !y.failed && streq(x.data, y.data);
}
