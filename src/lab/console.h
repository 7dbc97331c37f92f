/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The serial console of an instance in a lab, on the caller's terminal. */

#include "lab/lab.h"

/*
 * INSTANCE is "TENANT/NAME". Passes bytes both ways until Ctrl-], the end of stdin or of the console. A terminal
 * is put into raw mode meanwhile and restored. Of the output passes what does a terminal no harm (lab/harmless.h); RAW:
 * all of it.
 */
int lab_console(const struct lab *lab, const char *instance, bool raw, struct error *err) _must_use_;
