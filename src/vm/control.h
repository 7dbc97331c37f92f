/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control socket of one machine: lines of JSON on a UNIX stream socket.
 *
 * The server sends the machine's whole status as one object, at once to a new client
 * and again to all whenever it changes (so a client that missed something has missed
 * nothing). A client may send {"command": "shutdown" | "poweroff" | "reset"}, and is
 * answered by {"error": "..."} ("" = accepted) before any status that follows from it.
 *
 * A line past CONTROL_LINE_MAX, or a client that doesn't read, ends the connection.
 */

#include <systemd/sd-event.h>

#include "base/buf.h"

#define CONTROL_LINE_MAX    ((size_t)4096)
#define CONTROL_CLIENTS_MAX 8

struct control;

struct control_ops {
	void (*status)(void *userdata, struct buf *out); /* prints one JSON object */
	int (*command)(void *userdata, const char *name, struct error *err);
};

/* Takes LISTEN_FD (non-blocking) over, also on failure. */
int control_new(struct control **ret, sd_event *loop, int listen_fd, const struct control_ops *ops, void *userdata,
                struct error *err) _must_use_;
struct control *control_free(struct control *c);

/* Sends the status to all clients. */
void control_changed(struct control *c);

DEFINE_CLEANUP(control, struct control *, control_free)
