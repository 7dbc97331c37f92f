/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * nftables, through libnftables, one table of ours in a namespace. A ruleset is applied as one
 * transaction: the kernel has the old one or the new one, never a mixture, and connections
 * that are tracked go on.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

/* Applies nft commands (the language of nft(8), which may include "flush" and "delete"). */
int nft_apply(int netns_fd, const char *commands, struct error *err) _must_use_;

/* The table as nft lists it, without counters. -ENOENT if it isn't there. FAMILY is "inet", "bridge", ... */
int nft_list(int netns_fd, const char *family, const char *table, struct buf *out, struct error *err) _must_use_;

/*
 * Makes the table equal to BODY (what stands between the braces of `table FAMILY TABLE { }`).
 * *STATE remembers how the kernel listed it: 0 at first, then the caller keeps it. When neither
 * the kernel's table nor BODY has changed since, nothing is done; otherwise the table is replaced.
 * *RET_CHANGED (may be NULL) tells which it was.
 */
int nft_ensure(int netns_fd, const char *family, const char *table, const char *body, uint64_t *state,
               bool *ret_changed, struct error *err) _must_use_;
