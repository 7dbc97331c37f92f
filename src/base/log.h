/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Structured logs: one line per event on stderr, in logfmt (time=… level=… prog=… msg="…" key=value …), which journald
 * and Loki read.
 *
 * MSG is a constant phrase; FMT is a printf format for the pairs, e.g.
 *     log_info("instance started", "instance=%s/%s pid=%d", ns, name, pid);
 * Control characters in the printed pairs become '?', so that a hostile value can't forge a line. Values that may hold
 * spaces are written key="%s". Only programs (src/cmd and the loops of daemons) log; libraries return errors.
 */

#include "base/error.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* PROG must outlive the process's use of the log (a literal). */
void log_init(const char *prog, enum log_level level);
int log_level_parse(const char *name, enum log_level *ret, struct error *err) _must_use_;
void log_write(enum log_level level, const char *msg, const char *fmt, ...) _printf_(3, 4);

#define log_error(msg, ...) log_write(LOG_LEVEL_ERROR, msg, "" __VA_ARGS__)
#define log_warn(msg, ...)  log_write(LOG_LEVEL_WARN, msg, "" __VA_ARGS__)
#define log_info(msg, ...)  log_write(LOG_LEVEL_INFO, msg, "" __VA_ARGS__)
#define log_debug(msg, ...) log_write(LOG_LEVEL_DEBUG, msg, "" __VA_ARGS__)
