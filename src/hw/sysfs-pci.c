/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PCI functions from sysfs. What a function is below is told by the target of its link in bus/pci/devices, such as
 * "../../../devices/pci0000:15/0000:15:01.0/0000:16:00.0": its text is taken apart, the tree of devices is never
 * walked, so neither loops nor odd links in a captured tree matter. That each function has the same opinion as those
 * above it is checked.
 *
 * What is a lie about the structure, or a file that can't be read, ends the reading. Values of one device that make no
 * sense here are unknown: a new generation of links must not hide the whole host.
 *
 * Devices come and go while we read. What is gone when we come to it is left out; if it goes away under our hands, the
 * result is -EAGAIN.
 */

#include <stdarg.h>
#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "hw/pcicap.h"
#include "hw/readers.h"

#define CHAIN_MAX (HW_DEPTH_MAX + 2)

/* A function or a root complex that has been seen, by its name. */
struct seen {
	RB_ENTRY(seen) entry;
	char name[HW_ADDRESS_MAX + 1];
	char *above; /* the path of what it is below: "pci0000:15/0000:15:01.0"; "" for a root complex */
	int raw;
};

RB_HEAD(seens, seen);

static int seen_cmp(const struct seen *a, const struct seen *b) {
	return strcmp(a->name, b->name);
}

RB_GENERATE_INTERNAL(seens, seen, entry, seen_cmp, _unused_ static)

struct pci {
	const struct hw_fs *fs;
	struct hw_raws *raws;
	struct error *err;
	struct seens seens;
	const char *name;             /* of the function that is being read */
	char dir[HW_FS_PATH_MAX / 2]; /* its directory */
	char text[8192];              /* config space has at most 4096 bytes, `resource` about 1000 */
};

static int pci_get(struct pci *p, const char *file) {
	char path[HW_FS_PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", p->dir, file);
	return hw_fs_text(p->fs, path, p->text, sizeof(p->text), p->err);
}

static int pci_fail(const struct pci *p, const char *fmt, ...) _printf_(2, 3);
static int pci_fail(const struct pci *p, const char *fmt, ...) {
	char msg[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return error_set(p->err, EINVAL, "%s: %s", p->name, msg);
}

/* Of an attribute that the kernel gets from the device itself: it can't be read in some states of that. */
static int pci_try(struct pci *p, const char *file) {
	struct error ignored, *err = p->err;
	p->err = &ignored;
	int r = pci_get(p, file);
	p->err = err;
	return MAX(r, 0);
}

static bool pci_is_there(struct pci *p, const char *name) {
	char path[HW_FS_PATH_MAX], target[HW_FS_PATH_MAX];
	struct error ignored;
	snprintf(path, sizeof(path), "bus/pci/devices/%s", name);
	return p->fs->link(p->fs, path, target, sizeof(target), &ignored) != -ENOENT;
}

static int pci_went_away(struct pci *p, const char *name) {
	return error_set(p->err, EAGAIN, "%s: it came or went away while it was read", name);
}

static int pci_need_hex(struct pci *p, const char *file, unsigned digits, uint32_t *ret) {
	int r = pci_get(p, file);
	if (r < 0)
		return r;
	if (r == 0)
		return pci_is_there(p, p->name) ? pci_fail(p, "its file %s is missing", file)
		                                : pci_went_away(p, p->name);
	return hw_hex_parse(p->text, digits, ret) ? 0
	                                          : pci_fail(p, "%s: `%.20s` is no hexadecimal number", file, p->text);
}

/* *RET is unchanged if there is no such file, or no such number in it. */
static int pci_want_number(struct pci *p, const char *file, int64_t min, int64_t max, int64_t *ret) {
	int r = pci_get(p, file);
	int64_t v;
	if (r > 0 && parse_i64(p->text, min, max, &v, NULL) == 0)
		*ret = v;
	return MIN(r, 0);
}

/* The last part of the target of a link, "" if there is none. */
static int pci_link_name(struct pci *p, const char *file, char *out, size_t size) {
	char path[HW_FS_PATH_MAX], target[HW_FS_PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", p->dir, file);
	int r = p->fs->link(p->fs, path, target, sizeof(target), p->err);
	out[0] = 0;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	const char *last = strrchr(target, '/');
	return hw_name_copy(out, size - 1, last ? last + 1 : target)
	               ? 0
	               : pci_fail(p, "the link %s leads to `%.60s`, which is no name", file, target);
}

static int pci_read_ids(struct pci *p, const char *vendor, const char *device, bool needed, char out[static 10]) {
	uint32_t a = 0, b = 0;
	int r = needed ? 1 : pci_get(p, vendor);
	if (r <= 0)
		return r;
	r = pci_need_hex(p, vendor, 4, &a);
	if (r == 0)
		r = pci_need_hex(p, device, 4, &b);
	if (r == 0 && a)
		hw_ids_print(a, b, out);
	return r;
}

static int64_t pci_speed(struct pci *p, const char *file) {
	int64_t v;
	return pci_try(p, file) && hw_speed_parse(p->text, &v) == 0 ? v : 0;
}

static int64_t pci_width(struct pci *p, const char *file) {
	int64_t v;
	return pci_try(p, file) && hw_width_parse(p->text, &v) == 0 ? v : 0;
}

static void pci_read_link(struct pci *p, struct hw_link *l) {
	l->max_speed = pci_speed(p, "max_link_speed");
	l->max_width = pci_width(p, "max_link_width");
	l->speed = pci_speed(p, "current_link_speed");
	l->width = pci_width(p, "current_link_width");
}

/* Lines of "0x00000000fb000000 0x00000000fbffffff 0x0000000000140204": first and last address and flags, where bit 13
 * is prefetchable, bit 20 is 64 bits wide and bit 29 has no address; then the first address is 0. */
static int pci_read_bars(struct pci *p, struct hw_device *d) {
	int r = pci_get(p, "resource");
	if (r <= 0)
		return r;
	char *save = NULL;
	int index = 0;
	for (char *line = strtok_r(p->text, "\n", &save); line && index < 6;
	     line = strtok_r(NULL, "\n", &save), index++) {
		unsigned long long first, last, flags;
		char more;
		if (sscanf(line, "0x%16llx 0x%16llx 0x%16llx %c", &first, &last, &flags, &more) != 3)
			return pci_fail(p, "resource: line %d is not three numbers", index + 1);
		if (!flags || !(flags & 0x200) || (!first && !last))
			continue; /* not memory, or not there */
		if (last < first || last - first >= INT64_MAX)
			return pci_fail(p, "resource: BAR %d ends before it begins", index);
		d->bars[d->n_bars++] = (struct hw_bar){index, (int64_t)(last - first + 1), flags & 0x2000,
		                                       flags & 0x100000, flags & 0x20000000};
	}
	return 0;
}

/* What a directory of a device holds: network interfaces, RDMA devices, their ports. */
struct names {
	struct pci *p;
	const char *dir, *prefix; /* only names that begin so count */
	char first[HW_NAME_MAX + 1];
	struct hw_set numbers;
	bool first_is_port; /* of representors */
};

/* Keeps the first name of a directory in the order of strcmp(). What is no name of a device is left out. */
static int pci_first_name(void *arg, const char *name) {
	struct names *n = arg;
	char copy[HW_NAME_MAX + 1];
	int64_t number;
	if (!hw_name_copy(copy, HW_NAME_MAX, name) || !starts_with(copy, n->prefix))
		return 0;
	if (!n->first[0] || strcmp(copy, n->first) < 0)
		memcpy(n->first, copy, sizeof(copy));
	if (parse_i64(copy, 1, 255, &number, NULL) == 0)
		hw_set_add(&n->numbers, (unsigned)number);
	return 0;
}

static int pci_names_in(struct pci *p, const char *dir, const char *prefix, struct names *ret) {
	char path[HW_FS_PATH_MAX];
	*ret = (struct names){.p = p, .dir = dir, .prefix = prefix};
	snprintf(path, sizeof(path), "%s%s%s", p->dir, dir[0] ? "/" : "", dir);
	int r = p->fs->list(p->fs, path, pci_first_name, ret, p->err);
	return r == -ENOENT ? 0 : r;
}

/*
 * In switchdev mode a NIC has a network interface for each virtual function, too, a representor: its phys_port_name is
 * "pf0vf3", "pf0sf1" or "c1pf0vf3", that of the uplink "p0". Representors count only if there is nothing else.
 */
static int pci_first_netdev(void *arg, const char *name) {
	struct names *n = arg;
	char file[128], copy[HW_NAME_MAX + 1];
	if (!hw_name_copy(copy, sizeof(((struct hw_device *)0)->netdev) - 1, name))
		return 0;
	snprintf(file, sizeof(file), "%s/%s/phys_port_name", n->dir, copy);
	bool is_port = pci_try(n->p, file) && (starts_with(n->p->text, "pf") || n->p->text[0] == 'c');
	if (n->first[0] && (is_port != n->first_is_port ? is_port : strcmp(copy, n->first) > 0))
		return 0;
	memcpy(n->first, copy, sizeof(copy));
	n->first_is_port = is_port;
	return 0;
}

static int pci_read_netdev(struct pci *p, const char *dir, char *out, size_t size) {
	char path[HW_FS_PATH_MAX];
	struct names n = {.p = p, .dir = dir};
	snprintf(path, sizeof(path), "%s/%s", p->dir, dir);
	int r = p->fs->list(p->fs, path, pci_first_netdev, &n, p->err);
	snprintf(out, size, "%.*s", (int)size - 1, n.first);
	return r == -ENOENT ? 0 : r;
}

/* "400 Gb/sec (4X NDR)" */
static int64_t pci_rate_mbit(const char *s) {
	char *end;
	if (!strspn(s, "0123456789."))
		return 0;
	double v = strtod(s, &end);
	return v > 0 && v <= 10000 && starts_with(end, " Gb/sec") ? (int64_t)(v * 1000 + 0.5) : 0;
}

static bool pci_try_port(struct pci *p, const struct hw_device *d, int number, const char *what) {
	char file[160];
	snprintf(file, sizeof(file), "infiniband/%s/ports/%d/%s", d->name, number, what);
	return pci_try(p, file) > 0;
}

static void pci_read_port(struct pci *p, struct hw_device *d, int number) {
	/* "4: ACTIVE"; 5 is one whose link has just been lost, but that has not given up yet. */
	static const enum hw_port_state states[] = {HW_PORT_UNKNOWN, HW_PORT_DOWN,   HW_PORT_INIT,
	                                            HW_PORT_ARMED,   HW_PORT_ACTIVE, HW_PORT_ACTIVE};
	struct hw_rdma_port *port = &d->ports[d->n_ports++];
	jt_init(&jt_hw_rdma_port, port);
	port->number = number;
	if (pci_try_port(p, d, number, "link_layer"))
		port->layer = streq(p->text, "InfiniBand") ? HW_INFINIBAND
		              : streq(p->text, "Ethernet") ? HW_ETHERNET
		                                           : HW_LAYER_UNKNOWN;
	if (pci_try_port(p, d, number, "rate"))
		port->mbit = pci_rate_mbit(p->text);
	if (pci_try_port(p, d, number, "state") && p->text[0] >= '0' && p->text[0] <= '5' && p->text[1] == ':')
		port->state = states[p->text[0] - '0'];
}

static int pci_read_nic(struct pci *p, struct hw_device *d) {
	struct names n;
	char dir[128];
	int r = pci_read_netdev(p, "net", d->netdev, sizeof(d->netdev));
	/* Those of virtio have a device of the virtio bus in between. */
	if (r == 0 && !d->netdev[0] && starts_with(d->ids, "1af4:")) {
		r = pci_names_in(p, "", "virtio", &n);
		snprintf(dir, sizeof(dir), "%s/net", n.first);
		if (r == 0 && n.first[0])
			r = pci_read_netdev(p, dir, d->netdev, sizeof(d->netdev));
	}
	if (r == 0)
		r = pci_names_in(p, "infiniband", "", &n);
	if (r < 0 || !n.first[0])
		return r;
	snprintf(d->name, sizeof(d->name), "%s", n.first);
	snprintf(dir, sizeof(dir), "infiniband/%s/ports", d->name);
	r = pci_names_in(p, dir, "", &n);
	/* In switchdev mode each representor is a port, after that of the uplink. */
	for (int i = hw_set_first(&n.numbers); i >= 0 && d->n_ports < ARRAY_SIZE(d->ports);
	     i = hw_set_next(&n.numbers, i))
		pci_read_port(p, d, i);
	return r;
}

#define VPD_MAX 32768

/* Whether it leads to the NVLink switches of an HGX B200 or B300: its vital product data, which only root may read,
 * then has the keyword SMDL with this value. What can't be read leaves the answer open. */
static int pci_read_management(struct pci *p, struct hw_raw *raw) {
	static const char mark[] = "SMDL=SW_MNG";
	char path[HW_FS_PATH_MAX];
	struct error ignored;
	if (!hw_raw_may_be_management(raw))
		return 0;
	_free_ char *vpd = malloc(VPD_MAX + 1);
	if (!vpd)
		return error_oom(p->err);
	snprintf(path, sizeof(path), "%s/vpd", p->dir);
	int n = p->fs->read(p->fs, path, vpd, VPD_MAX + 1, &ignored);
	if (n <= 0)
		return 0;
	raw->has_vpd = true;
	if (memmem(vpd, (size_t)n, mark, strlen(mark)))
		raw->found.management = HW_YES;
	return 0;
}

static int pci_read_device(struct pci *p, struct hw_raw *raw) {
	struct hw_device *d = &raw->found;
	struct names n;
	char group[HW_NAME_MAX + 1];
	int r = pci_link_name(p, "iommu_group", group, sizeof(group));
	if (r == 0 && group[0] && parse_i64(group, 0, INT32_MAX, &d->iommu_group, NULL) < 0)
		return pci_fail(p, "its IOMMU group `%s` is no number", group);
	if (r == 0)
		r = pci_link_name(p, "driver", d->driver, sizeof(d->driver));
	if (r == 0)
		r = pci_read_bars(p, d);
	if (r == 0)
		r = pci_want_number(p, "sriov_totalvfs", 0, 65535, &d->vfs_total);
	if (r == 0)
		r = pci_want_number(p, "sriov_numvfs", 0, 65535, &d->vfs);
	if (r == 0)
		r = pci_want_number(p, "sriov_offset", 0, 65535, &raw->vf_offset);
	if (r == 0)
		r = pci_want_number(p, "sriov_stride", 0, 65535, &raw->vf_stride);
	if (r == 0)
		r = pci_read_nic(p, d);
	if (r == 0)
		r = pci_read_management(p, raw);
	if (r == 0 && raw->class >> 8 == 0x0108) {
		r = pci_names_in(p, "nvme", "nvme", &n);
		if (r == 0)
			snprintf(d->name, sizeof(d->name), "%s", n.first);
	}
	return r;
}

static int pci_read_function(struct pci *p, struct hw_raw *raw) {
	char path[HW_FS_PATH_MAX];
	struct error ignored;
	int r = pci_need_hex(p, "class", 6, &raw->class);
	if (r == 0)
		r = pci_read_ids(p, "vendor", "device", true, raw->found.ids);
	if (r < 0)
		return r;
	if (raw->class >> 8 == 0x0604)
		raw->type = HW_RAW_BRIDGE;
	if (!hw_raw_is_needed(raw))
		return 0;
	r = pci_read_ids(p, "subsystem_vendor", "subsystem_device", false, raw->found.subids);
	if (r == 0)
		r = pci_want_number(p, "numa_node", -1, 1023, &raw->node);
	if (r < 0)
		return r;
	pci_read_link(p, &raw->found.link);
	snprintf(path, sizeof(path), "%s/config", p->dir);
	r = p->fs->read(p->fs, path, p->text, sizeof(p->text), &ignored);
	/* Without config space, 63 lanes are what a register says that has all bits set. Where there is config space
	 * only that counts: the kernel wakes a device that sleeps to read it, but may not to read its link. */
	if (r >= 64)
		hw_pcicap_read(raw, (const unsigned char *)p->text, (size_t)r);
	else if (pci_try(p, "current_link_width"))
		raw->found.dead = streq(p->text, "63");
	return raw->type == HW_RAW_ENDPOINT ? pci_read_device(p, raw) : 0;
}

static struct seen *seen_find(struct pci *p, const char *name) {
	return TREE_FIND_STRING(seen, &p->seens, entry, name, name);
}

/* CHAIN: the N parts of the path of what it is below. */
static int seen_add(struct pci *p, const char *name, char **chain, int n, int raw) {
	_buf_free_ struct buf path = {.max = 4096};
	for (int i = 0; i < n; i++)
		buf_printf(&path, "%s%s", i ? "/" : "", chain[i]);
	struct seen *s = calloc(1, sizeof(*s));
	char *text = buf_steal(&path);
	if (!s || !text) {
		free(s);
		free(text);
		return error_oom(p->err);
	}
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->above = text;
	s->raw = raw;
	RB_INSERT(seens, &p->seens, s);
	return 0;
}

/* A root complex: "pci0000:15" in the path of a function. */
static int pci_add_root(struct pci *p, const char *part) {
	struct hw_raw *raw;
	if (seen_find(p, part + 3))
		return 0;
	int r = hw_raws_add(p->raws, &raw, p->err);
	if (r < 0)
		return r;
	raw->type = HW_RAW_ROOT;
	hw_bus_parse(part + 3, &raw->address.domain, &raw->address.bus);
	snprintf(raw->name, sizeof(raw->name), "%s", part + 3);
	raw->has_bus_range = true;
	raw->first_bus = raw->address.bus;
	raw->last_bus = 255;
	return seen_add(p, raw->name, NULL, 0, (int)p->raws->n - 1);
}

/* The parts of the path of a function from its root complex on. Returns their number. */
static int pci_split_chain(struct pci *p, char *target, char **chain) {
	uint32_t domain;
	uint8_t bus;
	struct hw_address a;
	char *save = NULL;
	int n = 0;
	for (char *part = strtok_r(target, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (starts_with(part, "pci") && hw_bus_parse(part + 3, &domain, &bus))
			n = 0; /* one inside another is a domain of its own, as VMD has them */
		else if (n == 0)
			continue;
		else if (!hw_address_parse(part, &a))
			return pci_fail(p, "its path has the part `%.40s`, which is no PCI address", part);
		if (n == CHAIN_MAX)
			return pci_fail(p, "there are more than %d bridges above it", HW_DEPTH_MAX);
		chain[n++] = part;
	}
	if (n < 2 || strlen(chain[n - 2]) > HW_ADDRESS_MAX + 3)
		return pci_fail(p, "its path has no root complex");
	if (!streq(chain[n - 1], p->name))
		return pci_fail(p, "its link leads to %s", chain[n - 1]);
	return n;
}

static int pci_read_entry(void *arg, const char *name) {
	struct pci *p = arg;
	char path[HW_FS_PATH_MAX], target[2048], *chain[CHAIN_MAX] = {0};
	struct hw_address address;
	struct hw_raw *raw = NULL;
	p->name = name;
	if (!hw_address_parse(name, &address))
		return error_set(p->err, EINVAL, "bus/pci/devices: `%.60s` is no PCI address", name);
	snprintf(path, sizeof(path), "bus/pci/devices/%s", name);
	int r = p->fs->link(p->fs, path, target, sizeof(target), p->err);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* it went away after it was listed */
	/* "../../../devices/…" is the same as "devices/…"; without ".." no rename elsewhere can disturb us (fs.c). */
	const char *real = starts_with(target, "../../../devices/") ? target + strlen("../../../") : path;
	if ((size_t)snprintf(p->dir, sizeof(p->dir), "%s", real) >= sizeof(p->dir))
		return pci_fail(p, "its path is too long");
	snprintf(path, sizeof(path), "%s/physfn", p->dir);
	char physical[HW_FS_PATH_MAX];
	r = p->fs->link(p->fs, path, physical, sizeof(physical), p->err);
	if (r != -ENOENT)
		return r; /* a virtual function: what has it tells how many there are */
	int n = pci_split_chain(p, target, chain);
	if (n < 0)
		return n;
	r = pci_add_root(p, chain[0]);
	if (r < 0)
		return r;
	r = hw_raws_add(p->raws, &raw, p->err);
	if (r < 0)
		return r;
	raw->address = address;
	snprintf(raw->name, sizeof(raw->name), "%s", name);
	if (seen_find(p, name))
		return pci_fail(p, "the address is there twice");
	r = seen_add(p, name, chain, n - 1, (int)p->raws->n - 1);
	return r < 0 ? r : pci_read_function(p, raw);
}

/* Connects each function with what it is below, once all have been seen. Both must tell the same path. */
static int pci_connect_all(struct pci *p) {
	struct seen *s;
	RB_FOREACH (s, seens, &p->seens) {
		const char *last = strrchr(s->above, '/');
		if (!s->above[0])
			continue;
		const char *name = last ? last + 1 : s->above + strlen("pci");
		const struct seen *above = seen_find(p, name);
		/* The list of functions may be from before one came, or we came to it after it went. */
		if (!above && (pci_is_there(p, name) || !pci_is_there(p, s->name)))
			return pci_went_away(p, s->name);
		if (!above)
			return error_set(p->err, EINVAL, "%s: it is below %s, which does not exist", s->name, name);
		size_t n = last ? (size_t)(last - s->above) : 0;
		if (strlen(above->above) != n || memcmp(above->above, s->above, n) != 0)
			return error_set(p->err, EINVAL, "%s: its path is below %s, but %s says that it is below %s",
			                 s->name, s->above, name, above->above);
		p->raws->v[s->raw].parent = above->raw;
	}
	return 0;
}

static int pci_read(struct pci *p) {
	int r = p->fs->list(p->fs, "bus/pci/devices", pci_read_entry, p, p->err);
	if (r == -ENOENT)
		return 0; /* a machine without PCI */
	return r < 0 ? r : pci_connect_all(p);
}

int hw_sysfs_read_pci(const struct hw_fs *fs, struct hw_raws *raws, struct error *err) {
	_free_ struct pci *p = calloc(1, sizeof(*p));
	if (!p)
		return error_oom(err);
	p->fs = fs;
	p->raws = raws;
	p->err = err;
	RB_INIT(&p->seens);
	int r = pci_read(p);
	for (struct seen *s = RB_MIN(seens, &p->seens), *next; s; s = next) {
		next = RB_NEXT(seens, &p->seens, s);
		RB_REMOVE(seens, &p->seens, s);
		free(s->above);
		free(s);
	}
	return r;
}
