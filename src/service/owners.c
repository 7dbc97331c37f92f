/* SPDX-License-Identifier: Apache-2.0 */
#include "service/owners.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <string.h>
#include <sys/mman.h>

#include "base/tree.h"
#include "base/util.h"
#include "base/vtep.h"

#define BLOCKS (BALANCER_OWNERS / BALANCER_BLOCK)

struct shared_address {
	RB_ENTRY(shared_address) link;
	struct addr addr;
	struct balancer_address *at; /* where the program finds it */
	uint32_t owned;              /* groups that have an owner */
};

struct shared_prefix {
	RB_ENTRY(shared_prefix) link;
	struct prefix prefix;
	bool marked;
};

/* An element of the map `hosts`. */
struct host {
	RB_ENTRY(host) link; /* if listed */
	uint8_t vtep[16];
	uint32_t groups; /* groups whose owners are on it */
	uint16_t next;   /* in a list of hosts that have none; 0 ends it */
	bool listed;
};

RB_HEAD(address_tree, shared_address);
RB_HEAD(prefix_tree, shared_prefix);
RB_HEAD(host_tree, host);

enum block {
	BLOCK_FREE,
	BLOCK_USED,
	BLOCK_RESTS,
};

struct owners {
	struct owners_maps maps;
	struct balancer_bucket *buckets; /* the map `addresses` */
	struct balancer_owner *groups;   /* the map `owners`: BALANCER_OWNERS */
	struct balancer_host *targets;   /* the map `hosts` */
	struct host hosts[BALANCER_HOSTS];
	uint8_t marks[BALANCER_OWNERS / 8]; /* a bit for each group, set since owners_begin() */
	uint8_t blocks[BLOCKS];             /* enum block */
	uint32_t fresh;                     /* the first host that was never used */
	uint16_t free, resting;             /* lists of hosts */
	/* What a full table need not try again: */
	bool idle;                    /* an address may have no owners */
	bool rests;                   /* a block rests */
	size_t refused;               /* so many blocks in a row are not free */
	int grace_fd, grace_inner_fd; /* an array of maps, and the map that is put into it */
	struct address_tree addresses;
	struct prefix_tree prefixes;
	struct host_tree listed;
	struct balancer_stats stats;
};

static int shared_address_cmp(const struct shared_address *a, const struct shared_address *b) {
	return memcmp(&a->addr.v4, &b->addr.v4, sizeof(a->addr.v4));
}

static int shared_prefix_cmp(const struct shared_prefix *a, const struct shared_prefix *b) {
	return prefix_cmp(&a->prefix, &b->prefix);
}

static int host_cmp(const struct host *a, const struct host *b) {
	return memcmp(a->vtep, b->vtep, sizeof(a->vtep));
}

RB_GENERATE_INTERNAL(address_tree, shared_address, link, shared_address_cmp, static _unused_)
RB_GENERATE_INTERNAL(prefix_tree, shared_prefix, link, shared_prefix_cmp, static _unused_)
RB_GENERATE_INTERNAL(host_tree, host, link, host_cmp, static _unused_)

uint16_t owners_sum(const void *data, size_t len) {
	uint64_t sum = 0;
	for (size_t i = 0; i < len; i += 2) {
		uint16_t word;
		memcpy(&word, (const char *)data + i, 2);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* -- what rests -- */

/*
 * What is no longer in use must not be written again while a program that found it before still runs. After a map is
 * put into an array of maps, the system call returns only when all programs that were running have ended: the kernel
 * waits (synchronize_rcu) so that user space can rely on just that.
 */
static int owners_settle(struct owners *o, struct error *err) {
	uint32_t first = 0;
	if (bpf_map_update_elem(o->grace_fd, &first, &o->grace_inner_fd, BPF_ANY) < 0)
		return error_errno(err, errno, "wait for running programs");
	while (o->resting) {
		uint16_t n = o->resting;
		o->resting = o->hosts[n].next;
		o->hosts[n].next = o->free;
		o->free = n;
	}
	for (size_t i = 0; i < BLOCKS; i++)
		if (o->blocks[i] == BLOCK_RESTS)
			o->blocks[i] = BLOCK_FREE;
	o->rests = false;
	o->refused = SIZE_MAX;
	return 0;
}

/* -- hosts -- */

/* LIST is that of the host if it has no groups any more. */
static void host_unref(struct owners *o, uint16_t n, uint16_t *list) {
	struct host *h = &o->hosts[n];
	if (--h->groups)
		return;
	if (h->listed)
		RB_REMOVE(host_tree, &o->listed, h);
	h->next = *list;
	*list = n;
	o->stats.hosts--;
}

/* The number of this host, which now has one group more than it has. */
static int host_ref(struct owners *o, const struct addr *vtep, uint16_t *ret, struct error *err) {
	struct host key, *h;
	memcpy(key.vtep, vtep->bytes, sizeof(key.vtep));
	h = RB_FIND(host_tree, &o->listed, &key);
	if (!h) {
		if (!o->free && o->fresh == BALANCER_HOSTS && o->resting) {
			int r = owners_settle(o, err);
			if (r < 0)
				return r;
		}
		if (!o->free && o->fresh == BALANCER_HOSTS)
			return error_set(err, ENOSPC, "the balancer has no room for more than %d hosts",
			                 BALANCER_HOSTS - 1);
		uint32_t n = o->free ? o->free : o->fresh++;
		h = &o->hosts[n];
		if (o->free)
			o->free = h->next;
		*h = (struct host){.listed = true};
		memcpy(h->vtep, key.vtep, sizeof(h->vtep));
		memcpy(o->targets[n].vtep, key.vtep, sizeof(key.vtep));
		o->targets[n].sum = owners_sum(key.vtep, sizeof(key.vtep));
		RB_INSERT(host_tree, &o->listed, h);
		o->stats.hosts++;
	}
	h->groups++;
	*ret = (uint16_t)(h - o->hosts);
	return 0;
}

/* -- addresses -- */

static uint32_t group_count(const struct balancer_address *at) {
	return 65536U >> at->shift;
}

static uint32_t group_first(const struct balancer_address *at) {
	return at->block * BALANCER_BLOCK;
}

static bool group_is_marked(const struct owners *o, uint32_t group) {
	return o->marks[group / 8] >> (group % 8) & 1;
}

static void group_mark(struct owners *o, uint32_t group) {
	o->marks[group / 8] |= (uint8_t)(1U << (group % 8));
}

/* What is written before this is in memory before VALUE is. */
#define PUBLISH(at, value)                                                          \
	({                                                                          \
		typeof(*(at)) value_ = (value);                                     \
		uint64_t bits_;                                                     \
		_Static_assert(sizeof(value_) == sizeof(bits_), "changes at once"); \
		memcpy(&bits_, &value_, sizeof(bits_));                             \
		__atomic_store_n((uint64_t *)(at), bits_, __ATOMIC_RELEASE);        \
	})

static void group_write(struct owners *o, struct shared_address *a, uint32_t group, struct balancer_owner owner) {
	struct balancer_owner old = o->groups[group];
	if (memcmp(&old, &owner, sizeof(old)) == 0)
		return;
	PUBLISH(&o->groups[group], owner);
	if (owner.host)
		o->hosts[owner.host].groups++, a->owned++, o->stats.groups++;
	if (old.host)
		host_unref(o, old.host, &o->resting), a->owned--, o->stats.groups--;
	o->idle |= !a->owned;
}

static void blocks_set(struct owners *o, const struct balancer_address *at, enum block state) {
	uint32_t n = group_count(at);
	memset(o->blocks + at->block, state, n / BALANCER_BLOCK);
	if (state == BLOCK_USED)
		o->stats.group_room += n;
	else
		o->stats.group_room -= n;
	o->rests |= state == BLOCK_RESTS;
}

/* Finds blocks for AT->shift and fills AT->block; -ENOSPC. */
static int blocks_find(struct owners *o, struct balancer_address *at) {
	size_t want = group_count(at) / BALANCER_BLOCK, run = 0;
	for (size_t i = 0; want < o->refused && i < BLOCKS; i++) {
		run = o->blocks[i] == BLOCK_FREE ? run + 1 : 0;
		if (run == want) {
			at->block = (uint16_t)(i + 1 - want);
			return 0;
		}
	}
	o->refused = MIN(o->refused, want);
	return -ENOSPC;
}

static struct shared_address *address_find(struct owners *o, const struct addr *addr) {
	struct shared_address key = {.addr = *addr};
	return RB_FIND(address_tree, &o->addresses, &key);
}

/* The element number I of the search for an address, as the program does it. */
static struct balancer_address *address_probe(struct owners *o, uint32_t address, uint32_t i) {
	uint32_t bucket = (balancer_bucket_of(address) + i) % BALANCER_BUCKETS;
	return &o->buckets[bucket].ways[balancer_way_of(address)];
}

/* A free element for an address that is not in the table, or NULL. */
static struct balancer_address *address_place(struct owners *o, const struct addr *addr) {
	for (uint32_t i = 0; i < BALANCER_PROBES; i++) {
		struct balancer_address *at = address_probe(o, ntohl(addr->v4.s_addr), i);
		if (at->state != BALANCER_SHARED)
			return at;
	}
	return NULL;
}

/* Its groups have no owners. */
static void address_remove(struct owners *o, struct shared_address *a) {
	struct balancer_bucket *bucket = (void *)((uintptr_t)a->at & ~(sizeof(*bucket) - 1));
	uint32_t n = (uint32_t)(bucket - o->buckets), way = (uint32_t)(a->at - bucket->ways);
	blocks_set(o, a->at, BLOCK_RESTS);
	PUBLISH(a->at, ((struct balancer_address){.state = BALANCER_REMOVED}));
	/* Searches that went on only because of removed addresses end earlier from now on. */
	if (o->buckets[(n + 1) % BALANCER_BUCKETS].ways[way].state == BALANCER_EMPTY)
		for (; o->buckets[n].ways[way].state == BALANCER_REMOVED; n = (n - 1) % BALANCER_BUCKETS)
			PUBLISH(&o->buckets[n].ways[way], ((struct balancer_address){.state = BALANCER_EMPTY}));
	RB_REMOVE(address_tree, &o->addresses, a);
	o->stats.addresses--;
	free(a);
}

static bool address_is_shared(struct owners *o, const struct addr *addr) {
	struct shared_prefix *p;
	RB_FOREACH (p, prefix_tree, &o->prefixes)
		if (prefix_contains_addr(&p->prefix, addr))
			return true;
	return false;
}

/* Addresses without owners stay for the next slice, as long as they are in a shared prefix and there is room. */
static void addresses_collect(struct owners *o, bool all) {
	struct shared_address *a, *next;
	RB_FOREACH_SAFE (a, address_tree, &o->addresses, next)
		if (!a->owned && (all || !address_is_shared(o, &a->addr)))
			address_remove(o, a);
	o->idle &= !all;
}

/* Blocks without owners for AT->shift; fills AT->block. */
static int blocks_reserve(struct owners *o, struct balancer_address *at, struct error *err) {
	int r = blocks_find(o, at);
	/* A full table is asked again and again: that takes no time until something was given up. */
	if (r < 0 && o->idle)
		addresses_collect(o, true);
	if (r < 0 && o->rests) {
		r = owners_settle(o, err);
		if (r < 0)
			return r;
		r = blocks_find(o, at);
	}
	if (r < 0)
		return error_set(err, ENOSPC,
		                 "the balancer has no room for %u more slices of an address, of %u altogether",
		                 group_count(at), BALANCER_OWNERS);
	memset(o->groups + group_first(at), 0, group_count(at) * sizeof(*o->groups));
	memset(o->marks + group_first(at) / 8, 0, group_count(at) / 8);
	return 0;
}

static int address_add(struct owners *o, const struct addr *addr, uint32_t shift, struct shared_address **ret,
                       struct error *err) {
	struct balancer_address new = {.address = addr->v4.s_addr, .shift = (uint8_t)shift, .state = BALANCER_SHARED};
	struct balancer_address *at = address_place(o, addr);
	if (o->idle && (!at || o->stats.addresses == BALANCER_ADDRESSES)) {
		addresses_collect(o, true);
		at = address_place(o, addr);
	}
	if (!at || o->stats.addresses == BALANCER_ADDRESSES)
		return error_set(err, ENOSPC, "the balancer has no room for more than %d shared addresses",
		                 BALANCER_ADDRESSES);
	_free_ struct shared_address *a = calloc(1, sizeof(*a));
	if (!a)
		return error_oom(err);
	int r = blocks_reserve(o, &new, err);
	if (r < 0)
		return r;
	/* Addresses that made room for it may have ended the search before AT. */
	at = address_place(o, addr);
	*a = (struct shared_address){.addr = *addr, .at = at};
	PUBLISH(at, new);
	blocks_set(o, &new, BLOCK_USED);
	RB_INSERT(address_tree, &o->addresses, a);
	o->stats.addresses++;
	*ret = TAKE_PTR(a);
	return 0;
}

/* Divides the address, which has owners, into smaller groups, in new blocks, each with the owner that it has. */
static int address_divide(struct owners *o, struct shared_address *a, uint32_t shift, struct error *err) {
	struct balancer_address old = *a->at, new = old;
	uint32_t finer = old.shift - shift;
	new.shift = (uint8_t)shift;
	int r = blocks_reserve(o, &new, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < group_count(&new); i++) {
		uint32_t from = group_first(&old) + (i >> finer);
		o->groups[group_first(&new) + i] = o->groups[from];
		if (group_is_marked(o, from))
			group_mark(o, group_first(&new) + i);
	}
	PUBLISH(a->at, new);
	for (uint32_t i = 0; i < group_count(&old); i++) {
		uint16_t host = o->groups[group_first(&old) + i].host;
		if (host)
			o->hosts[host].groups += (1U << finer) - 1;
	}
	o->stats.groups += (a->owned << finer) - a->owned;
	a->owned <<= finer;
	blocks_set(o, &new, BLOCK_USED);
	blocks_set(o, &old, BLOCK_RESTS);
	return 0;
}

/* -- slices -- */

static int check_slice(const struct slice *s, struct error *err) {
	char text[SLICE_STR_MAX];
	if (s->addr.family != AF_INET || !slice_is_aligned(s))
		return error_set(err, EINVAL, "slice %s: must be aligned, of an IPv4 address", slice_str(s, text));
	return 0;
}

/* The shift at which the slice is whole groups. */
static uint32_t slice_shift(const struct slice *s) {
	return (uint32_t)MIN(__builtin_ctz(slice_size(s)), BALANCER_SHIFT_MAX);
}

static void slice_write(struct owners *o, struct shared_address *a, const struct slice *s,
                        struct balancer_owner owner) {
	uint32_t first = group_first(a->at) + (s->first >> a->at->shift);
	uint32_t last = group_first(a->at) + (s->last >> a->at->shift);
	for (uint32_t group = first; group <= last; group++) {
		group_write(o, a, group, owner);
		group_mark(o, group);
	}
}

int owners_set(struct owners *o, const struct slice *s, const struct balancer_endpoint *e, struct error *err) {
	char text[SLICE_STR_MAX];
	struct balancer_owner owner;
	int r = check_slice(s, err);
	if (r < 0)
		return r;
	if (e->vtep.family != AF_INET6)
		return error_set(err, EINVAL, "slice %s: the VTEP must be IPv6", slice_str(s, text));
	struct mac router = vtep_router_mac(&e->vtep);
	if (memcmp(&router, &e->mac, sizeof(router)) == 0)
		return error_set(err, EINVAL, "slice %s: the MAC is that of the VTEP's router", slice_str(s, text));
	uint32_t shift = slice_shift(s);
	memcpy(owner.mac, e->mac.bytes, sizeof(owner.mac));
	r = host_ref(o, &e->vtep, &owner.host, err);
	if (r >= 0) {
		struct shared_address *a = address_find(o, &s->addr);
		if (a && !a->owned && a->at->shift > shift) {
			address_remove(o, a);
			a = NULL;
		}
		if (!a)
			r = address_add(o, &s->addr, shift, &a, err);
		else if (a->at->shift > shift)
			r = address_divide(o, a, shift, err);
		if (r >= 0)
			slice_write(o, a, s, owner);
		/* If it has no groups now, no program has found it. */
		host_unref(o, owner.host, &o->free);
	}
	return r < 0 ? error_prefix(err, "slice %s", slice_str(s, text)) : 0;
}

int owners_clear(struct owners *o, const struct slice *s, struct error *err) {
	char text[SLICE_STR_MAX];
	int r = check_slice(s, err);
	struct shared_address *a = r < 0 ? NULL : address_find(o, &s->addr);
	if (!a)
		return r;
	if (a->at->shift > slice_shift(s) && o->groups[group_first(a->at) + (s->first >> a->at->shift)].host)
		r = address_divide(o, a, slice_shift(s), err);
	if (r < 0)
		return error_prefix(err, "slice %s", slice_str(s, text));
	if (a->at->shift <= slice_shift(s))
		slice_write(o, a, s, (struct balancer_owner){0});
	if (!a->owned && !address_is_shared(o, &a->addr))
		address_remove(o, a);
	return 0;
}

/* -- prefixes -- */

static struct balancer_prefix prefix_key(const struct prefix *p) {
	struct balancer_prefix key = {.length = p->len};
	memcpy(key.address, p->addr.bytes, sizeof(key.address));
	return key;
}

int owners_set_prefix(struct owners *o, const struct prefix *p, struct error *err) {
	char text[PREFIX_STR_MAX];
	struct balancer_prefix key = prefix_key(p);
	uint32_t one = 1;
	struct shared_prefix *known = RB_FIND(prefix_tree, &o->prefixes, &(struct shared_prefix){.prefix = *p});
	if (known) {
		known->marked = true;
		return 0;
	}
	if (p->addr.family != AF_INET)
		return error_set(err, EINVAL, "shared prefix %s: must be IPv4", prefix_str(p, text));
	if (o->stats.prefixes == BALANCER_PREFIXES)
		return error_set(err, ENOSPC, "shared prefix %s: the balancer has no room for more than %d",
		                 prefix_str(p, text), BALANCER_PREFIXES);
	_free_ struct shared_prefix *new = calloc(1, sizeof(*new));
	if (!new)
		return error_oom(err);
	if (bpf_map_update_elem(o->maps.prefixes, &key, &one, BPF_ANY) < 0)
		return error_errno(err, errno, "tell the balancer of the shared prefix %s", prefix_str(p, text));
	*new = (struct shared_prefix){.prefix = *p, .marked = true};
	RB_INSERT(prefix_tree, &o->prefixes, new);
	o->stats.prefixes++;
	TAKE_PTR(new);
	return 0;
}

static int prefix_remove(struct owners *o, struct shared_prefix *p, struct error *err) {
	char text[PREFIX_STR_MAX];
	struct balancer_prefix key = prefix_key(&p->prefix);
	if (bpf_map_delete_elem(o->maps.prefixes, &key) < 0 && errno != ENOENT)
		return error_errno(err, errno, "take the shared prefix %s from the balancer",
		                   prefix_str(&p->prefix, text));
	RB_REMOVE(prefix_tree, &o->prefixes, p);
	o->stats.prefixes--;
	free(p);
	return 0;
}

int owners_clear_prefix(struct owners *o, const struct prefix *p, struct error *err) {
	struct shared_prefix *known = RB_FIND(prefix_tree, &o->prefixes, &(struct shared_prefix){.prefix = *p});
	if (!known)
		return 0;
	int r = prefix_remove(o, known, err);
	if (r >= 0)
		addresses_collect(o, false);
	return r;
}

/* -- mark and sweep -- */

void owners_begin(struct owners *o) {
	struct shared_prefix *p;
	memset(o->marks, 0, sizeof(o->marks));
	RB_FOREACH (p, prefix_tree, &o->prefixes)
		p->marked = false;
}

int owners_end(struct owners *o, struct error *err) {
	struct shared_address *a;
	struct shared_prefix *p, *next;
	int r;
	RB_FOREACH (a, address_tree, &o->addresses)
		for (uint32_t i = 0, g = group_first(a->at); i < group_count(a->at); i++, g++)
			if (!group_is_marked(o, g))
				group_write(o, a, g, (struct balancer_owner){0});
	RB_FOREACH_SAFE (p, prefix_tree, &o->prefixes, next)
		if (!p->marked && (r = prefix_remove(o, p, err)) < 0)
			return r;
	addresses_collect(o, false);
	return 0;
}

/* -- what is in the maps -- */

static void read_host(struct owners *o, uint16_t n) {
	struct host *h = &o->hosts[n];
	if (h->groups++)
		return;
	memcpy(h->vtep, o->targets[n].vtep, sizeof(h->vtep));
	h->listed = RB_INSERT(host_tree, &o->listed, h) == NULL;
	o->fresh = MAX(o->fresh, n + 1U);
	o->stats.hosts++;
}

static int read_address(struct owners *o, struct balancer_address *at) {
	if (at->shift > BALANCER_SHIFT_MAX || at->block > BLOCKS - group_count(at) / BALANCER_BLOCK)
		return -EUCLEAN;
	for (uint32_t i = 0; i < group_count(at) / BALANCER_BLOCK; i++)
		if (o->blocks[at->block + i])
			return -EUCLEAN;
	struct shared_address *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct shared_address){.addr.family = AF_INET, .at = at};
	a->addr.v4.s_addr = at->address;
	if (RB_INSERT(address_tree, &o->addresses, a)) {
		free(a);
		return -EUCLEAN;
	}
	o->stats.addresses++;
	blocks_set(o, at, BLOCK_USED);
	for (uint32_t i = 0; i < group_count(at); i++) {
		uint16_t host = o->groups[group_first(at) + i].host;
		if (!host)
			continue;
		read_host(o, host);
		a->owned++;
		o->stats.groups++;
	}
	o->idle |= !a->owned;
	return 0;
}

static int read_addresses(struct owners *o) {
	for (uint32_t i = 0; i < BALANCER_BUCKETS * BALANCER_WAYS; i++) {
		struct balancer_address *at = &o->buckets[i / BALANCER_WAYS].ways[i % BALANCER_WAYS];
		int r = at->state == BALANCER_SHARED ? read_address(o, at) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_prefixes(struct owners *o) {
	struct balancer_prefix key, *last = NULL;
	while (bpf_map_get_next_key(o->maps.prefixes, last, &key) == 0) {
		struct shared_prefix *p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->prefix = (struct prefix){.addr.family = AF_INET, .len = (uint8_t)key.length};
		memcpy(p->prefix.addr.bytes, key.address, sizeof(key.address));
		RB_INSERT(prefix_tree, &o->prefixes, p);
		o->stats.prefixes++;
		last = &key;
	}
	return errno == ENOENT ? 0 : -errno;
}

static int owners_read(struct owners *o, bool adopted, struct error *err) {
	int r = read_addresses(o);
	if (r >= 0)
		r = read_prefixes(o);
	if (r < 0)
		return error_errno(err, r, "read the tables of the balancer");
	for (uint32_t n = 1; n < o->fresh; n++)
		if (!o->hosts[n].groups) {
			o->hosts[n].next = o->free;
			o->free = (uint16_t)n;
		}
	/* The process before may have taken something out of use just now. */
	return adopted ? owners_settle(o, err) : 0;
}

static void *map_memory(int fd, size_t size) {
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

#define BUCKETS_SIZE (BALANCER_BUCKETS * sizeof(struct balancer_bucket))
#define GROUPS_SIZE  (BALANCER_OWNERS * sizeof(struct balancer_owner))
#define TARGETS_SIZE (BALANCER_HOSTS * sizeof(struct balancer_host))

int owners_new(struct owners **ret, const struct owners_maps *maps, bool adopted, struct error *err) {
	_cleanup_(cleanup_owners) struct owners *o = calloc(1, sizeof(*o));
	if (!o)
		return error_oom(err);
	o->maps = *maps;
	o->grace_fd = o->grace_inner_fd = -1;
	o->fresh = 1;
	o->refused = SIZE_MAX;
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	o->grace_inner_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "grace_inner", 4, 4, 1, NULL);
	if (o->grace_inner_fd < 0)
		return error_errno(err, errno, "make a map");
	opts.inner_map_fd = (uint32_t)o->grace_inner_fd;
	o->grace_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace", 4, 4, 1, &opts);
	if (o->grace_fd < 0)
		return error_errno(err, errno, "make a map of maps");
	o->buckets = map_memory(maps->addresses, BUCKETS_SIZE);
	o->groups = map_memory(maps->owners, GROUPS_SIZE);
	o->targets = map_memory(maps->hosts, TARGETS_SIZE);
	if (!o->buckets || !o->groups || !o->targets)
		return error_errno(err, errno, "map the balancer's tables into memory");
	int r = owners_read(o, adopted, err);
	if (r >= 0)
		*ret = TAKE_PTR(o);
	return r;
}

struct owners *owners_free(struct owners *o) {
	struct shared_address *a;
	struct shared_prefix *p;
	if (!o)
		return NULL;
	while ((a = RB_ROOT(&o->addresses))) {
		RB_REMOVE(address_tree, &o->addresses, a);
		free(a);
	}
	while ((p = RB_ROOT(&o->prefixes))) {
		RB_REMOVE(prefix_tree, &o->prefixes, p);
		free(p);
	}
	if (o->buckets)
		munmap(o->buckets, BUCKETS_SIZE);
	if (o->groups)
		munmap(o->groups, GROUPS_SIZE);
	if (o->targets)
		munmap(o->targets, TARGETS_SIZE);
	safe_close(o->grace_fd);
	safe_close(o->grace_inner_fd);
	free(o);
	return NULL;
}

void owners_stats(const struct owners *o, struct balancer_stats *ret) {
	*ret = o->stats;
}
