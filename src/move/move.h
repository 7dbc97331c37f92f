/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Moves a cloud from one API server to another, of either sort (docs/MOVING.md): all its objects into a file, and from
 * there to the other server. Both functions block and print their progress to stderr.
 */

#include <stddef.h>

#include "kube/client.h"

struct move_report {
	size_t objects; /* objects in the file */
	size_t made;    /* those of them that were missing or incomplete on the server */
	bool held;      /* export: the server was on hold at the end, so nobody could change it */
};

/*
 * Writes all objects that are moved into the file PATH and replaces an existing file. With NAMESPACES (N of them; 0:
 * all) writes only what is in these; -EEXIST if that would leave objects of Nacre behind. -ESTALE if an object changed
 * meanwhile.
 */
int move_export(struct kube_client *c, const char *path, const char *const *namespaces, size_t n,
                struct move_report *ret, struct error *err) _must_use_;

/*
 * Creates everything in the file PATH that the server does not have yet. The import may be killed and started again.
 * -EEXIST if an object on the server conflicts with the file; then nothing was changed, and each such object is named
 * on stderr.
 */
int move_import(struct kube_client *c, const char *path, struct move_report *ret, struct error *err) _must_use_;
