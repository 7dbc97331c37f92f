/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Patches of JSON trees. They come from tenants. The result of a merge patch is no deeper than the deeper of its two
 * parts, and no larger than both together. Operations of a JSON patch could double a tree, or nest it in itself, again
 * and again. So each value that an operation adds is checked against limits (apiserver/json/tree.h) before it is
 * copied.
 */

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

#define PATCH_OPS_MAX    1000
#define PATCH_GROWTH_MAX ((size_t)3 << 20) /* bytes of JSON that the operations of one patch may add */

/* Applies a merge patch (RFC 7396). TARGET is not changed; *RET is a new reference. Returns 0 or -ENOMEM. */
int patch_merge(const json_t *target, const json_t *patch, json_t **ret) _must_use_;

/*
 * Applies a JSON patch (RFC 6902). TARGET is not changed; *RET is a new reference. -EINVAL: the patch is not a list of
 * objects; -ENOENT: the patch doesn't fit this TARGET (a path is missing, a test fails); -EMSGSIZE: the result is too
 * large or nested too deeply; -E2BIG: the patch has too many operations.
 */
int patch_json(const json_t *target, const json_t *ops, json_t **ret, struct error *err) _must_use_;
