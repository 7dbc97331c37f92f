/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netns.h"

#include <fcntl.h>
#include <sched.h>

int netns_run(int netns_fd, int (*fn)(void *arg, struct error *err), void *arg, struct error *err) {
	_close_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return error_errno(err, errno, "open `/proc/thread-self/ns/net`");
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "enter a network namespace");
	int r = fn(arg, err);
	if (setns(home, CLONE_NEWNET) < 0)
		abort();
	return r;
}
