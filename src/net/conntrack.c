/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>

#include "base/util.h"

#define MESSAGE(type) ((uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | (type)))

#define AT(path) offsetof(struct conntrack_entry, path), sizeof(((struct conntrack_entry *)0)->path)
#define NEST(attr, nested) \
	{ (attr), NL_NEST, 0, 0, 0, (nested) }
#define TUPLE_TABLES(way)                                                                                         \
	static const struct nl_field way##_ip[] = {{CTA_IP_V4_SRC, NL_BYTES, AT(way.src), 0, NULL},               \
	                                           {CTA_IP_V4_DST, NL_BYTES, AT(way.dst), 0, NULL},               \
	                                           {0}};                                                          \
	static const struct nl_field way##_proto[] = {{CTA_PROTO_NUM, NL_BYTES, AT(protocol), 0, NULL},           \
	                                              {CTA_PROTO_SRC_PORT, NL_U16_BE, AT(way.src_port), 0, NULL}, \
	                                              {CTA_PROTO_DST_PORT, NL_U16_BE, AT(way.dst_port), 0, NULL}, \
	                                              {CTA_PROTO_ICMP_ID, NL_U16_BE, AT(way.src_port), 0, NULL},  \
	                                              {0}};                                                       \
	static const struct nl_field way##_tuple[] = {                                                            \
		NEST(CTA_TUPLE_IP, way##_ip), NEST(CTA_TUPLE_PROTO, way##_proto), {0}};
TUPLE_TABLES(original)
TUPLE_TABLES(reply)
static const struct nl_field entry_fields[] = {
	NEST(CTA_TUPLE_ORIG, original_tuple), NEST(CTA_TUPLE_REPLY, reply_tuple), {0}};

static const struct nfgenmsg ipv4 = {.nfgen_family = AF_INET, .version = NFNETLINK_V0};

struct listing {
	void (*fn)(const struct conntrack_entry *e, void *userdata);
	void *userdata;
};

static struct conntrack_entry conntrack_read(const struct nlmsghdr *h) {
	struct conntrack_entry e = {0};

	nl_read_fields(h, sizeof(ipv4), entry_fields, &e);
	if (e.protocol == IPPROTO_ICMP) {
		e.original.dst_port = e.original.src_port;
		e.reply.dst_port = e.reply.src_port;
	}
	return e;
}

static int conntrack_seen(const struct nlmsghdr *h, void *userdata) {
	struct listing *l = userdata;
	const struct conntrack_entry e = conntrack_read(h);

	l->fn(&e, l->userdata);
	return 0;
}

int conntrack_list(struct nl *n, void (*fn)(const struct conntrack_entry *e, void *userdata), void *userdata,
                   struct error *err) {
	struct listing l = {fn, userdata};
	struct nlmsghdr *h = nl_request(n, MESSAGE(IPCTNL_MSG_CT_GET), 0, &ipv4, sizeof(ipv4));

	return nl_dump(n, h, conntrack_seen, &l, err, "list connections");
}

/* A connection to remove, as the kernel named it. The id tells it from a later one with the same addresses. */
struct doomed {
	uint32_t id;
	uint16_t len;
	uint8_t tuple[128]; /* the payload of CTA_TUPLE_ORIG */
};

struct cutting {
	bool (*goes)(const struct conntrack_entry *e, void *userdata);
	void *userdata;
	struct doomed *v;
	size_t n, room;
};

static int cutting_seen(const struct nlmsghdr *h, void *userdata) {
	struct cutting *c = userdata;
	const struct conntrack_entry e = conntrack_read(h);
	const struct nlattr *tb[CTA_ID + 1];

	if (!c->goes(&e, c->userdata))
		return 0;
	nl_attrs(h, sizeof(ipv4), tb, CTA_ID);
	if (!tb[CTA_TUPLE_ORIG] || mnl_attr_get_payload_len(tb[CTA_TUPLE_ORIG]) > sizeof(c->v->tuple))
		return -EBADMSG;
	if (c->n == c->room) {
		size_t room = c->room ? 2 * c->room : 64;
		struct doomed *more = reallocarray(c->v, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		c->v = more;
		c->room = room;
	}
	struct doomed *d = &c->v[c->n++];
	d->id = nl_u32(tb[CTA_ID]);
	d->len = mnl_attr_get_payload_len(tb[CTA_TUPLE_ORIG]);
	memcpy(d->tuple, mnl_attr_get_payload(tb[CTA_TUPLE_ORIG]), d->len);
	return 0;
}

/* The first failure of a batch. A connection that has ended meanwhile is gone, as it should be. */
static void on_cut_failed(_unused_ void *cookie, int code, const char *text, void *userdata) {
	struct error *failed = userdata;

	if (code != ENOENT && !failed->code)
		error_set(failed, code, "remove a connection: %s", text);
}

static int cut_all(struct nl *n, const struct cutting *c, struct error *err) {
	struct error failed = {0};
	struct nl_batch b;
	int r = nl_batch_init(&b, n, on_cut_failed, &failed, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < c->n && r >= 0; i++) {
		struct nlmsghdr *h = nl_batch_add(&b, MESSAGE(IPCTNL_MSG_CT_DELETE), 0, &ipv4, sizeof(ipv4), NULL, err);
		if (!h) {
			r = -EIO;
			break;
		}
		mnl_attr_put(h, CTA_TUPLE_ORIG | NLA_F_NESTED, c->v[i].len, c->v[i].tuple);
		mnl_attr_put_u32(h, CTA_ID, c->v[i].id);
	}
	if (r >= 0)
		r = nl_batch_flush(&b, err);
	nl_batch_done(&b);
	if (r >= 0 && failed.code) {
		*err = failed;
		r = -failed.code;
	}
	return r;
}

int conntrack_cut(struct nl *n, bool (*goes)(const struct conntrack_entry *e, void *userdata), void *userdata,
                  struct error *err) {
	struct cutting c = {.goes = goes, .userdata = userdata};
	struct nlmsghdr *h = nl_request(n, MESSAGE(IPCTNL_MSG_CT_GET), 0, &ipv4, sizeof(ipv4));
	int r = nl_dump(n, h, cutting_seen, &c, err, "list connections");

	if (r >= 0 && c.n)
		r = cut_all(n, &c, err);
	free(c.v);
	return r;
}

static int entries_seen(const struct nlmsghdr *h, void *userdata) {
	struct conntrack_stats *s = userdata;
	const struct nlattr *tb[CTA_STATS_GLOBAL_ENTRIES + 1];

	nl_attrs(h, sizeof(ipv4), tb, CTA_STATS_GLOBAL_ENTRIES);
	s->entries = ntohl(nl_u32(tb[CTA_STATS_GLOBAL_ENTRIES]));
	return 0;
}

/* One message a processor. */
static int refused_seen(const struct nlmsghdr *h, void *userdata) {
	struct conntrack_stats *s = userdata;
	const struct nlattr *tb[CTA_STATS_DROP + 1];

	nl_attrs(h, sizeof(ipv4), tb, CTA_STATS_DROP);
	s->refused += ntohl(nl_u32(tb[CTA_STATS_DROP]));
	return 0;
}

int conntrack_stats(struct nl *n, struct conntrack_stats *ret, struct error *err) {
	struct conntrack_stats s = {0};
	struct nlmsghdr *h = nl_request(n, MESSAGE(IPCTNL_MSG_CT_GET_STATS), 0, &ipv4, sizeof(ipv4));
	int r = nl_get(n, h, entries_seen, &s, err, "count connections");

	if (r >= 0) {
		h = nl_request(n, MESSAGE(IPCTNL_MSG_CT_GET_STATS_CPU), 0, &ipv4, sizeof(ipv4));
		r = nl_dump(n, h, refused_seen, &s, err, "count refused connections");
	}
	if (r >= 0)
		*ret = s;
	return r;
}
