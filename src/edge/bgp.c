/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/bgp.h"

#include <jansson.h>
#include <string.h>

#include "base/util.h"

static void print_family(const struct bgp_config *c, int family, struct buf *out) {
	char text[PREFIX_STR_MAX];
	buf_printf(out, " address-family %s unicast\n", family == AF_INET ? "ipv4" : "ipv6");
	for (size_t i = 0; i < c->n_announce; i++)
		if (c->announce[i].addr.family == family)
			buf_printf(out, "  network %s\n", prefix_str(&c->announce[i], text));
	for (size_t i = 0; i < c->n_peers; i++) {
		const char *n = c->peers[i].neighbor;
		buf_printf(out,
		           "  neighbor %s activate\n"
		           "  neighbor %s prefix-list default%d in\n"
		           "  neighbor %s filter-list own out\n",
		           n, n, family == AF_INET ? 4 : 6, n);
	}
	buf_puts(out, "  maximum-paths 16\n");
}

void bgp_config_print(const struct bgp_config *c, struct buf *out) {
	uint32_t id = c->router_id;
	buf_puts(out, "frr defaults datacenter\n");
	if (!c->n_peers)
		return;
	buf_printf(out,
	           "ip prefix-list default4 seq 5 permit 0.0.0.0/0\n"
	           "ipv6 prefix-list default6 seq 5 permit ::/0\n"
	           "bgp as-path access-list own seq 5 permit ^$\n"
	           "router bgp %u\n"
	           " bgp router-id %u.%u.%u.%u\n"
	           " no bgp default ipv4-unicast\n"
	           " no bgp network import-check\n"
	           " bgp bestpath as-path multipath-relax\n"
	           " coalesce-time 10\n",
	           c->local_asn, id >> 24, id >> 16 & 255, id >> 8 & 255, id & 255);
	for (size_t i = 0; i < c->n_peers; i++) {
		const struct bgp_peer *p = &c->peers[i];
		buf_printf(out,
		           " neighbor %s %sremote-as %u\n"
		           " neighbor %s timers 1 3\n"
		           " neighbor %s timers connect 1\n"
		           " neighbor %s capability extended-nexthop\n",
		           p->neighbor, p->unnumbered ? "interface " : "", p->remote_asn, p->neighbor, p->neighbor,
		           p->neighbor);
		if (p->password[0])
			buf_printf(out, " neighbor %s password %s\n", p->neighbor, p->password);
		if (p->ttl_security)
			buf_printf(out, " neighbor %s ttl-security hops 1\n", p->neighbor);
	}
	print_family(c, AF_INET, out);
	print_family(c, AF_INET6, out);
}

static int64_t number(const json_t *peer, const char *key) {
	int64_t v = json_integer_value(json_object_get(peer, key));
	return v > 0 ? v : 0;
}

int bgp_session_parse(const char *json, size_t len, const char *neighbor, struct bgp_session *ret, struct error *err) {
	static const char *const families[] = {"ipv4Unicast", "ipv6Unicast"};
	struct bgp_session s = {0};
	json_t *root = json_loadb(json, len, 0, NULL);
	if (!json_is_object(root)) {
		json_decref(root);
		return error_set(err, EBADMSG, "FRR's summary of BGP sessions is not a JSON object");
	}
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const json_t *peer =
			json_object_get(json_object_get(json_object_get(root, families[i]), "peers"), neighbor);
		const char *state = json_string_value(json_object_get(peer, "state"));
		if (!state)
			continue;
		snprintf(s.state, sizeof(s.state), "%s", state);
		s.established = streq(state, "Established");
		s.received += number(peer, "pfxRcd");
		s.announced += number(peer, "pfxSnt");
	}
	json_decref(root);
	*ret = s;
	return 0;
}
