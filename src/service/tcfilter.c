/* SPDX-License-Identifier: Apache-2.0 */
#include "service/tcfilter.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

#include "base/netns.h"
#include "base/util.h"

/* Which of the filters of the device's ingress is ours. */
#define HANDLE   0x4e43
#define PRIORITY 0x4e43

struct filter_call {
	const struct tcfilter *f;
	uint32_t id; /* of the program that is there; 0: none */
	int fd;      /* the program to attach */
};

static int filter_hook(const struct tcfilter *f, struct bpf_tc_hook *ret, struct error *err) {
	const unsigned ifindex = if_nametoindex(f->device);

	if (!ifindex)
		return error_errno(err, errno, "network device `%s`", f->device);
	/* libbpf wants zeros in the padding, too. */
	memset(ret, 0, sizeof(*ret));
	ret->sz = sizeof(*ret);
	ret->ifindex = (int)ifindex;
	ret->attach_point = BPF_TC_INGRESS;
	return 0;
}

static int filter_query(void *arg, struct error *err) {
	struct filter_call *c = arg;
	struct bpf_tc_hook hook;
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = HANDLE, .priority = PRIORITY);
	int r = filter_hook(c->f, &hook, err);

	if (r < 0)
		return r;
	r = bpf_tc_query(&hook, &o);
	/* Without a clsact qdisc the kernel says -EINVAL. */
	if (r < 0 && r != -ENOENT && r != -EINVAL)
		return error_errno(err, r, "filter of `%s`", c->f->device);
	c->id = r < 0 ? 0 : o.prog_id;
	return 0;
}

static int filter_attach(void *arg, struct error *err) {
	const struct filter_call *c = arg;
	struct bpf_tc_hook hook;
	LIBBPF_OPTS(bpf_tc_opts, o, .prog_fd = c->fd, .handle = HANDLE, .priority = PRIORITY,
	            .flags = BPF_TC_F_REPLACE);
	int r = filter_hook(c->f, &hook, err);

	if (r < 0)
		return r;
	r = bpf_tc_hook_create(&hook);
	if (r >= 0 || r == -EEXIST)
		r = bpf_tc_attach(&hook, &o);
	return r < 0 ? error_errno(err, r, "attach program `%s` to `%s`", c->f->program, c->f->device) : 0;
}

static int filter_detach(void *arg, struct error *err) {
	const struct filter_call *c = arg;
	struct bpf_tc_hook hook;
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = HANDLE, .priority = PRIORITY);
	int r = filter_hook(c->f, &hook, err);

	if (r < 0)
		return r;
	r = bpf_tc_detach(&hook, &o);
	return r < 0 && r != -ENOENT ? error_errno(err, r, "detach program `%s` from `%s`", c->f->program, c->f->device)
	                             : 0;
}

int tcfilter_open(const struct tcfilter *f, struct program *ret, struct error *err) {
	struct filter_call c = {.f = f};

	*ret = (struct program){.fd = -1};
	int r = netns_run(f->netns_fd, filter_query, &c, err);
	if (r >= 0 && c.id)
		r = program_open(ret, c.id, err);
	if (r >= 0 && ret->fd >= 0 && !streq(ret->info.name, f->program))
		program_close(ret);
	/* -ENOENT: the program was taken off meanwhile. */
	return r == -ENOENT ? 0 : r;
}

int tcfilter_attach(const struct tcfilter *f, int prog_fd, struct error *err) {
	struct filter_call c = {.f = f, .fd = prog_fd};

	return netns_run(f->netns_fd, filter_attach, &c, err);
}

int tcfilter_detach(const struct tcfilter *f, struct error *err) {
	struct filter_call c = {.f = f};
	struct program running;
	int r = tcfilter_open(f, &running, err);

	if (r >= 0 && running.fd >= 0)
		r = netns_run(f->netns_fd, filter_detach, &c, err);
	program_close(&running);
	return r;
}
