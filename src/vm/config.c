/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/config.h"

#include <string.h>

#include "base/jsonread.h"
#include "base/jsonwrite.h"
#include "base/util.h"

enum type { STR, INT, ENUM, MAC, PREFIX };

struct field {
	const char *key;
	enum type type;
	size_t offset;
	int64_t min, max; /* of INT; max of STR is its longest text */
	const char *const *names;
};

static const char *const accel_names[] = {"tcg", "kvm", NULL};
static const char *const boot_names[] = {"kernel", "bios", "uefi", NULL};
static const char *const format_names[] = {"raw", "qcow2", NULL};

#define AT(member) offsetof(struct vm_config, member)
#define TEXT(k, member) \
	{ k, STR, AT(member), 0, sizeof(((struct vm_config *)0)->member) - 1, NULL }

static const struct field fields[] = {
	TEXT("name", name),
	TEXT("uuid", uuid),
	{"vcpus", INT, AT(vcpus), 1, 1024, NULL},
	{"memoryMiB", INT, AT(memory_mib), 16, 16 << 20, NULL},
	{"accel", ENUM, AT(accel), 0, 0, accel_names},
	{"boot", ENUM, AT(boot), 0, 0, boot_names},
	TEXT("kernel", kernel),
	TEXT("initrd", initrd),
	TEXT("cmdline", cmdline),
	TEXT("disk", disk),
	TEXT("image", image),
	{"imageFormat", ENUM, AT(image_format), 0, 0, format_names},
	TEXT("firmware", firmware),
	TEXT("firmwareVars", firmware_vars),
	{"mac", MAC, AT(mac), 0, 0, NULL},
	TEXT("tap", tap),
	{"prefix", PREFIX, AT(prefix), 0, 0, NULL},
	{"mtu", INT, AT(mtu), 1280, 65535, NULL},
	{"uid", INT, AT(uid), 0, INT32_MAX, NULL},
	{"gid", INT, AT(gid), 0, INT32_MAX, NULL},
	{"graceSeconds", INT, AT(grace_s), 0, 3600, NULL},
};
_Static_assert(ARRAY_SIZE(fields) <= 32, "the bit set of seen keys has 32 bits");

void vm_config_init(struct vm_config *c) {
	*c = (struct vm_config){.vcpus = 1, .memory_mib = 256, .mtu = 1500, .grace_s = 30};
}

static int set_text(const struct field *f, void *at, const char *s, struct error *err) {
	int r = 0;

	switch (f->type) {
	case STR:
		for (const char *p = s; *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				return error_set(err, EINVAL, "%s: control characters are not allowed", f->key);
		if (strlen(s) > (size_t)f->max)
			return error_set(err, EINVAL, "%s: at most %lld bytes", f->key, (long long)f->max);
		memcpy(at, s, strlen(s) + 1);
		return 0;
	case ENUM:
		for (int i = 0; f->names[i]; i++)
			if (streq(f->names[i], s)) {
				*(int *)at = i;
				return 0;
			}
		return error_set(err, EINVAL, "%s: `%.32s` is not a known value", f->key, s);
	case MAC: r = mac_parse(s, at, err); break;
	case PREFIX: r = prefix_parse(s, at, err); break;
	case INT: r = error_set(err, EINVAL, "expected a number"); break;
	}
	return r < 0 ? error_prefix(err, "%s", f->key) : 0;
}

static int config_read_field(struct jr *r, const struct field *f, struct vm_config *c, struct error *err) {
	void *at = (char *)c + f->offset;
	const char *s;
	size_t len;

	if (f->type == INT) {
		int64_t v;
		if (jr_i64(r, &v) < 0)
			return error_prefix(err, "%s", (jr_error(r, err), f->key));
		if (v < f->min || v > f->max)
			return error_set(err, EINVAL, "%s: must be %lld..%lld", f->key, (long long)f->min,
			                 (long long)f->max);
		*(int64_t *)at = v;
		return 0;
	}
	if (jr_string(r, &s, &len) < 0)
		return error_prefix(err, "%s", (jr_error(r, err), f->key));
	_free_ char *copy = strndup(s, len);
	return copy ? set_text(f, at, copy, err) : error_oom(err);
}

/* Whole-object rules. */
static int check_whole(const struct vm_config *c, struct error *err) {
	static const struct mac no_mac;

	for (const char *p = c->name; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789.-/", *p))
			return error_set(err, EINVAL, "name: only a-z, 0-9, '.', '-' and '/' are allowed");
	if (!c->name[0])
		return error_set(err, EINVAL, "name: is missing");
	if (strlen(c->uuid) != 36 || strspn(c->uuid, "0123456789abcdef-") != 36)
		return error_set(err, EINVAL, "uuid: must be a UUID in lower case");
	if ((c->boot == VM_BOOT_KERNEL) != (c->kernel[0] != 0))
		return error_set(err, EINVAL, "kernel: must be given with boot \"kernel\", and only then");
	if (c->boot != VM_BOOT_KERNEL && (c->initrd[0] || c->cmdline[0]))
		return error_set(err, EINVAL, "initrd, cmdline: go with boot \"kernel\" only");
	if (c->boot != VM_BOOT_KERNEL && !c->disk[0])
		return error_set(err, EINVAL, "disk: must be given unless boot is \"kernel\"");
	if ((c->disk[0] != 0) != (c->image[0] != 0))
		return error_set(err, EINVAL, "disk, image: must be given together");
	if ((c->boot == VM_BOOT_UEFI) != (c->firmware[0] != 0) || (c->firmware[0] != 0) != (c->firmware_vars[0] != 0))
		return error_set(err, EINVAL,
		                 "firmware, firmwareVars: must be given with boot \"uefi\", and only then");
	if ((c->tap[0] != 0) != (memcmp(&c->mac, &no_mac, sizeof(no_mac)) != 0))
		return error_set(err, EINVAL, "tap, mac: must be given together");
	if (c->prefix.addr.family && (c->prefix.addr.family != AF_INET6 || c->prefix.len != 64))
		return error_set(err, EINVAL, "prefix: must be an IPv6 /64");
	if (c->prefix.addr.family && !c->tap[0])
		return error_set(err, EINVAL, "prefix: needs a tap to be announced on");
	return 0;
}

int vm_config_parse(const char *text, size_t len, struct vm_config *ret, struct error *err) {
	_cleanup_(jr_done) struct jr r;
	struct vm_config c;
	uint32_t seen = 0;
	const char *key;
	size_t klen;
	int n, ok;

	vm_config_init(&c);
	jr_init(&r, text, len);
	if (jr_object(&r) < 0)
		return jr_error(&r, err);
	while ((n = jr_key(&r, &key, &klen)) > 0) {
		size_t i = 0;
		while (i < ARRAY_SIZE(fields) &&
		       (strlen(fields[i].key) != klen || memcmp(fields[i].key, key, klen) != 0))
			i++;
		if (i == ARRAY_SIZE(fields))
			return error_set(err, EINVAL, "%.*s: unknown field", (int)MIN(klen, (size_t)64), key);
		if (seen & (1U << i))
			return error_set(err, EINVAL, "%s: given twice", fields[i].key);
		seen |= 1U << i;
		ok = config_read_field(&r, &fields[i], &c, err);
		if (ok < 0)
			return ok;
	}
	if (n < 0 || jr_end(&r) < 0)
		return jr_error(&r, err);
	ok = check_whole(&c, err);
	if (ok < 0)
		return ok;
	*ret = c;
	return 0;
}

void vm_config_print(const struct vm_config *c, struct buf *out) {
	char text[PREFIX_STR_MAX];

	jw_begin(out, '{');
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];
		const void *at = (const char *)c + f->offset;
		switch (f->type) {
		case STR:
			if (*(const char *)at)
				jw_kv_string(out, f->key, at);
			break;
		case INT: jw_kv_i64(out, f->key, *(const int64_t *)at); break;
		case ENUM: jw_kv_string(out, f->key, f->names[*(const int *)at]); break;
		case MAC:
			if (c->tap[0])
				jw_kv_string(out, f->key, mac_str(at, text));
			break;
		case PREFIX:
			if (((const struct prefix *)at)->addr.family)
				jw_kv_string(out, f->key, prefix_str(at, text));
			break;
		}
	}
	jw_end(out, '}');
}
