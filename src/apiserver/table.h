/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* metav1.Table: what `kubectl get` shows, made from the columns a kind declares; and metadata alone. */

#include "apiserver/store.h"

enum table_include { TABLE_METADATA, TABLE_NONE, TABLE_OBJECT };

/* The rows of N objects; VERSION and CONT (may be "") go into its metadata. NOW_US: for ages. */
void table_print(struct buf *b, const struct api_kind *k, struct blob *const *items, size_t n, int64_t version,
                 const char *cont, int64_t remaining, enum table_include include, uint64_t now_us);

/* PartialObjectMetadata: no more of the object at JSON than its metadata. */
void partial_print(struct buf *b, const char *json, size_t len);

/* "5m", "3h20m", "12d": Kubernetes' duration.HumanDuration. */
#define AGE_STR_MAX 32
const char *age_str(int64_t seconds, char out[static AGE_STR_MAX]);
