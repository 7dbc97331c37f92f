/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/down.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <mntent.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/util.h"
#include "lab/topology.h"
#include "net/frr.h"
#include "net/netns.h"
#include "node/cgroup.h"

#define FRR_RUN_DIR   "/run/frr"
#define NAMESPACE_MAX 4096
#define DEADLINE_NS   (20 * NSEC_PER_SEC)

/* The namespaces of the lab. They identify its processes. */
struct namespaces {
	size_t n;
	struct {
		dev_t dev;
		ino_t ino;
	} v[NAMESPACE_MAX];
};

static int find_namespaces(const struct lab *lab, struct namespaces *ret, struct error *err) {
	char **names;
	size_t n;
	int r = netns_list(lab->prefix, &names, &n, err);
	if (r < 0)
		return r;
	ret->n = 0;
	for (size_t i = 0; i < n && ret->n < NAMESPACE_MAX; i++) {
		char path[NETNS_PATH_MAX];
		struct stat st;
		if (stat(netns_path(names[i], path), &st) == 0) {
			ret->v[ret->n].dev = st.st_dev;
			ret->v[ret->n++].ino = st.st_ino;
		}
	}
	netns_list_free(names, n);
	return 0;
}

static bool runs_in(const struct namespaces *ns, const char *pid) {
	char path[64];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%.16s/ns/net", pid);
	if (stat(path, &st) < 0)
		return false;
	for (size_t i = 0; i < ns->n; i++)
		if (ns->v[i].ino == st.st_ino && ns->v[i].dev == st.st_dev)
			return true;
	return false;
}

/* True if the process is a daemon whose arguments name the lab's directory; this finds it without its pid file. */
static bool is_lab_daemon(const struct lab *lab, const char *pid) {
	char path[64], dir[sizeof(lab->dir) + 1];
	_free_ char *text = NULL;
	size_t len;
	snprintf(path, sizeof(path), "/proc/%.16s/cmdline", pid);
	if (read_file(path, 65536, &text, &len, NULL) < 0 || !len)
		return false;
	const char *base = strrchr(text, '/');
	base = base ? base + 1 : text;
	if (!starts_with(base, "nacre-") && !streq(base, "etcd") && !streq(base, "kube-apiserver"))
		return false;
	snprintf(dir, sizeof(dir), "%s/", lab->dir);
	return memmem(text, len, dir, strlen(dir)) != NULL;
}

/* Kills the processes named in pid files; returns how many there were. */
static int kill_noted(const struct lab *lab) {
	int n = 0;
	DIR *dir = opendir(lab->dir);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[512];
		pid_t pid;
		size_t len = strlen(e->d_name);
		snprintf(path, sizeof(path), "%s/%s", lab->dir, e->d_name);
		if (len < 5 || !streq(e->d_name + len - 4, ".pid") || proc_pidfile_read(path, &pid) < 0)
			continue;
		n++;
		kill(pid, SIGKILL);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* Kills every process of the lab; returns how many there were. */
static int down_kill_all(const struct lab *lab, const struct namespaces *ns) {
	int n = kill_noted(lab);
	DIR *dir = opendir("/proc");
	for (struct dirent *e; dir && (e = readdir(dir));) {
		int64_t pid;
		if (parse_i64(e->d_name, 2, INT32_MAX, &pid, NULL) < 0 || pid == getpid())
			continue;
		if (!runs_in(ns, e->d_name) && !is_lab_daemon(lab, e->d_name))
			continue;
		/* Zombies have no namespace and no command line, so they are not counted. */
		n++;
		kill((pid_t)pid, SIGKILL);
	}
	if (dir)
		closedir(dir);
	return n;
}

static int end_processes(const struct lab *lab, struct progress *p, bool *found, struct error *err) {
	_free_ struct namespaces *ns = malloc(sizeof(*ns));
	if (!ns)
		return error_oom(err);
	int r = find_namespaces(lab, ns, err);
	if (r < 0)
		return r;
	*found |= ns->n > 0;
	/*
	 * SIGKILL at once: everything that a daemon could clean up is removed with its namespace or the lab's
	 * directory, and an agent that ends in order would first repair what was removed around it.
	 */
	uint64_t deadline = now_monotonic_ns() + DEADLINE_NS;
	for (int n; (n = down_kill_all(lab, ns)) > 0;) {
		*found = true;
		progress_wait(p, "%d processes", n);
		if (now_monotonic_ns() > deadline)
			return error_set(err, ETIMEDOUT, "%d processes of lab `%s` are still there after SIGKILL", n,
			                 lab->name);
		usleep(20000);
	}
	return 0;
}

/* nftw() passes no argument to its callback. */
static int remove_traces_of(const char *path, _unused_ const struct stat *st, int type, _unused_ struct FTW *ftw) {
	static const char *const daemons[] = {"zebra", "bgpd"};
	const char *base = strrchr(path, '/') + 1;
	for (size_t i = 0; type == FTW_F && i < ARRAY_SIZE(daemons); i++) {
		_free_ char *text = NULL;
		int64_t pid;
		size_t n = strlen(daemons[i]);
		if (strncmp(base, daemons[i], n) != 0 || !streq(base + n, ".pid") ||
		    read_file(path, 64, &text, NULL, NULL) < 0)
			continue;
		text[strcspn(text, "\n")] = 0;
		if (parse_i64(text, 2, INT32_MAX, &pid, NULL) == 0)
			frr_remove_traces(daemons[i], (pid_t)pid);
	}
	return 0;
}

static int unmount_all(const struct lab *lab, struct error *err) {
	char path[64][256];
	size_t n;
	/* Each round unmounts from the last mount to the first, so a mount on top of another one goes first. */
	do {
		n = 0;
		FILE *f = setmntent("/proc/self/mounts", "r");
		if (!f)
			return error_errno(err, errno, "open `/proc/self/mounts`");
		for (struct mntent *m; (m = getmntent(f));) {
			size_t len = strlen(lab->dir);
			if (strncmp(m->mnt_dir, lab->dir, len) != 0 || (m->mnt_dir[len] && m->mnt_dir[len] != '/'))
				continue;
			if (n == ARRAY_SIZE(path)) {
				memmove(path[0], path[1], sizeof(path) - sizeof(path[0]));
				n--;
			}
			snprintf(path[n++], sizeof(path[0]), "%s", m->mnt_dir);
		}
		endmntent(f);
		for (size_t i = n; i-- > 0;)
			if (umount2(path[i], MNT_DETACH) < 0 && errno != EINVAL)
				return error_errno(err, errno, "unmount `%s`", path[i]);
	} while (n == ARRAY_SIZE(path));
	return 0;
}

/* Removes the directories that FRR makes for each namespace in which it runs. */
static int remove_frr_dirs(const struct lab *lab, struct error *err) {
	int r = 0;
	DIR *dir = opendir(FRR_RUN_DIR);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[512];
		if (!starts_with(e->d_name, lab->prefix))
			continue;
		snprintf(path, sizeof(path), "%s/%s", FRR_RUN_DIR, e->d_name);
		int q = remove_tree(path, r < 0 ? NULL : err);
		r = r < 0 ? r : q;
	}
	if (dir)
		closedir(dir);
	return r;
}

static bool keep_none(_unused_ void *userdata, _unused_ const char *name) {
	return false;
}

/* Removes the control groups of the lab's instances. */
static int remove_cgroups(const struct lab *lab, struct error *err) {
	_cleanup_(cleanup_cgroups) struct cgroups *c = NULL;
	uint64_t deadline = now_monotonic_ns() + DEADLINE_NS;
	int r = cgroups_new(&c, err);
	if (r < 0)
		return r;
	/* A killed process may take a moment to leave its group. */
	while ((r = cgroups_sweep(c, lab->prefix, keep_none, NULL, err)) == -EBUSY && now_monotonic_ns() < deadline)
		usleep(20000);
	return r;
}

int lab_down(const struct lab *lab, struct progress *p, bool *ret_found, struct error *err) {
	struct stat st;
	bool found = lstat(lab->dir, &st) == 0;
	progress_step(p, "end the processes of lab %s", lab->name);
	int first = end_processes(lab, p, &found, err);
	if (first == 0)
		progress_step(p, "remove the namespaces and files of the lab");
	struct error scratch;
	int r = lab_topology_down(lab, first < 0 ? &scratch : err);
	first = first < 0 ? first : r;
	r = unmount_all(lab, first < 0 ? &scratch : err);
	first = first < 0 ? first : r;
	r = remove_cgroups(lab, first < 0 ? &scratch : err);
	first = first < 0 ? first : r;
	r = remove_frr_dirs(lab, first < 0 ? &scratch : err);
	first = first < 0 ? first : r;
	if (first == 0)
		nftw(lab->dir, remove_traces_of, 16, FTW_PHYS | FTW_MOUNT);
	/* The directory is removed last: while it exists, the next `down` knows that work is left. */
	if (first == 0)
		first = remove_tree(lab->dir, err);
	rmdir(LAB_RUN_DIR); /* fails while other labs exist */
	if (first < 0)
		progress_fail(p);
	else
		progress_end(p);
	*ret_found = found;
	return first;
}
