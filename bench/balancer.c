/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Measures the balancer's program by test runs in the kernel, beside a program that only sends packets back, and how
 * long user space takes to write the tables:
 *
 *   bench-balancer ADDRESSES ROUNDS    prints one JSON object: ns a packet of both, the least of ROUNDS, in turn
 */

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>

#include "balancer.skel.h"
#include "base/util.h"
#include "service/balancer.h"
#include "service/testpacket.h"

#define SLICE_SHIFT   9
#define FIRST_SLICE   2 /* ports from 1024 */
#define SLICES        126
#define FIRST_ADDRESS 0xc6120000 /* 198.18.0.0 */
#define REPEAT        1000000
#define PACKET        134 /* bytes: the smallest in VXLAN that Ethernet would carry */

static void fail(const struct error *err) {
	fprintf(stderr, "bench-balancer: %s\n", err->msg);
	exit(1);
}

#define OK(call)                      \
	do {                          \
		if ((call) < 0)       \
			fail(&error); \
	} while (0)

static struct error error;

static uint32_t measure(const struct balancer_bench_bpf *b, int program) {
	uint32_t zero = 0;
	struct packet p = {.len = PACKET};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p.data, .data_size_in = p.len, .data_out = p.data,
	            .data_size_out = sizeof(p.data), .repeat = REPEAT);
	if (bpf_map_update_elem(bpf_map__fd(b->maps.measured), &zero, &program, BPF_ANY) < 0 ||
	    bpf_prog_test_run_opts(bpf_program__fd(b->progs.pick), &o) < 0)
		fail((error_errno(&error, errno, "test run"), &error));
	if (o.retval != XDP_TX)
		fail((error_set(&error, EINVAL, "test run: verdict %u", o.retval), &error));
	return o.duration;
}

static void fill(struct balancer *table, uint32_t addresses) {
	for (uint32_t i = 0; i < addresses * SLICES; i++) {
		struct addr a = {.family = AF_INET};
		a.v4.s_addr = htonl(FIRST_ADDRESS + i % addresses);
		uint32_t port = (FIRST_SLICE + i / addresses) << SLICE_SHIFT;
		struct slice s = slice_of(&a, (uint16_t)port, 1U << SLICE_SHIFT);
		/* An instance has one slice, a host 100 instances. */
		uint32_t host = i / 100;
		struct balancer_endpoint e = {.vtep.family = AF_INET6, .mac = {{2}}};
		memcpy(e.vtep.bytes, "\xfd\x5c\xa1\xab", 4);
		memcpy(e.vtep.bytes + 12, &host, 4);
		memcpy(e.mac.bytes + 2, &i, 4);
		OK(balancer_set(table, &s, &e, &error));
	}
}

int main(int argc, char **argv) {
	int64_t addresses, rounds;
	struct balancer *table;
	struct balancer_config c = {.netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), .vni = TEST_VNI};
	if (argc != 3) {
		fprintf(stderr, "usage: bench-balancer ADDRESSES ROUNDS\n");
		return 2;
	}
	OK(parse_i64(argv[1], 1, BALANCER_ADDRESSES, &addresses, &error));
	OK(parse_i64(argv[2], 1, 10000, &rounds, &error));
	OK(addr_parse("fd5c:a1ab:1::1", &c.vtep, &error));
	OK(balancer_open(&table, &c, &error));
	uint64_t began = now_monotonic_ns();
	fill(table, (uint32_t)addresses);
	uint64_t filled = now_monotonic_ns() - began;

	struct balancer_bench_bpf *b = balancer_bench_bpf__open();
	struct packet p;
	packet_make(&p, &c.vtep, "198.18.0.0", IPPROTO_UDP, 0, (uint8_t[PACKET - AT_PAYLOAD]){0x12, 0x34},
	            PACKET - AT_PAYLOAD);
	if (!b)
		fail((error_errno(&error, errno, "open the program"), &error));
	memcpy(b->bss->template, p.data, sizeof(b->bss->template));
	b->rodata->addresses = (uint32_t)addresses;
	b->rodata->first_address = FIRST_ADDRESS;
	b->rodata->slices = SLICES;
	b->rodata->first_slice = FIRST_SLICE;
	b->rodata->slice_shift = SLICE_SHIFT;
	if (balancer_bench_bpf__load(b) < 0)
		fail((error_errno(&error, errno, "load the program"), &error));

	uint32_t balancer = UINT32_MAX, reflector = UINT32_MAX;
	for (int64_t i = 0; i < rounds; i++) {
		reflector = MIN(reflector, measure(b, bpf_program__fd(b->progs.reflect)));
		balancer = MIN(balancer, measure(b, balancer_program(table)));
	}
	began = now_monotonic_ns();
	fill(table, (uint32_t)addresses);
	printf("{\"balancer_ns\": %u, \"reflector_ns\": %u, \"slices\": %u, \"fill_s\": %.3f, \"refill_s\": %.3f}\n",
	       balancer, reflector, (unsigned)addresses * SLICES, (double)filled / 1e9,
	       (double)(now_monotonic_ns() - began) / 1e9);
	balancer_bench_bpf__destroy(b);
	balancer_free(table);
	close(c.netns_fd);
	return 0;
}
