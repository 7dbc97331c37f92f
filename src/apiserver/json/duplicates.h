/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Keys that are there twice in one object, which a tree can't show any more; what fieldValidation speaks of. */

#include "api/api.h"

/*
 * Adds `duplicate field "spec.type"` to ERRS for each key of the JSON TEXT, already known to be well-formed, that its
 * object has again. 0 or -ENOMEM.
 */
int json_duplicates(const char *text, size_t len, struct api_errors *errs) _must_use_;
