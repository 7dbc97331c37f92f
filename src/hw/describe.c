/* SPDX-License-Identifier: Apache-2.0 */

/* What the drawings say about the parts of a host. */

#include <stdarg.h>
#include <string.h>

#include "hw/draw.h"
#include "hw/models.h"
#include "hw/text.h"

const char *hw_text_kind(enum hw_kind kind) {
	static const char *const names[] = {"GPU", "NIC", "NVMe", "NVSwitch"};
	return names[kind];
}

/* Appends to OUT what still fits. */
static void add(char *out, size_t size, const char *fmt, ...) _printf_(3, 4);
static void add(char *out, size_t size, const char *fmt, ...) {
	size_t n = strlen(out);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
}

static void add_count(char *out, size_t size, size_t n, const char *one, const char *many) {
	if (n)
		add(out, size, "%s%zu %s", out[0] ? ", " : "", n, n == 1 ? one : many);
}

static void add_bytes(char *out, size_t size, int64_t bytes) {
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	size_t u = 0;
	for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	int64_t tenths = (int64_t)(v * 10 + 0.5);
	if (tenths % 10)
		add(out, size, "%lld.%lld %s", (long long)tenths / 10, (long long)tenths % 10, units[u]);
	else
		add(out, size, "%lld %s", (long long)tenths / 10, units[u]);
}

void hw_text_host(const struct hw_host *h, char *out, size_t size) {
	int64_t memory = 0;
	size_t threads = 0;
	out[0] = 0;
	for (size_t i = 0; i < h->n_nodes; i++)
		memory += h->nodes[i].memory >> 20; /* in MiB: no sum of 64 nodes overflows */
	for (size_t i = 0; i < h->n_cores; i++) {
		struct hw_set cpus;
		if (hw_set_parse_list(h->cores[i].cpus, &cpus) == 0)
			threads += hw_set_count(&cpus);
	}
	add_count(out, size, h->n_sockets, "socket", "sockets");
	add_count(out, size, h->n_nodes, "NUMA node", "NUMA nodes");
	add_count(out, size, h->n_cores, "core", "cores");
	add_count(out, size, threads, "thread", "threads");
	if (memory) {
		add(out, size, ", ");
		add_bytes(out, size, memory > INT64_MAX >> 20 ? INT64_MAX : memory << 20);
	}
	add_count(out, size, hw_count(h, HW_GPU), "GPU", "GPUs");
	add_count(out, size, hw_count(h, HW_NIC), "NIC", "NICs");
	add_count(out, size, hw_count(h, HW_NVME), "NVMe", "NVMes");
	add_count(out, size, hw_count(h, HW_NVSWITCH), "NVSwitch", "NVSwitches");
}

void hw_text_node(const struct hw_node *n, char *out, size_t size) {
	out[0] = 0;
	add(out, size, n->cpus[0] ? "CPUs %.40s%s" : "no CPUs%s%s", n->cpus[0] ? n->cpus : "",
	    strlen(n->cpus) > 40 ? "..." : "");
	if (n->memory) {
		add(out, size, ", ");
		add_bytes(out, size, n->memory);
	}
	for (size_t i = 0; i < n->n_hugepages; i++) {
		const struct hw_hugepages *p = &n->hugepages[i];
		if (!p->total)
			continue;
		add(out, size, ", %lld pages of ", (long long)p->total);
		add_bytes(out, size, p->size_kib << 10);
		if (p->free >= 0)
			add(out, size, " (%lld free)", (long long)p->free);
	}
}

static void text_model(const char *model, const char *ids, char *out, size_t size) {
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
		text_model(d->model, d->ids, out, size);
}

void hw_text_switch_model(const struct hw_switch *s, char *out, size_t size) {
	text_model(s->model, s->ids, out, size);
}

void hw_text_device(const struct hw_device *d, char *out, size_t size) {
	static const char *const layers[] = {"", " IB", " Eth"};
	out[0] = 0;
	if (d->kind == HW_GPU && d->module)
		add(out, size, "module %lld", (long long)d->module);
	add(out, size, "%s", d->name[0] ? d->name : d->netdev);
	for (size_t i = 0; i < d->n_ports; i++) {
		const struct hw_rdma_port *p = &d->ports[i];
		add(out, size, "%s", i ? "," : "");
		add(out, size, "%s", layers[p->layer]);
		if (p->mbit >= 1000)
			add(out, size, " %lldG", (long long)p->mbit / 1000);
		else if (p->mbit)
			add(out, size, " %lldM", (long long)p->mbit);
	}
	if (d->kind == HW_NIC && d->vfs_total)
		add(out, size, "%sVFs %lld/%lld", out[0] ? " " : "", (long long)d->vfs, (long long)d->vfs_total);
}

static void add_generation(char *out, size_t size, int64_t speed, int64_t width) {
	int generation = speed == 2500 ? 1 : speed == 5000 ? 2 : 3;
	for (int64_t s = 8000; s < speed; s *= 2)
		generation++;
	if (speed)
		add(out, size, "gen%d", generation);
	if (width)
		add(out, size, "%sx%lld", speed ? " " : "", (long long)width);
}

void hw_text_link(const struct hw_link *l, char *out, size_t size) {
	out[0] = 0;
	if (l->speed || l->width) {
		add_generation(out, size, l->speed, l->width);
		if (hw_link_is_below(l)) {
			add(out, size, " ! of ");
			add_generation(out, size, l->max_speed, l->max_width);
		}
	} else if (l->throughput) {
		add(out, size, "%lld.%lld GB/s", (long long)l->throughput / 1000, (long long)l->throughput / 100 % 10);
	}
}

static int child_cmp(const void *a, const void *b) {
	const struct hw_child *x = a, *y = b;
	size_t n = strlen(x->address), m = strlen(y->address);
	return n != m ? (n < m ? -1 : 1) : strcmp(x->address, y->address);
}

size_t hw_children(const struct hw_host *h, int64_t root, int64_t sw,
                   struct hw_child out[static HW_SWITCHES_MAX + HW_DEVICES_MAX]) {
	size_t n = 0;
	for (size_t i = 0; i < h->n_switches; i++)
		if (h->switches[i].root == root && h->switches[i].above == sw)
			out[n++] = (struct hw_child){true, i, h->switches[i].address};
	for (size_t i = 0; i < h->n_devices; i++)
		if (h->devices[i].root == root && h->devices[i].above == sw)
			out[n++] = (struct hw_child){false, i, h->devices[i].address};
	qsort(out, n, sizeof(*out), child_cmp);
	return n;
}
