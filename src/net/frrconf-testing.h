/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For tests of functions that fill the model of FRR's configuration. */

#include "base/testing.h"
#include "net/frrconf.h"

/* Checks that a daemon with the configuration TEXT needs no command to reach C, so that its sessions stay. The order of
 * lines does not matter. */
static inline void frrconf_assert_same(const struct frrconf *c, enum frrconf_daemon daemon, const char *text) {
	_frrconf_free_ struct frrconf *told = NULL;
	_buf_free_ struct buf steps = {0};
	struct error err = {0};
	if (frrconf_error(c, &err) < 0 || frrconf_new(&told, FRRCONF_EMPTY, &err) < 0 ||
	    frrconf_parse(told, daemon, text, &err) < 0 || frrconf_diff(told, c, daemon, &steps, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(steps.data ? steps.data : "", "");
}
