/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One running machine: QEMU as a child, its monitor, its console, and what is known
 * of its state. It is started once; when QEMU ends, for whatever reason, the machine
 * is over and its `ended` callback says why. Whether to start another is not decided here.
 */

#include "vm/config.h"
#include "vm/qemu.h"

#include <stdbool.h>
#include <systemd/sd-event.h>

enum machine_state {
	MACHINE_STARTING, /* QEMU runs, its monitor has not answered yet */
	MACHINE_RUNNING,
	MACHINE_PAUSED,   /* its vCPUs stand still */
	MACHINE_STOPPING, /* asked to go */
	MACHINE_ENDED,
};

enum machine_end {
	MACHINE_END_NONE,
	MACHINE_END_POWERED_OFF, /* the guest did it */
	MACHINE_END_STOPPED,     /* it was asked to */
	MACHINE_END_KILLED,      /* a signal from elsewhere */
	MACHINE_END_FAILED,      /* QEMU gave up */
	MACHINE_END_CPU_FAILED,  /* the accelerator gave up: KVM that can't run this guest */
};

struct machine;

struct machine_ops {
	void (*changed)(void *userdata); /* the status differs from before */
	void (*ended)(void *userdata);   /* last call; machine_print() has the reason */
};

/*
 * Starts QEMU and serves the console on CONSOLE_LISTEN_FD (taken over, also on failure).
 * SIGCHLD must be blocked (base/loop.h does it).
 */
int machine_new(struct machine **ret, sd_event *loop, const struct vm_config *config, int console_listen_fd,
                const struct machine_ops *ops, void *userdata, struct error *err) _must_use_;
/* Kills QEMU if it still runs, and waits for it. */
struct machine *machine_free(struct machine *m);

/*
 * "shutdown": the power button, then after the grace period "poweroff"; "poweroff": at
 * once; "reset". Repeating one is harmless. -EINVAL for another name.
 */
int machine_command(struct machine *m, const char *name, struct error *err) _must_use_;

enum machine_state machine_state(const struct machine *m);
enum machine_end machine_end(const struct machine *m);
/* {"state":"running","qemuPid":7,"since":"…","resets":0} and, once ended, "reason" and "message". */
void machine_print(const struct machine *m, struct buf *out);

DEFINE_CLEANUP(machine, struct machine *, machine_free)
