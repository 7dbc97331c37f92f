/* SPDX-License-Identifier: Apache-2.0 */

/* DHCPv4 messages: what a client asks and what it is answered. Reads and writes memory only. */

#include <arpa/inet.h>
#include <string.h>

#include "base/util.h"
#include "vm/dhcp4.h"

enum message_type { DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5, NAK = 6, INFORM = 8, NO_ANSWER = 0 };

enum option {
	OPT_PAD = 0,
	OPT_MASK = 1,
	OPT_ROUTER = 3,
	OPT_DNS = 6,
	OPT_HOSTNAME = 12,
	OPT_DOMAIN = 15,
	OPT_MTU = 26,
	OPT_REQUESTED = 50,
	OPT_LEASE = 51,
	OPT_OVERLOAD = 52,
	OPT_TYPE = 53,
	OPT_SERVER = 54,
	OPT_ASKED = 55,
	OPT_MESSAGE = 56,
	OPT_MAX_SIZE = 57,
	OPT_T1 = 58,
	OPT_T2 = 59,
	OPT_CLIENT_ID = 61,
	OPT_SEARCH = 119,
	OPT_ROUTES = 121,
	OPT_END = 255,
};

#define BOOTREQUEST 1
#define BOOTREPLY   2
#define ETHERNET    1
#define BROADCAST   0x8000
#define COOKIE      0x63825363
#define REPLY_MIN   300 /* clients of BOOTP's time drop shorter messages (RFC 1542, section 2.1) */
#define SIZE_MIN    576 /* each client takes an IP packet of this size (RFC 2131, section 2) */
#define SIZE_MAX_IP 1500
#define IP_UDP      28 /* bytes of the headers of IP and UDP */
_Static_assert(SIZE_MAX_IP - IP_UDP == DHCP4_MESSAGE_MAX, "the largest reply");

struct head {
	uint8_t op, htype, hlen, hops;
	uint32_t xid;
	uint16_t secs, flags;
	struct in_addr ciaddr, yiaddr, siaddr, giaddr;
	uint8_t chaddr[16], sname[64], file[128];
	uint32_t cookie;
};
_Static_assert(sizeof(struct head) == 240, "layout of RFC 2131, section 2");

struct request {
	struct head head;
	uint8_t type, overload;
	struct in_addr requested, server; /* 0: not given */
	uint16_t max_size;                /* network order; 0: not given */
	const uint8_t *client_id;
	uint8_t client_id_len;
	uint64_t seen;      /* bits of the options that may come once */
	uint8_t asked[256]; /* the parameter request list, each option once */
	size_t n_asked;
	bool is_asked[256];
};

static void read_asked(struct request *q, const uint8_t *value, size_t len) {
	for (size_t i = 0; i < len; i++)
		if (!q->is_asked[value[i]]) {
			q->is_asked[value[i]] = true;
			q->asked[q->n_asked++] = value[i];
		}
}

static bool read_option(struct request *q, uint8_t code, const uint8_t *value, uint8_t len) {
	static const struct {
		uint8_t code, len;
		size_t offset;
	} fixed[] = {
		{OPT_REQUESTED, 4, offsetof(struct request, requested)},
		{OPT_OVERLOAD, 1, offsetof(struct request, overload)},
		{OPT_TYPE, 1, offsetof(struct request, type)},
		{OPT_SERVER, 4, offsetof(struct request, server)},
		{OPT_MAX_SIZE, 2, offsetof(struct request, max_size)},
	};

	/* Only this list may be in several parts (RFC 3396). */
	if (code == OPT_ASKED)
		read_asked(q, value, len);
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		if (fixed[i].code == code) {
			if (len != fixed[i].len || q->seen & 1ULL << code)
				return false;
			q->seen |= 1ULL << code;
			memcpy((uint8_t *)q + fixed[i].offset, value, len);
		}
	if (code == OPT_CLIENT_ID) {
		if (!len || q->client_id)
			return false;
		q->client_id = value;
		q->client_id_len = len;
	}
	return true;
}

/* A missing end is tolerated, as other servers do. */
static bool read_options(struct request *q, const uint8_t *p, size_t len) {
	for (size_t at = 0; at < len && p[at] != OPT_END;) {
		if (p[at] == OPT_PAD) {
			at++;
			continue;
		}
		if (len - at < 2 || p[at + 1] > len - at - 2 || !read_option(q, p[at], p + at + 2, p[at + 1]))
			return false;
		at += 2U + p[at + 1];
	}
	return true;
}

static bool read_request(const struct vm_config *c, const uint8_t *msg, size_t len, struct request *q) {
	const struct head *h = &q->head;

	memset(q, 0, sizeof(*q));
	if (len < sizeof(*h))
		return false;
	memcpy(&q->head, msg, sizeof(*h));
	if (h->op != BOOTREQUEST || h->htype != ETHERNET || h->hlen != sizeof(c->mac) || h->giaddr.s_addr ||
	    h->cookie != htonl(COOKIE) || memcmp(h->chaddr, &c->mac, sizeof(c->mac)) != 0)
		return false;
	if (!read_options(q, msg + sizeof(*h), len - sizeof(*h)))
		return false;
	/* The order of RFC 3396, section 5. A second option "overload" in there is refused as given twice. */
	if (q->overload & 1 && !read_options(q, h->file, sizeof(h->file)))
		return false;
	return !(q->overload & 2) || read_options(q, h->sname, sizeof(h->sname));
}

static bool is_other(struct in_addr a, struct in_addr own) {
	return a.s_addr && a.s_addr != own.s_addr;
}

static enum message_type choose_answer(const struct vm_config *c, const struct request *q) {
	const struct in_addr ciaddr = q->head.ciaddr, own = c->ipv4.v4;

	switch (q->type) {
	case DISCOVER: return OFFER;
	case REQUEST:
		/* The client has chosen another server's offer. */
		if (q->seen & 1ULL << OPT_SERVER && q->server.s_addr != c->ipv4_router.v4.s_addr)
			return NO_ANSWER;
		if (!q->requested.s_addr && !ciaddr.s_addr)
			return NO_ANSWER;
		return is_other(q->requested, own) || is_other(ciaddr, own) ? NAK : ACK;
	case INFORM: return ciaddr.s_addr == own.s_addr ? ACK : NO_ANSWER;
	default: return NO_ANSWER;
	}
}

struct reply {
	uint8_t *out;
	size_t len, room; /* room leaves a byte for the end */
};

/* Leaves out an option that is empty or for which there is no room. */
static void dhcp4_put(struct reply *r, uint8_t code, const void *value, size_t len) {
	if (!len || len > UINT8_MAX || len + 2 > r->room - r->len)
		return;
	r->out[r->len++] = code;
	r->out[r->len++] = (uint8_t)len;
	memcpy(r->out + r->len, value, len);
	r->len += len;
}

static void dhcp4_put_u32(struct reply *r, uint8_t code, uint32_t value) {
	value = htonl(value);
	dhcp4_put(r, code, &value, sizeof(value));
}

/* The router itself is on-link, and everything else is behind it (RFC 3442). */
static void put_routes(struct reply *r, struct in_addr router) {
	uint8_t v[14] = {32};

	memcpy(v + 1, &router, 4);
	/* Then come the gateway 0.0.0.0, the prefix length 0, and the router. */
	memcpy(v + 10, &router, 4);
	dhcp4_put(r, OPT_ROUTES, v, sizeof(v));
}

static void put_dns(struct reply *r, const struct vm_config *c) {
	struct in_addr v[VM_DNS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < c->n_dns; i++)
		if (c->dns[i].address.family == AF_INET)
			v[n++] = c->dns[i].address.v4;
	dhcp4_put(r, OPT_DNS, v, n * sizeof(v[0]));
}

static void put_search(struct reply *r, const struct vm_config *c) {
	uint8_t v[UINT8_MAX];
	size_t n = 0;

	for (size_t i = 0; i < c->n_search; i++)
		n += dnsname_put(c->search[i].domain, v + n, sizeof(v) - n);
	dhcp4_put(r, OPT_SEARCH, v, n);
}

static void put_asked(struct reply *r, const struct vm_config *c, uint8_t code) {
	const uint16_t mtu = htons((uint16_t)c->mtu);

	switch (code) {
	case OPT_ROUTES: put_routes(r, c->ipv4_router.v4); break;
	case OPT_ROUTER: dhcp4_put(r, code, &c->ipv4_router.v4, 4); break;
	case OPT_MTU: dhcp4_put(r, code, &mtu, sizeof(mtu)); break;
	case OPT_DNS: put_dns(r, c); break;
	case OPT_HOSTNAME: dhcp4_put(r, code, c->hostname, strlen(c->hostname)); break;
	case OPT_DOMAIN: dhcp4_put(r, code, c->domain, strlen(c->domain)); break;
	case OPT_SEARCH: put_search(r, c); break;
	}
}

static bool is_route(uint8_t code) {
	return code == OPT_ROUTES || code == OPT_ROUTER;
}

/*
 * What was asked for, in the order of the list, but routes first: without them the address is of no use if there is
 * room for little. A client without a list gets everything.
 */
static void put_all_asked(struct reply *r, const struct vm_config *c, const struct request *q) {
	static const uint8_t everything[] = {OPT_ROUTES, OPT_ROUTER, OPT_DNS, OPT_HOSTNAME,
	                                     OPT_DOMAIN, OPT_SEARCH, OPT_MTU};
	const uint8_t *asked = q->n_asked ? q->asked : everything;
	const size_t n = q->n_asked ? q->n_asked : sizeof(everything);

	for (size_t i = 0; i < n; i++)
		if (is_route(asked[i]))
			put_asked(r, c, asked[i]);
	for (size_t i = 0; i < n; i++)
		if (!is_route(asked[i]))
			put_asked(r, c, asked[i]);
}

static void put_options(struct reply *r, const struct vm_config *c, const struct request *q, enum message_type type) {
	static const char refusal[] = "not the address of this instance";
	const uint8_t t = (uint8_t)type, mask[] = {255, 255, 255, 255};
	const uint32_t lease = (uint32_t)c->lease_s;
	const bool leases = type != NAK && q->type != INFORM;

	dhcp4_put(r, OPT_TYPE, &t, 1);
	dhcp4_put(r, OPT_SERVER, &c->ipv4_router.v4, 4);
	if (leases)
		dhcp4_put_u32(r, OPT_LEASE, lease);
	dhcp4_put(r, OPT_CLIENT_ID, q->client_id, q->client_id_len);
	if (type == NAK) {
		dhcp4_put(r, OPT_MESSAGE, refusal, strlen(refusal));
		return;
	}
	dhcp4_put(r, OPT_MASK, mask, sizeof(mask));
	put_all_asked(r, c, q);
	if (leases) {
		dhcp4_put_u32(r, OPT_T1, lease / 2);
		dhcp4_put_u32(r, OPT_T2, (uint32_t)((uint64_t)lease * 7 / 8));
	}
}

/* The size that the client takes (option 57) counts the headers of IP and UDP. */
static size_t room_for(const struct vm_config *c, const struct request *q) {
	size_t most = (size_t)MIN(c->mtu, (int64_t)SIZE_MAX_IP), takes = MAX(ntohs(q->max_size), SIZE_MIN);

	return MIN(takes, most) - IP_UDP;
}

size_t dhcp4_answer(const struct vm_config *c, const uint8_t *msg, size_t len, uint8_t out[static DHCP4_MESSAGE_MAX],
                    struct in_addr *ret_to) {
	struct request q;

	if (!read_request(c, msg, len, &q))
		return 0;
	const enum message_type type = choose_answer(c, &q);
	if (type == NO_ANSWER)
		return 0;
	const bool has_address = type == ACK && q.head.ciaddr.s_addr, broadcast = q.head.flags & htons(BROADCAST);
	struct head h = {.op = BOOTREPLY,
	                 .htype = ETHERNET,
	                 .hlen = sizeof(c->mac),
	                 .xid = q.head.xid,
	                 .flags = q.head.flags & htons(BROADCAST),
	                 .cookie = htonl(COOKIE)};
	struct reply r = {.out = out, .len = sizeof(h), .room = room_for(c, &q) - 1};
	memcpy(h.chaddr, &c->mac, sizeof(c->mac));
	if (has_address)
		h.ciaddr = c->ipv4.v4;
	if (type != NAK && q.type != INFORM)
		h.yiaddr = c->ipv4.v4;
	memset(out, 0, REPLY_MIN);
	memcpy(out, &h, sizeof(h));
	put_options(&r, c, &q, type);
	out[r.len++] = OPT_END;
	*ret_to = c->ipv4.v4;
	if (type == NAK || (broadcast && !has_address))
		ret_to->s_addr = htonl(INADDR_BROADCAST);
	return MAX(r.len, (size_t)REPLY_MIN);
}
