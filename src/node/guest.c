/* SPDX-License-Identifier: Apache-2.0 */
#include "node/guest.h"

#include "base/util.h"

JT_DEFINE(guest_spec, GUEST_SPEC_FIELDS)

bool guest_spec_equal(const struct guest_spec *a, const struct guest_spec *b) {
	_buf_free_ struct buf x = {0}, y = {0};

	jt_print(&jt_guest_spec, a, &x);
	jt_print(&jt_guest_spec, b, &y);
	/* Without memory they count as different, which costs only a look. */
	return !x.failed && !y.failed && streq(x.data, y.data);
}
