/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Small macros used by every file: attributes, cleanup handlers, arithmetic.
 * Nothing here allocates or has state.
 */

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f)   __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _must_use_     __attribute__((warn_unused_result))
#define _unused_       __attribute__((unused))
#define _noreturn_     __attribute__((noreturn))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Passes ownership on: yields the pointer and leaves NULL behind. */
#define TAKE_PTR(p)                     \
	({                              \
		typeof(p) _taken = (p); \
		(p) = NULL;             \
		_taken;                 \
	})

/* The same for a file descriptor; leaves -1 behind. */
#define TAKE_FD(fd)             \
	({                      \
		int _fd = (fd); \
		(fd) = -1;      \
		_fd;            \
	})

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b)                   \
	({                          \
		typeof(a) _a = (a); \
		typeof(b) _b = (b); \
		_a < _b ? _a : _b;  \
	})
#define MAX(a, b)                   \
	({                          \
		typeof(a) _a = (a); \
		typeof(b) _b = (b); \
		_a > _b ? _a : _b;  \
	})

/* Declares `cleanup_NAME(TYPE **)` for use with _cleanup_(). FUNC accepts NULL. */
#define DEFINE_CLEANUP(name, type, func)             \
	static inline void cleanup_##name(type *p) { \
		if (*p)                              \
			func(*p);                    \
	}

static inline void cleanup_free(void *p) {
	free(*(void **)p);
}

static inline int safe_close(int fd) {
	if (fd >= 0)
		close(fd);
	return -1;
}

static inline void cleanup_close(int *fd) {
	safe_close(*fd);
}

DEFINE_CLEANUP(fclose, FILE *, fclose)

#define _free_   _cleanup_(cleanup_free)
#define _close_  _cleanup_(cleanup_close)
#define _fclose_ _cleanup_(cleanup_fclose)
