/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/memfs.h"

#include <pci/header.h>
#include <stdarg.h>
#include <string.h>

#include "base/buf.h"
#include "base/util.h"
#include "hw/text.h"

#define ENTRIES_MAX 65536

struct entry {
	char *path, *data;
	size_t len;
	bool is_link;
};

struct memfs {
	struct entry *v;
	size_t n, cap;
	struct error *err;
	unsigned line;
};

static int memfs_bad(struct memfs *m, const char *what) {
	return error_set(m->err, EINVAL, "line %u: %s", m->line, what);
}

static int memfs_put(struct memfs *m, bool is_link, const char *data, size_t len, const char *fmt, ...) _printf_(5, 6);
static int memfs_put(struct memfs *m, bool is_link, const char *data, size_t len, const char *fmt, ...) {
	char path[HW_FS_PATH_MAX];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if ((size_t)n >= sizeof(path) || m->n == ENTRIES_MAX)
		return memfs_bad(m, "too long");
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 256;
		struct entry *v = reallocarray(m->v, cap, sizeof(*v));
		if (!v)
			return error_oom(m->err);
		m->v = v;
		m->cap = cap;
	}
	struct entry *e = &m->v[m->n];
	*e = (struct entry){strdup(path), malloc(len + 1), len, is_link};
	m->n++;
	if (!e->path || !e->data)
		return error_oom(m->err);
	memcpy(e->data, data, len);
	e->data[len] = 0;
	return 0;
}

static int memfs_put_text(struct memfs *m, const char *text, const char *dir, const char *file) {
	return memfs_put(m, false, text, strlen(text), "%s/%s", dir, file);
}

static int entry_cmp(const void *pa, const void *pb) {
	const struct entry *a = pa, *b = pb;
	int c = strcmp(a->path, b->path);
	return c ? c : a->is_link - b->is_link;
}

static const struct entry *memfs_find(const struct hw_fs *fs, const char *path, bool is_link) {
	const struct memfs *m = fs->data;
	const struct entry key = {.path = (char *)path, .is_link = is_link};
	return m->n ? bsearch(&key, m->v, m->n, sizeof(key), entry_cmp) : NULL;
}

static int memfs_read(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err) {
	const struct entry *e = memfs_find(fs, path, false);
	if (!e)
		return -ENOENT;
	if (e->len >= size)
		return error_set(err, EFBIG, "`%s` has %zu bytes or more", path, size);
	memcpy(buf, e->data, e->len);
	return (int)e->len;
}

/* Whether there is a file PATH or something in a directory PATH. */
static bool memfs_has(const struct hw_fs *fs, const char *path) {
	const struct memfs *m = fs->data;
	size_t low = 0, high = m->n, n = strlen(path);
	char below[HW_FS_PATH_MAX + 1];
	if (memfs_find(fs, path, false))
		return true;
	snprintf(below, sizeof(below), "%s/", path);
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (strcmp(m->v[middle].path, below) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < m->n && strncmp(m->v[low].path, below, n + 1) == 0;
}

static int memfs_link(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err) {
	const struct entry *e = memfs_find(fs, path, true);
	if (!e && memfs_has(fs, path))
		return error_set(err, EINVAL, "`%s` is no link", path);
	if (!e)
		return -ENOENT;
	if (e->len >= size)
		return error_set(err, ENAMETOOLONG, "`%s`: the target of the link is too long", path);
	memcpy(buf, e->data, e->len + 1);
	return 0;
}

/* Entries are sorted, so those of one directory are neighbours. */
static int memfs_list(const struct hw_fs *fs, const char *path, int (*each)(void *arg, const char *name), void *arg,
                      struct error *err) {
	const struct memfs *m = fs->data;
	size_t n = strlen(path);
	char last[256] = "";
	int r = -ENOENT;
	for (size_t i = 0; i < m->n; i++) {
		char name[256];
		if (strncmp(m->v[i].path, path, n) != 0 || m->v[i].path[n] != '/')
			continue;
		const char *rest = m->v[i].path + n + 1;
		size_t len = MIN(strcspn(rest, "/"), sizeof(name) - 1);
		memcpy(name, rest, len);
		name[len] = 0;
		if (r == -ENOENT)
			r = 0;
		if (len == 0 || streq(name, last))
			continue;
		memcpy(last, name, len + 1);
		r = each(arg, name);
		if (r)
			return r;
	}
	return r;
}

static int memfs_add_cores(struct memfs *m, char *range, const char *step, const char *package) {
	struct hw_set cores;
	int64_t offset;
	if (hw_set_parse_list(range, &cores) < 0 || !step || step[0] != '+' ||
	    parse_i64(step + 1, 0, HW_SET_BITS, &offset, NULL) < 0 || !package || !starts_with(package, "package="))
		return memfs_bad(m, "cores");
	int r = 0;
	for (int i = hw_set_first(&cores); r == 0 && i >= 0; i = hw_set_next(&cores, i))
		for (int cpu = i; r == 0; cpu += (int)offset) {
			char text[32], dir[64];
			snprintf(text, sizeof(text), offset ? "%d,%d" : "%d", i, i + (int)offset);
			snprintf(dir, sizeof(dir), "devices/system/cpu/cpu%d/topology", cpu);
			r = memfs_put_text(m, package + 8, dir, "physical_package_id");
			if (r == 0)
				r = memfs_put_text(m, text, dir, "thread_siblings_list");
			if (cpu != i || !offset)
				break;
		}
	return r;
}

static int memfs_add_node(struct memfs *m, const char *id, char **save) {
	char dir[64], text[128];
	int r = 0;
	snprintf(dir, sizeof(dir), "devices/system/node/node%.8s", id);
	for (char *word; r == 0 && (word = strtok_r(NULL, " ", save));) {
		char *value = strchr(word, '=');
		if (!value)
			return memfs_bad(m, "node");
		*value++ = 0;
		if (streq(word, "cpus")) {
			r = memfs_put_text(m, value, dir, "cpulist");
		} else if (streq(word, "memory")) {
			snprintf(text, sizeof(text), "Node %.8s MemTotal:  %.40s kB", id, value);
			r = memfs_put_text(m, text, dir, "meminfo");
		} else if (streq(word, "distance")) {
			for (char *p = value; *p; p++)
				*p = *p == ',' ? ' ' : *p;
			r = memfs_put_text(m, value, dir, "distance");
		} else if (streq(word, "hugepages")) {
			char *inner = NULL, *size = strtok_r(value, ":", &inner), *n = strtok_r(NULL, ":", &inner),
			     *left = strtok_r(NULL, ":", &inner);
			if (!size || !n || !left)
				return memfs_bad(m, "hugepages");
			r = memfs_put(m, false, n, strlen(n), "%s/hugepages/hugepages-%skB/nr_hugepages", dir, size);
			if (r == 0)
				r = memfs_put(m, false, left, strlen(left),
				              "%s/hugepages/hugepages-%skB/free_hugepages", dir, size);
		} else {
			return memfs_bad(m, "node");
		}
	}
	return r;
}

static void memfs_set16(char *config, size_t at, unsigned v) {
	config[at] = (char)v;
	config[at + 1] = (char)(v >> 8);
}

/* The capability of PCI Express is at 0x40, that of ACS or ATS at 0x100. */
static bool memfs_add_config(char *config, size_t *len, const char *key, const char *value) {
	static const struct {
		const char *name;
		unsigned type;
	} types[] = {{"end", PCI_EXP_TYPE_ENDPOINT},
	             {"root", PCI_EXP_TYPE_ROOT_PORT},
	             {"up", PCI_EXP_TYPE_UPSTREAM},
	             {"down", PCI_EXP_TYPE_DOWNSTREAM}};
	unsigned a, b;
	if (streq(key, "type")) {
		for (size_t i = 0; i < ARRAY_SIZE(types); i++)
			if (streq(types[i].name, value)) {
				memfs_set16(config, PCI_STATUS, PCI_STATUS_CAP_LIST);
				config[PCI_CAPABILITY_LIST] = 0x40;
				config[0x40] = PCI_CAP_ID_EXP;
				memfs_set16(config, 0x40 + PCI_EXP_FLAGS, types[i].type << 4 | 2);
				*len = MAX(*len, (size_t)4096);
			}
	} else if (streq(key, "buses") && sscanf(value, "%2x-%2x", &a, &b) == 2) {
		config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
		config[PCI_SECONDARY_BUS] = (char)a;
		config[PCI_SUBORDINATE_BUS] = (char)b;
		*len = MAX(*len, (size_t)64);
	} else if (streq(key, "acs") && sscanf(value, "%4x:%4x", &a, &b) == 2) {
		memfs_set16(config, 0x100, PCI_EXT_CAP_ID_ACS);
		memfs_set16(config, 0x102, 1);
		memfs_set16(config, 0x104, a);
		memfs_set16(config, 0x106, b);
	} else if (streq(key, "ats")) {
		memfs_set16(config, 0x100, PCI_EXT_CAP_ID_ATS);
		memfs_set16(config, 0x102, 1);
		memfs_set16(config, 0x106, streq(value, "on") ? 0x8000 : 0);
	} else if (streq(key, "config") && streq(value, "dead")) {
		*len = 4096;
		memset(config, 0xff, *len);
	} else if (streq(key, "config") && streq(value, "vf")) {
		*len = MAX(*len, (size_t)64);
		memset(config, 0xff, 4);
	} else if (streq(key, "config")) {
		*len = 64;
	} else {
		return false;
	}
	return true;
}

static int memfs_add_bars(struct memfs *m, const char *dir, char *value) {
	_buf_free_ struct buf text = {.max = 4096};
	char *save = NULL;
	for (char *word = strtok_r(value, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		int64_t bits;
		if (parse_i64(word, 4, 62, &bits, NULL) < 0)
			return memfs_bad(m, "bars");
		buf_printf(&text, "0x%016llx 0x%016llx 0x000000000014220c\n%s", 1ULL << bits, (2ULL << bits) - 1,
		           "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	}
	return buf_error(&text, "bars", m->err) < 0
	               ? -EINVAL
	               : memfs_put(m, false, text.data ? text.data : "", text.len, "%s/resource", dir);
}

static int memfs_add_ib(struct memfs *m, const char *dir, char *value) {
	char *save = NULL, *name = strtok_r(value, ":", &save), *layer = strtok_r(NULL, ":", &save),
	     *rate = strtok_r(NULL, ":", &save);
	if (!name || !layer || !rate)
		return memfs_bad(m, "ib");
	for (char *p = rate; *p; p++)
		*p = *p == '_' ? ' ' : *p;
	int r = memfs_put(m, false, layer, strlen(layer), "%s/infiniband/%s/ports/1/link_layer", dir, name);
	return r < 0 ? r : memfs_put(m, false, rate, strlen(rate), "%s/infiniband/%s/ports/1/rate", dir, name);
}

static int memfs_add_pci(struct memfs *m, const char *chain, char **save) {
	const char *name = strrchr(chain, '/');
	char dir[512], target[512], config[4096] = {0};
	size_t config_len = 0;
	if (!name)
		return memfs_bad(m, "pci");
	snprintf(dir, sizeof(dir), "devices/%.480s", chain);
	snprintf(target, sizeof(target), "../../../%.480s", dir);
	int r = memfs_put(m, true, target, strlen(target), "bus/pci/devices/%.40s", name + 1);
	for (char *word; r == 0 && (word = strtok_r(NULL, " ", save));) {
		char *value = strchr(word, '=');
		if (!value)
			return memfs_bad(m, "pci");
		*value++ = 0;
		for (char *p = value; *p; p++)
			*p = *p == '_' && !streq(word, "ib") && !streq(word, "driver") && !streq(word, "vpd") ? ' '
			                                                                                      : *p;
		if (memfs_add_config(config, &config_len, word, value))
			continue;
		if (streq(word, "driver") || streq(word, "iommu_group") || streq(word, "physfn"))
			r = memfs_put(m, true, value, strlen(value), "%s/%s", dir, word);
		else if (streq(word, "net") || streq(word, "nvme"))
			r = memfs_put(m, false, "", 0, "%s/%s/%s/uevent", dir, word, value);
		else if (streq(word, "bars"))
			r = memfs_add_bars(m, dir, value);
		else if (streq(word, "ib"))
			r = memfs_add_ib(m, dir, value);
		else
			r = memfs_put_text(m, value, dir, word);
	}
	return r == 0 && config_len ? memfs_put(m, false, config, config_len, "%s/config", dir) : r;
}

static int memfs_add_line(struct memfs *m, char *line) {
	char *save = NULL, *word = strtok_r(line, " ", &save), *first = word ? strtok_r(NULL, " ", &save) : NULL;
	if (!word || word[0] == '#')
		return 0;
	if (!first)
		return memfs_bad(m, "a word is missing");
	if (streq(word, "file") || streq(word, "link"))
		return memfs_put(m, word[0] == 'l', save ? save : "", save ? strlen(save) : 0, "%s", first);
	if (streq(word, "cores")) {
		char *step = strtok_r(NULL, " ", &save);
		return memfs_add_cores(m, first, step, step ? strtok_r(NULL, " ", &save) : NULL);
	}
	if (streq(word, "node"))
		return memfs_add_node(m, first, &save);
	return streq(word, "pci") ? memfs_add_pci(m, first, &save) : memfs_bad(m, "unknown word");
}

int hw_memfs_parse(const char *text, size_t len, struct hw_fs *ret, struct error *err) {
	struct memfs *m = calloc(1, sizeof(*m));
	char *copy = strndup(text, len), *save = copy;
	struct hw_fs fs = {memfs_read, memfs_link, memfs_list, m};
	int r = m && copy ? 0 : error_oom(err);
	if (m)
		m->err = err;
	for (char *line; r == 0 && (line = strsep(&save, "\n"));) {
		m->line++;
		r = memfs_add_line(m, line);
	}
	free(copy);
	if (r < 0) {
		hw_memfs_clear(&fs);
		return r;
	}
	if (m->n)
		qsort(m->v, m->n, sizeof(*m->v), entry_cmp);
	*ret = fs;
	return 0;
}

void hw_memfs_clear(struct hw_fs *fs) {
	struct memfs *m = fs->data;
	for (size_t i = 0; m && i < m->n; i++) {
		free(m->v[i].path);
		free(m->v[i].data);
	}
	if (m)
		free(m->v);
	free(m);
	fs->data = NULL;
}
