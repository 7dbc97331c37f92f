/* SPDX-License-Identifier: Apache-2.0 */

/* The system calls that QEMU and nacre-vm can't make. */

#include "base/testing.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/util.h"
#include "vm/filter.h"

static struct error error;

/* What happens to a process that makes a call under a filter: a signal, or an errno, or 0. */
struct outcome {
	int signal, code;
};

static struct outcome make_call(enum filter which, const long c[7]) {
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (filter_apply(which, &error) < 0)
			_exit(200);
		long r = syscall(c[0], c[1], c[2], c[3], c[4], c[5], c[6]);
		_exit(r < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? (struct outcome){.signal = WTERMSIG(status)}
	                           : (struct outcome){.code = WEXITSTATUS(status)};
}

static void forbidden_calls_kill(void **state) {
	(void)state;
	static const long calls[][7] = {
		{SYS_socket, AF_NETLINK, SOCK_RAW, 0},
		{SYS_socket, AF_VSOCK, SOCK_STREAM, 0},
		{SYS_socket, AF_INET6, SOCK_DGRAM, 0},
		{SYS_socket, AF_UNIX, SOCK_STREAM, 0},
		{SYS_socket, AF_PACKET, SOCK_RAW, 0},
		{SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0},
		{SYS_connect, 0, 0, 0},
		{SYS_keyctl, 0, -3, 0},
		{SYS_add_key, 0, 0, 0},
		{SYS_bpf, 0, 0, 0},
		{SYS_perf_event_open, 0, 0, -1, -1, 0},
		{SYS_userfaultfd, 0},
		{SYS_unshare, CLONE_NEWUSER},
		{SYS_setns, 0, 0},
		{SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0},
		{SYS_fork},
		{SYS_vfork},
		{SYS_mount, 0, 0, 0, 0, 0},
		{SYS_umount2, 0, 0},
		{SYS_pivot_root, 0, 0},
		{SYS_chroot, 0},
		{SYS_ptrace, 0, 0, 0, 0},
		{SYS_process_vm_readv, 1, 0, 0, 0, 0, 0},
		{SYS_process_vm_writev, 1, 0, 0, 0, 0, 0},
		{SYS_pidfd_getfd, 0, 0, 0},
		{SYS_io_uring_enter, 0, 0, 0, 0, 0, 0},
		{SYS_io_setup, 1, 0},
		{SYS_setuid, 0},
		{SYS_setresuid, 0, 0, 0},
		{SYS_capset, 0, 0},
		{SYS_init_module, 0, 0, 0},
		{SYS_kexec_load, 0, 0, 0, 0},
		{SYS_open_by_handle_at, 0, 0, 0},
		{SYS_name_to_handle_at, 0, 0, 0, 0, 0},
		{SYS_shmget, 0, 4096, 0},
		{SYS_msgget, 0, 0},
		{SYS_semget, 0, 1, 0},
		{SYS_personality, 0},
		{SYS_quotactl, 0, 0, 0, 0},
		{SYS_chmod, 0, 0},
		{SYS_fchmod, 0, 0},
		{SYS_mkdir, 0, 0},
		{SYS_rename, 0, 0},
		{SYS_renameat2, 0, 0, 0, 0, 0},
		{SYS_unlink, 0},
		{SYS_unlinkat, 0, 0, 0},
		{SYS_link, 0, 0},
		{SYS_symlink, 0, 0},
		{SYS_mknod, 0, 0, 0},
		{SYS_prctl, PR_SET_DUMPABLE, 1},
		/* These would write past RLIMIT_FSIZE. */
		{SYS_fallocate, -1, FALLOC_FL_KEEP_SIZE, 0, 4096},
		{SYS_fallocate, -1, FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, 0, 4096},
		{SYS_fallocate, -1, FALLOC_FL_INSERT_RANGE, 0, 4096},
		{0x40000000 | 39}, /* getpid of the x32 interface */
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct outcome q = make_call(FILTER_QEMU, calls[i]), v = make_call(FILTER_NACRE_VM, calls[i]);
		if (q.signal != SIGSYS || v.signal != SIGSYS)
			fail_msg("call %ld (entry %zu): signals %d and %d, codes %d and %d", calls[i][0], i, q.signal,
			         v.signal, q.code, v.code);
	}
	/* For these calls QEMU gets the error of a kernel that lacks them. */
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_io_uring_setup, 1, 0}).code, ENOSYS);
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_clone3, 0, 0}).code, ENOSYS);
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_memfd_create, 0, 0}).code, ENOSYS);
	/* QEMU may make these calls with files; EBADF for descriptor -1 shows that they get through. */
	static const int modes[] = {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE};
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_fallocate, -1, modes[i], 0, 4096}).code,
		                 EBADF);
	/*
	 * These ioctls do the same as the forbidden modes: XFS_IOC_RESVSP64 and XFS_IOC_ZERO_RANGE, which every file
	 * system has.
	 */
	const unsigned long reserve = _IOC(_IOC_WRITE, 'X', 42, 48), zero = _IOC(_IOC_WRITE, 'X', 57, 48);
	for (int i = 0; i < 2; i++) {
		const enum filter which = i ? FILTER_QEMU : FILTER_NACRE_VM;
		assert_int_equal(make_call(which, (const long[7]){SYS_ioctl, -1, FIONBIO, 0}).code, EBADF);
		assert_int_equal(make_call(which, (const long[7]){SYS_ioctl, -1, (long)reserve, 0}).code, ENOTTY);
		assert_int_equal(make_call(which, (const long[7]){SYS_ioctl, -1, (long)(1UL << 32 | zero), 0}).code,
		                 ENOTTY);
	}
	assert_int_equal(make_call(FILTER_NACRE_VM, (const long[7]){SYS_io_uring_setup, 1, 0}).signal, SIGSYS);
	assert_int_equal(make_call(FILTER_NACRE_VM, (const long[7]){SYS_execve, 0, 0, 0}).signal, SIGSYS);
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_getpid}).signal, 0);
	assert_int_equal(make_call(FILTER_NACRE_VM, (const long[7]){SYS_getpid}).signal, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forbidden_calls_kill),
	};
	return cmocka_run_group_tests_name("vm-filter", tests, NULL, NULL);
}
