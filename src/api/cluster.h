/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Cluster: a gang of like instances, NAME-0 to NAME-(replicas - 1), which get their hosts together or not at all. Its
 * members are ordinary Instances, made by nacre-controller, with the Cluster as their controlling owner.
 */

#include "api/instance.h"

#define CLUSTER_MAX 1024
/* The name is the value of this label on each member, and those are 63 bytes at most. */
#define CLUSTER_LABEL    "nacre.dev/cluster"
#define CLUSTER_NAME_MAX 63

#define CLUSTER_SPEC(F, T)                                                                               \
	F(T, i64, replicas, "replicas", 0, _, 0, CLUSTER_MAX, "1", "How many instances there shall be.") \
	F(T, obj, template, "template", API_REQ, instance_spec, 0, 0, NULL, "What each instance is.")
API_DECLARE(cluster_spec, CLUSTER_SPEC)

#define CLUSTER_STATUS(F, T)                                                                                           \
	F(T, i64, replicas, "replicas", 0, _, 0, INT32_MAX, NULL, "Members there are, those that are going included.") \
	F(T, i64, ready_replicas, "readyReplicas", 0, _, 0, INT32_MAX, NULL, "Members that are Ready.")                \
	F(T, str, selector, "selector", 0, any, 0, 128, NULL, "Label selector of the members, for autoscalers.")       \
	API_CONDITIONS(F, T)
API_DECLARE(cluster_status, CLUSTER_STATUS)

#define CLUSTER(F, T)                                                                           \
	API_META(F, T)                                                                          \
	F(T, obj, spec, "spec", API_REQ, cluster_spec, 0, 0, NULL, "What the tenant asks for.") \
	F(T, obj, status, "status", 0, cluster_status, 0, 0, NULL, "What was last observed.")
API_DECLARE(cluster, CLUSTER)
extern const struct api_kind api_kind_cluster;
