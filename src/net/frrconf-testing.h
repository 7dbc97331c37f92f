/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For tests of what fills the model of FRR's configuration. */

#include "base/testing.h"
#include "net/frrconf.h"

/* A daemon that was told TEXT has nothing to do, and its sessions stay. Order means nothing. */
static inline void frrconf_assert_same(const struct frrconf *c, enum frrconf_daemon daemon, const char *text) {
	_frrconf_free_ struct frrconf *told = NULL;
	_buf_free_ struct buf steps = {0};
	struct error err = {0};
	if (frrconf_error(c, &err) < 0 || frrconf_new(&told, FRRCONF_EMPTY, &err) < 0 ||
	    frrconf_parse(told, daemon, text, &err) < 0 || frrconf_diff(told, c, daemon, &steps, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(steps.data ? steps.data : "", "");
}
