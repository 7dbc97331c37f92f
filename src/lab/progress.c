/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/progress.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/util.h"

void progress_init(struct progress *p) {
	*p = (struct progress){.tty = isatty(2) == 1, .begun = now_monotonic_ns()};
}

static double seconds_since(uint64_t ns) {
	return (double)(now_monotonic_ns() - ns) / (double)NSEC_PER_SEC;
}

static void progress_finish(struct progress *p, const char *mark) {
	if (!p->open)
		return;
	if (p->tty)
		fprintf(stderr, "\r\033[K %s %-52s %6.1f s\n", mark, p->step, seconds_since(p->step_begun));
	else
		fprintf(stderr, " %s %.1f s\n", mark, seconds_since(p->step_begun));
	p->open = false;
}

void progress_step(struct progress *p, const char *fmt, ...) {
	va_list ap;
	progress_end(p);
	va_start(ap, fmt);
	vsnprintf(p->step, sizeof(p->step), fmt, ap);
	va_end(ap);
	p->step_begun = now_monotonic_ns();
	p->open = true;
	fprintf(stderr, p->tty ? " … %s" : "%s:", p->step);
}

void progress_wait(struct progress *p, const char *fmt, ...) {
	char text[96];
	va_list ap;
	if (!p->tty || !p->open)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "\r\033[K … %s: %.*s", p->step, 40, text);
}

void progress_end(struct progress *p) {
	progress_finish(p, p->tty ? "\033[32m✓\033[0m" : "done,");
}

void progress_fail(struct progress *p) {
	progress_finish(p, p->tty ? "\033[31m✗\033[0m" : "FAILED,");
}

double progress_total(const struct progress *p) {
	return seconds_since(p->begun);
}
