/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Records core/v1 Events, which `kubectl describe` shows. If the same event happens again (same object, type, reason,
 * message), the count of the first one is raised. One object gets at most 25 different events at once and one more
 * every 20 s; 1,024 events are remembered. Events are sent in the background; while the API can't be reached they are
 * kept and sent later. Events are for people: they may be lost, and nothing may depend on them.
 */

#include "kube/client.h"

struct kube_recorder;

enum kube_event_type { KUBE_EVENT_NORMAL, KUBE_EVENT_WARNING };

/* COMPONENT ("nacre-node") and HOST (may be NULL) are copied. */
int kube_recorder_new(struct kube_recorder **ret, struct kube_client *c, const char *component, const char *host,
                      struct error *err) _must_use_;
struct kube_recorder *kube_recorder_free(struct kube_recorder *r);
DEFINE_CLEANUP(kube_recorder, struct kube_recorder *, kube_recorder_free)

/*
 * Records an event about OBJ of kind K. REASON is one word in CamelCase, the text is a sentence (cut at 1,023 bytes).
 * Events of cluster-scoped objects go to namespace "default".
 */
void kube_event(struct kube_recorder *r, const struct api_kind *k, const void *obj, enum kube_event_type type,
                const char *reason, const char *fmt, ...) _printf_(6, 7);
