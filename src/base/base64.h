/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Base64, RFC 4648 section 4: the standard alphabet, padded. */

#include "base/buf.h"

void base64_encode(struct buf *out, const void *data, size_t len);
/* Appends the decoded bytes of TEXT to OUT. With OUT NULL it only checks TEXT. -EINVAL: *RET_AT is the offset of the
 * first bad byte. */
int base64_decode(struct buf *out, const char *text, size_t len, size_t *ret_at) _must_use_;
