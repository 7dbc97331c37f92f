/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Keeps one Endpoint object in the wanted state: existing with a given content, or not existing. If somebody else
 * changes or deletes the object, it is restored. While the API can't be reached, the wanted state is kept and applied
 * later. An object that is not understood (kube/cache.h) is only deleted, not changed.
 */

#include "api/endpoint.h"
#include "kube/cache.h"
#include "kube/client.h"

struct announcer;

/* Nothing is written before the first announcer_want(). FAILED (may be NULL) is called for failed writes, which are
 * retried. */
int announcer_new(struct announcer **ret, struct kube_client *client, const char *name,
                  void (*failed)(const struct error *err, void *userdata), void *userdata,
                  struct error *err) _must_use_;
/* Leaves the object on the server as it is. */
struct announcer *announcer_free(struct announcer *a);

/* Sets the wanted content to a copy of SPEC. NULL: the object must not exist. On -ENOMEM the former content stays
 * wanted. */
int announcer_want(struct announcer *a, const struct endpoint_spec *spec, struct error *err) _must_use_;

/*
 * Checks the address of an edge's or balancer's Endpoint, which --overlay-ip gives: -EADDRINUSE if one of POOLS, a
 * cache of AddressPools, hands it out.
 */
int announcer_check_ip(const struct kube_cache *pools, const struct addr *ip, struct error *err) _must_use_;
