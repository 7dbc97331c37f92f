/* SPDX-License-Identifier: Apache-2.0 */
#include "node/hypervisor.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/job.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/tree.h"
#include "base/util.h"
#include "net/link.h"
#include "net/netns.h"
#include "node/instdir.h"
#include "node/kvmprobe.h"
#include "node/look.h"
#include "node/removed.h"
#include "node/room.h"
#include "node/vmclient.h"

#define LOOK_PRIORITY  (SD_EVENT_PRIORITY_NORMAL + 20) /* after all else in the loop */
#define RESYNC_US      (30 * USEC_PER_SEC)             /* between looks at an instance that nothing happened to */
#define ROOM_US        USEC_PER_SEC                    /* between looks at what guests store */
#define RETRY_MAX_US   (30 * USEC_PER_SEC)
#define RESTART_MAX_US (60 * USEC_PER_SEC)
#define STABLE_NS      (30 * NSEC_PER_SEC) /* a machine that ran so long starts again at once */
#define CONNECT_MAX_US USEC_PER_SEC
/* A machine's state is shown so often in so long; then not before that is over. */
#define SHOWN_MAX       10
#define SHOWN_WINDOW_NS (10 * NSEC_PER_SEC)
#define SLOTS_MAX       CONTAINER_USERS
/* Worker processes, of which each has one guest. Most of their time they wait for disks. */
#define WORKERS_MAX  16
#define LOOK_MAX_MS  120000
#define SWEEP_MAX_MS 600000
#define PROBE_MAX_MS (KVMPROBE_MS + 60000) /* with what it makes and removes */

enum want { WANT_UNKNOWN, WANT_YES, WANT_NO };

struct guest {
	RB_ENTRY(guest) entry;
	struct hypervisor *h;
	char uid[37], id[INSTNET_ID_LEN + 1];
	char *dir, *state_dir; /* node/instdir.h */
	uid_t user;            /* QEMU's; 0: none chosen yet */
	enum want want;        /* unknown: adopted, and nobody has said yet */
	bool asked;            /* somebody deleted it */
	struct guest_spec spec;
	struct guest_state state;
	/* The last event while nobody had spoken of it; whoever hears of events doesn't know its Instance either. */
	struct {
		bool warning;
		char reason[32];
		char *message; /* NULL: there is none */
	} untold;
	uint64_t nft_state;

	sd_event_source *wake; /* look at it again */
	struct job *job;       /* a look at it; NULL: none is under way */
	bool again;            /* something happened that this look has not seen */
	unsigned failures;     /* of looks at it, in a row */

	pid_t pid; /* first process of its container; 0: none */
	int pidfd;
	sd_event_source *pid_io;
	uint64_t started_ns, not_before_ns;
	unsigned crashes; /* in a row */
	bool stop_sent;
	uint64_t stop_by_ns; /* 0: it need not stop */

	struct vmclient *client;
	sd_event_source *connect;
	uint64_t connect_us; /* delay before the next attempt */
	struct vm_status vm; /* as told by nacre-vm */
	sd_event_source *show;
	uint64_t shown_since_ns; /* the window */
	unsigned shown;          /* times in it */
};

RB_HEAD(guests, guest);

struct hypervisor {
	struct hypervisor_config c;
	char *run_dir, *state_dir, *prefix, *program;
	int lock, state_lock;
	struct cgroups *cgroups;
	struct removed *removed;
	struct jobs *jobs;
	struct job *probe; /* whether KVM works is just found out; NULL: that is decided */
	struct job *sweep; /* no guest is looked at meanwhile */
	bool (*keep)(void *userdata, const char *uid);
	void *keep_userdata;
	struct error no_kvm; /* why not, where that was to be found out */
	struct look_host host;
	struct guests all;
	uint64_t restarts;
	struct nl *links; /* notifications of devices in `public` */
	sd_event_source *links_io;
	sd_event_source *room_timer;
};

static int compare(const struct guest *a, const struct guest *b) {
	return strcmp(a->uid, b->uid);
}
RB_GENERATE_INTERNAL(guests, guest, entry, compare, _unused_ static);

static const char *const phase_names[] = {
	[GUEST_PENDING] = "Starting", [GUEST_STARTING] = "Starting", [GUEST_RUNNING] = "Running",
	[GUEST_PAUSED] = "Running",   [GUEST_STOPPING] = "Running",  [GUEST_STOPPED] = "Stopped",
	[GUEST_FAILED] = "Failed",
};

const char *guest_phase_name(enum guest_phase phase) {
	return phase_names[phase];
}

static struct guest *find(const struct hypervisor *h, const char *uid) {
	struct guest key;

	snprintf(key.uid, sizeof(key.uid), "%s", uid);
	return RB_FIND(guests, (struct guests *)&h->all, &key);
}

static void forget_process(struct guest *i) {
	i->client = vmclient_free(i->client);
	i->connect = sd_event_source_disable_unref(i->connect);
	i->show = sd_event_source_disable_unref(i->show);
	i->pid_io = sd_event_source_disable_unref(i->pid_io);
	i->pidfd = safe_close(i->pidfd);
	i->pid = 0;
	i->stop_sent = false;
	i->stop_by_ns = 0;
}

static void guest_free(struct guest *i) {
	if (!i)
		return;
	forget_process(i);
	sd_event_source_disable_unref(i->wake);
	free(i->untold.message);
	free(i->dir);
	free(i->state_dir);
	free(i);
}
DEFINE_CLEANUP(guest, struct guest *, guest_free)

static void set_state(struct guest *i, enum guest_phase phase, const char *reason, const char *message) {
	struct guest_state *s = &i->state;

	if (s->phase == phase && streq(s->reason, reason) && streq(s->message, message))
		return;
	s->phase = phase;
	snprintf(s->reason, sizeof(s->reason), "%s", reason);
	snprintf(s->message, sizeof(s->message), "%.*s", (int)sizeof(s->message) - 1, message);
	/* The cut may have gone through a character, which no JSON may hold. */
	for (char *p = s->message; strlen(message) >= sizeof(s->message) && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	i->h->c.ops.changed(i->h->c.userdata, i->uid);
}

static void event(struct guest *i, bool warning, const char *reason, const char *message) {
	if (i->want != WANT_UNKNOWN) {
		i->h->c.ops.event(i->h->c.userdata, i->uid, warning, reason, message);
		return;
	}
	free(i->untold.message);
	i->untold.message = strdup(message);
	i->untold.warning = warning;
	snprintf(i->untold.reason, sizeof(i->untold.reason), "%s", reason);
}

static void tell_untold(struct guest *i) {
	_free_ char *message = TAKE_PTR(i->untold.message);

	if (message)
		event(i, i->untold.warning, i->untold.reason, message);
}

/* Its control group is called as its network namespace, so that agents of one machine have names of their own. */
static const char *cgroup_name(const struct guest *i, char out[static INSTNET_NAME_MAX]) {
	return instnet_netns(i->h->prefix, i->id, out);
}

static int on_wake(sd_event_source *s, uint64_t usec, void *userdata);

/*
 * The earliest of several times counts. Without memory for a timer nothing can be done any more, and a new process
 * adopts what is there. Many guests may end at once: the host's lease and what is told of each guest come before looks.
 */
static void wake(struct guest *i, uint64_t delay_us) {
	uint64_t now = now_monotonic_ns() / 1000, at;
	int on = SD_EVENT_OFF;

	if (i->wake && sd_event_source_get_enabled(i->wake, &on) > 0 && on != SD_EVENT_OFF &&
	    sd_event_source_get_time(i->wake, &at) >= 0 && at <= now + delay_us)
		return;
	if (loop_timer(i->h->c.loop, &i->wake, delay_us, on_wake, i) < 0 ||
	    sd_event_source_set_priority(i->wake, LOOK_PRIORITY) < 0)
		abort();
}

/* ---- the machine, as nacre-vm tells it ---- */

static int on_show(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct guest *i = userdata;

	i->show = sd_event_source_disable_unref(i->show);
	switch (i->vm.state) {
	case VM_STARTING: set_state(i, GUEST_STARTING, "Starting", "QEMU starts"); break;
	case VM_RUNNING: set_state(i, GUEST_RUNNING, "Running", "the machine runs"); break;
	case VM_PAUSED: set_state(i, GUEST_PAUSED, "Paused", "the machine's processors are paused"); break;
	case VM_STOPPING: set_state(i, GUEST_STOPPING, "Stopping", "the machine was asked to shut down"); break;
	case VM_ENDED: break; /* the end of the container says it */
	}
	return 0;
}

/* Each change is a write to the API, and code in QEMU can make any number of them. */
static void on_status(void *userdata, const struct vm_status *status) {
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
	event(userdata, true, "CommandRefused", message);
}

static int on_connect(sd_event_source *s, uint64_t usec, void *userdata);

static void connect_later(struct guest *i) {
	if (loop_timer(i->h->c.loop, &i->connect, i->connect_us, on_connect, i) < 0)
		abort();
	i->connect_us = MIN(2 * i->connect_us, CONNECT_MAX_US);
}

static void on_closed(void *userdata) {
	struct guest *i = userdata;

	i->client = vmclient_free(i->client);
	connect_later(i);
}

static int on_connect(sd_event_source *s, uint64_t usec, void *userdata) {
	(void)s;
	(void)usec;
	static const struct vmclient_ops ops = {.status = on_status, .refused = on_refused, .closed = on_closed};
	struct guest *i = userdata;

	/* When nacre-vm is gone, the end of its process tells. */
	if (vmclient_new(&i->client, i->h->c.loop, i->dir, &ops, i, NULL) < 0)
		connect_later(i);
	else if (i->want == WANT_YES)
		wake(i, 0);
	return 0;
}

/* ---- the end of a machine, and the next start ---- */

static void note_end(struct guest *i, const struct vm_status *end) {
	char message[512];
	bool stopped = i->want != WANT_UNKNOWN && !i->spec.running;

	if (stopped) {
		set_state(i, GUEST_STOPPED, "Stopped", end->message);
		event(i, false, "Stopped", end->message);
		return;
	}
	uint64_t now = now_monotonic_ns(), delay_us = 0;
	if (i->started_ns && now - i->started_ns >= STABLE_NS)
		i->crashes = 0;
	if (i->crashes)
		delay_us = USEC_PER_SEC << MIN(i->crashes - 1, 10U);
	delay_us = MIN(delay_us, RESTART_MAX_US);
	i->crashes++;
	i->not_before_ns = now + delay_us * 1000;
	if (end->end == VM_END_STOPPED && !delay_us) {
		/* It shall run again by now. */
		event(i, false, "Stopped", end->message);
		return;
	}
	i->state.restarts++;
	i->h->restarts++;
	if (delay_us)
		snprintf(message, sizeof(message), "%s; it is started again in %llu s", end->message,
		         (unsigned long long)(delay_us / USEC_PER_SEC));
	else
		snprintf(message, sizeof(message), "%s; it is started again", end->message);
	set_state(i, delay_us ? GUEST_FAILED : GUEST_STARTING, vm_end_name(end->end), message);
	event(i, end->end != VM_END_POWERED_OFF && end->end != VM_END_STOPPED, vm_end_name(end->end), message);
}

/* A process that is killed for its group's want of memory can't tell. */
static void look_for_memory(struct guest *i, struct vm_status *end) {
	char name[INSTNET_NAME_MAX];

	if (end->end != VM_END_KILLED || !cgroup_ran_out_of_memory(i->h->cgroups, cgroup_name(i, name)))
		return;
	end->end = VM_END_OUT_OF_MEMORY;
	snprintf(end->message, sizeof(end->message),
	         "the machine was killed: its processes needed more than its memory and what QEMU is given beside it");
}

/* Killed for it or not: the variables are replaced at the next start, so this is the last chance to tell. */
static void look_for_growth(const struct guest *i, struct vm_status *end) {
	struct error grown;

	if (room_check_vars(i->state_dir, &grown) != -EFBIG)
		return;
	end->end = VM_END_FORBIDDEN_WRITE;
	snprintf(end->message, sizeof(end->message),
	         "%.200s: the guest may have taken QEMU over, so its machine was ended and gets fresh variables",
	         grown.msg);
}

/* The first process of its container is no more. */
static void guest_ended(struct guest *i) {
	struct vm_status end;
	struct error err;

	instdir_end(i->dir, &end);
	look_for_memory(i, &end);
	look_for_growth(i, &end);
	forget_process(i);
	/* Nothing runs; this removes its pid file. */
	(void)!container_kill(i->dir, &err);
	note_end(i, &end);
	wake(i, 0);
}

static int on_process_end(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)fd;
	(void)revents;
	guest_ended(userdata);
	return 0;
}

/* -ESRCH: it is gone. On any other failure it may be there, and is found again by the next look. */
static int watch(struct guest *i, pid_t pid, struct error *err) {
	pid_t again = 0;

	i->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (i->pidfd < 0 && errno != ESRCH)
		return error_errno(err, errno, "watch the container");
	/* Looked at once more: between the two the pid might have become another's. */
	int r = i->pidfd < 0 ? -ESRCH : container_find(i->dir, &again);
	if (r >= 0 && again == pid) {
		r = sd_event_add_io(i->h->c.loop, &i->pid_io, i->pidfd, EPOLLIN, on_process_end, i);
		if (r >= 0) {
			i->pid = pid;
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

static void choose_user(struct guest *i) {
	struct hypervisor *h = i->h;

	if (i->user || instdir_uid(i->dir, &i->user) == 0)
		return;
	for (uid_t slot = 1; slot < SLOTS_MAX; slot++) {
		uid_t user = h->c.uid_base + slot;
		struct guest *other;
		bool taken = false;
		/* Those of an agent that was started with another --uid-base may be anywhere. */
		RB_FOREACH (other, guests, &h->all)
			taken |= other->user == user || other->user == container_root(user) ||
			         container_root(other->user) == user;
		if (!taken) {
			i->user = user;
			return;
		}
	}
}

/* ---- making it so ---- */

static void kill_process(const struct guest *i) {
	(void)syscall(SYS_pidfd_send_signal, i->pidfd, SIGKILL, NULL, 0);
}

/*
 * nacre-vm is asked to, and killed where it doesn't: code of the guest's may have taken it over, or it hangs. 1: it has
 * been killed, and its end tells the rest.
 */
static int stop(struct guest *i, struct error *err) {
	uint64_t now = now_monotonic_ns();

	if (!i->stop_by_ns)
		i->stop_by_ns = now + (uint64_t)i->h->c.stop_s * NSEC_PER_SEC;
	if (now >= i->stop_by_ns) {
		event(i, true, "StopForced", "nacre-vm did not end the machine in time, so both are killed");
		kill_process(i);
		wake(i, RESYNC_US);
		return 1;
	}
	wake(i, (i->stop_by_ns - now) / 1000 + 1);
	if (i->stop_sent || !i->client)
		return 0;
	int r = vmclient_command(i->client, "shutdown", err);
	i->stop_sent = r >= 0;
	return r;
}

static void look_failed(struct guest *i, const char *reason, const struct error *err) {
	uint64_t delay = (USEC_PER_SEC / 4) << MIN(i->failures, 10U);

	wake(i, MIN(delay, RETRY_MAX_US));
	if (i->failures++ == 0 || !streq(i->state.message, err->msg))
		event(i, true, reason, err->msg);
	/* What runs goes on running, though something about it can't be put right. */
	if (!i->pid)
		set_state(i, GUEST_FAILED, reason, err->msg);
}

/* The worker sees the guest as it is when it starts. */
static int look_in_worker(void *arg, void *result, struct error *err) {
	const struct guest *i = arg;
	const struct look l = {.host = &i->h->host,
	                       .uid = i->uid,
	                       .id = i->id,
	                       .dir = i->dir,
	                       .state_dir = i->state_dir,
	                       .user = i->user,
	                       .pid = i->pid,
	                       .may_start = !i->h->probe && now_monotonic_ns() >= i->not_before_ns,
	                       .nft_state = i->nft_state,
	                       .asked = i->asked,
	                       .spec = &i->spec};

	return i->want == WANT_NO ? look_remove(&l, result, err) : look_ensure(&l, result, err);
}

/* Watches what the worker has found or started. False if the look has failed by that. */
static bool look_watch(struct guest *i, const struct look_result *l) {
	struct error err = {0};

	i->started_ns = l->started ? now_monotonic_ns() : i->started_ns;
	int r = watch(i, l->pid, &err);
	if (r < 0 && r != -ESRCH) {
		look_failed(i, l->started ? "StartFailed" : "AdoptionFailed", &err);
		return false;
	}
	if (l->started) {
		set_state(i, GUEST_STARTING, "Starting", "QEMU starts");
		event(i, false, "Started",
		      i->h->host.kvm ? "started with KVM" : "started with software emulation (TCG)");
		if (r < 0)
			guest_ended(i);
	} else if (r < 0 || !i->spec.running) {
		wake(i, 0);
	}
	return true;
}

/* What is left to do once all that it needs is there. */
static void look_settle(struct guest *i) {
	uint64_t now = now_monotonic_ns();

	if (i->spec.running)
		i->stop_by_ns = 0;
	if (i->pid)
		return;
	if (!i->spec.running) {
		i->stop_by_ns = 0;
		if (i->state.phase != GUEST_STOPPED)
			set_state(i, GUEST_STOPPED, "Stopped", "spec.running is false");
		i->crashes = 0;
	} else if (!i->h->probe) {
		wake(i, now < i->not_before_ns ? (i->not_before_ns - now) / 1000 + 1 : 0);
	}
}

static void look_ensured(struct guest *i, int r, const struct look_result *l, const struct error *err) {
	i->nft_state = l->nft_state;
	if (l->connected && !i->state.connected) {
		i->state.connected = true;
		i->h->c.ops.changed(i->h->c.userdata, i->uid);
	}
	if (l->pid && !i->pid && !look_watch(i, l))
		return;
	if (r < 0) {
		look_failed(i, l->reason, err);
		return;
	}
	i->failures = 0;
	if (l->network_lost && i->pid) {
		/* Nothing reaches it there. Its end starts it again. */
		event(i, true, "NetworkLost", "its network namespace was replaced, so it is started again");
		kill_process(i);
		return;
	}
	look_settle(i);
}

static void look_removed(struct guest *i, int r, const struct look_result *l, const struct error *err) {
	struct hypervisor *h = i->h;
	struct guest_spec spec;
	char uid[37];

	removed_wake(h->removed);
	if (r < 0) {
		look_failed(i, l->reason, err);
		return;
	}
	bool again = i->want == WANT_YES;
	memcpy(&spec, &i->spec, sizeof(spec));
	memcpy(uid, i->uid, sizeof(uid));
	RB_REMOVE(guests, &h->all, i);
	guest_free(i);
	h->c.ops.gone(h->c.userdata, uid);
	/* It was wanted again while it went. */
	if (again && hypervisor_put(h, &spec, NULL) < 0)
		abort();
}

static void on_look(void *userdata, int r, const void *result, const struct error *err) {
	struct guest *i = userdata;

	i->job = NULL;
	if (i->again || r == -ECANCELED)
		wake(i, 0);
	i->again = false;
	wake(i, RESYNC_US);
	if (r == -ECANCELED)
		return;
	if (!result)
		look_failed(i, "WorkerFailed", err);
	else if (((const struct look_result *)result)->removed)
		look_removed(i, r, result, err);
	else
		look_ensured(i, r, result, err);
}

static int on_wake(sd_event_source *source, uint64_t usec, void *userdata) {
	(void)source;
	(void)usec;
	struct guest *i = userdata;
	struct job_spec spec = {.fn = look_in_worker,
	                        .arg = i,
	                        .result_size = sizeof(struct look_result),
	                        .keep = {i->h->host.public_fd},
	                        .n_keep = 1,
	                        .timeout_ms = LOOK_MAX_MS,
	                        .done = on_look,
	                        .userdata = i};
	struct error err = {0};

	if (i->want == WANT_UNKNOWN)
		return 0;
	/* What ends a machine need not wait for a worker's turn. */
	if (i->want == WANT_NO) {
		if (i->pid)
			kill_process(i);
		forget_process(i);
	} else if (i->pid && !i->spec.running) {
		int r = stop(i, &err);
		if (r < 0)
			look_failed(i, "StopFailed", &err);
		if (r != 0)
			return 0;
	}
	/* The end of the sweep wakes all. */
	if (i->h->sweep)
		return 0;
	if (i->job) {
		i->again |= job_is_running(i->job);
		return 0;
	}
	choose_user(i);
	if (job_start(i->h->jobs, &spec, &i->job, &err) < 0)
		look_failed(i, "WorkerFailed", &err);
	return 0;
}

static int add(struct hypervisor *h, const char *uid, struct guest **ret, struct error *err) {
	_cleanup_(cleanup_guest) struct guest *i = calloc(1, sizeof(*i));

	if (!i)
		return error_oom(err);
	i->h = h;
	i->pidfd = -1;
	i->dir = strf("%s/instances/%s", h->run_dir, uid);
	i->state_dir = strf("%s/instances/%s", h->state_dir, uid);
	if (!i->dir || !i->state_dir)
		return error_oom(err);
	if (!instnet_id(uid, i->id))
		return error_set(err, EINVAL, "uid `%s` is not a UUID", uid);
	snprintf(i->uid, sizeof(i->uid), "%s", uid);
	set_state(i, GUEST_PENDING, "Pending", "it has not been looked at yet");
	RB_INSERT(guests, &h->all, i);
	*ret = TAKE_PTR(i);
	return 0;
}

int hypervisor_put(struct hypervisor *h, const struct guest_spec *spec, struct error *err) {
	struct guest *i = find(h, spec->uid);
	int r;

	if (!i && (r = add(h, spec->uid, &i, err)) < 0)
		return r;
	/* All of a spec is zeroed before it is filled in, padding too (node/desired.c). */
	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c) */
	bool same = i->want == WANT_YES && memcmp(&i->spec, spec, sizeof(*spec)) == 0;
	memcpy(&i->spec, spec, sizeof(*spec));
	i->want = WANT_YES;
	i->asked = false;
	tell_untold(i);
	if (!same) {
		i->stop_sent = false;
		wake(i, 0);
	}
	return 0;
}

void hypervisor_remove(struct hypervisor *h, const char *uid, bool asked) {
	struct guest *i = find(h, uid);

	if (!i)
		return;
	i->asked |= asked;
	if (i->want == WANT_NO)
		return;
	i->want = WANT_NO;
	/* A start is broken off. */
	if (i->job && job_is_running(i->job))
		job_cancel(i->job);
	wake(i, 0);
}

/* NAME is that of a namespace or control group. */
static bool is_known_name(void *userdata, const char *name) {
	struct hypervisor *h = userdata;
	const char *id = instnet_id_of_netns(h->prefix, name);
	struct guest *i;

	/* What isn't an instance's is none of our business. */
	if (!id)
		return true;
	RB_FOREACH (i, guests, &h->all)
		if (streq(i->id, id))
			return true;
	return false;
}

static int sweep_networks(struct hypervisor *h, const char *begin, struct error *err) {
	_nl_free_ struct nl *public = NULL;
	char **names = NULL;
	size_t n = 0;
	int r = nl_open(&public, h->host.public_fd, err);

	if (r >= 0)
		r = netns_list(begin, &names, &n, err);
	if (r < 0)
		return r;
	for (size_t k = 0; k < n; k++)
		if (!is_known_name(h, names[k]))
			(void)!instnet_remove(h->prefix, instnet_id_of_netns(h->prefix, names[k]), public, NULL);
	netns_list_free(names, n);
	return 0;
}

/* Disks of instances that were deleted while this host was off: then RUN_DIR knew nothing of them. */
static void sweep_disks(struct hypervisor *h) {
	_free_ char *path = strf("%s/instances", h->state_dir);
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char id[INSTNET_ID_LEN + 1];
		if (instnet_id(e->d_name, id) && !find(h, e->d_name) && !h->keep(h->keep_userdata, e->d_name))
			(void)!removed_put(h->removed, e->d_name, false, NULL);
	}
	if (dir)
		closedir(dir);
}

static int sweep_in_worker(void *arg, void *result, struct error *err) {
	(void)result;
	struct hypervisor *h = arg;
	char begin[INSTNET_NAME_MAX];

	instnet_netns_begin(h->prefix, begin);
	int r = sweep_networks(h, begin, err);
	(void)!cgroups_sweep(h->cgroups, begin, is_known_name, h, NULL);
	sweep_disks(h);
	return r;
}

static void on_sweep(void *userdata, int r, const void *result, const struct error *err) {
	(void)result;
	struct hypervisor *h = userdata;
	struct guest *i;

	if (r < 0)
		log_warn("what is left of instances that are gone was not all removed; the next start of the agent "
		         "tries again",
		         "error=\"%s\"", err->msg);
	h->sweep = NULL;
	removed_wake(h->removed);
	RB_FOREACH (i, guests, &h->all)
		wake(i, 0);
}

void hypervisor_sweep(struct hypervisor *h, bool (*keep)(void *userdata, const char *uid), void *userdata) {
	const struct job_spec spec = {.fn = sweep_in_worker,
	                              .arg = h,
	                              .keep = {h->host.public_fd},
	                              .n_keep = 1,
	                              .timeout_ms = SWEEP_MAX_MS,
	                              .done = on_sweep,
	                              .userdata = h};
	struct guest *i;

	RB_FOREACH (i, guests, &h->all)
		if (i->want == WANT_UNKNOWN && !keep(userdata, i->uid)) {
			i->want = WANT_NO;
			wake(i, 0);
		}
	h->keep = keep;
	h->keep_userdata = userdata;
	/* No look is under way, which might be making what this takes for left over. */
	if (!h->sweep && job_start(h->jobs, &spec, &h->sweep, NULL) < 0)
		abort();
}

const struct guest_state *hypervisor_state(const struct hypervisor *h, const char *uid) {
	struct guest *i = find(h, uid);

	return i ? &i->state : NULL;
}

bool hypervisor_uses_kvm(const struct hypervisor *h, const char **ret_why_not) {
	*ret_why_not = h->no_kvm.msg;
	return h->host.kvm;
}

bool hypervisor_is_settled(const struct hypervisor *h) {
	return !h->probe && !h->sweep;
}

unsigned hypervisor_missing_controllers(const struct hypervisor *h) {
	return cgroups_missing(h->cgroups);
}

void hypervisor_stats(const struct hypervisor *h, struct hypervisor_stats *ret) {
	struct guest *i;

	*ret = (struct hypervisor_stats){.restarts = h->restarts};
	RB_FOREACH (i, guests, (struct guests *)&h->all) {
		ret->guests++;
		ret->running += i->state.phase >= GUEST_RUNNING && i->state.phase <= GUEST_STOPPING;
	}
}

/* ---- adopting, and being told of changes behind one's back ---- */

static int adopt(struct hypervisor *h, struct error *err) {
	_free_ char *path = strf("%s/instances", h->run_dir);
	struct dirent *e;
	struct guest *i;
	pid_t pid;
	int r = 0;

	if (!path)
		return error_oom(err);
	DIR *dir = opendir(path);
	if (!dir)
		return error_errno(err, errno, "open `%s`", path);
	while (r >= 0 && (e = readdir(dir))) {
		char id[INSTNET_ID_LEN + 1];
		if (e->d_type != DT_DIR || !instnet_id(e->d_name, id))
			continue;
		r = add(h, e->d_name, &i, err);
		if (r < 0)
			break;
		(void)!instdir_uid(i->dir, &i->user);
		/* One that can't be watched now is taken up by the first look at it. */
		if (container_find(i->dir, &pid) == 0)
			(void)!watch(i, pid, err);
	}
	closedir(dir);
	return r;
}

static int on_link(const struct nlmsghdr *m, void *userdata) {
	struct hypervisor *h = userdata;
	struct guest *i;
	struct link l;
	const char *id;

	if (m->nlmsg_type != RTM_NEWLINK && m->nlmsg_type != RTM_DELLINK)
		return 0;
	link_decode(m, &l);
	id = instnet_id_of_device(l.name);
	if (!id || (m->nlmsg_type == RTM_NEWLINK && (l.flags & IFF_UP)))
		return 0;
	RB_FOREACH (i, guests, &h->all)
		if (i->want == WANT_YES && streq(id, i->id))
			wake(i, 0);
	return 0;
}

static int on_links_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)fd;
	(void)revents;
	struct hypervisor *h = userdata;
	struct guest *i;

	/* Lost notifications (-ENOBUFS): look at all. */
	if (nl_receive(h->links, on_link, h, NULL) < 0)
		RB_FOREACH (i, guests, &h->all)
			if (i->want == WANT_YES)
				wake(i, 0);
	return 0;
}

/* A machine that stores more than it needs is killed; on_process_end() tells why. */
static int on_room(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct hypervisor *h = userdata;
	struct guest *i;

	RB_FOREACH (i, guests, &h->all)
		if (i->pid && room_check_vars(i->state_dir, NULL) == -EFBIG)
			kill_process(i);
	if (loop_timer(h->c.loop, &h->room_timer, ROOM_US, on_room, h) < 0)
		abort();
	return 0;
}

/* Makes DIR/instances and locks DIR. */
static int take_dir(const char *dir, int *lock_fd, struct error *err) {
	_free_ char *instances = strf("%s/instances", dir), *lock = strf("%s/lock", dir);

	if (!instances || !lock)
		return error_oom(err);
	int r = mkdir_p(dir, 0755, err);
	if (r >= 0)
		r = mkdir_p(instances, 0700, err);
	if (r < 0)
		return r;
	r = lock_path(lock, O_RDWR | O_CREAT, false, lock_fd, err);
	return r == -EBUSY ? error_set(err, EBUSY,
	                               "another agent works in `%s`; give each a --run-dir and a --state-dir of its "
	                               "own",
	                               dir)
	                   : r;
}

static int find_cgroups(struct hypervisor *h, struct error *err) {
	char names[32];
	int r = cgroups_new(&h->cgroups, err);

	if (r < 0)
		return r;
	unsigned missing = cgroups_missing(h->cgroups) & CGROUP_BOUNDS;
	if (h->c.require_cgroups && missing)
		return error_set(
			err, EOPNOTSUPP,
			"this host has no control groups for %s, which are required: mount the whole hierarchy "
			"(in a Pod, the host's /sys/fs/cgroup), or leave out --require-cgroups",
			cgroups_names(missing, names));
	return 0;
}

static int probe_in_worker(void *arg, void *result, struct error *err) {
	(void)result;
	const struct hypervisor *h = arg;
	const struct kvmprobe_config c = {.run_dir = h->run_dir,
	                                  .prefix = h->prefix,
	                                  .program = h->program,
	                                  .uid = h->c.uid_base + SLOTS_MAX,
	                                  .cgroups = h->cgroups};

	return h->c.accel == HYPERVISOR_AUTO ? kvmprobe(&c, err) : kvmprobe_clear(&c, err);
}

static void on_probe(void *userdata, int r, const void *result, const struct error *err) {
	(void)result;
	struct hypervisor *h = userdata;
	struct error why;
	struct guest *i;

	/* Guests get software emulation only where KVM is known to fail. */
	if (h->c.accel == HYPERVISOR_AUTO && r < 0 && r != -EOPNOTSUPP) {
		error_set(&why, -r, "whether KVM works is not known: %.400s; start again, or with --accel kvm",
		          err->msg);
		h->c.ops.failed(h->c.userdata, &why);
		return;
	}
	h->probe = NULL;
	if (h->c.accel == HYPERVISOR_AUTO) {
		h->host.kvm = r == 0;
		h->no_kvm = r < 0 ? *err : (struct error){0};
	}
	RB_FOREACH (i, guests, &h->all)
		wake(i, 0);
}

/* Finds out whether KVM works, if that is asked for, or clears what an agent left that was killed over that. */
static int choose_accel(struct hypervisor *h, struct error *err) {
	const struct job_spec spec = {
		.fn = probe_in_worker, .arg = h, .timeout_ms = PROBE_MAX_MS, .done = on_probe, .userdata = h};

	h->host.kvm = h->c.accel == HYPERVISOR_KVM;
	return job_start(h->jobs, &spec, &h->probe, err);
}

int hypervisor_new(struct hypervisor **ret, const struct hypervisor_config *config, struct error *err) {
	_cleanup_(cleanup_hypervisor) struct hypervisor *h = calloc(1, sizeof(*h));

	if (!h)
		return error_oom(err);
	h->c = *config;
	h->lock = h->state_lock = -1;
	RB_INIT(&h->all);
	h->run_dir = strdup(config->run_dir);
	h->state_dir = strdup(config->state_dir);
	h->prefix = strdup(config->prefix);
	h->program = strdup(config->program);
	if (!h->run_dir || !h->state_dir || !h->prefix || !h->program)
		return error_oom(err);
	/* An instance's folder in the one is root's alone, in the other QEMU's to look into. */
	if (streq(h->run_dir, h->state_dir))
		return error_set(err, EINVAL, "--run-dir and --state-dir must be two folders, not both `%s`",
		                 h->run_dir);
	int r = take_dir(h->run_dir, &h->lock, err);
	if (r >= 0)
		r = take_dir(h->state_dir, &h->state_lock, err);
	if (r >= 0)
		r = removed_new(&h->removed, config->loop, h->state_dir, config->keep_removed_s, err);
	if (r >= 0)
		r = find_cgroups(h, err);
	if (r >= 0)
		r = jobs_new(&h->jobs, config->loop, WORKERS_MAX, LOOK_PRIORITY, err);
	if (r < 0)
		return r;
	h->host = (struct look_host){.prefix = h->prefix,
	                             .program = h->program,
	                             .state_dir = h->state_dir,
	                             .public_fd = config->public_fd,
	                             .disk_overcommit = config->disk_overcommit,
	                             .cgroups = h->cgroups,
	                             .removed = h->removed};
	r = choose_accel(h, err);
	if (r >= 0)
		r = nl_subscribe(&h->links, config->public_fd, (const unsigned[]){RTNLGRP_LINK, 0}, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(config->loop, &h->links_io, nl_fd(h->links), EPOLLIN, on_links_io, h);
	if (r < 0)
		return error_errno(err, r, "watch the devices");
	r = loop_timer(config->loop, &h->room_timer, 0, on_room, h);
	if (r < 0)
		return error_errno(err, r, "timer");
	r = adopt(h, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

struct hypervisor *hypervisor_free(struct hypervisor *h) {
	struct guest *i, *next;

	if (!h)
		return NULL;
	/* Nothing is told any more. */
	jobs_free(h->jobs);
	RB_FOREACH_SAFE (i, guests, &h->all, next) {
		RB_REMOVE(guests, &h->all, i);
		guest_free(i);
	}
	sd_event_source_disable_unref(h->links_io);
	sd_event_source_disable_unref(h->room_timer);
	nl_free(h->links);
	cgroups_free(h->cgroups);
	removed_free(h->removed);
	safe_close(h->lock);
	safe_close(h->state_lock);
	free(h->run_dir);
	free(h->state_dir);
	free(h->prefix);
	free(h->program);
	free(h);
	return NULL;
}
