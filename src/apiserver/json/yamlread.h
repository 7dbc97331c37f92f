/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One YAML document as a JSON tree, as Kubernetes reads it (YAML 1.1 with the scalars of go-yaml 2): for bodies of
 * requests, which are hostile.
 */

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

#define YAML_TEXT_MAX     ((size_t)1 << 20) /* libyaml takes a hundred instructions for each byte */
#define YAML_REPEATED_MAX ((size_t)500000)  /* bytes of JSON that anchors keep and aliases repeat */

/*
 * -EINVAL: it is no YAML, has more than one document, or is past the limits of apiserver/json/tree.h or its own.
 * STRICT: a key that is there twice is an error; else the last one counts.
 */
int yaml_parse(const char *text, size_t len, bool strict, json_t **ret, struct error *err) _must_use_;
