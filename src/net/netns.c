/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netns.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "base/util.h"

#define NSFS_MAGIC_NUMBER 0x6e736673
#define NETNS_LIST_MAX    65536

const char *netns_path(const char *name, char out[static NETNS_PATH_MAX]) {
	snprintf(out, NETNS_PATH_MAX, "%s/%s", NETNS_DIR, name);
	return out;
}

static int netns_check_name(const char *name, struct error *err) {
	if (!*name || strlen(name) > NETNS_NAME_MAX || strchr(name, '/') || name[0] == '.')
		return error_set(err, EINVAL, "network namespace `%s`: not a usable name (1 to %d characters, no `/`)",
		                 name, NETNS_NAME_MAX);
	return 0;
}

/*
 * The directory becomes a shared mount of its own, so that mounts and unmounts under /run/netns reach all mount
 * namespaces (a container's or a service's own). Otherwise a deleted namespace would live on in them. The lock, which
 * ip-netns takes as well, prevents two processes from stacking mounts. Every user can take the lock, too, so only the
 * first namespace after a boot waits for it.
 */
static int netns_prepare_dir(struct error *err) {
	_close_ int lock = -1;
	int r = mkdir_p(NETNS_DIR, 0755, err);
	if (r < 0)
		return r;
	if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	r = lock_path(NETNS_DIR, O_RDONLY | O_DIRECTORY, true, &lock, err);
	if (r < 0)
		return r;
	if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	if (errno == EINVAL && mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) == 0 &&
	    mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	return error_errno(err, errno, "make `%s` a shared mount", NETNS_DIR);
}

static bool is_netns(int fd) {
	struct statfs st;
	return fstatfs(fd, &st) == 0 && st.f_type == NSFS_MAGIC_NUMBER;
}

int netns_open(const char *name, int *ret_fd, struct error *err) {
	char path[NETNS_PATH_MAX];
	int r = netns_check_name(name, err);
	if (r < 0)
		return r;
	_close_ int fd = open(netns_path(name, path), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "network namespace `%s`", name);
	/* A mount point whose mount is missing is left from a creation that was interrupted. */
	if (!is_netns(fd))
		return error_set(err, ENOENT, "network namespace `%s`: `%s` is a plain file", name, path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int loopback_up(struct error *err) {
	struct ifreq req = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &req) < 0)
		return error_errno(err, errno, "bring up `lo`");
	return 0;
}

static int make_and_mount(const char *path, struct error *err) {
	_close_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return error_errno(err, errno, "open `/proc/thread-self/ns/net`");
	if (unshare(CLONE_NEWNET) < 0)
		return error_errno(err, errno, "make a network namespace");
	int r = loopback_up(err);
	if (r >= 0 && mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0)
		r = error_errno(err, errno, "mount a network namespace at `%s`", path);
	if (setns(home, CLONE_NEWNET) < 0)
		abort();
	return r;
}

int netns_ensure(const char *name, bool *ret_created, struct error *err) {
	char path[NETNS_PATH_MAX];
	_close_ int fd = -1;
	int r = netns_open(name, &fd, err);
	if (r >= 0) {
		if (ret_created)
			*ret_created = false;
		return 0;
	}
	if (r != -ENOENT || (r = netns_prepare_dir(err)) < 0)
		return r;
	_close_ int point = open(netns_path(name, path), O_RDONLY | O_CREAT | O_CLOEXEC, 0);
	if (point < 0)
		return error_errno(err, errno, "create `%s`", path);
	r = make_and_mount(path, err);
	if (r < 0) {
		unlink(path);
		return r;
	}
	if (ret_created)
		*ret_created = true;
	return 0;
}

int netns_delete(const char *name, struct error *err) {
	char path[NETNS_PATH_MAX];
	int r = netns_check_name(name, err);
	if (r < 0)
		return r;
	if (umount2(netns_path(name, path), MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return error_errno(err, errno, "unmount `%s`", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return error_errno(err, errno, "remove `%s`", path);
	return 0;
}

static int netns_compare(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int netns_list(const char *prefix, char ***ret, size_t *ret_n, struct error *err) {
	char **names = NULL;
	size_t n = 0;
	DIR *dir = opendir(NETNS_DIR);
	if (!dir && errno != ENOENT)
		return error_errno(err, errno, "open `%s`", NETNS_DIR);
	for (struct dirent *e; dir && (e = readdir(dir)) && n < NETNS_LIST_MAX;) {
		if (e->d_name[0] == '.' || !starts_with(e->d_name, prefix))
			continue;
		char **more = reallocarray(names, n + 1, sizeof(*names));
		if (more)
			names = more;
		if (!more || !(names[n] = strdup(e->d_name))) {
			netns_list_free(names, n);
			closedir(dir);
			return error_oom(err);
		}
		n++;
	}
	if (dir)
		closedir(dir);
	if (n)
		qsort(names, n, sizeof(*names), netns_compare);
	*ret = names;
	*ret_n = n;
	return 0;
}

void netns_list_free(char **names, size_t n) {
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

struct sysctls {
	const struct netns_sysctl *list;
	size_t n;
};

static int write_sysctls(void *arg, struct error *err) {
	const struct sysctls *s = arg;
	for (size_t i = 0; i < s->n; i++) {
		char path[256];
		_free_ char *now = NULL;
		size_t len, want = strlen(s->list[i].value);
		snprintf(path, sizeof(path), "/proc/sys/net/%s", s->list[i].path);
		int r = read_file(path, 256, &now, &len, err);
		if (r < 0)
			return r;
		while (len && now[len - 1] == '\n')
			len--;
		if (len == want && memcmp(now, s->list[i].value, len) == 0)
			continue;
		r = write_file(path, s->list[i].value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int netns_sysctl(int netns_fd, const struct netns_sysctl *list, size_t n, struct error *err) {
	struct sysctls s = {list, n};
	return netns_run(netns_fd, write_sysctls, &s, err);
}
