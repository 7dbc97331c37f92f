/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/addresspool.h"
#include "apiserver/store/store.h"

/* Adds an error to ERRS if POOL overlaps an existing pool, so that both could hand out the same value. */
void pools_check(const struct store *store, const struct addresspool *pool, struct api_errors *errs);
