/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the tests of this folder share: namespaces and a folder with names of this run. Only for test-*.c files, each of
 * which is a program. Without root nothing is set up, and the tests that need it are skipped.
 */

#include "base/testing.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/netns.h"
#include "node/container.h"
#include "node/instnet.h"

#define UID "0b5ac4a8-4b0e-4c35-9c3d-000000000001"
#define ID  "0b5ac4a84b0e"

static char prefix[24], public_name[64], dir[64];
static int public_fd = -1;
static struct nl *public_nl;
static struct error error;

_unused_ static int teardown(void **state) {
	(void)state;
	char name[INSTNET_NAME_MAX], netns[NETNS_PATH_MAX];
	pid_t pid;
	if (geteuid() != 0)
		return 0;
	netns_path(instnet_netns(prefix, ID, name), netns);
	while (container_search(NULL, NULL, netns, &pid, &error) == 0)
		(void)!proc_stop(pid, 0, &error);
	(void)!container_kill(dir, &error);
	struct cgroups *groups = NULL;
	if (cgroups_new(&groups, &error) == 0)
		(void)!cgroup_remove(groups, name, &error);
	cgroups_free(groups);
	(void)!instnet_remove(prefix, ID, public_nl, &error);
	public_nl = nl_free(public_nl);
	public_fd = safe_close(public_fd);
	(void)!netns_delete(public_name, &error);
	(void)!remove_tree(dir, &error);
	return 0;
}

_unused_ static int setup(void **state) {
	(void)state;
	if (geteuid() != 0)
		return 0;
	snprintf(prefix, sizeof(prefix), "tn%d-", getpid());
	snprintf(public_name, sizeof(public_name), "%spublic", prefix);
	snprintf(dir, sizeof(dir), "/tmp/nacre-test-node-%d", getpid());
	test_claim("dir", dir);
	test_claim("netns", prefix);
	OK(mkdir_p(dir, 0755, &error));
	OK(netns_ensure(public_name, NULL, &error));
	OK(netns_open(public_name, &public_fd, &error));
	OK(nl_open(&public_nl, public_fd, &error));
	return 0;
}

_unused_ static struct addr addr(const char *s) {
	struct addr a;
	OK(addr_parse(s, &a, &error));
	return a;
}

_unused_ static struct prefix pfx(const char *s) {
	struct prefix p;
	OK(prefix_parse(s, &p, &error));
	return p;
}

/* Limits the process to N open descriptors from now on; `all` keeps the limit of the start. */
_unused_ static void allow_files(int n) {
	static struct rlimit all;
	struct rlimit rl;
	int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(lowest >= 0 || n < 0);
	safe_close(lowest);
	if (!all.rlim_cur)
		assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	rl = all;
	if (n >= 0)
		rl.rlim_cur = (rlim_t)lowest + (rlim_t)n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
}

_unused_ static const char pausing[] = "#!/bin/sh\nwhile :; do sleep 60; done\n";
