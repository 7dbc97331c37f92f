/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reads what comes with a write: options in the query, and a body of one of several media types. */

#include "apiserver/request/request.h"

#define TYPE_JSON_PATCH  "application/json-patch+json"
#define TYPE_MERGE_PATCH "application/merge-patch+json"
#define TYPE_STRATEGIC   "application/strategic-merge-patch+json"
#define TYPE_APPLY       "application/apply-patch+yaml"
#define TYPE_YAML        "application/yaml"

/* Checks options and media type, and parses the body into R->json. -EINVAL: the reply is set. */
int body_parse(struct request *r) _must_use_;

/* True for a server-side apply. */
bool request_is_apply(const struct request *r);
