/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Patches of JSON trees, which come from tenants. A merge patch makes nothing that is deeper than its two parts, nor
 * larger than both together. Operations could double a tree or nest it in itself again and again: what each puts in is
 * bounded (apiserver/json/tree.h) before it is copied.
 */

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

#define PATCH_OPS_MAX    1000
#define PATCH_GROWTH_MAX ((size_t)3 << 20) /* bytes of JSON that the operations of one patch may add */

/* RFC 7396. TARGET is not changed; *RET is a new reference. 0 or -ENOMEM. */
int patch_merge(const json_t *target, const json_t *patch, json_t **ret) _must_use_;

/*
 * RFC 6902. -EINVAL: the patch is no list of objects; -ENOENT: it can't be applied to this TARGET (a path is missing,
 * a test fails); -EMSGSIZE: it makes too much, or nests too deeply; -E2BIG: too many operations. TARGET is not changed.
 */
int patch_json(const json_t *target, const json_t *ops, json_t **ret, struct error *err) _must_use_;
