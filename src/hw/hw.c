/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/hw.h"

#include <string.h>

#include "base/util.h"
#include "hw/text.h"

const char *const jt_words_hw_kind[] = {"gpu", "nic", "nvme", "nvswitch", NULL};
const char *const jt_words_hw_state[] = {"unknown", "absent", "off", "on", NULL};
const char *const jt_words_hw_answer[] = {"no", "unknown", "yes", NULL};
const char *const jt_words_hw_port_state[] = {"unknown", "down", "init", "armed", "active", NULL};
const char *const jt_words_hw_link_layer[] = {"unknown", "InfiniBand", "Ethernet", NULL};
const char *const jt_words_hw_gpu_link_kind[] = {"NVLink", "xGMI", "C2C", NULL};

JT_DEFINE(hw_socket, HW_SOCKET_FIELDS)
JT_DEFINE(hw_hugepages, HW_HUGEPAGES_FIELDS)
JT_DEFINE(hw_distance, HW_DISTANCE_FIELDS)
JT_DEFINE(hw_node, HW_NODE_FIELDS)
JT_DEFINE(hw_core, HW_CORE_FIELDS)
JT_DEFINE(hw_link, HW_LINK_FIELDS)
JT_DEFINE(hw_port, HW_PORT_FIELDS)
JT_DEFINE(hw_bar, HW_BAR_FIELDS)
JT_DEFINE(hw_rdma_port, HW_RDMA_PORT_FIELDS)
JT_DEFINE(hw_root, HW_ROOT_FIELDS)
JT_DEFINE(hw_switch, HW_SWITCH_FIELDS)
JT_DEFINE(hw_device, HW_DEVICE_FIELDS)
JT_DEFINE(hw_gpu_link, HW_GPU_LINK_FIELDS)
JT_DEFINE(hw_host, HW_HOST_FIELDS)

struct hw_host *hw_new(void) {
	struct hw_host *h = malloc(sizeof(*h));
	if (h)
		jt_init(&jt_hw_host, h);
	return h;
}

void hw_free(struct hw_host *h) {
	free(h);
}

const char *hw_relation_name(enum hw_relation r) {
	static const char *const names[] = {"X", "PIX", "PXB", "PHB", "NODE", "SYS"};
	return names[r];
}

/* Whether B is below one of the switches that A is below. A switch comes after the one above it, so chains end. */
static bool hw_share_switch(const struct hw_host *h, const struct hw_device *a, const struct hw_device *b) {
	int64_t i = a->above, k = b->above;
	while (i >= 0 && k >= 0 && i != k)
		if (i > k)
			i = h->switches[i].above;
		else
			k = h->switches[k].above;
	return i >= 0 && i == k;
}

/* Whether they have the same domain, bus and device. */
static bool hw_share_card(const struct hw_device *a, const struct hw_device *b) {
	size_t n = strcspn(a->address, ".");
	return strncmp(a->address, b->address, n + 1) == 0;
}

enum hw_relation hw_relation(const struct hw_host *h, size_t index_a, size_t index_b) {
	const struct hw_device *a = &h->devices[index_a], *b = &h->devices[index_b];
	if (a == b)
		return HW_SELF;
	if (a->above >= 0 && a->above == b->above)
		return HW_PIX;
	if (hw_share_card(a, b) || (a->port.address[0] && streq(a->port.address, b->port.address)))
		return HW_PIX;
	if (hw_share_switch(h, a, b))
		return HW_PXB;
	if (a->root == b->root)
		return HW_PHB;
	return a->node >= 0 && a->node == b->node ? HW_NODE : HW_SYS;
}

const struct hw_node *hw_node_find(const struct hw_host *h, int64_t id) {
	for (size_t i = 0; i < h->n_nodes; i++)
		if (h->nodes[i].id == id)
			return &h->nodes[i];
	return NULL;
}

int64_t hw_distance(const struct hw_host *h, int64_t from, int64_t to) {
	const struct hw_node *n = hw_node_find(h, from);
	for (size_t i = 0; n && i < n->n_distances; i++)
		if (n->distances[i].node == to)
			return n->distances[i].value;
	return 0;
}

size_t hw_count(const struct hw_host *h, enum hw_kind kind) {
	size_t n = 0;
	for (size_t i = 0; i < h->n_devices; i++)
		n += h->devices[i].kind == kind && h->devices[i].management != HW_YES;
	return n;
}

bool hw_link_is_below(const struct hw_link *l) {
	return (l->speed && l->max_speed > l->speed) || (l->width && l->max_width > l->width);
}

void hw_print(const struct hw_host *h, struct buf *out) {
	jt_print(&jt_hw_host, h, out);
}

static bool hw_has_socket(const struct hw_host *h, int64_t id) {
	for (size_t i = 0; i < h->n_sockets; i++)
		if (h->sockets[i].id == id)
			return true;
	return id < 0;
}

/* Texts of JSON may be anything; those of the model are safe to show, to parse and to use in a path. */
static bool hw_is_name(const char *s) {
	char copy[HW_NAME_MAX + 1];
	return !s[0] || hw_name_copy(copy, HW_NAME_MAX, s);
}

static bool hw_is_address(const char *s) {
	struct hw_address a;
	char copy[HW_ADDRESS_MAX + 1];
	return hw_address_parse(s, &a) && streq(hw_address_str(&a, copy), s);
}

static bool hw_is_bus(const char *s) {
	uint32_t domain;
	uint8_t bus;
	return hw_bus_parse(s, &domain, &bus);
}

static bool hw_is_ids(const char *s) {
	return !s[0] || (strlen(s) == 9 && s[4] == ':' && strspn(s, "0123456789abcdef:") == 9);
}

static int hw_check_core(const struct hw_host *h, size_t i, const struct hw_set *nodes, const struct hw_set *of_nodes,
                         struct hw_set *seen, struct error *err) {
	const struct hw_core *c = &h->cores[i];
	struct hw_set cpus, all;
	if (hw_set_parse_list(c->cpus, &cpus) < 0 || hw_set_is_empty(&cpus))
		return error_set(err, EINVAL, "core %zu: its CPUs are no list such as `0,128`", i);
	if (hw_set_overlaps(&cpus, seen))
		return error_set(err, EINVAL, "core %zu: CPUs %s are in another core, too", i, c->cpus);
	hw_set_merge(seen, &cpus);
	const struct hw_node *n = c->node >= 0 ? hw_node_find(h, c->node) : NULL;
	if (c->node < 0 && hw_set_overlaps(&cpus, of_nodes))
		return error_set(err, EINVAL, "core %zu: its CPUs %s are of a NUMA node, but it says of none", i,
		                 c->cpus);
	if (n) {
		all = nodes[n - h->nodes];
		hw_set_merge(&all, &cpus);
		if (!hw_set_equal(&all, &nodes[n - h->nodes]))
			return error_set(err, EINVAL, "core %zu: its CPUs %s are not all of NUMA node %lld", i, c->cpus,
			                 (long long)c->node);
	}
	return 0;
}

static int hw_check_cpus(const struct hw_host *h, struct error *err) {
	struct hw_set nodes[HW_NODES_MAX], of_nodes = {0}, seen = {0};
	for (size_t i = 0; i < h->n_nodes; i++) {
		long long id = h->nodes[i].id;
		if (hw_set_parse_list(h->nodes[i].cpus, &nodes[i]) < 0)
			return error_set(err, EINVAL, "NUMA node %lld: its CPUs are no list such as `0-15,128-143`",
			                 id);
		if (hw_set_overlaps(&nodes[i], &of_nodes))
			return error_set(err, EINVAL, "NUMA node %lld: some of its CPUs are of another node, too", id);
		hw_set_merge(&of_nodes, &nodes[i]);
	}
	int r = 0;
	for (size_t i = 0; r == 0 && i < h->n_cores; i++)
		r = hw_check_core(h, i, nodes, &of_nodes, &seen, err);
	return r;
}

static bool hw_is_speed(int64_t speed) {
	if (speed == 0 || speed == 2500 || speed == 5000)
		return true;
	return speed >= 8000 && speed <= 128000 && speed % 8000 == 0 &&
	       __builtin_popcountll((uint64_t)speed / 8000) == 1;
}

static int hw_check_speed(const char *address, int64_t speed, int64_t width, struct error *err) {
	char text[24];
	int64_t same;
	snprintf(text, sizeof(text), "%lld", (long long)width);
	if (hw_is_speed(speed) && hw_width_parse(text, &same) == 0)
		return 0;
	return error_set(err, EINVAL, "%s: speed %lld or width %lld of its link is not one of PCIe", address,
	                 (long long)speed, (long long)width);
}

static int hw_check_link(const char *address, const struct hw_link *l, struct error *err) {
	int r = hw_check_speed(address, l->speed, l->width, err);
	if (r == 0)
		r = hw_check_speed(address, l->max_speed, l->max_width, err);
	return r == 0 ? hw_check_speed(address, l->own_max_speed, l->own_max_width, err) : r;
}

static int hw_check_texts(const struct hw_host *h, struct error *err) {
	for (size_t i = 0; i < h->n_roots; i++)
		if (h->roots[i].address[0] && !hw_is_bus(h->roots[i].address))
			return error_set(err, EINVAL, "roots[%zu]: its address is not such as `0000:15`", i);
	for (size_t i = 0; i < h->n_switches; i++) {
		const struct hw_switch *s = &h->switches[i];
		if (!hw_is_address(s->address) || (s->port.address[0] && !hw_is_address(s->port.address)))
			return error_set(err, EINVAL, "switches[%zu]: an address is not such as `0000:16:00.0`", i);
		if (!hw_is_ids(s->ids) || !hw_is_ids(s->subids) || !hw_is_name(s->model))
			return error_set(err, EINVAL, "%s: its ids or its model have characters that are not allowed",
			                 s->address);
	}
	for (size_t i = 0; i < h->n_devices; i++) {
		const struct hw_device *d = &h->devices[i];
		if (!hw_is_address(d->address) || (d->port.address[0] && !hw_is_address(d->port.address)))
			return error_set(err, EINVAL, "devices[%zu]: an address is not such as `0000:16:00.0`", i);
		if (!hw_is_ids(d->ids) || !hw_is_ids(d->subids) || !hw_is_name(d->model) || !hw_is_name(d->driver) ||
		    !hw_is_name(d->name) || !hw_is_name(d->netdev))
			return error_set(err, EINVAL,
			                 "%s: its ids, model, driver or name have characters that are not allowed",
			                 d->address);
	}
	return 0;
}

static int hw_check_processors(const struct hw_host *h, struct error *err) {
	for (size_t i = 0; i < h->n_sockets; i++)
		for (size_t k = 0; k < i; k++)
			if (h->sockets[i].id == h->sockets[k].id)
				return error_set(err, EINVAL, "socket %lld: it is there twice",
				                 (long long)h->sockets[i].id);
	for (size_t i = 0; i < h->n_nodes; i++) {
		const struct hw_node *n = &h->nodes[i];
		if (hw_node_find(h, n->id) != n)
			return error_set(err, EINVAL, "NUMA node %lld: it is there twice", (long long)n->id);
		if (!hw_has_socket(h, n->socket))
			return error_set(err, EINVAL, "NUMA node %lld: there is no socket %lld", (long long)n->id,
			                 (long long)n->socket);
		for (size_t k = 0; k < n->n_distances; k++)
			if (!hw_node_find(h, n->distances[k].node))
				return error_set(err, EINVAL,
				                 "NUMA node %lld: it has a distance to node %lld, which "
				                 "does not exist",
				                 (long long)n->id, (long long)n->distances[k].node);
	}
	for (size_t i = 0; i < h->n_cores; i++) {
		const struct hw_core *c = &h->cores[i];
		if (!hw_has_socket(h, c->socket) || (c->node >= 0 && !hw_node_find(h, c->node)))
			return error_set(err, EINVAL,
			                 "core %zu (CPUs %s): there is no socket %lld or no NUMA node %lld", i, c->cpus,
			                 (long long)c->socket, (long long)c->node);
	}
	return 0;
}

/* ROOT and ABOVE of the switch or device ADDRESS; ABOVE must be less than LIMIT. */
static int hw_check_place(const struct hw_host *h, const char *address, int64_t root, int64_t above, size_t limit,
                          struct error *err) {
	if ((size_t)root >= h->n_roots)
		return error_set(err, EINVAL, "%s: there is no root complex %lld", address, (long long)root);
	if (above >= 0 && (size_t)above >= limit)
		return error_set(err, EINVAL, "%s: it is below switch %lld, which does not come before it", address,
		                 (long long)above);
	if (above >= 0 && h->switches[above].root != root)
		return error_set(err, EINVAL, "%s: it is below switch %s of another root complex", address,
		                 h->switches[above].address);
	return 0;
}

static int text_cmp(const void *a, const void *b) {
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int hw_check_addresses(const struct hw_host *h, struct error *err) {
	const char *v[HW_SWITCHES_MAX + HW_DEVICES_MAX];
	size_t n = 0;
	for (size_t i = 0; i < h->n_switches; i++)
		v[n++] = h->switches[i].address;
	for (size_t i = 0; i < h->n_devices; i++)
		v[n++] = h->devices[i].address;
	qsort(v, n, sizeof(*v), text_cmp);
	for (size_t i = 1; i < n; i++)
		if (streq(v[i - 1], v[i]))
			return error_set(err, EINVAL, "%s: the address is there twice", v[i]);
	return 0;
}

static int hw_check_gpu_links(const struct hw_host *h, struct error *err) {
	for (size_t i = 0; i < h->n_gpu_links; i++) {
		const struct hw_gpu_link *l = &h->gpu_links[i];
		if ((size_t)l->gpu >= h->n_devices || h->devices[l->gpu].kind != HW_GPU || l->peer == l->gpu ||
		    (l->peer >= 0 && ((size_t)l->peer >= h->n_devices || h->devices[l->peer].kind != HW_GPU)))
			return error_set(err, EINVAL, "gpuLinks[%zu]: %lld and %lld are not two GPUs", i,
			                 (long long)l->gpu, (long long)l->peer);
	}
	return 0;
}

static int hw_check_root(const struct hw_host *h, const struct hw_root *o, struct error *err) {
	const struct hw_node *n = o->node >= 0 ? hw_node_find(h, o->node) : NULL;
	if (!hw_has_socket(h, o->socket) || (o->node >= 0 && !n))
		return error_set(err, EINVAL, "root complex %s: there is no socket %lld or no NUMA node %lld",
		                 o->address, (long long)o->socket, (long long)o->node);
	if (n && n->socket != o->socket)
		return error_set(err, EINVAL,
		                 "root complex %s: it is of socket %lld, but its NUMA node %lld is of socket %lld",
		                 o->address, (long long)o->socket, (long long)o->node, (long long)n->socket);
	return 0;
}

/* Each comes after the one that it is below, so that the depth of that is known already. */
static int hw_check_switches(const struct hw_host *h, struct error *err) {
	unsigned depth[HW_SWITCHES_MAX];
	for (size_t i = 0; i < h->n_switches; i++) {
		const struct hw_switch *s = &h->switches[i];
		int r = hw_check_place(h, s->address, s->root, s->above, i, err);
		if (r == 0)
			r = hw_check_link(s->address, &s->link, err);
		if (r < 0)
			return r;
		depth[i] = s->above >= 0 ? depth[s->above] + 1 : 1;
		if (depth[i] > HW_DEPTH_MAX)
			return error_set(err, EINVAL, "%s: it is below more than %d switches", s->address,
			                 HW_DEPTH_MAX - 1);
	}
	return 0;
}

static int hw_check_device(const struct hw_host *h, const struct hw_device *d, struct error *err) {
	int r = hw_check_place(h, d->address, d->root, d->above, h->n_switches, err);
	if (r == 0 && d->node >= 0 && !hw_node_find(h, d->node))
		return error_set(err, EINVAL, "%s: there is no NUMA node %lld", d->address, (long long)d->node);
	return r == 0 ? hw_check_link(d->address, &d->link, err) : r;
}

int hw_check(const struct hw_host *h, struct error *err) {
	int r = hw_check_cpus(h, err);
	if (r == 0)
		r = hw_check_texts(h, err);
	if (r == 0)
		r = hw_check_processors(h, err);
	for (size_t i = 0; r == 0 && i < h->n_roots; i++)
		r = hw_check_root(h, &h->roots[i], err);
	if (r == 0)
		r = hw_check_switches(h, err);
	for (size_t i = 0; r == 0 && i < h->n_devices; i++)
		r = hw_check_device(h, &h->devices[i], err);
	if (r == 0)
		r = hw_check_gpu_links(h, err);
	return r == 0 ? hw_check_addresses(h, err) : r;
}

int hw_parse(const char *text, size_t len, struct hw_host **ret, struct error *err) {
	_hw_free_ struct hw_host *h = hw_new();
	struct jr r;
	if (!h)
		return error_oom(err);
	jr_init(&r, text, len);
	int e = jt_read(&jt_hw_host, &r, h, err);
	if (e == 0 && jr_end(&r) < 0)
		e = jr_error(&r, err);
	if (e == 0)
		e = hw_check(h, err);
	jr_done(&r);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(h);
	return 0;
}
