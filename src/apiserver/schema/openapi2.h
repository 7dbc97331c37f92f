/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * /openapi/v2: OpenAPI 2.0 ("swagger"), which kubectl before 1.27, Terraform and many generators of clients read. It is
 * converted from the documents of v3 in the same way as kube-apiserver converts CRDs (kubernetes,
 * staging/src/k8s.io/apiextensions-apiserver/pkg/controller/openapi).
 */

#include <jansson.h>

#include "base/buf.h"

/* Converts all documents in the array V3 into one. Returns a new reference; NULL: no memory. */
json_t *openapi2_document(const json_t *v3);

/* Appends DOC to OUT as the protobuf message openapi.v2.Document of gnostic. On failure out->failed is set. */
void openapi2_encode(struct buf *out, const json_t *doc);
