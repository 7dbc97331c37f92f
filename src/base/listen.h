/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Separate from base/metrics.h, so that a program without an HTTP server does not link one. */

#include "base/error.h"

/*
 * A listening socket for "unix:/path" (mode 0600; the file of a dead process is replaced) or "ADDR:PORT". It is
 * non-blocking and close-on-exec. -EADDRINUSE if another process listens there.
 */
int listen_socket(const char *listen, int *ret_fd, struct error *err) _must_use_;
