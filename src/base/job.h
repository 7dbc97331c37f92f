/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Blocking steps in worker processes, for a program with one thread and an sd-event loop that must never wait.
 *
 * A job is a function that runs in a fork of this process, the worker. The worker sees the memory of this process as it
 * was at the fork, and changes only its own copy. It returns a result of plain bytes, which the loop gets when the
 * worker has ended. A pool runs a bounded number of jobs at once; the other jobs wait in the order in which they were
 * started.
 *
 * The worker leads a process group of its own. The whole group is killed when the worker ends, is cancelled or takes
 * too long, and when this process ends in any way. So it must be safe to kill a job at any moment and to run it again.
 * A process that is to outlive the worker leaves the group (setsid(2)).
 *
 * The worker has the default signals (except SIGPIPE, which is ignored), standard input, output and error, and the
 * descriptors that its spec names. It has no other descriptor: the job opens whatever else it needs. The worker ends by
 * _exit(2), so functions registered with atexit(3) do not run and buffers of stdio are not written.
 */

#include <systemd/sd-event.h>

#include "base/loop.h"

#define JOB_RESULT_MAX 3072 /* bytes */
#define JOB_KEEP_MAX   4

struct jobs; /* a pool */
struct job;

struct job_spec {
	/*
	 * Runs in the worker. ARG points to the caller's memory as it was when the worker was started, which may be
	 * long after job_start(). RESULT has RESULT_SIZE bytes, all zero and aligned for any type; `done` gets them
	 * even if the function fails.
	 */
	int (*fn)(void *arg, void *result, struct error *err);
	void *arg;
	size_t result_size;     /* at most JOB_RESULT_MAX */
	int keep[JOB_KEEP_MAX]; /* descriptors that the worker keeps, under the same numbers */
	size_t n_keep;
	uint32_t timeout_ms; /* counted from the start of the worker; 0: the worker may run for ever */
	/*
	 * Called once, when no process of the job runs any more; always from the loop, never from job_start() or
	 * job_cancel(). The job is freed when `done` returns. R is what the function returned, with its ERR, or the
	 * reason why there is no result: -ECANCELED, -ETIMEDOUT, -EREMOTEIO (the worker ended early), or the error of
	 * starting the worker. RESULT is NULL if there is no result.
	 */
	void (*done)(void *userdata, int r, const void *result, const struct error *err);
	void *userdata;
};

/* The pool runs at most MAX jobs at once. PRIORITY is the priority of its event sources
 * (sd_event_source_set_priority(3)). */
int jobs_new(struct jobs **ret, sd_event *loop, unsigned max, int64_t priority, struct error *err) _must_use_;
/* Kills all workers and waits for them, at most one second for all of them together. Calls no `done`. */
struct jobs *jobs_free(struct jobs *j);
DEFINE_CLEANUP(jobs, struct jobs *, jobs_free)

/* *RET is valid until `done` is called. SPEC is copied; the memory that its pointers name must stay valid until
 * then. */
int job_start(struct jobs *j, const struct job_spec *spec, struct job **ret, struct error *err) _must_use_;
/* Kills the processes of the job; `done` is called afterwards. Repeating it is harmless. */
void job_cancel(struct job *job);
/* True if the worker was started, so that it already has its copy of the memory. */
bool job_is_running(const struct job *job);
