/* SPDX-License-Identifier: Apache-2.0 */
#include "api/tenantquota.h"

#include "api/access.h"
#include "base/util.h"

API_DEFINE(tenantquota_spec, RESOURCES_QUOTA_LIMITS)
API_DEFINE(tenantquota_used, RESOURCES_QUOTA_USED)
API_DEFINE(tenantquota_status, TENANTQUOTA_STATUS)
API_DEFINE(tenantquota, TENANTQUOTA)

struct resources tenantquota_limits(const struct tenantquota_spec *s) {
	struct resources ret = RESOURCES_UNLIMITED;
	RESOURCES_QUOTA_LIMITS(RESOURCE_READ_LIMIT, s)
	return ret;
}

void tenantquota_set_used(struct tenantquota_used *to, const struct resources *used) {
	RESOURCES_QUOTA_USED(RESOURCE_WRITE, used)
}

bool tenantquota_exceeded(const char *name, const struct tenantquota_spec *limits, const struct resources *used,
                          const struct resources *want, char msg[static QUOTA_MESSAGE_MAX]) {
	const struct resources max = tenantquota_limits(limits);
	struct resources sum = *used;
	char requested[RESOURCES_TEXT_MAX], in_use[RESOURCES_TEXT_MAX], limited[RESOURCES_TEXT_MAX];
	unsigned over = 0;
	resources_add(&sum, want);
	RESOURCES_FOREACH (i)
		over |= want->v[i] > 0 && sum.v[i] > max.v[i] ? 1U << i : 0;
	if (!over)
		return false;
	snprintf(msg, QUOTA_MESSAGE_MAX, "exceeded quota: %.100s, requested: %s, used: %s, limited: %s", name,
	         resources_print(want, over, requested), resources_print(used, over, in_use),
	         resources_print(&max, over, limited));
	return true;
}

static const char *const short_names[] = {"tquota", NULL};
static const struct api_column columns[] = {
	/* clang-format off */
	RESOURCES(RESOURCE_QUOTA_COLUMNS, _, _)
	/* clang-format on */
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
	.doc = "How much the instances of one namespace may take together. The operator writes it, the tenant may only "
	       "read it. The one called default in namespace nacre-system applies to each namespace that has none.",
	.namespaced = true,
	.has_status = true,
	.desc = &api_desc_tenantquota,
	.access = &tenantquota_access,
	.columns = columns,
};
