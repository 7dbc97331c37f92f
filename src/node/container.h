/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The container of one instance: user, mount, pid, ipc and uts namespaces of its own, a
 * given network namespace, a minimal read-only root, and one program as its first
 * process, which outlives the caller.
 *
 * Two users are there: root, whom the host knows as container_root(), and QEMU's. Only the user namespace is theirs:
 * the others belong to the host's, so that root inside may become QEMU's user and kill what is his, and nothing else.
 * What takes more, the program is given open (vm/fds.h).
 *
 * In DIR (owned by root): `pid` says who the first process is (base/proc.h), `log` is what it
 * prints, `config.json` is for it; its sockets and `exit.json` (vm/fds.h). Inside: /usr of the host, read-only; /dev
 * with the few nodes QEMU needs; DIR/config.json, read-only; the disks' folder as /state, whose files are QEMU's and
 * which itself is root's; the given files below /image, read-only; nothing else of the host. No file can be made there.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "node/cgroup.h"

#define CONTAINER_FILES_MAX 4
#define CONTAINER_ROOT      "root"        /* in DIR: where the root is put together */
#define CONTAINER_CONFIG    "config.json" /* in DIR; for the users inside to read */

/* QEMU's users are a range of so many numbers (node/hypervisor.h), and the roots are the range after it. */
#define CONTAINER_USERS 60000

/* The host's number of root in the container of QEMU's user USER. */
static inline uid_t container_root(uid_t user) {
	return user + CONTAINER_USERS;
}

struct container_file {
	const char *host; /* path on the host */
	const char *name; /* inside: /image/NAME */
};

struct container_config {
	const char *dir;
	const char *state; /* seen as /state inside; NULL: there is none */
	const char *netns; /* path of the network namespace */
	const char *hostname;
	const char *program; /* of the host; seen as /init inside */
	const char *tap;     /* in that network namespace; NULL: there is none */
	uid_t user;          /* QEMU's, and its group; may open /dev/kvm */
	struct container_file files[CONTAINER_FILES_MAX];
	size_t n_files;
	const struct cgroups *cgroups; /* NULL: it stays in the caller's groups */
	const char *cgroup;            /* that was made by cgroup_make() */
	uint64_t file_max;             /* bytes of each file that is written inside */
};

/*
 * Starts it; the caller has made sure that none is running. When this process dies midway there
 * is no container, or one that container_find() finds.
 */
int container_start(const struct container_config *c, pid_t *ret_pid, struct error *err) _must_use_;
/*
 * The first process of the container that runs in DIR, by its pid file. An error for which container_is_gone() says no,
 * as -EMFILE, doesn't tell whether there is one.
 */
int container_find(const char *dir, pid_t *ret_pid) _must_use_;
/* No process, no pid file, or one that says nothing. */
static inline bool container_is_gone(int r) {
	return r == -ESRCH || r == -ENOENT || r == -EBADMSG;
}
/*
 * The same by the kernel's word, whatever became of the pid file: looks in CGROUP, and then through all processes, for
 * one that is the first of a container in NETNS. C may be NULL. -ESRCH if there is none.
 */
int container_search(const struct cgroups *c, const char *cgroup, const char *netns, pid_t *ret_pid,
                     struct error *err) _must_use_;
/* Is PID in that network namespace? 1: yes. 0: no, it is in another. -ESRCH: PID is gone. */
int container_is_in(pid_t pid, const char *netns) _must_use_;
/* Kills all that is in it, waits for the end and removes the pid file. None running is success. */
int container_kill(const char *dir, struct error *err);
