/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * cmocka and the headers that it needs before it, and what a killed or failed test leaves behind. Only for test-*.c
 * files, each of which is a program.
 */

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include <sys/stat.h>

#include "base/macros.h"
#include "base/proc.h"

/* Fails the test if CALL fails, with the message in `error`, a variable that each file that uses OK() has. */
#define OK(call)                                                       \
	do {                                                           \
		int res = (call);                                      \
		if (res < 0)                                           \
			fail_msg("%s: %d: %s", #call, res, error.msg); \
	} while (0)

#define TEST_CLAIMS "/run/nacre-tests"

/* This process's file of claims; "": it has none. */
static char test_claims[64];
static pid_t test_claimer;

/* A test that succeeds has removed by itself what it claimed. After a failure some of it may be left. */
static void test_end(int status, _unused_ void *arg) {
	if (status == 0 && getpid() == test_claimer)
		unlink(test_claims);
}

static FILE *test_begin(void) {
	char path[sizeof(test_claims)], fresh[sizeof(test_claims)];
	uint64_t start;

	(void)mkdir(TEST_CLAIMS, 0755);
	snprintf(path, sizeof(path), TEST_CLAIMS "/%d", getpid());
	snprintf(fresh, sizeof(fresh), TEST_CLAIMS "/.%d", getpid());
	FILE *f = fopen(fresh, "we");
	if (!f)
		return NULL;
	/* Who sweeps sees a whole file or none. */
	if (proc_start_time(getpid(), &start) < 0 || fprintf(f, "%llu\n", (unsigned long long)start) < 0 ||
	    fflush(f) != 0 || rename(fresh, path) < 0 || on_exit(test_end, NULL) != 0) {
		fclose(f);
		unlink(fresh);
		return NULL;
	}
	memcpy(test_claims, path, sizeof(path));
	test_claimer = getpid();
	return f;
}

/*
 * Records something that this test makes outside its process, by the kinds of tests/lib/leftovers.py, which removes it
 * if the test is killed or fails: "netns" (a prefix of names), "dir" (a folder or a file), "mount". Call it before the
 * thing is made. Without root nothing is recorded.
 */
_unused_ static void test_claim(const char *kind, const char *name) {
	FILE *f = *test_claims ? fopen(test_claims, "ae") : test_begin();

	if (!f)
		return;
	fprintf(f, "%s %s\n", kind, name);
	fclose(f);
}

/* mkdtemp(), claimed. */
_unused_ static char *test_mkdtemp(char *template) {
	char *path = mkdtemp(template);

	if (path)
		test_claim("dir", path);
	return path;
}
