/* SPDX-License-Identifier: Apache-2.0 */
#include "api/addresspool.h"

#include <string.h>

#include "api/access.h"
#include "base/util.h"

static int check_mac_prefix(const char *s, struct error *err) {
	char full[MAC_STR_MAX];
	struct mac m;
	snprintf(full, sizeof(full), "%.8s:00:00:01", s);
	int r = mac_parse(full, &m, err);
	if (r < 0)
		return error_set(err, EINVAL, "`%s` must be the first three bytes of a unicast MAC, such as 02:4e:01",
		                 s);
	return 0;
}

static const struct api_format api_format_mac_prefix = {"MAC prefix", "^[0-9a-f][02468ace](:[0-9a-f]{2}){2}$", NULL,
                                                        NULL, check_mac_prefix};
API_ENUM(pool_use, "use", "instance", "delegated", "overlay", "mac")
API_DEFINE(addresspool_spec, ADDRESSPOOL_SPEC)
API_DEFINE(addresspool_status, ADDRESSPOOL_STATUS)
API_DEFINE(addresspool, ADDRESSPOOL)
API_DEFINE(allocation_spec, ALLOCATION_SPEC)
API_DEFINE(allocation_status, ALLOCATION_STATUS)
API_DEFINE(allocation, ALLOCATION)

uint8_t addresspool_length(const char *use) {
	return streq(use, "instance") ? 64 : streq(use, "delegated") ? 60 : streq(use, "overlay") ? 128 : 0;
}

/*
 * Index 0 is not used: in an overlay pool it is the subnet-router anycast address (RFC 4291, 2.6.1), in a MAC pool
 * ….00:00:00.
 */
static bool skips_first(const struct addresspool_spec *spec) {
	return streq(spec->use, "overlay") || streq(spec->use, "mac");
}

int64_t addresspool_total(const struct addresspool_spec *spec) {
	uint64_t n = 1 << 24;
	struct prefix p;
	if (!streq(spec->use, "mac")) {
		if (!spec->prefix || prefix_parse(spec->prefix, &p, NULL) < 0)
			return 0;
		n = prefix_count(&p, addresspool_length(spec->use));
	}
	if (n && skips_first(spec))
		n--;
	return (int64_t)MIN(n, (uint64_t)INT64_MAX);
}

int addresspool_value(const struct addresspool_spec *spec, uint64_t index, char out[static PREFIX_STR_MAX]) {
	struct prefix p, v;
	if (skips_first(spec) && __builtin_add_overflow(index, 1, &index))
		return -ERANGE;
	if (streq(spec->use, "mac")) {
		if (index >> 24)
			return -ERANGE;
		snprintf(out, PREFIX_STR_MAX, "%.8s:%02x:%02x:%02x", spec->mac_prefix, (unsigned)(index >> 16) & 0xff,
		         (unsigned)(index >> 8) & 0xff, (unsigned)index & 0xff);
		return 0;
	}
	if (prefix_parse(spec->prefix, &p, NULL) < 0 || prefix_nth(&p, addresspool_length(spec->use), index, &v) < 0)
		return -ERANGE;
	if (v.len == 128)
		addr_str(&v.addr, out);
	else
		prefix_str(&v, out);
	return 0;
}

bool addresspool_overlaps(const struct addresspool_spec *a, const struct addresspool_spec *b) {
	struct prefix p, q;
	if (a->mac_prefix && b->mac_prefix)
		return streq(a->mac_prefix, b->mac_prefix);
	return a->prefix && b->prefix && prefix_parse(a->prefix, &p, NULL) == 0 &&
	       prefix_parse(b->prefix, &q, NULL) == 0 && prefix_overlaps(&p, &q);
}

void allocation_name(const char *value, char out[static 64]) {
	/*
	 * Values only contain 0-9a-f, ':' and '/'. The name always ends with the prefix length, so that an address and
	 * a prefix have different names. Three dashes could only come from "::/", so two can stand for it.
	 */
	bool mac = strlen(value) == 17 && value[2] == ':' && value[5] == ':' && value[8] == ':' && value[11] == ':';
	const char *slash = strchr(value, '/');
	int n = (int)(slash ? slash - value : (ptrdiff_t)strlen(value));
	if (mac)
		snprintf(out, 64, "mac-%s", value);
	else if (n > 2 && value[n - 1] == ':')
		snprintf(out, 64, "ip6-%.*s%s", MIN(n - 1, 45), value, slash ? slash : "/128");
	else
		snprintf(out, 64, "ip6-%.*s%s", MIN(n, 45), value, slash ? slash : "/128");
	for (char *p = out; *p; p++)
		if (*p == ':' || *p == '/')
			*p = '-';
}

static void addresspool_check(const void *obj, struct api_errors *errs) {
	const struct addresspool_spec *s = ((const struct addresspool *)obj)->spec;
	bool mac = streq(s->use, "mac");
	struct prefix p;
	if (mac && !s->mac_prefix)
		api_errors_add(errs, API_REQUIRED, "spec.macPrefix", "is required for use mac");
	if (mac && s->prefix)
		api_errors_add(errs, API_FORBIDDEN, "spec.prefix", "must not be set for use mac");
	if (!mac && s->mac_prefix)
		api_errors_add(errs, API_FORBIDDEN, "spec.macPrefix", "must only be set for use mac");
	if (!mac && !s->prefix)
		api_errors_add(errs, API_REQUIRED, "spec.prefix", "is required for use %s", s->use);
	if (!mac && s->prefix && prefix_parse(s->prefix, &p, NULL) == 0 && p.len > addresspool_length(s->use))
		api_errors_add(errs, API_INVALID, "spec.prefix", "`%s` is smaller than a /%u, which use %s needs",
		               s->prefix, addresspool_length(s->use), s->use);
}

static const struct api_rule rules[] = {
	{"spec",
         "self.use == 'mac' ? has(self.macPrefix) && !has(self.prefix) : has(self.prefix) && !has(self.macPrefix)",
         "macPrefix is for use mac and required there; prefix for all other uses"},
	{"spec",
         "!has(self.prefix) || !isCIDR(self.prefix) || cidr(self.prefix).prefixLength() <= "
         "(self.use == 'instance' ? 64 : self.use == 'delegated' ? 60 : 128)",
         "prefix must hold at least one value: a /64 for use instance, a /60 for use delegated"},
	{0},
};
static const char *const pool_short[] = {"pool", NULL};
static const char *const alloc_short[] = {"alloc", NULL};
static const struct api_column pool_columns[] = {
	{"Use", "string", ".spec.use", "Use of the values.", 0},
	{"Prefix", "string", ".spec.prefix", "The addresses.", 0},
	{"Used", "integer", ".status.used", "Number of values handed out.", 0},
	{"Total", "integer", ".status.total", "Number of values in the pool.", 0},
	{"Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status", "Whether the pool can be used.", 0},
	{"MAC-Prefix", "string", ".spec.macPrefix", "The MACs.", 1},
	{0},
};
static const struct api_column alloc_columns[] = {
	{"Value", "string", ".spec.value", "The value.", 0},
	{"Pool", "string", ".spec.pool", "The pool that the value is from.", 0},
	{"Namespace", "string", ".spec.owner.namespace", "Namespace of the object that has the value.", 0},
	{"Owner", "string", ".spec.owner.name", "Name of the object that has the value.", 0},
	{"Released", "date", ".status.releasedAt", "When the value was given back.", 1},
	{0},
};

static const struct access_grant pool_grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " update patch"}, /* finalizers */
	{ACCESS_CONTROLLER, "finalizers", "update"},
	{ACCESS_CONTROLLER, "status", "get update patch"},
	{0},
};
static const struct api_access pool_access = {
	.grants = pool_grants,
	.agents = {.whose = ACCESS_OF_EDGE, .sees_all = true, .reads = ACCESS_READ},
};

const struct api_kind api_kind_addresspool = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "AddressPool",
	.plural = "addresspools",
	.singular = "addresspool",
	.short_names = pool_short,
	.doc = "Addresses or MACs that the controller hands out. Pools never overlap.",
	.has_status = true,
	.desc = &api_desc_addresspool,
	.access = &pool_access,
	.check = addresspool_check,
	.rules = rules,
	.columns = pool_columns,
};

static const struct access_grant alloc_grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " create update patch delete"},
	{ACCESS_CONTROLLER, "status", "get update patch"},
	{0},
};
static const struct api_access alloc_access = {.grants = alloc_grants};

const struct api_kind api_kind_allocation = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Allocation",
	.plural = "allocations",
	.singular = "allocation",
	.short_names = alloc_short,
	.doc = "A value of a pool that is in use. Its name is made from the value, so that no value can be handed out "
	       "twice.",
	.has_status = true,
	.desc = &api_desc_allocation,
	.access = &alloc_access,
	.columns = alloc_columns,
};
