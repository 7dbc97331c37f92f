/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the files of this folder; no file outside includes it. */

#include "kube/cache.h"
#include "kube/client.h"

/* Sets error, reason and err of R from its http and body. WHAT: "GET /path". */
void kube_response_decode(struct kube_response *r, const char *what);

/* Like kube_cache_on_change(), but FN is called before all handlers that were added before. */
int kube_cache_on_change_first(struct kube_cache *c, kube_change_fn fn, void *userdata) _must_use_;
