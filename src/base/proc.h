/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Child processes: run one and collect its output, or start one that stays. Programs are executed from an argument
 * vector, never by a shell.
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
	const char *log_path;    /* proc_start_detached(): stdout and stderr are appended there; NULL: inherited */
	const char *cwd;         /* or NULL */
	int keep_fd; /* a descriptor that the program inherits, for example a lock that it shall hold; 0 = none */
	uint32_t timeout_ms; /* proc_run(): after this time the child is killed; 0 = 30 s */
};

/*
 * Runs a program to its end. Its stdout goes to OUT (may be NULL; bounded by out->max). A non-zero exit status is
 * -EREMOTEIO, and the message holds the command and its stderr. After the time-out the child is killed and reaped
 * (-ETIMEDOUT).
 */
int proc_run(const struct proc_spec *spec, struct buf *out, struct error *err) _must_use_;

/*
 * Starts a process in a new session, which outlives the caller: init adopts it, so it is not a child to reap. RET_PID
 * is its id. A failed exec is returned as an error.
 */
int proc_start_detached(const struct proc_spec *spec, pid_t *ret_pid, struct error *err) _must_use_;

/* Raises the soft limit of descriptors to the hard limit. Children get the former limit, because select(2) handles only
 * 1024 descriptors. */
void proc_raise_file_limit(void);
/* Restores the former limit in a child that was not made by the functions above. */
void proc_restore_file_limit(void);

/*
 * Start time of PID in clock ticks since boot (/proc/PID/stat field 22); -ESRCH if there is no such process. After any
 * other error, such as -EMFILE, it is unknown whether the process exists. A zombie counts as a process only while it
 * has a thread left: a killed process holds its sockets and locks until its last thread has ended.
 */
int proc_start_time(pid_t pid, uint64_t *ret) _must_use_;

/*
 * Pid files hold "PID STARTTIME\n", so that a recycled pid is never mistaken for ours. proc_pidfile_read() returns
 * -ESRCH if that process is gone, -ENOENT if there is no file, -EBADMSG if the file has no valid content. After any
 * other error the process may be running.
 */
int proc_pidfile_write(const char *path, pid_t pid, struct error *err) _must_use_;
int proc_pidfile_read(const char *path, pid_t *ret_pid) _must_use_;

/* Sends SIGTERM, and SIGKILL after GRACE_MS; returns once PID is gone. Uses a pidfd, so PID need not be a child.
 * -ETIMEDOUT if the process does not end. */
int proc_stop(pid_t pid, uint32_t grace_ms, struct error *err);
