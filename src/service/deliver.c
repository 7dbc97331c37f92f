/* SPDX-License-Identifier: Apache-2.0 */
#include "service/deliver.h"

#include <fcntl.h>
#include <net/if.h>
#include <string.h>

#include "base/netns.h"
#include "base/tree.h"
#include "base/util.h"
#include "bpf/deliver.skel.h"
#include "service/program.h"

#define PROGRAM_NAME "nacre_deliver"
/* Which of the filters of the device's ingress is ours. */
#define HANDLE   0x4e43
#define PRIORITY 0x4e43

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

/* -- the device -- */

struct filter_call {
	const char *device;
	int ifindex;
	uint32_t id; /* of the program; 0: none */
	int fd;      /* the program to attach */
};

static int filter_query(void *arg, struct error *err) {
	struct filter_call *c = arg;
	c->ifindex = (int)if_nametoindex(c->device);
	if (!c->ifindex)
		return error_errno(err, errno, "network device `%s`", c->device);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = c->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = HANDLE, .priority = PRIORITY);
	int r = bpf_tc_query(&hook, &o);
	/* Without a clsact qdisc the kernel says -EINVAL. */
	if (r < 0 && r != -ENOENT && r != -EINVAL)
		return error_errno(err, r, "filter of `%s`", c->device);
	c->id = r < 0 ? 0 : o.prog_id;
	return 0;
}

static int filter_attach(void *arg, struct error *err) {
	const struct filter_call *c = arg;
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = c->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, o, .prog_fd = c->fd, .handle = HANDLE, .priority = PRIORITY,
	            .flags = BPF_TC_F_REPLACE);
	int r = bpf_tc_hook_create(&hook);
	if (r >= 0 || r == -EEXIST)
		r = bpf_tc_attach(&hook, &o);
	return r < 0 ? error_errno(err, r, "attach the delivery of frames to `%s`", c->device) : 0;
}

static int filter_detach(void *arg, struct error *err) {
	const struct filter_call *c = arg;
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = c->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = HANDLE, .priority = PRIORITY);
	int r = bpf_tc_detach(&hook, &o);
	return r < 0 && r != -ENOENT ? error_errno(err, r, "detach the delivery of frames from `%s`", c->device) : 0;
}

/* Opens the program of the device; RET->fd is -1 if there is none, or not one like this. */
static int filter_open(struct deliver *d, struct filter_call *c, struct program *ret, struct error *err) {
	*c = (struct filter_call){.device = d->device, .fd = d->program.fd};
	*ret = (struct program){.fd = -1};
	int r = netns_run(d->netns_fd, filter_query, c, err);
	if (r >= 0 && c->id)
		r = program_open(ret, c->id, err);
	if (r >= 0 && ret->fd >= 0 && !streq(ret->info.name, PROGRAM_NAME))
		program_close(ret);
	return r;
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
	struct filter_call c;
	struct program running;
	d->skel = deliver_bpf__open();
	if (!d->skel)
		return error_errno(err, errno, "open the program for the delivery of frames");
	int r = filter_open(d, &c, &running, err);
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
	struct filter_call c;
	struct program running;
	int r = filter_open(d, &c, &running, err);
	if (r >= 0 && (running.fd < 0 || !program_equal(&running, &d->program)))
		r = netns_run(d->netns_fd, filter_attach, &c, err);
	program_close(&running);
	return r;
}

int deliver_detach(struct deliver *d, struct error *err) {
	struct filter_call c;
	struct program running;
	struct error e = {0};
	int r = filter_open(d, &c, &running, &e);
	if (r >= 0 && running.fd >= 0)
		r = netns_run(d->netns_fd, filter_detach, &c, &e);
	program_close(&running);
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
