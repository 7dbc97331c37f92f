/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/routers.h"

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

static void leaf_config(const struct lab *lab, int i, const char *secret, struct buf *b) {
	buf_printf(b,
	           "router bgp %lld\n"
	           " bgp router-id 10.255.0.%d\n"
	           " no bgp ebgp-requires-policy\n"
	           " no bgp default ipv4-unicast\n"
	           " bgp bestpath as-path multipath-relax\n"
	           " neighbor fabric peer-group\n"
	           " neighbor fabric remote-as external\n"
	           " neighbor fabric timers 1 3\n"
	           " neighbor fabric timers connect 1\n"
	           " neighbor fabric advertisement-interval 0\n"
	           " neighbor fabric password %s\n",
	           4200000000LL + i + 1, i + 1, secret);
	for (int n = 0; n < lab_machines(lab); n++) {
		struct lab_machine m;
		lab_machine(lab, n, &m);
		buf_printf(b, " neighbor %s interface peer-group fabric\n", m.name);
	}
	buf_puts(b, " address-family ipv6 unicast\n"
	            "  neighbor fabric activate\n"
	            "  maximum-paths 16\n");
}

static void internet_config(const char *secret, struct buf *b) {
	buf_printf(b,
	           "router bgp %d\n"
	           " bgp router-id %s\n"
	           " no bgp ebgp-requires-policy\n"
	           " no bgp default ipv4-unicast\n"
	           " bgp bestpath as-path multipath-relax\n"
	           " neighbor edges peer-group\n"
	           " neighbor edges remote-as external\n"
	           " neighbor edges timers 1 3\n"
	           " neighbor edges timers connect 1\n"
	           " neighbor edges advertisement-interval 0\n"
	           " neighbor edges capability extended-nexthop\n"
	           " neighbor edges ttl-security hops 1\n"
	           " neighbor edges password %s\n",
	           LAB_ASN_INTERNET, LAB_INTERNET_ADDRESS4, secret);
	for (int n = 1; n <= LAB_EDGES; n++)
		buf_printf(b, " neighbor edge%d interface peer-group edges\n", n);
	for (int v6 = 0; v6 < 2; v6++)
		buf_printf(b,
		           " address-family %s unicast\n"
		           "  neighbor edges activate\n"
		           "  neighbor edges default-originate\n"
		           "  maximum-paths 16\n",
		           v6 ? "ipv6" : "ipv4");
}

int lab_router_ensure(const struct lab *lab, int i, struct error *err) {
	struct router r;
	char secret[BGP_PASSWORD_MAX + 1];
	_buf_free_ struct buf b = {.max = 16384};
	router_init(lab, i, &r);
	int q = lab_router_passwords(lab, err);
	if (q >= 0)
		q = password(lab, i < LAB_LEAVES ? "underlay" : "internet", secret, err);
	if (q < 0)
		return q;
	if (i < LAB_LEAVES)
		leaf_config(lab, i, secret, &b);
	else
		internet_config(secret, &b);
	q = buf_error(&b, "FRR configuration", err);
	if (q < 0)
		return q;
	q = frr_ensure(&r.frr, "", b.data, err);
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
