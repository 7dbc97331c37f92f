/* SPDX-License-Identifier: Apache-2.0 */
#include "node/room.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/util.h"
#include "node/instnet.h"

#define BLOCK 512 /* of st_blocks (inode(7)) */

struct sums {
	uint64_t used, promised; /* bytes of all other disks, now and at their largest */
};

int room_read(const char *own, uint64_t *ret_max, struct error *err) {
	_free_ char *path = strf("%s/disk.max", own), *text = NULL;
	int64_t max;
	size_t len;

	if (!path)
		return error_oom(err);
	int r = read_file(path, 64, &text, &len, err);
	if (r < 0)
		return r;
	if (len > 0 && text[len - 1] == '\n')
		text[len - 1] = 0;
	/* After a power cut it may be empty or zeros. The next start of the instance writes it again. */
	if (parse_i64(text, 1, INT64_MAX, &max, NULL) < 0)
		return error_set(err, ENOENT, "`%s` does not hold a number of bytes", path);
	*ret_max = (uint64_t)max;
	return 0;
}

/* *RET_FD holds the lock of the disk's maker. */
static int write_locked(const char *own, uint64_t max, int *ret_fd, struct error *err) {
	_free_ char *path = strf("%s/disk.max", own), *fresh = strf("%s/disk.max.new", own);
	char text[32];

	if (!path || !fresh)
		return error_oom(err);
	int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)max);
	/* Not synced, like the disk itself (node/part_disk.c). */
	_close_ int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "create `%s`", fresh);
	if (flock(fd, LOCK_EX) < 0)
		return error_errno(err, errno, "lock `%s`", fresh);
	int r = write_all(fd, text, (size_t)n, err);
	if (r < 0)
		return error_prefix(err, "`%s`", fresh);
	if (rename(fresh, path) < 0)
		return error_errno(err, errno, "rename `%s`", fresh);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int room_write(const char *own, uint64_t max, struct error *err) {
	_close_ int fd = -1;

	return write_locked(own, max, &fd, err);
}

/* *RET: whether a maker of the disk in FOLDER holds the lock. */
static int is_being_made(const char *folder, bool *ret, struct error *err) {
	_free_ char *path = strf("%s/disk.max", folder);

	if (!path)
		return error_oom(err);
	_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return error_errno(err, errno, "open `%s`", path);
	*ret = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;
	return 0;
}

static int add_disk(struct sums *s, const char *folder, struct error *err) {
	_free_ char *path = strf("%s/disk.qcow2", folder);
	struct error scratch;
	struct stat st;
	uint64_t max;
	bool made;

	if (!path)
		return error_oom(err);
	/* The lock is checked before the disk: the disk gets its name while its maker holds the lock. */
	int r = is_being_made(folder, &made, err);
	if (r < 0)
		return r;
	if (lstat(path, &st) < 0) {
		if (errno != ENOENT)
			return error_errno(err, errno, "`%s`", path);
		if (!made)
			return 0;
		st = (struct stat){0};
	}
	uint64_t used = (uint64_t)st.st_blocks * BLOCK;
	r = room_read(folder, &max, &scratch);
	if (r == -ENOENT)
		max = (uint64_t)st.st_size;
	else if (r < 0)
		return error_set(err, -r, "%s", scratch.msg);
	s->used += used;
	if (__builtin_add_overflow(s->promised, MAX(max, used), &s->promised))
		s->promised = UINT64_MAX;
	return 0;
}

static int add_disks(struct sums *s, const char *dir, const char *own, struct error *err) {
	const char *slash = strrchr(own, '/'), *own_name = slash ? slash + 1 : own;
	char id[INSTNET_ID_LEN + 1];
	struct dirent *e;
	int r = 0;

	DIR *d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : error_errno(err, errno, "open `%s`", dir);
	while (r >= 0 && (errno = 0, e = readdir(d))) {
		if (!instnet_id(e->d_name, id) || streq(e->d_name, own_name))
			continue;
		_free_ char *folder = strf("%s/%s", dir, e->d_name);
		r = folder ? add_disk(s, folder, err) : error_oom(err);
	}
	if (r >= 0 && errno)
		r = error_errno(err, errno, "read `%s`", dir);
	closedir(d);
	return r;
}

static int room_check(const struct room *room, const char *own, uint64_t size, struct error *err) {
	_free_ char *instances = strf("%s/instances", room->state_dir), *removed = strf("%s/removed", room->state_dir);
	struct sums s = {0};
	struct statvfs fs;

	if (!instances || !removed)
		return error_oom(err);
	int r = add_disks(&s, instances, own, err);
	if (r >= 0)
		r = add_disks(&s, removed, own, err);
	if (r < 0)
		return r;
	if (statvfs(room->state_dir, &fs) < 0)
		return error_errno(err, errno, "`%s`", room->state_dir);
	uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize, all = available + s.used;
	all += all / 100 * (uint64_t)room->overcommit;
	if (all >= s.promised && all - s.promised >= size)
		return 0;
	return error_set(
		err, ENOSPC,
		"`%s`: no room for a disk of at most %llu MiB: %llu MiB are free, of which other disks may still take "
		"%llu MiB; add space, delete instances or disks in `removed`, or raise --disk-overcommit",
		room->state_dir, (unsigned long long)(size >> 20), (unsigned long long)(available >> 20),
		(unsigned long long)((s.promised - s.used) >> 20));
}

int room_lock(const char *state_dir, int *ret_fd, struct error *err) {
	_free_ char *path = strf("%s/room.lock", state_dir);

	return path ? lock_path(path, O_RDONLY | O_CREAT, true, ret_fd, err) : error_oom(err);
}

int room_take(const struct room *room, const char *own, uint64_t size, int *ret_fd, struct error *err) {
	_close_ int lock = -1;
	int r = room_lock(room->state_dir, &lock, err);

	if (r >= 0)
		r = room_check(room, own, size, err);
	return r < 0 ? r : write_locked(own, size, ret_fd, err);
}

void room_give_back(const char *own) {
	_free_ char *path = strf("%s/disk.max", own);

	if (path)
		unlink(path);
}

int room_check_vars(const char *own, struct error *err) {
	_free_ char *path = strf("%s/vars.fd", own);
	struct stat st;

	if (!path)
		return error_oom(err);
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "`%s`", path);
	/* Blocks can be allocated behind the end of a file, and file systems allocate some more than are used. */
	uint64_t used = (uint64_t)st.st_blocks * BLOCK, size = (uint64_t)st.st_size;
	if (size <= ROOM_VARS_MAX && used <= 2 * ROOM_VARS_MAX)
		return 0;
	return error_set(err, EFBIG, "`vars.fd` has %llu bytes, where UEFI variables have at most %llu",
	                 (unsigned long long)MAX(size, used), (unsigned long long)ROOM_VARS_MAX);
}
