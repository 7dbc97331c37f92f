/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Keeps one Endpoint object as it should be: there with a given content, or not there. Whoever else changes or
 * deletes it, it is put right; while the API is away, what is wanted is kept for when it returns.
 */

#include "api/endpoint.h"
#include "kube/client.h"

struct announcer;

/* Nothing is written before the first announcer_want(). FAILED (may be NULL) hears of writes that failed; they are
 * tried again. */
int announcer_new(struct announcer **ret, struct kube_client *client, const char *name,
                  void (*failed)(const struct error *err, void *userdata), void *userdata,
                  struct error *err) _must_use_;
/* Leaves the object as it is. */
struct announcer *announcer_free(struct announcer *a);

/* What SPEC says is copied. NULL: the object must not be there. -ENOMEM leaves what was wanted before. */
int announcer_want(struct announcer *a, const struct endpoint_spec *spec, struct error *err) _must_use_;
