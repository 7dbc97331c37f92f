/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * /openapi/v2: OpenAPI 2.0 ("swagger"), which kubectl before 1.27, Terraform and many generators of clients read. It is
 * converted from the documents of v3, as kube-apiserver converts CRDs (kubernetes, staging/src/k8s.io/
 * apiextensions-apiserver/pkg/controller/openapi).
 */

#include <jansson.h>

#include "base/buf.h"

/* One document of all those in the array V3. A new reference, NULL on no memory. */
json_t *openapi2_document(const json_t *v3);

/* DOC as the message openapi.v2.Document of gnostic. Errors are the buffer's. */
void openapi2_encode(struct buf *out, const json_t *doc);
