/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/ra.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "base/util.h"
#include "vm/guestdns.h"
#include "vm/responder.h"

#define ND_ROUTER_SOLICIT 133
#define ND_ROUTER_ADVERT  134
#define OPT_SOURCE_LLA    1
#define OPT_PREFIX        3
#define OPT_MTU           5
#define OPT_RDNSS         25
#define OPT_DNSSL         31
#define MANAGED           0xc0 /* M: addresses by DHCPv6; O: other configuration */
#define REFILL_NS         (3 * NSEC_PER_SEC)
#define ICMPV6_FILTER_OPT 1 /* ICMP6_FILTER of RFC 3542 */

struct ra {
	struct responder *in; /* its socket is for advertisements, too */
	struct mac router;
	sd_event *loop; /* borrowed */
	sd_event_source *timer;
};

static uint8_t *put_u32(uint8_t *p, uint32_t v) {
	v = htonl(v);
	memcpy(p, &v, 4);
	return p + 4;
}

/* Resolvers or search list: LEN bytes that are already at P + 8, padded with zeros to whole units of 8 bytes. */
static uint8_t *put_dns_option(uint8_t *p, uint8_t type, size_t len) {
	const size_t units = 1 + (len + 7) / 8;

	if (!len)
		return p;
	p[0] = type;
	p[1] = (uint8_t)units;
	put_u32(p + 4, RA_LIFETIME_S);
	return p + 8 * units;
}
_Static_assert(1 + RA_SEARCH_MAX / 8 <= UINT8_MAX, "the length of an option");

size_t ra_build(const struct vm_config *c, const struct mac *router, uint8_t out[static RA_MESSAGE_MAX]) {
	struct in6_addr dns[VM_DNS_MAX];
	uint8_t *p = out;

	memset(out, 0, RA_MESSAGE_MAX);
	p[0] = ND_ROUTER_ADVERT;
	p[4] = 64; /* hop limit */
	p[5] = MANAGED;
	p[6] = RA_LIFETIME_S >> 8;
	p[7] = RA_LIFETIME_S & 0xff;
	p += 16; /* reachable time and retransmission timer stay 0: the host uses its own values */
	p[0] = OPT_SOURCE_LLA;
	p[1] = 1;
	memcpy(p + 2, router->bytes, 6);
	p += 8;
	p[0] = OPT_MTU;
	p[1] = 1;
	p = put_u32(p + 4, (uint32_t)c->mtu);
	p[0] = OPT_PREFIX;
	p[1] = 4;
	p[2] = c->prefix.len;
	p[3] = 0x40; /* A */
	p = put_u32(p + 4, RA_PREFIX_S);
	p = put_u32(p, RA_PREFIX_S);
	memcpy(p + 4, c->prefix.addr.bytes, 16);
	p += 20;
	const size_t len = guestdns_servers6(c, dns) * sizeof(dns[0]);
	memcpy(p + 8, dns, len);
	p = put_dns_option(p, OPT_RDNSS, len);
	p = put_dns_option(p, OPT_DNSSL, guestdns_search(c, p + 8, RA_SEARCH_MAX));
	return (size_t)(p - out);
}
_Static_assert(16 + 8 + 8 + 32 == RA_HEAD, "header and three options");

bool ra_solicitation_valid(const uint8_t *msg, size_t len, const struct in6_addr *src, int hop_limit) {
	if (hop_limit != 255 || len < 8 || msg[0] != ND_ROUTER_SOLICIT || msg[1] != 0)
		return false;
	for (size_t at = 8; at < len;) {
		if (len - at < 2 || msg[at + 1] == 0 || (size_t)msg[at + 1] * 8 > len - at)
			return false;
		if (msg[at] == OPT_SOURCE_LLA && IN6_IS_ADDR_UNSPECIFIED(src))
			return false;
		at += (size_t)msg[at + 1] * 8;
	}
	return true;
}

static int send_advert(struct ra *ra) {
	uint8_t msg[RA_MESSAGE_MAX];
	struct sockaddr_in6 to = {.sin6_family = AF_INET6}; /* the socket is bound to the interface */
	size_t len = ra_build(&ra->in->config, &ra->router, msg);

	inet_pton(AF_INET6, "ff02::1", &to.sin6_addr);
	if (sendto(ra->in->fd, msg, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}

static int ra_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct ra *ra = userdata;
	uint8_t msg[1500];
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct sockaddr_in6 from;
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(msg)};
	struct msghdr mh = {.msg_name = &from,
	                    .msg_namelen = sizeof(from),
	                    .msg_iov = &iov,
	                    .msg_iovlen = 1,
	                    .msg_control = &control,
	                    .msg_controllen = sizeof(control)};
	int hop_limit = -1;
	/* Errors of the socket (the tap is down) are temporary; the next solicitation is answered again. */
	ssize_t n = recvmsg(fd, &mh, MSG_DONTWAIT);

	if (n < 0 || (mh.msg_flags & MSG_TRUNC))
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)
			memcpy(&hop_limit, CMSG_DATA(c), sizeof(hop_limit));
	if (ra_solicitation_valid(msg, (size_t)n, &from.sin6_addr, hop_limit) &&
	    bucket_take(&ra->in->answers, now_monotonic_ns()))
		(void)!send_advert(ra);
	return 0;
}

static int ra_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
	(void)s;
	(void)usec;
	struct ra *ra = userdata;
	uint32_t rnd;

	(void)!send_advert(ra);
	random_bytes(&rnd, sizeof(rnd));
	uint64_t wait = RA_INTERVAL_MIN + rnd % (RA_INTERVAL_MAX - RA_INTERVAL_MIN + 1);
	return loop_timer(ra->loop, &ra->timer, wait * USEC_PER_SEC, ra_on_timer, ra);
}

int ra_open(const char *ifname, int *ret_fd, struct error *err) {
	const unsigned ifindex = if_nametoindex(ifname);
	const int on = 1, hops = 255, off = 0;
	struct {
		uint32_t blocked[8];
	} filter;
	struct ipv6_mreq routers = {.ipv6mr_interface = ifindex};
	const struct responder_option options[] = {
		{IPPROTO_ICMPV6, ICMPV6_FILTER_OPT, &filter, sizeof(filter)},
		{IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof(on)},
		{IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)},
		{IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof(off)},
		{IPPROTO_IPV6, IPV6_MULTICAST_IF, &ifindex, sizeof(ifindex)},
		{IPPROTO_IPV6, IPV6_JOIN_GROUP, &routers, sizeof(routers)},
	};
	const struct responder_socket s = {.what = "send router advertisements",
	                                   .family = AF_INET6,
	                                   .type = SOCK_RAW,
	                                   .protocol = IPPROTO_ICMPV6,
	                                   .options = options,
	                                   .n_options = ARRAY_SIZE(options)};

	if (!ifindex)
		return error_errno(err, errno, "interface `%s`", ifname);
	/* The kernel drops all messages except solicitations. */
	memset(&filter, 0xff, sizeof(filter));
	filter.blocked[ND_ROUTER_SOLICIT >> 5] &= ~(1U << (ND_ROUTER_SOLICIT & 31));
	inet_pton(AF_INET6, "ff02::2", &routers.ipv6mr_multiaddr);
	return responder_open(&s, ifname, ret_fd, err);
}

int ra_new(struct ra **ret, sd_event *loop, int fd, const struct vm_config *config, const struct mac *router,
           struct error *err) {
	static const struct responder_kind kind = {
		.what = "router solicitations", .burst = RA_BURST, .every_ns = REFILL_NS, .on_io = ra_on_io};
	_cleanup_(cleanup_ra) struct ra *ra = calloc(1, sizeof(*ra));

	if (!ra) {
		safe_close(fd);
		return error_oom(err);
	}
	*ra = (struct ra){.router = *router, .loop = loop};
	int r = responder_new(&ra->in, &kind, loop, fd, config, ra, err);
	if (r < 0)
		return r;
	r = loop_timer(loop, &ra->timer, 0, ra_on_timer, ra);
	if (r < 0)
		return error_errno(err, r, "timer of router advertisements");
	*ret = TAKE_PTR(ra);
	return 0;
}

struct ra *ra_free(struct ra *ra) {
	if (!ra)
		return NULL;
	sd_event_source_disable_unref(ra->timer);
	responder_free(ra->in);
	free(ra);
	return NULL;
}
