/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * TenantQuota: how much the instances of one namespace may take together. The operator writes it, the tenant reads it.
 * If a namespace has several, all of them apply. nacre-apiserver refuses an Instance that exceeds one. A kube-apiserver
 * can't refuse it, so nacre-controller then gives it neither addresses nor a host. The quota called `default` in
 * namespace `nacre-system` applies to each namespace that has none, separately.
 */

#include "api/meta.h"
#include "api/resources.h"

API_DECLARE(tenantquota_spec, RESOURCES_QUOTA_LIMITS)
API_DECLARE(tenantquota_used, RESOURCES_QUOTA_USED)

#define TENANTQUOTA_STATUS(F, T)                                                                               \
	F(T, obj, used, "used", 0, tenantquota_used, 0, 0, NULL,                                               \
	  "What the namespace's instances take now, including those that are powered off or wait for a host.") \
	API_CONDITIONS(F, T)
API_DECLARE(tenantquota_status, TENANTQUOTA_STATUS)

#define TENANTQUOTA(F, T)                                                                                             \
	API_META(F, T)                                                                                                \
	F(T, obj, spec, "spec", API_REQ, tenantquota_spec, 0, 0, NULL, "The limits; an absent field means no limit.") \
	F(T, obj, status, "status", 0, tenantquota_status, 0, 0, NULL, "What is used.")
API_DECLARE(tenantquota, TENANTQUOTA)
extern const struct api_kind api_kind_tenantquota;

#define TENANTQUOTA_DEFAULT_NS "nacre-system"
#define TENANTQUOTA_DEFAULT    "default"
/* The name of the default quota in messages. */
#define TENANTQUOTA_DEFAULT_TEXT TENANTQUOTA_DEFAULT_NS "/" TENANTQUOTA_DEFAULT

/* The limits of S; RESOURCE_UNLIMITED for absent fields. */
struct resources tenantquota_limits(const struct tenantquota_spec *s);
void tenantquota_set_used(struct tenantquota_used *to, const struct resources *used);

#define QUOTA_MESSAGE_MAX (192 + 3 * RESOURCES_TEXT_MAX)
/*
 * True if USED and WANT together exceed LIMITS, which are those of the quota NAME. MSG then says so in Kubernetes'
 * words: "exceeded quota: a, requested: vcpus=8, used: vcpus=60, limited: vcpus=64". Resources of which WANT has none
 * never exceed.
 */
bool tenantquota_exceeded(const char *name, const struct tenantquota_spec *limits, const struct resources *used,
                          const struct resources *want, char msg[static QUOTA_MESSAGE_MAX]);
