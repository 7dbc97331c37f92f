/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/qemu.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/jsonwrite.h"
#include "base/util.h"
#include "vm/filter.h"
#include "vm/metadata.h"

#define ARGS_MAX 128

struct args {
	char **v; /* ARGS_MAX + 1 slots */
	size_t n;
	bool failed;
};

char **strv_free(char **v) {
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
	return NULL;
}

static void qemu_take(struct args *a, char *s) {
	if (!s || a->n == ARGS_MAX) {
		free(s);
		a->failed = true;
		return;
	}
	a->v[a->n++] = s;
}

/* Adds OPTION with a value printed by FMT. */
static void _printf_(3, 4) arg(struct args *a, const char *option, const char *fmt, ...) {
	qemu_take(a, strdup(option));
	if (!fmt)
		return;
	va_list ap;
	char *s = NULL;
	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	qemu_take(a, s);
}

/*
 * What a guest learns from SMBIOS before it has a network: whose machine it is, and where cloud-init finds its metadata
 * (vm/metadata.h). cloud-init up to 23 takes `ds=nocloud` as a source that needs no network unless `dsmode=net` says
 * otherwise; from 24.1 on, `ds=nocloud-net` is deprecated. Without a public address at the start, IPv4 may never come.
 */
static void add_smbios(struct args *a, const struct vm_config *c) {
	const char *host = c->ipv4.family && c->public4.family ? METADATA_ADDRESS4 : "[" METADATA_ADDRESS6 "]";

	if (c->tap[0])
		arg(a, "-smbios",
		    "type=1,manufacturer=Nacre,product=Instance,serial=ds=nocloud;dsmode=net;s=http://%s/nocloud/",
		    host);
	else
		arg(a, "-smbios", "type=1,manufacturer=Nacre,product=Instance");
}

static void add_machine(struct args *a, const struct vm_config *c) {
	arg(a, "-name", "guest=%s,debug-threads=on", c->name);
	arg(a, "-uuid", "%s", c->uuid);
	add_smbios(a, c);
	/* QEMU reads no configuration file: these arguments describe the whole machine. */
	arg(a, "-no-user-config", NULL);
	arg(a, "-nodefaults", NULL);
	arg(a, "-display", "none");
	arg(a, "-machine", "q35,usb=off,vmport=off,dump-guest-core=off,mem-merge=off");
	if (c->accel == VM_ACCEL_KVM) {
		arg(a, "-accel", "kvm");
		arg(a, "-cpu", "host");
	} else {
		arg(a, "-accel", "tcg,thread=multi,tb-size=%d", QEMU_TCG_CACHE_MIB);
		arg(a, "-cpu", "max");
	}
	arg(a, "-smp", "%lld", (long long)c->vcpus);
	arg(a, "-m", "%lldM", (long long)c->memory_mib);
	arg(a, "-rtc", "base=utc");
	/* QEMU's own filter, in addition to ours (vm/filter.h). It also forbids execve, which ours must allow. */
	arg(a, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	/* No suspend: nothing could wake the machine again. */
	arg(a, "-global", "ICH9-LPC.disable_s3=1");
	arg(a, "-global", "ICH9-LPC.disable_s4=1");
}

/*
 * Block devices are given as JSON, so that no character of a path has a special meaning. "backing": null keeps QEMU
 * from opening the file that an image's header names.
 */
static void add_drive(struct args *a, const char *node, const char *path, enum vm_format format, bool read_only,
                      const char *backing) {
	_buf_free_ struct buf j = {.max = 4096};

	jw_begin(&j, '{');
	jw_kv_string(&j, "node-name", node);
	jw_kv_string(&j, "driver", format == VM_FORMAT_QCOW2 ? "qcow2" : "raw");
	jw_kv_bool(&j, "read-only", read_only);
	jw_kv_string(&j, "discard", "unmap");
	if (format == VM_FORMAT_QCOW2) {
		jw_key(&j, "backing");
		backing ? jw_string(&j, backing) : jw_null(&j);
	}
	jw_key(&j, "file");
	jw_begin(&j, '{');
	jw_kv_string(&j, "driver", "file");
	jw_kv_string(&j, "filename", path);
	jw_kv_bool(&j, "read-only", read_only);
	jw_kv_string(&j, "discard", "unmap");
	/* Many machines share an image, and only this container can see the machine's own disk. */
	jw_kv_string(&j, "locking", "off");
	jw_end(&j, '}');
	jw_end(&j, '}');
	if (j.failed)
		a->failed = true;
	else
		arg(a, "-blockdev", "%s", j.data);
}

static void add_boot(struct args *a, const struct vm_config *c) {
	switch (c->boot) {
	case VM_BOOT_KERNEL:
		arg(a, "-kernel", "%s", c->kernel);
		if (c->initrd[0])
			arg(a, "-initrd", "%s", c->initrd);
		arg(a, "-append", "%s", c->cmdline);
		break;
	case VM_BOOT_UEFI:
		add_drive(a, "fw", c->firmware, VM_FORMAT_RAW, true, NULL);
		add_drive(a, "fwvars", c->firmware_vars, VM_FORMAT_RAW, false, NULL);
		arg(a, "-machine", "pflash0=fw,pflash1=fwvars");
		break;
	case VM_BOOT_BIOS: break;
	}
}

static void add_devices(struct args *a, const struct vm_config *c, const struct qemu_fds *fds) {
	char mac[MAC_STR_MAX];

	if (c->disk[0]) {
		add_drive(a, "image", c->image, c->image_format, true, NULL);
		add_drive(a, "disk", c->disk, VM_FORMAT_QCOW2, false, "image");
		/* A full file system is reported to the guest as an error. Otherwise QEMU would stop the machine, and
		 * nothing would resume it. */
		arg(a, "-device", "virtio-blk-pci,drive=disk,serial=root,bootindex=1,werror=report,rerror=report");
	}
	if (fds->tap >= 0) {
		arg(a, "-netdev", "tap,id=net0,fd=%d", fds->tap);
		/* No boot ROM: the machine boots from its own disk or kernel, and loading the ROM takes time. */
		arg(a, "-device", "virtio-net-pci,netdev=net0,mac=%s,host_mtu=%lld,romfile=", mac_str(&c->mac, mac),
		    (long long)c->mtu);
	}
	arg(a, "-object", "rng-random,id=rng0,filename=/dev/urandom");
	arg(a, "-device", "virtio-rng-pci,rng=rng0");
	arg(a, "-chardev", "socket,id=serial0,fd=%d", fds->serial);
	arg(a, "-serial", "chardev:serial0");
	arg(a, "-chardev", "socket,id=qmp0,fd=%d", fds->qmp);
	arg(a, "-mon", "chardev=qmp0,mode=control");
}

int qemu_argv(const struct vm_config *c, const struct qemu_fds *fds, char ***ret, struct error *err) {
	struct args a = {.v = calloc(ARGS_MAX + 1, sizeof(char *))};

	if (!a.v)
		return error_oom(err);
	qemu_take(&a, strdup(QEMU_PROGRAM));
	add_machine(&a, c);
	add_boot(&a, c);
	add_devices(&a, c, fds);
	if (a.failed) {
		strv_free(a.v);
		return error_oom(err);
	}
	*ret = a.v;
	return 0;
}

int qemu_open_tap(const char *name, int *ret_fd, struct error *err) {
	_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

	if (fd < 0)
		return error_errno(err, errno, "open `/dev/net/tun`");
	/* If the device were missing, TUNSETIFF would create one without the right settings. */
	if (if_nametoindex(name) == 0)
		return error_errno(err, errno, "tap `%s`", name);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return error_errno(err, errno, "open tap `%s`", name);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Runs in the child. Returns only on failure, with errno set. */
static void child(const struct vm_config *c, char **argv, const int keep[3], int log, pid_t parent) {
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* This setting survives exec: if a file reaches its limit, the guest gets an I/O error and QEMU does not end.
	 */
	signal(SIGXFSZ, SIG_IGN);
	if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		return;
	if (setpgid(0, 0) < 0)
		return;
	if (c->gid && (setgroups(0, NULL) < 0 || setresgid((gid_t)c->gid, (gid_t)c->gid, (gid_t)c->gid) < 0))
		return;
	if (c->uid && setresuid((uid_t)c->uid, (uid_t)c->uid, (uid_t)c->uid) < 0)
		return;
	/* This comes after the change of user, which clears it. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return;
	if (getppid() != parent)
		return;
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return;
	for (int i = 0; i < 3; i++)
		if (keep[i] >= 0 && fcntl(keep[i], F_SETFD, 0) < 0)
			return;
	struct error err;
	int r = filter_apply(FILTER_QEMU, &err);
	if (r < 0) {
		errno = -r;
		return;
	}
	execv(argv[0], argv);
}

int qemu_start(const struct vm_config *c, int tap, struct qemu_process *ret, struct error *err) {
	_close_ int qmp0 = -1, qmp1 = -1, ser0 = -1, ser1 = -1, log0 = -1, log1 = -1, fail0 = -1, fail1 = -1;
	_strv_free_ char **argv = NULL;
	int sv[2], r, code = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return error_errno(err, errno, "socketpair");
	qmp0 = sv[0], qmp1 = sv[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return error_errno(err, errno, "socketpair");
	ser0 = sv[0], ser1 = sv[1];
	if (pipe2(sv, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	log0 = sv[0], log1 = sv[1];
	if (pipe2(sv, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	fail0 = sv[0], fail1 = sv[1];
	/* Only our ends of the pipes; QEMU sets the mode of its ends. */
	if (fcntl(qmp0, F_SETFL, O_NONBLOCK) < 0 || fcntl(ser0, F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(log0, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, errno, "fcntl");
	r = qemu_argv(c, &(struct qemu_fds){.tap = tap, .qmp = qmp1, .serial = ser1}, &argv, err);
	if (r < 0)
		return r;
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		child(c, argv, (const int[3]){tap, qmp1, ser1}, log1, parent);
		code = errno;
		_exit(write(fail1, &code, sizeof(code)) < 0 ? 126 : 127);
	}
	if (pid < 0)
		return error_errno(err, errno, "fork");
	close(TAKE_FD(fail1));
	if (read(fail0, &code, sizeof(code)) == (ssize_t)sizeof(code)) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return error_errno(err, code, "start `%s`", argv[0]);
	}
	*ret = (struct qemu_process){.pid = pid, .qmp = TAKE_FD(qmp0), .serial = TAKE_FD(ser0), .log = TAKE_FD(log0)};
	return 0;
}
