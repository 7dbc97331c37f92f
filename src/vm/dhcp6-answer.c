/* SPDX-License-Identifier: Apache-2.0 */

/* DHCPv6 messages: what a client asks and what it is answered (RFC 8415). Reads and writes memory only. */

#include <arpa/inet.h>
#include <string.h>

#include "base/util.h"
#include "vm/dhcp6.h"
#include "vm/guestdns.h"

/* Section 7.3 */
enum dhcp6_type {
	D6_NO_ANSWER = 0,
	D6_SOLICIT = 1,
	D6_ADVERTISE = 2,
	D6_REQUEST = 3,
	D6_CONFIRM = 4,
	D6_RENEW = 5,
	D6_REBIND = 6,
	D6_REPLY = 7,
	D6_RELEASE = 8,
	D6_DECLINE = 9,
	D6_INFORM = 11,
};

/* Section 21; DNS by RFC 3646 */
enum dhcp6_code {
	D6_CLIENT_ID = 1,
	D6_SERVER_ID = 2,
	D6_IA_NA = 3,
	D6_IA_TA = 4,
	D6_ADDRESS = 5,
	D6_ASKED = 6,
	D6_PREFERENCE = 7,
	D6_ELAPSED = 8,
	D6_STATUS = 13,
	D6_RAPID = 14,
	D6_DNS = 23,
	D6_SEARCH = 24,
	D6_IA_PD = 25,
	D6_PREFIX = 26,
	D6_REFRESH = 32,
};

/* Section 21.13 */
enum dhcp6_status {
	D6_SUCCESS = 0,
	D6_NO_ADDRESS = 2,
	D6_NO_BINDING = 3,
	D6_NOT_ON_LINK = 4,
	D6_USE_MULTICAST = 5,
	D6_NO_PREFIX = 6,
};

#define HEAD         4 /* type and transaction id */
#define OPTION_HEAD  4 /* code and length */
#define IAID_LEN     4
#define DUID_MIN     3   /* a type and one byte (section 11.1) */
#define DUID_MAX     130 /* a type and 128 bytes */
#define DUID_UUID    4   /* section 11.5 */
#define UUID_LEN     16
#define SERVER_DUID  (2 + UUID_LEN)
#define REFRESH_MIN  600 /* IRT_MINIMUM (section 7.6) */
#define SIZE_MAX_IP  1500
#define IP_UDP       48 /* bytes of the headers of IPv6 and UDP */
#define FORMER_MAX   8  /* so many former addresses and prefixes are answered in one message */
#define ADDRESS_LEN  24 /* of an IA address option: address, two lifetimes */
#define PREFIX_LEN   25 /* of an IA prefix option: two lifetimes, length, prefix */
#define ITEM_LEN_MAX PREFIX_LEN
_Static_assert(SIZE_MAX_IP - IP_UDP == DHCP6_MESSAGE_MAX, "the largest reply");

/* What a message has in an identity association, for addresses or for prefixes. */
struct ia_kind {
	uint16_t code, item;
	size_t head, item_len; /* bytes before its options, and of an address or prefix */
	enum dhcp6_status exhausted;
};

static const struct ia_kind ia_kinds[] = {
	{D6_IA_NA, D6_ADDRESS, 12, ADDRESS_LEN, D6_NO_ADDRESS},
	{D6_IA_TA, D6_ADDRESS, IAID_LEN, ADDRESS_LEN, D6_NO_ADDRESS},
	{D6_IA_PD, D6_PREFIX, 12, PREFIX_LEN, D6_NO_PREFIX},
};

struct dhcp6_option {
	uint16_t code;
	const uint8_t *value;
	size_t len;
};

struct ia {
	const struct ia_kind *kind;
	const uint8_t *value;
	size_t len;
	bool bound; /* this one has the guest's address or prefix */
};

struct dhcp6_request {
	uint8_t type, xid[3];
	struct dhcp6_option client_id, server_id, asked, elapsed, rapid; /* code 0: not given */
	struct ia ias[DHCP6_IAS_MAX];
	size_t n_ias;
};

/* ---- what is asked ---- */

static uint16_t get_u16(const uint8_t *p) {
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* Reads the option at *AT. Returns false at the end, and if the option is longer than what is left; then *AT isn't LEN.
 */
static bool next_option(const uint8_t *p, size_t len, size_t *at, struct dhcp6_option *ret) {
	if (len - *at < OPTION_HEAD || get_u16(p + *at + 2) > len - *at - OPTION_HEAD)
		return false;
	*ret = (struct dhcp6_option){get_u16(p + *at), p + *at + OPTION_HEAD, get_u16(p + *at + 2)};
	*at += OPTION_HEAD + ret->len;
	return true;
}

/* The next address or prefix in an IA, from *AT on, which begins at the IA's head. */
static bool next_item(const struct ia *ia, size_t *at, const uint8_t **ret) {
	for (struct dhcp6_option o; next_option(ia->value, ia->len, at, &o);)
		if (o.code == ia->kind->item) {
			*ret = o.value;
			return true;
		}
	return false;
}

static bool read_ia(struct dhcp6_request *q, const struct ia_kind *kind, const struct dhcp6_option *o) {
	struct ia ia = {.kind = kind, .value = o->value, .len = o->len};
	struct dhcp6_option in;
	size_t at = kind->head;

	if (o->len < kind->head || q->n_ias == ARRAY_SIZE(q->ias))
		return false;
	while (next_option(o->value, o->len, &at, &in))
		if (in.code == kind->item && in.len < kind->item_len)
			return false;
	q->ias[q->n_ias++] = ia;
	return at == o->len;
}

static bool dhcp6_read_option(struct dhcp6_request *q, const struct dhcp6_option *o) {
	const struct {
		struct dhcp6_option *to;
		uint16_t code;
		size_t min, max;
	} once[] = {
		{&q->client_id, D6_CLIENT_ID, DUID_MIN, DUID_MAX},
		{&q->server_id, D6_SERVER_ID, DUID_MIN, DUID_MAX},
		{&q->asked, D6_ASKED, 0, UINT16_MAX},
		{&q->elapsed, D6_ELAPSED, 2, 2},
		{&q->rapid, D6_RAPID, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(once); i++)
		if (once[i].code == o->code) {
			if (once[i].to->code || o->len < once[i].min || o->len > once[i].max)
				return false;
			*once[i].to = *o;
		}
	for (size_t i = 0; i < ARRAY_SIZE(ia_kinds); i++)
		if (ia_kinds[i].code == o->code && !read_ia(q, &ia_kinds[i], o))
			return false;
	return o->code != D6_ASKED || o->len % 2 == 0;
}

/* The first IA_NA has the address, and the first IA_PD the prefix, if there is one. */
static void bind_ias(const struct vm_config *c, struct dhcp6_request *q) {
	bool address = true, prefix = c->delegated.addr.family != 0;

	for (size_t i = 0; i < q->n_ias; i++) {
		bool *left = q->ias[i].kind->code == D6_IA_NA ? &address : &prefix;
		q->ias[i].bound = *left && q->ias[i].kind->code != D6_IA_TA;
		if (q->ias[i].bound)
			*left = false;
	}
}

static bool dhcp6_read_request(const struct vm_config *c, const uint8_t *msg, size_t len, struct dhcp6_request *q) {
	struct dhcp6_option o;
	size_t at = HEAD;

	memset(q, 0, sizeof(*q));
	if (len < HEAD)
		return false;
	q->type = msg[0];
	memcpy(q->xid, msg + 1, sizeof(q->xid));
	while (next_option(msg, len, &at, &o))
		if (!dhcp6_read_option(q, &o))
			return false;
	bind_ias(c, q);
	return at == len;
}

/*
 * A DUID-UUID of the instance's UUID, whose version is replaced by 8 (custom, RFC 9562). So it isn't the DUID that the
 * guest makes from that UUID itself.
 */
static void server_duid(const struct vm_config *c, uint8_t out[static SERVER_DUID]) {
	size_t n = 0;

	memset(out, 0, SERVER_DUID);
	out[1] = DUID_UUID;
	for (const char *p = c->uuid; *p && n < 2UL * UUID_LEN; p++)
		if (*p != '-') {
			const int digit = *p <= '9' ? *p - '0' : *p - 'a' + 10;
			out[2 + n / 2] |= (uint8_t)(n % 2 ? digit : digit << 4);
			n++;
		}
	out[8] = (uint8_t)(0x80 | (out[8] & 0x0f));
}

/* What the message must have (section 16): client and server identifier, and which address it may be sent to. */
static bool is_valid(const struct vm_config *c, const struct dhcp6_request *q, bool multicast) {
	uint8_t duid[SERVER_DUID];
	bool is_ours;

	server_duid(c, duid);
	is_ours = q->server_id.len == sizeof(duid) && memcmp(q->server_id.value, duid, sizeof(duid)) == 0;
	switch (q->type) {
	case D6_SOLICIT:
	case D6_CONFIRM:
	case D6_REBIND: return q->client_id.code && !q->server_id.code && multicast;
	case D6_REQUEST:
	case D6_RENEW:
	case D6_RELEASE:
	case D6_DECLINE: return q->client_id.code && is_ours;
	case D6_INFORM: return (!q->server_id.code || is_ours) && !q->n_ias && multicast;
	default: return false;
	}
}

/* ---- what is answered ---- */

struct dhcp6_reply {
	uint8_t *out;
	size_t len, room;
	unsigned former; /* how many of FORMER_MAX there are */
};

/* Begins an option and returns where its value goes; NULL if there is no room. */
static uint8_t *dhcp6_begin(struct dhcp6_reply *r, uint16_t code, size_t len) {
	uint8_t *p = r->out + r->len;

	if (len + OPTION_HEAD > r->room - r->len)
		return NULL;
	const uint16_t head[] = {htons(code), htons((uint16_t)len)};
	memcpy(p, head, sizeof(head));
	r->len += OPTION_HEAD + len;
	return p + OPTION_HEAD;
}

static void dhcp6_put(struct dhcp6_reply *r, uint16_t code, const void *value, size_t len) {
	uint8_t *p = dhcp6_begin(r, code, len);

	if (p && len)
		memcpy(p, value, len);
}

static void put_status(struct dhcp6_reply *r, enum dhcp6_status status) {
	const uint16_t v = htons((uint16_t)status);

	dhcp6_put(r, D6_STATUS, &v, sizeof(v));
}

/* The guest's address or prefix as the value of an option of KIND, with its lifetimes. */
static void own_item(const struct vm_config *c, const struct ia_kind *kind, uint8_t out[static ITEM_LEN_MAX]) {
	const uint32_t life = htonl((uint32_t)c->lease_s), lifetimes[] = {life, life};

	if (kind->item == D6_PREFIX) {
		memcpy(out, lifetimes, 8);
		out[8] = c->delegated.len;
		memcpy(out + 9, c->delegated.addr.bytes, 16);
		return;
	}
	memcpy(out, c->prefix.addr.bytes, 16);
	out[15] = 2;
	memcpy(out + 16, lifetimes, 8);
}

/* Where an item has its lifetimes. All else is what it is about. */
static size_t lifetimes_at(const struct ia_kind *kind) {
	return kind->item == D6_PREFIX ? 0 : 16;
}

static bool is_on_link(const struct vm_config *c, const uint8_t *address) {
	return memcmp(address, c->prefix.addr.bytes, 8) == 0;
}

/* Whether all addresses of an IA for addresses are in the guest's /64. *COUNT is raised by their number. */
static bool ia_is_on_link(const struct vm_config *c, const struct ia *ia, size_t *count) {
	size_t at = ia->kind->head;
	bool all = true;

	if (ia->kind->item == D6_ADDRESS)
		for (const uint8_t *item; next_item(ia, &at, &item); ++*count)
			all = all && is_on_link(c, item);
	return all;
}

/* What the client has and isn't given any more has lifetimes of 0 (section 18.3.4). */
static void put_former(struct dhcp6_reply *r, const struct ia *ia, const uint8_t *own) {
	size_t at = ia->kind->head, life = lifetimes_at(ia->kind), len = ia->kind->item_len;
	uint8_t v[ITEM_LEN_MAX];

	for (const uint8_t *item; r->former < FORMER_MAX && next_item(ia, &at, &item); r->former++) {
		memcpy(v, item, len);
		if (own) {
			memcpy(v + life, own + life, 8);
			if (memcmp(v, own, len) == 0)
				continue;
		}
		memset(v + life, 0, 8);
		dhcp6_put(r, ia->kind->item, v, len);
	}
}

/* D6_SUCCESS: the guest gets its address or prefix in IA. */
static enum dhcp6_status ia_status(const struct vm_config *c, const struct dhcp6_request *q, const struct ia *ia) {
	size_t count = 0;

	if (q->type == D6_RELEASE || q->type == D6_DECLINE)
		return D6_NO_BINDING;
	if (q->type == D6_REQUEST && !ia_is_on_link(c, ia, &count))
		return D6_NOT_ON_LINK;
	return ia->bound ? D6_SUCCESS : ia->kind->exhausted;
}

/* T1 and T2 are 0.5 and 0.8 of the lease (section 14.2). */
static void put_ia(struct dhcp6_reply *r, const struct vm_config *c, const struct dhcp6_request *q,
                   const struct ia *ia) {
	const enum dhcp6_status status = ia_status(c, q, ia);
	const bool gives = status == D6_SUCCESS;
	const uint32_t t1 = (uint32_t)(c->lease_s / 2), t2 = (uint32_t)(c->lease_s * 4 / 5);
	const uint32_t times[] = {htonl(gives ? t1 : 0), htonl(gives ? t2 : 0)};
	uint8_t *head = dhcp6_begin(r, ia->kind->code, ia->kind->head), own[ITEM_LEN_MAX];

	if (!head)
		return;
	memcpy(head, ia->value, IAID_LEN);
	if (ia->kind->head > IAID_LEN)
		memcpy(head + IAID_LEN, times, sizeof(times));
	own_item(c, ia->kind, own);
	if (gives)
		dhcp6_put(r, ia->kind->item, own, ia->kind->item_len);
	if (q->type == D6_RENEW || q->type == D6_REBIND)
		put_former(r, ia, gives ? own : NULL);
	if (!gives)
		put_status(r, status);
	const uint16_t len = htons((uint16_t)(r->out + r->len - head));
	memcpy(head - sizeof(len), &len, sizeof(len));
}

/* A client that sends no list gets everything. */
static bool dhcp6_is_asked(const struct dhcp6_request *q, uint16_t code) {
	for (size_t i = 0; i < q->asked.len; i += 2)
		if (get_u16(q->asked.value + i) == code)
			return true;
	return !q->asked.code;
}

static void dhcp6_put_asked(struct dhcp6_reply *r, const struct vm_config *c, const struct dhcp6_request *q) {
	const uint32_t refresh = htonl(MAX((uint32_t)c->lease_s, (uint32_t)REFRESH_MIN));
	struct in6_addr dns[VM_DNS_MAX];
	uint8_t search[DHCP6_MESSAGE_MAX];
	size_t n = guestdns_servers6(c, dns);

	if (n && dhcp6_is_asked(q, D6_DNS))
		dhcp6_put(r, D6_DNS, dns, n * sizeof(dns[0]));
	if (q->type == D6_INFORM && dhcp6_is_asked(q, D6_REFRESH))
		dhcp6_put(r, D6_REFRESH, &refresh, sizeof(refresh));
	if (r->room - r->len > OPTION_HEAD && dhcp6_is_asked(q, D6_SEARCH)) {
		n = guestdns_search(c, search, r->room - r->len - OPTION_HEAD);
		if (n)
			dhcp6_put(r, D6_SEARCH, search, n);
	}
}

/* SOLICIT, REQUEST, RENEW, REBIND, INFORMATION-REQUEST */
static enum dhcp6_type put_configuration(struct dhcp6_reply *r, const struct vm_config *c,
                                         const struct dhcp6_request *q) {
	const bool advertises = q->type == D6_SOLICIT && !q->rapid.code;
	const uint8_t most = 255; /* the client need not wait for other servers */

	if (advertises)
		dhcp6_put(r, D6_PREFERENCE, &most, 1);
	else if (q->type == D6_SOLICIT)
		dhcp6_put(r, D6_RAPID, NULL, 0);
	for (size_t i = 0; i < q->n_ias; i++)
		put_ia(r, c, q, &q->ias[i]);
	dhcp6_put_asked(r, c, q);
	return advertises ? D6_ADVERTISE : D6_REPLY;
}

/* A message without an address has no answer (section 18.3.3). */
static enum dhcp6_type put_confirmation(struct dhcp6_reply *r, const struct vm_config *c,
                                        const struct dhcp6_request *q) {
	bool on_link = true;
	size_t count = 0;

	for (size_t i = 0; i < q->n_ias; i++)
		on_link = ia_is_on_link(c, &q->ias[i], &count) && on_link;
	put_status(r, on_link ? D6_SUCCESS : D6_NOT_ON_LINK);
	return count ? D6_REPLY : D6_NO_ANSWER;
}

/* RELEASE and DECLINE: the guest keeps what it has. Only IAs without a binding are told about (section 18.3.7). */
static enum dhcp6_type put_acknowledgement(struct dhcp6_reply *r, const struct vm_config *c,
                                           const struct dhcp6_request *q) {
	put_status(r, D6_SUCCESS);
	for (size_t i = 0; i < q->n_ias; i++)
		if (!q->ias[i].bound)
			put_ia(r, c, q, &q->ias[i]);
	return D6_REPLY;
}

static enum dhcp6_type put_answer(struct dhcp6_reply *r, const struct vm_config *c, const struct dhcp6_request *q,
                                  bool multicast) {
	/* The other messages to the server's own address aren't valid. The client repeats this one (section 18.3.2). */
	if (!multicast) {
		put_status(r, D6_USE_MULTICAST);
		return D6_REPLY;
	}
	switch (q->type) {
	case D6_CONFIRM: return put_confirmation(r, c, q);
	case D6_RELEASE:
	case D6_DECLINE: return put_acknowledgement(r, c, q);
	default: return put_configuration(r, c, q);
	}
}

size_t dhcp6_answer(const struct vm_config *c, const uint8_t *msg, size_t len, bool multicast,
                    uint8_t out[static DHCP6_MESSAGE_MAX]) {
	const size_t most = (size_t)MIN(c->mtu, (int64_t)SIZE_MAX_IP);
	struct dhcp6_reply r = {.out = out, .len = HEAD, .room = most - IP_UDP};
	uint8_t duid[SERVER_DUID];
	struct dhcp6_request q;

	if (!dhcp6_read_request(c, msg, len, &q) || !is_valid(c, &q, multicast))
		return 0;
	server_duid(c, duid);
	if (q.client_id.code)
		dhcp6_put(&r, D6_CLIENT_ID, q.client_id.value, q.client_id.len);
	dhcp6_put(&r, D6_SERVER_ID, duid, sizeof(duid));
	const enum dhcp6_type type = put_answer(&r, c, &q, multicast);
	if (type == D6_NO_ANSWER)
		return 0;
	out[0] = (uint8_t)type;
	memcpy(out + 1, q.xid, sizeof(q.xid));
	return r.len;
}
