/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Kubernetes' protobuf bodies ("k8s\0" and a runtime.Unknown), which kubectl sends for core kinds it has types of and
 * for which it knows no other way. Field numbers: k8s.io/api/core/v1/generated.proto and apimachinery's meta/v1.
 */

#include <jansson.h>

#include "api/api.h"

#define PROTOBUF_TYPE "application/vnd.kubernetes.protobuf"

/*
 * The body as the JSON tree that it stands for. K: what is expected, or NULL for DeleteOptions.
 * -EOPNOTSUPP: not for this kind; -EINVAL: malformed, or of another kind.
 */
int protobuf_decode(const struct api_kind *k, const char *data, size_t len, json_t **ret, struct error *err) _must_use_;
