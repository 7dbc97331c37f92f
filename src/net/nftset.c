/* SPDX-License-Identifier: Apache-2.0 */
#include "net/nftset.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "base/util.h"

#define MESSAGE(type) ((uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | (type)))

/* A message about one element: names, key, data and their headers. */
#define CHANGE_MAX 512
/* The comment among an element's user data, as nft(8) stores it (libnftnl/udata.h): type, length, text with NUL. */
#define UDATA_COMMENT 0

static const struct nfgenmsg inet = {.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0};
static const struct nfgenmsg of_batch = {.version = NFNETLINK_V0, .res_id = __builtin_bswap16(NFNL_SUBSYS_NFTABLES)};

static int genid_seen(const struct nlmsghdr *h, void *userdata) {
	const struct nlattr *tb[NFTA_GEN_ID + 1];

	nl_attrs(h, sizeof(inet), tb, NFTA_GEN_ID);
	*(uint32_t *)userdata = ntohl(nl_u32(tb[NFTA_GEN_ID]));
	return 0;
}

int nftset_genid(struct nl *nl, uint32_t *ret, struct error *err) {
	struct nlmsghdr *h = nl_request(nl, MESSAGE(NFT_MSG_GETGEN), 0, &inet, sizeof(inet));

	return nl_get(nl, h, genid_seen, ret, err, "read the generation of nftables");
}

uint32_t nftset_genid_after(uint32_t genid) {
	return genid == UINT32_MAX ? 1 : genid + 1;
}

/* ---- changes ---- */

static struct nlmsghdr *nftset_message(struct buf *b, uint16_t type, uint16_t flags, const struct nfgenmsg *hdr) {
	void *at = buf_reserve(b, CHANGE_MAX);

	if (!at)
		return NULL;
	struct nlmsghdr *h = mnl_nlmsg_put_header(at);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof(*hdr)), hdr, sizeof(*hdr));
	return h;
}

static void nftset_put_value(struct nlmsghdr *h, uint16_t attr, const void *value, size_t len) {
	struct nlattr *nest = mnl_attr_nest_start(h, attr);

	mnl_attr_put(h, NFTA_DATA_VALUE, len, value);
	mnl_attr_nest_end(h, nest);
}

void nftset_change(struct nftset_batch *b, const char *set, bool add, const void *key, size_t key_len, const void *data,
                   size_t data_len) {
	if (!b->messages.max)
		b->messages.max = NL_TRANSACTION_MAX;
	struct nlmsghdr *h = b->n ? NULL : nftset_message(&b->messages, NFNL_MSG_BATCH_BEGIN, 0, &of_batch);
	if (h && b->genid)
		mnl_attr_put_u32(h, NFNL_BATCH_GENID, htonl(b->genid));
	if (h)
		b->messages.len += h->nlmsg_len;
	h = nftset_message(&b->messages, MESSAGE(add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM), add ? NLM_F_CREATE : 0,
	                   &inet);
	if (!h)
		return;
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, b->table);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
	struct nlattr *list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
	struct nlattr *element = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
	nftset_put_value(h, NFTA_SET_ELEM_KEY, key, MIN(key_len, NFTSET_KEY_MAX));
	if (data)
		nftset_put_value(h, NFTA_SET_ELEM_DATA, data, MIN(data_len, NFTSET_KEY_MAX));
	mnl_attr_nest_end(h, element);
	mnl_attr_nest_end(h, list);
	b->messages.len += MNL_ALIGN(h->nlmsg_len);
	b->n++;
}

int nftset_commit(struct nl *nl, struct nftset_batch *b, struct error *err) {
	struct nlmsghdr *end = b->n ? nftset_message(&b->messages, NFNL_MSG_BATCH_END, 0, &of_batch) : NULL;

	if (end)
		b->messages.len += end->nlmsg_len;
	int r = buf_error(&b->messages, "change of nftables sets", err);
	if (r >= 0 && b->n)
		r = nl_transact(nl, b->messages.data, b->messages.len, err);
	if (r == -ERESTART)
		r = error_set(err, ESTALE, "somebody else has changed nftables");
	buf_reset(&b->messages);
	b->n = 0;
	return r < 0 ? error_prefix(err, "change elements of sets in table inet %s", b->table) : 0;
}

void nftset_batch_done(struct nftset_batch *b) {
	buf_free(&b->messages);
}

/* ---- reading ---- */

static const void *nftset_value(const struct nlattr *nest, size_t *ret_len) {
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, nest) {
		if (mnl_attr_get_type(a) == NFTA_DATA_VALUE) {
			*ret_len = mnl_attr_get_payload_len(a);
			return mnl_attr_get_payload(a);
		}
	}
	*ret_len = 0;
	return NULL;
}

static uint64_t nftset_u64(const struct nlattr *a) {
	uint64_t v = 0;

	return nl_bytes(a, &v, sizeof(v)) ? be64toh(v) : 0;
}

/* Attributes of a counter, in the data of an expression or an object. */
static void nftset_read_counter(const struct nlattr *nest, uint64_t *packets, uint64_t *bytes) {
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, nest) {
		if (mnl_attr_get_type(a) == NFTA_COUNTER_PACKETS)
			*packets = nftset_u64(a);
		else if (mnl_attr_get_type(a) == NFTA_COUNTER_BYTES)
			*bytes = nftset_u64(a);
	}
}

/* Our elements have no expression but a counter. */
static void nftset_read_expression(const struct nlattr *nest, struct nftset_element *e) {
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, nest) {
		if (mnl_attr_get_type(a) == NFTA_EXPR_DATA)
			nftset_read_counter(a, &e->packets, &e->bytes);
	}
}

static const char *nftset_read_comment(const struct nlattr *udata) {
	const uint8_t *p = mnl_attr_get_payload(udata);
	size_t left = mnl_attr_get_payload_len(udata);

	while (left >= 2 && left - 2 >= p[1]) {
		if (p[0] == UDATA_COMMENT && p[1] && p[2 + p[1] - 1] == 0)
			return (const char *)p + 2;
		left -= 2U + p[1];
		p += 2 + p[1];
	}
	return NULL;
}

static struct nftset_element nftset_read_element(const struct nlattr *nest) {
	struct nftset_element e = {0};
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, nest) {
		switch (mnl_attr_get_type(a)) {
		case NFTA_SET_ELEM_KEY: e.key = nftset_value(a, &e.key_len); break;
		case NFTA_SET_ELEM_EXPIRATION: e.expires_ms = nftset_u64(a); break;
		case NFTA_SET_ELEM_EXPR: nftset_read_expression(a, &e); break;
		case NFTA_SET_ELEM_USERDATA: e.comment = nftset_read_comment(a); break;
		default: break;
		}
	}
	return e;
}

struct nftset_listing {
	nftset_fn fn;
	nftset_name_fn name;
	void *userdata;
	size_t n;
};

static int elements_seen(const struct nlmsghdr *h, void *userdata) {
	const struct nftset_listing *l = userdata;
	const struct nlattr *tb[NFTA_SET_ELEM_LIST_ELEMENTS + 1], *a;

	nl_attrs(h, sizeof(inet), tb, NFTA_SET_ELEM_LIST_ELEMENTS);
	if (!tb[NFTA_SET_ELEM_LIST_ELEMENTS])
		return 0;
	mnl_attr_for_each_nested(a, tb[NFTA_SET_ELEM_LIST_ELEMENTS]) {
		const struct nftset_element e = nftset_read_element(a);
		if (e.key)
			l->fn(&e, l->userdata);
	}
	return 0;
}

int nftset_each(struct nl *nl, const char *table, const char *set, nftset_fn fn, void *userdata, struct error *err) {
	struct nftset_listing l = {.fn = fn, .userdata = userdata};
	struct nlmsghdr *h = nl_request(nl, MESSAGE(NFT_MSG_GETSETELEM), 0, &inet, sizeof(inet));

	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
	return nl_dump(nl, h, elements_seen, &l, err, "list set %s of table inet %s", set, table);
}

static int name_seen(const struct nlmsghdr *h, void *userdata) {
	struct nftset_listing *l = userdata;
	const struct nlattr *tb[NFTA_SET_NAME + 1];

	nl_attrs(h, sizeof(inet), tb, NFTA_SET_NAME);
	if (tb[NFTA_SET_NAME] && mnl_attr_validate(tb[NFTA_SET_NAME], MNL_TYPE_NUL_STRING) >= 0) {
		l->name(mnl_attr_get_str(tb[NFTA_SET_NAME]), l->userdata);
		l->n++;
	}
	return 0;
}

int nftset_names(struct nl *nl, const char *table, nftset_name_fn fn, void *userdata, struct error *err) {
	struct nftset_listing l = {.name = fn, .userdata = userdata};
	struct nlmsghdr *h = nl_request(nl, MESSAGE(NFT_MSG_GETSET), 0, &inet, sizeof(inet));

	mnl_attr_put_strz(h, NFTA_SET_TABLE, table);
	int r = nl_dump(nl, h, name_seen, &l, err, "list the sets of table inet %s", table);
	return r < 0 || l.n ? r : error_set(err, ENOENT, "there is no set in table inet %s", table);
}

static int counter_seen(const struct nlmsghdr *h, void *userdata) {
	const struct nlattr *tb[NFTA_OBJ_DATA + 1];
	uint64_t bytes;

	nl_attrs(h, sizeof(inet), tb, NFTA_OBJ_DATA);
	if (tb[NFTA_OBJ_DATA])
		nftset_read_counter(tb[NFTA_OBJ_DATA], userdata, &bytes);
	return 0;
}

int nftset_counter(struct nl *nl, const char *table, const char *name, uint64_t *ret_packets, struct error *err) {
	struct nlmsghdr *h = nl_request(nl, MESSAGE(NFT_MSG_GETOBJ), 0, &inet, sizeof(inet));

	mnl_attr_put_strz(h, NFTA_OBJ_TABLE, table);
	mnl_attr_put_strz(h, NFTA_OBJ_NAME, name);
	mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
	return nl_get(nl, h, counter_seen, ret_packets, err, "read counter %s of table inet %s", name, table);
}
