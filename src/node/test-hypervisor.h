/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the tests of the hypervisor share: one with a loop of its own, and what it does with one guest, whose program
 * only waits. test-hypervisor.c has what happens to the guest, and test-hypervisor-disks.c what happens to its disk.
 */

#include "node/testing.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include "node/hypervisor.h"

static bool gone, failed, settled;
static const struct hypervisor *told_by; /* whose states on_changed() looks at */

_unused_ static void on_changed(_unused_ void *userdata, const char *uid) {
	const struct guest_state *s = told_by ? hypervisor_state(told_by, uid) : NULL;

	failed |= s && s->phase == GUEST_FAILED;
}

_unused_ static void on_event(void *userdata, const char *uid, bool warning, const char *reason, const char *message) {
	(void)userdata;
	(void)uid;
	(void)warning;
	(void)reason;
	(void)message;
}

_unused_ static void on_gone(void *userdata, const char *uid) {
	(void)userdata;
	(void)uid;
	gone = true;
}

_unused_ static void on_settled(void *userdata) {
	(void)userdata;
	settled = true;
}

/*
 * How many first processes of containers are in the network namespace of the instance; *RET is one of them. A process
 * that has not begun its program still belongs to its worker and may end with it.
 */
_unused_ static size_t containers(pid_t *ret) {
	char command[256], name[INSTNET_NAME_MAX];
	const char *const argv[] = {"sh", "-c", command, NULL};
	_buf_free_ struct buf out = {0};
	size_t n = 0;
	snprintf(command, sizeof(command),
	         "for p in $(ip netns pids %s 2>/dev/null); do grep -q '^NSpid:.*[[:space:]]1$' /proc/$p/status && "
	         "! grep -q test-hypervisor /proc/$p/comm && echo $p; "
	         "done; true",
	         instnet_netns(prefix, ID, name));
	OK(proc_run(&(struct proc_spec){.argv = argv}, &out, &error));
	for (char *p = out.data; p && *p; p = strchr(p, '\n') + 1) {
		*ret = atoi(p);
		n++;
	}
	return n;
}

_unused_ static struct hypervisor *new_hypervisor(sd_event *loop) {
	_free_ char *program = strf("%s/program", dir), *state_dir = strf("%s/state", dir);
	struct hypervisor *h = NULL;
	struct hypervisor_config c = {
		.loop = loop,
		.run_dir = dir,
		.state_dir = state_dir,
		.prefix = prefix,
		.program = program,
		.uid_base = 200000,
		.accel = HYPERVISOR_TCG,
		.keep_removed_s = 3600,
		.stop_s = 60,
		.public_fd = public_fd,
		.ops = {.changed = on_changed, .event = on_event, .gone = on_gone, .settled = on_settled},
	};
	OK(hypervisor_new(&h, &c, &error));
	/* RUN_DIR and STATE_DIR can't be the same folder. */
	c.state_dir = dir;
	assert_int_equal(hypervisor_new(&h, &c, &error), -EINVAL);
	return h;
}

/* Waits up to two minutes. */
#define RUN_UNTIL(loop, condition)                                      \
	do {                                                            \
		uint64_t end = now_monotonic_ns() + 120 * NSEC_PER_SEC; \
		while (!(condition) && now_monotonic_ns() < end)        \
			assert_true(sd_event_run(loop, 10000) >= 0);    \
		assert_true(condition);                                 \
	} while (0)

/* A new hypervisor with the guest, whose container runs. The caller frees the hypervisor and the loop. */
_unused_ static struct hypervisor *begin_guest(sd_event **loop, const struct guest_spec *spec, pid_t *pid) {
	OK(sd_event_new(loop));
	struct hypervisor *h = new_hypervisor(*loop);
	OK(hypervisor_put(h, spec, &error));
	RUN_UNTIL(*loop, containers(pid) == 1);
	return h;
}

_unused_ static void remove_guest(sd_event *loop, struct hypervisor *h) {
	pid_t pid;
	gone = false;
	hypervisor_remove(h, UID, true);
	RUN_UNTIL(loop, gone);
	assert_int_equal(containers(&pid), 0);
}

/* Fills S in, and writes the program and the kernel that are needed for it. Without root the test ends here. */
_unused_ static void prepare_guest(struct guest_spec *s) {
	_free_ char *program = strf("%s/program", dir);
	char image[1024] = {0};

	if (geteuid() != 0)
		skip();
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	jt_init(&jt_guest_spec, s);
	snprintf(s->vm.uuid, sizeof(s->vm.uuid), UID);
	snprintf(s->vm.name, sizeof(s->vm.name), "t/a");
	snprintf(s->image, sizeof(s->image), "lab");
	snprintf(s->kernel, sizeof(s->kernel), "%s/image", dir);
	s->running = true;
	s->size.v[RESOURCE_vcpus] = 1;
	s->size.v[RESOURCE_memory_mib] = 64;
	OK(mac_parse("02:00:00:00:00:05", &s->net.mac, &error));
	s->net.ip = addr("2001:db8::5");
	s->net.net = pfx("2001:db8:1:1::/64");
	/* vm/image.c recognises a kernel by these bytes. */
	memcpy(image + 0x1fe, (const char[]){0x55, (char)0xaa}, 2);
	memcpy(image + 0x202, (const char[]){'H', 'd', 'r', 'S'}, 4);
	OK(write_file_atomic(s->kernel, image, sizeof(image), 0644, &error));
}

_unused_ static void end_hypervisor(sd_event *loop, struct hypervisor *h) {
	hypervisor_free(h);
	sd_event_unref(loop);
}
