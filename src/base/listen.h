/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Apart from base/metrics.h, so that a program without an HTTP server links none. */

#include "base/error.h"

/*
 * A listening socket for "unix:/path" (stale socket files are replaced; mode 0600) or "ADDR:PORT".
 * Non-blocking, close-on-exec. -EADDRINUSE if someone answers there.
 */
int listen_socket(const char *listen, int *ret_fd, struct error *err) _must_use_;
