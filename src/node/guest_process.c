/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The first process of a guest's container, which is nacre-vm. The agent watches it by a pidfd, hears from it by its
 * control socket what the machine does, and tells it to stop.
 */

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "base/util.h"
#include "node/instdir.h"
#include "node/internal.h"

#define CONNECT_MAX_US USEC_PER_SEC
#define KILLED_US      (30 * USEC_PER_SEC) /* until the next look at a guest that was killed */
/* A machine's state is shown at most SHOWN_MAX times in SHOWN_WINDOW_NS; the next time is after that. */
#define SHOWN_MAX       10
#define SHOWN_WINDOW_NS (10 * NSEC_PER_SEC)

void guest_forget_process(struct guest *i) {
	i->client = vmclient_free(i->client);
	i->connect = sd_event_source_disable_unref(i->connect);
	i->show = sd_event_source_disable_unref(i->show);
	i->pid_io = sd_event_source_disable_unref(i->pid_io);
	i->pidfd = safe_close(i->pidfd);
	i->pid = 0;
	i->stop_sent = false;
	i->stop_by_ns = 0;
}

/* ---- the machine, as nacre-vm tells it ---- */

static int on_show(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct guest *i = userdata;

	i->show = sd_event_source_disable_unref(i->show);
	switch (i->vm.state) {
	case VM_STARTING: guest_set_state(i, GUEST_STARTING, "Starting", "QEMU starts"); break;
	case VM_RUNNING: guest_set_state(i, GUEST_RUNNING, "Running", "the machine runs"); break;
	case VM_PAUSED: guest_set_state(i, GUEST_PAUSED, "Paused", "the machine's processors are paused"); break;
	case VM_STOPPING: guest_set_state(i, GUEST_STOPPING, "Stopping", "the machine was asked to shut down"); break;
	case VM_ENDED: break; /* the end of the container reports it */
	}
	return 0;
}

/* Each change is a write to the API, and code in QEMU can cause any number of changes. */
static void guest_on_status(void *userdata, const struct vm_status *status) {
	struct guest *i = userdata;
	uint64_t now = now_monotonic_ns();

	i->vm = *status;
	if (now - i->shown_since_ns >= SHOWN_WINDOW_NS) {
		i->shown_since_ns = now;
		i->shown = 0;
	}
	if (i->show)
		return;
	if (i->shown++ < SHOWN_MAX)
		(void)on_show(NULL, 0, i);
	else if (loop_timer(i->h->c.loop, &i->show, (i->shown_since_ns + SHOWN_WINDOW_NS - now) / 1000, on_show, i) < 0)
		abort();
}

static void on_refused(void *userdata, const char *message) {
	guest_event(userdata, true, "CommandRefused", message);
}

static int on_connect(sd_event_source *s, uint64_t usec, void *userdata);

static void connect_later(struct guest *i) {
	if (loop_timer(i->h->c.loop, &i->connect, i->connect_us, on_connect, i) < 0)
		abort();
	i->connect_us = MIN(2 * i->connect_us, CONNECT_MAX_US);
}

static void guest_on_closed(void *userdata) {
	struct guest *i = userdata;

	i->client = vmclient_free(i->client);
	connect_later(i);
}

static int on_connect(sd_event_source *s, uint64_t usec, void *userdata) {
	(void)s;
	(void)usec;
	static const struct vmclient_ops ops = {
		.status = guest_on_status, .refused = on_refused, .closed = guest_on_closed};
	struct guest *i = userdata;

	/* If nacre-vm is gone, the end of its process is noticed. */
	if (vmclient_new(&i->client, i->h->c.loop, i->dir, &ops, i, NULL) < 0)
		connect_later(i);
	else if (i->want == WANT_YES)
		guest_wake(i, 0);
	return 0;
}

/* ---- its end ---- */

/* A process that is killed because its group's memory ran out can't report that itself. */
static void look_for_memory(struct guest *i, struct vm_status *end) {
	if (end->end != VM_END_KILLED || !cgroup_ran_out_of_memory(i->h->cgroups, i->name))
		return;
	end->end = VM_END_OUT_OF_MEMORY;
	snprintf(end->message, sizeof(end->message),
	         "the machine was killed: its processes needed more memory than it has and QEMU gets in addition");
}

void guest_end_known(struct guest *i, const char *grown) {
	i->ended = false;
	if (grown[0]) {
		i->end.end = VM_END_FORBIDDEN_WRITE;
		snprintf(
			i->end.message, sizeof(i->end.message),
			"%.200s: the guest may have taken QEMU over, so its machine was ended and gets fresh variables",
			grown);
	}
	guest_note_end(i, &i->end);
	guest_wake(i, 0);
}

void guest_ended(struct guest *i) {
	bool has_vars = i->has_vars;

	instdir_end(i->dir, &i->end);
	look_for_memory(i, &i->end);
	guest_forget_process(i);
	/* Nothing runs any more; this removes the pid file. */
	(void)!container_kill(i->dir, NULL);
	if (!has_vars) {
		guest_end_known(i, "");
		return;
	}
	/*
	 * The variables are replaced at the next start, so they must be checked now. A worker does that, because their
	 * disk may be slow.
	 */
	i->ended = true;
	guest_wake(i, 0);
}

static int on_process_end(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)fd;
	(void)revents;
	guest_ended(userdata);
	return 0;
}

int guest_watch(struct guest *i, pid_t pid, struct error *err) {
	pid_t again = 0;

	i->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (i->pidfd < 0 && errno != ESRCH)
		return error_errno(err, errno, "watch the container");
	/* Checked again: in between, the pid might have been given to another process. */
	int r = i->pidfd < 0 ? -ESRCH : container_find(i->dir, &again);
	if (r >= 0 && again == pid) {
		r = sd_event_add_io(i->h->c.loop, &i->pid_io, i->pidfd, EPOLLIN, on_process_end, i);
		if (r >= 0) {
			i->pid = pid;
			i->has_vars = true;
			i->connect_us = 5 * USEC_PER_MSEC;
			connect_later(i);
			return 0;
		}
	}
	i->pidfd = safe_close(i->pidfd);
	if (r < 0 && !container_is_gone(r))
		return error_errno(err, r, "watch the container");
	return error_set(err, ESRCH, "the container has ended");
}

void guest_kill(const struct guest *i) {
	(void)syscall(SYS_pidfd_send_signal, i->pidfd, SIGKILL, NULL, 0);
}

int guest_stop(struct guest *i, struct error *err) {
	uint64_t now = now_monotonic_ns();

	if (!i->stop_by_ns)
		i->stop_by_ns = now + (uint64_t)i->h->c.stop_s * NSEC_PER_SEC;
	if (now >= i->stop_by_ns) {
		guest_event(i, true, "StopForced", "nacre-vm did not end the machine in time, so both are killed");
		guest_kill(i);
		guest_wake(i, KILLED_US);
		return 1;
	}
	guest_wake(i, (i->stop_by_ns - now) / 1000 + 1);
	if (i->stop_sent || !i->client)
		return 0;
	int r = vmclient_command(i->client, "shutdown", err);
	i->stop_sent = r >= 0;
	return r;
}
