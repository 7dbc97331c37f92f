/* SPDX-License-Identifier: Apache-2.0 */

/* What may be seen of a guest's packets, and where: docs/instances.md, docs/public-network.md. */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "base/vtep.h"
#include "node/test-spoof.h"

static bool is_mac(const uint8_t *p, const struct mac *m) {
	return memcmp(p, m->bytes, 6) == 0;
}

static bool is_addr(const struct addr *a, const char *text) {
	char own[ADDR_STR_MAX];

	return streq(addr_str(a, own), text);
}

static bool is_below(const struct addr *a, const char *text) {
	struct prefix p;
	struct error err;

	return prefix_parse(text, &p, &err) >= 0 && prefix_contains_addr(&p, a);
}

bool guest_has6(const struct guest *g, const struct addr *a) {
	return prefix_contains_addr(&g->spec.net, a) || prefix_contains_addr(&g->spec.delegated, a);
}

/* ---- addresses ---- */

static bool is_echo_request(const struct seen *s) {
	return s->src.family == AF_INET ? s->protocol == IPPROTO_ICMP && s->icmp_type == 8
	                                : s->protocol == PROTO_ICMP6 && s->icmp_type == 128;
}

static bool is_echo_reply(const struct seen *s) {
	return s->src.family == AF_INET ? s->protocol == IPPROTO_ICMP && s->icmp_type == 0
	                                : s->protocol == PROTO_ICMP6 && s->icmp_type == 129;
}

/* The source of what left the container, translated or not. Later fragments have no port. */
static bool has_slice(const struct guest *g, const struct seen *s) {
	uint16_t port = s->protocol == IPPROTO_ICMP ? s->icmp_id : s->sport;
	bool any = s->offset || is_icmp_error(s);

	if (s->protocol != IPPROTO_TCP && s->protocol != IPPROTO_UDP && s->protocol != IPPROTO_ICMP)
		return false;
	if (s->protocol == IPPROTO_ICMP && !any && !is_echo_request(s))
		return false;
	for (size_t i = 0; i < g->spec.n_slices; i++) {
		const struct instnet_slice *slice = &g->spec.slices[i];
		if (addr_cmp(&slice->address, &s->src) == 0 && (any || (port >= slice->first && port <= slice->last)))
			return true;
	}
	return false;
}

static bool is_from(const struct guest *g, const struct seen *s) {
	if (s->src.family == AF_INET6)
		return guest_has6(g, &s->src);
	return g->spec.ipv4 == INSTNET_DEDICATED ? addr_cmp(&g->spec.address4, &s->src) == 0
	                                         : g->spec.ipv4 == INSTNET_SHARED && has_slice(g, s);
}

/* Of a container or of `public`: the kernel's answers. */
static bool is_answer(const struct world *w, const struct seen *s) {
	bool router = s->src.family == AF_INET ? is_addr(&s->src, "192.0.0.8") : is_addr(&s->src, "fe80::1");

	for (size_t i = 0; i < GUESTS; i++)
		router |= addr_cmp(&w->guests[i].spec.ip, &s->src) == 0 ||
		          (w->guests[i].spec.ipv4 == INSTNET_SHARED && is_addr(&s->src, SHARED_ADDRESS));
	return router && (is_icmp_error(s) || is_echo_reply(s)) && !s->source_route && s->hops <= 64;
}

static bool is_to(const struct guest *g, const struct addr *a) {
	if (a->family == AF_INET6)
		return guest_has6(g, a) || addr_cmp(a, &g->spec.ip) == 0;
	return g->spec.ipv4 == INSTNET_SHARED
	               ? is_addr(a, SHARED_ADDRESS)
	               : g->spec.ipv4 == INSTNET_DEDICATED && addr_cmp(a, &g->spec.address4) == 0;
}

/* ---- what a guest may send to others ---- */

static const char *judge_destination(const struct addr *a) {
	static const char *const never[] = {"::/128",         "::1/128",           "::ffff:0.0.0.0/96", "fe80::/10",
	                                    "ff00::/8",       "fd00:ec2::254/128", "0.0.0.0/8",         "127.0.0.0/8",
	                                    "169.254.0.0/16", "224.0.0.0/3"};

	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		if (is_below(a, never[i]))
			return "an address that isn't reached from outside";
	return NULL;
}

/* Messages that are only for neighbours: multicast listeners, neighbour discovery and what belongs to it. */
static bool is_for_neighbours(uint8_t type) {
	return (type >= 130 && type <= 137) || (type >= 141 && type <= 143) || type == 148 || type == 149 ||
	       (type >= 151 && type <= 153);
}

static bool is_dhcp(uint16_t port) {
	return port == 67 || port == 68 || port == 546 || port == 547;
}

static const char *judge_content(const struct seen *s) {
	if (s->source_route)
		return "it chooses its way";
	if (s->offset)
		return NULL;
	if (s->src.family == AF_INET6 && s->protocol == PROTO_ICMP6 && is_for_neighbours(s->icmp_type))
		return "a message for neighbours";
	if (s->protocol == IPPROTO_UDP && (is_dhcp(s->sport) || is_dhcp(s->dport)))
		return "DHCP";
	return NULL;
}

/*
 * A datagram leaves whole: its fragments follow each other, without gaps and overlaps. On the way to another guest the
 * identification isn't compared: when the container of that guest puts the fragments together and cuts the packet
 * again, the kernel writes the new one into bytes that it shares with our copy.
 */
static const char *judge_fragment(struct running *r, enum place place, const struct seen *s) {
	bool same = r->valid && addr_cmp(&r->src, &s->src) == 0 && addr_cmp(&r->dst, &s->dst) == 0 &&
	            (r->id == s->id || place == TO_OTHER) && r->next == s->offset;

	if (s->fragment && s->offset && !same)
		return "a fragment that doesn't follow the one before";
	*r = (struct running){.valid = s->fragment && s->more,
	                      .src = s->src,
	                      .dst = s->dst,
	                      .id = s->id,
	                      .next = s->offset + (uint32_t)s->fragment_len};
	return NULL;
}

static unsigned hops_before(enum place place) {
	return place == UPLINK ? 1 : place == TAP_OTHER ? 3 : 2;
}

static const char *judge_sent(struct judge *j, enum place place, const struct seen *s) {
	const char *wrong = judge_destination(&s->dst);

	if (!wrong)
		wrong = judge_content(s);
	if (!wrong)
		wrong = judge_fragment(&j->running[place], place, s);
	if (!wrong && (s->hops == 0 || s->hops > 255 - hops_before(place)))
		wrong = "its hop limit wasn't decremented";
	if (!wrong && s->tag && s->tag[8] - s->hops != (int)hops_before(place))
		wrong = "its hop limit is wrong";
	return wrong;
}

/* The packet that an error quotes was sent from an open port of the guest, so it was an answer. */
static bool is_related(const struct guest *g, const struct seen *s) {
	struct seen quoted = {0};

	(void)!parse_ip(s->upper + 8, s->upper_len - 8, s->src.family == AF_INET ? 0x0800 : 0x86dd, &quoted);
	return quoted.src.family && is_to(g, &quoted.src);
}

static const char *judge_received(const struct guest *g, const struct seen *s) {
	bool open = (s->protocol == IPPROTO_UDP && s->dport == OPEN_PORT) || is_echo_request(s);

	if (g->spec.ipv4 == INSTNET_SHARED && s->src.family == AF_INET)
		open = false;
	if (!s->offset && !open && !(is_icmp_error(s) && is_related(g, s)))
		return "it isn't let in";
	return is_to(g, &s->dst) ? NULL : "not this guest's address";
}

/* The kernel of `public` reports its own groups (RFC 3810). */
static bool is_own_report(const struct seen *s) {
	return s->src.family == AF_INET6 && s->hops == 1 && s->protocol == PROTO_ICMP6 && s->icmp_type == 143 &&
	       is_addr(&s->dst, "ff02::16") && (is_below(&s->src, "fe80::/64") || is_addr(&s->src, "::"));
}

/* The kernel of a container checks whether the addresses by which its guest asked before are still there. */
static bool is_own_solicitation(const struct seen *s) {
	return s->src.family == AF_INET6 && s->hops == 255 && s->protocol == PROTO_ICMP6 && s->icmp_type == 135 &&
	       is_addr(&s->src, "fe80::1");
}

static bool is_metadata(const struct addr *a) {
	return is_addr(a, "169.254.169.254") || is_addr(a, "fd00:ec2::254");
}

/*
 * A container tells its guest, half a minute or a minute later, that fragments that it sent before were not complete:
 * in the name of metadata, if they were for it.
 */
static bool is_own_expiry(const struct guest *g, const struct seen *s) {
	if (!is_icmp_error(s) || s->upper[1] != 1)
		return false;
	if (s->src.family == AF_INET)
		return s->icmp_type == 11 && (is_addr(&s->src, "169.254.0.1") || is_metadata(&s->src)) &&
		       addr_cmp(&s->dst, &g->spec.address4) == 0;
	bool container = addr_cmp(&s->src, &g->spec.ip) == 0 || is_addr(&s->src, "fe80::1") || is_metadata(&s->src);
	return s->icmp_type == 3 && container && guest_has6(g, &s->dst);
}

static const char *judge_macs(const struct judge *j, enum place place, const struct guest *g, const struct seen *s) {
	const struct mac anycast = vtep_anycast_mac(), own = vtep_router_mac(&j->world->config.vtep),
			 edge = vtep_router_mac(&j->world->edge);
	const struct mac *src = &anycast, *dst = g ? &g->spec.mac : &edge;

	if (place == UPLINK || place == FROM_OTHER) {
		src = &g->spec.mac;
		dst = &anycast;
	} else if (place == OVERLAY) {
		src = &own;
	}
	if (!is_mac(s->src_mac, src))
		return "another source MAC";
	if (is_own_report(s) || is_own_solicitation(s) || place == TAP_OWN || is_mac(s->dst_mac, dst))
		return NULL;
	return "another destination MAC";
}

/* The metadata service refuses a connection, as none runs here, or the kernel answers in its name. */
static bool is_from_metadata(const struct seen *s) {
	return is_metadata(&s->src) && (s->protocol == IPPROTO_TCP || is_icmp_error(s) || is_echo_reply(s));
}

/* What the guest itself is told: by its container, and by routers outside. */
static const char *judge_told(const struct judge *j, const struct guest *g, const struct seen *s) {
	if (s->ethertype == 0x0806)
		return g->spec.ipv4 != INSTNET_NO_IPV4 && is_mac(s->dst_mac, &g->spec.mac) ? NULL : "ARP";
	if (s->src.family == AF_INET6 && s->protocol == PROTO_ICMP6 && (s->icmp_type == 135 || s->icmp_type == 136))
		return s->hops == 255 ? NULL : "neighbour discovery from elsewhere";
	if (s->src.family && is_from(g, s)) /* to its own forward, or to itself */
		return NULL;
	if (s->src.family == AF_INET && is_addr(&s->src, "169.254.0.1") && (is_icmp_error(s) || is_echo_reply(s)))
		return NULL;
	if (s->src.family && is_from_metadata(s))
		return NULL;
	return s->src.family && (is_answer(j->world, s) || is_addr(&s->src, "fe80::1")) ? NULL
	                                                                                : "nobody may send it this";
}

const char *judge_frame(struct judge *j, enum place place, const struct guest *guest, const uint8_t *data, size_t len,
                        struct seen *ret) {
	const char *wrong = parse_frame(data, len, ret);

	if (!wrong)
		wrong = judge_macs(j, place, guest, ret);
	if (wrong)
		return wrong;
	if (place == TAP_OWN)
		return judge_told(j, guest, ret);
	if (!ret->src.family)
		return "neither IPv4 nor IPv6";
	if ((place == TO_OWN || place == TO_OTHER || place == OVERLAY) && is_own_report(ret))
		return NULL;
	if (place == TAP_OTHER && (is_own_solicitation(ret) || is_own_expiry(guest, ret)))
		return NULL;
	if (is_from(j->from, ret) && place != FROM_OTHER) {
		wrong = judge_sent(j, place, ret);
		return wrong || place != TAP_OTHER ? wrong : judge_received(guest, ret);
	}
	if (place == UPLINK)
		return is_answer(j->world, ret) && addr_cmp(&ret->src, &guest->spec.ip) == 0 ? NULL : "not its source";
	if (place == TO_OTHER || place == TAP_OTHER)
		return is_answer(j->world, ret) && addr_cmp(&ret->src, &j->from->spec.ip) == 0 ? NULL
		                                                                               : "not its source";
	return is_answer(j->world, ret) ? NULL : "not its source";
}

/* ---- the underlay, and the container ---- */

/* The kernel's own neighbour discovery and reports, between NIC and leaf. */
static bool is_for_the_link(const struct seen *s) {
	return s->src.family == AF_INET6 && s->protocol == PROTO_ICMP6 &&
	       ((s->icmp_type >= 133 && s->icmp_type <= 136) || s->icmp_type == 143) &&
	       (is_below(&s->src, "fe80::/10") || is_addr(&s->src, "::"));
}

const char *judge_outer(const struct world *w, const uint8_t *data, size_t len, const uint8_t **ret_inner,
                        size_t *ret_len) {
	struct seen s;
	const char *wrong = parse_frame(data, len, &s);

	*ret_inner = NULL;
	if (wrong)
		return wrong;
	if (!is_mac(s.src_mac, &w->nic_mac))
		return "not the NIC's MAC";
	if (is_for_the_link(&s))
		return NULL;
	if (s.fragment || s.src.family != AF_INET6 || s.protocol != IPPROTO_UDP || s.dport != VXLAN_PORT)
		return "neither VXLAN nor the kernel's own";
	if (addr_cmp(&s.src, &w->config.vtep) != 0 || addr_cmp(&s.dst, &w->edge) != 0)
		return "VXLAN of others";
	if (s.upper_len < 16 || memcmp(s.upper + 12, (uint8_t[]){0, 0, (uint8_t)w->config.vni, 0}, 4) != 0)
		return "another network of VXLAN";
	*ret_inner = s.upper + 16;
	*ret_len = s.upper_len - 16;
	return NULL;
}

const char *judge_local(const struct guest *g, uint8_t protocol, const struct addr *src, const struct addr *dst,
                        int hops, const uint8_t *upper, size_t len) {
	bool six = src->family == AF_INET6;

	/* Requests of metadata, from an address of the guest. */
	if (protocol == IPPROTO_TCP && is_metadata(dst) && len >= 4 && upper[2] == 0 && upper[3] == 80)
		return (six ? guest_has6(g, src) || is_below(src, "fe80::/64")
		            : g->spec.ipv4 != INSTNET_NO_IPV4 && addr_cmp(src, &g->spec.address4) == 0)
		               ? NULL
		               : "a request of metadata with another source";
	if (six && protocol == PROTO_ICMP6 && len >= 8) {
		bool neighbour = upper[0] == 133 || upper[0] == 135 || upper[0] == 136;
		bool own = guest_has6(g, src) || is_below(src, "fe80::/64") || (neighbour && is_addr(src, "::"));
		if ((upper[0] != 128 && !neighbour) || (neighbour && hops != 255))
			return "not a message for the router";
		return own ? NULL : "not its source";
	}
	/* Requests of DHCPv6. */
	if (six && protocol == IPPROTO_UDP && len >= 8 && memcmp(upper, "\x02\x22\x02\x23", 4) == 0)
		return is_below(src, "fe80::/64") && (is_addr(dst, "ff02::1:2") || is_addr(dst, "fe80::1"))
		               ? NULL
		               : "a request of DHCPv6 with another address";
	if (six || g->spec.ipv4 == INSTNET_NO_IPV4 || len < 8)
		return "nothing that the container reads";
	bool own = addr_cmp(src, &g->spec.address4) == 0, gateway = is_addr(dst, "169.254.0.1");
	if (protocol == IPPROTO_ICMP)
		return own && gateway && upper[0] == 8 ? NULL : "not an echo request for the gateway";
	bool ports = upper[0] == 0 && upper[1] == 68 && upper[2] == 0 && upper[3] == 67;
	bool first = is_addr(src, "0.0.0.0") && is_addr(dst, "255.255.255.255");
	bool later = own && (gateway || is_addr(dst, "255.255.255.255"));
	return protocol == IPPROTO_UDP && ports && (first || later) ? NULL : "not a request of DHCP";
}
