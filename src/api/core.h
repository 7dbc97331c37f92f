/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The few kinds of Kubernetes itself that Nacre needs: Namespace, Event, Lease. Only the fields that Nacre uses are
 * declared; other fields are kept. Semantics: Kubernetes API reference, v1 and coordination.k8s.io/v1.
 */

#include "api/meta.h"

#define NAMESPACE_SPEC(F, T)                                                  \
	F(T, strs, finalizers, "finalizers", API_SET, qualified, 0, 16, NULL, \
	  "The namespace is removed only after each of these was removed.")
API_DECLARE(namespace_spec, NAMESPACE_SPEC)
#define NAMESPACE_STATUS(F, T) F(T, str, phase, "phase", 0, any, 0, 31, NULL, "Active or Terminating.")
API_DECLARE(namespace_status, NAMESPACE_STATUS)
#define NAMESPACE(F, T)                                                              \
	API_META(F, T)                                                               \
	F(T, obj, spec, "spec", 0, namespace_spec, 0, 0, NULL, "The desired state.") \
	F(T, obj, status, "status", 0, namespace_status, 0, 0, NULL, "The last observed state.")
API_DECLARE(namespace_, NAMESPACE)
extern const struct api_kind api_kind_namespace;

#define EVENT_REF(F, T)                                                                          \
	F(T, str, api_version, "apiVersion", 0, any, 0, 253, NULL, "API version of the object.") \
	F(T, str, kind, "kind", 0, any, 0, 63, NULL, "Kind of the object.")                      \
	F(T, str, ns, "namespace", 0, any, 0, 63, NULL, "Namespace of the object.")              \
	F(T, str, name, "name", 0, any, 0, 253, NULL, "Name of the object.")                     \
	F(T, str, uid, "uid", 0, any, 0, 63, NULL, "UID of the object.")
API_DECLARE(event_ref, EVENT_REF)
#define EVENT_SOURCE(F, T)                                                                   \
	F(T, str, component, "component", 0, any, 0, 253, NULL, "Program that recorded it.") \
	F(T, str, host, "host", 0, any, 0, 253, NULL, "Host on which it happened.")
API_DECLARE(event_source, EVENT_SOURCE)
#define EVENT(F, T)                                                                                   \
	API_META(F, T)                                                                                \
	F(T, obj, involved, "involvedObject", API_REQ | API_ATOMIC, event_ref, 0, 0, NULL,            \
	  "The object that the Event is about.")                                                      \
	F(T, str, reason, "reason", 0, any, 0, 128, NULL, "One word in CamelCase.")                   \
	F(T, str, message, "message", 0, any, 0, 1024, NULL, "A sentence for people.")                \
	F(T, str, type, "type", 0, any, 0, 31, NULL, "Normal or Warning.")                            \
	F(T, i64, count, "count", 0, _, 0, INT32_MAX, NULL, "How often it happened.")                 \
	F(T, str, first_timestamp, "firstTimestamp", 0, time, 0, 40, NULL, "When it first happened.") \
	F(T, str, last_timestamp, "lastTimestamp", 0, time, 0, 40, NULL, "When it last happened.")    \
	F(T, obj, source, "source", 0, event_source, 0, 0, NULL, "What recorded it.")
API_DECLARE(event, EVENT)
extern const struct api_kind api_kind_event;

#define LEASE_SPEC(F, T)                                                                                     \
	F(T, str, holder, "holderIdentity", 0, any, 0, 253, NULL, "Identity of the holder.")                 \
	F(T, i64, duration, "leaseDurationSeconds", 0, _, 1, 86400, NULL,                                    \
	  "Seconds without renewal after which others may take the Lease.")                                  \
	F(T, str, acquire_time, "acquireTime", 0, microtime, 0, 40, NULL, "When the holder took the Lease.") \
	F(T, str, renew_time, "renewTime", 0, microtime, 0, 40, NULL, "When the holder last renewed it.")    \
	F(T, i64, transitions, "leaseTransitions", 0, _, 0, INT32_MAX, NULL, "How often the holder changed.")
API_DECLARE(lease_spec, LEASE_SPEC)
#define LEASE(F, T)    \
	API_META(F, T) \
	F(T, obj, spec, "spec", 0, lease_spec, 0, 0, NULL, "The holder and until when it holds the Lease.")
API_DECLARE(lease, LEASE)
extern const struct api_kind api_kind_lease;
