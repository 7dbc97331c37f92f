/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dhcp4.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"

#define SERVER_PORT 67
#define CLIENT_PORT 68
#define REFILL_NS   (100 * NSEC_PER_MSEC)

/* The source address is given, so that it doesn't depend on which addresses the interface has beside the router's. */
static void dhcp4_send(const struct responder *d, const uint8_t *msg, size_t len, struct in_addr dst) {
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
	struct responder *d = userdata;
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
	const struct responder_option options[] = {{SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)}};
	const struct responder_socket s = {.what = "serve DHCPv4",
	                                   .family = AF_INET,
	                                   .type = SOCK_DGRAM,
	                                   .options = options,
	                                   .n_options = ARRAY_SIZE(options),
	                                   .address = &any,
	                                   .address_len = sizeof(any)};

	return responder_open(&s, ifname, ret_fd, err);
}

int dhcp4_new(struct responder **ret, sd_event *loop, int fd, const struct vm_config *config, struct error *err) {
	static const struct responder_kind kind = {
		.what = "DHCPv4 messages", .burst = DHCP4_BURST, .every_ns = REFILL_NS, .on_io = dhcp4_on_io};

	return responder_new(ret, &kind, loop, fd, config, NULL, err);
}
