/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The serial console of an instance in a lab, on the caller's terminal. */

#include "lab/lab.h"

/*
 * INSTANCE is "TENANT/NAME". Passes bytes in both directions until Ctrl-], or until stdin or the console ends.
 * Meanwhile a terminal is in raw mode; afterwards it is restored. Output that could harm a terminal is removed
 * (lab/harmless.h); with RAW all output passes.
 */
int lab_console(const struct lab *lab, const char *instance, bool raw, struct error *err) _must_use_;
