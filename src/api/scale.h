/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Scale (autoscaling/v1): the count of another object, as the scale subresource shows it. It is in no list of kinds,
 * for there are no such objects.
 */

#include "api/meta.h"

#define SCALE_SPEC(F, T) F(T, i64, replicas, "replicas", 0, _, INT32_MIN, INT32_MAX, NULL, "How many there shall be.")
API_DECLARE(scale_spec, SCALE_SPEC)
#define SCALE_STATUS(F, T)                                                                       \
	F(T, i64, replicas, "replicas", 0, _, INT32_MIN, INT32_MAX, NULL, "How many there are.") \
	F(T, str, selector, "selector", 0, any, 0, API_STR_MAX, NULL, "Label selector that they fit.")
API_DECLARE(scale_status, SCALE_STATUS)
#define SCALE(F, T)                                                              \
	API_META(F, T)                                                           \
	F(T, obj, spec, "spec", 0, scale_spec, 0, 0, NULL, "What is asked for.") \
	F(T, obj, status, "status", 0, scale_status, 0, 0, NULL, "What was last observed.")
API_DECLARE(scale, SCALE)
extern const struct api_kind api_kind_scale;
