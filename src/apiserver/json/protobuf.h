/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Kubernetes' protobuf bodies ("k8s\0" and a runtime.Unknown). kubectl sends them for core kinds whose types are
 * compiled into it. Field numbers are from generated.proto of each group in k8s.io/api, and of apimachinery's meta/v1.
 */

#include <jansson.h>

#include "base/error.h"

#define PROTOBUF_TYPE "application/vnd.kubernetes.protobuf"

/*
 * Decodes a body into a JSON tree; *RET is a new reference. KIND is the expected kind: "DeleteOptions" or a kind of
 * object. -EOPNOTSUPP: this kind can't be decoded; -EINVAL: the body is malformed, or of another kind.
 */
int protobuf_decode(const char *kind, const char *data, size_t len, json_t **ret, struct error *err) _must_use_;

/* The kinds that can be decoded: number I, or NULL after the last. */
const char *protobuf_kind(unsigned i);
