/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the firewall of an instance costs a packet, and what a change of a member costs. The container is a real one
 * (node/instnet.h); in place of the guest's tap there is a veth. Packets are put on the device outside or on the
 * guest's, and the kernel takes each through the whole container before the call that sends it returns.
 *
 *     guest: eth0 -- tap :container: uplink -- i-ID :public
 */

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "net/link.h"
#include "net/nft.h"
#include "net/route.h"
#include "node/instnet.h"
#include "spaces.h"

#define ID      "0b5ac4a84b0e"
#define ROUNDS  5
#define REPEATS 5 /* with each table, in each round */
#define PACKETS 20000
#define BATCH   64
#define MEMBERS 100000
#define CHANGES 500

struct bench {
	int public_fd, inside_fd, guest_fd;
	struct nl *public_nl;
	struct instnet_spec spec;
	struct instnet_config c;
	struct instnet_state state;
};

static void make_spec(struct instnet_spec *s) {
	struct instnet_slice *slice = &s->slices[0];

	jt_init(&jt_instnet_spec, s);
	OK(mac_parse("02:4e:01:00:00:05", &s->mac, &error));
	OK(addr_parse("fd10::5", &s->ip, &error));
	OK(prefix_parse("2001:db8:1:1::/64", &s->net, &error));
	s->ipv4 = INSTNET_SHARED;
	s->address4 = instnet_shared_address();
	OK(addr_parse("198.51.100.3", &slice->address, &error));
	slice->first = 1024;
	slice->last = 1535;
	s->n_slices = 1;
}

static void make(struct bench *b) {
	struct nl *inside, *guest;
	char name[64];
	int index;

	make_netns("public", name, &b->public_fd);
	make_netns("i-" ID, name, &b->inside_fd);
	make_netns("guest", name, &b->guest_fd);
	OK(nl_open(&b->public_nl, b->public_fd, &error));
	OK(nl_open(&inside, b->inside_fd, &error));
	OK(nl_open(&guest, b->guest_fd, &error));
	make_spec(&b->spec);
	OK(link_ensure_veth(
		&(struct link_end){.nl = inside, .netns_fd = b->inside_fd, .name = INSTNET_TAP},
		&(struct link_end){.nl = guest, .netns_fd = b->guest_fd, .name = "eth0", .mac = &b->spec.mac}, 1500,
		&index, &error));
	b->c = (struct instnet_config){.prefix = prefix, .id = ID, .spec = &b->spec, .mtu = 1500};
	nl_free(inside);
	nl_free(guest);
}

/* ---- packets ---- */

struct frame {
	uint8_t bytes[ETH_ZLEN + 20];
	size_t len;
};

static uint16_t checksum(const uint8_t *p, size_t len, uint32_t sum) {
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *p, uint16_t v) {
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* IPv6: a SYN to PORT, or UDP. The checksum is right. */
static struct frame frame6(const char *dst_mac, const char *src, const char *dst, uint8_t protocol, uint16_t sport,
                           uint16_t port) {
	const size_t len = protocol == IPPROTO_TCP ? 20 : 16;
	struct frame f = {.len = 14 + 40 + len};
	uint8_t *ip = f.bytes + 14, *th = ip + 40;
	struct mac mac;
	struct addr a;

	OK(mac_parse(dst_mac, &mac, &error));
	memcpy(f.bytes, mac.bytes, 6);
	memcpy(f.bytes + 6, "\x02\x4e\x01\x00\x00\x05", 6);
	put16(f.bytes + 12, ETHERTYPE_IPV6);
	ip[0] = 0x60;
	put16(ip + 4, (uint16_t)len);
	ip[6] = protocol;
	ip[7] = 64;
	OK(addr_parse(src, &a, &error));
	memcpy(ip + 8, a.bytes, 16);
	OK(addr_parse(dst, &a, &error));
	memcpy(ip + 24, a.bytes, 16);
	put16(th, sport);
	put16(th + 2, port);
	if (protocol == IPPROTO_TCP) {
		th[12] = 5 << 4;
		th[13] = 2;
		put16(th + 14, 1000);
		put16(th + 16, checksum(ip + 8, 32 + len, (uint32_t)(len + protocol)));
	} else {
		put16(th + 4, (uint16_t)len);
		put16(th + 6, checksum(ip + 8, 32 + len, (uint32_t)(len + protocol)));
	}
	return f;
}

/* UDP over IPv4, without a checksum. */
static struct frame frame4(const char *src, const char *dst, uint16_t sport, uint16_t port) {
	struct frame f = {.len = 14 + 20 + 16};
	uint8_t *ip = f.bytes + 14, *th = ip + 20;
	struct addr a;

	memcpy(f.bytes, "\x00\x00\x5e\x00\x02\x01\x02\x4e\x01\x00\x00\x05", 12);
	put16(f.bytes + 12, ETHERTYPE_IP);
	ip[0] = 0x45;
	put16(ip + 2, 36);
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	OK(addr_parse(src, &a, &error));
	memcpy(ip + 12, a.bytes, 4);
	OK(addr_parse(dst, &a, &error));
	memcpy(ip + 16, a.bytes, 4);
	put16(ip + 10, checksum(ip, 20, 0));
	put16(th, sport);
	put16(th + 2, port);
	put16(th + 4, 16);
	return f;
}

struct packet_socket {
	const char *device;
	int fd;
};

static int open_here(void *arg, struct error *err) {
	struct packet_socket *s = arg;
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(s->device)};

	s->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, (void *)&at, sizeof(at)) < 0)
		return error_errno(err, errno, "open a packet socket on %s", s->device);
	return 0;
}

static int packet_socket(int netns_fd, const char *device) {
	struct packet_socket s = {.device = device, .fd = -1};

	OK(netns_run(netns_fd, open_here, &s, &error));
	return s.fd;
}

/* Nanoseconds a packet. */
static double send_frames(int fd, const struct frame *f) {
	struct iovec iov = {(void *)f->bytes, f->len};
	struct mmsghdr messages[BATCH];
	uint64_t began = now_monotonic_ns();

	for (size_t i = 0; i < BATCH; i++)
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
	for (int i = 0; i < PACKETS; i += BATCH)
		if (sendmmsg(fd, messages, BATCH, 0) != BATCH)
			fprintf(stderr, "sendmmsg: %m\n");
	return (double)(now_monotonic_ns() - began) / PACKETS;
}

/* ---- cases ---- */

/* N rules of TCP and one of UDP, which come from everywhere. */
static struct firewall *rules(unsigned n) {
	_buf_free_ struct buf b = {0};
	struct api_errors errs = {0};
	void *f = NULL;

	buf_printf(&b,
	           "{\"metadata\":{\"name\":\"a\",\"namespace\":\"t\",\"uid\":\"%u\"},\"spec\":{\"instances\":{},"
	           "\"ingress\":[{\"protocol\":\"udp\",\"port\":53}",
	           n);
	for (unsigned i = 1; i < n; i++)
		buf_printf(&b,
		           ",{\"protocol\":\"tcp\",\"port\":%u,\"prefixes\":[\"2001:db8:%x::/48\",\"10.%u.%u.0/24\"]}",
		           1 + i % 60000, 0x1000 + i, i >> 8, i & 255);
	buf_puts(&b, "]}}");
	if (api_parse(&api_kind_firewall, b.data, b.len, &f, &errs) < 0)
		api_errors_to_error(&errs, &error);
	OK(f ? 0 : -1);
	return f;
}

static void apply(struct bench *b, const struct firewall *f) {
	const struct firewall_attached attached = {.v = &f, .n = 1};

	b->c.firewalls = &attached;
	OK(instnet_ensure(&b->c, b->public_nl, b->public_fd, &b->state, &error));
}

static void without_rules(struct bench *b) {
	OK(nft_apply(b->inside_fd, "flush ruleset", &error));
}

enum { BARE, SMALL, HUNDRED, LARGE, N_TABLES };
enum { IN, FLOOD, OUT4, N_KINDS };

static void measure(struct bench *b, double best[N_TABLES][N_KINDS]) {
	struct firewall *f[N_TABLES] = {[SMALL] = rules(10), [HUNDRED] = rules(100), [LARGE] = rules(10000)};
	const struct frame frames[N_KINDS] = {
		[IN] = frame6("02:4e:01:00:00:05", "2001:db8:f::1", "2001:db8:1:1::5", IPPROTO_UDP, 5000, 53),
		[FLOOD] = frame6("02:4e:01:00:00:05", "2001:db8:f::1", "2001:db8:1:1::5", IPPROTO_TCP, 5000, 999),
		[OUT4] = frame4("192.0.0.2", "192.0.2.1", 5000, 53)};

	apply(b, f[SMALL]);
	int outside = packet_socket(b->public_fd, "i-" ID), guest = packet_socket(b->guest_fd, "eth0");
	for (int round = 0; round <= ROUNDS; round++)
		for (int t = 0; t < N_TABLES; t++) {
			if (t == BARE)
				without_rules(b);
			else
				apply(b, f[t]);
			for (int i = 0; i < REPEATS * N_KINDS; i++) {
				int k = i % N_KINDS;
				double ns = send_frames(k == OUT4 ? guest : outside, &frames[k]);
				/* The first round fills caches. */
				if (round && (!best[t][k] || ns < best[t][k]))
					best[t][k] = ns;
			}
		}
	close(outside);
	close(guest);
	for (int t = 0; t < N_TABLES; t++)
		api_free(&api_kind_firewall, f[t]);
}

/* ---- members ---- */

static void member(struct groups *g, const char *id, unsigned i, bool add) {
	char prefix_text[PREFIX_STR_MAX];
	struct endpoint_route r = {.prefix = prefix_text};
	struct endpoint_spec spec = {.routes = {.v = &r, .n = 1}};
	char *groups[] = {(char *)id};
	struct endpoint_status status = {.groups = {.v = groups, .n = 1}};
	const struct endpoint e = {.spec = &spec, .status = &status};

	snprintf(prefix_text, sizeof(prefix_text), "2001:db8:%x:%x::/64", 0x100 + (i >> 14), 1 + (i & 0x3fff));
	groups_endpoint(g, add ? NULL : &e, add ? &e : NULL);
}

static void members(struct bench *b) {
	static const char json[] =
		"{\"metadata\":{\"name\":\"a\",\"namespace\":\"t\",\"uid\":\"m\"},\"spec\":{\"instances\":{},"
		"\"ingress\":[{\"peers\":{}}]}}";
	static uint64_t took[CHANGES];
	char id[FIREWALL_GROUP_ID_MAX];
	struct api_errors errs = {0};
	struct groups *g;
	void *f = NULL;

	OK(api_parse(&api_kind_firewall, json, sizeof(json) - 1, &f, &errs));
	OK(firewall_group_id("t", ((struct firewall *)f)->spec->ingress.v[0].peers, id));
	OK(groups_new(&g, &error));
	for (unsigned i = 0; i < MEMBERS; i++)
		member(g, id, i, true);
	const struct firewall_attached attached = {.v = (const struct firewall *const *)&f, .n = 1, .groups = g};
	b->c.firewalls = &attached;
	uint64_t began = now_monotonic_ns();
	OK(instnet_ensure(&b->c, b->public_nl, b->public_fd, &b->state, &error));
	printf("\n%d members: loaded in %.0f ms", MEMBERS, (double)(now_monotonic_ns() - began) / 1e6);
	for (unsigned i = 0; i < CHANGES; i++) {
		began = now_monotonic_ns();
		member(g, id, MEMBERS + i / 2, i % 2 == 0);
		OK(instnet_ensure(&b->c, b->public_nl, b->public_fd, &b->state, &error));
		took[i] = now_monotonic_ns() - began;
	}
	printf("; one more or one less, with the look at the network: p50 %.2f ms, p99 %.2f ms\n",
	       percentile_ms(took, CHANGES, 50), percentile_ms(took, CHANGES, 99));
	groups_free(g);
	api_free(&api_kind_firewall, f);
}

int main(void) {
	double best[N_TABLES][N_KINDS] = {0};
	struct bench b = {0};

	snprintf(prefix, sizeof(prefix), "bf%d-", getpid());
	make(&b);
	measure(&b, best);
	printf("The least of %d times %d packets, tables in turn; ns a packet\n\n"
	       "| packets | bare forwarding | 10 rules | 100 rules | 10,000 rules | 10,000 / 10 | 100 / bare |\n"
	       "|---|---|---|---|---|---|---|\n",
	       ROUNDS * REPEATS, PACKETS);
	static const char *const what[] = {"IPv6 in, UDP, a known connection", "IPv6 in, a flood of SYN, dropped",
	                                   "IPv4 out, UDP, translated"};
	for (int k = 0; k < N_KINDS; k++)
		printf("| %s | %.0f | %.0f | %.0f | %.0f | %.2f | %.2f |\n", what[k], best[BARE][k], best[SMALL][k],
		       best[HUNDRED][k], best[LARGE][k], best[LARGE][k] / best[SMALL][k],
		       best[HUNDRED][k] / best[BARE][k]);
	members(&b);
	nl_free(b.public_nl);
	cleanup();
	return 0;
}
