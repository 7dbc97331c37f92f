/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The other end of nacre-vm's control socket (vm/control.h). The status is told anew on
 * every change, so a client that connects late or again misses nothing.
 */

#include <systemd/sd-event.h>

#include "base/loop.h"
#include "vm/status.h"

struct vmclient;

struct vmclient_ops {
	void (*status)(void *userdata, const struct vm_status *status);
	/* A command was refused. */
	void (*refused)(void *userdata, const char *message);
	/* The connection is over: nacre-vm ended, or said what can't be understood. Last call; may free the client. */
	void (*closed)(void *userdata);
};

/* Connects to DIR/control.sock. -ENOENT or -ECONNREFUSED when nacre-vm has ended. */
int vmclient_new(struct vmclient **ret, sd_event *loop, const char *dir, const struct vmclient_ops *ops, void *userdata,
                 struct error *err) _must_use_;
struct vmclient *vmclient_free(struct vmclient *c);

/* "shutdown", "poweroff" or "reset". */
int vmclient_command(struct vmclient *c, const char *name, struct error *err) _must_use_;

/* A connected stream socket to DIR/NAME, however long DIR is. */
int vmclient_connect(const char *dir, const char *name, int *ret_fd, struct error *err) _must_use_;

DEFINE_CLEANUP(vmclient, struct vmclient *, vmclient_free)
