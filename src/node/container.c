/* SPDX-License-Identifier: Apache-2.0 */
#include "node/container.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/proc.h"
#include "base/util.h"
#include "vm/fds.h"

/* Needed to become QEMU's user and to kill QEMU; nothing more. */
#define CAPABILITIES ((1ULL << CAP_SETUID) | (1ULL << CAP_SETGID) | (1ULL << CAP_KILL))

#define OOM_SCORE_ADJ "500"

/* What the processes between the caller and the container report. */
struct report {
	pid_t pid;
	int code;
	char message[sizeof(((struct error *)0)->msg)];
};

static int bind_read_only(const char *from, const char *to, struct error *err) {
	if (mount(from, to, NULL, MS_BIND, NULL) < 0)
		return error_errno(err, errno, "mount `%s`", from);
	if (mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
		return error_errno(err, errno, "make the mount of `%s` read-only", from);
	return 0;
}

/* Mounts a folder that lets data be read and written, and nothing else. */
static int bind_folder(const char *from, const char *to, struct error *err) {
	if (mount(from, to, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return error_errno(err, errno, "mount `%s`", from);
	return 0;
}

static int touch(const char *path, struct error *err) {
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);

	if (fd < 0)
		return error_errno(err, errno, "create `%s`", path);
	close(fd);
	return 0;
}

static int make_devices(gid_t gid, struct error *err) {
	static const struct {
		const char *path;
		unsigned major, minor;
		mode_t mode;
		bool for_qemu;
	} nodes[] = {
		{"dev/null", 1, 3, 0666, false},    {"dev/zero", 1, 5, 0666, false},  {"dev/random", 1, 8, 0666, false},
		{"dev/urandom", 1, 9, 0666, false}, {"dev/kvm", 10, 232, 0660, true},
	};

	if (mkdir("dev", 0755) < 0)
		return error_errno(err, errno, "mkdir");
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		if (mknod(nodes[i].path, S_IFCHR | nodes[i].mode, makedev(nodes[i].major, nodes[i].minor)) < 0 ||
		    chown(nodes[i].path, 0, nodes[i].for_qemu ? gid : 0) < 0 || chmod(nodes[i].path, nodes[i].mode) < 0)
			return error_errno(err, errno, "make `%s`", nodes[i].path);
	return 0;
}

static int mount_files(const struct container_config *c, struct error *err) {
	char path[300];

	if (mkdir("image", 0755) < 0)
		return error_errno(err, errno, "mkdir");
	for (size_t i = 0; i < c->n_files; i++) {
		snprintf(path, sizeof(path), "image/%s", c->files[i].name);
		int r = touch(path, err);
		if (r >= 0)
			r = bind_read_only(c->files[i].host, path, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What the agent writes into the folder later is seen inside, so the folder must exist now. */
static int mount_seed(const struct container_config *c, struct error *err) {
	_free_ char *seed = strf("%s/" CONTAINER_SEED, c->dir);

	if (!seed)
		return error_oom(err);
	if ((mkdir(seed, 0755) < 0 && errno != EEXIST) || mkdir(CONTAINER_SEED, 0755) < 0)
		return error_errno(err, errno, "mkdir `%s`", seed);
	return bind_read_only(seed, CONTAINER_SEED, err);
}

/* Makes the root. The caller has its own mount namespace; its working directory becomes the new root. */
static int make_root(const struct container_config *c, const char *root, struct error *err) {
	static const char *const links[][2] = {
		{"usr/bin", "bin"}, {"usr/sbin", "sbin"}, {"usr/lib", "lib"}, {"usr/lib64", "lib64"}};
	_free_ char *config = strf("%s/" CONTAINER_CONFIG, c->dir);
	int r;

	if (!config)
		return error_oom(err);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, errno, "make mounts private");
	if (mount("tmpfs", root, "tmpfs", MS_NOSUID, "mode=755,size=1m,nr_inodes=256") < 0)
		return error_errno(err, errno, "mount a tmpfs on `%s`", root);
	if (chdir(root) < 0)
		return error_errno(err, errno, "chdir");
	if (mkdir("usr", 0755) < 0 || mkdir("proc", 0555) < 0 || mkdir("state", 0755) < 0 || mkdir("tmp", 0755) < 0)
		return error_errno(err, errno, "mkdir");
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) < 0)
			return error_errno(err, errno, "symlink");
	if ((r = bind_read_only("/usr", "usr", err)) < 0 || (r = touch("init", err)) < 0 ||
	    (r = bind_read_only(c->program, "init", err)) < 0 || (r = make_devices(c->user, err)) < 0 ||
	    (r = mount_files(c, err)) < 0 || (r = touch(CONTAINER_CONFIG, err)) < 0 ||
	    (r = bind_read_only(config, CONTAINER_CONFIG, err)) < 0 || (r = mount_seed(c, err)) < 0)
		return r;
	if (c->state && (r = bind_folder(c->state, "state", err)) < 0)
		return r;
	/*
	 * /proc is read-only, like everything else, and shows only processes: its other files tell about the host and
	 * other guests.
	 */
	if (mount("proc", "proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") < 0)
		return error_errno(err, errno, "mount proc");
	/* The old root is stacked on the new one and then unmounted (pivot_root(2)). */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_errno(err, errno, "pivot_root");
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL) < 0)
		return error_errno(err, errno, "make the root read-only");
	return 0;
}

static int container_drop_capabilities(struct error *err) {
	for (int cap = 0; cap < 64; cap++)
		if (!(CAPABILITIES & (1ULL << cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			return error_errno(err, errno, "drop capability %d", cap);
	return 0;
}

/*
 * This step comes last: everything before it is done with the host's rights and belongs to the host's user namespace.
 * SYNC leads to the process that may write the map of the new user namespace; it also reports a failure to do so.
 */
static int enter_userns(int sync, struct error *err) {
	char byte = 0;

	if (unshare(CLONE_NEWUSER) < 0)
		return errno == ENOSPC ? error_set(err, ENOSPC,
		                                   "no more user namespaces may be made here: raise the sysctl "
		                                   "user.max_user_namespaces")
		                       : error_errno(err, errno, "make a user namespace");
	if (write(sync, &byte, 1) != 1 || read(sync, &byte, 1) != 1)
		_exit(1);
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_errno(err, errno, "become root of the user namespace");
	return container_drop_capabilities(err);
}

/* The first process of the container. Returns only on failure. */
static int first(const struct container_config *c, const char *root, int log, const struct vm_fds *fds, int sync,
                 struct error *err) {
	/*
	 * With a limit of 1 instead of 0 the kernel also doesn't pipe a core into the host's core_pattern program
	 * (fs/coredump.c).
	 */
	const struct rlimit no_core = {1, 1}, file = {c->file_max, c->file_max};
	const char *argv[] = {"nacre-vm", "--config", "/" CONTAINER_CONFIG, NULL};
	struct vm_fds_env given;
	char *const envp[] = {"PATH=/usr/sbin:/usr/bin", given.pid, given.fds, given.names, NULL};
	sigset_t none;
	int r;

	proc_restore_file_limit();
	/* Neither root nor QEMU's user owns the files that are made now. */
	umask(022);
	if ((r = make_root(c, root, err)) < 0)
		return r;
	int null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		return error_errno(err, errno, "set up standard output");
	if (sethostname(c->hostname, strlen(c->hostname)) < 0)
		return error_errno(err, errno, "set host name `%s`", c->hostname);
	if (setrlimit(RLIMIT_CORE, &no_core) < 0 || setrlimit(RLIMIT_FSIZE, &file) < 0)
		return error_errno(err, errno, "setrlimit");
	if ((r = enter_userns(sync, err)) < 0)
		return r;
	umask(027);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* Not every library opens its descriptors close-on-exec. */
	if (close_range(VM_FDS_FIRST, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return error_errno(err, errno, "mark descriptors");
	if ((r = vm_fds_pass(fds, &given, err)) < 0)
		return r;
	execve("/init", (char *const *)argv, envp);
	return error_errno(err, errno, "exec `%s`", c->program);
}

static void container_tell(int fd, const struct report *rep) {
	(void)!write(fd, rep, sizeof(*rep));
}

static int map_users(pid_t pid, uid_t user, struct error *err) {
	static const char *const files[] = {"uid_map", "gid_map"};
	char path[64], map[96];
	int r = 0;

	snprintf(map, sizeof(map), "0 %u 1\n%u %u 1\n", container_root(user), user, user);
	for (size_t i = 0; i < ARRAY_SIZE(files) && r >= 0; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i]);
		r = write_file(path, map, err);
	}
	return r;
}

/*
 * The process between the caller and the container. It makes the first process, writes the pid file and only then lets
 * the first process go on, so that no container ever runs without a pid file. Then it maps the users.
 */
static int middle(const struct container_config *c, const char *root, const char *pidfile, int log, int report_fd,
                  struct error *err) {
	struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
	                          .exit_signal = SIGCHLD};
	_cleanup_(vm_fds_close) struct vm_fds fds = VM_FDS_NONE;
	_close_ int netns = open(c->netns, O_RDONLY | O_CLOEXEC);
	struct report rep = {0};
	int sync[2];
	char byte = 0;

	/*
	 * When the host runs out of memory, guests are killed before the agent and FRR. -EACCES: the agent itself has a
	 * higher score and may not lower it, so guests are killed first anyway.
	 */
	int r = write_file("/proc/self/oom_score_adj", OOM_SCORE_ADJ, err);
	if (r >= 0 || r == -EACCES)
		r = c->cgroups ? cgroup_enter(c->cgroups, c->cgroup, err) : 0;
	if (r < 0)
		return r;
	if (netns < 0 || setns(netns, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "enter network namespace `%s`", c->netns);
	r = vm_fds_open(c->dir, c->tap, &fds, err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync) < 0)
		return error_errno(err, errno, "socketpair");
	signal(SIGPIPE, SIG_IGN);
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		struct error failed = {0};
		close(sync[0]);
		if (read(sync[1], &byte, 1) != 1)
			_exit(1);
		/* Until now the first process is killed with the caller's process group (base/job.h). */
		setsid();
		rep.code = -first(c, root, log, &fds, sync[1], &failed);
		snprintf(rep.message, sizeof(rep.message), "%s", failed.msg);
		container_tell(report_fd, &rep);
		_exit(127);
	}
	close(sync[1]);
	if (pid < 0)
		return error_errno(err, errno, "clone");
	r = proc_pidfile_write(pidfile, pid, err);
	if (r < 0)
		return r;
	rep.pid = pid;
	container_tell(report_fd, &rep);
	if (write(sync[0], &byte, 1) != 1)
		return error_errno(err, errno, "start the container");
	/* If the first process has ended, it has reported the reason. */
	if (read(sync[0], &byte, 1) != 1)
		return 0;
	r = map_users(pid, c->user, err);
	if (r >= 0)
		(void)!write(sync[0], &byte, 1);
	return r;
}

static int read_reports(int fd, pid_t *ret_pid, struct error *err) {
	struct report rep;
	int r = 0;

	/*
	 * There is one report with the pid, and a second one only after a failure; then end of file, when exec has
	 * closed the pipe.
	 */
	ssize_t n;
	while ((n = read(fd, &rep, sizeof(rep))) == (ssize_t)sizeof(rep) || (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue;
		if (rep.pid)
			*ret_pid = rep.pid;
		if (rep.code && r == 0)
			r = error_set(err, rep.code, "%s", rep.message);
	}
	if (r == 0 && *ret_pid == 0)
		r = error_set(err, EIO, "the container's parent process died");
	return r;
}

int container_start(const struct container_config *c, pid_t *ret_pid, struct error *err) {
	_free_ char *root = strf("%s/" CONTAINER_ROOT, c->dir), *pidfile = strf("%s/pid", c->dir),
		    *logfile = strf("%s/log", c->dir);
	_close_ int log = -1, report = -1;
	struct report rep = {0};
	pid_t pid = 0;
	int p[2];

	if (!root || !pidfile || !logfile)
		return error_oom(err);
	int r = mkdir_p(root, 0755, err);
	if (r < 0)
		return r;
	log = open(logfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (log < 0)
		return error_errno(err, errno, "open `%s`", logfile);
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	pid_t between = fork();
	if (between == 0) {
		struct error failed = {0};
		/* The descriptor must be out of the range of those that are passed on. */
		report = fcntl(p[1], F_DUPFD_CLOEXEC, VM_FDS_END);
		if (report < 0)
			_exit(1);
		close(p[0]);
		close(p[1]);
		rep.code = -middle(c, root, pidfile, log, report, &failed);
		snprintf(rep.message, sizeof(rep.message), "%s", failed.msg);
		if (rep.code)
			container_tell(report, &rep);
		_exit(0);
	}
	close(p[1]);
	if (between < 0)
		r = error_errno(err, errno, "fork");
	else
		r = read_reports(p[0], &pid, err);
	close(p[0]);
	while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
		;
	if (r < 0) {
		/* The first process may exist all the same. If that can't be found out, the pid file stays. */
		(void)!container_kill(c->dir, NULL);
		return error_prefix(err, "container in `%s`", c->dir);
	}
	*ret_pid = pid;
	return 0;
}

int container_find(const char *dir, pid_t *ret_pid) {
	_free_ char *pidfile = strf("%s/pid", dir);

	return pidfile ? proc_pidfile_read(pidfile, ret_pid) : -ENOMEM;
}

/*
 * True if the error means that PID is gone, or that root may not look at it, so it is not of our containers. False for
 * a failure of the look itself.
 */
static bool is_no_process(int r) {
	return r == -ENOENT || r == -ESRCH || r == -EACCES || r == -EPERM;
}

/* 1: PID is the first process of a pid namespace below ours. 0: it is not, or it is gone. */
static int is_first(pid_t pid) {
	char path[64];
	_free_ char *text = NULL;
	int outer, inner, more;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	int r = read_file(path, 16384, &text, NULL, NULL);
	if (r < 0)
		return is_no_process(r) ? 0 : r;
	/* "NSpid:" is followed by the process's ids from our namespace to its own (proc(5)). */
	const char *ids = strstr(text, "\nNSpid:");
	return ids && sscanf(ids + 7, "%d %d %d", &outer, &inner, &more) == 2 && inner == 1 &&
	       !strstr(text, "\nState:\tZ");
}

/* As container_is_in(). */
static int container_is_in_ns(pid_t pid, const struct stat *ns) {
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	if (stat(path, &st) < 0)
		return is_no_process(-errno) ? -ESRCH : -errno;
	return st.st_dev == ns->st_dev && st.st_ino == ns->st_ino;
}

int container_is_in(pid_t pid, const char *netns) {
	struct stat ns;

	return stat(netns, &ns) < 0 ? -errno : container_is_in_ns(pid, &ns);
}

static int search_visit(void *userdata, pid_t pid) {
	int r = is_first(pid);

	if (r == 1)
		*(pid_t *)userdata = pid;
	return r;
}

static int search_netns(const char *netns, pid_t *ret_pid, struct error *err) {
	struct stat ns;
	struct dirent *e;
	int r = 0;
	if (stat(netns, &ns) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "look at `%s`", netns);
	DIR *proc = opendir("/proc");
	if (!proc)
		return error_errno(err, errno, "open `/proc`");
	while (r == 0 && (errno = 0, e = readdir(proc))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		pid_t pid = atoi(e->d_name);
		r = container_is_in_ns(pid, &ns);
		if (r == 1)
			r = is_first(pid);
		else if (r == -ESRCH)
			r = 0;
		if (r < 0)
			error_errno(err, r, "look at process %d", pid);
		if (r == 1)
			*ret_pid = pid;
	}
	if (r == 0 && errno)
		r = error_errno(err, errno, "read `/proc`");
	closedir(proc);
	return r;
}

int container_search(const struct cgroups *c, const char *cgroup, const char *netns, pid_t *ret_pid,
                     struct error *err) {
	int r = c ? cgroup_visit(c, cgroup, search_visit, ret_pid, err) : 0;

	if (r < 0)
		return error_errno(err, r, "look at control group `%s`", cgroup);
	if (r == 0)
		r = search_netns(netns, ret_pid, err);
	return r == 0 ? -ESRCH : MIN(r, 0);
}

int container_kill(const char *dir, struct error *err) {
	_free_ char *pidfile = strf("%s/pid", dir);
	pid_t pid;

	if (!pidfile)
		return error_oom(err);
	int r = proc_pidfile_read(pidfile, &pid);
	if (r >= 0) {
		/*
		 * When the first process dies, the kernel kills all other processes of its pid namespace
		 * (pid_namespaces(7)).
		 */
		kill(pid, SIGKILL);
		r = proc_stop(pid, 0, err);
		if (r < 0)
			return r;
	} else if (!container_is_gone(r))
		return error_errno(err, r, "look for the container in `%s`", dir);
	unlink(pidfile);
	return 0;
}
