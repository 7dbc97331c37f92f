/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/imds.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/jsonwrite.h"
#include "base/util.h"

#define IMDS_PATH_MAX 160

/* ---- what is told ---- */

/*
 * Each function appends its text to OUT, or nothing if the instance has no such thing, and returns 0 or a negative
 * errno.
 */

static int put_address(const struct addr *a, struct buf *out) {
	char text[ADDR_STR_MAX];

	if (a->family)
		buf_puts(out, addr_str(a, text));
	return 0;
}

static int put_uuid(const struct imds *m, struct buf *out) {
	buf_puts(out, m->config->uuid);
	return 0;
}

static int put_image(const struct imds *m, struct buf *out) {
	buf_puts(out, m->config->image_name);
	return 0;
}

/* With its domain: cloud-init takes it apart. */
static int put_hostname(const struct imds *m, struct buf *out) {
	const struct vm_config *c = m->config;

	if (c->hostname[0])
		buf_printf(out, "%s%s%s", c->hostname, c->domain[0] ? "." : "", c->domain);
	return 0;
}

static int put_private4(const struct imds *m, struct buf *out) {
	return put_address(&m->config->ipv4, out);
}

static int put_public4(const struct imds *m, struct buf *out) {
	return put_address(&m->config->public4, out);
}

/* The address that the guest makes of its prefix and MAC, and that status.address of the Instance has. */
static int put_ipv6(const struct imds *m, struct buf *out) {
	struct addr a = {0};

	if (m->config->prefix.addr.family)
		a = addr_eui64(&m->config->prefix.addr, &m->config->mac);
	return put_address(&a, out);
}

static int put_prefix(const struct imds *m, struct buf *out) {
	char text[PREFIX_STR_MAX];

	if (m->config->prefix.addr.family)
		buf_puts(out, prefix_str(&m->config->prefix, text));
	return 0;
}

static int put_mac(const struct imds *m, struct buf *out) {
	char text[MAC_STR_MAX];

	buf_puts(out, mac_str(&m->config->mac, text));
	return 0;
}

static int put_device_number(const struct imds *m, struct buf *out) {
	(void)m;
	buf_puts(out, "0");
	return 0;
}

static int put_user_data(const struct imds *m, struct buf *out) {
	return seed_user_data(m->seed, out);
}

static int put_first_key(const struct imds *m, struct buf *out) {
	struct seed_keys k;
	int r = seed_keys(m->seed, &k);

	if (k.n)
		buf_puts(out, k.key[0]);
	seed_keys_done(&k);
	return r;
}

static int put_document(const struct imds *m, struct buf *out) {
	const struct vm_config *c = m->config;
	char address[ADDR_STR_MAX];

	jw_begin(out, '{');
	jw_kv_string(out, "version", "2017-09-30");
	jw_kv_string(out, "instanceId", c->uuid);
	jw_kv_string(out, "imageId", c->image_name[0] ? c->image_name : NULL);
	jw_kv_string(out, "privateIp", c->ipv4.family ? addr_str(&c->ipv4, address) : NULL);
	jw_kv_string(out, "architecture", "x86_64");
	jw_end(out, '}');
	return 0;
}

/* ---- the shape of EC2 ---- */

#define INTERFACE "meta-data/network/interfaces/macs/*/"
#define KEYS      "meta-data/public-keys"

/* Sorted, so that what is in one folder is together. `*` is the MAC. */
static const struct leaf {
	const char *path;
	int (*put)(const struct imds *m, struct buf *out);
} leaves[] = {
	{"dynamic/instance-identity/document", put_document},
	{"meta-data/ami-id", put_image},
	{"meta-data/hostname", put_hostname},
	{"meta-data/instance-id", put_uuid},
	{"meta-data/ipv6", put_ipv6},
	{"meta-data/local-hostname", put_hostname},
	{"meta-data/local-ipv4", put_private4},
	{"meta-data/mac", put_mac},
	{INTERFACE "device-number", put_device_number},
	{INTERFACE "ipv6s", put_ipv6},
	{INTERFACE "local-hostname", put_hostname},
	{INTERFACE "local-ipv4s", put_private4},
	{INTERFACE "mac", put_mac},
	{INTERFACE "public-ipv4s", put_public4},
	{INTERFACE "subnet-ipv6-cidr-blocks", put_prefix},
	{"meta-data/public-ipv4", put_public4},
	{KEYS "/0/openssh-key", put_first_key}, /* keys_get() answers for what is in this folder */
	{"meta-data/reservation-id", put_uuid},
	{"user-data", put_user_data},
};

static const char *leaf_path(const struct imds *m, const struct leaf *l, char out[static IMDS_PATH_MAX]) {
	const char *star = strchr(l->path, '*');
	char mac[MAC_STR_MAX];

	if (star)
		snprintf(out, IMDS_PATH_MAX, "%.*s%s%s", (int)(star - l->path), l->path, mac_str(&m->config->mac, mac),
		         star + 1);
	return star ? out : l->path;
}

/* A line of a listing; the last line has no end. */
static void put_line(const char *text, size_t len, struct buf *out) {
	if (out->len)
		buf_putc(out, '\n');
	buf_add(out, text, len);
}

static int imds_status(int r, const struct buf *out) {
	return r < 0 ? 500 : out->len ? 200 : 404;
}

/* The folder of the LEN bytes at PATH ("": the top). */
static int imds_list(const struct imds *m, const char *path, size_t len, struct buf *out) {
	char text[IMDS_PATH_MAX];
	char last[IMDS_PATH_MAX] = "";
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(leaves) && r >= 0; i++) {
		_buf_free_ struct buf value = {0};
		const char *p = leaf_path(m, &leaves[i], text);
		if (len && (strncmp(p, path, len) != 0 || p[len] != '/'))
			continue;
		const char *name = len ? p + len + 1 : p;
		size_t n = strcspn(name, "/");
		n += name[n] == '/';
		if (strlen(last) == n && strncmp(last, name, n) == 0)
			continue;
		r = leaves[i].put(m, &value);
		if (r < 0 || !value.len)
			continue;
		snprintf(last, sizeof(last), "%.*s", (int)n, name);
		put_line(name, n, out);
	}
	return imds_status(r, out);
}

/* PATH is what follows "public-keys": the list of keys, a key's folder, or the key. */
static int keys_put(const struct seed_keys *k, const char *path, struct buf *out) {
	char text[64];

	if (!*path || streq(path, "/")) {
		for (size_t i = 0; i < k->n; i++) {
			snprintf(text, sizeof(text), "%zu=key-%zu", i, i);
			put_line(text, strlen(text), out);
		}
		return 0;
	}
	for (size_t i = 0; i < k->n; i++) {
		int n = snprintf(text, sizeof(text), "/%zu", i);
		const char *rest = starts_with(path, text) ? path + n : "?";
		if (!*rest || streq(rest, "/"))
			buf_puts(out, "openssh-key");
		else if (streq(rest, "/openssh-key"))
			buf_puts(out, k->key[i]);
	}
	return 0;
}

static int keys_get(const struct imds *m, const char *path, struct buf *out) {
	struct seed_keys k;
	int r = seed_keys(m->seed, &k);

	if (r >= 0)
		r = keys_put(&k, path, out);
	seed_keys_done(&k);
	return imds_status(r, out);
}

/* PATH is what follows the version and its `/`. */
static int ec2_get(const struct imds *m, const char *path, struct buf *out) {
	size_t len = strlen(path);
	char text[IMDS_PATH_MAX];

	if (starts_with(path, KEYS) && (path[strlen(KEYS)] == '/' || !path[strlen(KEYS)]))
		return keys_get(m, path + strlen(KEYS), out);
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		if (streq(path, leaf_path(m, &leaves[i], text)))
			return imds_status(leaves[i].put(m, out), out);
	return imds_list(m, path, len && path[len - 1] == '/' ? len - 1 : len, out);
}

/* The length of the version at the beginning of PATH: `latest` or YYYY-MM-DD, up to a `/` or the end. 0: none. */
static size_t version_len(const char *path) {
	static const char shape[] = "0000-00-00";
	size_t len = strcspn(path, "/");

	if (len == 6 && strncmp(path, "latest", len) == 0)
		return len;
	for (size_t i = 0; len == strlen(shape) && i < len; i++)
		if (shape[i] == '0' ? path[i] < '0' || path[i] > '9' : path[i] != shape[i])
			return 0;
	return len == strlen(shape) ? len : 0;
}

/* ---- NoCloud ---- */

static int put_nocloud_metadata(const struct imds *m, struct buf *out) {
	_buf_free_ struct buf name = {0};
	struct seed_keys k;
	int r = seed_keys(m->seed, &k);

	put_hostname(m, &name);
	jw_begin(out, '{');
	jw_kv_string(out, "instance-id", m->config->uuid);
	jw_kv_string(out, "local-hostname", name.data);
	jw_key(out, "public-keys");
	jw_begin(out, '[');
	for (size_t i = 0; i < k.n; i++)
		jw_string(out, k.key[i]);
	jw_end(out, ']');
	jw_end(out, '}');
	seed_keys_done(&k);
	return name.failed ? -ENOMEM : r;
}

static int put_network_config(const struct imds *m, struct buf *out) {
	char mac[MAC_STR_MAX];

	jw_begin(out, '{');
	jw_kv_i64(out, "version", 2);
	jw_key(out, "ethernets");
	jw_begin(out, '{');
	jw_key(out, "nic0");
	jw_begin(out, '{');
	jw_key(out, "match");
	jw_begin(out, '{');
	jw_kv_string(out, "macaddress", mac_str(&m->config->mac, mac));
	jw_end(out, '}');
	jw_kv_bool(out, "dhcp4", m->config->ipv4.family != 0);
	jw_kv_bool(out, "dhcp6", true);
	jw_kv_bool(out, "accept-ra", true);
	jw_end(out, '}');
	jw_end(out, '}');
	jw_end(out, '}');
	return 0;
}

static int put_nothing(const struct imds *m, struct buf *out) {
	(void)m;
	(void)out;
	return 0;
}

#define NOCLOUD "nocloud/"

static int nocloud_get(const struct imds *m, const char *path, struct buf *out) {
	static const struct leaf files[] = {{"meta-data", put_nocloud_metadata},
	                                    {"network-config", put_network_config},
	                                    {"user-data", put_user_data},
	                                    {"vendor-data", put_nothing}};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (!*path)
			put_line(files[i].path, strlen(files[i].path), out);
		else if (streq(path, files[i].path))
			return files[i].put(m, out) < 0 ? 500 : 200;
	}
	return *path ? 404 : 200;
}

/* ---- both ---- */

bool imds_needs_token(const char *path) {
	return !starts_with(path, "/" NOCLOUD);
}

int imds_get(const struct imds *m, const char *path, struct buf *out) {
	static const char versions[] = "2009-04-04\n2016-09-02\n2018-09-24\n2021-03-23\nlatest";

	if (*path++ != '/')
		return 404;
	if (!*path) {
		buf_puts(out, versions);
		return 200;
	}
	if (starts_with(path, NOCLOUD))
		return nocloud_get(m, path + strlen(NOCLOUD), out);
	size_t len = version_len(path);
	return len ? ec2_get(m, path + len + (path[len] == '/'), out) : 404;
}
