/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/config.h"

#include <string.h>

#include "base/util.h"

static const char *const jt_words_vm_accel[] = {"tcg", "kvm", NULL};
static const char *const jt_words_vm_boot[] = {"kernel", "bios", "uefi", NULL};
static const char *const jt_words_vm_format[] = {"raw", "qcow2", NULL};

JT_DEFINE(vm_dns, VM_DNS_FIELDS)
JT_DEFINE(vm_search, VM_SEARCH_FIELDS)
JT_DEFINE(vm_config, VM_CONFIG_FIELDS)

void vm_config_init(struct vm_config *c) {
	jt_init(&jt_vm_config, c);
}

static int vm_config_check_names(const struct vm_config *c, struct error *err) {
	if (c->hostname[0] && !dnsname_valid(c->hostname))
		return error_set(err, EINVAL, "hostname: must be a DNS name");
	if (c->domain[0] && !dnsname_valid(c->domain))
		return error_set(err, EINVAL, "domain: must be a DNS name");
	for (size_t i = 0; i < c->n_search; i++)
		if (!dnsname_valid(c->search[i].domain))
			return error_set(err, EINVAL, "search: `%s` must be a DNS name", c->search[i].domain);
	for (size_t i = 0; i < c->n_dns; i++)
		if (!c->dns[i].address.family)
			return error_set(err, EINVAL, "dns: an address is missing");
	return 0;
}

/* The rules between the fields of an object. */
static int vm_config_check(const struct vm_config *c, struct error *err) {
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
		return error_set(err, EINVAL, "initrd, cmdline: are allowed only with boot \"kernel\"");
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
	if (c->delegated.addr.family && (c->delegated.addr.family != AF_INET6 || !c->prefix.addr.family))
		return error_set(err, EINVAL, "delegated: must be an IPv6 prefix, and needs `prefix`");
	if (c->ipv4.family != c->ipv4_router.family || (c->ipv4.family && c->ipv4.family != AF_INET))
		return error_set(err, EINVAL, "ipv4, ipv4Router: must be IPv4 addresses and given together");
	if (c->ipv4.family && !c->tap[0])
		return error_set(err, EINVAL, "ipv4: needs a tap");
	if (c->public4.family && c->public4.family != AF_INET)
		return error_set(err, EINVAL, "public4: must be an IPv4 address");
	return vm_config_check_names(c, err);
}

int vm_config_parse(const char *text, size_t len, struct vm_config *ret, struct error *err) {
	_cleanup_(jr_done) struct jr reader;
	struct vm_config c;

	vm_config_init(&c);
	jr_init(&reader, text, len);
	int r = jt_read(&jt_vm_config, &reader, &c, err);
	if (r >= 0 && jr_end(&reader) < 0)
		r = jr_error(&reader, err);
	if (r >= 0)
		r = vm_config_check(&c, err);
	if (r < 0)
		return r;
	*ret = c;
	return 0;
}

void vm_config_print(const struct vm_config *c, struct buf *out) {
	jt_print(&jt_vm_config, c, out);
}
