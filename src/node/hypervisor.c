/* SPDX-License-Identifier: Apache-2.0 */

/* The life of a hypervisor: folders and locks, adoption, the choice of KVM; what must be, and what is reported. */

#include "node/hypervisor.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "node/instdir.h"
#include "node/internal.h"
#include "node/kvmprobe.h"

/* Worker processes, each of which works for one guest. They mostly wait for disks; those of LOADS_MAX need a processor.
 */
#define STARTS_MAX   16
#define REMOVALS_MAX 8
#define LOADS_MAX    4
#define OTHERS_MAX   8
#define PROBE_MAX_MS (KVMPROBE_MS + 60000) /* including what the probe makes and removes */

static int guest_compare(const struct guest *a, const struct guest *b) {
	return strcmp(a->uid, b->uid);
}
RB_GENERATE(guests, guest, entry, guest_compare)

struct guest *hypervisor_find(const struct hypervisor *h, const char *uid) {
	return TREE_FIND_STRING(guest, &h->all, entry, uid, uid);
}

void guest_free_counts(struct guest *i) {
	if (i->state.firewall.counts)
		api_clear(&api_desc_instance_firewall, i->state.firewall.counts);
	free(i->state.firewall.counts);
	i->state.firewall.counts = NULL;
}

void guest_free(struct guest *i) {
	if (!i)
		return;
	round_drop(i);
	members_drop(i);
	guest_forget_process(i);
	sd_event_source_disable_unref(i->wake);
	free(i->untold.message);
	guest_free_counts(i);
	nl_free(i->netfilter);
	free(i->dir);
	free(i->state_dir);
	free(i);
}
DEFINE_CLEANUP(guest, struct guest *, guest_free)

void guest_firewalls(const struct guest *i, struct firewalls_attached *ret) {
	*ret = (struct firewalls_attached){0};
	if (i->h->c.ops.guarded)
		i->h->c.ops.guarded(i->h->c.userdata, i->uid, ret);
}

static int hypervisor_add(struct hypervisor *h, const char *uid, struct guest **ret, struct error *err) {
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
	instnet_netns(h->prefix, i->id, i->name);
	guest_set_state(i, GUEST_PENDING, "Pending", "it has not been looked at yet");
	RB_INSERT(guests, &h->all, i);
	*ret = TAKE_PTR(i);
	return 0;
}

int hypervisor_put(struct hypervisor *h, const struct guest_spec *spec, struct error *err) {
	struct guest *i = hypervisor_find(h, spec->vm.uuid);
	int r;

	if (!i && (r = hypervisor_add(h, spec->vm.uuid, &i, err)) < 0)
		return r;
	bool same = i->want == WANT_YES && guest_spec_equal(&i->spec, spec);
	i->spec = *spec;
	i->want = WANT_YES;
	i->asked = false;
	guest_tell_untold(i);
	if (!same) {
		i->specs++;
		i->state.current = false;
		i->stop_sent = false;
		guest_wake(i, 0);
	}
	return 0;
}

void hypervisor_look(struct hypervisor *h, const char *uid) {
	struct guest *i = hypervisor_find(h, uid);

	if (!i)
		return;
	i->guard_changes++;
	if (i->want == WANT_YES)
		guest_wake(i, 0);
}

void hypervisor_members(struct hypervisor *h, const char *uid) {
	struct guest *i = hypervisor_find(h, uid);

	if (!i)
		return;
	i->guard_changes++;
	if (i->want == WANT_YES)
		members_changed(i);
}

void hypervisor_remove(struct hypervisor *h, const char *uid, bool asked) {
	struct guest *i = hypervisor_find(h, uid);

	if (!i && hypervisor_add(h, uid, &i, NULL) < 0)
		return;
	i->asked |= asked;
	if (i->want == WANT_NO)
		return;
	i->want = WANT_NO;
	/* Cancels a start that is under way, and a round. */
	if (i->job && (i->in_round || job_is_running(i->job)))
		job_cancel(i->job);
	guest_wake(i, 0);
}

const struct guest_state *hypervisor_state(const struct hypervisor *h, const char *uid) {
	struct guest *i = hypervisor_find(h, uid);

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

	*ret = (struct hypervisor_stats){.restarts = h->restarts,
	                                 .refused = h->refused,
	                                 .members_sent = h->members_sent,
	                                 .members_refused = h->members_refused,
	                                 .dropped_in = h->dropped_in,
	                                 .dropped_out = h->dropped_out};
	RB_FOREACH (i, guests, (struct guests *)&h->all) {
		ret->guests++;
		if (i->spec.net.ipv4 == INSTNET_SHARED) {
			ret->ports += i->ports.total;
			ret->ports_used += i->ports.last.used;
		}
		ret->running += i->state.phase >= GUEST_RUNNING && i->state.phase <= GUEST_STOPPING;
	}
}

/* ---- its life ---- */

static int hypervisor_adopt(struct hypervisor *h, struct error *err) {
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
		r = hypervisor_add(h, e->d_name, &i, err);
		if (r < 0)
			break;
		(void)!instdir_uid(i->dir, &i->user);
		/* A process that can't be watched now is found by the first look at the guest. */
		if (container_find(i->dir, &pid) == 0)
			(void)!guest_watch(i, pid, err);
	}
	closedir(dir);
	return r;
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

	/* Guests get software emulation only if KVM is known to fail. */
	if (h->c.accel == HYPERVISOR_AUTO && r < 0 && r != -EOPNOTSUPP) {
		error_set(&why, -r,
		          "whether KVM works is not known: %.400s; start the agent again, or with --accel kvm",
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
		guest_wake(i, 0);
	if (hypervisor_is_settled(h))
		h->c.ops.settled(h->c.userdata);
}

/*
 * Finds out whether KVM works if that is asked for. Otherwise removes what is left of a probe whose agent was killed.
 */
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
	TAILQ_INIT(&h->due);
	TAILQ_INIT(&h->unsent);
	h->run_dir = strdup(config->run_dir);
	h->state_dir = strdup(config->state_dir);
	h->prefix = strdup(config->prefix);
	h->program = strdup(config->program);
	if (!h->run_dir || !h->state_dir || !h->prefix || !h->program)
		return error_oom(err);
	/* An instance's folder in RUN_DIR is root's alone; QEMU may look into the one in STATE_DIR. */
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
		r = jobs_new(&h->starts, config->loop, STARTS_MAX, LOOK_PRIORITY, err);
	if (r >= 0)
		r = jobs_new(&h->removals, config->loop, REMOVALS_MAX, LOOK_PRIORITY, err);
	if (r >= 0)
		r = jobs_new(&h->loads, config->loop, LOADS_MAX, LOOK_PRIORITY, err);
	if (r >= 0)
		r = members_new(&h->members, h, err);
	if (r >= 0)
		r = jobs_new(&h->jobs, config->loop, OTHERS_MAX, LOOK_PRIORITY, err);
	if (r < 0)
		return r;
	h->host = (struct part_host){.prefix = h->prefix,
	                             .program = h->program,
	                             .state_dir = h->state_dir,
	                             .public_fd = config->public_fd,
	                             .disk_overcommit = config->disk_overcommit,
	                             .cgroups = h->cgroups,
	                             .removed = h->removed,
	                             .seeds = config->seeds};
	r = choose_accel(h, err);
	if (r >= 0)
		r = host_events_start(h, err);
	if (r >= 0)
		r = hypervisor_adopt(h, err);
	if (r < 0)
		return r;
	slices_watch(h, PORTS_LOOK_S * USEC_PER_SEC);
	firewall_watch(h, USEC_PER_SEC);
	*ret = TAKE_PTR(h);
	return 0;
}

struct hypervisor *hypervisor_free(struct hypervisor *h) {
	struct guest *i, *next;

	if (!h)
		return NULL;
	/* Nothing is reported after this. */
	jobs_free(h->starts);
	jobs_free(h->removals);
	jobs_free(h->loads);
	members_free(h->members);
	jobs_free(h->jobs);
	RB_FOREACH_SAFE (i, guests, &h->all, next) {
		RB_REMOVE(guests, &h->all, i);
		guest_free(i);
	}
	round_free(h);
	host_events_stop(h);
	sd_event_source_disable_unref(h->slices_timer);
	sd_event_source_disable_unref(h->watch_timer);
	free(h->slices_look);
	free(h->watch_look);
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
