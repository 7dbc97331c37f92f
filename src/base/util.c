/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

int read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct error *err) {
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "open `%s`", path);
	_buf_free_ struct buf b = {.max = max};
	for (;;) {
		size_t room = b.len < max ? MIN((size_t)65536, max - b.len) : 0;
		char extra;
		char *p = room ? buf_reserve(&b, room) : &extra;
		if (!p)
			return error_oom(err);
		ssize_t n = read(fd, p, room ? room : 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, errno, "read `%s`", path);
		if (n == 0)
			break;
		if (!room)
			return error_set(err, EFBIG, "`%s` is larger than the allowed %zu bytes", path, max);
		b.len += (size_t)n;
		b.data[b.len] = 0;
	}
	size_t len = b.len;
	char *data = buf_steal(&b);
	if (!data)
		return error_oom(err);
	*ret = data;
	if (ret_len)
		*ret_len = len;
	return 0;
}

int write_all(int fd, const void *data, size_t len, struct error *err) {
	const char *p = data;
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, errno, "write");
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int write_file(const char *path, const char *text, struct error *err) {
	_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "open `%s`", path);
	if (write(fd, text, strlen(text)) < 0)
		return error_errno(err, errno, "write `%s` to `%s`", text, path);
	return 0;
}

int sync_directory_of(const char *path, struct error *err) {
	_free_ char *dir = strdup(path);
	if (!dir)
		return error_oom(err);
	char *slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	_close_ int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? error_errno(err, errno, "sync the directory of `%s`", path) : 0;
}

/* The bytes are synced before the rename: if the name became durable first, a power cut would leave an empty file. */
static int sync_and_rename(int fd, const char *from, const char *to, struct error *err) {
	if (fsync(fd) < 0)
		return error_errno(err, errno, "sync `%s`", from);
	if (rename(from, to) < 0)
		return error_errno(err, errno, "rename `%s` to `%s`", from, to);
	return sync_directory_of(to, err);
}

int rename_durable(const char *from, const char *to, struct error *err) {
	_close_ int fd = open(from, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "open `%s`", from) : sync_and_rename(fd, from, to, err);
}

int write_file_atomic(const char *path, const void *data, size_t len, mode_t mode, struct error *err) {
	_free_ char *tmp = strf("%s.XXXXXX", path);
	if (!tmp)
		return error_oom(err);
	_close_ int fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "create `%s`", tmp);
	int r = write_all(fd, data, len, err);
	if (r < 0)
		error_prefix(err, "`%s`", path);
	else if (fchmod(fd, mode) < 0)
		r = error_errno(err, errno, "set the mode of `%s`", tmp);
	else
		r = sync_and_rename(fd, tmp, path, err);
	if (r < 0)
		unlink(tmp);
	return r;
}

int lock_path(const char *path, int flags, bool wait, int *ret_fd, struct error *err) {
	_close_ int fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "open `%s`", path);
	while (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0)
		if (errno == EWOULDBLOCK)
			return error_set(err, EBUSY, "lock `%s`: another process has it", path);
		else if (errno != EINTR)
			return error_errno(err, errno, "lock `%s`", path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int mkdir_p(const char *path, mode_t mode, struct error *err) {
	_free_ char *p = strdup(path);
	if (!p)
		return error_oom(err);
	for (char *s = p + 1;; s++) {
		char c = *s;
		if (c != '/' && c != 0)
			continue;
		*s = 0;
		if (mkdir(p, mode) < 0 && errno != EEXIST)
			return error_errno(err, errno, "mkdir `%s`", p);
		*s = c;
		if (!c)
			return 0;
	}
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

int remove_tree(const char *path, struct error *err) {
	if (nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT)
		return error_errno(err, errno, "remove `%s`", path);
	return 0;
}

char *strf(const char *fmt, ...) {
	va_list ap;
	char *s;
	va_start(ap, fmt);
	int n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

bool streq(const char *a, const char *b) {
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int string_set(char **p, const char *value) {
	if (streq(*p, value))
		return 0;
	char *copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*p);
	*p = copy;
	return 1;
}

bool starts_with(const char *s, const char *prefix) {
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret, struct error *err) {
	char *end;
	errno = 0;
	long long v = strtoll(s, &end, 10);
	if (errno || end == s || *end || (*s != '-' && (*s < '0' || *s > '9')))
		return error_set(err, EINVAL, "`%s` is not a whole number", s);
	if (v < min || v > max)
		return error_set(err, ERANGE, "%lld: must be %lld to %lld", v, (long long)min, (long long)max);
	*ret = v;
	return 0;
}

uint64_t now_monotonic_ns(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t now_thread_cpu_ns(void) {
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t now_realtime_us(void) {
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

const char *time_str(uint64_t realtime_us, bool micro, char out[static TIME_STR_MAX]) {
	time_t sec = (time_t)(realtime_us / USEC_PER_SEC);
	struct tm tm;
	gmtime_r(&sec, &tm);
	size_t n = strftime(out, TIME_STR_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	if (micro)
		snprintf(out + n, TIME_STR_MAX - n, ".%06uZ", (unsigned)(realtime_us % USEC_PER_SEC));
	else
		snprintf(out + n, TIME_STR_MAX - n, "Z");
	return out;
}

/* Returns the rest of the text after date and time; NULL if the text does not begin with them. This checks more than
 * strptime(), which accepts fewer digits, leap seconds, and 30 February. */
static const char *parse_date(const char *s, time_t *ret) {
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	struct tm tm = {0}, back;
	for (size_t i = 0; shape[i]; i++)
		if (shape[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i])
			return NULL;
	const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	const int day = tm.tm_mday;
	*ret = timegm(&tm);
	return p && gmtime_r(ret, &back) && back.tm_mday == day && s[17] < '6' ? p : NULL;
}

int time_parse(const char *s, uint64_t *ret_us) {
	time_t date;
	const char *p = parse_date(s, &date);
	if (!p || strlen(s) > 40)
		return -EINVAL;
	uint64_t us = 0;
	if (*p == '.') {
		unsigned digits = 0;
		for (p++; *p >= '0' && *p <= '9'; p++, digits++)
			if (digits < 6)
				us = us * 10 + (uint64_t)(*p - '0');
		if (digits == 0 || digits > 9)
			return -EINVAL;
		for (; digits < 6; digits++)
			us *= 10;
	}
	int offset = 0;
	if (*p == 'Z')
		p++;
	else if (*p == '+' || *p == '-') {
		unsigned h, m;
		if (strlen(p) != 6 || sscanf(p + 1, "%2u:%2u", &h, &m) != 2 || h > 23 || m > 59)
			return -EINVAL;
		offset = (*p == '+' ? 1 : -1) * (int)(h * 3600 + m * 60);
		p += 6;
	} else
		return -EINVAL;
	time_t t = date - offset;
	if (*p || t < 0)
		return -EINVAL;
	*ret_us = (uint64_t)t * USEC_PER_SEC + us;
	return 0;
}

void random_bytes(void *out, size_t len) {
	uint8_t *p = out;
	while (len) {
		ssize_t n = getrandom(p, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			abort(); /* no kernel since 3.17 fails here */
		p += n;
		len -= (size_t)n;
	}
}

void uuid_make(char out[static 37]) {
	/* Bytes for several UUIDs at once: a create makes two, and the system call takes a fiftieth of the create's
	 * time. */
	static _Thread_local uint8_t stock[512];
	static _Thread_local size_t left;
	if (!left) {
		random_bytes(stock, sizeof(stock));
		left = sizeof(stock);
	}
	left -= 16;
	uint8_t *b = stock + left;
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	static const char digits[] = "0123456789abcdef";
	char *p = out;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = digits[b[i] >> 4];
		*p++ = digits[b[i] & 15];
	}
	*p = '\0';
}
