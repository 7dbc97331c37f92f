/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Parses one YAML document into a JSON tree as Kubernetes does (YAML 1.1 with the scalars of go-yaml 2). It is used for
 * bodies of requests, which may be hostile.
 */

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

#define YAML_TEXT_MAX     ((size_t)1 << 20) /* libyaml needs a hundred instructions for each byte */
#define YAML_REPEATED_MAX ((size_t)500000)  /* bytes of JSON that anchors keep and aliases repeat */

/*
 * *RET is a new reference. STRICT: a key that occurs twice is an error; otherwise the last one counts. -EINVAL: TEXT is
 * not YAML, has more than one document, or exceeds the limits above or those of apiserver/json/tree.h.
 */
int yaml_parse(const char *text, size_t len, bool strict, json_t **ret, struct error *err) _must_use_;
