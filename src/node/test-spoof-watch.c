/* SPDX-License-Identifier: Apache-2.0 */
#include "node/test-spoof-watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/netns.h"
#include "base/util.h"

#define BUFFER_BYTES   (256 << 20)
#define SNAP_BYTES     (65536 + 256)
#define NEIGHBOURS_MAX 17 /* docs/instances.md, "The network" */
#define LINK_LOCAL     ((struct prefix){{.family = AF_INET6, .bytes = {0xfe, 0x80}}, 64})

static const char *const place_names[N_PLACES] = {"at the guest's device in `public`",
                                                  "on the way to the guest in `public`",
                                                  "from another guest in `public`",
                                                  "on the way to another guest in `public`",
                                                  "at the VXLAN device",
                                                  "at the guest's tap",
                                                  "at the tap of another guest"};

static void complain(struct watch *w, const char *where, const char *why, const uint8_t *data, size_t len) {
	w->wrong = true;
	fprintf(stderr, "%s: %s:\n ", where, why);
	for (size_t i = 0; i < len && i < 256; i++)
		fprintf(stderr, "%s%02x", i % 16 == 0 ? " " : "", data[i]);
	fprintf(stderr, " (%zu bytes)\n", len);
}

/* ---- sockets ---- */

static int open_packet_socket(void *arg, struct error *err) {
	const int size = BUFFER_BYTES, on = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) < 0) {
		int saved = errno;
		safe_close(fd);
		return error_errno(err, saved, "open a packet socket");
	}
	*(int *)arg = fd;
	return 0;
}

struct opening {
	struct watch *watch;
	unsigned guest;
};

static int open_raw(const struct opening *o, int family, int protocol) {
	const int on = 1, size = 4 << 20;
	struct epoll_event e = {.events = EPOLLIN};
	int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -errno;
	o->watch->raw[o->watch->n_raw++] = fd;
	e.data.u64 = (uint64_t)o->guest << 48 | (uint64_t)(family == AF_INET6) << 40 | (uint64_t)protocol << 32 |
	             (unsigned)fd;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    (family == AF_INET6 && (setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) < 0 ||
	                            setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof(on)) < 0)) ||
	    epoll_ctl(o->watch->local, EPOLL_CTL_ADD, fd, &e) < 0)
		return -errno;
	return 0;
}

/* Sockets of all protocols: they get what a program could. Extension headers are no protocols. */
static int open_raw_sockets(void *arg, struct error *err) {
	static const uint8_t headers[] = {0, 43, 44, 51, 60};

	for (int protocol = 1; protocol < 255; protocol++) {
		int r = open_raw(arg, AF_INET, protocol);
		if (r >= 0 && !memchr(headers, protocol, sizeof(headers)))
			r = open_raw(arg, AF_INET6, protocol);
		if (r < 0)
			return error_errno(err, -r, "open a raw socket of protocol %d", protocol);
	}
	return 0;
}

int watch_start(struct watch *w, struct error *err) {
	struct rlimit files;
	int r;

	w->judge = w->outer = (struct judge){.world = w->world, .from = w->from};
	w->packet_public = w->packet_underlay = -1;
	w->local = epoll_create1(EPOLL_CLOEXEC);
	if (w->local < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		return error_errno(err, errno, "watch the container");
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return error_errno(err, errno, "open many files");
	r = netns_run(w->world->underlay.public_fd, open_packet_socket, &w->packet_public, err);
	if (r >= 0)
		r = netns_run(w->world->underlay.underlay_fd, open_packet_socket, &w->packet_underlay, err);
	for (unsigned i = 0; i < GUESTS && r >= 0; i++)
		r = netns_run(w->world->guests[i].netns_fd, open_raw_sockets, &(struct opening){w, i}, err);
	return r;
}

void watch_end(struct watch *w) {
	for (size_t i = 0; i < w->n_raw; i++)
		close(w->raw[i]);
	safe_close(w->packet_public);
	safe_close(w->packet_underlay);
	safe_close(w->local);
}

unsigned watch_lost(const struct watch *w) {
	const int fds[] = {w->packet_public, w->packet_underlay};
	struct tpacket_stats stats;
	unsigned lost = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		socklen_t len = sizeof(stats);
		lost += getsockopt(fds[i], SOL_PACKET, PACKET_STATISTICS, &stats, &len) < 0 ? 1 : stats.tp_drops;
	}
	return lost;
}

/* ---- frames ---- */

static void look_at(struct watch *w, struct judge *j, enum place place, const struct guest *g, const uint8_t *data,
                    size_t len) {
	struct seen s;
	const char *wrong = judge_frame(j, place, g, data, len, &s);

	w->seen[place]++;
	if (wrong)
		complain(w, place_names[place], wrong, data, len);
	else if (place == TAP_OWN && s.ethertype == ETH_P_ARP)
		w->counts[ARP_REPLIES]++;
	else if (s.tag && (place == OVERLAY || place == TAP_OTHER))
		w->arrived(w->userdata, place == OVERLAY ? AT_EDGE : AT_GUEST, tag_number(&s));
}

/* The next frame; its length, or -1. *RET_TAGGED says whether the kernel has taken a VLAN tag out of it. */
static ssize_t next_frame(int fd, uint8_t *data, struct sockaddr_ll *from, bool *ret_tagged) {
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct iovec v = {data, SNAP_BYTES};
	struct msghdr m = {.msg_name = from,
	                   .msg_namelen = sizeof(*from),
	                   .msg_iov = &v,
	                   .msg_iovlen = 1,
	                   .msg_control = control,
	                   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &m, 0);
	struct tpacket_auxdata aux = {0};

	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
			memcpy(&aux, CMSG_DATA(c), sizeof(aux));
	*ret_tagged = aux.tp_status & TP_STATUS_VLAN_VALID;
	return n;
}

static void look_at_public(struct watch *w, const struct sockaddr_ll *from, const uint8_t *data, size_t len) {
	bool out = from->sll_pkttype == PACKET_OUTGOING;

	if (from->sll_ifindex == w->world->overlay_device && out) {
		look_at(w, &w->judge, OVERLAY, NULL, data, len);
		return;
	}
	for (size_t i = 0; i < GUESTS; i++) {
		const struct guest *g = &w->world->guests[i];
		if (g->device != from->sll_ifindex)
			continue;
		look_at(w, &w->judge, g == w->from ? (out ? TO_OWN : UPLINK) : (out ? TO_OTHER : FROM_OTHER), g, data,
		        len);
		return;
	}
	complain(w, "in `public`", "at a device where nothing may be", data, len);
}

static void look_at_underlay(struct watch *w, const struct sockaddr_ll *from, const uint8_t *data, size_t len) {
	const uint8_t *inner;
	size_t inner_len;
	struct seen s;

	if (from->sll_ifindex == w->world->nic && from->sll_pkttype != PACKET_OUTGOING)
		return; /* from the leaf */
	const char *wrong = from->sll_ifindex == w->world->nic ? judge_outer(w->world, data, len, &inner, &inner_len)
	                                                       : "not at the NIC";
	if (!wrong && inner)
		wrong = judge_frame(&w->outer, OVERLAY, NULL, inner, inner_len, &s);
	if (wrong)
		complain(w, "in `underlay`", wrong, data, len);
}

static void look_at_taps(struct watch *w, uint8_t *data) {
	for (size_t i = 0; i < GUESTS; i++) {
		const struct guest *g = &w->world->guests[i];
		ssize_t n;
		while ((n = read(g->tap, data, SNAP_BYTES)) > VNET_LEN)
			look_at(w, &w->judge, g == w->from ? TAP_OWN : TAP_OTHER, g, data + VNET_LEN,
			        (size_t)n - VNET_LEN);
	}
}

/* ---- what programs in containers could read ---- */

static void look_at_local(struct watch *w, const struct guest *g, bool six, uint8_t protocol, struct msghdr *m,
                          const uint8_t *data, size_t len) {
	struct addr src = {.family = six ? AF_INET6 : AF_INET}, dst = src;
	size_t header = six ? 0 : (data[0] & 15U) * 4U;
	int hops = -1;

	if (!six) {
		memcpy(src.bytes, data + 12, 4);
		memcpy(dst.bytes, data + 16, 4);
	} else {
		src.v6 = ((struct sockaddr_in6 *)m->msg_name)->sin6_addr;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
			if (c->cmsg_type == IPV6_HOPLIMIT)
				memcpy(&hops, CMSG_DATA(c), sizeof(hops));
			else if (c->cmsg_type == IPV6_PKTINFO)
				memcpy(&dst.v6, CMSG_DATA(c), sizeof(dst.v6));
	}
	const uint8_t *upper = data + header;
	bool echo = six && g != w->from && protocol == PROTO_ICMP6 && len > 0 && upper[0] == 128;
	const char *wrong = len < header ? "half a packet"
	                    : echo       ? NULL
	                                 : judge_local(g, protocol, &src, &dst, hops, upper, len - header);
	if (!wrong && echo && !guest_has6(w->from, &src))
		wrong = "not its source";
	if (wrong)
		complain(w, g == w->from ? "at a socket of the container" : "at a socket of another container", wrong,
		         data, len);
	else if (protocol == IPPROTO_UDP)
		w->counts[six ? DHCP6_REQUESTS : DHCP4_REQUESTS]++;
	else if (g == w->from)
		w->counts[protocol == IPPROTO_ICMP || upper[0] == 128 ? ECHO_REQUESTS : DISCOVERY]++;
}

static void look_at_sockets(struct watch *w, uint8_t *data) {
	struct epoll_event events[64];
	int n;

	while ((n = epoll_wait(w->local, events, ARRAY_SIZE(events), 0)) > 0)
		for (int i = 0; i < n; i++) {
			const uint64_t key = events[i].data.u64;
			_Alignas(struct cmsghdr) char control[256];
			struct sockaddr_in6 from;
			struct iovec v = {data, SNAP_BYTES};
			struct msghdr m = {.msg_name = &from,
			                   .msg_namelen = sizeof(from),
			                   .msg_iov = &v,
			                   .msg_iovlen = 1,
			                   .msg_control = control,
			                   .msg_controllen = sizeof(control)};
			ssize_t len = recvmsg((int)(uint32_t)key, &m, 0);
			if (len >= 0)
				look_at_local(w, &w->world->guests[key >> 48], key >> 40 & 1, (uint8_t)(key >> 32), &m,
				              data, (size_t)len);
		}
}

void watch_look(struct watch *w) {
	static uint8_t data[SNAP_BYTES];
	struct sockaddr_ll from;
	bool tagged;
	ssize_t n;

	while ((n = next_frame(w->packet_public, data, &from, &tagged)) >= 0) {
		if (tagged)
			complain(w, "in `public`", "it has a VLAN tag", data, (size_t)n);
		look_at_public(w, &from, data, (size_t)n);
	}
	while ((n = next_frame(w->packet_underlay, data, &from, &tagged)) >= 0) {
		if (tagged)
			complain(w, "in `underlay`", "it has a VLAN tag", data, (size_t)n);
		look_at_underlay(w, &from, data, (size_t)n);
	}
	look_at_taps(w, data);
	look_at_sockets(w, data);
}

/* ---- what packets left in the kernel ---- */

struct counting {
	unsigned learnt, groups;
};

static int count_neighbour(const struct nlmsghdr *h, void *userdata) {
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);
	struct counting *c = userdata;

	if (m->ndm_state & NUD_NOARP)
		c->groups++;
	else if (!(m->ndm_state & NUD_PERMANENT))
		c->learnt++;
	return 0;
}

static bool count_neighbours(int netns_fd, unsigned most, const char *where) {
	static const uint8_t families[] = {AF_INET, AF_INET6};
	_nl_free_ struct nl *nl = NULL;
	struct counting c = {0};
	struct error err = {0};
	int r = nl_open(&nl, netns_fd, &err);

	for (size_t i = 0; i < ARRAY_SIZE(families) && r >= 0; i++) {
		struct ndmsg m = {.ndm_family = families[i]};
		r = nl_dump(nl, nl_request(nl, RTM_GETNEIGH, 0, &m, sizeof(m)), count_neighbour, &c, &err,
		            "list neighbours");
	}
	if (r >= 0 && c.learnt <= most && c.groups <= 8)
		return true;
	fprintf(stderr, "%s: %u neighbours were learnt, and %u of groups; there may be %u and 8. %s\n", where, c.learnt,
	        c.groups, most, err.msg);
	return false;
}

bool watch_neighbours(const struct watch *w) {
	bool good = count_neighbours(w->world->underlay.public_fd, 0, "`public`");

	for (size_t i = 0; i < GUESTS; i++) {
		const struct guest *g = &w->world->guests[i];
		good &= count_neighbours(g->netns_fd, NEIGHBOURS_MAX,
		                         g == w->from ? "the container" : "another container");
	}
	return good;
}

#define MESSAGE(type) ((uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | (type)))

struct checking {
	const struct guest *from, *at;
	unsigned foreign;
};

static bool may_be_tracked(const struct checking *c, const struct addr *src) {
	const struct instnet_spec *s = &c->from->spec;
	struct addr none = {.family = AF_INET}, shared = {0};

	if (src->family == AF_INET6)
		return guest_has6(c->from, src) || (c->at == c->from && prefix_contains_addr(&LINK_LOCAL, src));
	if (c->at == c->from)
		return s->ipv4 != INSTNET_NO_IPV4 && (addr_cmp(src, &s->address4) == 0 || addr_cmp(src, &none) == 0);
	if (s->ipv4 == INSTNET_SHARED)
		shared = s->slices[0].address;
	return addr_cmp(src, s->ipv4 == INSTNET_DEDICATED ? &s->address4 : &shared) == 0;
}

static int check_connection(const struct nlmsghdr *h, void *userdata) {
	struct checking *c = userdata;
	struct addr src = {0};
	char text[ADDR_STR_MAX];
	struct nlattr *a, *b, *d;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(a) != CTA_TUPLE_ORIG)
			continue;
		mnl_attr_for_each_nested(b, a) {
			if (mnl_attr_get_type(b) != CTA_TUPLE_IP)
				continue;
			mnl_attr_for_each_nested(d, b) {
				if (mnl_attr_get_type(d) == CTA_IP_V4_SRC)
					src.family = AF_INET;
				else if (mnl_attr_get_type(d) == CTA_IP_V6_SRC)
					src.family = AF_INET6;
				else
					continue;
				memcpy(src.bytes, mnl_attr_get_payload(d), mnl_attr_get_payload_len(d));
			}
		}
	}
	if (!may_be_tracked(c, &src) && c->foreign++ < 5)
		fprintf(stderr, "a connection from %s is tracked in %s\n", addr_str(&src, text),
		        c->at == c->from ? "the container" : "another container");
	return 0;
}

bool watch_connections(const struct watch *w) {
	static const uint8_t families[] = {AF_INET, AF_INET6};
	unsigned foreign = 0;

	for (size_t i = 0; i < GUESTS; i++) {
		struct checking c = {.from = w->from, .at = &w->world->guests[i]};
		_nl_free_ struct nl *nl = NULL;
		struct error err = {0};
		int r = nl_open_netfilter(&nl, c.at->netns_fd, &err);
		for (size_t k = 0; k < ARRAY_SIZE(families) && r >= 0; k++) {
			const struct nfgenmsg m = {.nfgen_family = families[k], .version = NFNETLINK_V0};
			r = nl_dump(nl, nl_request(nl, MESSAGE(IPCTNL_MSG_CT_GET), 0, &m, sizeof(m)), check_connection,
			            &c, &err, "list connections");
		}
		if (r < 0)
			fprintf(stderr, "%s\n", err.msg);
		foreign += c.foreign + (r < 0);
	}
	return foreign == 0;
}

int forget_connections(const struct world *w, struct error *err) {
	const struct nfgenmsg m = {.version = NFNETLINK_V0};
	int r = 0;

	for (size_t i = 0; i < GUESTS && r >= 0; i++) {
		_nl_free_ struct nl *nl = NULL;
		r = nl_open_netfilter(&nl, w->guests[i].netns_fd, err);
		if (r >= 0)
			r = nl_send(nl, nl_request(nl, MESSAGE(IPCTNL_MSG_CT_DELETE), NLM_F_ACK, &m, sizeof(m)), err,
			            "forget all connections");
	}
	return r;
}
