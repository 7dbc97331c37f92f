/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The topology XML of NCCL and of RCCL: <system> holds a <cpu> for each NUMA node, that holds <pci> elements. A <pci>
 * of class 0x0604 is a whole switch. There are no root complexes in it: everything below one <cpu> is PHB to NCCL, so a
 * <cpu> becomes a node and a root complex without an address. Sockets, cores and memory are not told.
 */

#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "hw/readers.h"

/* The value of an attribute that must be there. */
static int nccl_need(const struct xml_doc *d, unsigned el, const char *name, const char **ret, struct error *err) {
	*ret = xml_get(d, el, name);
	return *ret ? 0 : xml_fail(d, el, err, "attribute %s is missing", name);
}

/* "0x10de" of VENDOR and DEVICE as "10de:2330"; OUT stays empty if both are missing or 0. */
static int nccl_ids(const struct xml_doc *d, unsigned el, const char *vendor, const char *device, char out[static 10],
                    struct error *err) {
	const char *v = xml_get(d, el, vendor), *w = xml_get(d, el, device);
	uint32_t a = 0, b = 0;
	if (v && !hw_hex_parse(v, 4, &a))
		return xml_fail(d, el, err, "%s: `%.20s` is not a PCI id", vendor, v);
	if (w && !hw_hex_parse(w, 4, &b))
		return xml_fail(d, el, err, "%s: `%.20s` is not a PCI id", device, w);
	if (a && a != 0xffff)
		hw_ids_print(a, b, out);
	return 0;
}

/* NCCL takes them from max_link_speed and max_link_width. */
static int nccl_link(const struct xml_doc *d, unsigned el, struct hw_link *l, struct error *err) {
	const char *speed = xml_get(d, el, "link_speed"), *width = xml_get(d, el, "link_width");
	if (speed && hw_speed_parse(speed, &l->max_speed) < 0)
		return xml_fail(d, el, err, "link_speed: `%.40s` is no speed of PCIe, such as `32.0 GT/s PCIe`", speed);
	if (width && hw_width_parse(width, &l->max_width) < 0)
		return xml_fail(d, el, err, "link_width: `%.20s` is no width of PCIe, such as 16", width);
	return 0;
}

/* A <cpu>. */
static int nccl_node(const struct xml_doc *d, unsigned el, struct hw_host *h, struct hw_raw *raw, struct error *err) {
	const char *id, *affinity = xml_get(d, el, "affinity");
	int64_t v;
	int r = nccl_need(d, el, "numaid", &id, err);
	if (r < 0)
		return r;
	if (parse_i64(id, -1, 1023, &v, NULL) < 0)
		return xml_fail(d, el, err, "numaid: `%.20s` must be -1..1023", id);
	v = MAX(v, (int64_t)0); /* -1: the kernel has no NUMA */
	if (hw_node_find(h, v))
		return xml_fail(d, el, err, "NUMA node %lld is there twice", (long long)v);
	if (h->n_nodes == HW_NODES_MAX)
		return xml_fail(d, el, err, "there are more than %d NUMA nodes", HW_NODES_MAX);
	struct hw_node *n = &h->nodes[h->n_nodes++];
	struct hw_set cpus = {0};
	jt_init(&jt_hw_node, n);
	n->id = v;
	if (affinity && *affinity &&
	    (hw_set_parse_mask(affinity, &cpus) < 0 || hw_set_print(&cpus, n->cpus, sizeof(n->cpus)) < 0))
		return xml_fail(d, el, err, "affinity: `%.40s` is not a mask of at most %d CPUs", affinity,
		                HW_SET_BITS);
	raw->type = HW_RAW_ROOT;
	raw->node = v;
	return 0;
}

static int nccl_pci(const struct xml_doc *d, unsigned el, struct hw_raw *raw, struct error *err) {
	const char *busid, *class;
	int r = nccl_need(d, el, "busid", &busid, err);
	if (r == 0)
		r = nccl_need(d, el, "class", &class, err);
	if (r < 0)
		return r;
	if (!hw_address_parse(busid, &raw->address))
		return xml_fail(d, el, err, "busid: `%.20s` is not a PCI address", busid);
	hw_address_str(&raw->address, raw->name);
	if (!hw_hex_parse(class, 6, &raw->class))
		return xml_fail(d, el, err, "class: `%.20s` is not a PCI class", class);
	if (raw->class >> 8 == 0x0604)
		raw->type = HW_RAW_SWITCH;
	r = nccl_ids(d, el, "vendor", "device", raw->found.ids, err);
	if (r == 0)
		r = nccl_ids(d, el, "subsystem_vendor", "subsystem_device", raw->found.subids, err);
	return r == 0 ? nccl_link(d, el, &raw->found.link, err) : r;
}

/* A <net> of the <nic> of the function RAW: one port. */
static int nccl_net(const struct xml_doc *d, unsigned el, struct hw_raw *raw, struct error *err) {
	struct hw_device *dev = &raw->found;
	const char *name = xml_get(d, el, "name"), *port = xml_get(d, el, "port"), *speed = xml_get(d, el, "speed");
	int64_t v;
	/* A NIC that NCCL sees through a plugin may have a name with other characters; it is not an RDMA device. */
	if (name && !dev->name[0])
		hw_name_copy(dev->name, HW_NAME_MAX, name);
	if (dev->n_ports == ARRAY_SIZE(dev->ports))
		return xml_fail(d, el, err, "%s has more than %zu ports", raw->name, ARRAY_SIZE(dev->ports));
	struct hw_rdma_port *p = &dev->ports[dev->n_ports++];
	jt_init(&jt_hw_rdma_port, p);
	p->layer = raw->class >> 8 == 0x0207 ? HW_INFINIBAND : HW_LAYER_UNKNOWN;
	p->number = (int64_t)dev->n_ports;
	if (port && parse_i64(port, 0, 255, &v, NULL) < 0)
		return xml_fail(d, el, err, "port: `%.20s` must be 0..255", port);
	if (port && v > 0)
		p->number = v;
	if (speed && parse_i64(speed, 0, 10000000, &p->mbit, NULL) < 0)
		return xml_fail(d, el, err, "speed: `%.20s` must be 0..10000000 Mbit/s", speed);
	return 0;
}

/* The elements that are read, and what each may be inside of. Others may be anywhere. */
static const struct nccl_place {
	const char *name, *above, *above_too;
} nccl_places[] = {{"system"},     {"cpu", "system"},     {"pci", "cpu", "pci"},
                   {"gpu", "pci"}, {"nic", "pci", "cpu"}, {"net", "nic"}};

static const struct nccl_place *nccl_place(const char *name) {
	for (size_t i = 0; i < ARRAY_SIZE(nccl_places); i++)
		if (streq(nccl_places[i].name, name))
			return &nccl_places[i];
	return NULL;
}

static int nccl_element(const struct xml_doc *d, unsigned el, int *raw_of, struct hw_host *h, struct hw_raws *raws,
                        struct error *err) {
	const char *name = d->els[el].name, *above = d->els[d->els[el].parent].name;
	const struct nccl_place *place = nccl_place(name);
	struct hw_raw *raw;
	raw_of[el] = raw_of[d->els[el].parent];
	if (!place)
		return 0; /* What later versions add. An element that is read can't be inside of it: its place says so.
		           */
	if (!place->above || (!streq(place->above, above) && !(place->above_too && streq(place->above_too, above))))
		return xml_fail(d, el, err, "it can't be inside <%s>", above);
	if (streq(name, "gpu") || streq(name, "net")) {
		if (raw_of[el] < 0 || raws->v[raw_of[el]].type == HW_RAW_ROOT)
			return 0; /* a <net> that is on no PCI device */
		raw = &raws->v[raw_of[el]];
		if (raw->type != HW_RAW_ENDPOINT)
			return xml_fail(d, el, err, "%s is a bridge and can't be a <%s>", raw->name, name);
		if (streq(name, "net"))
			return nccl_net(d, el, raw, err);
		raw->is_gpu = true;
		return 0;
	}
	if (streq(name, "nic"))
		return 0;
	int parent = raw_of[el], r = hw_raws_add(raws, &raw, err);
	if (r < 0)
		return error_prefix(err, "line %u", d->els[el].line);
	raw->parent = parent;
	raw->line = d->els[el].line;
	raw_of[el] = (int)raws->n - 1;
	return streq(name, "cpu") ? nccl_node(d, el, h, raw, err) : nccl_pci(d, el, raw, err);
}

int hw_nccl_read(const struct xml_doc *d, struct hw_host *h, struct hw_raws *raws, struct error *err) {
	_free_ int *raw_of = calloc(d->n_els, sizeof(*raw_of)); /* the function that an element is, or is inside of */
	if (!raw_of)
		return error_oom(err);
	raw_of[0] = -1;
	for (unsigned i = 1; i < d->n_els; i++) {
		int r = nccl_element(d, i, raw_of, h, raws, err);
		if (r < 0)
			return r;
	}
	return h->n_nodes ? 0 : error_set(err, EINVAL, "<system> has no <cpu>");
}

/* The index of the GPU at the address TEXT; -1 if the host has none there. */
static int64_t nccl_gpu(const struct hw_host *h, const char *text) {
	struct hw_address a;
	char address[HW_ADDRESS_MAX + 1];
	if (!hw_address_parse(text, &a))
		return -1;
	hw_address_str(&a, address);
	for (size_t i = 0; i < h->n_devices; i++)
		if (h->devices[i].kind == HW_GPU && streq(h->devices[i].address, address))
			return (int64_t)i;
	return -1;
}

/* Adds COUNT links. Those of a GPU to all its switches are one entry. */
static int nccl_link_add(const struct xml_doc *d, unsigned el, struct hw_host *h, struct hw_gpu_link link,
                         struct error *err) {
	struct hw_gpu_link *l = h->gpu_links, *end = l + h->n_gpu_links;
	while (l < end && (l->kind != link.kind || l->gpu != link.gpu || l->peer != link.peer))
		l++;
	if (l == &h->gpu_links[HW_GPU_LINKS_MAX])
		return xml_fail(d, el, err, "there are more than %d links between GPUs", HW_GPU_LINKS_MAX);
	if (l == end) {
		h->n_gpu_links++;
		*l = link;
	} else {
		l->count += link.count;
	}
	return l->count <= 1023 ? 0 : xml_fail(d, el, err, "the GPU has more than 1023 links to one peer");
}

/* EL is an element in a <gpu>, maybe a link. */
static int nccl_gpu_link(const struct xml_doc *d, unsigned el, int64_t gpu, struct hw_host *h, struct error *err) {
	const char *target = xml_get(d, el, "target"), *class = xml_get(d, el, "tclass"),
		   *count = xml_get(d, el, "count");
	struct hw_gpu_link l = {.gpu = gpu, .peer = -1, .count = 1};
	for (; jt_words_hw_gpu_link_kind[l.kind]; l.kind++)
		if (strcasecmp(jt_words_hw_gpu_link_kind[l.kind], d->els[el].name) == 0)
			break;
	if (!jt_words_hw_gpu_link_kind[l.kind])
		return 0;
	if (count && parse_i64(count, 0, 1023, &l.count, NULL) < 0)
		return xml_fail(d, el, err, "count: `%.20s` must be 0..1023", count);
	/* Switches have class 0680 and are in no file; their address may be `fffffff:ff:ff.0`. */
	if (l.kind != HW_C2C && !(class && starts_with(class, "0x0680"))) {
		struct hw_address a;
		if (!target || !hw_address_parse(target, &a))
			return xml_fail(d, el, err, "target: `%.20s` is not a PCI address", target ? target : "");
		l.peer = nccl_gpu(h, target);
		if (l.peer < 0)
			return 0; /* a GPU that the host does not see */
	}
	if (l.peer == gpu)
		return xml_fail(d, el, err, "the GPU is linked to itself");
	return l.count ? nccl_link_add(d, el, h, l, err) : 0;
}

int hw_nccl_read_links(const struct xml_doc *d, struct hw_host *h, struct error *err) {
	int read =
		-1; /* the last function whose <gpu> was read: more of them are parts of one GPU with the same links */
	for (unsigned i = 1; i < d->n_els; i++) {
		int above = d->els[i].parent;
		const char *busid = xml_get(d, (unsigned)above, "busid");
		if (!streq(d->els[i].name, "gpu") || !busid || above == read)
			continue;
		int64_t gpu = nccl_gpu(h, busid);
		read = above;
		for (unsigned k = i + 1; gpu >= 0 && k < d->els[i].end; k++) {
			int r = nccl_gpu_link(d, k, gpu, h, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}
