/* SPDX-License-Identifier: Apache-2.0 */
#include "api/tenantquota.h"

#include "api/access.h"
#include "base/util.h"

API_DEFINE(tenantquota_spec, TENANTQUOTA_SPEC)
API_DEFINE(tenantquota_used, TENANTQUOTA_USED)
API_DEFINE(tenantquota_status, TENANTQUOTA_STATUS)
API_DEFINE(tenantquota, TENANTQUOTA)

void quota_sum_add(struct quota_sum *to, const struct quota_sum *what, int sign) {
	to->instances += sign * what->instances;
	to->vcpus += sign * what->vcpus;
	to->memory_mib += sign * what->memory_mib;
}

bool tenantquota_exceeded(const char *name, const struct tenantquota_spec *limits, const struct quota_sum *used,
                          const struct quota_sum *want, char msg[static QUOTA_MESSAGE_MAX]) {
	const struct {
		const char *name;
		struct api_i64 limit;
		int64_t used, want;
	} all[] = {
		{"instances", limits->instances, used->instances, want->instances},
		{"memoryMiB", limits->memory_mib, used->memory_mib, want->memory_mib},
		{"vcpus", limits->vcpus, used->vcpus, want->vcpus},
	};
	char lists[3][96] = {"", "", ""};
	size_t len[3] = {0};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (!all[i].limit.set || all[i].want <= 0 || all[i].used + all[i].want <= all[i].limit.v)
			continue;
		const int64_t values[] = {all[i].want, all[i].used, all[i].limit.v};
		for (size_t k = 0; k < 3; k++)
			len[k] += (size_t)snprintf(lists[k] + len[k], sizeof(lists[k]) - len[k], "%s%s=%lld",
			                           len[k] ? "," : "", all[i].name, (long long)values[k]);
	}
	if (!len[0])
		return false;
	snprintf(msg, QUOTA_MESSAGE_MAX, "exceeded quota: %.100s, requested: %s, used: %s, limited: %s", name, lists[0],
	         lists[1], lists[2]);
	return true;
}

static const char *const short_names[] = {"tquota", NULL};
static const struct api_column columns[] = {
	{"Instances", "integer", ".status.used.instances", "Instances there are.", 0},
	{"Max-Instances", "integer", ".spec.instances", "Instances there may be.", 0},
	{"vCPUs", "integer", ".status.used.vcpus", "Their vCPUs.", 0},
	{"Max-vCPUs", "integer", ".spec.vcpus", "vCPUs they may have.", 0},
	{"MemoryMiB", "integer", ".status.used.memoryMiB", "Their memory.", 0},
	{"Max-MemoryMiB", "integer", ".spec.memoryMiB", "Memory they may have.", 0},
	{0},
};

static const struct access_grant grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ},
	{ACCESS_CONTROLLER, "status", "get update patch"},
	{ACCESS_TENANT_VIEW, ". status", ACCESS_READ},
	{0},
};
static const struct api_access tenantquota_access = {.grants = grants};

const struct api_kind api_kind_tenantquota = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "TenantQuota",
	.plural = "tenantquotas",
	.singular = "tenantquota",
	.short_names = short_names,
	.doc = "How much the instances of one namespace may take together; the operator's to write, the tenant's to "
	       "read. The one called default in namespace nacre-system holds for each namespace that has none.",
	.namespaced = true,
	.has_status = true,
	.desc = &api_desc_tenantquota,
	.access = &tenantquota_access,
	.columns = columns,
};
