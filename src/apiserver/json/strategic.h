/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Strategic merge patches, which kubectl sends for Kubernetes' own kinds. A strategic merge patch is a merge patch (RFC
 * 7396) with two differences. Lists with keys are merged element by element, and sets are united; which list is which
 * comes from its declaration (API_KEY_…, API_SET), and any other list is replaced. The patch may hold directives:
 * $patch, $retainKeys, $deleteFromPrimitiveList/FIELD, $setElementOrder/FIELD. Semantics: k8s.io/apimachinery,
 * util/strategicpatch.
 */

#include <jansson.h>

#include "api/api.h"

/*
 * TARGET is not changed; *RET is a new reference that shares nothing with it. -EINVAL: the patch is malformed; -ENOKEY:
 * an element lacks the key of its list; -EBADMSG: $retainKeys contradicts the patch; -EMSGSIZE: a list of the patch is
 * longer than its field allows.
 */
int strategic_merge(const struct api_desc *d, const json_t *target, const json_t *patch, json_t **ret,
                    struct error *err) _must_use_;
