/* SPDX-License-Identifier: Apache-2.0 */
#include "service/owners.h"

#include <bpf/bpf.h>
#include <string.h>
#include <sys/mman.h>

#include "base/tree.h"
#include "base/util.h"

#define BLOCKS (BALANCER_OWNERS / BALANCER_BLOCK)

struct shared_address {
	RB_ENTRY(shared_address) link;
	struct addr addr;
	struct balancer_address at;
	uint32_t owned; /* groups that have an owner */
};

struct shared_prefix {
	RB_ENTRY(shared_prefix) link;
	struct prefix prefix;
	bool marked;
};

/* An element of the map `endpoints`. */
struct slot {
	RB_ENTRY(slot) link; /* if listed */
	struct balancer_target target;
	uint32_t groups; /* groups that it owns */
	uint32_t next;   /* in a list of slots that own none; 0 ends it */
	bool listed;
};

RB_HEAD(address_tree, shared_address);
RB_HEAD(prefix_tree, shared_prefix);
RB_HEAD(slot_tree, slot);

enum block {
	BLOCK_FREE,
	BLOCK_USED,
	BLOCK_RESTS,
};

struct owners {
	struct owners_maps maps;
	uint32_t *groups;                /* the map `owners`: BALANCER_OWNERS numbers of slots */
	struct balancer_target *targets; /* the map `endpoints` */
	struct slot *slots;              /* BALANCER_ENDPOINTS */
	uint8_t *marks;                  /* a bit for each group, set since owners_begin() */
	uint8_t blocks[BLOCKS];          /* enum block */
	uint32_t fresh;                  /* the first slot that was never used */
	uint32_t free, resting;          /* lists of slots */
	bool removed;                    /* an element of the map `addresses` rests, too */
	int grace_fd, grace_inner_fd;    /* an array of maps, and the map that is put into it */
	struct address_tree addresses;
	struct prefix_tree prefixes;
	struct slot_tree endpoints;
	struct balancer_stats stats;
};

static int shared_address_cmp(const struct shared_address *a, const struct shared_address *b) {
	return addr_cmp(&a->addr, &b->addr);
}

static int shared_prefix_cmp(const struct shared_prefix *a, const struct shared_prefix *b) {
	return prefix_cmp(&a->prefix, &b->prefix);
}

static int slot_cmp(const struct slot *a, const struct slot *b) {
	return memcmp(&a->target, &b->target, sizeof(a->target));
}

RB_GENERATE_INTERNAL(address_tree, shared_address, link, shared_address_cmp, static _unused_)
RB_GENERATE_INTERNAL(prefix_tree, shared_prefix, link, shared_prefix_cmp, static _unused_)
RB_GENERATE_INTERNAL(slot_tree, slot, link, slot_cmp, static _unused_)

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
		uint32_t n = o->resting;
		o->resting = o->slots[n].next;
		o->slots[n].next = o->free;
		o->free = n;
	}
	for (size_t i = 0; i < BLOCKS; i++)
		if (o->blocks[i] == BLOCK_RESTS)
			o->blocks[i] = BLOCK_FREE;
	o->removed = false;
	return 0;
}

/* -- endpoints -- */

static void slot_unref(struct owners *o, uint32_t n) {
	struct slot *s = &o->slots[n];
	if (--s->groups)
		return;
	if (s->listed)
		RB_REMOVE(slot_tree, &o->endpoints, s);
	s->next = o->resting;
	o->resting = n;
	o->stats.endpoints--;
}

/* The number of the slot of this endpoint, which now owns one group more than it does. */
static int slot_ref(struct owners *o, const struct balancer_endpoint *e, uint32_t *ret, struct error *err) {
	struct slot key = {0}, *s;
	memcpy(key.target.vtep, e->vtep.bytes, sizeof(key.target.vtep));
	memcpy(key.target.mac, e->mac.bytes, sizeof(key.target.mac));
	key.target.sum = owners_sum(&key.target, offsetof(struct balancer_target, sum));
	s = RB_FIND(slot_tree, &o->endpoints, &key);
	if (!s) {
		if (!o->free && o->fresh == BALANCER_ENDPOINTS && o->resting) {
			int r = owners_settle(o, err);
			if (r < 0)
				return r;
		}
		if (!o->free && o->fresh == BALANCER_ENDPOINTS)
			return error_set(err, ENOSPC, "the balancer has no room for more than %u endpoints",
			                 BALANCER_ENDPOINTS - 1);
		uint32_t n = o->free ? o->free : o->fresh++;
		s = &o->slots[n];
		if (o->free)
			o->free = s->next;
		*s = (struct slot){.target = key.target, .listed = true};
		o->targets[n] = key.target;
		RB_INSERT(slot_tree, &o->endpoints, s);
		o->stats.endpoints++;
	}
	s->groups++;
	*ret = (uint32_t)(s - o->slots);
	return 0;
}

/* -- addresses -- */

static uint32_t group_count(const struct balancer_address *at) {
	return 65536U >> at->shift;
}

static bool group_is_marked(const struct owners *o, uint32_t group) {
	return o->marks[group / 8] >> (group % 8) & 1;
}

static void group_mark(struct owners *o, uint32_t group) {
	o->marks[group / 8] |= (uint8_t)(1U << (group % 8));
}

/* Gives a group to a slot (0: to nobody). The slot's content is in memory before its number is. */
static void group_write(struct owners *o, struct shared_address *a, uint32_t group, uint32_t slot) {
	uint32_t old = o->groups[group];
	if (old == slot)
		return;
	__atomic_store_n(&o->groups[group], slot, __ATOMIC_RELEASE);
	if (slot)
		o->slots[slot].groups++, a->owned++, o->stats.groups++;
	if (old)
		slot_unref(o, old), a->owned--, o->stats.groups--;
}

static void blocks_set(struct owners *o, const struct balancer_address *at, enum block state) {
	uint32_t n = group_count(at);
	memset(o->blocks + at->base / BALANCER_BLOCK, state, n / BALANCER_BLOCK);
	if (state == BLOCK_USED)
		o->stats.group_room += n;
	else
		o->stats.group_room -= n;
}

/* Finds blocks for AT->shift and fills AT->base; -ENOSPC. */
static int blocks_find(const struct owners *o, struct balancer_address *at) {
	size_t want = group_count(at) / BALANCER_BLOCK, run = 0;
	for (size_t i = 0; i < BLOCKS; i++) {
		run = o->blocks[i] == BLOCK_FREE ? run + 1 : 0;
		if (run == want) {
			at->base = (uint32_t)(i + 1 - want) * BALANCER_BLOCK;
			return 0;
		}
	}
	return -ENOSPC;
}

static int address_write(struct owners *o, const struct addr *addr, const struct balancer_address *at,
                         struct error *err) {
	char text[ADDR_STR_MAX];
	if (bpf_map_update_elem(o->maps.addresses, &addr->v4, at, BPF_ANY) < 0)
		return error_errno(err, errno, "tell the balancer of %s", addr_str(addr, text));
	return 0;
}

static struct shared_address *address_find(struct owners *o, const struct addr *addr) {
	struct shared_address key = {.addr = *addr};
	return RB_FIND(address_tree, &o->addresses, &key);
}

/* Its groups have no owners. */
static int address_remove(struct owners *o, struct shared_address *a, struct error *err) {
	char text[ADDR_STR_MAX];
	if (bpf_map_delete_elem(o->maps.addresses, &a->addr.v4) < 0 && errno != ENOENT)
		return error_errno(err, errno, "take %s from the balancer", addr_str(&a->addr, text));
	blocks_set(o, &a->at, BLOCK_RESTS);
	o->removed = true;
	RB_REMOVE(address_tree, &o->addresses, a);
	o->stats.addresses--;
	free(a);
	return 0;
}

static bool address_is_shared(struct owners *o, const struct addr *addr) {
	struct shared_prefix *p;
	RB_FOREACH (p, prefix_tree, &o->prefixes)
		if (prefix_contains_addr(&p->prefix, addr))
			return true;
	return false;
}

/* Addresses without owners stay for the next slice, as long as they are in a shared prefix and there is room. */
static int addresses_collect(struct owners *o, bool all, struct error *err) {
	struct shared_address *a, *next;
	int r = 0;
	RB_FOREACH_SAFE (a, address_tree, &o->addresses, next)
		if (!a->owned && (all || !address_is_shared(o, &a->addr)) && (r = address_remove(o, a, err)) < 0)
			return r;
	return 0;
}

/* Blocks without owners for AT->shift; fills AT->base. */
static int blocks_reserve(struct owners *o, struct balancer_address *at, struct error *err) {
	int r = blocks_find(o, at);
	if (r < 0) {
		r = addresses_collect(o, true, err);
		if (r >= 0)
			r = owners_settle(o, err);
		if (r < 0)
			return r;
		r = blocks_find(o, at);
	}
	if (r < 0)
		return error_set(err, ENOSPC,
		                 "the balancer has no room for %u more slices of an address, of %u altogether",
		                 group_count(at), BALANCER_OWNERS);
	memset(o->groups + at->base, 0, group_count(at) * sizeof(*o->groups));
	memset(o->marks + at->base / 8, 0, group_count(at) / 8);
	return 0;
}

static int address_add(struct owners *o, const struct addr *addr, uint32_t shift, struct shared_address **ret,
                       struct error *err) {
	struct balancer_address at = {.shift = shift};
	int r = 0;
	if (o->stats.addresses == BALANCER_ADDRESSES)
		r = addresses_collect(o, true, err);
	/* The element that a removed address had is used again. */
	if (r >= 0 && o->removed)
		r = owners_settle(o, err);
	if (r < 0)
		return r;
	if (o->stats.addresses == BALANCER_ADDRESSES)
		return error_set(err, ENOSPC, "the balancer has no room for more than %d shared addresses",
		                 BALANCER_ADDRESSES);
	_free_ struct shared_address *a = calloc(1, sizeof(*a));
	if (!a)
		return error_oom(err);
	if ((r = blocks_reserve(o, &at, err)) < 0 || (r = address_write(o, addr, &at, err)) < 0)
		return r;
	*a = (struct shared_address){.addr = *addr, .at = at};
	blocks_set(o, &at, BLOCK_USED);
	RB_INSERT(address_tree, &o->addresses, a);
	o->stats.addresses++;
	*ret = TAKE_PTR(a);
	return 0;
}

/* Divides the address into smaller groups, in new blocks, each with the owner that it has. */
static int address_divide(struct owners *o, struct shared_address *a, uint32_t shift, struct error *err) {
	struct balancer_address old = a->at, at = {.shift = shift};
	uint32_t finer = old.shift - shift;
	/* A collection must not take this address. */
	a->owned++;
	int r = blocks_reserve(o, &at, err);
	a->owned--;
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < group_count(&at); i++) {
		uint32_t group = old.base + (i >> finer);
		o->groups[at.base + i] = o->groups[group];
		if (group_is_marked(o, group))
			group_mark(o, at.base + i);
	}
	r = address_write(o, &a->addr, &at, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < group_count(&old); i++) {
		uint32_t slot = o->groups[old.base + i];
		if (slot)
			o->slots[slot].groups += (1U << finer) - 1;
	}
	o->stats.groups += (a->owned << finer) - a->owned;
	a->owned <<= finer;
	a->at = at;
	blocks_set(o, &at, BLOCK_USED);
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

static void slice_write(struct owners *o, struct shared_address *a, const struct slice *s, uint32_t slot) {
	uint32_t first = a->at.base + (s->first >> a->at.shift), last = a->at.base + (s->last >> a->at.shift);
	for (uint32_t group = first; group <= last; group++) {
		group_write(o, a, group, slot);
		group_mark(o, group);
	}
}

int owners_set(struct owners *o, const struct slice *s, const struct balancer_endpoint *e, struct error *err) {
	char text[SLICE_STR_MAX];
	uint32_t slot;
	int r = check_slice(s, err);
	if (r < 0)
		return r;
	if (e->vtep.family != AF_INET6)
		return error_set(err, EINVAL, "slice %s: the VTEP must be IPv6", slice_str(s, text));
	uint32_t shift = slice_shift(s);
	r = slot_ref(o, e, &slot, err);
	if (r >= 0) {
		struct shared_address *a = address_find(o, &s->addr);
		if (!a)
			r = address_add(o, &s->addr, shift, &a, err);
		else if (a->at.shift > shift)
			r = address_divide(o, a, shift, err);
		if (r >= 0)
			slice_write(o, a, s, slot);
		slot_unref(o, slot);
	}
	return r < 0 ? error_prefix(err, "slice %s", slice_str(s, text)) : 0;
}

int owners_clear(struct owners *o, const struct slice *s, struct error *err) {
	char text[SLICE_STR_MAX];
	int r = check_slice(s, err);
	struct shared_address *a = r < 0 ? NULL : address_find(o, &s->addr);
	if (!a)
		return r;
	if (a->at.shift > slice_shift(s) && o->groups[a->at.base + (s->first >> a->at.shift)])
		r = address_divide(o, a, slice_shift(s), err);
	if (r < 0)
		return error_prefix(err, "slice %s", slice_str(s, text));
	if (a->at.shift <= slice_shift(s))
		slice_write(o, a, s, 0);
	return a->owned || address_is_shared(o, &a->addr) ? 0 : address_remove(o, a, err);
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
	return r < 0 ? r : addresses_collect(o, false, err);
}

/* -- mark and sweep -- */

void owners_begin(struct owners *o) {
	struct shared_prefix *p;
	memset(o->marks, 0, BALANCER_OWNERS / 8);
	RB_FOREACH (p, prefix_tree, &o->prefixes)
		p->marked = false;
}

int owners_end(struct owners *o, struct error *err) {
	struct shared_address *a;
	struct shared_prefix *p, *next;
	int r;
	RB_FOREACH (a, address_tree, &o->addresses)
		for (uint32_t g = a->at.base; g < a->at.base + group_count(&a->at); g++)
			if (!group_is_marked(o, g))
				group_write(o, a, g, 0);
	RB_FOREACH_SAFE (p, prefix_tree, &o->prefixes, next)
		if (!p->marked && (r = prefix_remove(o, p, err)) < 0)
			return r;
	return addresses_collect(o, false, err);
}

/* -- what is in the maps -- */

static int read_slot(struct owners *o, uint32_t n) {
	if (n >= BALANCER_ENDPOINTS)
		return -EUCLEAN;
	struct slot *s = &o->slots[n];
	if (s->groups++)
		return 0;
	s->target = o->targets[n];
	s->listed = RB_INSERT(slot_tree, &o->endpoints, s) == NULL;
	o->fresh = MAX(o->fresh, n + 1);
	o->stats.endpoints++;
	return 0;
}

static int read_address(struct owners *o, struct in_addr v4, const struct balancer_address *at) {
	if (at->shift > BALANCER_SHIFT_MAX || at->base % BALANCER_BLOCK || at->base > BALANCER_OWNERS - group_count(at))
		return -EUCLEAN;
	for (uint32_t i = 0; i < group_count(at); i += BALANCER_BLOCK)
		if (o->blocks[(at->base + i) / BALANCER_BLOCK])
			return -EUCLEAN;
	struct shared_address *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct shared_address){.addr = {.family = AF_INET, .v4 = v4}, .at = *at};
	RB_INSERT(address_tree, &o->addresses, a);
	o->stats.addresses++;
	blocks_set(o, at, BLOCK_USED);
	for (uint32_t g = at->base; g < at->base + group_count(at); g++) {
		if (!o->groups[g])
			continue;
		int r = read_slot(o, o->groups[g]);
		if (r < 0)
			return r;
		a->owned++;
		o->stats.groups++;
	}
	return 0;
}

static int read_addresses(struct owners *o) {
	struct in_addr key, *last = NULL;
	while (bpf_map_get_next_key(o->maps.addresses, last, &key) == 0) {
		struct balancer_address at;
		if (bpf_map_lookup_elem(o->maps.addresses, &key, &at) < 0)
			return -errno;
		int r = read_address(o, key, &at);
		if (r < 0)
			return r;
		last = &key;
	}
	return errno == ENOENT ? 0 : -errno;
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

static int owners_read(struct owners *o, struct error *err) {
	int r = read_addresses(o);
	if (r >= 0)
		r = read_prefixes(o);
	if (r < 0)
		return error_errno(err, r, "read the tables of the balancer");
	for (uint32_t n = 1; n < o->fresh; n++)
		if (!o->slots[n].groups) {
			o->slots[n].next = o->free;
			o->free = n;
		}
	/* The process before may have taken something out of use just now. */
	return o->stats.addresses ? owners_settle(o, err) : 0;
}

static void *map_memory(int fd, size_t size) {
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

#define GROUPS_SIZE  (BALANCER_OWNERS * sizeof(uint32_t))
#define TARGETS_SIZE (BALANCER_ENDPOINTS * sizeof(struct balancer_target))

int owners_new(struct owners **ret, const struct owners_maps *maps, struct error *err) {
	_cleanup_(cleanup_owners) struct owners *o = calloc(1, sizeof(*o));
	if (!o)
		return error_oom(err);
	o->maps = *maps;
	o->grace_fd = o->grace_inner_fd = -1;
	o->fresh = 1;
	o->slots = calloc(BALANCER_ENDPOINTS, sizeof(*o->slots));
	o->marks = calloc(BALANCER_OWNERS / 8, 1);
	if (!o->slots || !o->marks)
		return error_oom(err);
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	o->grace_inner_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "grace_inner", 4, 4, 1, NULL);
	if (o->grace_inner_fd < 0)
		return error_errno(err, errno, "make a map");
	opts.inner_map_fd = (uint32_t)o->grace_inner_fd;
	o->grace_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace", 4, 4, 1, &opts);
	if (o->grace_fd < 0)
		return error_errno(err, errno, "make a map of maps");
	o->groups = map_memory(maps->owners, GROUPS_SIZE);
	o->targets = map_memory(maps->endpoints, TARGETS_SIZE);
	if (!o->groups || !o->targets)
		return error_errno(err, errno, "map the balancer's tables into memory");
	int r = owners_read(o, err);
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
	if (o->groups)
		munmap(o->groups, GROUPS_SIZE);
	if (o->targets)
		munmap(o->targets, TARGETS_SIZE);
	safe_close(o->grace_fd);
	safe_close(o->grace_inner_fd);
	free(o->slots);
	free(o->marks);
	free(o);
	return NULL;
}

void owners_stats(const struct owners *o, struct balancer_stats *ret) {
	*ret = o->stats;
}
