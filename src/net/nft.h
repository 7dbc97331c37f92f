/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * nftables, through libnftables, for tables of ours in a namespace. A ruleset is applied as one transaction: the
 * kernel has the old ruleset or the new one, never a mixture (except for sets of intervals, see `cover`), and tracked
 * connections continue.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

/* Applies commands in the language of nft(8), including "flush" and "delete". */
int nft_apply(int netns_fd, const char *commands, struct error *err) _must_use_;

/* Appends the table as nft lists it, without counters. -ENOENT if there is no such table. FAMILY is "inet", "bridge",
 * ... */
int nft_list(int netns_fd, const char *family, const char *table, struct buf *out, struct error *err) _must_use_;

struct nft_table {
	const char *family, *name;
	const char *body; /* the text between the braces of `table FAMILY NAME { }` */
	bool dynamic;     /* packets fill its named sets, so the elements of these sets are not compared */
	/*
	 * NULL, or the name of a second table with the same body, which is there while the first one is replaced. A
	 * table with sets of intervals needs it: for an instant its new rules are in force before these sets have their
	 * elements. Only for rules that may see a packet twice, such as those that only drop.
	 */
	const char *cover;
};

/*
 * Makes the N tables equal to what they say. *STATE is 0 at first, and the caller keeps it between calls; it stores a
 * hash of how the kernel listed the tables. If neither the kernel's tables nor their bodies have changed since, nothing
 * is done; otherwise all of them are replaced in one transaction. (The covers are loaded in one before it and deleted
 * in one after it.) After a failure the old tables stay, unless only a cover could not be deleted, which the next call
 * tries again. *RET_CHANGED (may be NULL) says whether they were replaced.
 */
int nft_ensure_tables(int netns_fd, const struct nft_table *tables, size_t n, uint64_t *state, bool *ret_changed,
                      struct error *err) _must_use_;
/* The same for one table. */
int nft_ensure(int netns_fd, const char *family, const char *table, const char *body, uint64_t *state,
               bool *ret_changed, struct error *err) _must_use_;
