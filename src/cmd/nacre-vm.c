/* SPDX-License-Identifier: Apache-2.0 */

/*
 * nacre-vm: the first process of an instance's container. Runs the machine that
 * CONFIG describes, announces its prefix, serves DIR/control.sock and DIR/console.sock,
 * and when the machine is over leaves the reason in DIR/exit.json and ends.
 * SIGTERM presses the machine's power button.
 */

#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/listen.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/opt.h"
#include "base/util.h"
#include "vm/control.h"
#include "vm/filter.h"
#include "vm/machine.h"
#include "vm/ra.h"

struct vm {
	sd_event *loop;
	struct machine *machine;
	struct control *control;
	struct ra *ra;
};

static void on_changed(void *userdata) {
	struct vm *vm = userdata;

	/* NULL while the machine is being made. */
	if (vm->control)
		control_changed(vm->control);
}

static void on_ended(void *userdata) {
	struct vm *vm = userdata;

	sd_event_exit(vm->loop, 0);
}

static void print_status(void *userdata, struct buf *out) {
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

/* Not loop_new(): SIGTERM is not the end of the loop here, but the beginning of the guest's. */
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

/* QEMU, which runs by now, keeps the limit that is large enough for a disk. */
static int limit_own_files(struct error *err) {
	const struct rlimit own = {VM_OWN_FILE_MAX, VM_OWN_FILE_MAX};

	return setrlimit(RLIMIT_FSIZE, &own) < 0 ? error_errno(err, errno, "setrlimit") : 0;
}

/* With QEMU running as another user, killing it is all the privilege that is still needed. */
static int drop_capabilities(struct error *err) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	if (geteuid() != 0)
		return 0;
	data[0].effective = data[0].permitted = 1U << CAP_KILL;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &head, data) < 0)
		return error_errno(err, errno, "drop capabilities");
	return 0;
}

static int interface_mac(const char *ifname, struct mac *ret, struct error *err) {
	_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		return error_errno(err, errno, "MAC of interface `%s`", ifname);
	memcpy(ret->bytes, ifr.ifr_hwaddr.sa_data, 6);
	return 0;
}

static int start_ra(struct vm *vm, const struct vm_config *c, struct error *err) {
	struct ra_config ra = {.prefix = c->prefix, .mtu = (uint32_t)c->mtu};

	if (!c->prefix.addr.family)
		return 0;
	memcpy(ra.ifname, c->tap, sizeof(ra.ifname));
	int r = interface_mac(c->tap, &ra.mac, err);
	return r < 0 ? r : ra_new(&vm->ra, vm->loop, &ra, err);
}

static int run(struct vm *vm, const char *config_path, const char *dir, struct error *err) {
	static const struct machine_ops machine_ops = {.changed = on_changed, .ended = on_ended};
	static const struct control_ops control_ops = {.status = print_status, .command = on_command};
	_free_ char *control_path = strf("unix:%s/control.sock", dir),
		    *console_path = strf("unix:%s/console.sock", dir), *text = NULL;
	_close_ int control_fd = -1, console_fd = -1;
	struct vm_config c;
	size_t len;
	int r;

	if (!control_path || !console_path)
		return error_oom(err);
	r = read_file(config_path, VM_CONFIG_MAX, &text, &len, err);
	if (r < 0)
		return r;
	r = vm_config_parse(text, len, &c, err);
	if (r < 0)
		return error_prefix(err, "%s", config_path);
	r = listen_socket(control_path, &control_fd, err);
	if (r >= 0)
		r = listen_socket(console_path, &console_fd, err);
	if (r >= 0)
		r = make_loop(vm, err);
	/* The guest's first question may come as soon as it runs. */
	if (r >= 0)
		r = start_ra(vm, &c, err);
	if (r >= 0)
		r = machine_new(&vm->machine, vm->loop, &c, TAKE_FD(console_fd), &machine_ops, vm, err);
	if (r >= 0)
		r = control_new(&vm->control, vm->loop, TAKE_FD(control_fd), &control_ops, vm, err);
	if (r >= 0)
		r = limit_own_files(err);
	if (r >= 0)
		r = drop_capabilities(err);
	if (r >= 0)
		r = filter_apply(FILTER_NACRE_VM, err);
	return r < 0 ? r : loop_run(vm->loop, err);
}

static void write_end(const char *path, struct vm *vm, const struct error *failed) {
	_buf_free_ struct buf text = {.max = CONTROL_LINE_MAX};
	struct vm_status start = {.state = VM_ENDED, .end = VM_END_START_FAILED, .since_us = now_realtime_us()};
	struct error err;

	if (failed)
		snprintf(start.message, sizeof(start.message), "%.*s", (int)sizeof(start.message) - 1, failed->msg);
	vm_status_print(failed ? &start : machine_status(vm->machine), &text);
	if (!text.failed && write_file_atomic(path, text.data, text.len, 0644, &err) < 0)
		log_error("can't leave the reason", "error=\"%s\"", err.msg);
}

int main(int argc, char **argv) {
	const char *dir = NULL, *config = NULL;
	const struct opt opts[] = {
		{.name = "config",
	         .type = OPT_STR,
	         .dest = &config,
	         .arg = "FILE",
	         .help = "what the machine is made of",
	         .required = true},
		{.name = "dir",
	         .type = OPT_STR,
	         .dest = &dir,
	         .arg = "DIR",
	         .help = "directory for the sockets and exit.json",
	         .required = true},
		{0},
	};
	const struct opt_program prog = {.name = "nacre-vm",
	                                 .summary = "runs one virtual machine",
	                                 .usage = "--config FILE --dir DIR",
	                                 .opts = opts};
	struct vm vm = {0};
	struct error err = {0};

	opt_parse_or_exit(&prog, argc, argv);
	log_init("nacre-vm", LOG_LEVEL_INFO);
	_free_ char *end_path = strf("%s/exit.json", dir);
	if (!end_path)
		return 1;
	unlink(end_path);
	int r = run(&vm, config, dir, &err);
	if (r < 0)
		log_error("failed", "error=\"%s\"", err.msg);
	write_end(end_path, &vm, r < 0 ? &err : NULL);
	int status = r < 0 || machine_status(vm.machine)->end > VM_END_STOPPED;
	control_free(vm.control);
	machine_free(vm.machine);
	ra_free(vm.ra);
	sd_event_unref(vm.loop);
	return status;
}
