/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control socket of one machine: lines of JSON on a UNIX stream socket.
 *
 * The server sends the machine's whole status as one object, to a new client at once and to all clients whenever it
 * changes. So a client needs no earlier message. A client may send {"command": "shutdown" | "poweroff" | "reset"}. The
 * answer is {"error": "..."} ("" = accepted); it comes before any status that results from the command.
 *
 * The connection ends if a line is longer than CONTROL_LINE_MAX, or if the client does not read.
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

/* Takes ownership of LISTEN_FD (non-blocking), even on failure. */
int control_new(struct control **ret, sd_event *loop, int listen_fd, const struct control_ops *ops, void *userdata,
                struct error *err) _must_use_;
struct control *control_free(struct control *c);

/* Sends the status to all clients. */
void control_changed(struct control *c);

DEFINE_CLEANUP(control, struct control *, control_free)
