/* SPDX-License-Identifier: Apache-2.0 */

/* Sockets, cores and NUMA nodes from sysfs: devices/system/{cpu,node}. */

#include <stdarg.h>
#include <string.h>

#include "base/util.h"
#include "hw/readers.h"

struct cpus {
	const struct hw_fs *fs;
	struct hw_host *h;
	struct error *err;
	struct hw_set online;
	struct hw_set node_cpus[HW_NODES_MAX];
	struct hw_set names; /* numbers of the directories cpuN or nodeN */
	const char *prefix;
	char text[HW_FS_FILE_MAX];
};

static int64_t cpus_number(const char *s, int64_t max, int64_t other) {
	int64_t v;
	return parse_i64(s, 0, max, &v, NULL) < 0 ? other : v;
}

/* Collects N of PREFIX and N in names. */
static int cpus_collect(void *arg, const char *name) {
	struct cpus *c = arg;
	size_t n = strlen(c->prefix);
	int64_t id = strncmp(name, c->prefix, n) == 0 ? cpus_number(name + n, INT32_MAX, -1) : -1;
	if (id >= HW_SET_BITS)
		return error_set(c->err, ERANGE, "%s: numbers from %d on are too large", name, HW_SET_BITS);
	if (id >= 0)
		hw_set_add(&c->names, (unsigned)id);
	return 0;
}

static int cpus_numbers_in(struct cpus *c, const char *dir, const char *prefix) {
	memset(&c->names, 0, sizeof(c->names));
	c->prefix = prefix;
	return c->fs->list(c->fs, dir, cpus_collect, c, c->err);
}

/* Returns as hw_fs_text(), with the text in c->text. */
static int cpus_get(struct cpus *c, const char *fmt, ...) _printf_(2, 3);
static int cpus_get(struct cpus *c, const char *fmt, ...) {
	char path[HW_FS_PATH_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	return hw_fs_text(c->fs, path, c->text, sizeof(c->text), c->err);
}

static int cpus_read_socket(struct cpus *c, int cpu, int64_t *ret) {
	struct hw_host *h = c->h;
	int r = cpus_get(c, "devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
	if (r < 0)
		return r;
	/* -1 is what kernels say that don't know, as in some virtual machines. */
	if (r == 0 || streq(c->text, "-1"))
		snprintf(c->text, sizeof(c->text), "0");
	if (parse_i64(c->text, 0, 65535, ret, NULL) < 0)
		return error_set(c->err, EINVAL, "cpu%d: physical_package_id `%.20s` must be 0..65535", cpu, c->text);
	for (size_t i = 0; i < h->n_sockets; i++)
		if (h->sockets[i].id == *ret)
			return 0;
	if (h->n_sockets == HW_SOCKETS_MAX)
		return error_set(c->err, EFBIG, "cpu%d: there are more than %d sockets", cpu, HW_SOCKETS_MAX);
	size_t i = h->n_sockets++;
	for (; i > 0 && h->sockets[i - 1].id > *ret; i--)
		h->sockets[i] = h->sockets[i - 1];
	h->sockets[i] = (struct hw_socket){.id = *ret};
	return 0;
}

/* The threads of the core of CPU that are online. */
static int cpus_read_threads(struct cpus *c, int cpu, struct hw_set *ret) {
	struct hw_set set = {0};
	int e = 0, r = cpus_get(c, "devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
	if (r > 0) {
		e = hw_set_parse_list(c->text, &set);
	} else if (r == 0) {
		r = cpus_get(c, "devices/system/cpu/cpu%d/topology/thread_siblings", cpu);
		if (r > 0)
			e = hw_set_parse_mask(c->text, &set);
		else if (r == 0)
			hw_set_add(&set, (unsigned)cpu);
	}
	if (r < 0)
		return r;
	if (e < 0)
		return error_set(c->err, EINVAL, "cpu%d: its thread siblings `%.40s` are no set of CPUs", cpu, c->text);
	if (!hw_set_has(&set, (unsigned)cpu))
		return error_set(c->err, EINVAL, "cpu%d: it is not one of its own thread siblings", cpu);
	for (size_t i = 0; i < ARRAY_SIZE(set.words); i++)
		set.words[i] &= c->online.words[i];
	*ret = set;
	return 0;
}

static int cpus_read_core(struct cpus *c, int cpu, struct hw_set *seen) {
	struct hw_host *h = c->h;
	struct hw_set threads;
	int64_t socket;
	int r = cpus_read_socket(c, cpu, &socket);
	if (r == 0)
		r = cpus_read_threads(c, cpu, &threads);
	if (r < 0)
		return r;
	/* The lowest thread speaks for the core. Others must agree with it, or it would be given away twice. */
	int first = hw_set_first(&threads);
	if (first < cpu) {
		struct hw_set other;
		r = cpus_read_threads(c, first, &other);
		if (r == 0 && !hw_set_equal(&threads, &other))
			return error_set(c->err, EINVAL, "cpu%d and cpu%d disagree about which threads their core has",
			                 first, cpu);
		return r;
	}
	if (hw_set_overlaps(seen, &threads))
		return error_set(c->err, EINVAL, "cpu%d: some of its thread siblings are in another core, too", cpu);
	hw_set_merge(seen, &threads);
	if (h->n_cores == HW_CORES_MAX)
		return error_set(c->err, EFBIG, "cpu%d: there are more than %d cores", cpu, HW_CORES_MAX);
	struct hw_core *core = &h->cores[h->n_cores++];
	jt_init(&jt_hw_core, core);
	core->socket = socket;
	for (size_t i = 0; core->node < 0 && i < h->n_nodes; i++)
		if (hw_set_has(&c->node_cpus[i], (unsigned)cpu))
			core->node = h->nodes[i].id;
	if (hw_set_print(&threads, core->cpus, sizeof(core->cpus)) < 0)
		return error_set(c->err, EINVAL, "cpu%d: its core has too many threads", cpu);
	return 0;
}

/* "Node 0 MemTotal:       134204252 kB" */
static int cpus_read_memory(struct cpus *c, struct hw_node *n) {
	int r = cpus_get(c, "devices/system/node/node%lld/meminfo", (long long)n->id);
	if (r <= 0)
		return r;
	const char *p = strstr(c->text, "MemTotal:");
	char number[21];
	if (!p)
		return error_set(c->err, EINVAL, "node%lld: meminfo has no MemTotal", (long long)n->id);
	p += strlen("MemTotal:");
	p += strspn(p, " ");
	size_t len = strspn(p, "0123456789");
	if (len >= sizeof(number) || !starts_with(p + len, " kB"))
		return error_set(c->err, EINVAL, "node%lld: MemTotal of meminfo is no number of kB", (long long)n->id);
	memcpy(number, p, len);
	number[len] = 0;
	int64_t kib;
	if (parse_i64(number, 0, INT64_MAX >> 10, &kib, NULL) < 0)
		return error_set(c->err, EINVAL, "node%lld: MemTotal of meminfo is out of range", (long long)n->id);
	n->memory = kib << 10;
	return 0;
}

struct hugepages {
	struct cpus *c;
	struct hw_node *n;
};

static int cpus_read_hugepage_count(struct cpus *c, const struct hw_node *n, const char *dir, const char *file,
                                    int64_t *ret) {
	int r = cpus_get(c, "devices/system/node/node%lld/hugepages/%.40s/%s", (long long)n->id, dir, file);
	if (r < 0)
		return r;
	if (r > 0 && parse_i64(c->text, 0, INT64_MAX, ret, NULL) < 0)
		return error_set(c->err, EINVAL, "node%lld: %.40s/%s `%.20s` is no number of pages", (long long)n->id,
		                 dir, file, c->text);
	return 0;
}

/* "hugepages-2048kB" */
static int cpus_read_hugepages(void *arg, const char *name) {
	const struct hugepages *a = arg;
	struct hw_node *n = a->n;
	char number[16];
	size_t len = starts_with(name, "hugepages-") ? strspn(name + 10, "0123456789") : 0;
	struct hw_hugepages p = {.free = -1};
	if (len == 0 || len >= sizeof(number) || !streq(name + 10 + len, "kB"))
		return 0;
	memcpy(number, name + 10, len);
	number[len] = 0;
	if (parse_i64(number, 4, 1 << 25, &p.size_kib, NULL) < 0)
		return error_set(a->c->err, EINVAL, "node%lld: %.40s is no size of hugepages", (long long)n->id, name);
	if (n->n_hugepages == ARRAY_SIZE(n->hugepages))
		return error_set(a->c->err, EFBIG, "node%lld: there are more than %zu sizes of hugepages",
		                 (long long)n->id, ARRAY_SIZE(n->hugepages));
	int r = cpus_read_hugepage_count(a->c, n, name, "nr_hugepages", &p.total);
	if (r == 0)
		r = cpus_read_hugepage_count(a->c, n, name, "free_hugepages", &p.free);
	if (r < 0)
		return r;
	size_t i = n->n_hugepages++;
	for (; i > 0 && n->hugepages[i - 1].size_kib > p.size_kib; i--)
		n->hugepages[i] = n->hugepages[i - 1];
	n->hugepages[i] = p;
	return 0;
}

/* Distances come in the order of the nodes that are online, which are those in `names`. */
static int cpus_read_distances(struct cpus *c, struct hw_node *n, const struct hw_set *nodes) {
	int r = cpus_get(c, "devices/system/node/node%lld/distance", (long long)n->id);
	if (r <= 0)
		return r;
	char *save = NULL;
	int to = hw_set_first(nodes);
	for (char *word = strtok_r(c->text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		int64_t v;
		if (parse_i64(word, 1, 255, &v, NULL) < 0)
			return error_set(c->err, EINVAL, "node%lld: distance `%.20s` must be 1..255", (long long)n->id,
			                 word);
		if (to < 0)
			return error_set(c->err, EINVAL, "node%lld: there are more distances than nodes",
			                 (long long)n->id);
		n->distances[n->n_distances++] = (struct hw_distance){to, v};
		to = hw_set_next(nodes, to);
	}
	if (to >= 0)
		return error_set(c->err, EINVAL, "node%lld: the distance to node%d is missing", (long long)n->id, to);
	return 0;
}

static int cpus_read_node(struct cpus *c, int id, const struct hw_set *nodes, struct hw_set *seen) {
	struct hw_host *h = c->h;
	if (h->n_nodes == HW_NODES_MAX)
		return error_set(c->err, EFBIG, "node%d: there are more than %d NUMA nodes", id, HW_NODES_MAX);
	if (id > 1023)
		return error_set(c->err, ERANGE, "node%d: numbers from 1024 on are too large", id);
	struct hw_set *cpus = &c->node_cpus[h->n_nodes];
	struct hw_node *n = &h->nodes[h->n_nodes++];
	jt_init(&jt_hw_node, n);
	n->id = id;
	int e = 0, r = cpus_get(c, "devices/system/node/node%d/cpulist", id);
	if (r > 0)
		e = hw_set_parse_list(c->text, cpus);
	else if (r == 0 && (r = cpus_get(c, "devices/system/node/node%d/cpumap", id)) > 0)
		e = hw_set_parse_mask(c->text, cpus);
	if (r < 0)
		return r;
	if (e < 0)
		return error_set(c->err, EINVAL, "node%d: its CPUs `%.40s` are no set of CPUs", id, c->text);
	if (hw_set_overlaps(seen, cpus))
		return error_set(c->err, EINVAL, "node%d: some of its CPUs are of another node, too", id);
	hw_set_merge(seen, cpus);
	if (hw_set_print(cpus, n->cpus, sizeof(n->cpus)) < 0)
		return error_set(c->err, EINVAL, "node%d: the list of its CPUs is too long", id);
	char dir[HW_FS_PATH_MAX];
	snprintf(dir, sizeof(dir), "devices/system/node/node%d/hugepages", id);
	r = cpus_read_memory(c, n);
	if (r == 0)
		r = c->fs->list(c->fs, dir, cpus_read_hugepages, &(struct hugepages){c, n}, c->err);
	return r == 0 || r == -ENOENT ? cpus_read_distances(c, n, nodes) : r;
}

/* A kernel without NUMA has no nodes: the whole machine is node 0. */
static int cpus_read_single_node(struct cpus *c) {
	struct hw_node *n = &c->h->nodes[c->h->n_nodes++];
	jt_init(&jt_hw_node, n);
	c->node_cpus[0] = c->online;
	if (hw_set_print(&c->online, n->cpus, sizeof(n->cpus)) < 0)
		return error_set(c->err, EINVAL, "the list of CPUs that are online is too long");
	return 0;
}

static int cpus_read_nodes(struct cpus *c) {
	struct hw_set seen = {0};
	int r = cpus_numbers_in(c, "devices/system/node", "node");
	if (r < 0 && r != -ENOENT)
		return r;
	struct hw_set nodes = c->names;
	if (r == -ENOENT || hw_set_is_empty(&nodes))
		return cpus_read_single_node(c);
	r = 0;
	for (int id = hw_set_first(&nodes); r == 0 && id >= 0; id = hw_set_next(&nodes, id))
		r = cpus_read_node(c, id, &nodes, &seen);
	return r;
}

int hw_sysfs_read_processors(const struct hw_fs *fs, struct hw_host *h, struct error *err) {
	_free_ struct cpus *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	*c = (struct cpus){.fs = fs, .h = h, .err = err};
	struct hw_set seen = {0};
	int r = cpus_numbers_in(c, "devices/system/cpu", "cpu");
	if (r == -ENOENT || (r == 0 && hw_set_is_empty(&c->names)))
		return error_set(err, ENOENT, "there is no sysfs: devices/system/cpu has no CPUs");
	if (r < 0)
		return r;
	struct hw_set present = c->names;
	c->online = present;
	r = cpus_get(c, "devices/system/cpu/online");
	if (r < 0)
		return r;
	if (r > 0 && c->text[0] && hw_set_parse_list(c->text, &c->online) < 0)
		return error_set(err, EINVAL, "devices/system/cpu/online: `%.40s` is no set of CPUs", c->text);
	for (int i = hw_set_first(&c->online); i >= 0; i = hw_set_next(&c->online, i))
		if (!hw_set_has(&present, (unsigned)i))
			return error_set(err, EINVAL, "cpu%d: it is online, but its directory is missing", i);
	r = cpus_read_nodes(c);
	for (int i = hw_set_first(&c->online); r == 0 && i >= 0; i = hw_set_next(&c->online, i))
		r = cpus_read_core(c, i, &seen);
	return r;
}
