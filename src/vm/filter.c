/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/filter.h"

#include <errno.h>
#include <linux/falloc.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>

#define S(name) SCMP_SYS(name)

/* Calls that both need: for memory, time, signals, open descriptors, the event loop, and the end of the process. */
static const int common[] = {
	S(brk),
	S(mmap),
	S(munmap),
	S(mprotect),
	S(mremap),
	S(madvise),
	S(read),
	S(write),
	S(readv),
	S(writev),
	S(lseek),
	S(close),
	S(fcntl),
	S(ioctl),
	S(fstat),
	S(newfstatat),
	S(openat),
	S(recvfrom),
	S(recvmsg),
	S(sendto),
	S(sendmsg),
	S(shutdown),
	S(getsockname),
	S(getsockopt),
	S(poll),
	S(ppoll),
	S(epoll_create1),
	S(epoll_ctl),
	S(epoll_wait),
	S(epoll_pwait),
	S(epoll_pwait2),
	S(eventfd2),
	S(signalfd4),
	S(timerfd_create),
	S(timerfd_settime),
	S(clock_gettime),
	S(clock_getres),
	S(clock_nanosleep),
	S(gettimeofday),
	S(time),
	S(nanosleep),
	S(rt_sigaction),
	S(rt_sigprocmask),
	S(rt_sigreturn),
	S(sigaltstack),
	S(tgkill),
	S(restart_syscall),
	S(futex),
	S(getpid),
	S(gettid),
	S(getppid),
	S(getuid),
	S(geteuid),
	S(getgid),
	S(getegid),
	S(getrandom),
	S(sched_yield),
	S(exit),
	S(exit_group),
};

static const int qemu[] = {
	/* exec and the start of a program */
	S(execve),
	S(arch_prctl),
	S(access),
	S(faccessat),
	S(faccessat2),
	S(open),
	S(stat),
	S(lstat),
	S(statx),
	S(statfs),
	S(fstatfs),
	S(readlink),
	S(readlinkat),
	S(getcwd),
	S(fchdir),
	S(getdents64),
	S(pread64),
	S(set_tid_address),
	S(set_robust_list),
	S(rseq),
	S(prlimit64),
	S(getrlimit),
	S(uname),
	S(sysinfo),
	S(capget),
	S(get_mempolicy),
	S(getresuid),
	S(getresgid),
	S(seccomp),
	/* threads, and RCU */
	S(membarrier),
	S(sched_getaffinity),
	S(sched_getparam),
	S(sched_getscheduler),
	S(rt_sigtimedwait),
	S(rt_sigpending),
	S(get_robust_list),
	S(getrusage),
	S(getcpu),
	/* disks */
	S(pwrite64),
	S(preadv),
	S(pwritev),
	S(fsync),
	S(fdatasync),
	S(ftruncate),
	S(fadvise64),
	S(flock),
	/* loops */
	S(pipe2),
	S(dup),
	S(dup2),
	S(dup3),
	S(select),
	S(pselect6),
	S(timerfd_gettime),
	S(setsockopt),
	S(getpeername),
};

static const int nacre_vm[] = {
	S(accept4), S(kill), S(waitid), S(wait4), S(pidfd_send_signal), S(pidfd_open),
};

static int allow_all(scmp_filter_ctx ctx, const int *calls, size_t n) {
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

#define NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
#define THREAD (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND)

static int allow_qemu(scmp_filter_ctx ctx) {
	/* With KVM, the kernel reports memory errors of the host to QEMU (PR_MCE_KILL). */
	static const int options[] = {PR_SET_NAME,       PR_GET_NAME, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS,
	                              PR_SET_TIMERSLACK, PR_MCE_KILL, PR_CAPBSET_READ};
	/* QEMU and its libraries try these calls and can do without them. */
	static const int absent[] = {S(clone3), S(io_uring_setup), S(memfd_create), S(set_mempolicy)};
	/*
	 * The modes of fallocate(2) that QEMU uses. The other modes allocate space beyond the end of a file or move
	 * data there, where RLIMIT_FSIZE has no effect.
	 */
	static const int modes[] = {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE};
	int r = allow_all(ctx, qemu, ARRAY_SIZE(qemu));

	for (size_t i = 0; i < ARRAY_SIZE(options) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, S(prctl), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)options[i]));
	for (size_t i = 0; i < ARRAY_SIZE(modes) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, S(fallocate), 1,
		                     SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, (scmp_datum_t)modes[i]));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, S(clone), 1,
		                     SCMP_A0(SCMP_CMP_MASKED_EQ, THREAD | NAMESPACES, THREAD));
	for (size_t i = 0; i < ARRAY_SIZE(absent) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), absent[i], 0);
	return r;
}

/*
 * A second filter, because one filter can't allow all but some values of an argument: ioctl(2) offers the forbidden
 * modes of fallocate(2), too (FS_IOC_RESVSP, FS_IOC_ZERO_RANGE). They have type 'X', which QEMU does not use.
 */
static int forbid_ioctls(void) {
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

	if (!ctx)
		return -ENOMEM;
	int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOTTY), S(ioctl), 1,
	                         SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00, 'X' << 8));
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

int filter_apply(enum filter which, struct error *err) {
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);

	if (!ctx)
		return error_oom(err);
	int r = forbid_ioctls();
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* A tree instead of a list makes each system call cheaper. */
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = allow_all(ctx, common, ARRAY_SIZE(common));
	if (r == 0)
		r = which == FILTER_QEMU ? allow_qemu(ctx) : allow_all(ctx, nacre_vm, ARRAY_SIZE(nacre_vm));
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? error_errno(err, r, "install the filter of system calls") : 0;
}
