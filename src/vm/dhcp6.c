/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dhcp6.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"

#define SERVER_PORT 547
#define CLIENT_PORT 546
#define REFILL_NS   (100 * NSEC_PER_MSEC)
#define ALL_SERVERS "ff02::1:2" /* All_DHCP_Relay_Agents_and_Servers (RFC 8415, section 7.1) */

union dhcp6_control {
	char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	struct cmsghdr align;
};

/* From fe80::1, so that the source doesn't depend on which addresses the interface has beside it. */
static void dhcp6_send(const struct responder *d, const uint8_t *msg, size_t len, const struct sockaddr_in6 *to) {
	const struct in6_pktinfo from = {.ipi6_addr = {.s6_addr = {0xfe, 0x80, [15] = 1}},
	                                 .ipi6_ifindex = to->sin6_scope_id};
	union dhcp6_control control = {{0}};
	struct iovec iov = {.iov_base = (void *)msg, .iov_len = len};
	struct msghdr mh = {.msg_name = (void *)to,
	                    .msg_namelen = sizeof(*to),
	                    .msg_iov = &iov,
	                    .msg_iovlen = 1,
	                    .msg_control = &control,
	                    .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = IPPROTO_IPV6;
	c->cmsg_type = IPV6_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(from));
	memcpy(CMSG_DATA(c), &from, sizeof(from));
	/* The client repeats what gets no answer. */
	(void)!sendmsg(d->fd, &mh, MSG_DONTWAIT);
}

static int dhcp6_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct responder *d = userdata;
	uint8_t msg[DHCP6_MESSAGE_MAX], out[DHCP6_MESSAGE_MAX];
	struct in6_pktinfo to = {0};
	struct sockaddr_in6 from;
	union dhcp6_control control;
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(msg)};
	struct msghdr mh = {.msg_name = &from,
	                    .msg_namelen = sizeof(from),
	                    .msg_iov = &iov,
	                    .msg_iovlen = 1,
	                    .msg_control = &control,
	                    .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &mh, MSG_DONTWAIT);

	if (n < 0 || (mh.msg_flags & MSG_TRUNC) || !IN6_IS_ADDR_LINKLOCAL(&from.sin6_addr) ||
	    from.sin6_port != htons(CLIENT_PORT) || !bucket_take(&d->answers, now_monotonic_ns()))
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
			memcpy(&to, CMSG_DATA(c), sizeof(to));
	size_t len = dhcp6_answer(&d->config, msg, (size_t)n, IN6_IS_ADDR_MULTICAST(&to.ipi6_addr), out);
	if (len)
		dhcp6_send(d, out, len, &from);
	return 0;
}

int dhcp6_open(const char *ifname, int *ret_fd, struct error *err) {
	const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(SERVER_PORT)};
	struct ipv6_mreq servers = {.ipv6mr_interface = if_nametoindex(ifname)};
	const int on = 1;
	const struct responder_option options[] = {
		{IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)},
		{IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)},
		{IPPROTO_IPV6, IPV6_JOIN_GROUP, &servers, sizeof(servers)},
	};
	const struct responder_socket s = {.what = "serve DHCPv6",
	                                   .family = AF_INET6,
	                                   .type = SOCK_DGRAM,
	                                   .options = options,
	                                   .n_options = ARRAY_SIZE(options),
	                                   .address = &any,
	                                   .address_len = sizeof(any)};

	if (!servers.ipv6mr_interface)
		return error_errno(err, errno, "interface `%s`", ifname);
	inet_pton(AF_INET6, ALL_SERVERS, &servers.ipv6mr_multiaddr);
	return responder_open(&s, ifname, ret_fd, err);
}

int dhcp6_new(struct responder **ret, sd_event *loop, int fd, const struct vm_config *config, struct error *err) {
	static const struct responder_kind kind = {
		.what = "DHCPv6 messages", .burst = DHCP6_BURST, .every_ns = REFILL_NS, .on_io = dhcp6_on_io};

	return responder_new(ret, &kind, loop, fd, config, NULL, err);
}
