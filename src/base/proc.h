/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Child processes: run one and collect what it says, or start one that stays.
 * Everything is exec'ed from an argument vector; no shell is involved.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

struct proc_spec {
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
	const char *netns;       /* path of a network namespace to enter first, or NULL */
	const char *input;       /* text for stdin, or NULL for /dev/null */
	const char *log_path;    /* proc_start(): stdout and stderr are appended there; NULL: inherited */
	const char *cwd;         /* or NULL */
	int keep_fd;             /* a descriptor that the program inherits, as a lock that it is to hold; 0 = none */
	uint32_t timeout_ms;     /* proc_run(): the child is killed past this; 0 = 30 s */
};

/*
 * Runs to the end. stdout goes to OUT (may be NULL; bounded by out->max), stderr into the error's
 * message. A non-zero exit is -EREMOTEIO and the message holds the command and its stderr.
 * Kills and reaps the child on time-out (-ETIMEDOUT).
 */
int proc_run(const struct proc_spec *spec, struct buf *out, struct error *err) _must_use_;

/*
 * Starts a process in a session of its own which outlives the caller (re-parented to init, not a
 * child to reap). RET_PID is its id. Reports a failed exec as an error.
 */
int proc_start_detached(const struct proc_spec *spec, pid_t *ret_pid, struct error *err) _must_use_;

/* The soft limit of descriptors becomes the hard one. Children have the one from before: select(2) takes 1024. */
void proc_raise_file_limit(void);
/* For a child that is made without the functions above. */
void proc_restore_file_limit(void);

/*
 * Start time of PID in clock ticks since boot (/proc/PID/stat field 22); -ESRCH if there is none. Another error, as
 * -EMFILE, doesn't tell whether there is. Zombies don't count, but those that still have a thread: who has been killed
 * holds his sockets and locks until the last one has ended.
 */
int proc_start_time(pid_t pid, uint64_t *ret) _must_use_;

/*
 * Pid files hold "PID STARTTIME\n", so that a recycled pid is never mistaken for ours.
 * proc_pidfile_read() yields -ESRCH when that very process is gone, -ENOENT without a file, -EBADMSG with one that says
 * nothing. After any other error the process may be running.
 */
int proc_pidfile_write(const char *path, pid_t pid, struct error *err) _must_use_;
int proc_pidfile_read(const char *path, pid_t *ret_pid) _must_use_;

/* SIGTERM, then SIGKILL after GRACE_MS; returns once PID is gone. Works for non-children, by pidfd. */
int proc_stop(pid_t pid, uint32_t grace_ms, struct error *err);
