/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dhcp4.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/util.h"
#include "vm/bucket.h"

#define SERVER_PORT 67
#define CLIENT_PORT 68
#define REFILL_NS   (100 * NSEC_PER_MSEC)

struct dhcp4 {
	int fd;
	struct vm_config config;
	sd_event_source *io;
	struct bucket answers;
};

/* The source address is given, so that it doesn't depend on which addresses the interface has beside the router's. */
static void dhcp4_send(const struct dhcp4 *d, const uint8_t *msg, size_t len, struct in_addr dst) {
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(CLIENT_PORT), .sin_addr = dst};
	const struct in_pktinfo from = {.ipi_spec_dst = d->config.ipv4_router.v4};
	union {
		char space[CMSG_SPACE(sizeof(from))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {.iov_base = (void *)msg, .iov_len = len};
	struct msghdr mh = {.msg_name = &to,
	                    .msg_namelen = sizeof(to),
	                    .msg_iov = &iov,
	                    .msg_iovlen = 1,
	                    .msg_control = &control,
	                    .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(from));
	memcpy(CMSG_DATA(c), &from, sizeof(from));
	/* The client repeats what gets no answer. */
	(void)!sendmsg(d->fd, &mh, MSG_DONTWAIT);
}

static int dhcp4_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct dhcp4 *d = userdata;
	uint8_t msg[DHCP4_MESSAGE_MAX], out[DHCP4_MESSAGE_MAX];
	struct in_addr to;
	/* With MSG_TRUNC this is the length of the whole packet. */
	ssize_t n = recv(fd, msg, sizeof(msg), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 || (size_t)n > sizeof(msg) || !bucket_take(&d->answers, now_monotonic_ns()))
		return 0;
	size_t len = dhcp4_answer(&d->config, msg, (size_t)n, out, &to);
	if (len)
		dhcp4_send(d, out, len, to);
	return 0;
}

int dhcp4_open(const char *ifname, int *ret_fd, struct error *err) {
	const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(SERVER_PORT)};
	const int on = 1;
	_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_errno(err, errno, "open a UDP socket");
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ifname, (socklen_t)strlen(ifname) + 1) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return error_errno(err, errno, "prepare to serve DHCPv4 on `%s`", ifname);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int dhcp4_new(struct dhcp4 **ret, sd_event *loop, int fd, const struct vm_config *config, struct error *err) {
	_cleanup_(cleanup_dhcp4) struct dhcp4 *d = calloc(1, sizeof(*d));

	if (!d) {
		safe_close(fd);
		return error_oom(err);
	}
	*d = (struct dhcp4){.fd = fd, .config = *config};
	d->answers = bucket_new(DHCP4_BURST, REFILL_NS, now_monotonic_ns());
	int r = sd_event_add_io(loop, &d->io, d->fd, EPOLLIN, dhcp4_on_io, d);
	if (r < 0)
		return error_errno(err, r, "watch for DHCPv4 messages");
	*ret = TAKE_PTR(d);
	return 0;
}

struct dhcp4 *dhcp4_free(struct dhcp4 *d) {
	if (!d)
		return NULL;
	sd_event_source_disable_unref(d->io);
	safe_close(d->fd);
	free(d);
	return NULL;
}
