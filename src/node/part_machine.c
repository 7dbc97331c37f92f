/* SPDX-License-Identifier: Apache-2.0 */

/* The machine itself: nacre-vm and QEMU, in the container of the instance (node/container.h). */

#include <string.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/netns.h"
#include "node/part.h"

static int machine_desire(const struct part_source *s, struct guest_spec *spec, struct error *err) {
	const struct instance *inst = s->inst;

	snprintf(spec->vm.uuid, sizeof(spec->vm.uuid), "%s", instance_id(inst));
	if ((size_t)snprintf(spec->vm.name, sizeof(spec->vm.name), "%s/%s", inst->meta.ns, inst->meta.name) >=
	    sizeof(spec->vm.name))
		return error_set(err, ENAMETOOLONG, "namespace and name together have more than %d characters",
		                 VM_NAME_MAX - 1);
	spec->running = !inst->spec->running.set || inst->spec->running.v;
	spec->size = instance_size(inst->status);
	return 0;
}

static int machine_search(const struct guest_look *l, pid_t *ret_pid, struct error *err) {
	char netns[NETNS_PATH_MAX];

	return container_search(l->host->cgroups, l->name, netns_path(l->name, netns), ret_pid, err);
}

/*
 * Finds a container that runs, so that no second one is started: a container of an earlier agent, one that could not be
 * watched when it was started, or one whose pid file is lost.
 */
static int machine_adopt(struct guest_look *l, struct error *err) {
	_free_ char *pidfile = strf("%s/pid", l->dir);
	pid_t pid = 0;

	if (!pidfile)
		return error_oom(err);
	int r = container_find(l->dir, &pid);
	if (container_is_gone(r)) {
		r = machine_search(l, &pid, err);
		if (r < 0 && r != -ESRCH)
			return r;
		if (r >= 0 && (r = proc_pidfile_write(pidfile, pid, err)) < 0 && r != -ESRCH)
			return r;
	}
	if (r < 0 && !container_is_gone(r))
		return error_errno(err, r, "look for its container");
	l->pid = l->ret->pid = r < 0 ? 0 : pid;
	return 0;
}

/*
 * The command line of the guest's kernel: the image's words, and the instance's name and prefix.
 *
 * Without KVM, Linux tests at boot whether the timer interrupts: it counts ticks during 40 ms of real time, four times,
 * and panics ("IO-APIC + timer doesn't work!") if there are too few each time (arch/x86/kernel/apic/io_apic.c,
 * check_timer()). A starved QEMU delivers too few ticks. A guest with KVM skips the test by itself
 * (arch/x86/kernel/kvm.c, paravirt_ops_setup()).
 */
static int put_cmdline(struct guest_look *l, struct error *err) {
	const struct prefix *delegated = &l->spec->net.delegated;
	const char *words = l->spec->vm.cmdline;
	char prefix[PREFIX_STR_MAX];
	int n = snprintf(l->vm.cmdline, sizeof(l->vm.cmdline), "%s%s%snacre.name=%s%s%s", words, words[0] ? " " : "",
	                 l->host->kvm ? "" : "no_timer_check ", l->vm.name,
	                 delegated->addr.family ? " nacre.prefix=" : "",
	                 delegated->addr.family ? prefix_str(delegated, prefix) : "");

	if ((size_t)n >= sizeof(l->vm.cmdline))
		return error_set(err, EINVAL, "the kernel's command line is longer than %d bytes", VM_CMDLINE_MAX);
	return 0;
}

/* Refuses a configuration that nacre-vm would refuse, before anything is made. */
static int machine_print(const struct guest_look *l, struct buf *text, struct error *err) {
	struct vm_config again;

	vm_config_print(&l->vm, text);
	int r = buf_error(text, CONTAINER_CONFIG, err);
	return r < 0 ? r : vm_config_parse(text->data, text->len, &again, err);
}

static int machine_configure(struct guest_look *l, struct error *err) {
	_buf_free_ struct buf text = {.max = VM_CONFIG_MAX};
	const char *slash = strchr(l->vm.name, '/'), *name = slash ? slash + 1 : l->vm.name;

	snprintf(l->hostname, sizeof(l->hostname), "%.63s", name);
	snprintf(l->vm.hostname, sizeof(l->vm.hostname), "%.*s", (int)MIN(strcspn(name, "."), (size_t)63), name);
	snprintf(l->vm.seed, sizeof(l->vm.seed), "/" CONTAINER_SEED);
	l->container.dir = l->dir;
	l->container.hostname = l->hostname;
	l->container.program = l->host->program;
	l->container.user = l->user;
	l->container.file_max = VM_OWN_FILE_MAX;
	l->vm.vcpus = l->spec->size.v[RESOURCE_vcpus];
	l->vm.memory_mib = l->spec->size.v[RESOURCE_memory_mib];
	l->vm.accel = l->host->kvm ? VM_ACCEL_KVM : VM_ACCEL_TCG;
	l->vm.uid = l->vm.gid = l->user;
	int r = l->vm.boot == VM_BOOT_KERNEL ? put_cmdline(l, err) : 0;
	return r < 0 ? r : machine_print(l, &text, err);
}

static int machine_prepare(struct guest_look *l, struct error *err) {
	_free_ char *path = strf("%s/" CONTAINER_CONFIG, l->dir);
	_buf_free_ struct buf text = {.max = VM_CONFIG_MAX};
	char netns[NETNS_PATH_MAX];

	if (!path)
		return error_oom(err);
	l->container.netns = netns_path(l->name, netns);
	int r = machine_print(l, &text, err);
	if (r >= 0)
		r = write_file_atomic(path, text.data, text.len, 0644, err);
	if (r >= 0)
		r = container_start(&l->container, &l->ret->pid, err);
	l->ret->started = r >= 0;
	return r;
}

static int machine_remove(struct guest_look *l, struct error *err) {
	int r = container_kill(l->dir, err);
	pid_t pid;

	while (r >= 0 && (r = machine_search(l, &pid, err)) == 0)
		r = proc_stop(pid, 0, err);
	return r == -ESRCH ? 0 : r;
}

const struct part part_machine = {.name = "machine",
                                  .desire = machine_desire,
                                  .adopt = machine_adopt,
                                  .configure = machine_configure,
                                  .prepare = machine_prepare,
                                  .remove = machine_remove};
