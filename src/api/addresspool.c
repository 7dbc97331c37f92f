/* SPDX-License-Identifier: Apache-2.0 */
#include "api/addresspool.h"

#include <string.h>
#include <sys/socket.h>

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
API_ENUM(pool_use, "use", "instance", "delegated", "overlay", "mac", "dedicated", "shared")
API_DEFINE(addresspool_spec, ADDRESSPOOL_SPEC)
API_DEFINE(addresspool_status, ADDRESSPOOL_STATUS)
API_DEFINE(addresspool, ADDRESSPOOL)
API_DEFINE(allocation_spec, ALLOCATION_SPEC)
API_DEFINE(allocation_status, ALLOCATION_STATUS)
API_DEFINE(allocation, ALLOCATION)
API_DEFINE(allocationrecord_spec, ALLOCATIONRECORD_SPEC)
API_DEFINE(allocationrecord, ALLOCATIONRECORD)

uint8_t addresspool_length(const char *use) {
	return streq(use, "instance")    ? 64
	       : streq(use, "delegated") ? 60
	       : streq(use, "overlay")   ? 128
	       : streq(use, "dedicated") ? 32
	                                 : 0;
}

uint32_t addresspool_slice_ports(const struct addresspool_spec *spec) {
	return spec->slice_ports.set ? (uint32_t)spec->slice_ports.v : 512;
}

static uint64_t pool_window(const struct addresspool_spec *spec) {
	struct prefix p;
	return spec->prefix && prefix_parse(spec->prefix, &p, NULL) == 0
	               ? MIN(prefix_count(&p, 32), (uint64_t)ADDRESSPOOL_WINDOW)
	               : 0;
}

int64_t addresspool_slices_per_instance(const struct addresspool_spec *spec) {
	return spec->slices_per_instance.set ? spec->slices_per_instance.v : 2;
}

int64_t addresspool_quarantine(const struct addresspool_spec *spec) {
	bool public4 = streq(spec->use, "dedicated") || streq(spec->use, "shared");
	return spec->quarantine.set ? spec->quarantine.v : public4 ? 300 : 0;
}

int64_t addresspool_history_days(const struct addresspool_spec *spec) {
	bool none = streq(spec->use, "overlay") || streq(spec->use, "mac");
	return none ? 0 : spec->history_days.set ? spec->history_days.v : 180;
}

int64_t addresspool_history_records(const struct addresspool_spec *spec) {
	return spec->history_records.set ? spec->history_records.v : 100000;
}

/* The numbers of the first slice of an address and of the one after its last; a slice's first port is its number times
 * its size. */
static void pool_slices(const struct addresspool_spec *spec, uint64_t *ret_first, uint64_t *ret_end) {
	uint64_t size = addresspool_slice_ports(spec);
	uint64_t first = spec->first_port.set ? (uint64_t)spec->first_port.v : 1024;
	uint64_t last = spec->last_port.set ? (uint64_t)spec->last_port.v : 65535;
	*ret_first = (first + size - 1) / size;
	*ret_end = MAX((last + 1) / size, *ret_first);
}

struct addresspool_numbers addresspool_slices_beside(const struct addresspool_spec *spec, uint64_t index) {
	struct addresspool_numbers numbers = {.step = pool_window(spec)};
	uint64_t first, end;
	pool_slices(spec, &first, &end);
	numbers.n = end - first;
	const uint64_t all = numbers.step * numbers.n; /* slices of a window */
	numbers.first = index / all * all + index % numbers.step;
	return numbers;
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
		if (streq(spec->use, "shared")) {
			uint64_t first, end;
			pool_slices(spec, &first, &end);
			n = prefix_count(&p, 32) * (end - first);
		} else
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
	if (prefix_parse(spec->prefix, &p, NULL) < 0)
		return -ERANGE;
	if (streq(spec->use, "shared")) {
		const uint64_t window = pool_window(spec), size = addresspool_slice_ports(spec);
		uint64_t first, end;
		pool_slices(spec, &first, &end);
		const uint64_t all = window * (end - first); /* slices of a window */
		if (!all || prefix_nth(&p, 32, index / all * window + index % window, &v) < 0)
			return -ERANGE;
		first = (first + index % all / window) * size;
		const struct slice s = {v.addr, (uint16_t)first, (uint16_t)(first + size - 1)};
		slice_str(&s, out);
		return 0;
	}
	if (prefix_nth(&p, addresspool_length(spec->use), index, &v) < 0)
		return -ERANGE;
	if (v.len == addr_bits(v.addr.family))
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

bool addresspool_index(const struct addresspool_spec *spec, const char *value, uint64_t *ret) {
	char again[PREFIX_STR_MAX];
	struct prefix pool, p;
	struct slice s;
	struct mac m;
	uint64_t v = 0, first, end;
	uint8_t len = addresspool_length(spec->use);
	if (streq(spec->use, "mac")) {
		if (mac_parse(value, &m, NULL) < 0)
			return false;
		v = (uint64_t)m.bytes[3] << 16 | (uint64_t)m.bytes[4] << 8 | m.bytes[5];
	} else {
		if (!spec->prefix || prefix_parse(spec->prefix, &pool, NULL) < 0)
			return false;
		if (streq(spec->use, "shared")) {
			if (slice_parse(value, &s, NULL) < 0)
				return false;
			p = (struct prefix){s.addr, len = 32};
		} else if (len == addr_bits(pool.addr.family)) {
			p.len = len;
			if (addr_parse(value, &p.addr, NULL) < 0)
				return false;
		} else if (prefix_parse(value, &p, NULL) < 0)
			return false;
		if (p.len != len || !prefix_contains(&pool, &p))
			return false;
		/* The bits between the two lengths. There are at most 64 of them, because the total is an int64. */
		for (unsigned bit = pool.len; bit < len; bit++)
			v = v << 1 | (p.addr.bytes[bit / 8] >> (7 - bit % 8) & 1);
		if (streq(spec->use, "shared")) {
			pool_slices(spec, &first, &end);
			const uint64_t window = pool_window(spec), k = s.first / addresspool_slice_ports(spec);
			if (k < first || k >= end)
				return false;
			v = v / window * window * (end - first) + (k - first) * window + v % window;
		}
	}
	if (skips_first(spec) && v-- == 0)
		return false;
	if (addresspool_value(spec, v, again) < 0 || !streq(again, value))
		return false;
	*ret = v;
	return true;
}

void allocation_name(const char *value, char out[static 64]) {
	/*
	 * Values only contain 0-9a-f, ':', '/', '.' and '-'. The name of an IPv6 value always ends with the prefix
	 * length, so that an address and a prefix have different names. Three dashes could only come from "::/", so two
	 * can stand for it.
	 */
	bool mac = strlen(value) == 17 && value[2] == ':' && value[5] == ':' && value[8] == ':' && value[11] == ':';
	const char *slash = strchr(value, '/');
	int n = (int)(slash ? slash - value : (ptrdiff_t)strlen(value));
	struct slice s;
	char address[ADDR_STR_MAX];
	if (slice_parse(value, &s, NULL) == 0)
		snprintf(out, 64, "port-%.15s-%u", addr_str(&s.addr, address), s.first);
	else if (mac)
		snprintf(out, 64, "mac-%s", value);
	else if (!strchr(value, ':'))
		snprintf(out, 64, "ip4-%.45s", value);
	else if (n > 2 && value[n - 1] == ':')
		snprintf(out, 64, "ip6-%.*s%s", MIN(n - 1, 45), value, slash ? slash : "/128");
	else
		snprintf(out, 64, "ip6-%.*s%s", MIN(n, 45), value, slash ? slash : "/128");
	for (char *p = out; *p; p++)
		if (*p == ':' || *p == '/' || *p == '.')
			*p = '-';
}

static bool allocation_since_us(const struct allocation *al, uint64_t *ret) {
	const char *since = al->spec->since && *al->spec->since ? al->spec->since : al->meta.creation_timestamp;
	return since && time_parse(since, ret) == 0;
}

bool allocation_since(const struct allocation *al, char out[static TIME_STR_MAX]) {
	uint64_t us;
	if (!allocation_since_us(al, &us))
		return false;
	time_str(us, false, out);
	return true;
}

void allocationrecord_name(const struct allocation *al, char out[static ALLOCATIONRECORD_NAME_MAX]) {
	uint64_t us = 0;
	(void)!allocation_since_us(al, &us);
	snprintf(out, ALLOCATIONRECORD_NAME_MAX, "%.63s.%.63s.%llu", al->meta.name, al->spec->owner->uid,
	         (unsigned long long)us);
}

bool allocation_address(const char *value, char out[static ADDR_STR_MAX]) {
	struct slice s;
	struct prefix p;
	if (slice_parse(value, &s, NULL) == 0)
		p.addr = s.addr;
	else if (prefix_parse(value, &p, NULL) < 0 && addr_parse(value, &p.addr, NULL) < 0)
		return false;
	addr_str(&p.addr, out);
	return true;
}

/* Checks the fields that only use shared has. */
static void pool_check_slices(const struct addresspool_spec *s, struct api_errors *errs) {
	static const char only[] = "must only be set for use shared";
	bool shared = streq(s->use, "shared");
	uint32_t size = addresspool_slice_ports(s);
	uint64_t first, end;
	if (!shared && s->slice_ports.set)
		api_errors_add(errs, API_FORBIDDEN, "spec.slicePorts", "%s", only);
	if (!shared && s->first_port.set)
		api_errors_add(errs, API_FORBIDDEN, "spec.firstPort", "%s", only);
	if (!shared && s->last_port.set)
		api_errors_add(errs, API_FORBIDDEN, "spec.lastPort", "%s", only);
	if (!shared && s->slices_per_instance.set)
		api_errors_add(errs, API_FORBIDDEN, "spec.slicesPerInstance", "%s", only);
	if (!shared)
		return;
	pool_slices(s, &first, &end);
	if (size & (size - 1))
		api_errors_add(errs, API_INVALID, "spec.slicePorts", "%u is not a power of two", size);
	else if (first == end)
		api_errors_add(errs, API_INVALID, "spec.lastPort",
		               "the ports from firstPort to lastPort hold no slice of %u ports whose first port is a "
		               "multiple of %u",
		               size, size);
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
	pool_check_slices(s, errs);
	if (!streq(s->use, "instance") && s->dns_servers.n)
		api_errors_add(errs, API_FORBIDDEN, "spec.dnsServers", "must only be set for use instance");
	if (!streq(s->use, "instance") && s->dns_search.n)
		api_errors_add(errs, API_FORBIDDEN, "spec.dnsSearch", "must only be set for use instance");
	if (mac || !s->prefix || prefix_parse(s->prefix, &p, NULL) < 0)
		return;
	bool v4 = streq(s->use, "dedicated") || streq(s->use, "shared");
	if (v4 != (p.addr.family == AF_INET))
		api_errors_add(errs, API_INVALID, "spec.prefix", "`%s` is not %s, which use %s needs", s->prefix,
		               v4 ? "IPv4" : "IPv6", s->use);
	else if (!v4 && p.len > addresspool_length(s->use))
		api_errors_add(errs, API_INVALID, "spec.prefix", "`%s` is smaller than a /%u, which use %s needs",
		               s->prefix, addresspool_length(s->use), s->use);
	else if (streq(s->use, "shared") && p.len < ADDRESSPOOL_SHARED_MIN)
		api_errors_add(errs, API_INVALID, "spec.prefix", "`%s` is larger than a /%d, the most for use shared",
		               s->prefix, ADDRESSPOOL_SHARED_MIN);
}

static const struct api_rule rules[] = {
	{"spec",
         "self.use == 'mac' ? has(self.macPrefix) && !has(self.prefix) : has(self.prefix) && !has(self.macPrefix)",
         "macPrefix is for use mac and required there; prefix for all other uses"},
	{"spec",
         "!has(self.prefix) || !isCIDR(self.prefix) || cidr(self.prefix).prefixLength() <= "
         "(self.use == 'instance' ? 64 : self.use == 'delegated' ? 60 : 128)",
         "prefix must hold at least one value: a /64 for use instance, a /60 for use delegated"},
	{"spec",
         "!has(self.prefix) || !isCIDR(self.prefix) || cidr(self.prefix).ip().family() == "
         "(self.use in ['dedicated', 'shared'] ? 4 : 6)",
         "prefix must be IPv4 for use dedicated and shared, and IPv6 for all other uses"},
	{"spec",
         "self.use != 'shared' || !has(self.prefix) || !isCIDR(self.prefix) || "
         "cidr(self.prefix).prefixLength() >= 18",
         "prefix must be a /18 or smaller for use shared"},
	{"spec",
         "self.use == 'shared' || !has(self.slicePorts) && !has(self.firstPort) && !has(self.lastPort) && "
         "!has(self.slicesPerInstance)",
         "slicePorts, firstPort, lastPort and slicesPerInstance are only for use shared"},
	{"spec",
         "!has(self.slicePorts) || self.slicePorts in [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]",
         "slicePorts must be a power of two"},
	{"spec",
         "self.use != 'shared' || ((has(self.firstPort) ? self.firstPort : 1024) + (has(self.slicePorts) ? "
         "self.slicePorts : 512) - 1) / (has(self.slicePorts) ? self.slicePorts : 512) < ((has(self.lastPort) ? "
         "self.lastPort : 65535) + 1) / (has(self.slicePorts) ? self.slicePorts : 512)",
         "the ports from firstPort to lastPort must hold an aligned slice of slicePorts ports"},
	{"spec",
         "self.use == 'instance' || (!has(self.dnsServers) || size(self.dnsServers) == 0) && (!has(self.dnsSearch) || "
         "size(self.dnsSearch) == 0)",
         "dnsServers and dnsSearch are only for use instance"},
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
	.agents = {.whose = ACCESS_OF_EDGE | ACCESS_OF_BALANCER, .sees_all = true, .reads = ACCESS_READ},
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

static const char *const record_short[] = {"allocrecord", NULL};
static const char *const record_selectable[] = {"spec.address", NULL};
static const struct api_column record_columns[] = {
	{"Value", "string", ".spec.value", "The value.", 0},
	{"Pool", "string", ".spec.pool", "The pool that the value is from.", 0},
	{"Namespace", "string", ".spec.owner.namespace", "Namespace of the object that had the value.", 0},
	{"Owner", "string", ".spec.owner.name", "Name of the object that had the value.", 0},
	{"From", "string", ".spec.from", "When the value was handed out.", 0},
	{"Until", "string", ".spec.until", "When it was given back.", 0},
	{0},
};

static const struct access_grant record_grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " create delete"},
	{0},
};
static const struct api_access record_access = {.grants = record_grants};

const struct api_kind api_kind_allocationrecord = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "AllocationRecord",
	.plural = "allocationrecords",
	.singular = "allocationrecord",
	.short_names = record_short,
	.doc = "Who had a value of a pool that was given back, and when. nacre whois answers from Allocations and "
	       "AllocationRecords. How many are kept is bounded by historyDays and historyRecords of the AddressPool.",
	.desc = &api_desc_allocationrecord,
	.access = &record_access,
	.columns = record_columns,
	.selectable_fields = record_selectable,
};
