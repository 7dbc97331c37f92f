/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "base/buf.h"
#include "base/jsonread.h"
#include "base/jsonwrite.h"
#include "base/util.h"

#define STATE_MAX 4096

int lab_init(struct lab *lab, const char *name, struct error *err) {
	size_t len = strlen(name);
	if (len < 1 || len > LAB_NAME_MAX || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") != len)
		return error_set(err, EINVAL, "--name `%.32s`: a lab's name has 1 to %d characters of a-z and 0-9",
		                 name, LAB_NAME_MAX);
	*lab = (struct lab){.hosts = 3, .balancers = LAB_BALANCERS};
	snprintf(lab->name, sizeof(lab->name), "%s", name);
	snprintf(lab->dir, sizeof(lab->dir), "%s/%s", LAB_RUN_DIR, name);
	snprintf(lab->prefix, sizeof(lab->prefix), "nl-%s-", name);
	/* The lab runs the programs of the same build, in whatever directory. */
	ssize_t n = readlink("/proc/self/exe", lab->bindir, sizeof(lab->bindir) - 1);
	if (n <= 0 || (size_t)n >= sizeof(lab->bindir) - 1)
		return error_set(err, ENAMETOOLONG, "the path of this program is longer than %zu bytes",
		                 sizeof(lab->bindir) - 1);
	lab->bindir[n] = 0;
	*strrchr(lab->bindir, '/') = 0;
	return 0;
}

int lab_save(const struct lab *lab, struct error *err) {
	char path[LAB_PATH_MAX];
	_buf_free_ struct buf b = {.max = STATE_MAX};
	jw_begin(&b, '{');
	jw_kv_i64(&b, "hosts", lab->hosts);
	jw_kv_i64(&b, "balancers", lab->balancers);
	jw_key(&b, "kubernetes");
	jw_bool(&b, lab->kubernetes);
	jw_kv_string(&b, "oracle", lab->oracle);
	jw_kv_string(&b, "images", lab->images);
	jw_kv_string(&b, "bindir", lab->bindir);
	jw_end(&b, '}');
	buf_putc(&b, '\n');
	int r = buf_error(&b, "the lab's state", err);
	if (r < 0)
		return r;
	return write_file_atomic(lab_path(lab, path, "lab.json"), b.data, b.len, 0644, err);
}

static int read_text(struct jr *j, char *out, size_t size) {
	const char *s;
	size_t n;
	int r = jr_string(j, &s, &n);
	if (r >= 0)
		snprintf(out, size, "%.*s", (int)n, s);
	return r;
}

static int read_state(struct lab *lab, struct jr *j) {
	const char *key;
	size_t n;
	int r = jr_object(j);
	lab->balancers = 0; /* as in labs of versions without them */
	while (r >= 0 && (r = jr_key(j, &key, &n)) > 0) {
		if (n == 5 && memcmp(key, "hosts", n) == 0)
			r = jr_i64(j, &lab->hosts);
		else if (n == 9 && memcmp(key, "balancers", n) == 0)
			r = jr_i64(j, &lab->balancers);
		else if (n == 10 && memcmp(key, "kubernetes", n) == 0)
			r = jr_bool(j, &lab->kubernetes);
		else if (n == 6 && memcmp(key, "oracle", n) == 0)
			r = read_text(j, lab->oracle, sizeof(lab->oracle));
		else if (n == 6 && memcmp(key, "images", n) == 0)
			r = read_text(j, lab->images, sizeof(lab->images));
		else if (n == 6 && memcmp(key, "bindir", n) == 0)
			r = read_text(j, lab->bindir, sizeof(lab->bindir));
		else
			r = jr_skip(j, NULL, NULL);
	}
	if (r >= 0 &&
	    (lab->hosts < 1 || lab->hosts > LAB_HOSTS_MAX || lab->balancers < 0 || lab->balancers > LAB_BALANCERS_MAX))
		r = -EINVAL;
	return r;
}

int lab_load(struct lab *lab, const char *name, struct error *err) {
	char path[LAB_PATH_MAX];
	_free_ char *text = NULL;
	size_t len;
	struct lab l;
	int r = lab_init(&l, name, err);
	if (r < 0)
		return r;
	r = read_file(lab_path(&l, path, "lab.json"), STATE_MAX, &text, &len, err);
	if (r == -ENOENT)
		return error_set(err, ENOENT, "there is no lab `%s`; `nacre lab up%s%s` creates it", name,
		                 streq(name, "lab") ? "" : " --name ", streq(name, "lab") ? "" : name);
	if (r < 0)
		return r;
	struct jr j;
	jr_init(&j, text, len);
	r = read_state(&l, &j);
	jr_done(&j);
	if (r < 0)
		return error_set(err, EBADMSG, "`%s` is damaged; `nacre lab down --name %s` cleans up", path, name);
	*lab = l;
	return 0;
}

int lab_lock(const struct lab *lab, int *ret_fd, struct error *err) {
	int r = lock_path(lab->dir, O_RDONLY | O_DIRECTORY, false, ret_fd, err);
	return r == -EBUSY ? error_set(err, EBUSY, "another `nacre lab` command is at work on lab `%s`", lab->name) : r;
}

const char *lab_path(const struct lab *lab, char out[static LAB_PATH_MAX], const char *fmt, ...) {
	va_list ap;
	int n = snprintf(out, LAB_PATH_MAX, "%s/", lab->dir);
	va_start(ap, fmt);
	vsnprintf(out + n, LAB_PATH_MAX - (size_t)n, fmt, ap);
	va_end(ap);
	return out;
}

enum { ROLE_EDGE, ROLE_BALANCER, ROLE_HOST, ROLES };
static const struct lab_role roles[ROLES] = {
	[ROLE_EDGE] = {"edge", "edge", ACCESS_OF_EDGE, 2},
	[ROLE_BALANCER] = {"lb", "lb", ACCESS_OF_BALANCER, 3},
	[ROLE_HOST] = {"host", "node", ACCESS_OF_HOST, 1},
};

static int lab_count(const struct lab *lab, int role) {
	return role == ROLE_EDGE ? LAB_EDGES : (int)(role == ROLE_BALANCER ? lab->balancers : lab->hosts);
}

int lab_machines(const struct lab *lab) {
	int n = 0;
	for (int role = 0; role < ROLES; role++)
		n += lab_count(lab, role);
	return n;
}

void lab_machine(const struct lab *lab, int i, struct lab_machine *ret) {
	int role = 0;
	for (; i >= lab_count(lab, role); role++)
		i -= lab_count(lab, role);
	struct lab_machine m = {.role = &roles[role], .agent = agent_kind_of(roles[role].whose), .index = i + 1};
	snprintf(m.name, sizeof(m.name), "%s%d", m.role->name, m.index);
	lab_ns(lab, m.name, m.ns);
	snprintf(m.prefix, sizeof(m.prefix), "%s%s-", lab->prefix, m.name);
	snprintf(m.vtep, sizeof(m.vtep), "fd4e::%d:%x", m.role->net, (unsigned)m.index);
	/* Instances have theirs from a pool. */
	if (role != ROLE_HOST)
		snprintf(m.overlay, sizeof(m.overlay), "2001:db8:0:%d::%x", m.role->net, (unsigned)m.index);
	m.asn = 4200000000 + m.role->net * 1000 + m.index;
	*ret = m;
}

const char *lab_names(const struct lab *lab, char out[static LAB_NAMES_MAX]) {
	size_t used = 0;
	*out = 0;
	for (int role = 0; role < ROLES; role++)
		if (lab_count(lab, role))
			used += (size_t)snprintf(out + used, LAB_NAMES_MAX - used, "%s%s1 to %s%d", used ? ", " : "",
			                         roles[role].name, roles[role].name, lab_count(lab, role));
	return out;
}

struct addr lab_mgmt_address(const struct lab *lab, uint32_t which) {
	struct addr a = {.family = AF_INET6, .bytes = {0xfd, 0x4e}};
	uint32_t hash = 2166136261U; /* FNV-1a, so that labs on one machine have different prefixes */
	for (const char *p = lab->name; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619U;
	for (int i = 0; i < 4; i++) {
		a.bytes[2 + i] = (uint8_t)(hash >> (24 - 8 * i));
		a.bytes[12 + i] = (uint8_t)(which >> (24 - 8 * i));
	}
	return a;
}

const char *lab_api_url(const struct lab *lab, char out[static LAB_URL_MAX]) {
	char text[ADDR_STR_MAX];
	struct addr a = lab_mgmt_address(lab, LAB_MGMT_API);
	snprintf(out, LAB_URL_MAX, "https://[%s]:%d", addr_str(&a, text), LAB_API_PORT);
	return out;
}

const char *lab_ns(const struct lab *lab, const char *what, char out[static LAB_NS_MAX]) {
	snprintf(out, LAB_NS_MAX, "%s%s", lab->prefix, what);
	return out;
}
