/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A table of the balancer, and what its program does with a packet (BPF_PROG_TEST_RUN). Only for test-*.c files. */

#include "service/testing.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>

#include "base/util.h"
#include "service/balancer.h"
#include "service/testpacket.h"

#define SHARED "198.51.100.3"

static struct addr own;
static struct balancer *table;
static int netns = -1;

static struct balancer_endpoint endpoint(unsigned n) {
	struct balancer_endpoint e = {.vtep = addr("fd5c:a1ab:e::1000"), .mac = {{2, 0, 0}}};
	put16(e.vtep.bytes + 14, n);
	e.vtep.bytes[12] = (uint8_t)(n >> 16);
	put16(e.mac.bytes + 2, n);
	put16(e.mac.bytes + 4, n);
	return e;
}

static struct balancer *new_table(void) {
	struct balancer *b;
	const struct balancer_config c = {.netns_fd = netns, .vtep = own, .vni = TEST_VNI};
	OK(balancer_open(&b, &c, &error));
	return b;
}

static void set(const char *s, unsigned e) {
	struct slice sl = slice(s);
	struct balancer_endpoint ep = endpoint(e);
	OK(balancer_set(table, &sl, &ep, &error));
}

static int teardown(void **state) {
	table = balancer_free(table);
	netns = safe_close(netns);
	return 0;
}

/* Runs the program on P and puts what comes out into OUT. */
static unsigned verdict(const struct balancer *b, const struct packet *p, struct packet *out) {
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p->data, .data_size_in = p->len, .data_out = out->data,
	            .data_size_out = sizeof(out->data), .repeat = 1);
	int r = bpf_prog_test_run_opts(balancer_program(b), &o);
	if (r < 0)
		fail_msg("test run of %u bytes: %s", p->len, strerror(-r));
	out->len = o.data_size_out;
	return o.retval;
}

static struct packet packet(uint8_t protocol, unsigned options, const void *payload, size_t len) {
	struct packet p;
	packet_make(&p, &own, SHARED, protocol, options, payload, len);
	return p;
}

static struct packet udp(unsigned port) {
	uint8_t d[12] = {0x12, 0x34};
	put16(d + 2, port);
	put16(d + 4, sizeof(d));
	return packet(IPPROTO_UDP, 0, d, sizeof(d));
}
