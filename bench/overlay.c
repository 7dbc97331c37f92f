/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Measures the overlay alone. Adds N endpoints with three routes each (so 4 N kernel routes, over 100 VTEPs) to the
 * kernel by net/overlay.h, by plain netlink messages from an array, and by `ip -batch`, in one run. Then measures a
 * restart that finds everything in place, single changes, and the memory of an endpoint.
 */

#include <malloc.h>
#include <string.h>

#include "base/loop.h"
#include "base/proc.h"
#include "base/vtep.h"
#include "net/link.h"
#include "net/overlay.h"
#include "net/route.h"
#include "net/underlay.h"
#include "spaces.h"

#define HOSTS  100
#define SINGLE 1000

struct space {
	char name[64];
	int fd;
	struct nl *nl;
	int dev;
};

/* Makes a namespace, and its VXLAN device if UNDERLAY is given. */
static void make_space(struct space *s, const char *name, struct space *underlay) {
	static uint32_t vni;
	struct link_vxlan v = {.name = OVERLAY_DEVICE, .vni = ++vni, .port = VXLAN_PORT, .mtu = OVERLAY_MTU};
	const struct netns_sysctl compat = {"ipv4/nexthop_compat_mode", "0"};
	OK(addr_parse("fd00::1", &v.local, &error));
	v.mac = vtep_router_mac(&v.local);
	make_netns(name, s->name, &s->fd);
	OK(nl_open(&s->nl, s->fd, &error));
	OK(netns_sysctl(s->fd, &compat, 1, &error));
	if (underlay)
		OK(link_ensure_vxlan(underlay->nl, s->nl, s->fd, &v, &s->dev, &error));
}

static void endpoint(unsigned i, struct overlay_endpoint *e, struct prefix p[static 3], char name[static 16]) {
	static const uint8_t ip[2] = {0x20, 0x01};
	snprintf(name, 16, "e%06u", i);
	*e = (struct overlay_endpoint){.name = name, .prefixes = p, .n_prefixes = 3};
	e->ip.family = e->vtep.family = AF_INET6;
	memcpy(e->ip.bytes, ip, 2);
	e->ip.bytes[2] = 1;
	e->ip.bytes[13] = (uint8_t)(i >> 16);
	e->ip.bytes[14] = (uint8_t)(i >> 8);
	e->ip.bytes[15] = (uint8_t)i;
	e->mac.bytes[0] = 2;
	e->vtep.bytes[0] = 0xfd;
	e->vtep.bytes[15] = (uint8_t)(2 + i % HOSTS);
	for (int k = 0; k < 2; k++) {
		p[k] = (struct prefix){.addr = {.family = AF_INET6}, .len = k ? 60 : 64};
		memcpy(p[k].addr.bytes, ip, 2);
		p[k].addr.bytes[2] = (uint8_t)(0xd + k);
		uint64_t v = htobe64((uint64_t)i << (k ? 4 : 0));
		memcpy(p[k].addr.bytes + 3, (uint8_t *)&v + 3, 5);
	}
	p[2] = (struct prefix){
		.addr = {.family = AF_INET, .bytes = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}},
		.len = 32};
}

static int count_one(const struct route *r, void *userdata) {
	++*(unsigned *)userdata;
	return 0;
}

static unsigned count(struct space *s) {
	unsigned n = 0;
	OK(route_dump(s->nl, AF_INET6, count_one, &n, &error));
	OK(route_dump(s->nl, AF_INET, count_one, &n, &error));
	return n;
}

static double seconds(uint64_t since) {
	return (double)(now_monotonic_ns() - since) / 1e9;
}

static void report(const char *endpoint_name, const struct prefix *route, const struct error *err, void *userdata) {
	fprintf(stderr, "%s: %s\n", endpoint_name, err ? err->msg : "ok");
}

static struct overlay *make_overlay(sd_event *loop, struct space *underlay, struct space *public, unsigned n) {
	struct overlay_config c = {.loop = loop,
	                           .underlay_fd = underlay->fd,
	                           .public_fd = public->fd,
	                           .device = OVERLAY_DEVICE,
	                           .report = report};
	struct overlay *o;
	OK(addr_parse("fd00::1", &c.vtep, &error));
	OK(overlay_new(&o, &c, &error));
	for (unsigned i = 0; i < n; i++) {
		struct overlay_endpoint e;
		struct prefix p[3];
		char name[16];
		endpoint(i, &e, p, name);
		OK(overlay_put(o, &e, &error));
	}
	return o;
}

static void ignored(void *cookie, int code, const char *text, void *userdata) {
	++*(unsigned *)userdata;
}

/* The same messages without any bookkeeping: the cost of netlink itself. */
static double raw(struct space *s, unsigned n, bool objects) {
	struct nl_batch b;
	unsigned failures = 0;
	OK(nl_batch_init(&b, s->nl, ignored, &failures, &error));
	struct addr via = {.family = AF_INET6, .bytes = {0xfe, 0x80}};
	for (unsigned h = 0; objects && h < HOSTS; h++) {
		struct nexthop nh = {.id = h + 1, .oif = s->dev, .via = via};
		nh.via.bytes[15] = (uint8_t)(h + 2);
		OK(nexthop_batch(&b, NET_PUT, &nh, NULL, &error));
	}
	uint64_t t = now_monotonic_ns();
	for (unsigned i = 0; i < n; i++) {
		struct overlay_endpoint e;
		struct prefix p[4];
		char name[16];
		endpoint(i, &e, p, name);
		p[3] = prefix_of(&e.ip, 128);
		for (int k = 0; k < 4; k++) {
			struct route r = {.dst = p[k], .metric = 1024};
			if (objects) {
				r.nexthop = i % HOSTS + 1;
			} else {
				r.via = via;
				r.via.bytes[15] = (uint8_t)(i % HOSTS + 2);
				r.oif = s->dev;
			}
			OK(route_batch(&b, NET_PUT, &r, NULL, &error));
		}
	}
	OK(nl_batch_flush(&b, &error));
	double took = seconds(t);
	nl_batch_done(&b);
	if (failures || count(s) != 4 * n)
		fprintf(stderr, "raw: %u failed, %u routes\n", failures, count(s));
	return took;
}

static double ip_batch(struct space *s, unsigned n) {
	char path[64], text[PREFIX_STR_MAX], netns[NETNS_PATH_MAX];
	snprintf(path, sizeof(path), "/tmp/%sbatch", prefix);
	FILE *f = fopen(path, "w");
	if (!f)
		exit(1);
	for (unsigned i = 0; i < n; i++) {
		struct overlay_endpoint e;
		struct prefix p[4];
		char name[16];
		endpoint(i, &e, p, name);
		p[3] = prefix_of(&e.ip, 128);
		for (int k = 0; k < 4; k++)
			fprintf(f, "route add %s proto 78 metric 1024 via %sfe80::%x dev %s\n", prefix_str(&p[k], text),
			        p[k].addr.family == AF_INET ? "inet6 " : "", i % HOSTS + 2, OVERLAY_DEVICE);
	}
	fclose(f);
	const char *argv[] = {"ip", "-batch", path, NULL};
	struct proc_spec spec = {.argv = argv, .netns = netns_path(s->name, netns), .timeout_ms = 300000};
	uint64_t t = now_monotonic_ns();
	OK(proc_run(&spec, NULL, &error));
	double took = seconds(t);
	unlink(path);
	if (count(s) != 4 * n)
		fprintf(stderr, "ip -batch: %u routes\n", count(s));
	return took;
}

/* Adds single endpoints, one after the other, until each is in the kernel. */
static void single(struct overlay *o, sd_event *loop, unsigned n) {
	static uint64_t took[SINGLE];
	struct overlay_stats st;
	for (unsigned i = 0; i < SINGLE; i++) {
		struct overlay_endpoint e;
		struct prefix p[3];
		char name[16];
		endpoint(n + i, &e, p, name);
		uint64_t t = now_monotonic_ns();
		OK(overlay_put(o, &e, &error));
		do {
			if (sd_event_run(loop, 1000000) < 0)
				exit(1);
			overlay_stats(o, &st);
		} while (st.pending);
		took[i] = now_monotonic_ns() - t;
	}
	printf("  one endpoint more, %u times:      p50 %.3f ms, p99 %.3f ms\n", SINGLE,
	       percentile_ms(took, SINGLE, 50), percentile_ms(took, SINGLE, 99));
}

int main(int argc, char **argv) {
	int64_t n;
	struct space underlay = {0}, public = {0}, other = {0}, plain = {0}, batch = {0};
	struct overlay_stats st;
	sd_event *loop;
	if (argc != 2 || parse_i64(argv[1], 1, 1 << 20, &n, &error) < 0) {
		fprintf(stderr, "usage: bench-overlay ENDPOINTS\n");
		return 2;
	}
	snprintf(prefix, sizeof(prefix), "bo%d-", getpid());
	OK(loop_new(&loop, &error));
	make_space(&underlay, "u", NULL);
	make_space(&public, "p", &underlay);
	make_space(&other, "o", &underlay);
	make_space(&plain, "r", &underlay);
	make_space(&batch, "b", &underlay);

	printf("%lld endpoints, %lld routes\n", (long long)n, (long long)n * 4);
	size_t before = mallinfo2().uordblks;
	uint64_t t = now_monotonic_ns();
	struct overlay *o = make_overlay(loop, &underlay, &public, (unsigned)n);
	double put = seconds(t);
	size_t memory = mallinfo2().uordblks - before;
	OK(overlay_start(o, &error));
	double all = seconds(t);
	overlay_stats(o, &st);
	if (count(&public) != 4 * n || st.failing || st.pending)
		fprintf(stderr, "overlay: %u routes, %zu failing, %zu pending\n", count(&public), st.failing,
		        st.pending);
	double objects = raw(&other, (unsigned)n, true), gateways = raw(&plain, (unsigned)n, false);
	double ip = ip_batch(&batch, (unsigned)n);
	printf("  overlay, from nothing to the kernel: %.3f s (%.3f s of it in memory)\n", all, put);
	printf("  bare netlink, same messages:         %.3f s; with gateways, no nexthop objects: %.3f s\n", objects,
	       gateways);
	printf("  ip -batch:                           %.3f s\n", ip);
	printf("  overlay / ip -batch:                 %.3f\n", all / ip);
	printf("  memory an endpoint:                  %zu bytes\n", memory / (size_t)n);
	single(o, loop, (unsigned)n);
	overlay_free(o);
	t = now_monotonic_ns();
	o = make_overlay(loop, &underlay, &public, (unsigned)n + SINGLE);
	OK(overlay_start(o, &error));
	overlay_stats(o, &st);
	printf("  restart, all found in place:         %.3f s, %llu messages sent\n", seconds(t),
	       (unsigned long long)st.messages);
	overlay_free(o);
	sd_event_unref(loop);
	nl_free(underlay.nl);
	nl_free(public.nl);
	nl_free(other.nl);
	nl_free(plain.nl);
	nl_free(batch.nl);
	cleanup();
	return 0;
}
