/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cluster.h"

#include <string.h>

#include "api/access.h"
#include "base/util.h"

API_DEFINE(cluster_spec, CLUSTER_SPEC)
API_DEFINE(cluster_status, CLUSTER_STATUS)
API_DEFINE(cluster, CLUSTER)

static void cluster_check(const void *obj, struct api_errors *errs) {
	const struct cluster *c = obj;
	if (c->meta.name && strlen(c->meta.name) > CLUSTER_NAME_MAX)
		api_errors_add(errs, API_INVALID, "metadata.name", "must be no more than %d characters, not %zu",
		               CLUSTER_NAME_MAX, strlen(c->meta.name));
	instance_spec_check(c->spec->template, "spec.template", errs);
}

static const struct api_rule rules[] = {
	{"", "size(self.metadata.name) <= 63", "metadata.name must be no more than 63 characters"},
	{"spec.template.ingress[]", INSTANCE_INGRESS_CEL, INSTANCE_INGRESS_RULE},
	{"spec.template", INSTANCE_FORWARDS_CEL, INSTANCE_FORWARDS_RULE},
	{"spec.template", INSTANCE_TARGETS_CEL, INSTANCE_TARGETS_RULE},
	{"spec.template", INSTANCE_PORTS_CEL, INSTANCE_PORTS_RULE},
	{"spec.template", INSTANCE_USER_DATA_CEL, INSTANCE_USER_DATA_RULE},
	{"spec.template.sshKeys", SSHKEY_PRIVATE_CEL, SSHKEY_PRIVATE_RULE},
	{"spec.template.sshKeys", SSHKEY_FORM_CEL, SSHKEY_FORM_RULE},
	{0},
};
static const char *const short_names[] = {"ncl", NULL};
static const struct api_column columns[] = {
	{"Replicas", "integer", ".spec.replicas", "Desired number of instances.", 0},
	{"Ready", "integer", ".status.readyReplicas", "Number of instances that are Ready.", 0},
	{"Scheduled", "string", ".status.conditions[?(@.type==\"Scheduled\")].status",
         "Whether all instances have hosts.", 0},
	{"Reason", "string", ".status.conditions[?(@.type==\"Ready\")].reason", "Reason of the condition Ready.", 0},
	{"Type", "string", ".spec.template.type", "Size of its instances.", 1},
	{"Image", "string", ".spec.template.image", "Image that its instances boot.", 1},
	{0},
};
static const struct api_scale scale = {"spec.replicas", "status.replicas", "status.selector"};

static const struct access_grant grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " update patch"}, /* for finalizers */
	{ACCESS_CONTROLLER, "finalizers", "update"},           {ACCESS_CONTROLLER, "status", "get update patch"},
	{ACCESS_TENANT_VIEW, ". status scale", ACCESS_READ},   {ACCESS_TENANT_EDIT, ".", ACCESS_WRITE},
	{ACCESS_TENANT_EDIT, "scale", "update patch"},         {0},
};
static const struct api_access cluster_access = {.grants = grants};

const struct api_kind api_kind_cluster = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Cluster",
	.plural = "clusters",
	.singular = "cluster",
	.short_names = short_names,
	.doc = "A gang of instances with the same spec, NAME-0, NAME-1 and so on. They get their hosts together or not "
	       "at all.",
	.namespaced = true,
	.has_status = true,
	.scale = &scale,
	.desc = &api_desc_cluster,
	.access = &cluster_access,
	.check = cluster_check,
	.rules = rules,
	.columns = columns,
};
