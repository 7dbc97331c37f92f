/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/routers.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <string.h>

#include "base/util.h"
#include "lab/topology.h"
#include "net/bgp-password.h"
#include "net/frr.h"

static const char *const names[LAB_ROUTERS] = {"leaf1", "leaf2", "internet"};

const char *lab_router_name(int i) {
	return i >= 0 && i < LAB_ROUTERS ? names[i] : "";
}

struct router {
	char ns[LAB_NS_MAX], dir[LAB_PATH_MAX];
	struct frr frr;
};

static void router_init(const struct lab *lab, int i, struct router *r) {
	lab_ns(lab, names[i], r->ns);
	lab_path(lab, r->dir, "%s", names[i]);
	r->frr = (struct frr){.netns = r->ns, .dir = r->dir};
}

static int password(const struct lab *lab, const char *name, char out[static BGP_PASSWORD_MAX + 1], struct error *err) {
	char path[LAB_PATH_MAX];
	uint8_t random[16];

	lab_path(lab, path, "bgp/%s", name);
	int r = bgp_password_read(path, out, err);
	if (r != -ENOENT)
		return r;
	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(out + 2 * i, 3, "%02x", random[i]);
	return write_file_atomic(path, out, strlen(out), 0600, err);
}

int lab_router_passwords(const struct lab *lab, struct error *err) {
	char dir[LAB_PATH_MAX], text[BGP_PASSWORD_MAX + 1];

	int r = mkdir_p(lab_path(lab, dir, "bgp"), 0700, err);
	if (r >= 0)
		r = password(lab, "underlay", text, err);
	return r < 0 ? r : password(lab, "internet", text, err);
}

static void leaf_config(const struct lab *lab, int i, const char *secret, struct frrconf *out) {
	frrconf_bgp(out, &(struct frrconf_bgp){.asn = (uint32_t)(4200000000 + i + 1),
	                                       .router_id = (uint32_t)(0x0aff0000 + i + 1), /* 10.255.0.0 */
	                                       .no_policy = true});
	frrconf_neighbor(out, &(struct frrconf_neighbor){.kind = FRRCONF_GROUP,
	                                                 .name = "fabric",
	                                                 .keepalive_s = 1,
	                                                 .hold_s = 3,
	                                                 .connect_s = 1,
	                                                 .advertise_at_once = true,
	                                                 .password = secret});
	for (int n = 0; n < lab_machines(lab); n++) {
		struct lab_machine m;
		lab_machine(lab, n, &m);
		frrconf_group_member(out, "fabric", m.name);
	}
	frrconf_activate(out, AF_INET6, "fabric", &(struct frrconf_activation){0});
	frrconf_paths(out, AF_INET6, 16);
}

static void internet_config(const char *secret, struct frrconf *out) {
	static const int families[] = {AF_INET, AF_INET6};
	frrconf_bgp(out, &(struct frrconf_bgp){.asn = LAB_ASN_INTERNET,
	                                       .router_id = ntohl(inet_addr(LAB_INTERNET_ADDRESS4)),
	                                       .no_policy = true});
	frrconf_neighbor(out, &(struct frrconf_neighbor){.kind = FRRCONF_GROUP,
	                                                 .name = "edges",
	                                                 .keepalive_s = 1,
	                                                 .hold_s = 3,
	                                                 .connect_s = 1,
	                                                 .advertise_at_once = true,
	                                                 .extended_nexthop = true,
	                                                 .ttl_security = true,
	                                                 .password = secret});
	for (int n = 1; n <= LAB_EDGES; n++) {
		char device[16];
		snprintf(device, sizeof(device), "edge%d", n);
		frrconf_group_member(out, "edges", device);
	}
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		frrconf_activate(out, families[i], "edges", &(struct frrconf_activation){.originate_default = true});
		frrconf_paths(out, families[i], 16);
	}
}

void lab_router_frrconf(const struct lab *lab, int i, const char *secret, struct frrconf *out) {
	if (i < LAB_LEAVES)
		leaf_config(lab, i, secret, out);
	else
		internet_config(secret, out);
}

int lab_router_ensure(const struct lab *lab, int i, struct error *err) {
	struct router r;
	char secret[BGP_PASSWORD_MAX + 1];
	_frrconf_free_ struct frrconf *config = NULL;
	router_init(lab, i, &r);
	int q = lab_router_passwords(lab, err);
	if (q >= 0)
		q = password(lab, i < LAB_LEAVES ? "underlay" : "internet", secret, err);
	if (q >= 0)
		q = frrconf_new(&config, FRRCONF_TRADITIONAL, err);
	if (q < 0)
		return q;
	lab_router_frrconf(lab, i, secret, config);
	q = frr_ensure(&r.frr, config, err);
	return q < 0 ? error_prefix(err, "%s", names[i]) : 0;
}

int lab_router_stop(const struct lab *lab, int i, struct error *err) {
	struct router r;
	router_init(lab, i, &r);
	return frr_stop(&r.frr, err);
}

static void count_sessions(json_t *summary, int *up, int *all) {
	const char *family, *name;
	json_t *f, *peer;
	*up = *all = 0;
	json_object_foreach(summary, family, f) {
		int n = 0;
		json_object_foreach(json_object_get(f, "peers"), name, peer) {
			const char *state = json_string_value(json_object_get(peer, "state"));
			n++;
			if (streq(state, "Established") && streq(family, "ipv6Unicast"))
				++*up;
		}
		*all = MAX(*all, n);
	}
}

int lab_router_sessions(const struct lab *lab, int i, int *ret_up, int *ret_all, struct error *err) {
	static const char *const cmd[] = {"show bgp summary json", NULL};
	struct router r;
	_buf_free_ struct buf out = {.max = 1 << 20};
	router_init(lab, i, &r);
	int q = frr_command(&r.frr, "bgpd", cmd, &out, err);
	if (q < 0)
		return error_prefix(err, "%s", names[i]);
	json_t *j = json_loadb(out.data ? out.data : "", out.len, 0, NULL);
	if (!j)
		return error_set(err, EBADMSG, "%s: FRR's answer to `%s` is not JSON", names[i], cmd[0]);
	count_sessions(j, ret_up, ret_all);
	json_decref(j);
	return 0;
}
