/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Cluster: a gang of instances with the same spec, NAME-0 to NAME-(replicas - 1), which get their hosts together or not
 * at all. Its members are ordinary Instances. nacre-controller creates them with an owner reference to the Cluster
 * (controller: true).
 */

#include "api/instance.h"

#define CLUSTER_MAX 1024
/* Each member has this label with the Cluster's name as value. A label's value is at most 63 bytes long. */
#define CLUSTER_LABEL    "nacre.dev/cluster"
#define CLUSTER_NAME_MAX 63

#define CLUSTER_SPEC(F, T)                                                                         \
	F(T, i64, replicas, "replicas", 0, _, 0, CLUSTER_MAX, "1", "Desired number of instances.") \
	F(T, obj, template, "template", API_REQ, instance_spec, 0, 0, NULL, "Spec of each instance.")
API_DECLARE(cluster_spec, CLUSTER_SPEC)

#define CLUSTER_STATUS(F, T)                                                                                           \
	F(T, i64, replicas, "replicas", 0, _, 0, INT32_MAX, NULL, "Number of members, including those being deleted.") \
	F(T, i64, ready_replicas, "readyReplicas", 0, _, 0, INT32_MAX, NULL, "Number of members that are Ready.")      \
	F(T, str, selector, "selector", 0, any, 0, 128, NULL, "Label selector of the members, for autoscalers.")       \
	API_CONDITIONS(F, T)
API_DECLARE(cluster_status, CLUSTER_STATUS)

#define CLUSTER(F, T)                                                                           \
	API_META(F, T)                                                                          \
	F(T, obj, spec, "spec", API_REQ, cluster_spec, 0, 0, NULL, "What the tenant asks for.") \
	F(T, obj, status, "status", 0, cluster_status, 0, 0, NULL, "What was last observed.")
API_DECLARE(cluster, CLUSTER)
extern const struct api_kind api_kind_cluster;
