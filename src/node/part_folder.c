/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The folder of an instance in RUN_DIR. It tells a new agent that something of the instance exists, so it is made
 * before everything else and removed last.
 */

#include "base/util.h"
#include "node/part.h"

static int folder_prepare(struct guest_look *l, struct error *err) {
	return mkdir_p(l->dir, 0700, err);
}

static int folder_remove(struct guest_look *l, struct error *err) {
	return remove_tree(l->dir, err);
}

const struct part part_folder = {.name = "folder", .prepare = folder_prepare, .remove = folder_remove};
