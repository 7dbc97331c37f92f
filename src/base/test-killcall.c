/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Kills a program at a chosen call of netlink or bpf(2), as the kernel's OOM killer might, for tests/lib/killcall.py.
 * It is preloaded (LD_PRELOAD of ld.so(8)) into the program that NACRE_KILLCALL_PROGRAM names, which it doesn't change;
 * programs that this one starts don't have it, except workers, which are forks (base/job.h). NACRE_KILLCALL is the path
 * of a file with a struct killcall, which the test and all processes of the program map.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KILLCALL_KINDS 4096
#define KILLCALL_BPF   0xff

/* The test writes AT and COUNT. */
struct killcall {
	uint32_t at;    /* the program is killed instead of its call of this number; 0: never */
	uint32_t count; /* calls so far */
	/* What the first calls are: the protocol of the socket << 24 | the type of the first message; or
	 * KILLCALL_BPF << 24 | the command. */
	uint32_t kinds[KILLCALL_KINDS];
};

static struct killcall *killcall_shared;
static pid_t killcall_program;

static long killcall_real(long number, long a, long b, long c, long d, long e, long f) {
	static long (*real)(long, ...);

	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return real(number, a, b, c, d, e, f);
}

static void __attribute__((constructor)) killcall_begin(void) {
	const char *name = getenv("NACRE_KILLCALL_PROGRAM"), *path = getenv("NACRE_KILLCALL");
	int fd;

	if (!name || !path || strcmp(name, program_invocation_short_name) != 0)
		return;
	unsetenv("LD_PRELOAD");
	fd = open(path, O_RDWR | O_CLOEXEC);
	void *at =
		fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*killcall_shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		abort();
	close(fd);
	killcall_program = getpid();
	killcall_shared = at;
}

static void killcall_pass(uint32_t kind) {
	uint32_t n = __atomic_fetch_add(&killcall_shared->count, 1, __ATOMIC_SEQ_CST) + 1;

	if (n <= KILLCALL_KINDS)
		killcall_shared->kinds[n - 1] = kind;
	if (n != __atomic_load_n(&killcall_shared->at, __ATOMIC_SEQ_CST))
		return;
	kill(killcall_program, SIGKILL);
	kill(getpid(), SIGKILL);
}

/* DATA is the beginning of what is sent on FD. */
static void killcall_pass_socket(int fd, const void *data, size_t len) {
	int domain = 0, protocol = 0, saved = errno;
	socklen_t size = sizeof(domain);
	struct nlmsghdr h = {0};

	if (killcall_shared && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_NETLINK &&
	    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0) {
		memcpy(&h, data, len < sizeof(h) ? len : sizeof(h));
		killcall_pass((uint32_t)protocol << 24 | h.nlmsg_type);
	}
	errno = saved;
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to, socklen_t size) {
	killcall_pass_socket(fd, data, len);
	return killcall_real(SYS_sendto, fd, (long)data, (long)len, flags, (long)to, size);
}

ssize_t send(int fd, const void *data, size_t len, int flags) {
	return sendto(fd, data, len, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
	if (m->msg_iovlen)
		killcall_pass_socket(fd, m->msg_iov[0].iov_base, m->msg_iov[0].iov_len);
	return killcall_real(SYS_sendmsg, fd, (long)m, flags, 0, 0, 0);
}

/* libbpf calls bpf(2) so. */
long syscall(long number, ...) {
	long v[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		v[i] = va_arg(args, long);
	va_end(args);
	if (killcall_shared && number == SYS_bpf)
		killcall_pass((uint32_t)KILLCALL_BPF << 24 | (uint32_t)v[0]);
	return killcall_real(number, v[0], v[1], v[2], v[3], v[4], v[5]);
}
