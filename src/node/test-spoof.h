/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What test-spoof*.c share: a host with three guests, packets that a hostile guest sends, and the decision what may be
 * seen of them. The decision is made by a parser of its own, from the RFCs and docs/instances.md; it knows nothing of
 * the rules of nftables.
 *
 *   guest (descriptor of the tap) -- tap :container i-ID: uplink -- i-ID :public: overlay -- eth0 of :underlay: -- leaf
 */

#include "base/inet.h"
#include "net/underlay.h"
#include "node/instnet.h"

#define GUESTS     3
#define FRAME_MAX  2600 /* of what a guest sends, without the header of virtio-net */
#define FRAMES_MAX 12   /* of one packet */
#define VNET_LEN   10   /* struct virtio_net_hdr */
#define ETH_LEN    14

#define PROTO_ICMP6    58
#define OPEN_PORT      53   /* UDP, of each guest, from everywhere */
#define FAR_PORT       7777 /* where permitted packets go to, and no others */
#define METADATA6      "fd00:ec2::254"
#define FAR6           "2001:db8:9::77"
#define FAR4           "192.0.2.77"
#define SHARED_ADDRESS "198.51.100.3"

struct guest {
	const char *id;
	struct instnet_spec spec;
	struct instnet_state state;
	int netns_fd, tap; /* the tap is the guest's side */
	int device;        /* index in `public` */
};

struct world {
	char prefix[24];
	struct underlay_config config;
	struct underlay underlay;
	struct addr edge; /* the VTEP of all that isn't on this host */
	int leaf_fd, overlay_device, nic;
	struct mac nic_mac;
	struct guest guests[GUESTS]; /* shared, dedicated, without IPv4 */
};

/* node/test-spoof-rig.c. After a failure world_remove() removes what there is. */
int world_make(struct world *w, struct error *err) _must_use_;
void world_remove(struct world *w);

/* ---- what a guest sends (node/test-spoof-packets.c) ---- */

enum arrival { NOWHERE, AT_EDGE, AT_GUEST };

struct frame {
	size_t len; /* with the header of virtio-net */
	uint8_t data[VNET_LEN + FRAME_MAX];
};

struct burst {
	size_t n;
	enum arrival arrival; /* where a packet with TAG has to arrive */
	struct frame frames[FRAMES_MAX];
};

struct maker {
	const struct world *world;
	const struct guest *from;
	uint64_t random; /* the state; the same state makes the same packets */
};

/* Fills B with the frames of one packet. */
void make_any(struct maker *m, struct burst *b);
/* One that the container answers or reads: the rate of these is limited. */
void make_question(struct maker *m, struct burst *b);
/* One that is permitted and has to arrive, with TAG in its payload; perhaps in FRAGMENTS. */
void make_permitted(struct maker *m, uint32_t tag, bool fragments, struct burst *b);
/* The same, always of one flow to the edge. */
void make_marker(struct maker *m, uint32_t tag, struct burst *b);

/* What was let through once, or must never be (node/test-spoof-cases.c). */
size_t n_cases(void);
/* Returns what packet NUMBER is; it has TAG if it is UDP. False: the guest has no IPv4, which it needs. */
const char *case_name(size_t number);
bool make_case(struct maker *m, size_t number, uint32_t tag, struct burst *b);
/*
 * It has an option that the kernel of the container complains about before it filters, to the source: one of many
 * link-local addresses, or an address of somebody else.
 */
void make_complaint(struct maker *m, bool link_local, struct burst *b);

/* ---- what was seen (node/test-spoof-parse.c) ---- */

struct seen {
	const uint8_t *src_mac, *dst_mac;
	uint16_t ethertype;
	struct addr src, dst; /* family 0: not IP */
	uint8_t hops, protocol;
	bool source_route; /* option of IPv4, routing header of IPv6 */
	bool fragment, more;
	uint32_t id, offset;
	const uint8_t *upper; /* what is in the packet of the upper layer; of later fragments their bytes */
	size_t upper_len, fragment_len;
	/* Of first fragments and whole packets. */
	uint16_t sport, dport; /* TCP and UDP */
	uint8_t icmp_type;
	uint16_t icmp_id;
	const uint8_t *tag; /* TAG_LEN bytes, NULL: none */
};

#define TAG_LEN 9 /* "NPRP", the number, the hop limit that it was sent with */

/* Returns NULL, or what is wrong with the frame as such. */
const char *parse_frame(const uint8_t *data, size_t len, struct seen *ret);
const char *parse_ip(const uint8_t *data, size_t len, uint16_t ethertype, struct seen *ret);
bool is_icmp_error(const struct seen *s);
uint32_t tag_number(const struct seen *s);

/* ---- what may be seen (node/test-spoof-judge.c) ---- */

enum place { UPLINK, TO_OWN, FROM_OTHER, TO_OTHER, OVERLAY, TAP_OWN, TAP_OTHER, N_PLACES };

struct judge {
	const struct world *world;
	const struct guest *from;
	/* The packet whose fragments pass, of each place. */
	struct running {
		bool valid;
		struct addr src, dst;
		uint32_t id, next;
		uint8_t protocol;
	} running[N_PLACES];
};

/* NULL if the frame may be at PLACE, otherwise the reason why not. GUEST is the one at whose device it is. */
const char *judge_frame(struct judge *j, enum place place, const struct guest *guest, const uint8_t *data, size_t len,
                        struct seen *ret);
/* Of a frame that leaves a NIC of the underlay; *RET_INNER is what VXLAN carries, NULL for the kernel's own frames. */
const char *judge_outer(const struct world *w, const uint8_t *data, size_t len, const uint8_t **ret_inner,
                        size_t *ret_len);
/* Of a packet that a socket of the container could read; HOPS is -1 if it isn't known. */
const char *judge_local(const struct guest *g, uint8_t protocol, const struct addr *src, const struct addr *dst,
                        int hops, const uint8_t *upper, size_t len);
bool guest_has6(const struct guest *g, const struct addr *a);
