/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The container of one instance: its own user, mount, pid, ipc and uts namespaces, a given network namespace, a minimal
 * read-only root, and one program as its first process, which outlives the caller.
 *
 * The container has two users: root, whose uid on the host is container_root(), and QEMU's. Only the user namespace
 * belongs to them; the other namespaces belong to the host's user namespace. So root inside may become QEMU's user and
 * kill that user's processes, and nothing else. Whatever needs more rights is opened before and passed to the program
 * (vm/fds.h).
 *
 * DIR, which root owns, has `pid`, which says which process is the first (base/proc.h); `log`, which the program
 * prints; `config.json`, which it reads; its sockets and `exit.json` (vm/fds.h). Inside the container are /usr of the
 * host, read-only; /dev with the few nodes that QEMU needs; DIR/config.json and the folder DIR/seed, read-only; the
 * disks' folder as /state, whose files are QEMU's and which itself is root's; the given files below /image, read-only;
 * and nothing else of the host. No file can be made in the container.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "node/cgroup.h"

#define CONTAINER_FILES_MAX 4
#define CONTAINER_ROOT      "root"        /* in DIR: where the root is put together */
#define CONTAINER_CONFIG    "config.json" /* in DIR; for the users inside to read */
#define CONTAINER_SEED      "seed"        /* the same, a folder (vm/seed.h) */

/*
 * QEMU's users are a range of CONTAINER_USERS numbers (node/hypervisor.h); the containers' roots are the range after
 * it.
 */
#define CONTAINER_USERS 60000

/* The uid on the host of the root in the container whose QEMU has the uid USER. */
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
	uid_t user;          /* uid and gid of QEMU; may open /dev/kvm */
	struct container_file files[CONTAINER_FILES_MAX];
	size_t n_files;
	const struct cgroups *cgroups; /* NULL: it stays in the caller's groups */
	const char *cgroup;            /* that was made by cgroup_make() */
	uint64_t file_max;             /* limit of each file that is written inside, in bytes */
};

/*
 * Starts the container; the caller has made sure that none is running. If this process dies midway, there is no
 * container, or container_find() finds it.
 */
int container_start(const struct container_config *c, pid_t *ret_pid, struct error *err) _must_use_;
/*
 * Finds the first process of the container that runs in DIR by its pid file. If container_is_gone() is false for an
 * error, such as -EMFILE, it is not known whether there is a container.
 */
int container_find(const char *dir, pid_t *ret_pid) _must_use_;
/* There is no process, no pid file, or a pid file without a valid content. */
static inline bool container_is_gone(int r) {
	return r == -ESRCH || r == -ENOENT || r == -EBADMSG;
}
/*
 * Finds the first process by asking the kernel, whatever happened to the pid file: looks in CGROUP, and then through
 * all processes, for a process that is the first of a container in NETNS. C may be NULL. -ESRCH if there is none.
 */
int container_search(const struct cgroups *c, const char *cgroup, const char *netns, pid_t *ret_pid,
                     struct error *err) _must_use_;
/* Whether PID is in the network namespace NETNS. 1: yes. 0: no, it is in another one. -ESRCH: PID is gone. */
int container_is_in(pid_t pid, const char *netns) _must_use_;
/* Kills everything in the container, waits for the end and removes the pid file. Success if no container runs. */
int container_kill(const char *dir, struct error *err);
