/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The folder of an instance in RUN_DIR. An agent that starts knows by it that there is something of the instance, so it
 * is made before all else and removed last.
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
