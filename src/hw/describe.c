/* SPDX-License-Identifier: Apache-2.0 */

/* What the drawings say about the parts of a host. */

#include <stdarg.h>
#include <string.h>

#include "base/util.h"
#include "hw/draw.h"
#include "hw/models.h"
#include "hw/text.h"

const char *hw_text_kind(enum hw_kind kind) {
	static const char *const names[] = {"GPU", "NIC", "NVMe", "NVSwitch"};
	return names[kind];
}

/* Appends to OUT what still fits. */
static void text_add(char *out, size_t size, const char *fmt, ...) _printf_(3, 4);
static void text_add(char *out, size_t size, const char *fmt, ...) {
	size_t n = strlen(out);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
}

static void text_add_count(char *out, size_t size, size_t n, const char *one, const char *many) {
	if (n)
		text_add(out, size, "%s%zu %s", out[0] ? ", " : "", n, n == 1 ? one : many);
}

static void text_add_bytes(char *out, size_t size, int64_t bytes) {
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	size_t u = 0;
	for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	int64_t tenths = (int64_t)(v * 10 + 0.5);
	if (tenths % 10)
		text_add(out, size, "%lld.%lld %s", (long long)tenths / 10, (long long)tenths % 10, units[u]);
	else
		text_add(out, size, "%lld %s", (long long)tenths / 10, units[u]);
}

/* Nodes without CPUs have the memory of GPUs or of CXL, which is not for instances. */
static bool text_node_is_extra(const struct hw_host *h, const struct hw_node *n) {
	for (size_t i = 0; !n->cpus[0] && i < h->n_nodes; i++)
		if (h->nodes[i].cpus[0])
			return true;
	return false; /* it has CPUs, or the source tells none */
}

bool hw_text_node_is_empty(const struct hw_host *h, const struct hw_node *n) {
	for (size_t i = 0; i < h->n_roots; i++)
		if (h->roots[i].node == n->id)
			return false;
	return !n->cpus[0] && !n->memory;
}

/* The count and the memory of the nodes that are extra, or of those that are not. Returns the count. */
static size_t text_add_nodes(char *out, size_t size, const struct hw_host *h, bool is_extra, int64_t *ret_bytes) {
	int64_t mib = 0; /* no sum of 64 nodes overflows */
	size_t n = 0;
	for (size_t i = 0; i < h->n_nodes; i++)
		if (text_node_is_extra(h, &h->nodes[i]) == is_extra) {
			mib += h->nodes[i].memory >> 20;
			n++;
		}
	text_add_count(out, size, n, "NUMA node", "NUMA nodes");
	*ret_bytes = mib > INT64_MAX >> 20 ? INT64_MAX : mib << 20;
	return n;
}

void hw_text_host(const struct hw_host *h, char *out, size_t size) {
	int64_t memory;
	size_t threads = 0;
	out[0] = 0;
	for (size_t i = 0; i < h->n_cores; i++) {
		struct hw_set cpus;
		if (hw_set_parse_list(h->cores[i].cpus, &cpus) == 0)
			threads += hw_set_count(&cpus);
	}
	text_add_count(out, size, h->n_sockets, "socket", "sockets");
	text_add_nodes(out, size, h, false, &memory);
	text_add_count(out, size, h->n_cores, "core", "cores");
	text_add_count(out, size, threads, "thread", "threads");
	if (memory) {
		text_add(out, size, ", ");
		text_add_bytes(out, size, memory);
	}
	text_add_count(out, size, hw_count(h, HW_GPU), "GPU", "GPUs");
	text_add_count(out, size, hw_count(h, HW_NIC), "NIC", "NICs");
	text_add_count(out, size, hw_count(h, HW_NVME), "NVMe", "NVMes");
	text_add_count(out, size, hw_count(h, HW_NVSWITCH), "NVSwitch", "NVSwitches");
}

bool hw_text_extra_nodes(const struct hw_host *h, char *out, size_t size) {
	int64_t memory;
	out[0] = 0;
	if (!text_add_nodes(out, size, h, true, &memory))
		return false;
	text_add(out, size, " more without CPUs");
	if (memory) {
		text_add(out, size, ", with ");
		text_add_bytes(out, size, memory);
	}
	return true;
}

bool hw_text_empty_nodes(const struct hw_host *h, int64_t socket, char *out, size_t size) {
	struct hw_set nodes = {0};
	char list[64];
	for (size_t i = 0; i < h->n_nodes; i++)
		if (h->nodes[i].socket == socket && hw_text_node_is_empty(h, &h->nodes[i]))
			hw_set_add(&nodes, (unsigned)h->nodes[i].id);
	if (hw_set_is_empty(&nodes))
		return false;
	bool fits = hw_set_print(&nodes, list, sizeof(list)) == 0 && strlen(list) < 24;
	if (fits)
		snprintf(out, size, "%s %s", hw_set_count(&nodes) == 1 ? "node" : "nodes", list);
	else
		snprintf(out, size, "%u more nodes", hw_set_count(&nodes));
	return true;
}

void hw_text_node(const struct hw_node *n, char *out, size_t size) {
	out[0] = 0;
	text_add(out, size, n->cpus[0] ? "CPUs %.40s%s" : "no CPUs%s%s", n->cpus[0] ? n->cpus : "",
	         strlen(n->cpus) > 40 ? "..." : "");
	if (n->memory) {
		text_add(out, size, ", ");
		text_add_bytes(out, size, n->memory);
	}
	for (size_t i = 0; i < n->n_hugepages; i++) {
		const struct hw_hugepages *p = &n->hugepages[i];
		if (!p->total)
			continue;
		text_add(out, size, ", %lld pages of ", (long long)p->total);
		text_add_bytes(out, size, p->size_kib << 10);
		if (p->free >= 0)
			text_add(out, size, " (%lld free)", (long long)p->free);
	}
}

static void text_add_model(const char *model, const char *ids, char *out, size_t size) {
	char name[HW_MODEL_MAX + 1] = "";
	if (!model[0])
		hw_model_from_pci_ids(ids, name, sizeof(name));
	snprintf(out, size, "%s", model[0] ? model : name[0] ? name : ids);
}

/* A name from pci.ids would look like the model of a GPU that InstanceTypes can ask for. */
void hw_text_device_model(const struct hw_device *d, char *out, size_t size) {
	if (d->kind == HW_GPU)
		snprintf(out, size, "%s", d->model[0] ? d->model : d->ids);
	else
		text_add_model(d->model, d->ids, out, size);
}

void hw_text_switch_model(const struct hw_switch *s, char *out, size_t size) {
	text_add_model(s->model, s->ids, out, size);
}

void hw_text_switch(const struct hw_switch *s, char *out, size_t size) {
	out[0] = 0;
	if (s->levels > 1)
		text_add(out, size, "%lld levels", (long long)s->levels);
	text_add_count(out, size, (size_t)s->empty_ports, "port empty", "ports empty");
}

void hw_text_device(const struct hw_device *d, char *out, size_t size) {
	static const char *const layers[] = {"", " IB", " Eth"};
	out[0] = 0;
	if (d->dead) {
		text_add(out, size, "does not answer");
		return;
	}
	if (d->kind == HW_GPU && d->module)
		text_add(out, size, "module %lld", (long long)d->module);
	text_add(out, size, "%s", d->name[0] ? d->name : d->netdev);
	for (size_t i = 0; i < d->n_ports; i++) {
		const struct hw_rdma_port *p = &d->ports[i];
		text_add(out, size, "%s", i ? "," : "");
		text_add(out, size, "%s", layers[p->layer]);
		if (p->mbit >= 1000 && p->mbit % 1000 >= 100)
			text_add(out, size, " %lld.%lldG", (long long)p->mbit / 1000, (long long)p->mbit / 100 % 10);
		else if (p->mbit >= 1000)
			text_add(out, size, " %lldG", (long long)p->mbit / 1000);
		else if (p->mbit)
			text_add(out, size, " %lldM", (long long)p->mbit);
		if (p->state != HW_PORT_UNKNOWN && p->state != HW_PORT_ACTIVE)
			text_add(out, size, " %s", jt_words_hw_port_state[p->state]);
	}
	if (d->management == HW_YES) {
		text_add(out, size, "%sNVLink management", out[0] ? " " : "");
		return;
	}
	if (d->kind == HW_NIC && d->vfs_total)
		text_add(out, size, "%sVFs %lld/%lld", out[0] ? " " : "", (long long)d->vfs, (long long)d->vfs_total);
}

static void text_add_generation(char *out, size_t size, int64_t speed, int64_t width) {
	int generation = speed == 2500 ? 1 : speed == 5000 ? 2 : 3;
	for (int64_t s = 8000; s < speed; s *= 2)
		generation++;
	if (speed)
		text_add(out, size, "gen%d", generation);
	if (width)
		text_add(out, size, "%sx%lld", speed ? " " : "", (long long)width);
}

static void text_add_throughput(char *out, size_t size, int64_t mb) {
	text_add(out, size, "%lld.%lld GB/s", (long long)mb / 1000, (long long)mb / 100 % 10);
}

/* The other device of D's model with the fastest link, if that is faster than D's. NULL if there is none. */
static const struct hw_link *text_faster_peer(const struct hw_host *h, const struct hw_device *d,
                                              int64_t (*rate)(const struct hw_link *)) {
	const struct hw_link *best = &d->link;
	for (size_t i = 0; d->ids[0] && i < h->n_devices; i++) {
		const struct hw_device *p = &h->devices[i];
		if (p->kind == d->kind && streq(p->ids, d->ids) && rate(&p->link) > rate(best))
			best = &p->link;
	}
	return best == &d->link ? NULL : best;
}

static int64_t text_link_speed(const struct hw_link *l) {
	return l->speed;
}

static int64_t text_link_throughput(const struct hw_link *l) {
	return l->throughput;
}

static int64_t text_link_max_throughput(const struct hw_link *l) {
	return hw_throughput(l->max_speed, l->max_width);
}

/* H and D are NULL for the link of a switch, which has no peers. */
static bool text_add_link(char *out, size_t size, const struct hw_link *l, const struct hw_host *h,
                          const struct hw_device *d) {
	const struct hw_link *peer;
	if (l->speed || l->width) {
		text_add_generation(out, size, l->speed, l->width);
		if (!hw_link_is_below(l))
			return false;
		bool has_width = !l->width || l->max_width <= l->width;
		if (d && d->kind == HW_GPU && has_width && !text_faster_peer(h, d, text_link_speed)) {
			text_add(out, size, " idle? of ");
			text_add_generation(out, size, l->max_speed, 0);
			return false;
		}
		text_add(out, size, " ! of ");
		text_add_generation(out, size, l->max_speed, l->max_width);
		return true;
	}
	if (l->max_speed || l->max_width) {
		text_add(out, size, "at most ");
		text_add_generation(out, size, l->max_speed, l->max_width);
		peer = d ? text_faster_peer(h, d, text_link_max_throughput) : NULL;
		if (peer) {
			text_add(out, size, " ! of ");
			text_add_generation(out, size, peer->max_speed, peer->max_width);
		}
		return peer != NULL;
	}
	if (!l->throughput)
		return false;
	text_add_throughput(out, size, l->throughput);
	peer = d ? text_faster_peer(h, d, text_link_throughput) : NULL;
	if (peer) {
		text_add(out, size, " ! of ");
		text_add_throughput(out, size, peer->throughput);
	}
	return peer != NULL;
}

bool hw_text_device_link(const struct hw_host *h, const struct hw_device *d, char *out, size_t size) {
	out[0] = 0;
	return !d->dead && text_add_link(out, size, &d->link, h, d);
}

bool hw_text_switch_link(const struct hw_switch *s, char *out, size_t size) {
	out[0] = 0;
	return text_add_link(out, size, &s->link, NULL, NULL);
}

void hw_text_device_notes(const struct hw_host *h, const struct hw_device *d, char *out, size_t size) {
	const struct hw_link *l = &d->link;
	bool speed = l->max_speed && l->own_max_speed > l->max_speed;
	bool width = l->max_width && l->own_max_width > l->max_width;
	out[0] = 0;
	if (d->node != h->roots[d->root].node)
		text_add(out, size, d->node < 0 ? "node unknown" : "node %lld", (long long)d->node);
	if ((speed || width) && d->management != HW_YES) {
		text_add(out, size, "%scard can ", out[0] ? ", " : "");
		text_add_generation(out, size, speed ? l->own_max_speed : 0, width ? l->own_max_width : 0);
	}
	for (size_t i = 0; i < d->n_bars; i++)
		if (d->bars[i].unassigned) {
			text_add(out, size, "%sa BAR has no address", out[0] ? ", " : "");
			break;
		}
}

static int text_child_cmp(const void *a, const void *b) {
	const struct hw_child *x = a, *y = b;
	return hw_address_cmp(&x->address, &y->address);
}

/* hw_check() has seen that the addresses are such. */
static void text_child_add(struct hw_child *v, size_t *n, bool is_switch, size_t index, const char *address) {
	v[*n] = (struct hw_child){.is_switch = is_switch, .index = index};
	*n += hw_address_parse(address, &v[*n].address);
}

size_t hw_children(const struct hw_host *h, int64_t root, int64_t sw,
                   struct hw_child out[static HW_SWITCHES_MAX + HW_DEVICES_MAX]) {
	size_t n = 0;
	for (size_t i = 0; i < h->n_switches; i++)
		if (h->switches[i].root == root && h->switches[i].above == sw)
			text_child_add(out, &n, true, i, h->switches[i].address);
	for (size_t i = 0; i < h->n_devices; i++)
		if (h->devices[i].root == root && h->devices[i].above == sw)
			text_child_add(out, &n, false, i, h->devices[i].address);
	qsort(out, n, sizeof(*out), text_child_cmp);
	return n;
}
