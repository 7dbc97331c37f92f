/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What answers a guest, without a machine, for tests/vm: opens the sockets on the tap of CONFIG in this network
 * namespace, gives up all privileges, applies nacre-vm's filter of system calls, prints "ready" and answers until
 * SIGTERM.
 */

#include <grp.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/opt.h"
#include "base/util.h"
#include "vm/filter.h"
#include "vm/responders.h"

#define NOBODY 65534

static int become_nobody(struct error *err) {
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return error_errno(err, errno, "become nobody");
	return 0;
}

static int serve(const char *path, struct error *err) {
	_cleanup_(cleanup_responders) struct responders *responders = NULL;
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(vm_fds_close) struct vm_fds fds = VM_FDS_NONE;
	_free_ char *text = NULL;
	struct vm_config c;
	size_t len;

	int r = read_file(path, VM_CONFIG_MAX, &text, &len, err);
	if (r >= 0)
		r = vm_config_parse(text, len, &c, err);
	if (r >= 0)
		r = responders_open(c.tap, &fds, err);
	if (r >= 0)
		r = become_nobody(err);
	if (r >= 0)
		r = loop_new(&loop, err);
	if (r >= 0)
		r = responders_new(&responders, loop, &c, &fds, err);
	if (r >= 0)
		r = filter_apply(FILTER_NACRE_VM, err);
	if (r < 0)
		return r;
	(void)!write(STDOUT_FILENO, "ready\n", 6);
	return loop_run(loop, err);
}

int main(int argc, char **argv) {
	const char *config = NULL;
	const struct opt opts[] = {
		{.name = "config",
	         .type = OPT_STR,
	         .dest = &config,
	         .arg = "FILE",
	         .help = "configuration of the machine",
	         .required = true},
		{0},
	};
	const struct opt_program prog = {
		.name = "test-responders", .summary = "answers a guest", .usage = "--config FILE", .opts = opts};
	struct error err = {0};

	opt_parse_or_exit(&prog, argc, argv);
	log_init("test-responders", LOG_LEVEL_INFO);
	if (serve(config, &err) < 0) {
		log_error("failed", "error=\"%s\"", err.msg);
		return 1;
	}
	return 0;
}
