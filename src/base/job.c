/* SPDX-License-Identifier: Apache-2.0 */
#include "base/job.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/tree.h"
#include "base/util.h"

/* How long to wait until those processes of a killed group have ended that are not our children, so that we can't reap
 * them. */
#define GROUP_MAX_NS  NSEC_PER_SEC
#define GROUP_POLL_US (5 * USEC_PER_MSEC)
#define FREE_MAX_NS   NSEC_PER_SEC
#define DEATH_SIGNAL  SIGTERM

enum job_state {
	JOB_WAITING, /* in the queue */
	JOB_RUNNING,
	JOB_KILLED, /* the worker was killed but has not ended yet */
	JOB_ENDED,  /* the worker is reaped; other processes of its group may still be ending */
	JOB_OVER,   /* `done` has to be called */
};

struct job {
	TAILQ_ENTRY(job) entry;
	struct jobs *pool;
	struct job_spec spec;
	enum job_state state;
	pid_t pid; /* also the id of its process group */
	int pidfd, result_fd;
	sd_event_source *end, *timer;
	uint64_t ended_ns;
	int r; /* the result for `done` */
	struct error err;
	bool has_result;
	_Alignas(max_align_t) unsigned char result[JOB_RESULT_MAX];
};
TAILQ_HEAD(job_list, job);

struct jobs {
	sd_event *loop;
	unsigned max, active;
	int64_t priority;
	struct job_list waiting, running, over;
	sd_event_source *pump;
};

/* What the worker writes into the pipe. One write of at most PIPE_BUF bytes is atomic and never blocks on an empty
 * pipe. */
struct message {
	int r;
	struct error err;
	_Alignas(max_align_t) unsigned char result[JOB_RESULT_MAX];
};
_Static_assert(sizeof(struct message) <= PIPE_BUF, "a result fits into one write to a pipe");

/* ---- the worker ---- */

/* The kernel sends this signal to the leader of the group when the parent is gone. Nobody else would kill the group
 * then. */
static void on_parent_gone(_unused_ int sig) {
	kill(0, SIGKILL);
}

static int worker_signals(void) {
	const struct sigaction dfl = {.sa_handler = SIG_DFL}, die = {.sa_handler = on_parent_gone};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			(void)sigaction(sig, sig == DEATH_SIGNAL ? &die : &dfl, NULL);
	/* A write to a socket whose other end is gone returns an error and does not kill the worker. */
	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Closes all descriptors from 3 on except KEEP[0..N-1]. */
static int worker_close(const int *keep, size_t n) {
	unsigned from = STDERR_FILENO + 1;

	for (;;) {
		unsigned next = UINT_MAX;
		for (size_t i = 0; i < n; i++)
			if (keep[i] >= 0 && (unsigned)keep[i] >= from)
				next = MIN(next, (unsigned)keep[i]);
		if (next > from && close_range(from, next == UINT_MAX ? UINT_MAX : next - 1, 0) < 0)
			return -1;
		if (next == UINT_MAX)
			return 0;
		from = next + 1;
	}
}

static _noreturn_ void worker(const struct job_spec *spec, int fd, pid_t parent) {
	struct message m = {0};
	int keep[JOB_KEEP_MAX + 1] = {fd};

	memcpy(keep + 1, spec->keep, spec->n_keep * sizeof(*keep));
	/* The parent may have ended before PR_SET_PDEATHSIG was set. */
	if (setpgid(0, 0) < 0 || worker_signals() < 0 || prctl(PR_SET_PDEATHSIG, DEATH_SIGNAL, 0, 0, 0) < 0 ||
	    getppid() != parent || worker_close(keep, spec->n_keep + 1) < 0)
		_exit(1);
	m.r = spec->fn(spec->arg, m.result, &m.err);
	_exit(write(fd, &m, sizeof(m)) != (ssize_t)sizeof(m));
}

/* ---- the loop's side ---- */

static void jobs_wake(struct jobs *j) {
	/* Can't fail: the source exists, and only its state changes. */
	(void)sd_event_source_set_enabled(j->pump, SD_EVENT_ONESHOT);
}

static void job_close(struct job *job) {
	job->end = sd_event_source_disable_unref(job->end);
	job->timer = sd_event_source_disable_unref(job->timer);
	job->pidfd = safe_close(job->pidfd);
	job->result_fd = safe_close(job->result_fd);
}

static void job_free(struct job *job) {
	job_close(job);
	free(job);
}

/* The caller has removed the job from its list. */
static void job_over(struct job *job) {
	struct jobs *j = job->pool;

	job_close(job);
	job->state = JOB_OVER;
	TAILQ_INSERT_TAIL(&j->over, job, entry);
	jobs_wake(j);
}

static void job_kill(struct job *job, int code, const char *why) {
	if (job->state != JOB_RUNNING)
		return;
	job->state = JOB_KILLED;
	job->r = error_set(&job->err, code, "%s", why);
	/* The kernel gives the id of the group to nobody else as long as the leader is not reaped. */
	kill(-job->pid, SIGKILL);
}

static void job_leave(struct job *job) {
	TAILQ_REMOVE(&job->pool->running, job, entry);
	job->pool->active--;
	job_over(job);
}

static int on_group(sd_event_source *s, uint64_t usec, void *userdata);

/* The other processes of the group were killed with the worker. Most often none is left. */
static void job_await_group(struct job *job) {
	if ((kill(-job->pid, 0) < 0 && errno == ESRCH) || now_monotonic_ns() - job->ended_ns > GROUP_MAX_NS ||
	    loop_timer(job->pool->loop, &job->timer, GROUP_POLL_US, on_group, job) < 0)
		job_leave(job);
}

static int on_group(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	job_await_group(userdata);
	return 0;
}

static void job_read_result(struct job *job, int status) {
	struct message m;

	if (read(job->result_fd, &m, sizeof(m)) == (ssize_t)sizeof(m)) {
		job->r = m.r;
		job->err = m.err;
		job->has_result = true;
		memcpy(job->result, m.result, job->spec.result_size);
	} else if (WIFSIGNALED(status)) {
		job->r =
			error_set(&job->err, EREMOTEIO, "the worker process was killed by signal %d", WTERMSIG(status));
	} else {
		job->r = error_set(&job->err, EREMOTEIO, "the worker process ended early with status %d",
		                   WEXITSTATUS(status));
	}
}

static int on_end(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
	struct job *job = userdata;
	int status = 0;

	job->end = sd_event_source_disable_unref(job->end);
	job->timer = sd_event_source_disable_unref(job->timer);
	/* The kernel gives the id of the group to nobody else as long as the leader is not reaped. */
	kill(-job->pid, SIGKILL);
	while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (job->state == JOB_RUNNING)
		job_read_result(job, status);
	job->state = JOB_ENDED;
	job->ended_ns = now_monotonic_ns();
	job_await_group(job);
	return 0;
}

static int on_timeout(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct job *job = userdata;
	char why[64];

	snprintf(why, sizeof(why), "the worker process did not end within %u s", job->spec.timeout_ms / 1000);
	job_kill(job, ETIMEDOUT, why);
	return 0;
}

/* On failure no process of the job is left. */
static int job_fork(struct job *job, struct error *err) {
	struct jobs *j = job->pool;
	_close_ int in = -1;
	int p[2];

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_errno(err, errno, "pipe");
	job->result_fd = p[0];
	in = p[1];
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		worker(&job->spec, in, parent);
	if (pid < 0)
		return error_errno(err, errno, "fork");
	job->pid = pid;
	/* Both parent and child call setpgid(), so that the group exists for whichever of them runs first. */
	(void)setpgid(pid, pid);
	int r = job->pidfd = pidfd_open(pid, 0);
	if (r < 0)
		r = -errno;
	if (r >= 0)
		r = sd_event_add_io(j->loop, &job->end, job->pidfd, EPOLLIN, on_end, job);
	if (r >= 0 && job->spec.timeout_ms)
		r = loop_timer(j->loop, &job->timer, job->spec.timeout_ms * USEC_PER_MSEC, on_timeout, job);
	if (r >= 0)
		r = sd_event_source_set_priority(job->end, j->priority);
	/* The timer is handled after the end of the worker: a worker that ended in time must not be reported as too
	 * late. */
	if (r >= 0 && job->timer)
		r = sd_event_source_set_priority(job->timer, j->priority + 1);
	if (r >= 0)
		return 0;
	kill(-pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return error_errno(err, r, "watch a worker process");
}

static void jobs_start_waiting(struct jobs *j) {
	struct job *job;

	while (j->active < j->max && (job = TAILQ_FIRST(&j->waiting))) {
		TAILQ_REMOVE(&j->waiting, job, entry);
		job->r = job_fork(job, &job->err);
		if (job->r < 0) {
			job_over(job);
			continue;
		}
		job->state = JOB_RUNNING;
		TAILQ_INSERT_TAIL(&j->running, job, entry);
		j->active++;
	}
}

/* Calls `done` of the jobs that are over, then starts waiting jobs. `done` may start and cancel jobs but must not free
 * the pool. */
static int on_pump(_unused_ sd_event_source *s, void *userdata) {
	struct jobs *j = userdata;
	struct job_list over = TAILQ_HEAD_INITIALIZER(over);
	struct job *job;

	TAILQ_CONCAT(&over, &j->over, entry);
	while ((job = TAILQ_FIRST(&over))) {
		TAILQ_REMOVE(&over, job, entry);
		job->spec.done(job->spec.userdata, job->r, job->has_result ? job->result : NULL, &job->err);
		job_free(job);
	}
	jobs_start_waiting(j);
	return 0;
}

int jobs_new(struct jobs **ret, sd_event *loop, unsigned max, int64_t priority, struct error *err) {
	struct jobs *j = calloc(1, sizeof(*j));

	if (!j)
		return error_oom(err);
	j->loop = sd_event_ref(loop);
	j->max = max;
	j->priority = priority;
	TAILQ_INIT(&j->waiting);
	TAILQ_INIT(&j->running);
	TAILQ_INIT(&j->over);
	int r = sd_event_add_defer(loop, &j->pump, on_pump, j);
	if (r >= 0)
		r = sd_event_source_set_priority(j->pump, priority);
	if (r >= 0)
		r = sd_event_source_set_enabled(j->pump, SD_EVENT_OFF);
	if (r < 0) {
		jobs_free(j);
		return error_errno(err, r, "make a pool of worker processes");
	}
	*ret = j;
	return 0;
}

static void list_free(struct job_list *list) {
	struct job *job;

	while ((job = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, job, entry);
		job_free(job);
	}
}

struct jobs *jobs_free(struct jobs *j) {
	struct job *job;

	if (!j)
		return NULL;
	TAILQ_FOREACH (job, &j->running, entry)
		if (job->state != JOB_ENDED)
			kill(-job->pid, SIGKILL);
	uint64_t deadline = now_monotonic_ns() + FREE_MAX_NS;
	TAILQ_FOREACH (job, &j->running, entry) {
		struct pollfd p = {.fd = job->pidfd, .events = POLLIN};
		if (job->state == JOB_ENDED)
			continue;
		for (uint64_t now; (now = now_monotonic_ns()) < deadline;)
			if (poll(&p, 1, (int)((deadline - now) / NSEC_PER_MSEC) + 1) > 0)
				break;
		(void)waitpid(job->pid, NULL, WNOHANG);
	}
	list_free(&j->waiting);
	list_free(&j->running);
	list_free(&j->over);
	sd_event_source_disable_unref(j->pump);
	sd_event_unref(j->loop);
	free(j);
	return NULL;
}

int job_start(struct jobs *j, const struct job_spec *spec, struct job **ret, struct error *err) {
	if (spec->result_size > JOB_RESULT_MAX || spec->n_keep > JOB_KEEP_MAX)
		return error_set(err, E2BIG, "a job has at most %d bytes of result and keeps %d descriptors",
		                 JOB_RESULT_MAX, JOB_KEEP_MAX);
	struct job *job = calloc(1, sizeof(*job));
	if (!job)
		return error_oom(err);
	job->pool = j;
	job->spec = *spec;
	job->pidfd = job->result_fd = -1;
	TAILQ_INSERT_TAIL(&j->waiting, job, entry);
	jobs_wake(j);
	*ret = job;
	return 0;
}

void job_cancel(struct job *job) {
	if (job->state == JOB_WAITING) {
		TAILQ_REMOVE(&job->pool->waiting, job, entry);
		job->r = error_set(&job->err, ECANCELED, "the job was cancelled before it began");
		job_over(job);
		return;
	}
	job_kill(job, ECANCELED, "the job was cancelled");
}

bool job_is_running(const struct job *job) {
	return job->state == JOB_RUNNING;
}
