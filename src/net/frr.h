/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * FRR (zebra and bgpd) in a namespace. The two daemons are detached: they outlive the program that started them. Its
 * successor finds them by the lock that each holds on its pid file, so a restart of our program never disturbs a BGP
 * session. The daemons' configuration is changed by commands on their vty sockets, never by restarting or reloading
 * them.
 *
 * The vty sockets, zserv, pid files and logs of the two daemons are in one directory, DIR, which FRR's user can change.
 * To inspect FRR, run `vtysh --vty_socket DIR`. The configuration that we give to FRR is in DIR.conf, which FRR's user
 * can only read: as root we act on what we find there.
 */

#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "net/frrconf.h"

struct frr {
	const char *netns;   /* name of the namespace */
	const char *dir;     /* made by frr_ensure(), owner frr, who must be able to reach it (no 0700 above), in a
	                        directory that only root can change; at most 80 characters */
	unsigned patience_s; /* how long a daemon may take for an answer; 0 = 20 s */
};

/*
 * Makes both daemons run in the namespace with this configuration. Differences to the configuration applied before are
 * sent as commands: first removed lines with "no", then new lines. A daemon that died is started. If C has an error,
 * the error is returned and nothing is done. After any other failure a part may have been applied; the next call
 * continues.
 *
 * If zebra alone died, its routes stay in the kernel for two minutes. bgpd connects to the new zebra after up to one
 * minute, and the first call after that makes bgpd give its routes to the new zebra, unless a daemon gave no answer in
 * time. So call this every few seconds.
 */
int frr_ensure(const struct frr *f, const struct frrconf *c, struct error *err) _must_use_;

/*
 * Reads the configuration that DAEMON was given before, also if it has died since. *RET is a model without statements
 * if there is none.
 */
int frr_told(const struct frr *f, enum frrconf_daemon daemon, struct frrconf **ret, struct error *err) _must_use_;

/* Ends both daemons and removes both directories. Succeeds if there is nothing. */
int frr_stop(const struct frr *f, struct error *err);

/*
 * Removes what a killed daemon of FRR leaves in /var/tmp/frr: its buffers for log lines, in a directory named after the
 * pid that the daemon had before it went into the background. frr_ensure() and frr_stop() do this themselves.
 */
void frr_remove_traces(const char *daemon, pid_t pid);

/*
 * Runs commands (NULL-terminated) on DAEMON ("zebra" or "bgpd") in enable mode; their output goes to OUT (may be NULL).
 * Stops at the first command that the daemon refuses: -EREMOTEIO, with the command and the answer.
 */
int frr_command(const struct frr *f, const char *daemon, const char *const *commands, struct buf *out,
                struct error *err) _must_use_;
