/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/machine.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "base/jsonread.h"
#include "base/loop.h"
#include "base/util.h"
#include "vm/console.h"
#include "vm/qemu.h"
#include "vm/qmp.h"

#define LOG_KEEP     ((size_t)1024)
#define KILL_WAIT_US (5 * USEC_PER_SEC) /* from `quit` to SIGKILL */

struct machine {
	struct vm_config config;
	struct machine_ops ops;
	void *userdata;
	sd_event *loop; /* borrowed */
	pid_t pid;
	int log;
	struct qmp *qmp;
	struct console *console;
	sd_event_source *child, *log_io, *timer;
	struct buf last_words; /* the end of QEMU's output to stderr */
	struct vm_status status;
	bool guest_off; /* QEMU said that the guest powered itself off */
	bool cpu_failed;
};

const struct vm_status *machine_status(const struct machine *m) {
	return &m->status;
}

static void machine_set_state(struct machine *m, enum vm_state state) {
	if (m->status.state == state)
		return;
	m->status.state = state;
	m->status.since_us = now_realtime_us();
	m->ops.changed(m->userdata);
}

/* Sets the state after the vCPUs were stopped or resumed; does nothing while the machine is going down. */
static void set_running(struct machine *m, bool running) {
	if (m->status.state < VM_STOPPING)
		machine_set_state(m, running ? VM_RUNNING : VM_PAUSED);
}

/* True if the member KEY of the flat object DATA has the text VALUE (strings with their quotes). */
static bool member_is(const char *data, size_t len, const char *key, const char *value) {
	_cleanup_(jr_done) struct jr r;
	const char *k, *span;
	size_t klen, slen;

	jr_init(&r, data, len);
	if (jr_object(&r) < 0)
		return false;
	while (jr_key(&r, &k, &klen) > 0) {
		if (jr_skip(&r, &span, &slen) < 0)
			return false;
		if (klen == strlen(key) && memcmp(k, key, klen) == 0)
			return slen == strlen(value) && memcmp(span, value, slen) == 0;
	}
	return false;
}

static void on_status(void *userdata, const struct error *err, const char *data, size_t len) {
	struct machine *m = userdata;

	if (err)
		return;
	/* The vCPU did something that the accelerator can't do, or its memory failed. The machine can't continue from
	 * that. */
	if (member_is(data, len, "status", "\"internal-error\"")) {
		m->cpu_failed = true;
		kill(m->pid, SIGKILL);
		return;
	}
	set_running(m, member_is(data, len, "running", "true"));
}

static void machine_on_event(void *userdata, const char *name, const char *data, size_t len) {
	struct machine *m = userdata;

	if (streq(name, "STOP"))
		(void)!qmp_command(m->qmp, "query-status", NULL, on_status, NULL);
	else if (streq(name, "RESUME"))
		set_running(m, true);
	else if (streq(name, "SHUTDOWN"))
		m->guest_off = member_is(data, len, "guest", "true");
	else if (streq(name, "RESET")) {
		m->status.resets++;
		m->ops.changed(m->userdata);
	}
}

static void drain_log(struct machine *m) {
	char text[1024];
	ssize_t n;

	while ((n = read(m->log, text, sizeof(text))) > 0) {
		if (m->last_words.len + (size_t)n > LOG_KEEP)
			buf_reset(&m->last_words);
		buf_add(&m->last_words, text, (size_t)n);
	}
	if (n == 0)
		m->log_io = sd_event_source_disable_unref(m->log_io);
}

static int on_log(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)fd;
	(void)revents;
	drain_log(userdata);
	return 0;
}

/* The last line of QEMU's output, with only printable characters. */
static const char *last_line(struct machine *m) {
	struct buf *b = &m->last_words;

	while (b->len && b->data[b->len - 1] == '\n')
		b->data[--b->len] = 0;
	if (!b->len)
		return "QEMU left no message";
	char *nl = strrchr(b->data, '\n'), *line = nl ? nl + 1 : b->data;
	vm_status_plain(line);
	return line;
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
	(void)s;
	struct machine *m = userdata;
	bool asked = m->status.state == VM_STOPPING, killed = si->si_code != CLD_EXITED;

	drain_log(m);
	m->timer = sd_event_source_disable_unref(m->timer);
	if (m->cpu_failed) {
		m->status.end = VM_END_CPU_FAILED;
		snprintf(m->status.message, sizeof(m->status.message),
		         "the processor stopped with an internal error: %.300s", last_line(m));
	} else if (asked) {
		m->status.end = VM_END_STOPPED;
		snprintf(m->status.message, sizeof(m->status.message), "the machine was stopped as asked");
	} else if (killed && si->si_status == SIGSYS) {
		m->status.end = VM_END_FORBIDDEN;
		snprintf(m->status.message, sizeof(m->status.message),
		         "QEMU was killed for a system call that no machine needs: the guest may have taken it over");
	} else if (killed) {
		/* After SIGKILL, QEMU's last line does not explain the end. SIGABRT comes from QEMU itself, and the
		 * line says why. */
		m->status.end = si->si_status == SIGABRT ? VM_END_FAILED : VM_END_KILLED;
		bool words = si->si_status != SIGKILL && m->last_words.len;
		snprintf(m->status.message, sizeof(m->status.message), "QEMU was killed by signal %d (%s)%s%.300s",
		         si->si_status, strsignal(si->si_status), words ? ": " : "", words ? last_line(m) : "");
	} else if (si->si_status == 0 && m->guest_off) {
		m->status.end = VM_END_POWERED_OFF;
		snprintf(m->status.message, sizeof(m->status.message), "the guest powered itself off");
	} else {
		m->status.end = VM_END_FAILED;
		snprintf(m->status.message, sizeof(m->status.message), "QEMU exited with status %d: %.300s",
		         si->si_status, last_line(m));
	}
	m->pid = 0;
	machine_set_state(m, VM_ENDED);
	m->ops.ended(m->userdata);
	return 0;
}

static int on_late(sd_event_source *s, uint64_t usec, void *userdata) {
	(void)s;
	(void)usec;
	struct machine *m = userdata;

	kill(m->pid, SIGKILL);
	return 0;
}

static int power_off(struct machine *m) {
	machine_set_state(m, VM_STOPPING);
	if (qmp_command(m->qmp, "quit", NULL, NULL, NULL) < 0)
		kill(m->pid, SIGKILL);
	return loop_timer(m->loop, &m->timer, KILL_WAIT_US, on_late, m);
}

static int on_grace_over(sd_event_source *s, uint64_t usec, void *userdata) {
	(void)s;
	(void)usec;
	struct machine *m = userdata;

	m->timer = sd_event_source_disable_unref(m->timer);
	return power_off(m);
}

/* Without its monitor (QEMU may be ending) the machine can't be controlled. */
static void on_closed(void *userdata, const struct error *err) {
	(void)err;
	struct machine *m = userdata;

	if (m->pid && !m->timer)
		(void)!loop_timer(m->loop, &m->timer, KILL_WAIT_US, on_late, m);
}

int machine_command(struct machine *m, const char *name, struct error *err) {
	if (m->status.state == VM_ENDED)
		return error_set(err, ESRCH, "the machine has ended");
	if (streq(name, "reset"))
		return qmp_command(m->qmp, "system_reset", NULL, NULL, err);
	if (streq(name, "poweroff")) {
		m->timer = sd_event_source_disable_unref(m->timer);
		return power_off(m);
	}
	if (!streq(name, "shutdown"))
		return error_set(err, EINVAL, "command `%s` is not shutdown, poweroff or reset", name);
	if (m->status.state == VM_STOPPING)
		return 0;
	machine_set_state(m, VM_STOPPING);
	int r = qmp_command(m->qmp, "system_powerdown", NULL, NULL, err);
	if (r < 0)
		return r;
	return loop_timer(m->loop, &m->timer, (uint64_t)m->config.grace_s * USEC_PER_SEC, on_grace_over, m);
}

int machine_new(struct machine **ret, sd_event *loop, const struct vm_config *config, int tap_fd, int console_listen_fd,
                const struct machine_ops *ops, void *userdata, struct error *err) {
	static const struct qmp_ops monitor = {.event = machine_on_event, .closed = on_closed};
	_cleanup_(cleanup_machine) struct machine *m = calloc(1, sizeof(*m));
	_close_ int listen = console_listen_fd, tap = tap_fd;
	struct qemu_process p;

	if (!m)
		return error_oom(err);
	*m = (struct machine){.config = *config, .ops = *ops, .userdata = userdata, .loop = loop, .log = -1};
	m->last_words.max = 2 * LOG_KEEP;
	m->status.since_us = now_realtime_us();
	int r = qemu_start(config, tap, &p, err);
	if (r < 0)
		return r;
	m->pid = p.pid;
	m->log = p.log;
	r = console_new(&m->console, loop, p.serial, TAKE_FD(listen), err);
	if (r < 0) {
		close(p.qmp);
		return r;
	}
	r = qmp_new(&m->qmp, loop, p.qmp, &monitor, m, err);
	if (r < 0)
		return r;
	r = sd_event_add_child(loop, &m->child, m->pid, WEXITED, on_child, m);
	if (r >= 0)
		r = sd_event_add_io(loop, &m->log_io, m->log, EPOLLIN, on_log, m);
	/* The end of QEMU is handled last, after its output was read. */
	if (r >= 0)
		r = sd_event_source_set_priority(m->child, SD_EVENT_PRIORITY_IDLE);
	if (r < 0)
		return error_errno(err, r, "watch QEMU");
	r = qmp_command(m->qmp, "query-status", NULL, on_status, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

struct machine *machine_free(struct machine *m) {
	if (!m)
		return NULL;
	sd_event_source_disable_unref(m->child);
	sd_event_source_disable_unref(m->log_io);
	sd_event_source_disable_unref(m->timer);
	if (m->pid) {
		kill(m->pid, SIGKILL);
		while (waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	qmp_free(m->qmp);
	console_free(m->console);
	safe_close(m->log);
	buf_free(&m->last_words);
	free(m);
	return NULL;
}
