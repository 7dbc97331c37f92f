/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a hostile guest sends: frames with packets that are mostly right in most layers, cut into fragments, truncated
 * or changed in some bytes; and packets that are permitted.
 */

#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>

#include "base/vtep.h"
#include "node/test-spoof-make.h"

_Static_assert(sizeof(struct virtio_net_hdr) == VNET_LEN, "the header of a tap without merged buffers");

static void put_arp(struct packet *p) {
	const struct mac mac = percent(p->m, 60) ? p->m->from->spec.mac : other(p->m)->spec.mac;
	const struct addr src = source4(p->m), dst = percent(p->m, 50) ? text_addr("169.254.0.1") : target4(p->m);

	put16(p, percent(p->m, 97) ? 1 : below(p->m, 65536));
	put32(p, percent(p->m, 97) ? 0x08000604 : (uint32_t)any64(p->m));
	put16(p, percent(p->m, 90) ? 1 + below(p->m, 2) : below(p->m, 30));
	put(p, mac.bytes, 6);
	put_address(p, &src);
	put_random(p, 6);
	put_address(p, &dst);
	put_random(p, percent(p->m, 70) ? 18 : below(p->m, 40));
}

static void put_link(struct packet *p, unsigned type) {
	static const struct mac odd[] = {{{255, 255, 255, 255, 255, 255}},
	                                 {{0x33, 0x33, 0, 0, 0, 1}},
	                                 {{0x33, 0x33, 255, 0, 0, 1}},
	                                 {{1, 0, 0x5e, 0, 0, 1}},
	                                 {{1, 0x80, 0xc2, 0, 0, 0}},
	                                 {{1, 0x80, 0xc2, 0, 0, 14}},
	                                 {{0, 0, 0, 0, 0, 0}}};
	static const uint16_t tags[] = {0x8100, 0x8100, 0x88a8, 0x9100};
	const struct mac gateway = vtep_anycast_mac(), edge = vtep_router_mac(&p->m->world->edge);
	const struct mac theirs = percent(p->m, 70) ? other(p->m)->spec.mac : edge;

	put_ethernet(p,
	             percent(p->m, 82)   ? &gateway
	             : percent(p->m, 70) ? &ONE_OF(p->m, odd)
	                                 : &theirs,
	             percent(p->m, 92)   ? &p->m->from->spec.mac
	             : percent(p->m, 40) ? &ONE_OF(p->m, odd)
	                                 : &theirs,
	             type);
	for (unsigned n = percent(p->m, 6) ? 1 + below(p->m, 2) : 0; n > 0; n--) {
		p->len -= 2;
		put16(p, ONE_OF(p->m, tags));
		put16(p, percent(p->m, 40) ? 0 : below(p->m, 65536));
		put16(p, type);
	}
}

/*
 * The kernel cuts such a packet of UDP into fragments of IP. With extension headers it counts these in the offsets, so
 * that the fragments leave gaps.
 */
static bool can_be_cut(const struct packet *p) {
	bool six = p->data[12] == 0x86 && p->data[13] == 0xdd;

	return six ? p->data[ETH_LEN + 6] == 17 : p->data[12] == 0x08 && p->data[13] == 0;
}

/*
 * Mostly all zero: no offload. Otherwise a checksum to complete, anywhere, and a large frame to cut. (Pieces of UDP
 * that aren't whole units of fragments, or are behind extension headers, become fragments that nobody can put
 * together.)
 */
static void put_offload(struct maker *m, const struct packet *p, uint8_t out[static VNET_LEN]) {
	static const uint8_t types[] = {0, 1, 3, 4, 5, 0x81, 0x84, 2, 0xff};
	struct virtio_net_hdr h = {0};

	if (percent(m, 15)) {
		h.flags = (uint8_t)(percent(m, 80) ? 1 : below(m, 8));
		h.gso_type = percent(m, 50) ? 0 : ONE_OF(m, types);
		h.hdr_len = (uint16_t)below(m, 200);
		h.gso_size = (uint16_t)(1 + below(m, 1400));
		if ((h.gso_type & 0x7f) == VIRTIO_NET_HDR_GSO_UDP) {
			h.gso_size = (uint16_t)(h.gso_size & ~7U);
			if (!can_be_cut(p))
				h.gso_type = 0;
		}
		h.csum_start = (uint16_t)(percent(m, 40) ? 34 + 20 * below(m, 2) : 14 + below(m, 90));
		h.csum_offset = (uint16_t)(percent(m, 40) ? (percent(m, 50) ? 6 : 16) : below(m, 30));
	}
	memcpy(out, &h, VNET_LEN);
}

struct frame *add_frame(struct burst *b, const struct packet *p, size_t len) {
	struct frame *f = &b->frames[b->n < FRAMES_MAX ? b->n++ : b->n - 1];

	memset(f->data, 0, VNET_LEN);
	memcpy(f->data + VNET_LEN, p->data, len);
	f->len = VNET_LEN + len;
	return f;
}

/* ---- fragments ---- */

/* The part FROM to TO of what begins at BODY as a fragment of its own. */
void add_fragment(struct burst *b, const struct packet *p, size_t ip, size_t body, size_t next, size_t from, size_t to,
                  bool more, uint32_t id) {
	struct packet f = {.m = p->m};
	bool six = p->data[ip] >> 4 == 6;

	put(&f, p->data, body);
	if (six) {
		f.data[next] = 44;
		put8(&f, p->data[next]);
		put8(&f, 0);
		put16(&f, (unsigned)from | more);
		put32(&f, id);
	}
	put(&f, p->data + body + from, to - from);
	if (six) {
		set16(&f, ip + 4, (unsigned)(f.len - ip - 40));
	} else {
		set16(&f, ip + 2, (unsigned)(f.len - ip));
		set16(&f, ip + 4, id & 0xffff);
		set16(&f, ip + 6, (unsigned)(from / 8) | (more ? 0x2000 : 0));
		finish_header4(&f, ip, body - ip);
	}
	add_frame(b, &f, f.len);
}

static void add_fragments(struct burst *b, const struct packet *p, size_t ip, size_t body, size_t next) {
	struct maker *m = p->m;
	size_t len = p->len - body, piece = percent(m, 40) ? 8 : percent(m, 50) ? 8U * (1 + below(m, 20)) : 1024;
	uint32_t id = (uint32_t)any64(m);
	unsigned lie = below(m, 10);

	for (size_t from = 0; from < len && b->n < FRAMES_MAX - 2; from += piece) {
		size_t to = b->n == FRAMES_MAX - 3 ? len : MIN(len, from + piece);
		if (lie == 0 && from == 0)
			continue; /* the first one is missing */
		add_fragment(b, p, ip, body, next, from, to, to < len, id);
		if (lie == 1 && from >= 8) /* overlap */
			add_fragment(b, p, ip, body, next, from - 8, to, to < len, id);
		if (lie == 2) /* twice */
			add_fragment(b, p, ip, body, next, from, to, to < len, id);
		if (to == len)
			break;
	}
	if (lie == 3 && b->n > 1) { /* the last one first */
		struct frame last = b->frames[b->n - 1];
		b->frames[b->n - 1] = b->frames[0];
		b->frames[0] = last;
	}
}

/* ---- whole packets ---- */

static size_t put_something(struct packet *p, size_t *ret_ip, size_t *ret_next) {
	static const uint16_t types[] = {0x88cc, 0x8847, 0x8863, 0x8864, 0x0842,
	                                 0x8035, 0x22f3, 0x0026, 0x888e, 0x8809};
	unsigned kind = below(p->m, 100);
	size_t body = 0;

	put_link(p, kind < 50           ? 0x86dd
	            : kind < 82         ? 0x0800
	            : kind < 92         ? 0x0806
	            : percent(p->m, 70) ? ONE_OF(p->m, types)
	                                : below(p->m, 65536));
	*ret_ip = p->len;
	if (kind < 50)
		body = put_ipv6(p, ret_next);
	else if (kind < 82)
		body = put_ipv4(p);
	else if (kind < 92)
		put_arp(p);
	else
		put_random(p, below(p->m, 200));
	return body;
}

void make_any(struct maker *m, struct burst *b) {
	struct packet p = {.m = m};
	size_t ip = 0, next = 0, body = put_something(&p, &ip, &next);

	b->n = 0;
	b->arrival = NOWHERE;
	if (body && body < p.len && percent(m, 15)) {
		add_fragments(b, &p, ip, body, next);
		if (b->n > 0)
			return;
	}
	if (percent(m, 8))
		p.len = below(m, (unsigned)p.len + 1);
	if (percent(m, 10) && p.len > ETH_LEN)
		for (unsigned n = 1 + below(m, 4); n > 0; n--)
			p.data[12 + below(m, (unsigned)p.len - 12)] = (uint8_t)any64(m);
	put_offload(m, &p, add_frame(b, &p, p.len)->data);
}

/* ---- questions ---- */

static void put_solicitation(struct packet *p, const struct addr *src) {
	const struct addr routers = text_addr("ff02::2"), group = text_addr("ff02::1:ff00:1"),
			  target = text_addr("fe80::1");
	bool router = percent(p->m, 30);
	const struct addr *dst = router ? &routers : percent(p->m, 50) ? &group : &target;
	const struct mac gateway = vtep_anycast_mac();
	size_t start;

	put_ethernet(p, &gateway, &p->m->from->spec.mac, 0x86dd);
	put32(p, 0x60000000);
	put32(p, (router ? 16U : 32U) << 16 | 58 << 8 | 255);
	put_address(p, src);
	put_address(p, dst);
	start = p->len;
	put32(p, (router ? 133U : 135U) << 24);
	put32(p, 0);
	if (!router)
		put_address(p, &target);
	put16(p, 0x0101);
	put(p, p->m->from->spec.mac.bytes, 6);
	finish_sum(p, start, 58, src, dst);
}

static void put_echo6(struct packet *p, const struct addr *src) {
	const struct addr dst = percent(p->m, 50) ? text_addr("fe80::1") : p->m->from->spec.ip;
	const struct mac gateway = vtep_anycast_mac();

	put_ethernet(p, &gateway, &p->m->from->spec.mac, 0x86dd);
	put32(p, 0x60000000);
	put32(p, 8 << 16 | 58 << 8 | 64);
	put_address(p, src);
	put_address(p, &dst);
	put32(p, 0x80000000);
	put32(p, (uint32_t)any64(p->m));
	finish_sum(p, ETH_LEN + 40, 58, src, &dst);
}

/* An echo request to the gateway, or the first message of DHCP. */
static void put_question4(struct packet *p) {
	static const struct mac all = {{255, 255, 255, 255, 255, 255}};
	const struct mac gateway = vtep_anycast_mac();
	bool echo = percent(p->m, 50);
	const struct addr src = echo ? own4(p->m->from) : text_addr("0.0.0.0"),
			  dst = text_addr(echo ? "169.254.0.1" : "255.255.255.255");

	put_ethernet(p, echo ? &gateway : &all, &p->m->from->spec.mac, 0x0800);
	put32(p, 0x45000000 | (echo ? 28 : 28 + 240));
	put32(p, 0);
	put32(p, 64U << 24 | (echo ? 1U : 17U) << 16);
	put_address(p, &src);
	put_address(p, &dst);
	finish_header4(p, ETH_LEN, 20);
	put32(p, echo ? 0x08000000 : 68 << 16 | 67);
	put32(p, echo ? (uint32_t)any64(p->m) : 248U << 16);
	if (!echo)
		put_random(p, 240);
	finish_sum(p, ETH_LEN + 20, echo ? 1 : 17, &src, &dst);
}

static void put_question_of_arp(struct packet *p) {
	static const struct mac all = {{255, 255, 255, 255, 255, 255}};
	const struct addr src = own4(p->m->from), dst = text_addr("169.254.0.1");

	put_ethernet(p, &all, &p->m->from->spec.mac, 0x0806);
	put32(p, 0x00010800);
	put32(p, 0x06040001);
	put(p, p->m->from->spec.mac.bytes, 6);
	put_address(p, &src);
	put_random(p, 6);
	put_address(p, &dst);
}

void make_question(struct maker *m, struct burst *b) {
	const struct prefix link = {.addr = {.family = AF_INET6, .bytes = {0xfe, 0x80}}, .len = 64};
	struct packet p = {.m = m};
	struct addr src = inside_of(m, percent(m, 50) ? &m->from->spec.net : &link);

	if (percent(m, 20))
		src = link_local_of(m->from);
	switch (below(m, 4)) {
	case 0: put_question_of_arp(&p); break;
	case 1: put_question4(&p); break;
	case 2: put_echo6(&p, &src); break;
	default: put_solicitation(&p, &src); break;
	}
	b->n = 0;
	b->arrival = NOWHERE;
	add_frame(b, &p, p.len);
}

/* ---- what is permitted ---- */

/* A datagram of IPv6, or of IPv4 if the guest has it, to the edge or to a guest that lets it in. */
struct plan {
	struct addr src, dst;
	unsigned sport, dport, protocol;
	size_t size; /* of the payload */
	bool options;
	bool offload; /* the kernel completes the checksum */
};

static size_t put_planned(struct packet *p, const struct plan *plan, uint32_t tag, size_t *ret_next) {
	const struct mac gateway = vtep_anycast_mac();
	bool six = plan->src.family == AF_INET6, echo = plan->protocol != 17;
	size_t start, length = 8 + TAG_LEN + plan->size;

	put_ethernet(p, &gateway, &p->m->from->spec.mac, six ? 0x86dd : 0x0800);
	*ret_next = ETH_LEN + 6;
	if (six) {
		put32(p, 0x60000000);
		put16(p, (unsigned)length + (plan->options ? 8 : 0));
		put16(p, (plan->options ? 60 : plan->protocol) << 8 | 64);
	} else {
		put32(p, 0x45000000 | (20 + (uint32_t)length));
		put32(p, tag << 16);
		put16(p, 64 << 8 | plan->protocol);
		put16(p, 0);
	}
	put_address(p, &plan->src);
	put_address(p, &plan->dst);
	if (six && plan->options) {
		*ret_next = p->len;
		put16(p, plan->protocol << 8);
		put16(p, 0x0104);
		put32(p, 0);
	} else if (!six) {
		finish_header4(p, ETH_LEN, 20);
	}
	start = p->len;
	put16(p, echo ? (six ? 128U : 8U) << 8 : plan->sport);
	put16(p, echo ? 0 : plan->dport);
	put32(p, echo ? plan->sport << 16 : (uint32_t)length << 16);
	put(p, "NPRP", 4);
	put32(p, tag);
	put8(p, 64);
	put_random(p, plan->size);
	finish_sum(p, start, plan->protocol, &plan->src, &plan->dst);
	if (plan->offload)
		set16(p, start + 6, pseudo_sum(&plan->src, &plan->dst, plan->protocol, length));
	return start;
}

static struct plan any_plan(struct maker *m, enum arrival *ret) {
	const struct guest *dedicated = &m->world->guests[1], *to = other(m);
	bool has4 = m->from->spec.ipv4 != INSTNET_NO_IPV4;
	struct plan plan = {.sport = 4000 + below(m, 16), .dport = FAR_PORT, .protocol = 17, .options = percent(m, 10)};

	plan.size = percent(m, 10) ? below(m, 1400) : below(m, 100);
	*ret = AT_EDGE;
	if (has4 && percent(m, 40)) {
		plan.src = m->from->spec.address4;
		plan.dst = text_addr(FAR4);
		if (m->from != dedicated && percent(m, 40)) {
			plan.dst = dedicated->spec.address4;
			*ret = AT_GUEST;
		}
	} else {
		plan.src = inside_of(m, percent(m, 60) ? &m->from->spec.net : &m->from->spec.delegated);
		plan.dst = text_addr(FAR6);
		if (percent(m, 40)) {
			plan.dst = inside_of(m, &to->spec.net);
			*ret = AT_GUEST;
		}
	}
	if (*ret == AT_GUEST)
		plan.dport = OPEN_PORT;
	if (percent(m, 15))
		plan.protocol = plan.src.family == AF_INET ? 1 : 58;
	return plan;
}

void make_permitted(struct maker *m, uint32_t tag, bool fragments, struct burst *b) {
	struct packet p = {.m = m};
	struct plan plan = any_plan(m, &b->arrival);
	bool large = fragments && b->arrival == AT_EDGE && percent(m, 15);
	size_t body, next;

	b->n = 0;
	if (large)
		plan.size = 1400 + below(m, 1000);
	plan.offload = !large && plan.protocol == 17 && percent(m, 50);
	body = put_planned(&p, &plan, tag, &next);
	if (!large) {
		const struct virtio_net_hdr h = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)body, .csum_offset = 6};
		struct frame *f = add_frame(b, &p, p.len);
		if (plan.offload)
			memcpy(f->data, &h, VNET_LEN);
		return;
	}
	uint32_t id = (uint32_t)any64(m);
	add_fragment(b, &p, ETH_LEN, body, next, 0, 1280, true, id);
	add_fragment(b, &p, ETH_LEN, body, next, 1280, p.len - body, false, id);
}

void make_marker(struct maker *m, uint32_t tag, struct burst *b) {
	const struct plan plan = {.src = m->from->spec.net.addr,
	                          .dst = text_addr(FAR6),
	                          .sport = 3999,
	                          .dport = FAR_PORT,
	                          .protocol = 17};
	struct packet p = {.m = m};
	size_t next;

	put_planned(&p, &plan, tag, &next);
	b->n = 0;
	b->arrival = AT_EDGE;
	add_frame(b, &p, p.len);
}
