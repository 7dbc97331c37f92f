/* SPDX-License-Identifier: Apache-2.0 */
#include "node/removed.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/job.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/util.h"
#include "node/instnet.h"
#include "node/room.h"

#define PURGE        "purge-"
#define NAME_SIZE    (sizeof(PURGE) + 36)
#define PURGE_MAX    32 /* in one go */
#define AGAIN_MAX    16 /* of them, such as could not be deleted before */
#define STUCK_MAX    1024
#define STUCK_MIN_NS (60 * NSEC_PER_SEC)
#define STUCK_MAX_NS (3600 * NSEC_PER_SEC)
#define PURGE_MAX_MS (60U * 60 * 1000)
#define IDLE_US      (60 * USEC_PER_SEC)
#define BUSY_US      USEC_PER_SEC
#define FREE_SHARE   10 /* one in so many of the file system's blocks must be free */

/* A folder that could not be deleted. */
struct stuck {
	char name[NAME_SIZE];
	unsigned failures;
	uint64_t due_ns; /* when it is tried again */
	bool trying;     /* by the job */
};

struct removed {
	sd_event *loop;
	char *state_dir, *instances, *dir; /* STATE_DIR/instances, STATE_DIR/removed */
	int64_t keep_s;
	bool (*is_known)(void *userdata, const char *uid); /* NULL: it isn't known yet which instances there are */
	void *userdata;
	sd_event_source *timer;
	struct jobs *jobs;
	struct job *job; /* the job that deletes; NULL: none */
	struct stuck stuck[STUCK_MAX];
	size_t n_stuck;
	bool again; /* something may have been put there after the job looked */
};

/* ---- in the worker ---- */

/* What a look at the folder found. */
struct purge {
	char names[PURGE_MAX][NAME_SIZE];
	size_t n, n_again; /* n_again: of folders that could not be deleted before */
	char oldest[37];   /* uid of the oldest kept disk; "": no disk is kept */
	time_t oldest_time;
};

/* What the loop learns. */
struct purged {
	size_t n_tried, n_left;
	char left[PURGE_MAX][NAME_SIZE]; /* could not be deleted */
};
_Static_assert(sizeof(struct purged) <= JOB_RESULT_MAX, "a job returns no more");

static const struct stuck *stuck_find(const struct removed *r, const char *name) {
	for (size_t i = 0; i < r->n_stuck; i++)
		if (streq(r->stuck[i].name, name))
			return &r->stuck[i];
	return NULL;
}

static void purge_add(struct purge *p, const struct removed *r, const char *name) {
	const struct stuck *s = stuck_find(r, name);

	if (p->n == PURGE_MAX || strlen(name) >= NAME_SIZE || (s && !s->trying))
		return;
	snprintf(p->names[p->n++], NAME_SIZE, "%s", name);
	p->n_again += s != NULL;
}

/* From here on the disk can't be given back. */
static void purge_doom(struct purge *p, const struct removed *r, const char *uid) {
	_free_ char *from = strf("%s/%s", r->dir, uid), *to = strf("%s/" PURGE "%s", r->dir, uid);

	if (p->n < PURGE_MAX && from && to && rename(from, to) == 0)
		purge_add(p, r, to + strlen(r->dir) + 1);
}

static bool is_full(const char *path) {
	struct statvfs s;

	return statvfs(path, &s) == 0 && s.f_bavail < s.f_blocks / FREE_SHARE;
}

/* No folder is moved here or given back while this decides what to delete. */
static int purge_look(struct purge *p, const struct removed *r, struct error *err) {
	_close_ int lock = -1;
	struct dirent *e;
	struct stat st;

	int code = room_lock(r->state_dir, &lock, err);
	if (code < 0)
		return code;
	DIR *dir = opendir(r->dir);
	while (dir && (e = readdir(dir))) {
		char id[INSTNET_ID_LEN + 1];
		if (starts_with(e->d_name, PURGE)) {
			purge_add(p, r, e->d_name);
			continue;
		}
		if (!instnet_id(e->d_name, id) || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		/* The disk of an instance that exists waits there until the instance is looked at. */
		if (st.st_mtime != 0 && (!r->is_known || r->is_known(r->userdata, e->d_name)))
			continue;
		if (time(NULL) - st.st_mtime >= r->keep_s) {
			purge_doom(p, r, e->d_name);
		} else if (!p->oldest[0] || st.st_mtime < p->oldest_time) {
			snprintf(p->oldest, sizeof(p->oldest), "%.36s", e->d_name);
			p->oldest_time = st.st_mtime;
		}
	}
	if (dir)
		closedir(dir);
	/* One at a time: deleting one may make enough room. What could not be deleted before makes none. */
	if (p->n == p->n_again && p->oldest[0] && is_full(r->dir))
		purge_doom(p, r, p->oldest);
	return 0;
}

static int purge_in_worker(void *arg, void *result, struct error *err) {
	const struct removed *r = arg;
	struct purged *ret = result;
	struct purge p = {0};
	const char *argv[PURGE_MAX + 5] = {"rm", "-rf", "--one-file-system", "--"};

	int code = purge_look(&p, r, err);
	if (code < 0)
		return code;
	for (size_t i = 0; i < p.n; i++)
		argv[4 + i] = p.names[i];
	if (p.n > 0)
		code = proc_run(&(struct proc_spec){.argv = argv, .cwd = r->dir, .timeout_ms = PURGE_MAX_MS}, NULL,
		                err);
	ret->n_tried = p.n;
	for (size_t i = 0; code < 0 && i < p.n; i++) {
		_free_ char *path = strf("%s/%s", r->dir, p.names[i]);
		if (path && access(path, F_OK) == 0)
			memcpy(ret->left[ret->n_left++], p.names[i], NAME_SIZE);
	}
	return code;
}

/* ---- in the loop ---- */

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void removed_look_in(struct removed *r, uint64_t delay_us) {
	/* As in node/look.c: without memory for a timer nothing can be done any more. */
	if (loop_timer(r->loop, &r->timer, delay_us, on_timer, r) < 0)
		abort();
}

/* Chooses those that the next job tries again. */
static void stuck_choose(struct removed *r) {
	uint64_t now = now_monotonic_ns();
	unsigned n = 0;

	for (size_t i = 0; i < r->n_stuck; i++)
		r->stuck[i].trying = r->stuck[i].due_ns <= now && n++ < AGAIN_MAX;
}

static void stuck_add(struct removed *r, const char *name, unsigned failures) {
	uint64_t wait = STUCK_MIN_NS << MIN(failures, 10U);
	struct stuck *s = &r->stuck[r->n_stuck];

	if (r->n_stuck == STUCK_MAX)
		return;
	snprintf(s->name, NAME_SIZE, "%s", name);
	s->failures = failures + 1;
	s->due_ns = now_monotonic_ns() + MIN(wait, STUCK_MAX_NS);
	r->n_stuck++;
}

/* All that were tried are forgotten, except those that are still there. */
static void stuck_update(struct removed *r, const struct purged *p) {
	unsigned failures[PURGE_MAX] = {0};

	for (size_t i = 0; i < p->n_left; i++) {
		const struct stuck *s = stuck_find(r, p->left[i]);
		failures[i] = s ? s->failures : 0;
	}
	for (size_t i = r->n_stuck; i > 0; i--)
		if (r->stuck[i - 1].trying)
			r->stuck[i - 1] = r->stuck[--r->n_stuck];
	for (size_t i = 0; i < p->n_left; i++)
		stuck_add(r, p->left[i], failures[i]);
}

static void on_purged(void *userdata, int code, const void *result, const struct error *err) {
	struct removed *r = userdata;
	const struct purged *p = result;
	bool found = !p || p->n_tried > 0;

	r->job = NULL;
	if (p && (code >= 0 || p->n_tried > 0)) {
		if (p->n_left > 0)
			log_warn("removed disks could not be deleted; they are tried again later",
			         "folders=%zu error=\"%s\"", p->n_left, err->msg);
		stuck_update(r, p);
	}
	removed_look_in(r, r->again ? 0 : found ? BUSY_US : IDLE_US);
	r->again = false;
}

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct removed *r = userdata;
	const struct job_spec spec = {.fn = purge_in_worker,
	                              .arg = r,
	                              .result_size = sizeof(struct purged),
	                              .timeout_ms = PURGE_MAX_MS + 60000,
	                              .done = on_purged,
	                              .userdata = r};

	if (r->job) {
		r->again = true;
		return 0;
	}
	stuck_choose(r);
	if (job_start(r->jobs, &spec, &r->job, NULL) < 0)
		removed_look_in(r, BUSY_US);
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
	if (code >= 0)
		code = jobs_new(&r->jobs, loop, 1, SD_EVENT_PRIORITY_IDLE, err);
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
	jobs_free(r->jobs);
	free(r->state_dir);
	free(r->instances);
	free(r->dir);
	free(r);
	return NULL;
}

void removed_wake(struct removed *r) {
	removed_look_in(r, 0);
}

/* Also true if that can't be found out. */
static bool exists(const char *path) {
	return access(path, F_OK) == 0 || errno != ENOENT;
}

void removed_set_known(struct removed *r, bool (*is_known)(void *userdata, const char *uid), void *userdata) {
	r->is_known = is_known;
	r->userdata = userdata;
	removed_wake(r);
}

int removed_put(const struct removed *r, const char *uid, bool asked, struct error *err) {
	_free_ char *from = strf("%s/%s", r->instances, uid), *to = strf("%s/%s", r->dir, uid),
		    *purge = strf("%s/" PURGE "%s", r->dir, uid);
	/* 1970: older than any disk that is kept. */
	const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}}, never[2] = {0};

	_close_ int lock = -1;

	if (!from || !to || !purge)
		return error_oom(err);
	/* An instance without a disk waits for nobody. */
	if (!exists(from) && !exists(to))
		return 0;
	int code = room_lock(r->state_dir, &lock, err);
	if (code < 0)
		return code;
	if (utimensat(AT_FDCWD, from, asked ? never : now, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return error_errno(err, errno, "set the time of `%s`", from);
		/*
		 * The folder was moved before because the instance was missing, and somebody has deleted the instance
		 * since.
		 */
		if (asked && utimensat(AT_FDCWD, to, never, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			return error_errno(err, errno, "set the time of `%s`", to);
		return 0;
	}
	/* A folder with the same name must be older, or removed_take_back() would have moved it. */
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
	if (!exists(from))
		return 0;
	int code = room_lock(r->state_dir, &lock, err);
	if (code < 0)
		return code;
	if (rename(from, to) < 0 && errno != ENOENT && errno != EEXIST && errno != ENOTEMPTY)
		return error_errno(err, errno, "move `%s` to `%s`", from, to);
	return 0;
}
