/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/util.h"

#define TRIES 1000 /* of a call that takes microseconds */

struct dir {
	int fd;
	bool has_sys; /* paths are below `sys` */
};

/* Resolves PATH as if the directory were the root: neither ".." nor a link leads out of it. -ENOENT if it isn't there.
 */
static int dir_open(const struct hw_fs *fs, const char *path, int flags, struct error *err) {
	const struct dir *d = fs->data;
	char full[HW_FS_PATH_MAX + 8];
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
	                       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	if ((size_t)snprintf(full, sizeof(full), "%s%s", d->has_sys ? "sys/" : "", path) >= sizeof(full))
		return error_set(err, ENAMETOOLONG, "`%.80s…`: the path is too long", path);
	/* If anything on the machine is renamed or mounted meanwhile, the kernel gives up on "..": try again. */
	int fd = -1;
	errno = EAGAIN;
	for (int i = 0; fd < 0 && errno == EAGAIN && i < TRIES; i++)
		fd = (int)syscall(SYS_openat2, d->fd, full, &how, sizeof(how));
	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENOTDIR || errno == ENODEV)
		return -ENOENT;
	return error_errno(err, errno, "open `%s`", path);
}

static int dir_read(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err) {
	struct stat st;
	size_t n = 0;
	/* Without O_NONBLOCK a pipe in a captured tree would stop us. */
	_close_ int fd = dir_open(fs, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "stat `%s`", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "`%s` is not a regular file", path);
	while (n < size) {
		ssize_t got = read(fd, buf + n, size - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == ENODEV)
			return -ENOENT; /* its device went away after it was opened */
		if (got < 0)
			return error_errno(err, errno, "read `%s`", path);
		if (got == 0)
			return (int)n;
		n += (size_t)got;
	}
	return error_set(err, EFBIG, "`%s` has %zu bytes or more", path, size);
}

static int dir_link(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err) {
	_close_ int fd = dir_open(fs, path, O_PATH | O_NOFOLLOW, err);
	if (fd < 0)
		return fd;
	ssize_t n = readlinkat(fd, "", buf, size);
	if (n < 0)
		return errno == ENOENT || errno == EINVAL ? error_set(err, EINVAL, "`%s` is no link", path)
		                                          : error_errno(err, errno, "read the link `%s`", path);
	if ((size_t)n >= size)
		return error_set(err, ENAMETOOLONG, "`%s`: the target of the link is too long", path);
	buf[n] = 0;
	return 0;
}

static int dir_list(const struct hw_fs *fs, const char *path, int (*each)(void *arg, const char *name), void *arg,
                    struct error *err) {
	int fd = dir_open(fs, path, O_RDONLY | O_DIRECTORY, err), r = 0;
	if (fd < 0)
		return fd;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		safe_close(fd);
		return error_oom(err);
	}
	unsigned n = 0;
	for (struct dirent *e; r == 0 && (e = readdir(dir));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (++n > HW_FS_NAMES_MAX)
			r = error_set(err, EFBIG, "`%s` has more than %d entries", path, HW_FS_NAMES_MAX);
		else
			r = each(arg, e->d_name);
	}
	closedir(dir);
	return r;
}

int hw_fs_open(const char *path, struct hw_fs *ret, struct error *err) {
	_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	if (fd < 0)
		return error_errno(err, errno, "open `%s`", path);
	struct dir *d = malloc(sizeof(*d));
	if (!d)
		return error_oom(err);
	d->has_sys = fstatat(fd, "sys", &st, AT_SYMLINK_NOFOLLOW) == 0;
	d->fd = TAKE_FD(fd);
	*ret = (struct hw_fs){dir_read, dir_link, dir_list, d};
	return 0;
}

void hw_fs_close(struct hw_fs *fs) {
	struct dir *d = fs->data;
	if (d) {
		safe_close(d->fd);
		free(d);
	}
	fs->data = NULL;
}

int hw_fs_text(const struct hw_fs *fs, const char *path, char *out, size_t size, struct error *err) {
	char buf[HW_FS_FILE_MAX];
	int n = fs->read(fs, path, buf, MIN(size + 64, sizeof(buf)), err);
	if (n == -ENOENT)
		return 0;
	if (n < 0)
		return n;
	while (n > 0 && strchr(" \t\n", buf[n - 1]) && buf[n - 1])
		n--;
	if ((size_t)n >= size)
		return error_set(err, EFBIG, "`%s` has more than %zu bytes", path, size - 1);
	for (int i = 0; i < n; i++)
		if (buf[i] != '\n' && buf[i] != '\t' && (buf[i] < ' ' || buf[i] > '~'))
			return error_set(err, EINVAL, "`%s` has bytes that are not text", path);
	memcpy(out, buf, (size_t)n);
	out[n] = 0;
	return 1;
}
