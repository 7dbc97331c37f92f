/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/build.h"

#include <stdarg.h>
#include <string.h>

#include "base/util.h"
#include "hw/models.h"

#define NONE SIZE_MAX

void hw_raws_clear(struct hw_raws *r) {
	free(r->v);
	*r = (struct hw_raws){0};
}

int hw_raws_add(struct hw_raws *r, struct hw_raw **ret, struct error *err) {
	if (r->n == HW_RAW_MAX)
		return error_set(err, EFBIG, "there are more than %d PCI functions and root complexes", HW_RAW_MAX);
	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 64;
		struct hw_raw *v = reallocarray(r->v, cap, sizeof(*v));
		if (!v)
			return error_oom(err);
		r->v = v;
		r->cap = cap;
	}
	struct hw_raw *raw = &r->v[r->n++];
	memset(raw, 0, sizeof(*raw));
	raw->parent = -1;
	raw->node = -1;
	raw->type = HW_RAW_ENDPOINT;
	jt_init(&jt_hw_device, &raw->found);
	*ret = raw;
	return 0;
}

struct build {
	struct hw_raws *raws;
	struct hw_host *h;
	struct error *err;
	size_t *order;              /* indexes, sorted by address */
	size_t *first, *next, *end; /* children of each raw, as lists in the order of their addresses */
	bool *wanted;               /* it, or something below it, is a device of the model */
};

/* -EINVAL with "line 7: 0000:01:00.0: …" or without the line. */
static int raw_fail(const struct build *b, const struct hw_raw *raw, const char *fmt, ...) _printf_(3, 4);
static int raw_fail(const struct build *b, const struct hw_raw *raw, const char *fmt, ...) {
	char msg[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	const char *what = raw->type == HW_RAW_ROOT ? "root complex " : "";
	if (raw->line)
		return error_set(b->err, EINVAL, "line %u: %s%s: %s", raw->line, what, raw->name, msg);
	return error_set(b->err, EINVAL, "%s%s: %s", what, raw->name, msg);
}

/* Root complexes first. Those without an address keep the order of the source. */
static int raw_cmp(const void *pa, const void *pb, void *arg) {
	const struct hw_raws *raws = arg;
	size_t i = *(const size_t *)pa, k = *(const size_t *)pb;
	const struct hw_raw *a = &raws->v[i], *b = &raws->v[k];
	int c = (a->type != HW_RAW_ROOT) - (b->type != HW_RAW_ROOT);
	if (c == 0)
		c = hw_address_cmp(&a->address, &b->address);
	return c ? c : (i > k) - (i < k);
}

static int build_sort(struct build *b) {
	struct hw_raws *raws = b->raws;
	for (size_t i = 0; i < raws->n; i++)
		b->order[i] = i;
	qsort_r(b->order, raws->n, sizeof(*b->order), raw_cmp, raws);
	for (size_t i = 1; i < raws->n; i++) {
		const struct hw_raw *one = &raws->v[b->order[i - 1]], *two = &raws->v[b->order[i]];
		if (two->name[0] && streq(one->name, two->name)) {
			if (one->line)
				return raw_fail(b, two, "the address is there twice, first in line %u", one->line);
			return raw_fail(b, two, "the address is there twice");
		}
	}
	return 0;
}

/* Checks one function against what it is below, and appends it to the children of that. */
static int build_link(struct build *b, size_t index) {
	struct hw_raw *raw = &b->raws->v[index];
	if (raw->type == HW_RAW_ROOT)
		return 0;
	if (raw->parent < 0 || (size_t)raw->parent >= b->raws->n)
		return raw_fail(b, raw, "it is below nothing");
	const struct hw_raw *above = &b->raws->v[raw->parent];
	if (above->type == HW_RAW_ENDPOINT)
		return raw_fail(b, raw, "it is below %s, which is no bridge", above->name);
	if (above->has_bus_range && (raw->address.domain != above->address.domain ||
	                             raw->address.bus < above->first_bus || raw->address.bus > above->last_bus))
		return raw_fail(b, raw, "it is below %s%s, which has buses %02x to %02x of domain %04x",
		                above->type == HW_RAW_ROOT ? "root complex " : "", above->name, above->first_bus,
		                above->last_bus, above->address.domain);
	unsigned depth = 0;
	for (int p = raw->parent; p >= 0; p = b->raws->v[p].parent)
		if (++depth > HW_DEPTH_MAX)
			return raw_fail(b, raw, "there are more than %d bridges above it, or a loop", HW_DEPTH_MAX);
	size_t p = (size_t)raw->parent;
	b->next[index] = NONE;
	if (b->first[p] == NONE)
		b->first[p] = index;
	else
		b->next[b->end[p]] = index;
	b->end[p] = index;
	return 0;
}

static bool raw_has_prefix(const char *ids, const char *const *prefixes) {
	for (; *prefixes; prefixes++)
		if (starts_with(ids, *prefixes))
			return true;
	return false;
}

/*
 * Many displays and accelerators are no GPUs to rent: those of a BMC, of a hypervisor or inside a processor, FPGAs,
 * NPUs. AMD's graphics inside processors have these ids (Kaveri to Gorgon Point), Intel's GPUs for data centres those
 * (Max, Flex).
 */
static bool raw_is_gpu(const struct hw_raw *raw) {
	static const char *const integrated[] = {"1002:11", "1002:13", "1002:15", "1002:16",
	                                         "1002:19", "1002:98", NULL};
	static const char *const intel[] = {"8086:0b69", "8086:0b6e", "8086:0bd", "8086:56c", NULL};
	const char *ids = raw->found.ids;
	const struct hw_link *l = &raw->found.link;
	uint32_t class = raw->class >> 8;
	if (class != 0x0300 && class != 0x0302 && class != 0x0380 && class != 0x1200)
		return false;
	if (starts_with(ids, "8086:"))
		return raw_has_prefix(ids, intel);
	if (!ids[0]) /* topology files of clouds leave ids out */
		return class != 0x0300;
	if (!starts_with(ids, "10de:") && !starts_with(ids, "1002:"))
		return false;
	/* A VGA controller is one on PCIe. One that does not answer can't say that it is. */
	if (class == 0x0300 && !l->width && !l->max_width && !l->throughput && !raw->found.dead)
		return false;
	return !raw_has_prefix(ids, integrated);
}

/* Without having read its link, which tells whether it is a GPU. */
static bool raw_is_vga_of_gpu_maker(const struct hw_raw *raw) {
	return raw->class >> 8 == 0x0300 &&
	       (starts_with(raw->found.ids, "10de:") || starts_with(raw->found.ids, "1002:"));
}

static int raw_kind(const struct hw_raw *raw) {
	uint32_t class = raw->class >> 8;
	const char *ids = raw->found.ids;
	if (raw->type != HW_RAW_ENDPOINT || raw->is_virtual)
		return -1;
	if (raw->is_switch || (class == 0x0680 && starts_with(ids, "10de:")))
		return HW_NVSWITCH;
	if (raw->is_gpu || raw_is_gpu(raw))
		return HW_GPU;
	/* 0c06 is how InfiniBand was classed before 0207. */
	if (class >> 8 == 0x02 || class == 0x0c06)
		return HW_NIC;
	return class == 0x0108 ? HW_NVME : -1;
}

bool hw_raw_is_needed(const struct hw_raw *raw) {
	return raw->type != HW_RAW_ENDPOINT || raw_is_vga_of_gpu_maker(raw) || raw_kind(raw) >= 0;
}

bool hw_raw_may_be_management(const struct hw_raw *raw) {
	return raw->class >> 8 == 0x0207 && streq(raw->found.ids, "15b3:1021");
}

static int64_t hw_address_routing_id(const struct hw_address *a) {
	return a->bus << 8 | a->device << 3 | a->function;
}

/*
 * While virtual functions come and go, they are there without the link `physfn` for a moment, and the number of them
 * is still that of before. But a physical function tells where all that it can have are.
 */
static void build_mark_virtual(struct build *b) {
	for (size_t i = 0; i < b->raws->n; i++) {
		const struct hw_raw *pf = &b->raws->v[i];
		if (pf->vf_offset <= 0)
			continue;
		for (size_t k = 0; k < b->raws->n; k++) {
			struct hw_raw *vf = &b->raws->v[k];
			if (vf->parent != pf->parent || vf->class >> 8 != pf->class >> 8 ||
			    vf->type != HW_RAW_ENDPOINT || vf->address.domain != pf->address.domain ||
			    strncmp(vf->found.ids, pf->found.ids, 5) != 0)
				continue;
			int64_t n = hw_address_routing_id(&vf->address) - hw_address_routing_id(&pf->address) -
			            pf->vf_offset;
			int64_t stride = MAX(pf->vf_stride, 1);
			vf->is_virtual |= n >= 0 && n % stride == 0 && n / stride < pf->found.vfs_total;
		}
	}
}

/* A bridge of unknown type is a root port below a root complex; below that, upstream and downstream ports alternate. */
static enum hw_raw_type build_bridge_type(enum hw_raw_type above) {
	switch (above) {
	case HW_RAW_ROOT: return HW_RAW_ROOT_PORT;
	case HW_RAW_UPSTREAM:
	case HW_RAW_SWITCH: return HW_RAW_DOWNSTREAM;
	default: return HW_RAW_UPSTREAM;
	}
}

/* The depth is bounded: build_link() has looked at all chains. */
static void build_types(struct build *b, size_t index) {
	for (size_t i = b->first[index]; i != NONE; i = b->next[i]) {
		if (b->raws->v[i].type == HW_RAW_BRIDGE)
			b->raws->v[i].type = build_bridge_type(b->raws->v[index].type);
		build_types(b, i);
	}
}

/* A place of a switch where a device could be. */
static bool build_is_empty_port(const struct build *b, size_t index) {
	const struct hw_raw *raw = &b->raws->v[index];
	return raw->type == HW_RAW_DOWNSTREAM && b->first[index] == NONE && raw->found.link.max_width >= 8;
}

static void build_mark_wanted(struct build *b) {
	for (size_t i = 0; i < b->raws->n; i++)
		if (raw_kind(&b->raws->v[i]) >= 0 || build_is_empty_port(b, i))
			for (int p = (int)i; p >= 0 && !b->wanted[p]; p = b->raws->v[p].parent)
				b->wanted[p] = true;
}

/* The kernel has the node that the firmware tells even if that node has neither CPUs nor memory and so doesn't exist.
 */
static void build_forget_absent_nodes(struct build *b) {
	for (size_t i = 0; i < b->raws->n; i++)
		if (b->raws->v[i].node >= 0 && !hw_node_find(b->h, b->raws->v[i].node))
			b->raws->v[i].node = -1;
}

/* Root complexes whose node nobody tells have that of the devices of the model and their bridges, if those agree. */
static void build_root_nodes(struct build *b) {
	struct hw_raw *v = b->raws->v;
	for (size_t i = 0; i < b->raws->n; i++)
		if (v[i].type == HW_RAW_ROOT && v[i].node == -1)
			v[i].node = -2; /* nobody has told yet */
	for (size_t i = 0; i < b->raws->n; i++) {
		if (v[i].type == HW_RAW_ROOT || v[i].node < 0 || !b->wanted[i])
			continue;
		size_t root = i;
		while (v[root].parent >= 0)
			root = (size_t)v[root].parent;
		if (v[root].node == -2)
			v[root].node = v[i].node;
		else if (v[root].node != v[i].node)
			v[root].node = -1;
	}
	/* On a host with one node there is no question. */
	int64_t other = b->h->n_nodes == 1 ? b->h->nodes[0].id : -1;
	for (size_t i = 0; i < b->raws->n; i++)
		if (v[i].node == -2 || (v[i].node == -1 && v[i].type == HW_RAW_ROOT))
			v[i].node = other;
}

/* NCCL sees two levels of some Broadcom switches as one; these are the ids by which it knows them. */
static int build_broadcom_generation(const char *ids, const char *subids, int level) {
	if (streq(ids, "1000:c010") && starts_with(subids, "1000:a"))
		return 4;
	if (streq(ids, "1000:c030") && starts_with(subids, level ? "1000:1" : "1000:0"))
		return 5;
	return 0;
}

static int64_t build_least_known(int64_t a, int64_t b) {
	return !a || (b && b < a) ? b : a;
}

static struct hw_link build_link_below(const struct hw_link *own, const struct hw_raw *port) {
	struct hw_link l = *own;
	l.own_max_speed = own->max_speed;
	l.own_max_width = own->max_width;
	if (port) {
		l.max_speed = build_least_known(l.max_speed, port->found.link.max_speed);
		l.max_width = build_least_known(l.max_width, port->found.link.max_width);
	}
	if (!l.throughput)
		l.throughput = hw_throughput(l.speed, l.width);
	return l;
}

static void build_port_fill(struct hw_port *to, const struct hw_raw *port) {
	if (!port)
		return;
	snprintf(to->address, sizeof(to->address), "%s", port->name);
	to->acs = port->acs;
	to->acs_capability = port->acs_capability;
	to->acs_control = port->acs_control;
}

/* Where the functions below a bridge go. */
struct spot {
	int64_t root, above, node;
	const struct hw_raw *port; /* right above, or NULL */
	bool is_folded;            /* `above` has its second level here */
};

static int build_emit_children(struct build *b, size_t index, struct spot spot);

static int build_emit_switch(struct build *b, size_t index, struct spot spot) {
	struct hw_host *h = b->h;
	const struct hw_raw *raw = &b->raws->v[index];
	struct hw_switch *above = spot.above >= 0 ? &h->switches[spot.above] : NULL;
	int generation = above ? build_broadcom_generation(above->ids, above->subids, 0) : 0;
	if (generation && !spot.is_folded &&
	    generation == build_broadcom_generation(raw->found.ids, raw->found.subids, 1)) {
		above->levels = 2;
		spot.port = NULL;
		spot.is_folded = true;
		return build_emit_children(b, index, spot);
	}
	if (h->n_switches == HW_SWITCHES_MAX)
		return raw_fail(b, raw, "the host has more than %d PCIe switches", HW_SWITCHES_MAX);
	struct hw_switch *s = &h->switches[h->n_switches];
	jt_init(&jt_hw_switch, s);
	snprintf(s->address, sizeof(s->address), "%s", raw->name);
	s->root = spot.root;
	s->above = spot.above;
	snprintf(s->ids, sizeof(s->ids), "%s", raw->found.ids);
	snprintf(s->subids, sizeof(s->subids), "%s", raw->found.subids);
	hw_model(s->ids, s->model, sizeof(s->model));
	s->link = build_link_below(&raw->found.link, spot.port);
	build_port_fill(&s->port, spot.port);
	spot.above = (int64_t)h->n_switches++;
	spot.port = NULL;
	spot.is_folded = false;
	return build_emit_children(b, index, spot);
}

static int build_emit_device(struct build *b, const struct hw_raw *raw, struct spot spot) {
	struct hw_host *h = b->h;
	if (h->n_devices == HW_DEVICES_MAX)
		return raw_fail(b, raw, "the host has more than %d GPUs, NICs, NVMes and NVSwitches", HW_DEVICES_MAX);
	struct hw_device *d = &h->devices[h->n_devices++];
	*d = raw->found;
	d->kind = (enum hw_kind)raw_kind(raw);
	if (hw_raw_may_be_management(raw) && !raw->has_vpd)
		d->management = HW_PERHAPS;
	snprintf(d->address, sizeof(d->address), "%s", raw->name);
	d->root = spot.root;
	d->above = spot.above;
	d->node = raw->node >= 0 ? raw->node : spot.node;
	d->link = build_link_below(&raw->found.link, spot.port);
	build_port_fill(&d->port, spot.port);
	if (!d->model[0])
		hw_model(d->ids, d->model, sizeof(d->model));
	return 0;
}

static int build_emit_children(struct build *b, size_t index, struct spot spot) {
	for (size_t i = b->first[index]; i != NONE; i = b->next[i]) {
		const struct hw_raw *raw = &b->raws->v[i];
		int r = 0;
		if (!b->wanted[i])
			continue;
		if (build_is_empty_port(b, i)) {
			if (spot.above >= 0 && b->h->switches[spot.above].empty_ports < HW_EMPTY_PORTS_MAX)
				b->h->switches[spot.above].empty_ports++;
		} else if (raw->type == HW_RAW_ROOT_PORT || raw->type == HW_RAW_DOWNSTREAM) {
			struct spot below = spot;
			below.port = raw;
			r = build_emit_children(b, i, below);
		} else if (raw->type == HW_RAW_ENDPOINT) {
			r = build_emit_device(b, raw, spot);
		} else {
			r = build_emit_switch(b, i, spot);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int64_t build_node_socket(const struct hw_host *h, int64_t node) {
	const struct hw_node *n = hw_node_find(h, node);
	return n ? n->socket : -1;
}

static int build_emit_root(struct build *b, size_t index) {
	struct hw_host *h = b->h;
	const struct hw_raw *raw = &b->raws->v[index];
	if (h->n_roots == HW_ROOTS_MAX)
		return raw_fail(b, raw, "the host has more than %d root complexes with devices", HW_ROOTS_MAX);
	struct hw_root *root = &h->roots[h->n_roots];
	jt_init(&jt_hw_root, root);
	snprintf(root->address, sizeof(root->address), "%s", raw->name);
	root->node = raw->node;
	root->socket = build_node_socket(h, raw->node);
	return build_emit_children(b, index, (struct spot){(int64_t)h->n_roots++, -1, raw->node, NULL, false});
}

/* Whether node A has fewer CPUs than B, or as many and the lower id. */
static bool build_node_is_before(const struct hw_host *h, const struct hw_set *sets, size_t a, size_t b) {
	unsigned x = hw_set_count(&sets[a]), y = hw_set_count(&sets[b]);
	return x != y ? x < y : h->nodes[a].id < h->nodes[b].id;
}

/*
 * hwloc says of memory without CPUs, such as HBM or that of GPUs, which CPUs are near. In the model, as in sysfs, a CPU
 * is of one node: of those with the fewest CPUs the one with the lowest id.
 */
static int build_own_cpus(struct hw_host *h, struct error *err) {
	struct hw_set sets[HW_NODES_MAX], all[HW_NODES_MAX], cpus;
	bool shared = false;
	for (size_t i = 0; i < h->n_nodes; i++)
		if (hw_set_parse_list(h->nodes[i].cpus, &all[i]) < 0)
			return 0; /* hw_check() says what is wrong */
	memcpy(sets, all, h->n_nodes * sizeof(*sets));
	for (size_t i = 0; i < h->n_nodes; i++)
		for (size_t k = 0; k < h->n_nodes; k++) {
			if (i == k || !hw_set_overlaps(&all[i], &all[k]) || build_node_is_before(h, all, i, k))
				continue;
			for (size_t w = 0; w < ARRAY_SIZE(cpus.words); w++)
				sets[i].words[w] &= ~all[k].words[w];
			shared = true;
		}
	if (!shared)
		return 0;
	for (size_t i = 0; i < h->n_nodes; i++)
		if (hw_set_print(&sets[i], h->nodes[i].cpus, sizeof(h->nodes[i].cpus)) < 0)
			return error_set(err, EINVAL, "NUMA node %lld: the list of its CPUs is too long",
			                 (long long)h->nodes[i].id);
	for (size_t i = 0; i < h->n_cores; i++)
		for (size_t k = 0; k < h->n_nodes; k++)
			if (hw_set_parse_list(h->cores[i].cpus, &cpus) == 0 && hw_set_overlaps(&cpus, &sets[k]))
				h->cores[i].node = h->nodes[k].id;
	return 0;
}

/* The socket of a node is that of its first core. */
static void build_node_sockets(struct hw_host *h) {
	for (size_t i = 0; i < h->n_nodes; i++)
		for (size_t k = 0; h->nodes[i].socket < 0 && k < h->n_cores; k++)
			if (h->cores[k].node == h->nodes[i].id)
				h->nodes[i].socket = h->cores[k].socket;
}

static int build_tree(struct build *b) {
	int r = build_sort(b);
	for (size_t i = 0; r == 0 && i < b->raws->n; i++)
		b->first[i] = NONE;
	for (size_t i = 0; r == 0 && i < b->raws->n; i++)
		r = build_link(b, b->order[i]);
	if (r < 0)
		return r;
	for (size_t i = 0; i < b->raws->n; i++)
		if (b->raws->v[i].type == HW_RAW_ROOT)
			build_types(b, i);
	build_mark_virtual(b);
	build_mark_wanted(b);
	build_forget_absent_nodes(b);
	build_root_nodes(b);
	r = build_own_cpus(b->h, b->err);
	build_node_sockets(b->h);
	for (size_t i = 0; r == 0 && i < b->raws->n && b->raws->v[b->order[i]].type == HW_RAW_ROOT; i++)
		if (b->wanted[b->order[i]])
			r = build_emit_root(b, b->order[i]);
	return r < 0 ? r : hw_check(b->h, b->err);
}

int hw_build(struct hw_raws *raws, struct hw_host *h, struct error *err) {
	size_t n = raws->n + 1;
	struct build b = {.raws = raws, .h = h, .err = err};
	b.order = calloc(4 * n, sizeof(*b.order));
	b.wanted = calloc(n, sizeof(*b.wanted));
	int r = 0;
	if (b.order && b.wanted) {
		b.first = b.order + n;
		b.next = b.first + n;
		b.end = b.next + n;
		r = build_tree(&b);
	} else {
		r = error_oom(err);
	}
	free(b.order);
	free(b.wanted);
	return r;
}
