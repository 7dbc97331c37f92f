/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls inside another network namespace. (net/netns.h makes and names namespaces.) */

#include "base/error.h"

/*
 * Runs FN with the calling thread inside the namespace and then returns to the former one. Only for what must be done
 * from inside (opening sockets, /proc/sys, libnftables). Aborts the process if the thread can't return, because
 * everything after that would run in the wrong namespace.
 */
int netns_run(int netns_fd, int (*fn)(void *arg, struct error *err), void *arg, struct error *err) _must_use_;
