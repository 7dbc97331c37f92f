/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Scale (autoscaling/v1): the count of another object, as the scale subresource shows it. It is not in api_kinds,
 * because no such objects are stored.
 */

#include "api/meta.h"

#define SCALE_SPEC(F, T) F(T, i64, replicas, "replicas", 0, _, INT32_MIN, INT32_MAX, NULL, "The desired count.")
API_DECLARE(scale_spec, SCALE_SPEC)
#define SCALE_STATUS(F, T)                                                                      \
	F(T, i64, replicas, "replicas", 0, _, INT32_MIN, INT32_MAX, NULL, "The present count.") \
	F(T, str, selector, "selector", 0, any, 0, API_STR_MAX, NULL,                           \
	  "Label selector that matches the counted objects.")
API_DECLARE(scale_status, SCALE_STATUS)
#define SCALE(F, T)                                                              \
	API_META(F, T)                                                           \
	F(T, obj, spec, "spec", 0, scale_spec, 0, 0, NULL, "The desired state.") \
	F(T, obj, status, "status", 0, scale_status, 0, 0, NULL, "The last observed state.")
API_DECLARE(scale, SCALE)
extern const struct api_kind api_kind_scale;
