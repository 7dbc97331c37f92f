/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The serial console of an instance in a lab, on the caller's terminal. */

#include "lab/lab.h"

/*
 * INSTANCE is "TENANT/NAME". Passes bytes in both directions until Ctrl-], or until the console ends. At the end of
 * stdin it prints what the console has said until then (vm/console.h), and returns. Meanwhile a terminal is in raw
 * mode; afterwards it is restored. Output that could harm a terminal is removed (lab/harmless.h); with RAW all output
 * passes.
 */
int lab_console(const struct lab *lab, const char *instance, bool raw, struct error *err) _must_use_;

/* The same with INPUT and OUT in the place of stdin and stdout, and FD connected to the console. */
int lab_console_pump(int input, int out, int fd, bool raw, struct error *err) _must_use_;
