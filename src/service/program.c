/* SPDX-License-Identifier: Apache-2.0 */
#include "service/program.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "base/util.h"

static __thread char last_warning[256];

/* Keeps the last line; of a message with the verifier's log the line that says why the program was refused. */
static int keep_warning(enum libbpf_print_level level, const char *format, va_list args) {
	_free_ char *text = NULL;
	if (level != LIBBPF_WARN || vasprintf(&text, format, args) < 0)
		return 0;
	char *log = strstr(text, "LOAD LOG --"), *end = log ? strstr(log, "\nprocessed ") : NULL;
	if (log && !end)
		return 0;
	if (!end && strstr(last_warning, "verifier: "))
		return 0;
	if (end)
		*end = 0;
	else
		text[strcspn(text, "\n")] = 0;
	char *line = end ? strrchr(log, '\n') : NULL;
	snprintf(last_warning, sizeof(last_warning), "%s%s", line ? "verifier: " : "", line ? line + 1 : text);
	return 0;
}

void program_init(void) {
	libbpf_set_print(keep_warning);
}

/* Takes FD over. */
static int program_read(struct program *ret, int fd, struct error *err) {
	struct program p = {.fd = fd, .info = {.nr_map_ids = PROGRAM_MAPS, .map_ids = (uintptr_t)p.maps}};
	uint32_t size = sizeof(p.info);
	if (bpf_obj_get_info_by_fd(fd, &p.info, &size) < 0) {
		int code = errno;
		close(fd);
		return error_errno(err, code, "read about a program");
	}
	p.info.map_ids = 0;
	p.info.nr_map_ids = MIN(p.info.nr_map_ids, (uint32_t)PROGRAM_MAPS);
	*ret = p;
	return 0;
}

int program_open(struct program *ret, uint32_t id, struct error *err) {
	int fd = bpf_prog_get_fd_by_id(id);
	return fd < 0 ? error_errno(err, errno, "open program %u", id) : program_read(ret, fd, err);
}

int program_of_fd(struct program *ret, int fd, struct error *err) {
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? error_errno(err, errno, "duplicate a descriptor") : program_read(ret, copy, err);
}

void program_close(struct program *p) {
	p->fd = safe_close(p->fd);
}

/* A descriptor of the program's map of that name, or a negative errno. */
static int map_named(const struct program *p, const char *name, struct bpf_map_info *ret) {
	for (uint32_t i = 0; i < p->info.nr_map_ids; i++) {
		struct bpf_map_info info = {0};
		uint32_t size = sizeof(info);
		int fd = bpf_map_get_fd_by_id(p->maps[i]);
		if (fd < 0)
			return -errno;
		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && streq(info.name, name)) {
			*ret = info;
			return fd;
		}
		close(fd);
	}
	return -ENOENT;
}

static bool map_is_constant(const struct bpf_map_info *m) {
	size_t n = strlen(m->name);
	return n > 7 && streq(m->name + n - 7, ".rodata");
}

int program_lend_maps(const struct program *p, struct bpf_object *o, struct error *err) {
	int fds[PROGRAM_MAPS], n = 0, r = 1;
	struct bpf_map *map, *lent[PROGRAM_MAPS];
	bpf_object__for_each_map(map, o) {
		struct bpf_map_info info = {0};
		if (bpf_map__is_internal(map))
			continue;
		int fd = n < PROGRAM_MAPS ? map_named(p, bpf_map__name(map), &info) : -ENOENT;
		if (fd < 0) {
			r = 0;
			break;
		}
		lent[n] = map;
		fds[n++] = fd;
		if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
		    info.value_size != bpf_map__value_size(map) || info.max_entries != bpf_map__max_entries(map) ||
		    info.map_flags != bpf_map__map_flags(map)) {
			r = 0;
			break;
		}
	}
	for (int i = 0; i < n; i++) {
		if (r > 0 && bpf_map__reuse_fd(lent[i], fds[i]) < 0)
			r = error_errno(err, errno, "take the map `%s` over", bpf_map__name(lent[i]));
		close(fds[i]);
	}
	return r;
}

int program_load(struct bpf_object *o, struct error *err) {
	*last_warning = 0;
	if (bpf_object__load(o) < 0)
		return error_errno(err, errno, "load the program `%s` (%s)", bpf_object__name(o), last_warning);
	return 0;
}

int program_constants(const struct program *p, void *ret, size_t max, size_t *ret_size) {
	for (uint32_t i = 0; i < p->info.nr_map_ids; i++) {
		struct bpf_map_info info = {0};
		uint32_t n = sizeof(info), first = 0;
		_close_ int fd = bpf_map_get_fd_by_id(p->maps[i]);
		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &n) < 0)
			return -errno;
		if (!map_is_constant(&info))
			continue;
		if (info.value_size > max)
			return -EFBIG;
		if (bpf_map_lookup_elem(fd, &first, ret) < 0)
			return -errno;
		*ret_size = info.value_size;
		return 0;
	}
	return -ENOENT;
}

static bool program_uses(const struct program *p, uint32_t map) {
	for (uint32_t i = 0; i < p->info.nr_map_ids; i++)
		if (p->maps[i] == map)
			return true;
	return false;
}

bool program_equal(const struct program *a, const struct program *b) {
	char x[PROGRAM_CONSTANTS_MAX], y[PROGRAM_CONSTANTS_MAX];
	size_t n = 0, m = 0;
	int r = program_constants(a, x, sizeof(x), &n);
	if (program_constants(b, y, sizeof(y), &m) != r || (r < 0 && r != -ENOENT) || n != m || memcmp(x, y, n) != 0)
		return false;
	uint32_t common = 0;
	for (uint32_t i = 0; i < a->info.nr_map_ids; i++)
		common += program_uses(b, a->maps[i]);
	/* Each program has read-only data of its own. */
	return a->info.nr_map_ids == b->info.nr_map_ids && common + (r == 0) >= a->info.nr_map_ids &&
	       memcmp(a->info.tag, b->info.tag, sizeof(a->info.tag)) == 0;
}

int program_sum_counter(int fd, uint32_t index, uint64_t *ret, struct error *err) {
	int n = libbpf_num_possible_cpus();
	_free_ uint64_t *values = n > 0 ? calloc((size_t)n, sizeof(*values)) : NULL;
	if (!values)
		return n < 0 ? error_errno(err, n, "count the processors") : error_oom(err);
	if (bpf_map_lookup_elem(fd, &index, values) < 0)
		return error_errno(err, errno, "read a counter of a program");
	uint64_t sum = 0;
	for (int i = 0; i < n; i++)
		sum += values[i];
	*ret = sum;
	return 0;
}
