/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A client of QEMU's machine protocol (QEMU docs/interop/qmp-spec) over a connected socket and sd-event. It treats QEMU
 * as hostile, because a guest may have taken it over: a message longer than QMP_MESSAGE_MAX, bad JSON, or a reply
 * without a command ends the connection.
 *
 * Commands may be given at once; they are sent after the greeting was handled. Each command gets exactly one reply
 * callback, even if the connection ends first. The object owns the descriptor. Callbacks must not free the object.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/buf.h"

#define QMP_MESSAGE_MAX ((size_t)1 << 20)
#define QMP_PENDING_MAX 32

struct qmp;

struct qmp_ops {
	/* An event arrived; DATA is the text of its data object, "" if there is none. */
	void (*event)(void *userdata, const char *name, const char *data, size_t len);
	/* The connection has ended; ERR says why. Called once, as the last callback. */
	void (*closed)(void *userdata, const struct error *err);
};

/* On success ERR is NULL, and DATA is the text of the "return" value. */
typedef void (*qmp_reply_fn)(void *userdata, const struct error *err, const char *data, size_t len);

/* Takes ownership of FD (non-blocking), even on failure. */
int qmp_new(struct qmp **ret, sd_event *loop, int fd, const struct qmp_ops *ops, void *userdata,
            struct error *err) _must_use_;
struct qmp *qmp_free(struct qmp *q);

/* NAME and ARGS (a JSON object, or NULL) come from the caller and are not checked. REPLY may be NULL. */
int qmp_command(struct qmp *q, const char *name, const char *args, qmp_reply_fn reply, struct error *err) _must_use_;

DEFINE_CLEANUP(qmp, struct qmp *, qmp_free)
