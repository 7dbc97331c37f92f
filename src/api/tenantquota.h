/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * TenantQuota: how much the instances of one namespace may take together. The operator writes it, the tenant reads
 * it. Several in a namespace all hold. nacre-apiserver refuses an Instance that exceeds one; on a kube-apiserver,
 * where nobody refuses it, nacre-controller gives it neither addresses nor a host. A namespace that has none gets what
 * the one called `default` in namespace `nacre-system` says, each for itself.
 */

#include "api/meta.h"

#define TENANTQUOTA_SPEC(F, T)                                                                  \
	F(T, i64, instances, "instances", 0, _, 0, INT32_MAX, NULL, "Instances there may be.")  \
	F(T, i64, vcpus, "vcpus", 0, _, 0, INT32_MAX, NULL, "vCPUs of all instances together.") \
	F(T, i64, memory_mib, "memoryMiB", 0, _, 0, INT64_C(1) << 40, NULL, "Memory of all instances together, in MiB.")
API_DECLARE(tenantquota_spec, TENANTQUOTA_SPEC)

#define TENANTQUOTA_USED(F, T)                                              \
	F(T, i64, instances, "instances", 0, _, 0, INT64_MAX, NULL,         \
	  "Instances, those that are powered off or "                       \
	  "wait for a host included.")                                      \
	F(T, i64, vcpus, "vcpus", 0, _, 0, INT64_MAX, NULL, "Their vCPUs.") \
	F(T, i64, memory_mib, "memoryMiB", 0, _, 0, INT64_MAX, NULL, "Their memory, in MiB.")
API_DECLARE(tenantquota_used, TENANTQUOTA_USED)

#define TENANTQUOTA_STATUS(F, T)                                                                             \
	F(T, obj, used, "used", 0, tenantquota_used, 0, 0, NULL, "What the namespace's instances now take.") \
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

/* What one instance takes, or several take together. */
struct quota_sum {
	int64_t instances, vcpus, memory_mib;
};

void quota_sum_add(struct quota_sum *to, const struct quota_sum *what, int sign);

#define QUOTA_MESSAGE_MAX 512
/*
 * True if WANT on top of USED is more than LIMITS of the quota NAME allow; MSG then says it as Kubernetes does:
 * "exceeded quota: a, requested: vcpus=8, used: vcpus=60, limited: vcpus=64". Of what is not wanted nothing can be
 * exceeded.
 */
bool tenantquota_exceeded(const char *name, const struct tenantquota_spec *limits, const struct quota_sum *used,
                          const struct quota_sum *want, char msg[static QUOTA_MESSAGE_MAX]);
