/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/addresspool.h"
#include "apiserver/store/store.h"

/* Two pools that could hand out one value: the later one, POOL, is refused. Adds to ERRS. */
void pools_check(const struct store *store, const struct addresspool *pool, struct api_errors *errs);
