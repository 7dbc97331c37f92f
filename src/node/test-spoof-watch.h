/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Eyes on everything that a guest's packets could reach (node/test-spoof-watch.c). All sockets are emptied by
 * watch_look(), often enough that none overflows; watch_lost() says whether one did.
 */

#include "node/test-spoof.h"

enum limited { ARP_REPLIES, ECHO_REQUESTS, DHCP4_REQUESTS, DHCP6_REQUESTS, DISCOVERY, N_LIMITED };

struct watch {
	const struct world *world;
	const struct guest *from;
	struct judge judge, outer;                 /* of `public` and taps; of what VXLAN carries in `underlay` */
	int packet_public, packet_underlay, local; /* the last one is an epoll of raw sockets in the container */
	int raw[GUESTS * 2 * 254];
	size_t n_raw;
	unsigned counts[N_LIMITED];
	uint64_t seen[N_PLACES];
	/* Called for each frame with a tag that has reached its end. */
	void (*arrived)(void *userdata, enum arrival where, uint32_t tag);
	void *userdata;
	bool wrong; /* something was seen that may not be; it was printed */
};

int watch_start(struct watch *w, struct error *err) _must_use_;
void watch_end(struct watch *w);
void watch_look(struct watch *w);
/* How many frames the kernel couldn't hand to us. */
unsigned watch_lost(const struct watch *w);

/* What packets left in the kernel. They print what is wrong; false: something is. */
bool watch_neighbours(const struct watch *w);
bool watch_connections(const struct watch *w);
/* Forgets all connections of all guests. */
int forget_connections(const struct world *w, struct error *err) _must_use_;
