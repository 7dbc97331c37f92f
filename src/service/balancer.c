/* SPDX-License-Identifier: Apache-2.0 */
#include "service/balancer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>

#include "base/netns.h"
#include "base/util.h"
#include "base/vtep.h"
#include "bpf/balancer.skel.h"
#include "service/owners.h"
#include "service/program.h"

#define PROGRAM_NAME "nacre_balancer"

struct balancer {
	int netns_fd;
	struct balancer_bpf *skel;
	struct program program; /* as loaded, whether attached or not */
	struct owners *owners;
	bool adopted;
};

/* -- what is attached -- */

/* Calls in `underlay`. */
struct nic_call {
	const char *nic;
	int ifindex;
	uint32_t id; /* of the program of the NIC; 0: none */
	uint32_t flags;
	int fd, old_fd; /* programs; -1: none */
};

static int nic_query(void *arg, struct error *err) {
	struct nic_call *c = arg;
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	c->ifindex = (int)if_nametoindex(c->nic);
	if (!c->ifindex)
		return error_errno(err, errno, "network device `%s`", c->nic);
	int r = bpf_xdp_query(c->ifindex, 0, &q);
	if (r < 0)
		return error_errno(err, r, "XDP program of `%s`", c->nic);
	c->id = q.drv_prog_id ? q.drv_prog_id : q.skb_prog_id ? q.skb_prog_id : q.hw_prog_id;
	c->flags = q.drv_prog_id ? XDP_FLAGS_DRV_MODE : q.skb_prog_id ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_HW_MODE;
	return 0;
}

/* Attaches the program; replaces OLD_FD, and only that. */
static int nic_attach(void *arg, struct error *err) {
	const struct nic_call *c = arg;
	LIBBPF_OPTS(bpf_xdp_attach_opts, o, .old_prog_fd = c->old_fd);
	bool replace = c->old_fd >= 0;
	int r = bpf_xdp_attach(c->ifindex, c->fd, c->flags | (replace ? 0 : XDP_FLAGS_UPDATE_IF_NOEXIST),
	                       replace ? &o : NULL);
	return r < 0 ? error_errno(err, r, "attach the balancer to `%s`", c->nic) : 0;
}

static int nic_detach(void *arg, struct error *err) {
	const struct nic_call *c = arg;
	LIBBPF_OPTS(bpf_xdp_attach_opts, o, .old_prog_fd = c->old_fd);
	int r = bpf_xdp_detach(c->ifindex, c->flags, &o);
	return r < 0 ? error_errno(err, r, "detach the balancer from `%s`", c->nic) : 0;
}

/*
 * Fills C and opens the balancer that the NIC has; RET->fd is -1 if it has no program. -EBUSY: it has the program of
 * somebody else. -ENODEV: there is no such NIC.
 */
static int nic_open(int netns_fd, const char *nic, struct nic_call *c, struct program *ret, struct error *err) {
	*c = (struct nic_call){.nic = nic, .fd = -1, .old_fd = -1};
	*ret = (struct program){.fd = -1};
	int r = netns_run(netns_fd, nic_query, c, err);
	if (r < 0 || !c->id)
		return r;
	r = program_open(ret, c->id, err);
	if (r < 0)
		return r;
	c->old_fd = ret->fd;
	if (streq(ret->info.name, PROGRAM_NAME))
		return 0;
	r = error_set(err, EBUSY, "`%s` has another XDP program, `%s`", nic, ret->info.name);
	program_close(ret);
	return r;
}

/* -- opening -- */

static struct balancer_settings settings_of(const struct balancer_config *c) {
	struct balancer_settings s = {.layout = BALANCER_LAYOUT, .vni = htonl(c->vni << 8), .port = htons(VXLAN_PORT)};
	struct mac mac = vtep_router_mac(&c->vtep);
	memcpy(s.vtep, c->vtep.bytes, sizeof(s.vtep));
	memcpy(s.router_mac, mac.bytes, sizeof(s.router_mac));
	s.router_sum = owners_sum(s.router_mac, sizeof(s.router_mac));
	return s;
}

static bool layout_is_ours(const struct program *p) {
	char data[PROGRAM_CONSTANTS_MAX];
	uint32_t layout;
	size_t size;
	if (program_constants(p, data, sizeof(data), &size) < 0 || size < sizeof(layout))
		return false;
	memcpy(&layout, data, sizeof(layout));
	return layout == BALANCER_LAYOUT;
}

/* Loads a program with the maps of FROM, or with new ones if it is NULL or its maps are different (returns 0 then). */
static int balancer_load(struct balancer *b, const struct balancer_config *c, const struct program *from,
                         struct error *err) {
	int r = 0;
	b->skel = balancer_bpf__open();
	if (!b->skel)
		return error_errno(err, errno, "open the balancer's program");
	struct balancer_settings settings = settings_of(c);
	memcpy((void *)&b->skel->rodata->settings, &settings, sizeof(settings));
	if (from && layout_is_ours(from))
		r = program_lend_maps(from, b->skel->obj, err);
	b->adopted = r > 0;
	if (r >= 0)
		r = program_load(b->skel->obj, err);
	if (r >= 0)
		r = program_of_fd(&b->program, bpf_program__fd(b->skel->progs.nacre_balancer), err);
	if (r < 0)
		return r;
	const struct owners_maps maps = {.addresses = bpf_map__fd(b->skel->maps.addresses),
	                                 .owners = bpf_map__fd(b->skel->maps.owners),
	                                 .hosts = bpf_map__fd(b->skel->maps.hosts),
	                                 .prefixes = bpf_map__fd(b->skel->maps.prefixes)};
	return owners_new(&b->owners, &maps, b->adopted, err);
}

static void balancer_unload(struct balancer *b) {
	b->owners = owners_free(b->owners);
	program_close(&b->program);
	balancer_bpf__destroy(b->skel);
	b->skel = NULL;
}

/* The balancer of the first NIC that has one; its fd is -1 if none has. */
static int balancer_look(int netns_fd, const struct balancer_config *c, struct program *ret, struct error *err) {
	*ret = (struct program){.fd = -1};
	for (size_t i = 0; i < c->n_nics && ret->fd < 0; i++) {
		struct nic_call call;
		struct error e;
		int r = nic_open(netns_fd, c->nics[i], &call, ret, &e);
		if (r < 0 && r != -ENODEV && r != -EBUSY && r != -ENOENT) {
			if (err)
				*err = e;
			return r;
		}
	}
	return 0;
}

int balancer_open(struct balancer **ret, const struct balancer_config *c, struct error *err) {
	_balancer_free_ struct balancer *b = calloc(1, sizeof(*b));
	struct program running;
	if (!b)
		return error_oom(err);
	b->program.fd = -1;
	if (c->vtep.family != AF_INET6 || c->vni >= 1U << 24)
		return error_set(err, EINVAL, "the balancer's VTEP must be IPv6, its VNI less than 2^24");
	b->netns_fd = fcntl(c->netns_fd, F_DUPFD_CLOEXEC, 0);
	if (b->netns_fd < 0)
		return error_errno(err, errno, "duplicate a descriptor");
	program_init();
	int r = balancer_look(b->netns_fd, c, &running, err);
	if (r < 0)
		return r;
	r = balancer_load(b, c, running.fd >= 0 ? &running : NULL, err);
	program_close(&running);
	if (r == -EUCLEAN && b->adopted) {
		balancer_unload(b);
		r = balancer_load(b, c, NULL, err);
	}
	if (r >= 0)
		*ret = TAKE_PTR(b);
	return r < 0 ? r : 0;
}

struct balancer *balancer_free(struct balancer *b) {
	if (b) {
		balancer_unload(b);
		safe_close(b->netns_fd);
		free(b);
	}
	return NULL;
}

bool balancer_is_adopted(const struct balancer *b) {
	return b->adopted;
}

/* -- NICs -- */

const char *balancer_mode_name(enum balancer_mode mode) {
	return mode == BALANCER_NATIVE ? "native" : "generic";
}

int balancer_attach(struct balancer *b, const char *nic, enum balancer_mode want, enum balancer_mode *ret_mode,
                    struct error *err) {
	struct nic_call c;
	struct program running;
	int r = nic_open(b->netns_fd, nic, &c, &running, err);
	if (r < 0)
		return r;
	c.fd = b->program.fd;
	if (running.fd < 0) {
		c.flags = want == BALANCER_NATIVE ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
		r = netns_run(b->netns_fd, nic_attach, &c, err);
		if (r < 0 && r != -EEXIST && r != -EBUSY && want == BALANCER_NATIVE) {
			c.flags = XDP_FLAGS_SKB_MODE;
			r = netns_run(b->netns_fd, nic_attach, &c, err);
		}
	} else if (!program_equal(&running, &b->program)) {
		r = netns_run(b->netns_fd, nic_attach, &c, err);
	}
	program_close(&running);
	if (r >= 0 && ret_mode)
		*ret_mode = c.flags == XDP_FLAGS_SKB_MODE ? BALANCER_GENERIC : BALANCER_NATIVE;
	return r;
}

int balancer_detach(struct balancer *b, const char *nic, struct error *err) {
	struct nic_call c;
	struct program running;
	struct error e = {0};
	int r = nic_open(b->netns_fd, nic, &c, &running, &e);
	if (r >= 0 && running.fd >= 0)
		r = netns_run(b->netns_fd, nic_detach, &c, &e);
	if (r == -ENODEV || r == -EBUSY)
		r = 0;
	program_close(&running);
	if (r < 0 && err)
		*err = e;
	return r;
}

/* -- tables -- */

int balancer_set_prefix(struct balancer *b, const struct prefix *p, struct error *err) {
	return owners_set_prefix(b->owners, p, err);
}

int balancer_clear_prefix(struct balancer *b, const struct prefix *p, struct error *err) {
	return owners_clear_prefix(b->owners, p, err);
}

int balancer_set(struct balancer *b, const struct slice *s, const struct balancer_endpoint *e, struct error *err) {
	return owners_set(b->owners, s, e, err);
}

int balancer_clear(struct balancer *b, const struct slice *s, struct error *err) {
	return owners_clear(b->owners, s, err);
}

void balancer_begin(struct balancer *b) {
	owners_begin(b->owners);
}

int balancer_end(struct balancer *b, struct error *err) {
	return owners_end(b->owners, err);
}

int balancer_stats(const struct balancer *b, struct balancer_stats *ret, struct error *err) {
	struct balancer_stats s;
	owners_stats(b->owners, &s);
	for (uint32_t i = 0; i < BALANCER_COUNTERS; i++) {
		int r = program_sum_counter(bpf_map__fd(b->skel->maps.counters), i, &s.packets[i], err);
		if (r < 0)
			return r;
	}
	*ret = s;
	return 0;
}

const char *balancer_counter_name(enum balancer_counter c) {
	static const char *const names[BALANCER_COUNTERS] = {
		[BALANCER_FORWARDED] = "forwarded", [BALANCER_LOCAL] = "local",
		[BALANCER_NO_OWNER] = "no_owner",   [BALANCER_FRAGMENT] = "fragment",
		[BALANCER_PROTOCOL] = "protocol",   [BALANCER_ICMP_TYPE] = "icmp_type",
		[BALANCER_QUOTE] = "quote",         [BALANCER_MALFORMED] = "malformed",
	};
	return names[c];
}

int balancer_program(const struct balancer *b) {
	return b->program.fd;
}
