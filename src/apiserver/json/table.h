/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* metav1.Table: what `kubectl get` shows, made from the columns a kind declares; and metadata alone. */

#include "api/api.h"
#include "apiserver/json/selector.h"

enum table_include { TABLE_METADATA, TABLE_NONE, TABLE_OBJECT };

/* A Table of one object, whose text is ITEM; VERSION goes into its metadata. NOW_US: for ages. */
void table_print(struct buf *b, const struct api_kind *k, const struct json_span *item, int64_t version,
                 enum table_include include, uint64_t now_us);

/* One of many: all that comes before the rows; CONT may be "". Each row is printed by table_row(), and "]}" is the end.
 */
void table_begin(struct buf *b, const struct api_kind *k, int64_t version, const char *cont, int64_t remaining);

/* How the items of a list are shown, if not as they are. */
struct item_style {
	void (*print)(struct buf *b, const struct item_style *style,
	              const struct json_span *item); /* NULL: as they are */
	const struct api_kind *kind;
	enum table_include include;
	uint64_t now_us; /* for ages */
};
/* Only the columns of an object are read. */
void table_row(struct buf *b, const struct item_style *style, const struct json_span *item);
void partial_item(struct buf *b, const struct item_style *style, const struct json_span *item);

/* PartialObjectMetadata: no more of the object at JSON than its metadata. */
void partial_print(struct buf *b, const char *json, size_t len);

/* "5m", "3h20m", "12d": Kubernetes' duration.HumanDuration. */
#define AGE_STR_MAX 32
const char *age_str(int64_t seconds, char out[static AGE_STR_MAX]);
