/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The client of nacre-vm's control socket (vm/control.h). nacre-vm sends its whole status after every change, so a
 * client that connects late or again misses nothing.
 */

#include <systemd/sd-event.h>

#include "base/loop.h"
#include "vm/status.h"

struct vmclient;

struct vmclient_ops {
	void (*status)(void *userdata, const struct vm_status *status);
	/* A command was refused. */
	void (*refused)(void *userdata, const char *message);
	/*
	 * The connection has ended: nacre-vm ended, or sent something invalid. This is the last call; it may free the
	 * client.
	 */
	void (*closed)(void *userdata);
};

/* Connects to DIR/control.sock. -ENOENT or -ECONNREFUSED if nacre-vm has ended. */
int vmclient_new(struct vmclient **ret, sd_event *loop, const char *dir, const struct vmclient_ops *ops, void *userdata,
                 struct error *err) _must_use_;
struct vmclient *vmclient_free(struct vmclient *c);

/* Sends the command "shutdown", "poweroff" or "reset". */
int vmclient_command(struct vmclient *c, const char *name, struct error *err) _must_use_;

/* Connects a stream socket to DIR/NAME, however long DIR is. The caller closes *RET_FD. */
int vmclient_connect(const char *dir, const char *name, int *ret_fd, struct error *err) _must_use_;

DEFINE_CLEANUP(vmclient, struct vmclient *, vmclient_free)
