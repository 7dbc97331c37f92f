/* SPDX-License-Identifier: Apache-2.0 */
#include "net/link-attrs.h"

#include <linux/if_link.h>
#include <linux/veth.h>
#include <stddef.h>
#include <string.h>

#include "base/util.h"

#define FIELD(attr, type, member) \
	{ attr, type, offsetof(struct link_attrs, member), sizeof(((struct link_attrs *)0)->member), 0, NULL }
#define NEST(attr, header, fields) \
	{ attr, NL_NEST, 0, 0, header, fields }
#define HALF(member)                                                                         \
	FIELD(IFLA_IFNAME, NL_TEXT, member.name), FIELD(IFLA_ADDRESS, NL_BYTES, member.mac), \
		FIELD(IFLA_MTU, NL_U32, member.mtu), FIELD(IFLA_NET_NS_FD, NL_U32, member.netns_fd)

static const struct nl_field common[] = {
	HALF(own), FIELD(IFLA_LINK, NL_U32, other), FIELD(IFLA_MASTER, NL_U32, master), {0}};

static const struct nl_field peer[] = {HALF(peer), {0}};
static const struct nl_field veth_data[] = {NEST(VETH_INFO_PEER, sizeof(struct ifinfomsg), peer), {0}};
static const struct nl_field vxlan_data[] = {FIELD(IFLA_VXLAN_ID, NL_U32, vxlan.vni),
                                             FIELD(IFLA_VXLAN_LOCAL6, NL_ADDR6, vxlan.local),
                                             FIELD(IFLA_VXLAN_PORT, NL_U16_BE, vxlan.port),
                                             FIELD(IFLA_VXLAN_LEARNING, NL_U8_ALWAYS, vxlan.learning),
                                             {0}};

#define KIND FIELD(IFLA_INFO_KIND, NL_TEXT, kind)
static const struct nl_field plain_info[] = {KIND, {0}};
static const struct nl_field veth_info[] = {KIND, NEST(IFLA_INFO_DATA, 0, veth_data), {0}};
static const struct nl_field vxlan_info[] = {KIND, NEST(IFLA_INFO_DATA, 0, vxlan_data), {0}};

/* The attributes that only links of one kind have. */
static const struct nl_field plain[] = {NEST(IFLA_LINKINFO, 0, plain_info), {0}};
static const struct nl_field veth[] = {NEST(IFLA_LINKINFO, 0, veth_info), {0}};
static const struct nl_field vxlan[] = {NEST(IFLA_LINKINFO, 0, vxlan_info), {0}};

static const struct nl_field *link_attrs_fields_of(const char *kind) {
	return streq(kind, "veth") ? veth : streq(kind, "vxlan") ? vxlan : plain;
}

void link_attrs_put(struct nlmsghdr *h, const struct link_attrs *a) {
	nl_put_fields(h, common, a);
	if (*a->kind)
		nl_put_fields(h, link_attrs_fields_of(a->kind), a);
}

int link_create(struct nl *nl, const struct link_attrs *a, struct error *err) {
	struct ifinfomsg i = {0};
	struct nlmsghdr *h = nl_request(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &i, sizeof(i));
	link_attrs_put(h, a);
	return nl_send(nl, h, err, "create %s device `%s`", a->kind, a->own.name);
}

void link_decode(const struct nlmsghdr *h, struct link *ret) {
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	struct link_attrs a = {0};
	nl_read_fields(h, sizeof(*i), common, &a);
	nl_read_fields(h, sizeof(*i), plain, &a);
	nl_read_fields(h, sizeof(*i), link_attrs_fields_of(a.kind), &a);
	*ret = (struct link){.index = i->ifi_index,
	                     .flags = i->ifi_flags,
	                     .mtu = a.own.mtu,
	                     .mac = a.own.mac,
	                     .peer = streq(a.kind, "veth") ? a.other : 0,
	                     .carrier = (i->ifi_flags & IFF_RUNNING) != 0,
	                     .vxlan = {.vni = a.vxlan.vni,
	                               .port = a.vxlan.port,
	                               .local = a.vxlan.local,
	                               .learning = a.vxlan.learning != 0}};
	memcpy(ret->name, a.own.name, sizeof(ret->name));
	memcpy(ret->kind, a.kind, sizeof(ret->kind));
}
