/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Named network namespaces, stored as ip-netns(8) does: as bind mounts under /run/netns, so that `ip netns exec NAME`
 * works on ours. A namespace lives until its name is deleted and the last process and descriptor in it are gone.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/netns.h"

#define NETNS_DIR      "/run/netns"
#define NETNS_NAME_MAX 64
#define NETNS_PATH_MAX (sizeof(NETNS_DIR) + 1 + NETNS_NAME_MAX)

/* "/run/netns/NAME" */
const char *netns_path(const char *name, char out[static NETNS_PATH_MAX]);

/* Creates the namespace if it does not exist, and brings its loopback up. *RET_CREATED (may be NULL) says whether it
 * was created. */
int netns_ensure(const char *name, bool *ret_created, struct error *err) _must_use_;
/* Removes the name. Succeeds if it does not exist. */
int netns_delete(const char *name, struct error *err);
/* -ENOENT if there is no namespace of that name. */
int netns_open(const char *name, int *ret_fd, struct error *err) _must_use_;
/* All names that begin with PREFIX, sorted; free with netns_list_free(). */
int netns_list(const char *prefix, char ***ret, size_t *ret_n, struct error *err) _must_use_;
void netns_list_free(char **names, size_t n);

/* Paths are relative to /proc/sys/net, e.g. {"ipv6/conf/all/forwarding", "1"}. Only values that differ are written. */
struct netns_sysctl {
	const char *path, *value;
};
int netns_sysctl(int netns_fd, const struct netns_sysctl *list, size_t n, struct error *err) _must_use_;
