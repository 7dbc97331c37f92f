/* SPDX-License-Identifier: Apache-2.0 */
#include "node/removed.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/loop.h"
#include "base/proc.h"
#include "base/util.h"
#include "node/instnet.h"
#include "node/room.h"

#define PURGE      "purge-"
#define PURGE_MAX  32 /* by one process */
#define IDLE_US    (60 * USEC_PER_SEC)
#define BUSY_US    USEC_PER_SEC
#define FREE_SHARE 10 /* of the file system's blocks one in so many is to be free */

struct removed {
	sd_event *loop;
	char *state_dir, *instances, *dir; /* STATE_DIR/instances, STATE_DIR/removed */
	int64_t keep_s;
	sd_event_source *timer;
	pid_t purger; /* 0: none was started */
};

/* What a look at the folder found. */
struct purge {
	char *victims[PURGE_MAX]; /* paths */
	size_t n;
	char oldest[37]; /* uid of those that are kept; "": none is */
	time_t oldest_time;
};

static void purge_done(struct purge *l) {
	for (size_t i = 0; i < l->n; i++)
		free(l->victims[i]);
}

static void purge_add(struct purge *l, const struct removed *r, const char *name) {
	char *path = l->n < PURGE_MAX ? strf("%s/%s", r->dir, name) : NULL;

	if (path)
		l->victims[l->n++] = path;
}

/* From here on it can't be taken back. */
static void purge_doom(struct purge *l, const struct removed *r, const char *uid) {
	_free_ char *from = strf("%s/%s", r->dir, uid), *to = strf("%s/" PURGE "%s", r->dir, uid);

	if (l->n < PURGE_MAX && from && to && rename(from, to) == 0)
		purge_add(l, r, to + strlen(r->dir) + 1);
}

static bool is_full(const char *path) {
	struct statvfs s;

	return statvfs(path, &s) == 0 && s.f_bavail < s.f_blocks / FREE_SHARE;
}

static void purge_look(struct purge *l, const struct removed *r) {
	DIR *dir = opendir(r->dir);
	struct dirent *e;
	struct stat st;

	while (dir && (e = readdir(dir))) {
		char id[INSTNET_ID_LEN + 1];
		if (starts_with(e->d_name, PURGE)) {
			purge_add(l, r, e->d_name);
			continue;
		}
		if (!instnet_id(e->d_name, id) || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (time(NULL) - st.st_mtime >= r->keep_s) {
			purge_doom(l, r, e->d_name);
		} else if (!l->oldest[0] || st.st_mtime < l->oldest_time) {
			snprintf(l->oldest, sizeof(l->oldest), "%.36s", e->d_name);
			l->oldest_time = st.st_mtime;
		}
	}
	if (dir)
		closedir(dir);
	/* One at a time: it may make enough room. */
	if (l->n == 0 && l->oldest[0] && is_full(r->dir))
		purge_doom(l, r, l->oldest);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void removed_look_in(struct removed *r, uint64_t delay_us) {
	/* As in node/hypervisor.c: without memory for a timer nothing can be done any more. */
	if (loop_timer(r->loop, &r->timer, delay_us, on_timer, r) < 0)
		abort();
}

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct removed *r = userdata;
	_cleanup_(purge_done) struct purge l = {0};
	const char *argv[PURGE_MAX + 5] = {"rm", "-rf", "--one-file-system", "--"};

	removed_look_in(r, BUSY_US);
	if (r->purger && proc_is_running(r->purger, "rm"))
		return 0;
	r->purger = 0;
	purge_look(&l, r);
	for (size_t i = 0; i < l.n; i++)
		argv[4 + i] = l.victims[i];
	/* What fails is tried again. */
	if (l.n == 0)
		removed_look_in(r, IDLE_US);
	else
		(void)!proc_start_detached(&(struct proc_spec){.argv = argv}, &r->purger, NULL);
	return 0;
}

int removed_new(struct removed **ret, sd_event *loop, const char *state_dir, int64_t keep_s, struct error *err) {
	struct removed *r = calloc(1, sizeof(*r));
	int code;

	if (!r)
		return error_oom(err);
	r->loop = loop;
	r->keep_s = keep_s;
	r->state_dir = strdup(state_dir);
	r->instances = strf("%s/instances", state_dir);
	r->dir = strf("%s/removed", state_dir);
	code = r->state_dir && r->instances && r->dir ? mkdir_p(r->dir, 0700, err) : error_oom(err);
	if (code < 0) {
		removed_free(r);
		return code;
	}
	removed_look_in(r, 0);
	*ret = r;
	return 0;
}

struct removed *removed_free(struct removed *r) {
	if (!r)
		return NULL;
	sd_event_source_disable_unref(r->timer);
	if (r->purger && proc_is_running(r->purger, "rm"))
		(void)!proc_stop(r->purger, 0, NULL);
	free(r->state_dir);
	free(r->instances);
	free(r->dir);
	free(r);
	return NULL;
}

void removed_wake(struct removed *r) {
	removed_look_in(r, 0);
}

int removed_put(const struct removed *r, const char *uid, bool asked, struct error *err) {
	_free_ char *from = strf("%s/%s", r->instances, uid), *to = strf("%s/%s", r->dir, uid),
		    *purge = strf("%s/" PURGE "%s", r->dir, uid);
	/* 1970: older than anything is kept. */
	const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}}, never[2] = {0};

	_close_ int lock = -1;

	if (!from || !to || !purge)
		return error_oom(err);
	int code = room_lock(r->state_dir, &lock, err);
	if (code < 0)
		return code;
	if (utimensat(AT_FDCWD, from, asked ? never : now, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return error_errno(err, errno, "set the time of `%s`", from);
		/* It was moved before, as one that is only missing, and somebody has deleted it since. */
		if (asked && utimensat(AT_FDCWD, to, never, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			return error_errno(err, errno, "set the time of `%s`", to);
		return 0;
	}
	/* One of the same name is older, or removed_take_back() would have moved it. */
	if (rename(to, purge) < 0 && errno != ENOENT)
		return error_errno(err, errno, "move `%s` away", to);
	if (rename(from, to) < 0)
		return error_errno(err, errno, "move `%s` to `%s`", from, to);
	return 0;
}

int removed_take_back(const struct removed *r, const char *uid, struct error *err) {
	_free_ char *from = strf("%s/%s", r->dir, uid), *to = strf("%s/%s", r->instances, uid);

	_close_ int lock = -1;

	if (!from || !to)
		return error_oom(err);
	int code = room_lock(r->state_dir, &lock, err);
	if (code < 0)
		return code;
	if (rename(from, to) < 0 && errno != ENOENT && errno != EEXIST && errno != ENOTEMPTY)
		return error_errno(err, errno, "move `%s` to `%s`", from, to);
	return 0;
}
