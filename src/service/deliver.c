/* SPDX-License-Identifier: Apache-2.0 */
#include "service/deliver.h"

#include <fcntl.h>
#include <net/if.h>
#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "bpf/deliver.skel.h"
#include "service/tcfilter.h"

struct delivery {
	RB_ENTRY(delivery) link;
	struct deliver_mac mac;
	uint32_t ifindex;
	bool marked;
};

RB_HEAD(delivery_tree, delivery);

static int delivery_cmp(const struct delivery *a, const struct delivery *b) {
	return memcmp(&a->mac, &b->mac, sizeof(a->mac));
}

RB_GENERATE_INTERNAL(delivery_tree, delivery, link, delivery_cmp, static _unused_)

struct deliver {
	int netns_fd;
	char device[IFNAMSIZ];
	struct deliver_bpf *skel;
	struct program program;
	struct delivery_tree deliveries; /* what the map holds */
	size_t n_deliveries;
};

static struct tcfilter deliver_filter(const struct deliver *d) {
	return (struct tcfilter){.netns_fd = d->netns_fd, .device = d->device, .program = "nacre_deliver"};
}

/* -- opening -- */

static int delivery_add(struct deliver *d, const struct deliver_mac *mac, uint32_t ifindex, struct delivery **ret) {
	struct delivery *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	*e = (struct delivery){.mac = *mac, .ifindex = ifindex};
	RB_INSERT(delivery_tree, &d->deliveries, e);
	d->n_deliveries++;
	if (ret)
		*ret = e;
	return 0;
}

static void delivery_forget(struct deliver *d, struct delivery *e) {
	RB_REMOVE(delivery_tree, &d->deliveries, e);
	d->n_deliveries--;
	free(e);
}

static int deliver_read(struct deliver *d, struct error *err) {
	struct deliver_mac key, *last = NULL;
	int r = 0, fd = bpf_map__fd(d->skel->maps.devices);
	while (r >= 0 && bpf_map_get_next_key(fd, last, &key) == 0) {
		uint32_t ifindex;
		if (bpf_map_lookup_elem(fd, &key, &ifindex) < 0)
			r = -errno;
		else
			r = delivery_add(d, &key, ifindex, NULL);
		last = &key;
	}
	return r < 0 ? error_errno(err, r, "read the table of devices") : 0;
}

static int deliver_load(struct deliver *d, struct error *err) {
	const struct tcfilter filter = deliver_filter(d);
	struct program running;
	d->skel = deliver_bpf__open();
	if (!d->skel)
		return error_errno(err, errno, "open the program for the delivery of frames");
	int r = tcfilter_open(&filter, &running, err);
	if (r == -ENODEV)
		r = 0;
	if (r >= 0 && running.fd >= 0)
		r = program_lend_maps(&running, d->skel->obj, err);
	program_close(&running);
	if (r >= 0)
		r = program_load(d->skel->obj, err);
	if (r >= 0)
		r = program_of_fd(&d->program, bpf_program__fd(d->skel->progs.nacre_deliver), err);
	return r < 0 ? r : deliver_read(d, err);
}

int deliver_open(struct deliver **ret, int netns_fd, const char *device, struct error *err) {
	_deliver_free_ struct deliver *d = calloc(1, sizeof(*d));
	if (!d)
		return error_oom(err);
	d->program.fd = -1;
	snprintf(d->device, sizeof(d->device), "%s", device);
	d->netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 0);
	if (d->netns_fd < 0)
		return error_errno(err, errno, "duplicate a descriptor");
	program_init();
	int r = deliver_load(d, err);
	if (r >= 0)
		*ret = TAKE_PTR(d);
	return r;
}

struct deliver *deliver_free(struct deliver *d) {
	struct delivery *e;
	if (!d)
		return NULL;
	while ((e = RB_ROOT(&d->deliveries)))
		delivery_forget(d, e);
	program_close(&d->program);
	deliver_bpf__destroy(d->skel);
	safe_close(d->netns_fd);
	free(d);
	return NULL;
}

int deliver_attach(struct deliver *d, struct error *err) {
	const struct tcfilter filter = deliver_filter(d);
	struct program running;
	int r = tcfilter_open(&filter, &running, err);
	if (r >= 0 && (running.fd < 0 || !program_equal(&running, &d->program)))
		r = tcfilter_attach(&filter, d->program.fd, err);
	program_close(&running);
	return r;
}

int deliver_detach(struct deliver *d, struct error *err) {
	const struct tcfilter filter = deliver_filter(d);
	struct error e = {0};
	int r = tcfilter_detach(&filter, &e);
	if (r == -ENODEV)
		r = 0;
	if (r < 0 && err)
		*err = e;
	return r;
}

/* -- the table -- */

static struct delivery *delivery_find(struct deliver *d, const struct mac *mac) {
	struct delivery key = {0};
	memcpy(key.mac.bytes, mac->bytes, sizeof(key.mac.bytes));
	return RB_FIND(delivery_tree, &d->deliveries, &key);
}

int deliver_put(struct deliver *d, const struct mac *mac, int ifindex, struct error *err) {
	char text[MAC_STR_MAX];
	struct delivery *e = delivery_find(d, mac);
	struct deliver_mac key = {0};
	uint32_t value = (uint32_t)ifindex;
	memcpy(key.bytes, mac->bytes, sizeof(key.bytes));
	if (!e && d->n_deliveries == DELIVER_INSTANCES)
		return error_set(err, ENOSPC, "frames for %s: there is no room for more than %d instances",
		                 mac_str(mac, text), DELIVER_INSTANCES);
	if ((!e || e->ifindex != value) &&
	    bpf_map_update_elem(bpf_map__fd(d->skel->maps.devices), &key, &value, BPF_ANY) < 0)
		return error_errno(err, errno, "frames for %s", mac_str(mac, text));
	if (!e && delivery_add(d, &key, value, &e) < 0) {
		bpf_map_delete_elem(bpf_map__fd(d->skel->maps.devices), &key);
		return error_oom(err);
	}
	e->ifindex = value;
	e->marked = true;
	return 0;
}

static int delivery_remove(struct deliver *d, struct delivery *e, struct error *err) {
	char text[MAC_STR_MAX];
	struct mac mac;
	memcpy(mac.bytes, e->mac.bytes, sizeof(mac.bytes));
	if (bpf_map_delete_elem(bpf_map__fd(d->skel->maps.devices), &e->mac) < 0 && errno != ENOENT)
		return error_errno(err, errno, "remove frames for %s", mac_str(&mac, text));
	delivery_forget(d, e);
	return 0;
}

int deliver_remove(struct deliver *d, const struct mac *mac, struct error *err) {
	struct delivery *e = delivery_find(d, mac);
	return e ? delivery_remove(d, e, err) : 0;
}

void deliver_begin(struct deliver *d) {
	struct delivery *e;
	RB_FOREACH (e, delivery_tree, &d->deliveries)
		e->marked = false;
}

int deliver_end(struct deliver *d, struct error *err) {
	struct delivery *e, *next;
	int r;
	RB_FOREACH_SAFE (e, delivery_tree, &d->deliveries, next)
		if (!e->marked && (r = delivery_remove(d, e, err)) < 0)
			return r;
	return 0;
}

int deliver_count(const struct deliver *d, uint64_t *ret, struct error *err) {
	return program_sum_counter(bpf_map__fd(d->skel->maps.delivered), 0, ret, err);
}
