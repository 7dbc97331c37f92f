/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One running machine: QEMU as a child process, its monitor, its console, and the state of the machine. A machine is
 * started once. When QEMU ends, for whatever reason, the machine has ended and `ended` is called; the status then says
 * why. The caller decides whether to start another machine.
 */

#include <systemd/sd-event.h>

#include "vm/config.h"
#include "vm/status.h"

struct machine;

struct machine_ops {
	void (*changed)(void *userdata); /* the status has changed */
	void (*ended)(void *userdata);   /* the last call; machine_status() has the reason */
};

/*
 * Starts QEMU on the tap TAP_FD (-1: no network) and serves the console on CONSOLE_LISTEN_FD. Takes ownership of both,
 * even on failure. SIGCHLD must be blocked (base/loop.h does it).
 */
int machine_new(struct machine **ret, sd_event *loop, const struct vm_config *config, int tap_fd, int console_listen_fd,
                const struct machine_ops *ops, void *userdata, struct error *err) _must_use_;
/* Kills QEMU if it still runs, and waits for it. */
struct machine *machine_free(struct machine *m);

/*
 * "shutdown" presses the power button, and does "poweroff" after the grace period; "poweroff" acts at once; "reset"
 * resets the machine. Repeating a command is harmless. -EINVAL for another name.
 */
int machine_command(struct machine *m, const char *name, struct error *err) _must_use_;

/* Valid until control returns to the loop. */
const struct vm_status *machine_status(const struct machine *m);

DEFINE_CLEANUP(machine, struct machine *, machine_free)
