/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "api/account.h"
#include "api/addresspool.h"
#include "api/cluster.h"
#include "api/core.h"
#include "api/edgepeer.h"
#include "api/endpoint.h"
#include "api/firewall.h"
#include "api/host.h"
#include "api/instance.h"
#include "api/rbac.h"
#include "api/tenantquota.h"

const struct api_kind *const api_kinds[] = {
	&api_kind_instance,
	&api_kind_cluster,
	&api_kind_firewall,
	&api_kind_instancetype,
	&api_kind_image,
	&api_kind_host,
	&api_kind_endpoint,
	&api_kind_addresspool,
	&api_kind_allocation,
	&api_kind_allocationrecord,
	&api_kind_edgepeer,
	&api_kind_tenantquota,
	&api_kind_namespace,
	&api_kind_event,
	&api_kind_lease,
	&api_kind_configmap,
	&api_kind_secret,
	&api_kind_serviceaccount,
	&api_kind_role,
	&api_kind_clusterrole,
	&api_kind_rolebinding,
	&api_kind_clusterrolebinding,
	NULL,
};

const struct api_kind *api_kind_find(const char *group, const char *version, const char *plural) {
	for (const struct api_kind *const *k = api_kinds; *k; k++)
		if (strcmp((*k)->group, group) == 0 && strcmp((*k)->version, version) == 0 &&
		    strcmp((*k)->plural, plural) == 0)
			return *k;
	return NULL;
}

const struct api_kind *api_kind_find_by_kind(const char *group, const char *version, const char *kind) {
	for (const struct api_kind *const *k = api_kinds; *k; k++)
		if (strcmp((*k)->group, group) == 0 && strcmp((*k)->version, version) == 0 &&
		    strcmp((*k)->kind, kind) == 0)
			return *k;
	return NULL;
}

unsigned api_kind_index(const struct api_kind *k) {
	unsigned i = 0;
	while (api_kinds[i] != k)
		i++;
	return i;
}

unsigned api_kinds_count(void) {
	unsigned n = 0;
	while (api_kinds[n])
		n++;
	return n;
}

const char *const *api_kind_categories(const struct api_kind *k) {
	static const char *const tenant[] = {"all", "nacre", NULL};
	return strcmp(k->group, "nacre.dev") != 0 ? NULL : k->namespaced ? tenant : tenant + 1;
}

void api_kind_version(const struct api_kind *k, char out[static 64]) {
	snprintf(out, 64, "%s%s%s", k->group, *k->group ? "/" : "", k->version);
}
