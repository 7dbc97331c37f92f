/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* metav1.Table, which `kubectl get` shows, from the columns that a kind declares; and metadata alone. */

#include "api/api.h"
#include "apiserver/json/selector.h"

enum table_include { TABLE_METADATA, TABLE_NONE, TABLE_OBJECT };

/*
 * Prints a Table of one object, whose text is ITEM. VERSION becomes the Table's resourceVersion. NOW_US is the current
 * time in microseconds since 1970, for ages.
 */
void table_print(struct buf *b, const struct api_kind *k, const struct json_span *item, int64_t version,
                 enum table_include include, uint64_t now_us);

/*
 * Prints what comes before the rows of a Table. CONT, the continue token, may be "". REMAINING: how many objects follow
 * this page. The caller then prints each row by table_row(), and "]}" at the end.
 */
void table_begin(struct buf *b, const struct api_kind *k, int64_t version, const char *cont, int64_t remaining);

/* How to print the items of a list in another form than the stored one. */
struct item_style {
	void (*print)(struct buf *b, const struct item_style *style,
	              const struct json_span *item); /* NULL: as stored */
	const struct api_kind *kind;
	enum table_include include;
	uint64_t now_us; /* current time in microseconds since 1970, for ages */
};
/* Prints one row. Parses only the parts of the object that the columns show. */
void table_row(struct buf *b, const struct item_style *style, const struct json_span *item);
void partial_item(struct buf *b, const struct item_style *style, const struct json_span *item);

/* Prints the object at JSON as PartialObjectMetadata: only its metadata. */
void partial_print(struct buf *b, const char *json, size_t len);

/* Formats a duration as Kubernetes' duration.HumanDuration does: "5m", "3h20m", "12d". */
#define AGE_STR_MAX 32
const char *age_str(int64_t seconds, char out[static AGE_STR_MAX]);
