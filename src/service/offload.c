/* SPDX-License-Identifier: Apache-2.0 */
#include "service/offload.h"

#include <errno.h>

#include "bpf/offload.skel.h"
#include "service/tcfilter.h"

int offload_guard(int netns_fd, const char *device, struct error *err) {
	/* The name changes with the program: a tap that has a program of this name is not looked at any further. */
	const struct tcfilter filter = {.netns_fd = netns_fd, .device = device, .program = "nacre_offload1"};
	struct program running;

	program_init();
	int r = tcfilter_open(&filter, &running, err);
	const bool there = running.fd >= 0;
	program_close(&running);
	if (r < 0 || there)
		return r < 0 ? r : 0;
	struct offload_bpf *skel = offload_bpf__open();
	if (!skel)
		return error_errno(err, errno, "open the guard of offloads");
	r = program_load(skel->obj, err);
	if (r >= 0)
		r = tcfilter_attach(&filter, bpf_program__fd(skel->progs.nacre_offload1), err);
	offload_bpf__destroy(skel);
	return r;
}
