/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Kubernetes' protobuf bodies ("k8s\0" and a runtime.Unknown), which kubectl sends for core kinds it has types of and
 * for which it knows no other way. Field numbers: the generated.proto of each group in k8s.io/api, and of
 * apimachinery's meta/v1.
 */

#include <jansson.h>

#include "base/error.h"

#define PROTOBUF_TYPE "application/vnd.kubernetes.protobuf"

/*
 * The body as the JSON tree that it stands for. KIND: what is expected, "DeleteOptions" or a kind's.
 * -EOPNOTSUPP: not for this kind; -EINVAL: malformed, or of another kind.
 */
int protobuf_decode(const char *kind, const char *data, size_t len, json_t **ret, struct error *err) _must_use_;

/* The kinds there are, NULL after the last. */
const char *protobuf_kind(unsigned i);
