/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The declared types as OpenAPI v3 schemas, CustomResourceDefinitions and reference documentation. */

#include <jansson.h>

#include "api/api.h"

/* Schema of type D, structural as CRDs want it (no $ref), with x-kubernetes-* extensions. A new reference, NULL on no
 * memory. */
json_t *api_schema(const struct api_desc *d);

/* Schema of a whole kind: apiVersion, kind, and its fields; metadata is {"type":"object"} as CRDs have it. */
json_t *api_kind_schema(const struct api_kind *k);

/* The CustomResourceDefinition of K (apiextensions.k8s.io/v1). */
json_t *api_crd(const struct api_kind *k);

/* A JSON tree as one YAML document. */
void api_yaml(struct buf *out, const json_t *v);

/* All CRDs of group nacre.dev as a YAML stream, in the order of api_kinds. */
int api_crds_yaml(struct buf *out, struct error *err) _must_use_;

/* docs/api.md: every kind of group nacre.dev, its fields, bounds and rules, and who may do what with each kind. */
int api_reference(struct buf *out, struct error *err) _must_use_;
