/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * FRR (zebra and bgpd) in a namespace. The two daemons are detached: they outlive their
 * starter, whose successor finds them by the lock that each holds on its pid file, so a restart
 * of ours never touches a BGP session. Their configuration is changed by commands on their vty
 * sockets, never by restarting or reloading them.
 *
 * A pair's vty sockets, zserv, pid files and logs are in one directory, DIR, which FRR's user can change; a person
 * looks inside with `vtysh --vty_socket DIR`. What we tell FRR is in DIR.conf, which it can only read: we act on what
 * we find there, as root.
 */

#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "net/frrconf.h"

struct frr {
	const char *netns; /* name */
	const char *dir;   /* made by frr_ensure(), owner frr, who must be able to reach it (no 0700 above), in a
	                      directory   that only root can change; at most 80 characters */
};

/*
 * Both daemons run in the namespace and have this configuration. Differences to what was applied before are
 * applied as commands: lines that went are taken back with "no", then new ones are given. A daemon that died is
 * started.
 * If C has an error, that is returned and nothing is done. On any other failure what could be applied has been; calling
 * again carries on.
 */
int frr_ensure(const struct frr *f, const struct frrconf *c, struct error *err) _must_use_;

/* Ends both daemons and removes both directories. Nothing there is success. */
int frr_stop(const struct frr *f, struct error *err);

/*
 * Removes what a daemon of FRR that was killed leaves in /var/tmp/frr (its buffers for log lines, in a directory that
 * carries the pid it had before it became a daemon). frr_ensure() and frr_stop() do so by themselves.
 */
void frr_remove_traces(const char *daemon, pid_t pid);

/*
 * Runs commands (NULL-terminated) on DAEMON ("zebra" or "bgpd") in enable mode, what they print goes to OUT
 * (may be NULL). Stops at the first that the daemon refuses: -EREMOTEIO, with the command and its answer.
 */
int frr_command(const struct frr *f, const char *daemon, const char *const *commands, struct buf *out,
                struct error *err) _must_use_;
