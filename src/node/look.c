/* SPDX-License-Identifier: Apache-2.0 */
#include "node/look.h"

#include <string.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/netns.h"
#include "vm/qemu.h"

/* What QEMU and nacre-vm are given beside the machine. */
#define OVERHEAD_MIB    256
#define OVERHEAD_CPU_US 50000 /* in each 100 ms */
#define OVERHEAD_PIDS   128   /* QEMU has at most 64 threads for its disk */

static void failing(struct look_result *ret, const char *reason) {
	snprintf(ret->reason, sizeof(ret->reason), "%s", reason);
}

/* Its control group is called as its network namespace, so that agents of one machine have names of their own. */
static const char *look_name(const struct look *l, char out[static INSTNET_NAME_MAX]) {
	return instnet_netns(l->host->prefix, l->id, out);
}

static const char *look_netns(const struct look *l, char out[static NETNS_PATH_MAX]) {
	char name[INSTNET_NAME_MAX];

	return netns_path(look_name(l, name), out);
}

static int look_search(const struct look *l, pid_t *ret_pid, struct error *err) {
	char netns[NETNS_PATH_MAX], name[INSTNET_NAME_MAX];

	return container_search(l->host->cgroups, look_name(l, name), look_netns(l, netns), ret_pid, err);
}

/*
 * Finds a container that runs, so that no second one is started beside it: of an agent before this one, one that could
 * not be watched when it was started, or one whose pid file is lost. *RET_PID is 0 if there is none.
 */
static int look_for_container(const struct look *l, pid_t *ret_pid, struct error *err) {
	_free_ char *pidfile = strf("%s/pid", l->dir);
	pid_t pid = 0;

	if (!pidfile)
		return error_oom(err);
	int r = container_find(l->dir, &pid);
	if (container_is_gone(r)) {
		r = look_search(l, &pid, err);
		if (r < 0 && r != -ESRCH)
			return r;
		if (r >= 0 && (r = proc_pidfile_write(pidfile, pid, err)) < 0 && r != -ESRCH)
			return r;
	}
	if (r < 0 && !container_is_gone(r))
		return error_errno(err, r, "look for its container");
	*ret_pid = r < 0 ? 0 : pid;
	return 0;
}

static int look_network(const struct look *l, struct look_result *ret, struct error *err) {
	const struct guest_spec *s = l->spec;
	_nl_free_ struct nl *public = NULL;
	const struct instnet_config c = {.prefix = l->host->prefix,
	                                 .id = l->id,
	                                 .mac = s->mac,
	                                 .ip = s->ip,
	                                 .net = s->net,
	                                 .delegated = s->delegated,
	                                 .uid = l->user,
	                                 .mtu = 1500,
	                                 .ingress = s->ingress,
	                                 .n_ingress = s->n_ingress};
	int r = nl_open(&public, l->host->public_fd, err);

	if (r >= 0)
		r = instnet_ensure(&c, public, l->host->public_fd, &ret->nft_state, err);
	ret->connected = r >= 0;
	return r;
}

/* The machine's memory and processors, and what QEMU needs beside them (docs/instances.md). */
static struct cgroup_limits limits_of(const struct look *l) {
	uint64_t mib = (uint64_t)l->spec->memory_mib, vcpus = (uint64_t)l->spec->vcpus;

	mib += mib / 64 + 4 * vcpus + OVERHEAD_MIB + (l->host->kvm ? 0 : QEMU_TCG_CACHE_MIB);
	return (struct cgroup_limits){.memory = mib << 20,
	                              .vcpus = l->spec->vcpus,
	                              .cpu_us = l->spec->vcpus * 100000 + OVERHEAD_CPU_US,
	                              .pids = l->spec->vcpus + OVERHEAD_PIDS};
}

static int look_start(const struct look *l, struct look_result *ret, struct error *err) {
	char netns[NETNS_PATH_MAX], hostname[64], cgroup[INSTNET_NAME_MAX];
	const struct look_host *h = l->host;
	const char *slash = strchr(l->spec->name, '/');
	const struct room room = {.state_dir = h->state_dir, .overcommit = h->disk_overcommit};
	const struct cgroup_limits limits = limits_of(l);
	struct instdir_start files;

	failing(ret, "ImageUnavailable");
	int r = instdir_check_image(l->spec, err);
	if (r < 0)
		return r;
	failing(ret, "StartFailed");
	r = cgroup_make(h->cgroups, look_name(l, cgroup), &limits, err);
	if (r >= 0)
		r = removed_take_back(h->removed, l->uid, err);
	if (r >= 0)
		r = instdir_prepare(l->dir, l->state_dir, &room, l->spec, l->user, h->kvm ? VM_ACCEL_KVM : VM_ACCEL_TCG,
		                    &files, err);
	if (r < 0)
		return r;
	snprintf(hostname, sizeof(hostname), "%.63s", slash ? slash + 1 : l->spec->name);
	const struct container_config c = {.dir = l->dir,
	                                   .netns = look_netns(l, netns),
	                                   .hostname = hostname,
	                                   .program = h->program,
	                                   .user = l->user,
	                                   .tap = files.has_tap ? INSTNET_TAP : NULL,
	                                   .files = files.files,
	                                   .n_files = files.n_files,
	                                   .state = files.has_state ? l->state_dir : NULL,
	                                   .file_max = files.file_max,
	                                   .cgroups = h->cgroups,
	                                   .cgroup = cgroup};
	r = container_start(&c, &ret->pid, err);
	ret->started = r >= 0;
	return r;
}

int look_ensure(const struct look *l, struct look_result *ret, struct error *err) {
	char netns[NETNS_PATH_MAX];

	ret->nft_state = l->nft_state;
	/* Before the network, whose namespace may have lost its name: a container would not be found in a new one. */
	failing(ret, "AdoptionFailed");
	int r = l->pid ? 0 : look_for_container(l, &ret->pid, err);
	if (r < 0)
		return r;
	pid_t pid = l->pid ? l->pid : ret->pid;
	failing(ret, "NetworkFailed");
	r = look_network(l, ret, err);
	if (r < 0)
		return r;
	ret->network_lost = pid && container_is_in(pid, look_netns(l, netns)) == 0;
	return pid || !l->spec->running || !l->may_start ? 0 : look_start(l, ret, err);
}

int look_remove(const struct look *l, struct look_result *ret, struct error *err) {
	_nl_free_ struct nl *public = NULL;
	char name[INSTNET_NAME_MAX];
	pid_t pid;

	ret->removed = true;
	failing(ret, "RemovalFailed");
	int r = container_kill(l->dir, err);
	while (r >= 0 && (r = look_search(l, &pid, err)) == 0)
		r = proc_stop(pid, 0, err);
	if (r == -ESRCH)
		r = nl_open(&public, l->host->public_fd, err);
	if (r >= 0)
		r = instnet_remove(l->host->prefix, l->id, public, err);
	if (r >= 0)
		r = cgroup_remove(l->host->cgroups, look_name(l, name), err);
	if (r >= 0)
		r = removed_put(l->host->removed, l->uid, l->asked, err);
	if (r >= 0)
		r = remove_tree(l->dir, err);
	return r;
}
