/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/responder.h"

#include <string.h>
#include <sys/epoll.h>

#include "base/util.h"

int responder_open(const struct responder_socket *s, const char *ifname, int *ret_fd, struct error *err) {
	_close_ int fd = socket(s->family, s->type | SOCK_CLOEXEC | SOCK_NONBLOCK, s->protocol);

	if (fd < 0)
		return error_errno(err, errno, "open a socket to %s", s->what);
	int r = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ifname, (socklen_t)strlen(ifname) + 1);
	for (size_t i = 0; r >= 0 && i < s->n_options; i++)
		r = setsockopt(fd, s->options[i].level, s->options[i].name, s->options[i].value, s->options[i].len);
	if (r >= 0 && s->address)
		r = bind(fd, s->address, s->address_len);
	if (r < 0)
		return error_errno(err, errno, "prepare to %s on `%s`", s->what, ifname);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int responder_new(struct responder **ret, const struct responder_kind *k, sd_event *loop, int fd,
                  const struct vm_config *config, void *userdata, struct error *err) {
	_cleanup_(cleanup_responder) struct responder *r = calloc(1, sizeof(*r));

	if (!r) {
		safe_close(fd);
		return error_oom(err);
	}
	*r = (struct responder){
		.fd = fd, .config = *config, .answers = bucket_new(k->burst, k->every_ns, now_monotonic_ns())};
	int res = sd_event_add_io(loop, &r->io, fd, EPOLLIN, k->on_io, userdata ? userdata : r);
	if (res < 0)
		return error_errno(err, res, "watch for %s", k->what);
	*ret = TAKE_PTR(r);
	return 0;
}

struct responder *responder_free(struct responder *r) {
	if (!r)
		return NULL;
	sd_event_source_disable_unref(r->io);
	safe_close(r->fd);
	free(r);
	return NULL;
}
