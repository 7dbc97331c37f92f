/* SPDX-License-Identifier: Apache-2.0 */
#include "api/instance.h"

#include "api/access.h"
#include "base/util.h"

API_ENUM(ip_protocol, "protocol", "tcp", "udp", "icmp")
API_ENUM(forward_protocol, "protocol", "tcp", "udp")
API_ENUM(instance_ipv4, "public IPv4", "none", "dedicated", "shared")
API_ENUM(instance_phase, "phase", "Starting", "Running", "Stopped", "Failed", "Removed")
API_ENUM(disk_format, "disk format", "qcow2", "raw")
API_ENUM(firmware, "firmware", "uefi", "bios")
API_DEFINE(instance_ingress, INSTANCE_INGRESS)
API_DEFINE(instance_forward, INSTANCE_FORWARD)
API_DEFINE(instance_keys_from, INSTANCE_KEYS_FROM)
API_DEFINE(instance_data_from, INSTANCE_DATA_FROM)
API_DEFINE(instance_spec, INSTANCE_SPEC)
API_DEFINE(instance_slice, INSTANCE_SLICE)
API_DEFINE(instance_forwarded, INSTANCE_FORWARDED)
API_DEFINE(instance_counter, INSTANCE_COUNTER)
API_DEFINE(instance_firewall, INSTANCE_FIREWALL)
API_DEFINE(instance_status, INSTANCE_STATUS)
API_DEFINE(instance, INSTANCE)
API_DEFINE(instancetype_spec, INSTANCETYPE_SPEC)
API_DEFINE(instancetype, INSTANCETYPE)
API_DEFINE(image_kernel, IMAGE_KERNEL)
API_DEFINE(image_disk, IMAGE_DISK)
API_DEFINE(image_spec, IMAGE_SPEC)
API_DEFINE(image, IMAGE)

/* Two forwards must differ in what they lead to, and, if they name a public port, in that. */
static void check_two_forwards(const struct instance_spec *s, size_t k, size_t i, const char *at,
                               struct api_errors *errs) {
	const struct instance_forward *a = &s->forwards.v[k], *b = &s->forwards.v[i];
	char path[64];
	if (!streq(a->protocol, b->protocol))
		return;
	snprintf(path, sizeof(path), "%s.forwards[%zu]", at, i);
	if (a->target_port.v == b->target_port.v)
		api_errors_add(errs, API_DUPLICATE, path, "leads to the same port as forwards[%zu]", k);
	else if (a->port.set && b->port.set && a->port.v == b->port.v)
		api_errors_add(errs, API_DUPLICATE, path, "has the same port as forwards[%zu]", k);
}

void instance_spec_check(const struct instance_spec *s, const char *at, struct api_errors *errs) {
	for (size_t i = 0; i < s->ingress.n; i++) {
		const struct instance_ingress *g = &s->ingress.v[i];
		char path[64];
		snprintf(path, sizeof(path), "%s.ingress[%zu].port", at, i);
		if (streq(g->protocol, "icmp") && g->port.set)
			api_errors_add(errs, API_FORBIDDEN, path, "must not be set for protocol icmp");
		if (!streq(g->protocol, "icmp") && !g->port.set)
			api_errors_add(errs, API_REQUIRED, path, "is required for protocol %s", g->protocol);
	}
	if (s->forwards.n && instance_ipv4(s) != INSTANCE_IPV4_SHARED) {
		char path[64];
		snprintf(path, sizeof(path), "%s.forwards", at);
		api_errors_add(errs, API_FORBIDDEN, path, "must only be set for ipv4 shared; ingress opens ports");
	}
	for (size_t i = 0; i < s->forwards.n; i++)
		for (size_t k = 0; k < i; k++)
			check_two_forwards(s, k, i, at, errs);
	if (s->user_data && s->user_data_from)
		api_errors_add(errs, API_FORBIDDEN, at, INSTANCE_USER_DATA_RULE);
}

static bool instance_secret_set(struct instance_secret *ret, const char *field, const char *secret, const char *key,
                                const char *or_key) {
	*ret = (struct instance_secret){field, secret, key && *key ? key : or_key};
	return true;
}

bool instance_secret(const struct instance_spec *s, unsigned what, struct instance_secret *ret) {
	if (what == INSTANCE_SECRET_KEYS && s->ssh_keys_from)
		return instance_secret_set(ret, "sshKeysFrom", s->ssh_keys_from->secret, s->ssh_keys_from->key,
		                           INSTANCE_KEYS_KEY);
	if (what == INSTANCE_SECRET_USER_DATA && s->user_data_from)
		return instance_secret_set(ret, "userDataFrom", s->user_data_from->secret, s->user_data_from->key,
		                           INSTANCE_USER_DATA_KEY);
	return false;
}

enum instance_ipv4 instance_ipv4(const struct instance_spec *s) {
	return streq(s->ipv4, "none")        ? INSTANCE_IPV4_NONE
	       : streq(s->ipv4, "dedicated") ? INSTANCE_IPV4_DEDICATED
	                                     : INSTANCE_IPV4_SHARED;
}

struct resources instancetype_size(const struct instancetype *t) {
	struct resources ret = {.v[RESOURCE_instances] = 1};
	RESOURCES_TYPE_FIELDS(RESOURCE_READ, t->spec)
	return ret;
}

struct resources instance_size(const struct instance_status *s) {
	struct resources ret = {.v[RESOURCE_instances] = 1};
	RESOURCES_PLACED_FIELDS(RESOURCE_READ, s)
	return ret;
}

void instance_set_size(struct instance_status *to, const struct resources *size) {
	RESOURCES_PLACED_FIELDS(RESOURCE_WRITE, size)
}

struct resources instance_charge(const struct instance_spec *s, const struct resources *size) {
	struct resources ret = *size;
	ret.v[RESOURCE_dedicated_ipv4] = instance_ipv4(s) == INSTANCE_IPV4_DEDICATED;
	return ret;
}

static void instance_check(const void *obj, struct api_errors *errs) {
	instance_spec_check(((const struct instance *)obj)->spec, "spec", errs);
}

static void instance_check_update(const void *old, const void *new, struct api_errors *errs) {
	const struct instance_status *a = ((const struct instance *)old)->status,
				     *b = ((const struct instance *)new)->status;
	if (a && a->id && !streq(a->id, b ? b->id : NULL))
		api_errors_add(errs, API_INVALID, "status.id", "can't change once it is set");
}

static void image_check(const void *obj, struct api_errors *errs) {
	const struct image_spec *s = ((const struct image *)obj)->spec;
	if (!s->kernel == !s->disk)
		api_errors_add(errs, API_INVALID, "spec", "exactly one of kernel and disk must be set");
}

static const struct api_rule instance_rules[] = {
	{"spec.ingress[]", INSTANCE_INGRESS_CEL, INSTANCE_INGRESS_RULE},
	{"spec", INSTANCE_FORWARDS_CEL, INSTANCE_FORWARDS_RULE},
	{"spec", INSTANCE_TARGETS_CEL, INSTANCE_TARGETS_RULE},
	{"spec", INSTANCE_PORTS_CEL, INSTANCE_PORTS_RULE},
	{"spec", INSTANCE_USER_DATA_CEL, INSTANCE_USER_DATA_RULE},
	{"spec.sshKeys", SSHKEY_PRIVATE_CEL, SSHKEY_PRIVATE_RULE},
	{"spec.sshKeys", SSHKEY_FORM_CEL, SSHKEY_FORM_RULE},
	{"status", "!has(oldSelf.id) || has(self.id) && self.id == oldSelf.id", "id can't change once it is set"},
	{0},
};
static const struct api_rule image_rules[] = {
	{"spec", "has(self.kernel) != has(self.disk)", "exactly one of kernel and disk must be set"},
	{0},
};
static const char *const instance_short[] = {"inst", NULL};
static const char *const type_short[] = {"itype", NULL};
static const char *const image_short[] = {"img", NULL};
static const char *const instance_selectable[] = {"status.host", NULL};
static const struct api_column instance_columns[] = {
	{"Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status",
         "Whether the instance runs and can be reached.", 0},
	{"Reason", "string", ".status.conditions[?(@.type==\"Ready\")].reason", "Why.", 0},
	{"Host", "string", ".status.host", "Host of the instance.", 0},
	{"Address", "string", ".status.address", "Its public IPv6 address.", 0},
	{"IPv4", "string", ".status.publicIPv4", "Its public IPv4 address.", 1},
	{"Type", "string", ".spec.type", "Its size.", 1},
	{"Image", "string", ".spec.image", "Image that it boots.", 1},
	{"Delegated", "string", ".status.delegatedPrefix", "The /60 routed to it.", 1},
	{"Restarts", "integer", ".status.restarts", "Number of starts after a failure.", 1},
	{0},
};
static const struct api_column type_columns[] = {
	/* clang-format off */
	RESOURCES(RESOURCE_TYPE_COLUMN, _, _)
	/* clang-format on */
	{0},
};
static const struct api_column image_columns[] = {
	{"Kernel", "string", ".spec.kernel.kernel", "Kernel of a direct boot.", 0},
	{"Disk", "string", ".spec.disk.file", "Disk image.", 0},
	{0},
};

static const struct access_grant instance_grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " create update patch delete"}, /* finalizers, members of Clusters */
	{ACCESS_CONTROLLER, "finalizers", "update"},
	{ACCESS_CONTROLLER, "status", "get update patch"},
	{ACCESS_TENANT_VIEW, ". status", ACCESS_READ},
	{ACCESS_TENANT_EDIT, ".", ACCESS_WRITE},
	{0},
};
static const struct api_access instance_access = {
	.grants = instance_grants,
	.agents = {.whose = ACCESS_OF_HOST,
                   .own = "status.host",
                   .reads = ACCESS_READ,
                   .status = "phase restarts portSlicesWanted firewall conditions"},
};

const struct api_kind api_kind_instance = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Instance",
	.plural = "instances",
	.singular = "instance",
	.short_names = instance_short,
	.doc = "A virtual machine with a public IPv6 /64, a delegated /60 and a firewall of its own.",
	.namespaced = true,
	.has_status = true,
	.desc = &api_desc_instance,
	.access = &instance_access,
	.check = instance_check,
	.check_update = instance_check_update,
	.rules = instance_rules,
	.columns = instance_columns,
	.selectable_fields = instance_selectable,
};

static const struct access_grant type_grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ},
	{ACCESS_EVERYBODY, ".", ACCESS_READ},
	{0},
};
static const struct api_access type_access = {
	.grants = type_grants,
	.agents = {.whose = ACCESS_OF_HOST | ACCESS_OF_EDGE, .sees_all = true},
};

const struct api_kind api_kind_instancetype = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "InstanceType",
	.plural = "instancetypes",
	.singular = "instancetype",
	.short_names = type_short,
	.doc = "A size that instances can have.",
	.desc = &api_desc_instancetype,
	.access = &type_access,
	.columns = type_columns,
};

static const struct access_grant image_grants[] = {
	{ACCESS_HOSTS, ".", ACCESS_READ},
	{ACCESS_EVERYBODY, ".", ACCESS_READ},
	{0},
};
static const struct api_access image_access = {
	.grants = image_grants,
	.agents = {.whose = ACCESS_OF_HOST | ACCESS_OF_EDGE, .sees_all = true},
};

const struct api_kind api_kind_image = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Image",
	.plural = "images",
	.singular = "image",
	.short_names = image_short,
	.doc = "What an instance boots: a kernel, or a disk, in the image directory of the hosts.",
	.desc = &api_desc_image,
	.access = &image_access,
	.check = image_check,
	.rules = image_rules,
	.columns = image_columns,
};
