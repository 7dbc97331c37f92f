/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What all kinds share: metadata, conditions, references. The semantics are those of Kubernetes' API conventions. */

#include "api/api.h"
#include "api/format.h"

#define API_OWNER_REF(F, T)                                                                                     \
	F(T, str, api_version, "apiVersion", API_REQ, any, 1, 253, NULL, "API version of the owner.")           \
	F(T, str, kind, "kind", API_REQ, any, 1, 63, NULL, "Kind of the owner.")                                \
	F(T, str, name, "name", API_REQ, any, 1, 253, NULL, "Name of the owner.")                               \
	F(T, str, uid, "uid", API_REQ, any, 1, 63, NULL, "UID of the owner.")                                   \
	F(T, flag, controller, "controller", 0, _, 0, 0, NULL, "Whether the owner is the managing controller.") \
	F(T, flag, block_owner_deletion, "blockOwnerDeletion", 0, _, 0, 0, NULL,                                \
	  "Whether foreground deletion of the owner waits for this object.")
API_DECLARE(api_owner_ref, API_OWNER_REF)

#define API_META_FIELDS(F, T)                                                                                   \
	F(T, str, name, "name", 0, any, 1, 253, NULL, "Name, unique in its namespace; can't change.")           \
	F(T, str, generate_name, "generateName", 0, any, 1, 253, NULL,                                          \
	  "Prefix from which the server makes a unique name when name is empty.")                               \
	F(T, str, ns, "namespace", 0, label, 1, 63, NULL, "Namespace: the tenant.")                             \
	F(T, str, uid, "uid", 0, any, 1, 63, NULL, "Unique in time and space; set by the server.")              \
	F(T, str, resource_version, "resourceVersion", 0, any, 0, 63, NULL,                                     \
	  "Opaque version of the stored object, for optimistic concurrency and watches.")                       \
	F(T, i64, generation, "generation", 0, _, 0, INT64_MAX, NULL, "Counts changes of the desired state.")   \
	F(T, str, creation_timestamp, "creationTimestamp", 0, time, 0, 40, NULL, "When the server created it.") \
	F(T, str, deletion_timestamp, "deletionTimestamp", 0, time, 0, 40, NULL,                                \
	  "When deletion was requested; the object is removed when it has no finalizers.")                      \
	F(T, i64, deletion_grace, "deletionGracePeriodSeconds", 0, _, 0, INT64_MAX, NULL,                       \
	  "Seconds that the object has for a graceful end.")                                                    \
	F(T, map, labels, "labels", 0, _, 0, 256, NULL, "Keys and values that selectors can match.")            \
	F(T, map, annotations, "annotations", API_MAP_VALUES_ANY, _, 0, 256, NULL,                              \
	  "Keys and values for any use by tools.")                                                              \
	F(T, list, owner_refs, "ownerReferences", API_KEY_UID | API_ATOMIC, api_owner_ref, 0, 64, NULL,         \
	  "Owners of this object; the garbage collector deletes it when none of them exists any more.")         \
	F(T, strs, finalizers, "finalizers", API_SET, qualified, 0, 64, NULL,                                   \
	  "The object is removed only after each of these was removed.")
API_DECLARE(api_meta, API_META_FIELDS)

#define API_CONDITION(F, T)                                                                                            \
	F(T, str, type, "type", API_REQ, any, 1, 63, NULL, "Type of the condition, such as Ready.")                    \
	F(T, str, status, "status", API_REQ, condition_status, 1, 7, NULL, "True, False or Unknown.")                  \
	F(T, i64, observed_generation, "observedGeneration", 0, _, 0, INT64_MAX, NULL,                                 \
	  "metadata.generation for which the condition was set.")                                                      \
	F(T, str, last_transition_time, "lastTransitionTime", API_REQ, time, 1, 40, NULL, "When status last changed.") \
	F(T, str, reason, "reason", API_REQ, any, 1, 127, NULL, "One word in CamelCase, for programs.")                \
	F(T, str, message, "message", 0, any, 0, 1024, NULL, "A sentence for people.")
API_DECLARE(api_condition, API_CONDITION)

/* Conditions, for types of a status. */
#define API_CONDITIONS(F, T)                                                           \
	F(T, list, conditions, "conditions", API_KEY_TYPE, api_condition, 0, 16, NULL, \
	  "The last observed conditions; see kubectl wait --for=condition=Ready.")

#define API_OBJECT_REF(F, T)                                                                         \
	F(T, str, kind, "kind", API_REQ, any, 1, 63, NULL, "Kind of the object.")                    \
	F(T, str, ns, "namespace", 0, label, 0, 63, NULL, "Namespace of the object, if it has one.") \
	F(T, str, name, "name", API_REQ, subdomain, 1, 253, NULL, "Name of the object.")             \
	F(T, str, uid, "uid", API_REQ, any, 1, 63, NULL, "UID of the object; of an Instance its status.id.")
API_DECLARE(api_object_ref, API_OBJECT_REF)

/* True if both have the same labels, in whatever order. */
bool api_labels_equal(const struct api_map *a, const struct api_map *b);

/* The condition TYPE in a list of N, borrowed; NULL: there is none. */
struct api_condition *api_condition_find(struct api_condition *v, size_t n, const char *type);
/* True if the condition TYPE exists and its status is "True". */
bool api_condition_is_true(const struct api_condition *v, size_t n, const char *type);
/*
 * Sets condition TYPE in the malloc'ed list *V of *N: status, reason, message, observedGeneration, and, only if the
 * status changes, lastTransitionTime. NOW_US is the time in microseconds since 1970. Returns 1 if anything changed, 0
 * if not, or -ENOMEM.
 */
int api_condition_set(struct api_condition **v, size_t *n, const char *type, const char *status, const char *reason,
                      const char *message, int64_t generation, uint64_t now_us);
