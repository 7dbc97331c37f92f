/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Looks at guests. A timer for each guest says when, a worker process goes over the guest's parts (node/part.h), and
 * its result changes the guest's state here. A failed look is repeated with a delay, for ever.
 *
 * Looks that may start a machine have workers of their own, and so have those that remove a guest, so that slow disks
 * hold up no repair, and new disks no removal. A large table of a firewall takes seconds to load, so other workers
 * don't load one: they leave it to a further look, which has a worker of its own, too. (A look that may start a machine
 * loads the table itself, for the machine needs its rules.)
 */

#include <string.h>

#include "base/util.h"
#include "net/netns.h"
#include "net/nl.h"
#include "node/instdir.h"
#include "node/internal.h"
#include "node/room.h"

#define RESYNC_US    (30 * USEC_PER_SEC) /* between looks at an instance to which nothing happened */
#define RETRY_MAX_US (30 * USEC_PER_SEC)
#define LOOK_MAX_MS  120000
#define FOLLOWING_US USEC_PER_SEC /* a quiet look finds a request under way and comes again after so long */

static int on_wake(sd_event_source *s, uint64_t usec, void *userdata);

/*
 * The earliest of several times counts. Without memory for a timer the agent can do nothing more, and a new process
 * adopts what exists. Many guests may end at once: renewing the host's lease and reporting on guests come before looks.
 */
static bool look_is_due_within(const struct guest *i, uint64_t delay_us) {
	int on = SD_EVENT_OFF;
	uint64_t at;

	return i->wake && sd_event_source_get_enabled(i->wake, &on) > 0 && on != SD_EVENT_OFF &&
	       sd_event_source_get_time(i->wake, &at) >= 0 && at <= now_monotonic_ns() / 1000 + delay_us;
}

void guest_wake(struct guest *i, uint64_t delay_us) {
	i->quiet = false;
	if (look_is_due_within(i, delay_us))
		return;
	if (loop_timer(i->h->c.loop, &i->wake, delay_us, on_wake, i) < 0 ||
	    sd_event_source_set_priority(i->wake, LOOK_PRIORITY) < 0)
		abort();
}

void guest_wake_quietly(struct guest *i) {
	if (look_is_due_within(i, RESYNC_US))
		return;
	guest_wake(i, RESYNC_US);
	i->quiet = true;
}

static void look_choose_user(struct guest *i) {
	struct hypervisor *h = i->h;

	if (i->user || instdir_uid(i->dir, &i->user) == 0)
		return;
	for (uid_t slot = 1; slot < SLOTS_MAX; slot++) {
		uid_t user = h->c.uid_base + slot;
		struct guest *other;
		bool taken = false;
		/* Users of an agent that was started with another --uid-base may have any number. */
		RB_FOREACH (other, guests, &h->all)
			taken |= other->user == user || other->user == container_root(user) ||
			         container_root(other->user) == user;
		if (!taken) {
			i->user = user;
			return;
		}
	}
}

static void look_failed(struct guest *i, const char *reason, const struct error *err) {
	uint64_t delay = (USEC_PER_SEC / 4) << MIN(i->failures, 10U);

	guest_wake(i, MIN(delay, RETRY_MAX_US));
	if (i->failures++ == 0 || !streq(i->state.message, err->msg))
		guest_event(i, true, reason, err->msg);
	/* A machine that runs goes on running, even if something about it can't be repaired. */
	if (!i->pid)
		guest_set_state(i, GUEST_FAILED, reason, err->msg);
}

/* True if the machine must run and nothing keeps it from starting now. */
static bool look_may_start(const struct guest *i) {
	return !i->going && !i->ended && i->want == WANT_YES && i->spec.running && !i->pid && !i->h->probe &&
	       now_monotonic_ns() >= i->not_before_ns;
}

void guest_look_of(const struct guest *i, struct guest_result *ret, struct guest_look *l) {
	ret->network = i->network;
	ret->specs = i->specs;
	*l = (struct guest_look){.host = &i->h->host,
	                         .uid = i->uid,
	                         .id = i->id,
	                         .name = i->name,
	                         .dir = i->dir,
	                         .state_dir = i->state_dir,
	                         .user = i->user,
	                         .pid = i->pid,
	                         .asked = i->asked,
	                         .spec = &i->spec,
	                         .open_slices = i->ports.open_slices,
	                         .ret = ret};
	guest_firewalls(i, &l->firewalls);
	l->firewalls.is.ret_postponed = &ret->postponed;
}

static struct jobs *look_pool(const struct guest *i) {
	if (look_may_start(i))
		return i->h->starts;
	if (i->going)
		return i->h->removals;
	return i->large && !i->ended ? i->h->loads : i->h->jobs;
}

/* The worker sees the guest as it is when the worker starts. */
static int look_in_worker(void *arg, void *result, struct error *err) {
	const struct guest *i = arg;
	struct guest_result *ret = result;
	struct guest_look l;

	guest_look_of(i, ret, &l);
	l.may_start = i->may_start;
	l.netfilter = i->netfilter;
	if (i->pool != i->h->jobs)
		l.firewalls.is.ret_postponed = NULL;
	if (i->ended && !i->going) {
		struct error grown;
		ret->end = true;
		if (room_check_vars(i->state_dir, &grown) == -EFBIG)
			snprintf(ret->grown, sizeof(ret->grown), "%.200s", grown.msg);
		return 0;
	}
	return i->going ? parts_remove(&l, err) : parts_ensure(&l, err);
}

/* Watches the process that the worker has found or started. False if that fails, and the look with it. */
static bool look_watch(struct guest *i, const struct guest_result *l) {
	struct error err = {0};

	i->started_ns = l->started ? now_monotonic_ns() : i->started_ns;
	int r = guest_watch(i, l->pid, &err);
	if (r < 0 && r != -ESRCH) {
		look_failed(i, l->started ? "StartFailed" : "AdoptionFailed", &err);
		return false;
	}
	if (l->started) {
		i->has_vars = l->has_vars;
		guest_set_state(i, GUEST_STARTING, "Starting", "QEMU starts");
		guest_event(i, false, "Started",
		            i->h->host.kvm ? "started with KVM" : "started with software emulation (TCG)");
		if (r < 0)
			guest_ended(i);
	} else if (r < 0 || !i->spec.running) {
		guest_wake(i, 0);
	}
	return true;
}

/* Does what is left to do once everything that the guest needs exists. */
static void look_settle(struct guest *i) {
	uint64_t now = now_monotonic_ns();

	if (i->spec.running)
		i->stop_by_ns = 0;
	if (i->pid)
		return;
	if (!i->spec.running) {
		i->stop_by_ns = 0;
		if (i->state.phase != GUEST_STOPPED)
			guest_set_state(i, GUEST_STOPPED, "Stopped", "spec.running is false");
		i->crashes = 0;
	} else if (i->h->probe) {
		guest_set_state(i, GUEST_STARTING, "Starting", "the host finds out whether KVM works");
	} else {
		guest_wake(i, now < i->not_before_ns ? (i->not_before_ns - now) / 1000 + 1 : 0);
	}
}

/* Notes whether all Firewalls of the guest are applied. */
static void look_note_firewall(struct guest *i, const struct error *why) {
	struct guest_firewall *f = &i->state.firewall;
	const char *reason = why->code == 0           ? "Applied"
	                     : why->code == E2BIG     ? "LimitExceeded"
	                     : why->code == EBADMSG   ? "NotUnderstood"
	                     : why->code == EOVERFLOW ? "TooManyOverlaps"
	                                              : "Failed";
	const char *message = why->code ? why->msg : "all Firewalls that select it are applied";

	if (why->code == EAGAIN)
		return;
	if (f->known && streq(f->reason, reason) && strncmp(f->message, message, sizeof(f->message) - 1) == 0)
		return;
	f->known = true;
	f->whole = why->code == 0;
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
	snprintf(f->message, sizeof(f->message), "%.*s", (int)sizeof(f->message) - 1, message);
	if (why->code)
		guest_event(i, true, "FirewallNotApplied", f->message);
	i->h->c.ops.changed(i->h->c.userdata, i->uid);
}

/* See struct guest. The netfilter socket would keep a namespace that was replaced, whose firewall is another one. */
void guest_set_network(struct guest *i, const struct instnet_state *now) {
	const struct firewall_state before = i->network.firewall, *after = &now->firewall;
	_close_ int fd = -1;
	struct error ignored;

	i->network = *now;
	if (after->generation == before.generation)
		return;
	if (after->table != before.table || after->generation != firewall_generation_after(before.generation))
		i->netfilter = nl_free(i->netfilter);
	else if (!i->netfilter && netns_open(i->name, &fd, &ignored) >= 0)
		(void)!nl_open_netfilter(&i->netfilter, fd, &ignored);
}

static void look_ensured(struct guest *i, int r, const struct guest_result *l, const struct error *err) {
	guest_set_network(i, &l->network);
	if (l->connected)
		look_note_firewall(i, &l->firewall);
	bool current = l->connected && l->specs == i->specs;
	i->large = l->postponed;
	if (l->postponed) {
		guest_wake(i, 0);
	} else if (l->connected && (!i->state.connected || current != i->state.current)) {
		i->state.connected = true;
		i->state.current = current;
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
		/* No packet reaches the guest there. After its end it is started again. */
		guest_event(i, true, "NetworkLost", "its network namespace was replaced, so it is started again");
		guest_kill(i);
		return;
	}
	look_settle(i);
}

static void look_removed(struct guest *i, int r, const struct guest_result *l, const struct error *err) {
	struct hypervisor *h = i->h;
	struct guest_spec spec;
	char uid[37];

	removed_wake(h->removed);
	/* The instance is wanted again: what is left of it is used and repaired. */
	if (r < 0 && i->want == WANT_YES) {
		i->going = false;
		guest_wake(i, 0);
		return;
	}
	if (r < 0) {
		look_failed(i, l->reason, err);
		return;
	}
	/* Somebody has deleted the instance meanwhile, so its disk must not be kept. */
	if (i->asked && !l->asked) {
		guest_wake(i, 0);
		return;
	}
	bool again = i->want == WANT_YES;
	int64_t restarts = i->state.restarts;
	spec = i->spec;
	memcpy(uid, i->uid, sizeof(uid));
	RB_REMOVE(guests, &h->all, i);
	guest_free(i);
	if (!again) {
		h->c.ops.gone(h->c.userdata, uid);
		return;
	}
	/* The instance was wanted again during its removal. */
	if (hypervisor_put(h, &spec, NULL) < 0)
		abort();
	hypervisor_find(h, spec.vm.uuid)->state.restarts = restarts;
}

static void on_look(void *userdata, int r, const void *result, const struct error *err) {
	struct guest *i = userdata;

	i->job = NULL;
	if (i->again || r == -ECANCELED)
		guest_wake(i, 0);
	i->again = false;
	guest_wake_quietly(i);
	if (r == -ECANCELED)
		return;
	if (!result)
		look_failed(i, "WorkerFailed", err);
	else if (((const struct guest_result *)result)->removed)
		look_removed(i, r, result, err);
	else if (((const struct guest_result *)result)->end)
		guest_end_known(i, ((const struct guest_result *)result)->grown);
	else
		look_ensured(i, r, result, err);
}

static int on_wake(sd_event_source *source, uint64_t usec, void *userdata) {
	(void)source;
	(void)usec;
	struct guest *i = userdata;
	struct job_spec spec = {.fn = look_in_worker,
	                        .arg = i,
	                        .result_size = sizeof(struct guest_result),
	                        .keep = {i->h->host.public_fd, i->netfilter ? nl_fd(i->netfilter) : -1},
	                        .n_keep = 2,
	                        .timeout_ms = LOOK_MAX_MS,
	                        .done = on_look,
	                        .userdata = i};
	struct error err = {0};

	if (i->want == WANT_UNKNOWN && !i->ended)
		return 0;
	/* Ending a machine need not wait for a worker. */
	if (i->want == WANT_NO) {
		i->going = true;
		if (i->pid)
			guest_kill(i);
		guest_forget_process(i);
		i->netfilter = nl_free(i->netfilter);
	} else if (i->pid && !i->spec.running) {
		int r = guest_stop(i, &err);
		if (r < 0)
			look_failed(i, "StopFailed", &err);
		if (r != 0)
			return 0;
	}
	/* The end of the sweep wakes all guests. */
	if (i->h->sweep)
		return 0;
	if (i->following) {
		if (i->quiet) {
			guest_wake(i, FOLLOWING_US);
			i->quiet = true;
		} else {
			i->again = true;
		}
		return 0;
	}
	struct jobs *pool = look_pool(i);
	if (i->job) {
		/*
		 * The look waits among the starts, but may start nothing any more; or it waits for others to load their
		 * tables, but must now remove, start or end its guest.
		 */
		if (i->pool != pool && !job_is_running(i->job) && (i->pool == i->h->starts || i->pool == i->h->loads))
			job_cancel(i->job);
		i->again |= i->in_round || job_is_running(i->job);
		return 0;
	}
	if (i->quiet && i->want == WANT_YES && i->pid && i->spec.running && !i->failures) {
		round_add(i);
		return 0;
	}
	if (!i->going)
		look_choose_user(i);
	i->may_start = pool == i->h->starts;
	i->pool = pool;
	if (job_start(pool, &spec, &i->job, &err) < 0)
		look_failed(i, "WorkerFailed", &err);
	return 0;
}
