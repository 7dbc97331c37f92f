/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of hw share. Included after base/testing.h. */

#include <string.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/util.h"
#include "hw/draw.h"
#include "hw/memfs.h"
#include "hw/read.h"

static struct error error;

/* The folder NAME of real machines' files, which are not part of the sources: of the folder $NACRE_SHARED, else of
 * `shared` beside the sources. NULL, and a word about it, where it is missing: what needs it is skipped. */
static inline char *shared_path(const char *name) {
	const char *folder = getenv("NACRE_SHARED");
	char *path = strf("%s/topologies/%s", folder && *folder ? folder : SOURCE_ROOT "/../shared", name);
	if (access(path, R_OK) == 0)
		return path;
	print_message("skipped: there is no %s; NACRE_SHARED may name another folder\n", path);
	free(path);
	return NULL;
}

/* The host that a text of memfs.h describes; NULL with `error` if it is refused. */
static inline struct hw_host *host_of(const char *text, size_t len) {
	_hw_memfs_clear_ struct hw_fs fs = {0};
	struct hw_host *h = NULL;
	memset(&error, 0, sizeof(error));
	if (hw_memfs_parse(text, len, &fs, &error) < 0)
		fail_msg("%s", error.msg);
	return hw_read_fs(&fs, &h, &error) < 0 ? NULL : h;
}

static inline char *fixture(const char *name, const char *suffix) {
	_free_ char *path = strf("%s/tests/hw/fixtures/%s.%s", SOURCE_ROOT, name, suffix);
	char *text;
	OK(read_file(path, 1 << 20, &text, NULL, &error));
	return text;
}

static inline struct hw_host *host_of_fixture(const char *name) {
	_free_ char *text = fixture(name, "sysfs");
	struct hw_host *h = host_of(text, strlen(text));
	if (!h)
		fail_msg("%s: %s", name, error.msg);
	return h;
}

#define CAPTURED_DIR "/tmp/nacre-test-hw-XXXXXX"

/*
 * Unpacks the captured sysfs of a real machine into a new directory. DIR is CAPTURED_DIR and becomes the directory's
 * name; the caller removes it. Returns the path of the tree in it. Where there is no such file the test ends here.
 */
static inline char *unpack_captured(char *dir) {
	_free_ char *file = shared_path("40intel64-2g2n4c+pcilocality.tar.bz2");
	if (!file)
		skip();
	assert_non_null(test_mkdtemp(dir));
	const char *const argv[] = {"tar", "-xjf", file, "-C", dir, NULL};
	const struct proc_spec spec = {.argv = argv, .timeout_ms = 300000};
	OK(proc_run(&spec, NULL, &error));
	return strf("%s/40intel64-2g2n4c+pci", dir);
}
