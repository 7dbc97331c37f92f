/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/fds.h"

#include <fcntl.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/listen.h"
#include "base/util.h"
#include "vm/qemu.h"
#include "vm/responders.h"

static const char *const names[VM_FDS] = {"control", "console", "end",       "tap",      "ra",
                                          "dhcp4",   "dhcp6",   "metadata4", "metadata6"};
_Static_assert(VM_FDS_FIRST == SD_LISTEN_FDS_START, "the same first descriptor as in sd_listen_fds(3)");

void vm_fds_close(struct vm_fds *fds) {
	for (size_t i = 0; i < VM_FDS; i++)
		fds->fd[i] = safe_close(fds->fd[i]);
}

static struct vm_fds move(struct vm_fds *fds) {
	struct vm_fds f = *fds;

	*fds = VM_FDS_NONE;
	return f;
}

int vm_fds_open(const char *dir, const char *tap, struct vm_fds *ret, struct error *err) {
	_cleanup_(vm_fds_close) struct vm_fds f = VM_FDS_NONE;
	_close_ int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char path[64];

	if (at < 0)
		return error_errno(err, errno, "open `%s`", dir);
	/* A socket address has room for 108 bytes only, and DIR may be longer. */
	snprintf(path, sizeof(path), "unix:/proc/self/fd/%d/control.sock", at);
	int r = listen_socket(path, &f.fd[VM_FD_CONTROL], err);
	snprintf(path, sizeof(path), "unix:/proc/self/fd/%d/console.sock", at);
	if (r >= 0)
		r = listen_socket(path, &f.fd[VM_FD_CONSOLE], err);
	if (r < 0)
		return error_prefix(err, "`%s`", dir);
	f.fd[VM_FD_END] = openat(at, "exit.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f.fd[VM_FD_END] < 0)
		return error_errno(err, errno, "create `%s/exit.json`", dir);
	if (tap) {
		r = qemu_open_tap(tap, &f.fd[VM_FD_TAP], err);
		if (r >= 0)
			r = responders_open(tap, &f, err);
		if (r < 0)
			return r;
	}
	*ret = move(&f);
	return 0;
}

int vm_fds_pass(const struct vm_fds *fds, struct vm_fds_env *env, struct error *err) {
	struct vm_fds high = VM_FDS_NONE;
	_buf_free_ struct buf text = {.max = sizeof(env->names)};
	int n = 0;

	/* First all are copied above the final numbers, so that none is overwritten. */
	for (size_t i = 0; i < VM_FDS; i++)
		if (fds->fd[i] >= 0 && (high.fd[i] = fcntl(fds->fd[i], F_DUPFD_CLOEXEC, VM_FDS_END)) < 0)
			return error_errno(err, errno, "pass on descriptors");
	for (size_t i = 0; i < VM_FDS; i++) {
		if (high.fd[i] < 0)
			continue;
		/* The copy made by dup2() is not close-on-exec. */
		if (dup2(high.fd[i], VM_FDS_FIRST + n) < 0)
			return error_errno(err, errno, "pass on descriptors");
		buf_printf(&text, "%s%s", n ? ":" : "LISTEN_FDNAMES=", names[i]);
		n++;
	}
	int r = buf_error(&text, "LISTEN_FDNAMES", err);
	if (r < 0)
		return r;
	snprintf(env->pid, sizeof(env->pid), "LISTEN_PID=%d", getpid());
	snprintf(env->fds, sizeof(env->fds), "LISTEN_FDS=%d", n);
	snprintf(env->names, sizeof(env->names), "%s", text.data);
	return 0;
}

int vm_fds_take(struct vm_fds *ret, struct error *err) {
	_cleanup_(vm_fds_close) struct vm_fds f = VM_FDS_NONE;
	char **given = NULL;
	int n = sd_listen_fds_with_names(true, &given);

	for (int i = 0; i < n; i++) {
		for (size_t k = 0; k < VM_FDS; k++)
			if (f.fd[k] < 0 && streq(given[i], names[k]))
				f.fd[k] = VM_FDS_FIRST + i;
		free(given[i]);
	}
	free(given);
	if (n < 0)
		return error_errno(err, n, "read $LISTEN_FDS");
	for (size_t k = VM_FD_CONTROL; k <= VM_FD_END; k++)
		if (f.fd[k] < 0)
			return error_set(err, EBADF, "the agent passed no descriptor `%s`", names[k]);
	*ret = move(&f);
	return 0;
}
