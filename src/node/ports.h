/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How much an instance uses its slices of the ports of shared addresses, and what follows: whether it needs another
 * slice, can do without one, or has run out of ports. One connection to a destination takes one port; the same port
 * serves other destinations, too. So what counts is the number of ports in use of one protocol.
 *
 * A look counts the namespace's connections and the refused ones, which is cheap. Only if there are so many connections
 * that it matters does it read the list of them, which costs 20 ms (net/conntrack.h).
 *
 * A slice is given back in two steps: new connections use the others only, and when its last connection has ended, the
 * instance asks for one slice less.
 */

#include "node/instnet.h"

#define PORTS_LOOK_S      5   /* between looks */
#define PORTS_COUNT_S     60  /* between lists of an instance that has enough ports */
#define PORTS_BUSY_S      10  /* and of one that uses half of them, or whose connections are refused */
#define PORTS_LOW_S       600 /* a slice is given back after so long a time of little use */
#define PORTS_EXHAUSTED_S 60  /* for at least so long after a refusal the instance counts as out of ports */

/* What a look saw. */
struct ports_look {
	uint32_t entries; /* connections of all families */
	uint32_t refused; /* since the namespace was made (net/conntrack.h) */
	uint32_t used; /* ports in use of all slices, of the protocol that uses most; if not counted, at most so many */
	uint32_t open; /* of these, of slices that are open for new connections */
	uint32_t last; /* ports in use of the last slice, of all protocols */
	bool counted;  /* the list was read; otherwise OPEN and LAST are 0 */
	bool drained;  /* before that, the rules that keep new connections from the last slice were in the kernel */
};

/* What is known about one instance; all zero at first. */
struct ports {
	int64_t wanted;     /* slices that it should have; 0: not looked at yet */
	size_t open_slices; /* as in instnet_config */
	bool exhausted;     /* it has run out of ports */

	size_t n, total; /* slices, and their ports, at the last look */
	struct ports_look last;
	uint32_t listed_refused; /* what a look had seen of refusals when the list was last read */
	uint64_t low_since_ns, exhausted_until_ns, count_at_ns, busy_count_at_ns; /* 0: not */
};

/* True if the list must be read: it matters how many ports are used, and the last list is old enough. */
bool ports_must_count(const struct instnet_spec *spec, const struct ports *p, const struct ports_look *look,
                      uint64_t now_ns);

/*
 * Looks at the namespace of NETNS_FD. P is what is known so far, NOW_NS the monotonic time; they decide whether the
 * list is read. The rules in the kernel were made for APPLIED open slices (instnet_state). May block: for a worker.
 */
int ports_look(int netns_fd, const struct instnet_spec *spec, const struct ports *p, size_t applied, uint64_t now_ns,
               struct ports_look *ret, struct error *err) _must_use_;

/* Changes P by what the look at an instance with SPEC saw. Returns how many packets were refused since the last look.
 */
uint32_t ports_note(struct ports *p, const struct instnet_spec *spec, const struct ports_look *look, uint64_t now_ns);

/* For people: which slices, how many ports, and what helps. */
#define PORTS_MESSAGE_MAX 400
const char *ports_message(const struct instnet_spec *spec, char out[static PORTS_MESSAGE_MAX]);
