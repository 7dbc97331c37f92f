/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proc.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/util.h"

#define STDERR_MAX 2048

static struct rlimit files_before;

void proc_raise_file_limit(void) {
	struct rlimit rl;
	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur >= rl.rlim_max)
		return;
	files_before = rl;
	rl.rlim_cur = rl.rlim_max;
	(void)!setrlimit(RLIMIT_NOFILE, &rl);
}

void proc_restore_file_limit(void) {
	if (files_before.rlim_cur)
		(void)!setrlimit(RLIMIT_NOFILE, &files_before);
}

/* Runs in the child, between fork and exec. Returns only on failure, with errno set; *STAGE says which step failed. */
static void child_exec(const struct proc_spec *spec, const char **stage) {
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	proc_restore_file_limit();
	/* Some libraries open descriptors without close-on-exec. */
	*stage = "mark descriptors";
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0 || (spec->keep_fd && fcntl(spec->keep_fd, F_SETFD, 0) < 0))
		return;
	if (spec->netns) {
		*stage = "enter network namespace";
		int fd = open(spec->netns, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
			return;
	}
	*stage = "chdir";
	if (spec->cwd && chdir(spec->cwd) < 0)
		return;
	*stage = "exec";
	execvp(spec->argv[0], (char *const *)spec->argv);
}

static int input_pipe(const char *input, int *ret, struct error *err) {
	if (!input) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_errno(err, errno, "open `/dev/null`");
		*ret = fd;
		return 0;
	}
	/* A memfd, so that a child that doesn't read its input can't block us. */
	_close_ int fd = (int)syscall(SYS_memfd_create, "stdin", 1U /* MFD_CLOEXEC */);
	if (fd < 0)
		return error_errno(err, errno, "memfd_create");
	int r = write_all(fd, input, strlen(input), err);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, errno, "lseek");
	*ret = TAKE_FD(fd);
	return 0;
}

/* Reads OUT_FD and ERR_FD until both are at their end. -ETIMEDOUT after DEADLINE. */
static int proc_collect(int out_fd, int err_fd, uint64_t deadline, struct buf *out, struct buf *errout) {
	struct pollfd p[2] = {{.fd = out_fd, .events = POLLIN}, {.fd = err_fd, .events = POLLIN}};
	while (p[0].fd >= 0 || p[1].fd >= 0) {
		uint64_t now = now_monotonic_ns();
		if (now >= deadline)
			return -ETIMEDOUT;
		int n = poll(p, 2, (int)((deadline - now) / NSEC_PER_MSEC) + 1);
		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; n > 0 && i < 2; i++) {
			char chunk[4096];
			if (!p[i].revents)
				continue;
			ssize_t len = read(p[i].fd, chunk, sizeof(chunk));
			if (len <= 0) {
				p[i].fd = -1;
				continue;
			}
			if (i == 0 && out)
				buf_add(out, chunk, (size_t)len);
			else if (i == 1 && errout->len < STDERR_MAX)
				buf_add(errout, chunk, MIN((size_t)len, STDERR_MAX - errout->len));
		}
	}
	return 0;
}

static void join_argv(const struct proc_spec *spec, struct buf *b) {
	for (const char *const *a = spec->argv; *a && b->len < 200; a++)
		buf_printf(b, "%s%s", b->len ? " " : "", *a);
}

int proc_run(const struct proc_spec *spec, struct buf *out, struct error *err) {
	_close_ int in = -1;
	int po[2], pe[2];
	_buf_free_ struct buf errout = {.max = STDERR_MAX + 1}, cmd = {.max = 8192};
	int r = input_pipe(spec->input, &in, err);
	if (r < 0)
		return r;
	if (pipe2(po, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	if (pipe2(pe, O_CLOEXEC) < 0) {
		r = error_errno(err, errno, "pipe");
		close(po[0]);
		close(po[1]);
		return r;
	}
	join_argv(spec, &cmd);
	uint64_t deadline = now_monotonic_ns() + (spec->timeout_ms ? spec->timeout_ms : 30000) * NSEC_PER_MSEC;
	pid_t pid = fork();
	if (pid == 0) {
		const char *stage = "dup";
		if (dup2(in, 0) >= 0 && dup2(po[1], 1) >= 0 && dup2(pe[1], 2) >= 0)
			child_exec(spec, &stage);
		dprintf(2, "%s: %s", stage, strerror(errno));
		_exit(127);
	}
	close(po[1]);
	close(pe[1]);
	if (pid < 0) {
		r = error_errno(err, errno, "fork");
	} else {
		int status;
		r = proc_collect(po[0], pe[0], deadline, out, &errout);
		if (r < 0)
			kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (r == -ETIMEDOUT)
			error_set(err, ETIMEDOUT, "`%s` did not finish in %u ms", cmd.data,
			          spec->timeout_ms ? spec->timeout_ms : 30000);
		else if (r < 0)
			error_errno(err, r, "`%s`", cmd.data);
		else if (WIFSIGNALED(status))
			r = error_set(err, EREMOTEIO, "`%s` was ended by signal %d", cmd.data, WTERMSIG(status));
		else if (WEXITSTATUS(status) != 0) {
			while (errout.len && errout.data[errout.len - 1] == '\n')
				errout.data[--errout.len] = 0;
			r = error_set(err, EREMOTEIO, "`%s` exited with status %d: %s", cmd.data, WEXITSTATUS(status),
			              errout.len ? errout.data : "(no message)");
		}
	}
	close(po[0]);
	close(pe[0]);
	return r;
}

int proc_start_detached(const struct proc_spec *spec, pid_t *ret_pid, struct error *err) {
	struct report {
		pid_t pid;
		int code;
		char stage[32];
	} rep = {0};
	int p[2];
	_close_ int in = -1, log = -1;
	int r = input_pipe(NULL, &in, err);
	if (r < 0)
		return r;
	if (spec->log_path && (log = open(spec->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640)) < 0)
		return error_errno(err, errno, "open `%s`", spec->log_path);
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	pid_t middle = fork();
	if (middle == 0) {
		/* The middle process forks again and exits, so that init adopts the daemon. */
		setsid();
		pid_t pid = fork();
		rep.pid = pid;
		if (pid != 0) {
			if (pid < 0)
				rep.code = errno;
			_exit(write(p[1], &rep, sizeof(rep)) == (ssize_t)sizeof(rep) ? 0 : 1);
		}
		const char *stage = "dup";
		if (dup2(in, 0) >= 0 && (log < 0 || (dup2(log, 1) >= 0 && dup2(log, 2) >= 0)))
			child_exec(spec, &stage);
		rep.code = errno;
		snprintf(rep.stage, sizeof(rep.stage), "%s", stage);
		_exit(write(p[1], &rep, sizeof(rep)) == (ssize_t)sizeof(rep) ? 127 : 126);
	}
	close(p[1]);
	if (middle < 0) {
		close(p[0]);
		return error_errno(err, errno, "fork");
	}
	/* The middle process reports the pid. The child sends a second report only if exec failed; then comes the end
	 * of file. */
	pid_t pid = 0;
	int code = 0;
	char stage[32] = "";
	while (read(p[0], &rep, sizeof(rep)) == (ssize_t)sizeof(rep)) {
		if (rep.pid)
			pid = rep.pid;
		if (rep.code) {
			code = rep.code;
			memcpy(stage, rep.stage, sizeof(stage));
		}
	}
	close(p[0]);
	while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
		;
	if (code || pid <= 0)
		return error_errno(err, code ? code : EIO, "start `%s`: %s", spec->argv[0], stage);
	*ret_pid = pid;
	return 0;
}

/*
 * Reads /proc/PID/stat. After the ")" that ends comm, the state is the first field, the number of threads the 18th, the
 * start time the 20th. -ESRCH: the process is gone; after any other error that is unknown. A killed process shows as a
 * zombie as soon as its first thread has ended, but holds its sockets and locks while it has other threads.
 */
int proc_start_time(pid_t pid, uint64_t *ret) {
	char path[32], text[1024], state;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0 && errno != ENOENT && errno != ESRCH)
		return -errno;
	if (n <= 0)
		return -ESRCH;
	text[n] = 0;
	char *p = strrchr(text, ')');
	if (!p)
		return -ESRCH;
	unsigned long long start;
	long threads;
	if (sscanf(p + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld %*s %llu", &state,
	           &threads, &start) != 3 ||
	    state == 'X' || (state == 'Z' && threads <= 1))
		return -ESRCH;
	*ret = start;
	return 0;
}

int proc_pidfile_write(const char *path, pid_t pid, struct error *err) {
	uint64_t start = 0;
	char text[64];
	int r = proc_start_time(pid, &start);
	if (r < 0)
		return error_errno(err, r, "look at process %d", pid);
	int n = snprintf(text, sizeof(text), "%d %llu\n", pid, (unsigned long long)start);
	return write_file_atomic(path, text, (size_t)n, 0644, err);
}

int proc_pidfile_read(const char *path, pid_t *ret_pid) {
	_free_ char *text = NULL;
	int pid;
	unsigned long long want;
	uint64_t start = 0;
	int r = read_file(path, 128, &text, NULL, NULL);
	if (r < 0)
		return r;
	if (sscanf(text, "%d %llu", &pid, &want) != 2 || pid <= 1)
		return -EBADMSG;
	r = proc_start_time(pid, &start);
	if (r < 0)
		return r;
	if (start != want)
		return -ESRCH;
	*ret_pid = pid;
	return 0;
}

int proc_stop(pid_t pid, uint32_t grace_ms, struct error *err) {
	_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == ESRCH ? 0 : error_errno(err, errno, "pidfd_open of process %d", pid);
	for (int i = 0; i < 2; i++) {
		if (syscall(SYS_pidfd_send_signal, fd, i == 0 ? SIGTERM : SIGKILL, NULL, 0) < 0)
			return errno == ESRCH ? 0 : error_errno(err, errno, "signal process %d", pid);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int n;
		while ((n = poll(&p, 1, i == 0 ? (int)grace_ms : 10000)) < 0 && errno == EINTR)
			;
		if (n > 0)
			return 0;
	}
	return error_set(err, ETIMEDOUT, "process %d is still there after SIGKILL", pid);
}
