/* SPDX-License-Identifier: Apache-2.0 */
#include "net/frr.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/netns.h"

#define TRACES_DIR    "/var/tmp/frr"
#define DIR_LEN_MAX   80
#define PATH_LEN_MAX  (DIR_LEN_MAX + 32)
#define CONFIG_MAX    (16U << 20)
#define ANSWER_MAX    (4U << 20)
#define LOG_MAX       (1L << 20)
#define OWED_MAX      64U
#define VTY_TIMEOUT_S 20
#define STOP_STEP_MS  10
#define STOP_MAX_MS   5000
/* How long zebra keeps the routes of a killed predecessor, until bgpd has given them to it; seconds. A bgpd that has
 * lost zebra may try only once a minute to connect to the new one. */
#define STALE_ROUTES_S "120"

static const char *const daemons[FRRCONF_DAEMONS] = {[FRRCONF_ZEBRA] = "zebra", [FRRCONF_BGPD] = "bgpd"};

static const char *frr_path_of(const struct frr *f, const char *daemon, const char *suffix,
                               char out[static PATH_LEN_MAX]) {
	snprintf(out, PATH_LEN_MAX, "%s/%s%s", f->dir, daemon, suffix);
	return out;
}

/* The configuration that we gave DAEMON: "bgpd.conf" was applied, "bgpd.next" perhaps in part, "bgpd.first" is for its
 * start. */
static const char *config_of(const struct frr *f, const char *daemon, const char *suffix,
                             char out[static PATH_LEN_MAX]) {
	snprintf(out, PATH_LEN_MAX, "%s.conf/%s%s", f->dir, daemon, suffix);
	return out;
}

/* This file exists while bgpd has not given its routes to a zebra that was started after it. Its text is another one
 * for each start of zebra. */
static const char *routes_owed(const struct frr *f, char out[static PATH_LEN_MAX]) {
	return config_of(f, "bgpd", ".owes", out);
}

static int frr_prepare_dir(const struct frr *f, struct error *err) {
	char conf[PATH_LEN_MAX];
	struct passwd *user = getpwnam("frr");
	struct group *group = getgrnam("frr");
	if (strlen(f->dir) > DIR_LEN_MAX)
		return error_set(err, ENAMETOOLONG, "FRR directory `%s`: longer than %d characters", f->dir,
		                 DIR_LEN_MAX);
	if (!user || !group)
		return error_set(err, ENOENT, "no user `frr`: install the package frr");
	int r = mkdir_p(f->dir, 0755, err);
	/* FRR creates this directory only if it is started by its own scripts. */
	if (r >= 0)
		r = mkdir_p("/var/run/frr", 0755, err);
	if (r < 0)
		return r;
	if (chown(f->dir, user->pw_uid, group->gr_gid) < 0)
		return error_errno(err, errno, "chown `%s`", f->dir);
	/* The directory may hold passwords. */
	r = mkdir_p(config_of(f, "", "", conf), 0750, err);
	if (r >= 0 && chown(conf, 0, group->gr_gid) < 0)
		r = error_errno(err, errno, "chown `%s`", conf);
	return r;
}

/*
 * The pid of a running daemon of this directory, or 0. FRR holds a lock on its pid file as long as it lives, which no
 * crash and no recycled pid can fake.
 */
static pid_t running(const struct frr *f, const char *daemon) {
	char path[PATH_LEN_MAX];
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	_close_ int fd = open(frr_path_of(f, daemon, ".pid", path), O_RDWR | O_CLOEXEC);
	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid;
}

/* False if the daemon's namespace was deleted and another one has its name now. */
static bool in_namespace(const struct frr *f, pid_t pid) {
	char mine[64], named[NETNS_PATH_MAX];
	struct stat a, b;
	snprintf(mine, sizeof(mine), "/proc/%d/ns/net", pid);
	return stat(mine, &a) == 0 && stat(netns_path(f->netns, named), &b) == 0 && a.st_ino == b.st_ino;
}

void frr_remove_traces(const char *daemon, pid_t pid) {
	DIR *dir = opendir(TRACES_DIR);
	size_t n = strlen(daemon);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[512];
		if (strncmp(e->d_name, daemon, n) != 0 || e->d_name[n] != '.')
			continue;
		/* There is one file for each thread; the first thread has the pid of the process. */
		snprintf(path, sizeof(path), "%s/%.64s/logbuf.%d", TRACES_DIR, e->d_name, pid);
		if (access(path, F_OK) < 0)
			continue;
		*strrchr(path, '/') = 0;
		remove_tree(path, NULL);
	}
	if (dir)
		closedir(dir);
}

/*
 * Each daemon inherits a lock (flock) from its starter and so holds it from the fork on. FRR locks its pid file only
 * tens of milliseconds later. Without our lock, a daemon whose starter was killed could become active after its
 * successor was started, or after the directory was removed, and take the sockets of the next daemon.
 *
 * Ends DAEMON. *RET_LOCK is the lock, which we hold now, or -1 if no daemon was ever started here.
 */
static int frr_stop_daemon(const struct frr *f, const char *daemon, int *ret_lock, struct error *err) {
	char path[PATH_LEN_MAX];
	_close_ int lock = open(config_of(f, daemon, ".lock", path), O_RDONLY | O_CLOEXEC);
	if (lock < 0 && errno != ENOENT)
		return error_errno(err, errno, "open `%s`", path);
	for (int ms = 0;; ms += STOP_STEP_MS) {
		pid_t pid = running(f, daemon);
		int r = pid ? proc_stop(pid, 3000, err) : 0;
		if (r < 0)
			return r;
		if (pid)
			frr_remove_traces(daemon, pid);
		if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) == 0)
			break;
		if (errno != EWOULDBLOCK)
			return error_errno(err, errno, "lock `%s`", path);
		if (ms >= STOP_MAX_MS)
			return error_set(err, ETIMEDOUT,
			                 "stop %s in `%s`: a daemon that was starting still holds `%s` after %d ms",
			                 daemon, f->netns, path, ms);
		usleep(STOP_STEP_MS * 1000);
	}
	*ret_lock = TAKE_FD(lock);
	return 0;
}

#define SECRET " password "

/* A command as it may be put into messages: without the password. */
static const char *show_command(const char *command, char out[static 128]) {
	const char *secret = strstr(command, SECRET);
	snprintf(out, 128, "%.*s%s", (int)(secret ? secret - command : 110), command, secret ? " password …" : "");
	return out;
}

/* -- the vty: commands end in NUL, answers in three NULs and a status -- */

static int vty_open(const struct frr *f, const char *daemon, int *ret, struct error *err) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = f->patience_s ? f->patience_s : VTY_TIMEOUT_S};
	char path[PATH_LEN_MAX];
	frr_path_of(f, daemon, ".vty", path);
	if (strlen(path) >= sizeof(sa.sun_path))
		return error_set(err, ENAMETOOLONG, "`%s` is too long for a socket", path);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_errno(err, errno, "connect to `%s`", path);
	*ret = TAKE_FD(fd);
	return 0;
}

/* Runs one command; appends its output to OUT. *RET_STATUS is FRR's status (0 = success). */
static int vty_say(int fd, const char *command, struct buf *out, int *ret_status, struct error *err) {
	_buf_free_ struct buf in = {.max = ANSWER_MAX};
	char shown[128];
	int r = write_all(fd, command, strlen(command) + 1, err);
	if (r < 0)
		return r;
	for (;;) {
		char *room = buf_reserve(&in, 4096);
		if (!room)
			return buf_error(&in, "FRR's answer", err);
		ssize_t n = read(fd, room, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_errno(err, n < 0 ? errno : ECONNRESET, "FRR's answer to `%s`",
			                   show_command(command, shown));
		in.len += (size_t)n;
		if (in.len >= 4 && memcmp(in.data + in.len - 4, "\0\0\0", 3) == 0)
			break;
	}
	*ret_status = (uint8_t)in.data[in.len - 1];
	if (out)
		buf_add(out, in.data, in.len - 4);
	return 0;
}

static int vty_check(int fd, const char *command, struct buf *out, struct error *err) {
	_buf_free_ struct buf text = {.max = ANSWER_MAX};
	char shown[128];
	int status = 0;
	int r = vty_say(fd, command, &text, &status, err);
	if (r < 0)
		return r;
	if (status != 0)
		/* The answer may repeat the command with its password. */
		return error_set(err, EREMOTEIO, "FRR refuses `%s` (status %d): %.200s", show_command(command, shown),
		                 status, !text.data || strstr(command, SECRET) ? "" : text.data);
	if (out && text.len)
		buf_add(out, text.data, text.len);
	return 0;
}

int frr_command(const struct frr *f, const char *daemon, const char *const *commands, struct buf *out,
                struct error *err) {
	_close_ int fd = -1;
	int r = vty_open(f, daemon, &fd, err);
	if (r >= 0)
		r = vty_check(fd, "enable", NULL, err);
	for (; r >= 0 && *commands; commands++)
		r = vty_check(fd, *commands, out, err);
	if (r >= 0 && out)
		r = buf_error(out, "FRR's answer", err);
	return r;
}

/* -- start and configuration -- */

/* Removes the traces of the daemon that ran before and died. */
static void remove_old_traces(const struct frr *f, const char *daemon) {
	char path[PATH_LEN_MAX];
	_free_ char *text = NULL;
	if (read_file(frr_path_of(f, daemon, ".pid", path), 64, &text, NULL, NULL) == 0 && atoi(text) > 1)
		frr_remove_traces(daemon, atoi(text));
}

static int routes_owe(const char *path, struct error *err) {
	char text[64];
	snprintf(text, sizeof(text), "%d %" PRIu64 "\n", getpid(), now_monotonic_ns());
	return write_file_atomic(path, text, strlen(text), 0600, err);
}

/* Starts the daemon; first ends any that runs or is starting under the same name. */
static int frr_start_daemon(const struct frr *f, const char *daemon, const struct buf *config, struct error *err) {
	char program[64], conf[PATH_LEN_MAX], first[PATH_LEN_MAX], next[PATH_LEN_MAX], lock_path[PATH_LEN_MAX];
	char pid[PATH_LEN_MAX], zserv[PATH_LEN_MAX], log[PATH_LEN_MAX], log_arg[PATH_LEN_MAX + 8], owed[PATH_LEN_MAX];
	char netns[NETNS_PATH_MAX];
	_close_ int lock = -1;
	_close_ int made = open(config_of(f, daemon, ".lock", lock_path), O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	int r = made < 0 ? error_errno(err, errno, "make `%s`", lock_path) : frr_stop_daemon(f, daemon, &lock, err);
	if (r < 0)
		return r;
	snprintf(program, sizeof(program), "/usr/lib/frr/%s", daemon);
	frr_path_of(f, daemon, ".pid", pid);
	frr_path_of(f, "zserv", ".api", zserv);
	frr_path_of(f, daemon, ".log", log);
	snprintf(log_arg, sizeof(log_arg), "file:%s", log);
	r = write_file_atomic(config_of(f, daemon, ".first", first), config->data, config->len, 0644, err);
	if (r < 0)
		return r;
	unlink(config_of(f, daemon, ".conf", conf));
	unlink(config_of(f, daemon, ".next", next));
	/* A new bgpd gives its routes to zebra as it learns them. */
	routes_owed(f, owed);
	if (streq(daemon, "bgpd"))
		unlink(owed);
	else if (running(f, "bgpd"))
		r = routes_owe(owed, err);
	if (r < 0)
		return error_prefix(err, "start %s in `%s`", daemon, f->netns);
	remove_old_traces(f, daemon);
	/* With -d the call returns once the sockets are open. Commands are answered after the configuration was read.
	 */
	const char *zebra_argv[] = {program, "-d",    "-f",           first,       "-i",           pid,
	                            "-z",    zserv,   "-A",           "127.0.0.1", "-P",           "0",
	                            "--log", log_arg, "--log-level",  "warnings",  "--vty_socket", f->dir,
	                            "-r",    "-K",    STALE_ROUTES_S, NULL};
	const char *bgpd_argv[] = {program,       "-d",       "-f",           first,  "-i", pid,     "-z",
	                           zserv,         "-A",       "127.0.0.1",    "-P",   "0",  "--log", log_arg,
	                           "--log-level", "warnings", "--vty_socket", f->dir, NULL};
	struct proc_spec spec = {.argv = streq(daemon, "zebra") ? zebra_argv : bgpd_argv,
	                         .netns = netns_path(f->netns, netns),
	                         .keep_fd = lock};
	r = proc_run(&spec, NULL, err);
	if (r >= 0)
		r = frr_command(f, daemon, (const char *const[]){NULL}, NULL, err);
	if (r >= 0)
		r = rename_durable(first, conf, err);
	return r < 0 ? error_prefix(err, "start %s in `%s`", daemon, f->netns) : 0;
}

/* Runs the steps of frrconf_diff(). STEPS is cut into lines in place. */
static int take_steps(const struct frr *f, const char *daemon, char *steps, struct error *err) {
	_close_ int fd = -1;
	int status;
	int r = vty_open(f, daemon, &fd, err);
	if (r >= 0)
		r = vty_check(fd, "enable", NULL, err);
	if (r >= 0)
		r = vty_check(fd, "configure terminal", NULL, err);
	for (char *line = steps, *end; r >= 0 && (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		if (!*line) {
			r = vty_check(fd, "end", NULL, err);
			if (r >= 0)
				r = vty_check(fd, "configure terminal", NULL, err);
		} else if (*line == '-') {
			/* A line that an interrupted attempt has already removed can't be removed again; that is no
			 * failure. */
			r = vty_say(fd, line + 1, NULL, &status, err);
		} else {
			r = vty_check(fd, line + 1, NULL, err);
		}
	}
	return r;
}

/* Changes DAEMON from the configuration OLD, which it was given before, to NEW. */
static int change(const struct frr *f, enum frrconf_daemon daemon, const char *old, const struct frrconf *new,
                  struct error *err) {
	_buf_free_ struct buf steps = {.max = CONFIG_MAX};
	_frrconf_free_ struct frrconf *told = NULL;
	int r = frrconf_new(&told, FRRCONF_EMPTY, err);
	if (r >= 0)
		r = frrconf_parse(told, daemon, old, err);
	if (r >= 0)
		r = frrconf_diff(told, new, daemon, &steps, err);
	return r >= 0 && steps.len ? take_steps(f, daemons[daemon], steps.data, err) : r;
}

/*
 * The file .conf is the configuration that the daemon has. The file .next is from an attempt that was interrupted (a
 * line was refused, or we were killed): the daemon may have some of its lines, so those that are not wanted any more
 * are removed, too.
 */
static int configure(const struct frr *f, enum frrconf_daemon d, const struct frrconf *c, const struct buf *config,
                     struct error *err) {
	const char *daemon = daemons[d];
	char conf[PATH_LEN_MAX], next[PATH_LEN_MAX];
	_free_ char *applied = NULL, *attempt = NULL;
	int r = read_file(config_of(f, daemon, ".conf", conf), CONFIG_MAX, &applied, NULL, err);
	if (r < 0)
		return r;
	r = read_file(config_of(f, daemon, ".next", next), CONFIG_MAX, &attempt, NULL, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (!attempt && streq(applied, config->data))
		return 0;
	r = attempt ? change(f, d, attempt, c, err) : 0;
	if (r >= 0)
		r = write_file_atomic(next, config->data, config->len, 0644, err);
	if (r >= 0)
		r = change(f, d, applied, c, err);
	if (r >= 0)
		r = rename_durable(next, conf, err);
	return r < 0 ? error_prefix(err, "configure %s in `%s`", daemon, f->netns) : 0;
}

/* FRR opens its log for appending, so it continues at the beginning of a truncated log. FRR's user can replace the file
 * by another one. */
static void bound_log(const struct frr *f, const char *daemon) {
	char path[PATH_LEN_MAX];
	struct stat st;
	_close_ int fd = open(frr_path_of(f, daemon, ".log", path), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_size > LOG_MAX)
		(void)!ftruncate(fd, 0);
}

static int ensure_daemon(const struct frr *f, enum frrconf_daemon d, const struct frrconf *c, struct error *err) {
	_buf_free_ struct buf config = {.max = CONFIG_MAX};
	char conf[PATH_LEN_MAX];
	pid_t pid = running(f, daemons[d]);
	bound_log(f, daemons[d]);
	frrconf_print(c, d, &config);
	int r = buf_error(&config, "FRR configuration", err);
	if (r < 0)
		return r;
	/* Without that file the start was interrupted, and it is unknown what the daemon has read. */
	bool started = pid && in_namespace(f, pid) && access(config_of(f, daemons[d], ".conf", conf), F_OK) == 0;
	return started ? configure(f, d, c, &config, err) : frr_start_daemon(f, daemons[d], &config, err);
}

/* True if bgpd is connected to zebra, so that zebra gets what bgpd announces. */
static int bgpd_is_connected(const struct frr *f, bool *ret, struct error *err) {
	static const char *const command[] = {"show zebra client summary", NULL};
	_buf_free_ struct buf out = {.max = ANSWER_MAX};
	int r = frr_command(f, "zebra", command, &out, err);
	if (r >= 0)
		*ret = out.data && strstr(out.data, "\nbgp ");
	return r;
}

/*
 * After zebra alone has died, bgpd connects to the new zebra by itself, but gives it no route that it had given to the
 * dead one. The new zebra would keep the old routes for STALE_ROUTES_S and then delete them.
 */
static int give_routes(const struct frr *f, const struct frrconf *c, struct error *err) {
	char owed[PATH_LEN_MAX];
	_buf_free_ struct buf steps = {.max = CONFIG_MAX};
	_free_ char *before = NULL, *after = NULL;
	bool connected = false;
	int r = read_file(routes_owed(f, owed), OWED_MAX, &before, NULL, err);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = bgpd_is_connected(f, &connected, err);
	if (r >= 0 && !connected)
		return 0;
	if (r >= 0)
		r = frrconf_give_routes(c, &steps, err);
	if (r >= 0 && steps.len)
		r = take_steps(f, "bgpd", steps.data, err);
	/* Meanwhile another process may have started another zebra, which has got nothing. */
	if (r >= 0 && read_file(owed, OWED_MAX, &after, NULL, NULL) >= 0 && streq(before, after))
		unlink(owed);
	return r < 0 ? error_prefix(err, "give bgpd's routes to the new zebra in `%s`", f->netns) : 0;
}

int frr_ensure(const struct frr *f, const struct frrconf *c, struct error *err) {
	int r = frrconf_error(c, err);
	if (r >= 0)
		r = frr_prepare_dir(f, err);
	if (r < 0)
		return r;
	for (int d = 0; r >= 0 && d < FRRCONF_DAEMONS; d++)
		r = ensure_daemon(f, d, c, err);
	/* A daemon that gave no answer in time would be waited for once more. */
	if (r == -EAGAIN || r == -ETIMEDOUT)
		return r;
	/* Also if a line of the configuration is refused: the old routes are deleted soon. */
	int q = give_routes(f, c, r < 0 ? NULL : err);
	return r < 0 ? r : q;
}

int frr_told(const struct frr *f, enum frrconf_daemon daemon, struct frrconf **ret, struct error *err) {
	char path[PATH_LEN_MAX];
	_free_ char *text = NULL;
	_frrconf_free_ struct frrconf *told = NULL;
	int r = read_file(config_of(f, daemons[daemon], ".conf", path), CONFIG_MAX, &text, NULL, err);
	/* A start was interrupted. */
	if (r == -ENOENT)
		r = read_file(config_of(f, daemons[daemon], ".first", path), CONFIG_MAX, &text, NULL, err);
	if (r < 0 && r != -ENOENT)
		return r;
	r = frrconf_new(&told, FRRCONF_EMPTY, err);
	if (r >= 0 && text)
		r = frrconf_parse(told, daemon, text, err);
	if (r >= 0)
		*ret = TAKE_PTR(told);
	return r;
}

int frr_stop(const struct frr *f, struct error *err) {
	char conf[PATH_LEN_MAX];
	_close_ int bgpd = -1, zebra = -1;
	int r = frr_stop_daemon(f, "bgpd", &bgpd, err);
	if (r >= 0)
		r = frr_stop_daemon(f, "zebra", &zebra, err);
	if (r >= 0)
		r = remove_tree(f->dir, err);
	if (r >= 0)
		r = remove_tree(config_of(f, "", "", conf), err);
	return r;
}
