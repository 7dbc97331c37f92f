/* SPDX-License-Identifier: Apache-2.0 */
#include "node/ports.h"

#include <limits.h>
#include <string.h>

#include "base/util.h"
#include "net/conntrack.h"

#define BUSY_PERCENT 75
#define HALF_PERCENT 50
#define LOW_PERCENT  25

enum { PORTS_TCP, PORTS_UDP, PORTS_ICMP, N_PROTOCOLS };

static size_t ports_total(const struct instnet_spec *spec, size_t n) {
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += (size_t)(spec->slices[i].last - spec->slices[i].first + 1);
	return total;
}

static bool is_share(uint64_t part, size_t of, unsigned percent) {
	return of && part * 100 >= (uint64_t)of * percent;
}

/* ---- in a worker ---- */

#define WORD_BITS (sizeof(unsigned long) * CHAR_BIT)

struct counting {
	const struct instnet_spec *spec;
	size_t open_slices;
	/* A bit for each port, by slice and protocol. */
	unsigned long seen[INSTNET_SLICES_MAX][N_PROTOCOLS][65536 / WORD_BITS];
	uint32_t used[INSTNET_SLICES_MAX][N_PROTOCOLS];
};

static int protocol_index(uint8_t protocol) {
	switch (protocol) {
	case IPPROTO_TCP: return PORTS_TCP;
	case IPPROTO_UDP: return PORTS_UDP;
	case IPPROTO_ICMP: return PORTS_ICMP;
	default: return -1;
	}
}

/* A connection that was translated to a port of a slice: answers come to that port. */
static void ports_count_connection(const struct conntrack_entry *e, void *userdata) {
	struct counting *c = userdata;
	int protocol = protocol_index(e->protocol);

	if (protocol < 0 || e->reply.dst.s_addr == e->original.src.s_addr)
		return;
	for (size_t i = 0; i < c->spec->n_slices; i++) {
		const struct instnet_slice *s = &c->spec->slices[i];
		size_t port = e->reply.dst_port;
		if (e->reply.dst.s_addr != s->address.v4.s_addr || (int64_t)port < s->first || (int64_t)port > s->last)
			continue;
		unsigned long *word = &c->seen[i][protocol][port / WORD_BITS], bit = 1UL << port % WORD_BITS;
		c->used[i][protocol] += !(*word & bit);
		*word |= bit;
	}
}

static int ports_count(struct nl *nl, const struct instnet_spec *spec, size_t open_slices, struct ports_look *look,
                       struct error *err) {
	_free_ struct counting *c = calloc(1, sizeof(*c));

	if (!c)
		return error_oom(err);
	c->spec = spec;
	int r = conntrack_list(nl, ports_count_connection, c, err);
	if (r < 0)
		return r;
	look->counted = true;
	look->used = look->open = look->last = 0;
	for (int k = 0; k < N_PROTOCOLS; k++) {
		uint32_t used = 0, open = 0;
		for (size_t i = 0; i < spec->n_slices; i++) {
			used += c->used[i][k];
			open += i < open_slices ? c->used[i][k] : 0;
		}
		look->used = MAX(look->used, used);
		look->open = MAX(look->open, open);
		look->last += spec->n_slices ? c->used[spec->n_slices - 1][k] : 0;
	}
	return 0;
}

static bool is_draining(const struct ports *p, const struct instnet_spec *spec) {
	return p->open_slices && p->open_slices < spec->n_slices;
}

bool ports_must_count(const struct instnet_spec *spec, const struct ports *p, const struct ports_look *look,
                      uint64_t now_ns) {
	size_t total = ports_total(spec, spec->n_slices);
	bool can_ask_for_fewer = spec->n_slices > 1 || p->wanted > (int64_t)spec->n_slices;

	if (!look->entries)
		return false;
	/* A guest can have its connections refused whenever it likes. */
	if (p->wanted && look->refused != p->listed_refused && is_share(look->entries, total, HALF_PERCENT) &&
	    now_ns >= p->busy_count_at_ns)
		return true;
	return now_ns >= p->count_at_ns && (is_share(look->entries, total, HALF_PERCENT) || is_draining(p, spec) ||
	                                    (can_ask_for_fewer && is_share(look->entries, total, LOW_PERCENT)));
}

int ports_look(int netns_fd, const struct instnet_spec *spec, const struct ports *p, size_t applied, uint64_t now_ns,
               struct ports_look *ret, struct error *err) {
	_nl_free_ struct nl *nl = NULL;
	struct conntrack_stats stats;
	int r = nl_open_netfilter(&nl, netns_fd, err);

	if (r >= 0)
		r = conntrack_stats(nl, &stats, err);
	if (r < 0)
		return r;
	struct ports_look look = {.entries = (uint32_t)stats.entries,
	                          .refused = stats.refused,
	                          .drained = is_draining(p, spec) && applied == p->open_slices};
	look.used = (uint32_t)MIN(stats.entries, ports_total(spec, spec->n_slices));
	if (ports_must_count(spec, p, &look, now_ns))
		r = ports_count(nl, spec, p->open_slices ? p->open_slices : spec->n_slices, &look, err);
	if (r >= 0)
		*ret = look;
	return r;
}

/* ---- what follows ---- */

static bool last_has_forward(const struct instnet_spec *spec) {
	const struct instnet_slice *s = &spec->slices[spec->n_slices - 1];

	for (size_t i = 0; i < spec->n_forwards; i++)
		if (addr_cmp(&spec->forwards[i].address, &s->address) == 0 && spec->forwards[i].port >= s->first &&
		    spec->forwards[i].port <= s->last)
			return true;
	return false;
}

/* Little use for long: asks for no more than there is, or gives the last slice back. */
static void ports_give_back(struct ports *p, const struct instnet_spec *spec, const struct ports_look *look) {
	int64_t n = (int64_t)spec->n_slices;

	if (p->wanted > n)
		p->wanted = n;
	else if (n == 1 || p->wanted < n || last_has_forward(spec))
		return;
	else if (!is_draining(p, spec))
		p->open_slices = spec->n_slices - 1;
	else if (look->drained && (!look->entries || (look->counted && !look->last)))
		p->wanted = n - 1;
}

static void ports_note_exhaustion(struct ports *p, bool starving, uint32_t used, uint64_t now_ns) {
	if (starving) {
		p->exhausted = true;
		p->exhausted_until_ns = now_ns + PORTS_EXHAUSTED_S * NSEC_PER_SEC;
	} else if (p->exhausted && now_ns >= p->exhausted_until_ns && !is_share(used, p->total, BUSY_PERCENT)) {
		p->exhausted = false;
	}
}

uint32_t ports_note(struct ports *p, const struct instnet_spec *spec, const struct ports_look *look, uint64_t now_ns) {
	int64_t n = (int64_t)spec->n_slices;
	/* A smaller number is that of a new namespace. At the first look nothing is known about the time before. */
	uint32_t refused = p->wanted && look->refused > p->last.refused ? look->refused - p->last.refused : 0;

	if (!p->wanted || look->refused < p->last.refused)
		p->listed_refused = look->refused;
	if (!p->wanted)
		p->wanted = n;
	if (p->n != spec->n_slices) {
		p->n = spec->n_slices;
		p->open_slices = 0;
		p->low_since_ns = 0;
	}
	p->total = ports_total(spec, spec->n_slices);
	/* Two packets of one connection that race count as a refusal, too, so it isn't believed when ports are free. */
	bool starving =
		look->refused != p->listed_refused && look->counted && is_share(look->used, p->total, HALF_PERCENT);
	bool busy = look->counted && is_share(look->used, p->total, BUSY_PERCENT);
	ports_note_exhaustion(p, starving, look->used, now_ns);
	if (is_draining(p, spec) && look->counted &&
	    is_share(look->open, ports_total(spec, p->open_slices), HALF_PERCENT))
		p->open_slices = 0;
	if (busy || starving) {
		p->open_slices = 0;
		int64_t more = n < INSTNET_SLICES_MAX ? n + 1 : n;
		p->wanted = MAX(p->wanted, more);
	}
	if (is_share(look->used, p->total, LOW_PERCENT))
		p->low_since_ns = 0;
	else if (!p->low_since_ns)
		p->low_since_ns = now_ns;
	else if (now_ns - p->low_since_ns >= PORTS_LOW_S * NSEC_PER_SEC)
		ports_give_back(p, spec, look);
	if (look->counted) {
		p->listed_refused = look->refused;
		p->busy_count_at_ns = now_ns + PORTS_BUSY_S * NSEC_PER_SEC;
		p->count_at_ns = is_share(look->used, p->total, HALF_PERCENT) ? p->busy_count_at_ns
		                                                              : now_ns + PORTS_COUNT_S * NSEC_PER_SEC;
	}
	p->last = *look;
	return refused;
}

const char *ports_message(const struct instnet_spec *spec, char out[static PORTS_MESSAGE_MAX]) {
	const struct instnet_slice *s = &spec->slices[0];
	char address[ADDR_STR_MAX], more[32] = "";

	if (spec->n_slices > 1)
		snprintf(more, sizeof(more), " and %zu more", spec->n_slices - 1);
	snprintf(out, PORTS_MESSAGE_MAX,
	         "new connections are refused: those to one destination share %zu ports (slice %s:%lld-%lld%s); make "
	         "fewer connections to one destination, use IPv6, or an instance with ipv4 dedicated; an operator can "
	         "allow more slices (slicesPerInstance of the AddressPool)",
	         ports_total(spec, spec->n_slices), addr_str(&s->address, address), (long long)s->first,
	         (long long)s->last, more);
	return out;
}
