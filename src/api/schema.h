/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The declared types as OpenAPI v3 schemas, CustomResourceDefinitions and reference documentation. */

#include <jansson.h>

#include "api/api.h"

/*
 * The schema of type D, structural as CRDs require it (no $ref), with x-kubernetes-* extensions. A new reference; NULL:
 * no memory.
 */
json_t *api_schema(const struct api_desc *d);

/*
 * The schema of a kind: apiVersion, kind and its fields. metadata is {"type":"object"}, as CRDs require. A new
 * reference; NULL: no memory, or a rule of K has a path that doesn't exist.
 */
json_t *api_kind_schema(const struct api_kind *k);

/* The CustomResourceDefinition of K (apiextensions.k8s.io/v1). A new reference; NULL as for api_kind_schema(). */
json_t *api_crd(const struct api_kind *k);

/* Prints a JSON tree as a YAML document. If memory runs out, out->failed is set. */
void api_yaml(struct buf *out, const json_t *v);

/* Prints the CRDs of all kinds of group nacre.dev as a YAML stream, in the order of api_kinds. */
int api_crds_yaml(struct buf *out, struct error *err) _must_use_;

/* Prints docs/api.md: every kind of group nacre.dev with its fields, bounds, rules and access rights. */
int api_reference(struct buf *out, struct error *err) _must_use_;
