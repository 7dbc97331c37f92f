/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *log_prog = "nacre";
static enum log_level log_max = LOG_LEVEL_INFO;

void log_init(const char *prog, enum log_level level) {
	log_prog = prog;
	log_max = level;
}

int log_level_parse(const char *name, enum log_level *ret, struct error *err) {
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
		if (strcmp(name, level_names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	return error_set(err, EINVAL, "log level `%s`: must be error, warn, info or debug", name);
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...) {
	if (level > log_max)
		return;
	char line[2048], pairs[1536];
	struct timespec ts;
	struct tm tm;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(pairs, sizeof(pairs), fmt, ap);
	va_end(ap);
	for (char *p = pairs; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	int n = snprintf(line, sizeof(line),
	                 "time=%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ level=%s prog=%s msg=\"%s\"%s%s\n",
	                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
	                 ts.tv_nsec / 1000000, level_names[level], log_prog, msg, *pairs ? " " : "", pairs);
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	/* One write per line, so that lines of several processes in one file don't mix. */
	ssize_t r = write(STDERR_FILENO, line, (size_t)n);
	(void)r;
}
