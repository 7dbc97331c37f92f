/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The few kinds of Kubernetes itself that Nacre needs: Namespace, Event, Lease. Declared as far as Nacre uses them;
 * what else clients set is kept. Meanings: Kubernetes API reference, v1 and coordination.k8s.io/v1.
 */

#include "api/meta.h"

#define NAMESPACE_SPEC(F, T) \
	F(T, strs, finalizers, "finalizers", API_SET, qualified, 0, 16, NULL, "Who must act first.")
API_DECLARE(namespace_spec, NAMESPACE_SPEC)
#define NAMESPACE_STATUS(F, T) F(T, str, phase, "phase", 0, any, 0, 31, NULL, "Active or Terminating.")
API_DECLARE(namespace_status, NAMESPACE_STATUS)
#define NAMESPACE(F, T)                                                              \
	API_META(F, T)                                                               \
	F(T, obj, spec, "spec", 0, namespace_spec, 0, 0, NULL, "What is asked for.") \
	F(T, obj, status, "status", 0, namespace_status, 0, 0, NULL, "What was last observed.")
API_DECLARE(namespace_, NAMESPACE)
extern const struct api_kind api_kind_namespace;

#define EVENT_REF(F, T)                                                                          \
	F(T, str, api_version, "apiVersion", 0, any, 0, 253, NULL, "API version of the object.") \
	F(T, str, kind, "kind", 0, any, 0, 63, NULL, "Kind of the object.")                      \
	F(T, str, ns, "namespace", 0, any, 0, 63, NULL, "Namespace of the object.")              \
	F(T, str, name, "name", 0, any, 0, 253, NULL, "Name of the object.")                     \
	F(T, str, uid, "uid", 0, any, 0, 63, NULL, "UID of the object.")
API_DECLARE(event_ref, EVENT_REF)
#define EVENT_SOURCE(F, T)                                                              \
	F(T, str, component, "component", 0, any, 0, 253, NULL, "Program that saw it.") \
	F(T, str, host, "host", 0, any, 0, 253, NULL, "Host that it was seen on.")
API_DECLARE(event_source, EVENT_SOURCE)
#define EVENT(F, T)                                                                                             \
	API_META(F, T)                                                                                          \
	F(T, obj, involved, "involvedObject", API_REQ | API_ATOMIC, event_ref, 0, 0, NULL, "What it is about.") \
	F(T, str, reason, "reason", 0, any, 0, 128, NULL, "One word in CamelCase.")                             \
	F(T, str, message, "message", 0, any, 0, 1024, NULL, "A sentence for people.")                          \
	F(T, str, type, "type", 0, any, 0, 31, NULL, "Normal or Warning.")                                      \
	F(T, i64, count, "count", 0, _, 0, INT32_MAX, NULL, "How often it was seen.")                           \
	F(T, str, first_timestamp, "firstTimestamp", 0, time, 0, 40, NULL, "When it was first seen.")           \
	F(T, str, last_timestamp, "lastTimestamp", 0, time, 0, 40, NULL, "When it was last seen.")              \
	F(T, obj, source, "source", 0, event_source, 0, 0, NULL, "Who saw it.")
API_DECLARE(event, EVENT)
extern const struct api_kind api_kind_event;

#define LEASE_SPEC(F, T)                                                                           \
	F(T, str, holder, "holderIdentity", 0, any, 0, 253, NULL, "Who holds it.")                 \
	F(T, i64, duration, "leaseDurationSeconds", 0, _, 1, 86400, NULL,                          \
	  "How long others wait before they take it over.")                                        \
	F(T, str, acquire_time, "acquireTime", 0, microtime, 0, 40, NULL, "When it was taken.")    \
	F(T, str, renew_time, "renewTime", 0, microtime, 0, 40, NULL, "When it was last renewed.") \
	F(T, i64, transitions, "leaseTransitions", 0, _, 0, INT32_MAX, NULL, "How often it changed hands.")
API_DECLARE(lease_spec, LEASE_SPEC)
#define LEASE(F, T)    \
	API_META(F, T) \
	F(T, obj, spec, "spec", 0, lease_spec, 0, 0, NULL, "Who holds it and until when.")
API_DECLARE(lease, LEASE)
extern const struct api_kind api_kind_lease;
