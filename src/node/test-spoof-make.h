/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the makers of packets share: bytes and addresses (node/test-spoof-bytes.c), packets of IP
 * (node/test-spoof-ip.c). */

#include "base/util.h"
#include "node/test-spoof.h"

struct packet {
	struct maker *m;
	size_t len;
	uint8_t data[FRAME_MAX];
};

#define ONE_OF(m, list) ((list)[below((m), ARRAY_SIZE(list))])

/* Random: less than N; true in N percent of all cases. */
uint64_t any64(struct maker *m);
unsigned below(struct maker *m, unsigned n);
bool percent(struct maker *m, unsigned n);

/* They append to the packet; what has no room is left out. Numbers are in network order. */
void put(struct packet *p, const void *data, size_t len);
void put8(struct packet *p, unsigned v);
void put16(struct packet *p, unsigned v);
void put32(struct packet *p, uint32_t v);
void put_random(struct packet *p, size_t len);
void put_address(struct packet *p, const struct addr *a);
void put_ethernet(struct packet *p, const struct mac *dst, const struct mac *src, unsigned type);
/* Replaces two bytes, if the packet has them. */
void set16(struct packet *p, size_t at, unsigned v);

/* Of the Internet checksum (RFC 1071); sum() goes on from H. */
uint32_t sum(const uint8_t *p, size_t len, uint32_t h);
unsigned fold(uint32_t h);
unsigned pseudo_sum(const struct addr *src, const struct addr *dst, unsigned protocol, size_t len);
void finish_sum(struct packet *p, size_t start, unsigned protocol, const struct addr *src, const struct addr *dst);
void finish_header4(struct packet *p, size_t start, size_t header);

struct addr text_addr(const char *text);
struct addr inside_of(struct maker *m, const struct prefix *p);
const struct guest *other(struct maker *m);
struct addr own4(const struct guest *g);
struct addr link_local_of(const struct guest *g);
/* Some are the guest's own, others nobody's or somebody else's. */
struct addr source4(struct maker *m);
struct addr source6(struct maker *m);
struct addr target4(struct maker *m);
struct addr target6(struct maker *m);
struct addr any_of(struct maker *m, int family, bool source);

/* Both return where what may be cut into fragments begins; *RET_NEXT is where its protocol is. */
size_t put_ipv6(struct packet *p, size_t *ret_next);
size_t put_ipv4(struct packet *p);

struct frame *add_frame(struct burst *b, const struct packet *p, size_t len);
/* The part FROM to TO of what begins at BODY as a fragment of its own; the packet of IP begins at IP. */
void add_fragment(struct burst *b, const struct packet *p, size_t ip, size_t body, size_t next, size_t from, size_t to,
                  bool more, uint32_t id);
