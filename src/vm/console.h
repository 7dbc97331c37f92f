/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The serial console: reads the guest's output, keeps its last CONSOLE_KEEP bytes, and passes bytes in both directions
 * between the guest and the clients of a UNIX socket.
 *
 * A client that connects gets the kept bytes first, then new output. A client that ends its input, with shutdown(2), is
 * disconnected when it has all output until then. It may take as long as it likes to read that; but if all
 * CONSOLE_CLIENTS_MAX places are taken, such a client loses its place to the next client that connects. A client that
 * finds no place is disconnected at once. The guest never waits for a client: a client that is CONSOLE_BEHIND bytes
 * behind is disconnected. Input of clients is dropped while CONSOLE_TYPED bytes of it wait for the guest.
 */

#include <systemd/sd-event.h>

#include "base/buf.h"

#define CONSOLE_KEEP        ((size_t)65536)
#define CONSOLE_BEHIND      ((size_t)262144)
#define CONSOLE_TYPED       ((size_t)4096)
#define CONSOLE_CLIENTS_MAX 8

struct console;

/* Takes ownership of SERIAL_FD and LISTEN_FD (both non-blocking), even on failure. */
int console_new(struct console **ret, sd_event *loop, int serial_fd, int listen_fd, struct error *err) _must_use_;
struct console *console_free(struct console *c);

DEFINE_CLEANUP(console, struct console *, console_free)
