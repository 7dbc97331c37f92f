/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The serial console: reads what the guest writes, keeps the last CONSOLE_KEEP bytes,
 * and passes bytes both ways between the guest and the clients of a UNIX socket.
 *
 * A client that connects gets what was kept, then what follows. The guest never waits
 * for a client: one that falls CONSOLE_BEHIND bytes behind is disconnected. What
 * clients type past CONSOLE_TYPED bytes ahead of the guest is dropped.
 */

#include <systemd/sd-event.h>

#include "base/buf.h"

#define CONSOLE_KEEP        ((size_t)65536)
#define CONSOLE_BEHIND      ((size_t)262144)
#define CONSOLE_TYPED       ((size_t)4096)
#define CONSOLE_CLIENTS_MAX 8

struct console;

/* Takes SERIAL_FD and LISTEN_FD (both non-blocking) over, also on failure. */
int console_new(struct console **ret, sd_event *loop, int serial_fd, int listen_fd, struct error *err) _must_use_;
struct console *console_free(struct console *c);

DEFINE_CLEANUP(console, struct console *, console_free)
