/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/bgp.h"

#include <jansson.h>
#include <string.h>

#include "base/util.h"

static const struct frrconf_activation activation4 = {.prefix_list_in = "default4", .as_path_list_out = "own"},
				       activation6 = {.prefix_list_in = "default6", .as_path_list_out = "own"};

static void fill_family(const struct bgp_config *c, int family, struct frrconf *out) {
	for (size_t i = 0; i < c->n_announce; i++)
		if (c->announce[i].addr.family == family)
			frrconf_network(out, &c->announce[i]);
	for (size_t i = 0; i < c->n_peers; i++)
		frrconf_activate(out, family, c->peers[i].neighbor, family == AF_INET ? &activation4 : &activation6);
	frrconf_paths(out, family, 16);
}

void bgp_config_fill(const struct bgp_config *c, struct frrconf *out) {
	const struct prefix default4 = {.addr.family = AF_INET}, default6 = {.addr.family = AF_INET6};
	uint32_t asn = c->local_asn;
	if (!c->n_peers)
		asn = c->keep_neighbors ? frrconf_asn(c->before) : 0;
	if (!asn)
		return;
	frrconf_prefix_list_permit(out, "default4", 5, &default4);
	frrconf_prefix_list_permit(out, "default6", 5, &default6);
	frrconf_as_path_list_permit(out, "own", 5, "^$");
	frrconf_bgp(out, &(struct frrconf_bgp){
				 .asn = asn, .router_id = c->router_id, .coalesce_ms = 10, .any_network = true});
	for (size_t i = 0; i < c->n_peers; i++) {
		const struct bgp_peer *p = &c->peers[i];
		frrconf_neighbor(out,
		                 &(struct frrconf_neighbor){.kind = p->unnumbered ? FRRCONF_DEVICE : FRRCONF_ADDRESS,
		                                            .name = p->neighbor,
		                                            .remote_asn = p->remote_asn,
		                                            .keepalive_s = 1,
		                                            .hold_s = 3,
		                                            .connect_s = 1,
		                                            .extended_nexthop = true,
		                                            .ttl_security = p->ttl_security,
		                                            .password = p->password});
	}
	fill_family(c, AF_INET, out);
	fill_family(c, AF_INET6, out);
	if (c->keep_neighbors)
		frrconf_keep_neighbors(out, c->before, &activation4, &activation6);
	if (c->keep_networks)
		frrconf_keep_networks(out, c->before);
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
