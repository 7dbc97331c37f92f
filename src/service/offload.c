/* SPDX-License-Identifier: Apache-2.0 */
#include "service/offload.h"

#include <errno.h>
#include <net/if.h>

#include "base/netns.h"
#include "base/util.h"
#include "bpf/offload.skel.h"
#include "service/program.h"

/* Changes with the program: a tap that has a program of this name is not looked at any further. */
#define GUARD_NAME "nacre_offload1"
/* Which of the filters of the device's ingress is ours. */
#define HANDLE   0x4e43
#define PRIORITY 0x4e43

struct guard_call {
	const char *device;
	int ifindex;
	uint32_t id; /* of the program; 0: none */
	int fd;      /* the program to attach */
};

static int guard_query(void *arg, struct error *err) {
	struct guard_call *c = arg;

	c->ifindex = (int)if_nametoindex(c->device);
	if (!c->ifindex)
		return error_errno(err, errno, "network device `%s`", c->device);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = c->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = HANDLE, .priority = PRIORITY);
	int r = bpf_tc_query(&hook, &o);
	/* Without a clsact qdisc the kernel says -EINVAL. */
	if (r < 0 && r != -ENOENT && r != -EINVAL)
		return error_errno(err, r, "filter of `%s`", c->device);
	c->id = r < 0 ? 0 : o.prog_id;
	return 0;
}

static int guard_attach(void *arg, struct error *err) {
	const struct guard_call *c = arg;

	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = c->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, o, .prog_fd = c->fd, .handle = HANDLE, .priority = PRIORITY,
	            .flags = BPF_TC_F_REPLACE);
	int r = bpf_tc_hook_create(&hook);
	if (r >= 0 || r == -EEXIST)
		r = bpf_tc_attach(&hook, &o);
	return r < 0 ? error_errno(err, r, "attach the guard of offloads to `%s`", c->device) : 0;
}

static int guard_is_there(const struct guard_call *c, struct error *err) {
	struct program running = {.fd = -1};
	int r = c->id ? program_open(&running, c->id, err) : 0;

	if (r >= 0)
		r = running.fd >= 0 && streq(running.info.name, GUARD_NAME);
	program_close(&running);
	return r == -ENOENT ? 0 : r;
}

int offload_guard(int netns_fd, const char *device, struct error *err) {
	struct guard_call c = {.device = device};

	program_init();
	int r = netns_run(netns_fd, guard_query, &c, err);
	if (r >= 0)
		r = guard_is_there(&c, err);
	if (r != 0)
		return r < 0 ? r : 0;
	struct offload_bpf *skel = offload_bpf__open();
	if (!skel)
		return error_errno(err, errno, "open the guard of offloads");
	r = program_load(skel->obj, err);
	c.fd = r < 0 ? -1 : bpf_program__fd(skel->progs.nacre_offload1);
	if (r >= 0)
		r = netns_run(netns_fd, guard_attach, &c, err);
	offload_bpf__destroy(skel);
	return r;
}
