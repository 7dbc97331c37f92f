/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#include "base/util.h"

#define HIERARCHIES_MAX 24
#define MOUNTINFO_MAX   ((size_t)4 << 20)
#define PROCS_MAX       ((size_t)1 << 20)
#define CPUSET_MAX      65536
#define PERIOD_US       100000
#define PROC_CGROUP_MAX 65536
#define WAIT_MS         50 /* for killed processes to end, in all hierarchies together */
#define MAKE_TRIES      100

struct hierarchy {
	char *mount;
	dev_t dev; /* the same for each mount of the hierarchy */
	bool v2, cpuset;
	unsigned controllers;
};

struct cgroups {
	struct hierarchy h[HIERARCHIES_MAX];
	size_t n;
};

static const struct {
	const char *name;
	unsigned bit;
} controllers[] = {
	{"memory", CGROUP_MEMORY}, {"cpu", CGROUP_CPU}, {"pids", CGROUP_PIDS}, {"io", CGROUP_IO}, {"blkio", CGROUP_IO}};

/* The controllers in LIST, whose words are separated by SEPARATOR. */
static unsigned parse_controllers(char *list, const char *separator, bool *cpuset) {
	unsigned found = 0;
	char *save;

	for (char *w = strtok_r(list, separator, &save); w; w = strtok_r(NULL, separator, &save)) {
		for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
			if (streq(w, controllers[i].name))
				found |= controllers[i].bit;
		*cpuset |= streq(w, "cpuset");
	}
	return found;
}

static int hierarchy_add_v2(struct hierarchy *h, struct error *err) {
	_free_ char *path = strf("%s/cgroup.controllers", h->mount), *list = NULL;
	bool cpuset = false;

	if (!path)
		return error_oom(err);
	int r = read_file(path, 4096, &list, NULL, err);
	if (r >= 0)
		h->controllers = parse_controllers(list, " \n", &cpuset);
	return r;
}

/*
 * True if the mount shows the root of its hierarchy. Inside a cgroup namespace the root of a mount looks the same, and
 * groups made there would end with the agent's own group. These files make the difference (cgroup-v2.rst,
 * cgroup-v1/cgroups.rst).
 */
static bool hierarchy_is_root(const struct hierarchy *h) {
	_free_ char *path = strf("%s/%s", h->mount, h->v2 ? "cgroup.type" : "release_agent");

	return path && (access(path, F_OK) == 0) != h->v2;
}

static bool hierarchy_is_known(const struct cgroups *c, const struct hierarchy *h) {
	for (size_t i = 0; i < c->n; i++)
		if (c->h[i].dev == h->dev)
			return true;
	return false;
}

/* LINE of mountinfo: "ID PARENT MAJOR:MINOR ROOT MOUNT OPTIONS [FIELD…] - TYPE SOURCE SUPER" (proc(5)). */
static int parse_mount(struct cgroups *c, const char *line, struct error *err) {
	char mount[256], type[32], super[256];
	const char *dash = strstr(line, " - ");

	if (!dash || sscanf(line, "%*s %*s %*s %*s %255s", mount) != 1 ||
	    sscanf(dash, " - %31s %*s %255s", type, super) != 2)
		return 0;
	/* A backslash begins an escaped character. No such mount point is used. */
	if ((!streq(type, "cgroup") && !streq(type, "cgroup2")) || strchr(mount, '\\'))
		return 0;
	_free_ char *copy = strdup(mount);
	struct hierarchy found = {.mount = copy, .v2 = streq(type, "cgroup2")};
	if (!copy)
		return error_oom(err);
	struct stat st;
	if (!hierarchy_is_root(&found) || stat(mount, &st) < 0)
		return 0;
	found.dev = st.st_dev;
	int r = 0;
	if (found.v2)
		r = hierarchy_add_v2(&found, err);
	else
		found.controllers = parse_controllers(super, ",", &found.cpuset);
	if (r < 0 || hierarchy_is_known(c, &found))
		return r;
	if (c->n == HIERARCHIES_MAX)
		return error_set(err, E2BIG, "more than %d control group hierarchies are mounted", HIERARCHIES_MAX);
	c->h[c->n++] = found;
	TAKE_PTR(copy);
	return 0;
}

int cgroups_new(struct cgroups **ret, struct error *err) {
	_cleanup_(cleanup_cgroups) struct cgroups *c = calloc(1, sizeof(*c));
	_free_ char *text = NULL;
	char *save;

	if (!c)
		return error_oom(err);
	int r = read_file("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL, err);
	for (char *line = r < 0 ? NULL : strtok_r(text, "\n", &save); line && r >= 0;
	     line = strtok_r(NULL, "\n", &save))
		r = parse_mount(c, line, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

struct cgroups *cgroups_free(struct cgroups *c) {
	for (size_t i = 0; c && i < c->n; i++)
		free(c->h[i].mount);
	free(c);
	return NULL;
}

unsigned cgroups_missing(const struct cgroups *c) {
	unsigned have = 0;

	for (size_t i = 0; i < c->n; i++)
		have |= c->h[i].controllers;
	return CGROUP_ALL & ~have;
}

const char *cgroups_names(unsigned wanted, char out[static 32]) {
	size_t n = 0;

	out[0] = 0;
	/* The last entry is another name of "io". */
	for (size_t i = 0; i < ARRAY_SIZE(controllers) - 1; i++)
		if (wanted & controllers[i].bit)
			n += (size_t)snprintf(out + n, 32 - n, "%s%s", n ? ", " : "", controllers[i].name);
	return out;
}

/* ---- one group in one hierarchy ---- */

enum need { MUST, MAY };

/* Writes a file. With MAY, a file that the kernel doesn't have is skipped. */
static int _printf_(5, 6)
	cgroup_put(const char *dir, const char *file, enum need need, struct error *err, const char *fmt, ...) {
	_free_ char *path = strf("%s/%s", dir, file);
	char value[128];
	va_list ap;

	if (!path)
		return error_oom(err);
	if (need == MAY && access(path, F_OK) < 0)
		return 0;
	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	return write_file(path, value, err);
}

/* A new group of version 1 has no processors and no memory nodes: copies those of FROM. Existing ones stay. */
static int copy_cpuset(const char *from, const char *to, struct error *err) {
	static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(files) && r >= 0; i++) {
		_free_ char *path = strf("%s/%s", from, files[i]), *text = NULL;
		_free_ char *out = strf("%s/%s", to, files[i]), *has = NULL;
		if (!path || !out)
			return error_oom(err);
		r = read_file(out, CPUSET_MAX, &has, NULL, err);
		if (r >= 0 && has[0] && has[0] != '\n')
			continue;
		if (r >= 0)
			r = read_file(path, CPUSET_MAX, &text, NULL, err);
		if (r >= 0)
			r = write_file(out, text, err);
	}
	return r;
}

/* Gives all guests together the weight of one process on each processor, unless somebody has set another weight. */
static int share_parent(const struct hierarchy *h, const char *dir, struct error *err) {
	_free_ char *path = strf("%s/%s", dir, h->v2 ? "cpu.weight" : "cpu.shares"), *is = NULL;
	long cpus = get_nprocs();

	if (!path)
		return error_oom(err);
	/* Only the kernel's default is replaced. */
	if (!(h->controllers & CGROUP_CPU) || read_file(path, 64, &is, NULL, NULL) < 0 ||
	    !streq(is, h->v2 ? "100\n" : "1024\n"))
		return 0;
	return h->v2 ? cgroup_put(dir, "cpu.weight", MAY, err, "%ld", MIN(100 * cpus, 10000L))
	             : cgroup_put(dir, "cpu.shares", MAY, err, "%ld", MIN(1024 * cpus, 262144L));
}

static int pass_controllers(const struct hierarchy *h, const char *dir, struct error *err) {
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(controllers) - 1 && r >= 0; i++)
		if (h->controllers & controllers[i].bit)
			r = cgroup_put(dir, "cgroup.subtree_control", MUST, err, "+%s", controllers[i].name);
	return r;
}

/* The parent already holds a group, so it can't be removed meanwhile. Several agents may do this at once. */
static int configure_parent(const struct hierarchy *h, const char *dir, struct error *err) {
	int r = h->cpuset ? copy_cpuset(h->mount, dir, err) : 0;

	if (r >= 0 && h->v2)
		r = pass_controllers(h, h->mount, err);
	if (r >= 0)
		r = share_parent(h, dir, err);
	if (r >= 0 && h->v2)
		r = pass_controllers(h, dir, err);
	return r;
}

static int limit_v1(const struct hierarchy *h, const char *dir, const struct cgroup_limits *l, struct error *err) {
	int r = 0;

	if (h->controllers & CGROUP_MEMORY) {
		r = cgroup_put(dir, "memory.limit_in_bytes", MUST, err, "%llu", (unsigned long long)l->memory);
		/* This limits memory and swap together to the same value, so no swap is used. */
		if (r >= 0)
			r = cgroup_put(dir, "memory.memsw.limit_in_bytes", MAY, err, "%llu",
			               (unsigned long long)l->memory);
	}
	if (r >= 0 && (h->controllers & CGROUP_CPU)) {
		r = cgroup_put(dir, "cpu.cfs_period_us", MUST, err, "%d", PERIOD_US);
		if (r >= 0)
			r = cgroup_put(dir, "cpu.cfs_quota_us", MUST, err, "%lld", (long long)l->cpu_us);
		if (r >= 0)
			r = cgroup_put(dir, "cpu.shares", MUST, err, "%lld",
			               (long long)MIN(1024 * l->vcpus, INT64_C(262144)));
	}
	if (r >= 0 && (h->controllers & CGROUP_PIDS))
		r = cgroup_put(dir, "pids.max", MUST, err, "%lld", (long long)l->pids);
	if (r >= 0 && (h->controllers & CGROUP_IO))
		r = cgroup_put(dir, "blkio.bfq.weight", MAY, err, "%lld",
		               (long long)MIN(100 * l->vcpus, INT64_C(1000)));
	return r;
}

static int limit_v2(const struct hierarchy *h, const char *dir, const struct cgroup_limits *l, struct error *err) {
	int r = 0;

	if (h->controllers & CGROUP_MEMORY) {
		r = cgroup_put(dir, "memory.max", MUST, err, "%llu", (unsigned long long)l->memory);
		if (r >= 0)
			r = cgroup_put(dir, "memory.swap.max", MAY, err, "0");
	}
	if (r >= 0 && (h->controllers & CGROUP_CPU)) {
		r = cgroup_put(dir, "cpu.max", MUST, err, "%lld %d", (long long)l->cpu_us, PERIOD_US);
		if (r >= 0)
			r = cgroup_put(dir, "cpu.weight", MUST, err, "%lld",
			               (long long)MIN(100 * l->vcpus, INT64_C(10000)));
	}
	if (r >= 0 && (h->controllers & CGROUP_PIDS))
		r = cgroup_put(dir, "pids.max", MUST, err, "%lld", (long long)l->pids);
	if (r >= 0 && (h->controllers & CGROUP_IO)) {
		r = cgroup_put(dir, "io.weight", MAY, err, "default %lld",
		               (long long)MIN(100 * l->vcpus, INT64_C(10000)));
		if (r >= 0)
			r = cgroup_put(dir, "io.bfq.weight", MAY, err, "%lld",
			               (long long)MIN(100 * l->vcpus, INT64_C(1000)));
	}
	return r;
}

/*
 * Version 1 has no cgroup.kill. The pidfd is opened before the process's group is checked, so no other process with the
 * same pid is killed.
 */
static void kill_member(pid_t pid, const char *line_end) {
	_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	_free_ char *path = strf("/proc/%d/cgroup", pid), *text = NULL;

	if (fd >= 0 && path && read_file(path, PROC_CGROUP_MAX, &text, NULL, NULL) >= 0 && strstr(text, line_end))
		(void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

/* Sends SIGKILL to all processes of the group and doesn't wait. */
static void kill_all(const char *dir, const char *name) {
	_free_ char *all = strf("%s/cgroup.kill", dir), *procs = strf("%s/cgroup.procs", dir), *text = NULL;
	_free_ char *line_end = strf("/" CGROUP_PARENT "/%s\n", name);
	char *save;

	if (!all || !procs || !line_end)
		return;
	/* cgroup.kill exists since Linux 5.14. */
	if (access(all, F_OK) == 0 && write_file(all, "1", NULL) >= 0)
		return;
	if (read_file(procs, PROCS_MAX, &text, NULL, NULL) < 0)
		return;
	for (char *w = strtok_r(text, "\n", &save); w; w = strtok_r(NULL, "\n", &save)) {
		pid_t pid = (pid_t)strtol(w, NULL, 10);
		/* 0: the process is in a pid namespace that we don't see. */
		if (pid > 0)
			kill_member(pid, line_end);
	}
}

/* Removes the parent group if it holds no group. */
static void remove_parent(const struct hierarchy *h) {
	_free_ char *parent = strf("%s/" CGROUP_PARENT, h->mount);

	if (parent)
		rmdir(parent);
}

/* Makes group DIR, and PARENT if it is missing. Another agent may remove PARENT before DIR is in it. */
static int make_dirs(const char *parent, const char *dir, struct error *err) {
	for (int tries = 0; tries < MAKE_TRIES; tries++) {
		if (mkdir(parent, 0755) < 0 && errno != EEXIST)
			return error_errno(err, errno, "make control group `%s`", parent);
		if (mkdir(dir, 0755) == 0)
			return 0;
		if (errno != ENOENT)
			break;
	}
	return error_errno(err, errno, "make control group `%s`", dir);
}

/* -EBUSY: at DEADLINE something was still in the group, after a SIGKILL. */
static int cgroup_remove_one(const struct hierarchy *h, const char *name, uint64_t deadline, struct error *err) {
	_free_ char *dir = strf("%s/" CGROUP_PARENT "/%s", h->mount, name);
	bool killed = false;

	if (!dir)
		return error_oom(err);
	while (rmdir(dir) < 0 && errno != ENOENT) {
		int code = errno;
		if (code == EBUSY && !killed)
			kill_all(dir, name);
		if (code != EBUSY || (killed && now_monotonic_ns() > deadline))
			return error_errno(err, code, "remove control group `%s`", dir);
		killed = true;
		usleep(1000);
	}
	remove_parent(h);
	return 0;
}

static int cgroup_make_one(const struct hierarchy *h, const char *name, const struct cgroup_limits *limits,
                           uint64_t deadline, struct error *err) {
	_free_ char *parent = strf("%s/" CGROUP_PARENT, h->mount),
		    *dir = strf("%s/" CGROUP_PARENT "/%s", h->mount, name);

	if (!parent || !dir)
		return error_oom(err);
	int r = cgroup_remove_one(h, name, deadline, err);
	if (r >= 0)
		r = make_dirs(parent, dir, err);
	if (r >= 0)
		r = configure_parent(h, parent, err);
	if (r >= 0 && h->cpuset)
		r = copy_cpuset(parent, dir, err);
	if (r >= 0)
		r = h->v2 ? limit_v2(h, dir, limits, err) : limit_v1(h, dir, limits, err);
	return r;
}

/* ---- in all ---- */

int cgroup_make(const struct cgroups *c, const char *name, const struct cgroup_limits *limits, struct error *err) {
	uint64_t deadline = now_monotonic_ns() + WAIT_MS * NSEC_PER_MSEC;
	int r = 0;

	for (size_t i = 0; i < c->n && r >= 0; i++)
		r = cgroup_make_one(&c->h[i], name, limits, deadline, err);
	return r;
}

int cgroup_enter(const struct cgroups *c, const char *name, struct error *err) {
	int r = 0;

	for (size_t i = 0; i < c->n && r >= 0; i++) {
		_free_ char *path = strf("%s/" CGROUP_PARENT "/%s/cgroup.procs", c->h[i].mount, name);
		r = path ? write_file(path, "0", err) : error_oom(err);
	}
	return r;
}

int cgroup_visit(const struct cgroups *c, const char *name, int (*visit)(void *userdata, pid_t pid), void *userdata,
                 struct error *err) {
	int r = 0;

	for (size_t i = 0; i < c->n && r == 0; i++) {
		_free_ char *path = strf("%s/" CGROUP_PARENT "/%s/cgroup.procs", c->h[i].mount, name), *text = NULL;
		char *save;
		r = path ? read_file(path, PROCS_MAX, &text, NULL, err) : error_oom(err);
		if (r == -ENOENT || r == -ENODEV) {
			r = 0;
			continue;
		}
		for (char *w = r < 0 ? NULL : strtok_r(text, "\n", &save); w && r == 0; w = strtok_r(NULL, "\n", &save))
			if (!streq(w, "0"))
				r = visit(userdata, (pid_t)strtol(w, NULL, 10));
	}
	return r;
}

bool cgroup_ran_out_of_memory(const struct cgroups *c, const char *name) {
	for (size_t i = 0; i < c->n; i++) {
		const struct hierarchy *h = &c->h[i];
		_free_ char *path = strf("%s/" CGROUP_PARENT "/%s/%s", h->mount, name,
		                         h->v2 ? "memory.events" : "memory.oom_control"),
			    *text = NULL;
		if (!(h->controllers & CGROUP_MEMORY) || !path || read_file(path, 4096, &text, NULL, NULL) < 0)
			continue;
		const char *kills = strstr(text, "oom_kill ");
		return kills && strtoul(kills + strlen("oom_kill "), NULL, 10) > 0;
	}
	return false;
}

int cgroup_remove(const struct cgroups *c, const char *name, struct error *err) {
	uint64_t deadline = now_monotonic_ns() + WAIT_MS * NSEC_PER_MSEC;
	int r = 0;

	for (size_t i = 0; i < c->n && r >= 0; i++)
		r = cgroup_remove_one(&c->h[i], name, deadline, err);
	return r;
}

int cgroups_sweep(const struct cgroups *c, const char *prefix, bool (*keep)(void *userdata, const char *name),
                  void *userdata, struct error *err) {
	int r = 0;

	for (size_t i = 0; i < c->n; i++) {
		_free_ char *path = strf("%s/" CGROUP_PARENT, c->h[i].mount);
		struct dirent *e;
		DIR *d = path ? opendir(path) : NULL;
		while (d && (e = readdir(d))) {
			if (e->d_type != DT_DIR || !starts_with(e->d_name, prefix) || keep(userdata, e->d_name))
				continue;
			if (unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
				r = error_errno(err, errno, "remove control group `%s/%s`", path, e->d_name);
		}
		if (d)
			closedir(d);
		remove_parent(&c->h[i]);
	}
	return r;
}
