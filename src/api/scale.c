/* SPDX-License-Identifier: Apache-2.0 */
#include "api/scale.h"

#include "base/util.h"

API_DEFINE(scale_spec, SCALE_SPEC)
API_DEFINE(scale_status, SCALE_STATUS)
API_DEFINE(scale, SCALE)

static const struct api_column columns[] = {
	{"Desired", "integer", ".spec.replicas", "The desired count.", 0},
	{"Available", "integer", ".status.replicas", "The present count.", 0},
	{0},
};

const struct api_kind api_kind_scale = {
	.group = "autoscaling",
	.version = "v1",
	.kind = "Scale",
	.plural = "scales",
	.singular = "scale",
	.doc = "The count of another object.",
	.namespaced = true,
	.desc = &api_desc_scale,
	.columns = columns,
};
