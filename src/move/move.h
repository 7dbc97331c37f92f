/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Moves a cloud from one API server to another, of either sort (docs/MOVING.md): all its objects into a file, and from
 * there to the other server. Both report to people on stderr while they work; they block.
 */

#include <stddef.h>

#include "kube/client.h"

struct move_report {
	size_t objects; /* in the file */
	size_t made;    /* of those, that were not there, or not wholly */
	bool held;      /* export: nobody could change the server when it was done */
};

/*
 * Writes all that is moved into the file PATH, which it may replace. NAMESPACES (N of them; 0: all): only what is in
 * these, and -EEXIST if that would leave objects of Nacre behind. -ESTALE if something changed meanwhile.
 */
int move_export(struct kube_client *c, const char *path, const char *const *namespaces, size_t n,
                struct move_report *ret, struct error *err) _must_use_;

/*
 * Makes all that the file PATH holds and is not there yet. May be killed and begun anew. -EEXIST, and nothing was
 * changed, if what is there says something else; each such object is named on stderr.
 */
int move_import(struct kube_client *c, const char *path, struct move_report *ret, struct error *err) _must_use_;
