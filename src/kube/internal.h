/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of this folder share and nobody else includes. */

#include "kube/cache.h"
#include "kube/client.h"

/* Fills error, reason and err of R from its http and body. WHAT: "GET /path". */
void kube_response_decode(struct kube_response *r, const char *what);

/* As kube_cache_on_change(), but FN is called before all others that were added. */
int kube_cache_on_change_first(struct kube_cache *c, kube_change_fn fn, void *userdata) _must_use_;
