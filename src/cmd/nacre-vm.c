/* SPDX-License-Identifier: Apache-2.0 */

/*
 * nacre-vm: the first process of an instance's container. It runs the machine that CONFIG describes, tells the
 * guest its addresses, and serves control and console. When the machine has ended, it writes the reason to exit.json
 * and ends. nacre-node passes it all descriptors already open (vm/fds.h). SIGTERM presses the machine's power button.
 */

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/opt.h"
#include "base/util.h"
#include "vm/control.h"
#include "vm/fds.h"
#include "vm/filter.h"
#include "vm/machine.h"
#include "vm/responders.h"

struct vm {
	sd_event *loop;
	struct machine *machine;
	struct control *control;
	struct responders *responders;
};

static void on_changed(void *userdata) {
	struct vm *vm = userdata;

	/* NULL until the machine is started */
	if (vm->control)
		control_changed(vm->control);
}

static void on_ended(void *userdata) {
	struct vm *vm = userdata;

	sd_event_exit(vm->loop, 0);
}

static void nacre_vm_print_status(void *userdata, struct buf *out) {
	struct vm *vm = userdata;

	vm_status_print(machine_status(vm->machine), out);
}

static int on_command(void *userdata, const char *name, struct error *err) {
	struct vm *vm = userdata;

	return machine_command(vm->machine, name, err);
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
	(void)s;
	(void)si;
	struct vm *vm = userdata;
	struct error err;

	if (vm->machine && machine_command(vm->machine, "shutdown", &err) < 0)
		log_warn("no orderly shutdown", "error=\"%s\"", err.msg);
	return 0;
}

/* Not loop_new(): SIGTERM does not end the loop here, but asks the guest to shut down. */
static int make_loop(struct vm *vm, struct error *err) {
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_errno(err, errno, "sigprocmask");
	int r = sd_event_new(&vm->loop);
	if (r >= 0)
		r = sd_event_add_signal(vm->loop, NULL, SIGTERM, on_signal, vm);
	if (r >= 0)
		r = sd_event_add_signal(vm->loop, NULL, SIGINT, on_signal, vm);
	return r < 0 ? error_errno(err, r, "create the event loop") : 0;
}

/* QEMU is running already and keeps its limit, which is large enough for a disk. */
static int limit_own_files(struct error *err) {
	const struct rlimit own = {VM_OWN_FILE_MAX, VM_OWN_FILE_MAX};

	return setrlimit(RLIMIT_FSIZE, &own) < 0 ? error_errno(err, errno, "setrlimit") : 0;
}

/* QEMU runs as another user, so killing it is the only privilege that is still needed. */
static int drop_capabilities(struct error *err) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	data[0].effective = data[0].permitted = 1U << CAP_KILL;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &head, data) < 0)
		return error_errno(err, errno, "drop capabilities");
	return 0;
}

static int nacre_vm_run(struct vm *vm, const char *config_path, struct vm_fds *fds, struct error *err) {
	static const struct machine_ops machine_ops = {.changed = on_changed, .ended = on_ended};
	static const struct control_ops control_ops = {.status = nacre_vm_print_status, .command = on_command};
	_free_ char *text = NULL;
	struct vm_config c;
	size_t len;

	int r = read_file(config_path, VM_CONFIG_MAX, &text, &len, err);
	if (r < 0)
		return r;
	r = vm_config_parse(text, len, &c, err);
	if (r < 0)
		return error_prefix(err, "%s", config_path);
	if ((c.tap[0] != 0) != (fds->fd[VM_FD_TAP] >= 0))
		return error_set(err, EBADF, "the configuration and the given descriptors do not agree on a tap");
	r = make_loop(vm, err);
	/* The guest may ask as soon as it runs. */
	if (r >= 0)
		r = responders_new(&vm->responders, vm->loop, &c, fds, err);
	if (r >= 0)
		r = machine_new(&vm->machine, vm->loop, &c, TAKE_FD(fds->fd[VM_FD_TAP]),
		                TAKE_FD(fds->fd[VM_FD_CONSOLE]), &machine_ops, vm, err);
	if (r >= 0)
		r = control_new(&vm->control, vm->loop, TAKE_FD(fds->fd[VM_FD_CONTROL]), &control_ops, vm, err);
	if (r >= 0)
		r = limit_own_files(err);
	if (r >= 0)
		r = drop_capabilities(err);
	if (r >= 0)
		r = filter_apply(FILTER_NACRE_VM, err);
	return r < 0 ? r : loop_run(vm->loop, err);
}

/* If this is interrupted, exit.json can't be parsed, which has the same meaning as an empty file (node/instdir.h). */
static void write_end(int fd, struct vm *vm, const struct error *failed) {
	_buf_free_ struct buf text = {.max = CONTROL_LINE_MAX};
	struct vm_status start = {.state = VM_ENDED, .end = VM_END_START_FAILED, .since_us = now_realtime_us()};
	struct error err;

	if (failed)
		snprintf(start.message, sizeof(start.message), "%.*s", (int)sizeof(start.message) - 1, failed->msg);
	vm_status_print(failed ? &start : machine_status(vm->machine), &text);
	if (!text.failed && write_all(fd, text.data, text.len, &err) < 0)
		log_error("can't write exit.json", "error=\"%s\"", err.msg);
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
	const struct opt_program prog = {.name = "nacre-vm",
	                                 .summary = "runs one virtual machine, for nacre-node",
	                                 .usage = "--config FILE",
	                                 .opts = opts};
	_cleanup_(vm_fds_close) struct vm_fds fds = VM_FDS_NONE;
	struct vm vm = {0};
	struct error err = {0};

	opt_parse_or_exit(&prog, argc, argv);
	log_init("nacre-vm", LOG_LEVEL_INFO);
	int r = vm_fds_take(&fds, &err);
	if (r < 0) {
		log_error("failed", "error=\"%s\"", err.msg);
		return 1;
	}
	r = nacre_vm_run(&vm, config, &fds, &err);
	if (r < 0)
		log_error("failed", "error=\"%s\"", err.msg);
	write_end(fds.fd[VM_FD_END], &vm, r < 0 ? &err : NULL);
	int status = r < 0 || machine_status(vm.machine)->end > VM_END_STOPPED;
	control_free(vm.control);
	machine_free(vm.machine);
	responders_free(vm.responders);
	sd_event_unref(vm.loop);
	return status;
}
