/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Blocking steps in worker processes, for a program with one thread and an sd-event loop that must never wait.
 *
 * A job is a function that runs in a fork of this process. It sees the memory of the moment when it was started and
 * changes only its own copy; what it has to say is a result of plain bytes, which the loop gets when the worker has
 * ended. At most so many jobs of a pool run at once; the others wait, first come, first served.
 *
 * The worker leads a process group of its own. When the worker ends, is cancelled or takes too long, or when this
 * process ends, in whatever way, all of that group is killed. So a job must be one that can be killed at any moment and
 * done again. What is to outlive the worker leaves the group (setsid(2)).
 *
 * The worker has the default signals (but SIGPIPE, which is ignored), standard input, output and error, the descriptors
 * that its spec names, and no other descriptor: whatever it needs it opens itself. It is ended by _exit(2), so nothing
 * that was registered with atexit(3) runs and no buffer of stdio is written.
 */

#include <systemd/sd-event.h>

#include "base/loop.h"

#define JOB_RESULT_MAX 2048 /* bytes */
#define JOB_KEEP_MAX   4

struct jobs; /* a pool */
struct job;

struct job_spec {
	/*
	 * Runs in the worker. ARG is the caller's memory as it was when the worker was started, which may be long after
	 * job_start(). RESULT has RESULT_SIZE bytes, all zero and aligned for any type; they are handed on also when
	 * the function fails.
	 */
	int (*fn)(void *arg, void *result, struct error *err);
	void *arg;
	size_t result_size;     /* at most JOB_RESULT_MAX */
	int keep[JOB_KEEP_MAX]; /* descriptors that the worker keeps, with their numbers */
	size_t n_keep;
	uint32_t timeout_ms; /* from its start on */
	/*
	 * Called once, from the loop and never from job_start() or job_cancel(), when nothing of the job runs any more;
	 * the job is no more then. R is what the function returned, with ERR, or why it returned nothing: -ECANCELED,
	 * -ETIMEDOUT, -EREMOTEIO (it ended early), or why it could not be started. RESULT is NULL in these cases.
	 */
	void (*done)(void *userdata, int r, const void *result, const struct error *err);
	void *userdata;
};

/* At most MAX of its jobs run at once. PRIORITY is that of its event sources (sd_event_source_set_priority(3)). */
int jobs_new(struct jobs **ret, sd_event *loop, unsigned max, int64_t priority, struct error *err) _must_use_;
/* Kills all workers and waits for them, a second for all at most; no `done` is called. */
struct jobs *jobs_free(struct jobs *j);
DEFINE_CLEANUP(jobs, struct jobs *, jobs_free)

/* *RET is valid until `done` is called. SPEC is copied; its pointers must stay valid as long. */
int job_start(struct jobs *j, const struct job_spec *spec, struct job **ret, struct error *err) _must_use_;
/* Kills what runs of it; `done` follows. Repeating it is harmless. */
void job_cancel(struct job *job);
/* Its worker was started, so it has the memory of that moment. */
bool job_is_running(const struct job *job);
