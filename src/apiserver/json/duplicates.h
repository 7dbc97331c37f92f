/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Finds keys that one JSON object has twice, for fieldValidation. A tree can't show them: it keeps only the last. */

#include "api/api.h"

/*
 * Adds `duplicate field "spec.type"` to ERRS for each key that an object in TEXT repeats. TEXT must be well-formed
 * JSON. Returns 0 or -ENOMEM.
 */
int json_duplicates(const char *text, size_t len, struct api_errors *errs) _must_use_;
