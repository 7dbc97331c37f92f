/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * TenantQuota: how much the instances of one namespace may take together. The operator writes it, the tenant reads
 * it. Several in a namespace all hold. nacre-apiserver refuses an Instance that exceeds one; on a kube-apiserver,
 * where nobody refuses it, nacre-controller gives it neither addresses nor a host. A namespace that has none gets what
 * the one called `default` in namespace `nacre-system` says, each for itself.
 */

#include "api/meta.h"
#include "api/resources.h"

API_DECLARE(tenantquota_spec, RESOURCES_QUOTA_LIMITS)
API_DECLARE(tenantquota_used, RESOURCES_QUOTA_USED)

#define TENANTQUOTA_STATUS(F, T)                                                                              \
	F(T, obj, used, "used", 0, tenantquota_used, 0, 0, NULL,                                              \
	  "What the namespace's instances now take, those that are powered off or wait for a host included.") \
	API_CONDITIONS(F, T)
API_DECLARE(tenantquota_status, TENANTQUOTA_STATUS)

#define TENANTQUOTA(F, T)                                                                                     \
	API_META(F, T)                                                                                        \
	F(T, obj, spec, "spec", API_REQ, tenantquota_spec, 0, 0, NULL, "The limits; what is absent has none") \
	F(T, obj, status, "status", 0, tenantquota_status, 0, 0, NULL, "How much is used.")
API_DECLARE(tenantquota, TENANTQUOTA)
extern const struct api_kind api_kind_tenantquota;

#define TENANTQUOTA_DEFAULT_NS "nacre-system"
#define TENANTQUOTA_DEFAULT    "default"
/* In messages, for a namespace that it stands in for. */
#define TENANTQUOTA_DEFAULT_TEXT TENANTQUOTA_DEFAULT_NS "/" TENANTQUOTA_DEFAULT

/* A field that is absent gives RESOURCE_UNLIMITED. */
struct resources tenantquota_limits(const struct tenantquota_spec *s);
void tenantquota_set_used(struct tenantquota_used *to, const struct resources *used);

#define QUOTA_MESSAGE_MAX (192 + 3 * RESOURCES_TEXT_MAX)
/*
 * True if WANT on top of USED is more than LIMITS of the quota NAME allow; MSG then says it as Kubernetes does:
 * "exceeded quota: a, requested: vcpus=8, used: vcpus=60, limited: vcpus=64". A limit can't be exceeded by what WANT
 * has none of.
 */
bool tenantquota_exceeded(const char *name, const struct tenantquota_spec *limits, const struct resources *used,
                          const struct resources *want, char msg[static QUOTA_MESSAGE_MAX]);
