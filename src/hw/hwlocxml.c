/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The XML of hwloc 2 (`lstopo host.xml`). We read it ourselves instead of with libhwloc: its importer trusts what it
 * reads in many places and can't say what is wrong or where. tests compare the two on good files.
 *
 * hwloc tells only the throughput of a link, not its speed and width, and neither ACS, ATS, BARs nor IOMMU groups.
 */

#include <string.h>

#include "base/util.h"
#include "hw/readers.h"

struct reader {
	const struct xml_doc *d;
	struct hw_host *h;
	struct hw_raws *raws;
	struct error *err;
	int *raw_of; /* for each element: the PCI function or root complex that it is or is inside of, -1 outside */
	struct hw_set *node_cpus; /* of h->nodes[i] */
};

static const char *hwlocxml_get_type(const struct reader *r, unsigned el) {
	const char *type = streq(r->d->els[el].name, "object") ? xml_get(r->d, el, "type") : NULL;
	return type ? type : "";
}

static int hwlocxml_get_id(const struct reader *r, unsigned el, int64_t max, int64_t *ret) {
	const char *s = xml_get(r->d, el, "os_index");
	if (!s || parse_i64(s, 0, max, ret, NULL) < 0)
		return xml_fail(r->d, el, r->err, "%s: os_index `%.20s` must be 0..%lld", hwlocxml_get_type(r, el),
		                s ? s : "", (long long)max);
	return 0;
}

/* The innermost object that holds EL and is of TYPE; -1 if there is none. */
static int hwlocxml_holder(const struct reader *r, unsigned el, const char *type) {
	for (int p = r->d->els[el].parent; p >= 0; p = r->d->els[p].parent)
		if (streq(hwlocxml_get_type(r, (unsigned)p), type))
			return p;
	return -1;
}

static int64_t hwlocxml_holder_id(const struct reader *r, unsigned el, const char *type) {
	int p = hwlocxml_holder(r, el, type);
	int64_t id;
	return p >= 0 && hwlocxml_get_id(r, (unsigned)p, 65535, &id) == 0 ? id : -1;
}

static int hwlocxml_read_set(const struct reader *r, unsigned el, const char *name, struct hw_set *ret) {
	const char *s = xml_get(r->d, el, name);
	if (!s || hw_set_parse_hwloc(s, ret) < 0)
		return xml_fail(r->d, el, r->err, "%s: %s `%.40s` is not a set of at most %d", hwlocxml_get_type(r, el),
		                name, s ? s : "", HW_SET_BITS);
	return 0;
}

static int hwlocxml_read_package(struct reader *r, unsigned el) {
	struct hw_host *h = r->h;
	int64_t id;
	int e = hwlocxml_get_id(r, el, 65535, &id);
	if (e < 0)
		return e;
	for (size_t i = 0; i < h->n_sockets; i++)
		if (h->sockets[i].id == id)
			return xml_fail(r->d, el, r->err, "Package %lld is there twice", (long long)id);
	if (h->n_sockets == HW_SOCKETS_MAX)
		return xml_fail(r->d, el, r->err, "there are more than %d Packages", HW_SOCKETS_MAX);
	h->sockets[h->n_sockets++] = (struct hw_socket){.id = id};
	return 0;
}

static int hwlocxml_read_pages(struct reader *r, unsigned el, struct hw_node *n) {
	const char *size = xml_get(r->d, el, "size"), *count = xml_get(r->d, el, "count");
	int64_t bytes, pages;
	if (!size || !count || parse_i64(size, 4096, (int64_t)1 << 35, &bytes, NULL) < 0 ||
	    parse_i64(count, 0, INT64_MAX, &pages, NULL) < 0)
		return xml_fail(r->d, el, r->err, "a size of 4 KiB or more and a count are needed");
	if (bytes <= 65536)
		return 0; /* ordinary pages */
	if (n->n_hugepages == ARRAY_SIZE(n->hugepages))
		return xml_fail(r->d, el, r->err, "NUMA node %lld has more than %zu sizes of hugepages",
		                (long long)n->id, ARRAY_SIZE(n->hugepages));
	n->hugepages[n->n_hugepages++] = (struct hw_hugepages){bytes >> 10, pages, -1};
	return 0;
}

static int hwlocxml_read_node(struct reader *r, unsigned el) {
	struct hw_host *h = r->h;
	const struct xml_doc *d = r->d;
	const char *memory = xml_get(d, el, "local_memory");
	int64_t id;
	int e = hwlocxml_get_id(r, el, 1023, &id);
	if (e < 0)
		return e;
	if (hw_node_find(h, id))
		return xml_fail(d, el, r->err, "NUMANode %lld is there twice", (long long)id);
	if (h->n_nodes == HW_NODES_MAX)
		return xml_fail(d, el, r->err, "there are more than %d NUMANodes", HW_NODES_MAX);
	struct hw_node *n = &h->nodes[h->n_nodes];
	jt_init(&jt_hw_node, n);
	n->id = id;
	n->socket = hwlocxml_holder_id(r, el, "Package");
	e = hwlocxml_read_set(r, el, "cpuset", &r->node_cpus[h->n_nodes++]);
	if (e < 0)
		return e;
	if (hw_set_print(&r->node_cpus[h->n_nodes - 1], n->cpus, sizeof(n->cpus)) < 0)
		return xml_fail(d, el, r->err, "the cpuset has too many gaps");
	if (memory && parse_i64(memory, 0, INT64_MAX, &n->memory, NULL) < 0)
		return xml_fail(d, el, r->err, "local_memory: `%.20s` is not a number of bytes", memory);
	for (unsigned i = el + 1; e == 0 && i < d->els[el].end; i = d->els[i].end)
		if (streq(d->els[i].name, "page_type"))
			e = hwlocxml_read_pages(r, i, n);
	return e;
}

/* The threads are the PUs inside. The node follows once all nodes are known. */
static int hwlocxml_read_core(struct reader *r, unsigned el) {
	struct hw_host *h = r->h;
	struct hw_set cpus = {0};
	for (unsigned i = el + 1; i < r->d->els[el].end; i++) {
		int64_t id;
		if (!streq(hwlocxml_get_type(r, i), "PU"))
			continue;
		if (hwlocxml_get_id(r, i, HW_SET_BITS - 1, &id) < 0)
			return -EINVAL;
		hw_set_add(&cpus, (unsigned)id);
	}
	if (hw_set_is_empty(&cpus))
		return xml_fail(r->d, el, r->err, "the Core has no PU");
	if (h->n_cores == HW_CORES_MAX)
		return xml_fail(r->d, el, r->err, "there are more than %d Cores", HW_CORES_MAX);
	struct hw_core *c = &h->cores[h->n_cores++];
	jt_init(&jt_hw_core, c);
	c->socket = hwlocxml_holder_id(r, el, "Package");
	return hw_set_print(&cpus, c->cpus, sizeof(c->cpus)) < 0
	               ? xml_fail(r->d, el, r->err, "the Core has too many PUs")
	               : 0;
}

/* "0604 [15b3:1979] [0000:0000] 00", perhaps with one more number. */
static int hwlocxml_read_type(struct reader *r, unsigned el, struct hw_raw *raw) {
	const char *s = xml_get(r->d, el, "pci_type");
	char class_text[5] = "", vendor[5] = "", subvendor[5] = "", device[5] = "", subdevice[5] = "";
	int n = 0;
	if (!s ||
	    sscanf(s, "%4[0-9a-f] [%4[0-9a-f]:%4[0-9a-f]] [%4[0-9a-f]:%4[0-9a-f]] %n", class_text, vendor, device,
	           subvendor, subdevice, &n) != 5 ||
	    n == 0 || strlen(class_text) != 4 || strlen(vendor) != 4 || strlen(device) != 4 || strlen(subvendor) != 4 ||
	    strlen(subdevice) != 4 || strspn(s + n, "0123456789abcdef ") != strlen(s + n))
		return xml_fail(r->d, el, r->err, "pci_type: `%.60s` must be like `0604 [15b3:1979] [0000:0000] 00`",
		                s ? s : "");
	hw_hex_parse(class_text, 4, &raw->class);
	raw->class <<= 8;
	if (!streq(vendor, "0000"))
		snprintf(raw->found.ids, sizeof(raw->found.ids), "%s:%s", vendor, device);
	if (!streq(subvendor, "0000"))
		snprintf(raw->found.subids, sizeof(raw->found.subids), "%s:%s", subvendor, subdevice);
	return 0;
}

/* "0000:[2b-3b]", the buses below a bridge. */
static int hwlocxml_read_buses(struct reader *r, unsigned el, struct hw_raw *raw, struct hw_address *ret_domain) {
	const char *s = xml_get(r->d, el, "bridge_pci"), *p = s ? strchr(s, ':') : NULL;
	char head[9] = "", first[3], last[3];
	uint32_t domain, a, b;
	if (p && p - s <= 8 && strlen(p) == 8 && p[1] == '[' && p[4] == '-' && p[7] == ']') {
		memcpy(head, s, (size_t)(p - s));
		memcpy(first, p + 2, 2);
		memcpy(last, p + 5, 2);
		first[2] = last[2] = 0;
		if (hw_hex_parse(head, 8, &domain) && hw_hex_parse(first, 2, &a) && hw_hex_parse(last, 2, &b) &&
		    a <= b) {
			*ret_domain = (struct hw_address){.domain = domain, .bus = (uint8_t)a};
			raw->has_bus_range = true;
			raw->first_bus = (uint8_t)a;
			raw->last_bus = (uint8_t)b;
			return 0;
		}
	}
	return xml_fail(r->d, el, r->err, "bridge_pci: `%.40s` must be like `0000:[2b-3b]`", s ? s : "");
}

static int hwlocxml_read_speed(struct reader *r, unsigned el, struct hw_raw *raw) {
	const char *s = xml_get(r->d, el, "pci_link_speed");
	if (!s)
		return 0;
	char *end = NULL;
	bool is_number = *s && strlen(s) <= 16 && strspn(s, "0123456789.") == strlen(s);
	double v = is_number ? strtod(s, &end) : -1;
	if (v < 0 || v > 1000 || (end && *end))
		return xml_fail(r->d, el, r->err, "pci_link_speed: `%.20s` must be 0..1000 GB/s", s);
	raw->found.link.throughput = (int64_t)(v * 1000 + 0.5);
	return 0;
}

/* The node that an I/O object is at: that of the innermost object around it which has a nodeset, if that is one node.
 */
static int hwlocxml_read_place(struct reader *r, unsigned el, int64_t *ret) {
	*ret = -1;
	for (int p = r->d->els[el].parent; p >= 0; p = r->d->els[p].parent) {
		struct hw_set nodes = {0};
		if (!xml_get(r->d, (unsigned)p, "nodeset"))
			continue;
		if (hwlocxml_read_set(r, (unsigned)p, "nodeset", &nodes) < 0)
			return -EINVAL;
		if (hw_set_count(&nodes) == 1)
			*ret = hw_set_first(&nodes);
		return 0;
	}
	return 0;
}

static int hwlocxml_read_pci(struct reader *r, unsigned el, bool is_bridge) {
	const struct xml_doc *d = r->d;
	const char *kind = xml_get(d, el, "bridge_type"), *busid = xml_get(d, el, "pci_busid"),
		   *subtype = xml_get(d, el, "subtype");
	bool is_root = is_bridge && kind && starts_with(kind, "0-");
	int parent = r->raw_of[el], e;
	struct hw_raw *raw;
	if (parent < 0 && !is_root)
		return xml_fail(d, el, r->err, "%s %.20s: it is below no host bridge", hwlocxml_get_type(r, el),
		                busid ? busid : "");
	if (parent >= 0 && is_root)
		return xml_fail(d, el, r->err, "a host bridge is inside %s", r->raws->v[parent].name);
	e = hw_raws_add(r->raws, &raw, r->err);
	if (e < 0)
		return error_prefix(r->err, "line %u", d->els[el].line);
	r->raw_of[el] = (int)r->raws->n - 1;
	raw->parent = parent;
	raw->line = d->els[el].line;
	raw->is_switch = subtype && streq(subtype, "NVSwitch");
	raw->type = is_root ? HW_RAW_ROOT : is_bridge ? HW_RAW_BRIDGE : HW_RAW_ENDPOINT;
	if (is_root) {
		e = hwlocxml_read_buses(r, el, raw, &raw->address);
		if (e == 0)
			snprintf(raw->name, sizeof(raw->name), "%04x:%02x", raw->address.domain, raw->address.bus);
		return e == 0 ? hwlocxml_read_place(r, el, &raw->node) : e;
	}
	if (!busid || !hw_address_parse(busid, &raw->address))
		return xml_fail(d, el, r->err, "%s: pci_busid `%.20s` is not a PCI address", hwlocxml_get_type(r, el),
		                busid ? busid : "");
	hw_address_str(&raw->address, raw->name);
	e = hwlocxml_read_type(r, el, raw);
	if (e == 0)
		e = hwlocxml_read_speed(r, el, raw);
	struct hw_address below;
	if (e == 0 && is_bridge)
		e = hwlocxml_read_buses(r, el, raw, &below);
	if (e == 0 && is_bridge && below.domain != raw->address.domain)
		return xml_fail(d, el, r->err, "%s: bridge_pci has another domain", raw->name);
	return e;
}

/* The controller, "nvme1", of a namespace "nvme1n1" or of one path to a namespace, "nvme0c1n1". */
static void hwlocxml_nvme_name(const char *name, char *out, size_t size) {
	const char *number = name + strlen("nvme"), *path = number + strspn(number, "0123456789");
	if (path[0] == 'c' && path[1] >= '0' && path[1] <= '9')
		number = path + 1;
	snprintf(out, size, "nvme%.*s", (int)strspn(number, "0123456789"), number);
}

/* osdev_type: 0 block device, 2 network interface, 3 RDMA device. */
static int hwlocxml_read_osdev(struct reader *r, unsigned el) {
	const char *name = xml_get(r->d, el, "name"), *type = xml_get(r->d, el, "osdev_type");
	if (r->raw_of[el] < 0 || !name || !type || r->raws->v[r->raw_of[el]].type == HW_RAW_ROOT)
		return 0;
	struct hw_device *dev = &r->raws->v[r->raw_of[el]].found;
	bool fits = true;
	if (streq(type, "2") && !dev->netdev[0])
		fits = hw_name_copy(dev->netdev, sizeof(dev->netdev) - 1, name);
	else if (streq(type, "3") && !dev->name[0])
		fits = hw_name_copy(dev->name, HW_NAME_MAX, name);
	else if (streq(type, "0") && starts_with(name, "nvme") && !dev->name[0])
		hwlocxml_nvme_name(name, dev->name, sizeof(dev->name));
	return fits ? 0 : xml_fail(r->d, el, r->err, "OSDev: `%.40s` is no name of a device", name);
}

static int hwlocxml_read_object(struct reader *r, unsigned el) {
	const char *type = hwlocxml_get_type(r, el);
	if (!*type)
		return xml_fail(r->d, el, r->err, "attribute type is missing");
	if (streq(type, "Package"))
		return hwlocxml_read_package(r, el);
	if (streq(type, "NUMANode"))
		return hwlocxml_read_node(r, el);
	if (streq(type, "Core"))
		return hwlocxml_read_core(r, el);
	if (streq(type, "PCIDev") || streq(type, "Bridge"))
		return hwlocxml_read_pci(r, el, streq(type, "Bridge"));
	return streq(type, "OSDev") ? hwlocxml_read_osdev(r, el) : 0;
}

/* The numbers in the texts of the NAME elements inside EL: at most MAX. */
static int hwlocxml_read_numbers(struct reader *r, unsigned el, const char *name, int64_t *v, size_t max, size_t *ret) {
	size_t n = 0;
	for (unsigned i = el + 1; i < r->d->els[el].end; i++) {
		if (!streq(r->d->els[i].name, name))
			continue;
		for (const char *p = r->d->els[i].text; *(p += strspn(p, " \n\t"));) {
			char number[21];
			size_t len = strcspn(p, " \n\t");
			if (n == max || len >= sizeof(number))
				return xml_fail(r->d, i, r->err, "there are more or longer numbers than %zu nodes need",
				                max);
			memcpy(number, p, len);
			number[len] = 0;
			if (parse_i64(number, 0, INT64_MAX, &v[n++], NULL) < 0)
				return xml_fail(r->d, i, r->err, "`%s` is not a number", number);
			p += len;
		}
	}
	*ret = n;
	return 0;
}

static int hwlocxml_read_distances(struct reader *r, unsigned el) {
	const char *type = xml_get(r->d, el, "type"), *name = xml_get(r->d, el, "name");
	int64_t ids[HW_NODES_MAX];
	size_t n = 0, n_values = 0;
	if (!type || !streq(type, "NUMANode") || (name && !streq(name, "NUMALatency")))
		return 0;
	_free_ int64_t *values = calloc((size_t)HW_NODES_MAX * HW_NODES_MAX, sizeof(*values));
	if (!values)
		return error_oom(r->err);
	int e = hwlocxml_read_numbers(r, el, "indexes", ids, HW_NODES_MAX, &n);
	if (e == 0)
		e = hwlocxml_read_numbers(r, el, "u64values", values, n * n, &n_values);
	if (e < 0)
		return e;
	if (n_values != n * n)
		return xml_fail(r->d, el, r->err, "%zu NUMA nodes need %zu distances, not %zu", n, n * n, n_values);
	for (size_t i = 0; i < n; i++) {
		struct hw_node *node = (struct hw_node *)hw_node_find(r->h, ids[i]);
		if (!node)
			return xml_fail(r->d, el, r->err, "NUMA node %lld does not exist", (long long)ids[i]);
		if (node->n_distances)
			return xml_fail(r->d, el, r->err, "NUMA node %lld has its distances twice", (long long)ids[i]);
		for (size_t k = 0; k < n; k++) {
			if (values[i * n + k] < 1 || values[i * n + k] > 255)
				return xml_fail(r->d, el, r->err, "distance %lld must be 1..255",
				                (long long)values[i * n + k]);
			node->distances[node->n_distances++] = (struct hw_distance){ids[k], values[i * n + k]};
		}
	}
	return 0;
}

/* Of the nodes that have a core's first thread, the first; nodes of other memory (HBM) may have the same CPUs. */
static int hwlocxml_place_cores(struct reader *r) {
	struct hw_set seen = {0};
	for (size_t i = 0; i < r->h->n_cores; i++) {
		struct hw_core *c = &r->h->cores[i];
		struct hw_set cpus;
		if (hw_set_parse_list(c->cpus, &cpus) < 0)
			return error_set(r->err, EINVAL, "Core %zu: its CPUs can't be read", i);
		if (hw_set_overlaps(&seen, &cpus))
			return error_set(r->err, EINVAL, "Core %zu: CPUs %s are in another Core, too", i, c->cpus);
		hw_set_merge(&seen, &cpus);
		for (size_t k = 0; c->node < 0 && k < r->h->n_nodes; k++)
			if (hw_set_has(&r->node_cpus[k], (unsigned)hw_set_first(&cpus)))
				c->node = r->h->nodes[k].id;
	}
	return 0;
}

int hw_hwloc_read(const struct xml_doc *d, struct hw_host *h, struct hw_raws *raws, struct error *err) {
	struct reader r = {.d = d, .h = h, .raws = raws, .err = err};
	const char *version = xml_get(d, 0, "version");
	if (!version || !starts_with(version, "2."))
		return xml_fail(d, 0, err,
		                "only version 2 of hwloc's XML is read. lstopo 2 writes it; lstopo 3 with the option "
		                "--export-xml-flags v2");
	_free_ int *raw_of = r.raw_of = calloc(d->n_els, sizeof(*raw_of));
	_free_ struct hw_set *node_cpus = r.node_cpus = calloc(HW_NODES_MAX, sizeof(*node_cpus));
	if (!raw_of || !node_cpus)
		return error_oom(err);
	raw_of[0] = -1;
	int e = 0;
	for (unsigned i = 1; e == 0 && i < d->n_els; i++) {
		raw_of[i] = raw_of[d->els[i].parent];
		if (streq(d->els[i].name, "object"))
			e = hwlocxml_read_object(&r, i);
	}
	for (unsigned i = 1; e == 0 && i < d->n_els; i++)
		if (streq(d->els[i].name, "distances2"))
			e = hwlocxml_read_distances(&r, i);
	if (e == 0 && !h->n_nodes)
		return error_set(err, EINVAL, "<topology> has no NUMANode");
	return e == 0 ? hwlocxml_place_cores(&r) : e;
}
