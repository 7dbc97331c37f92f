/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Elements of sets and maps of a table of family inet, by netlink (linux/netfilter/nf_tables.h). libnftables reads a
 * whole set before it changes one element, which takes seconds for 100,000 elements; here only the change is sent.
 *
 * NL is a socket of nl_open_netfilter(). Keys are as the kernel has them: the fields of a concatenation one after the
 * other, in network order, each padded to a multiple of four bytes. A mark is in host order, a protocol one byte.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "net/nl.h"

#define NFTSET_KEY_MAX ((size_t)64) /* NFT_DATA_VALUE_MAXLEN */

/* The number of the namespace's last transaction: whoever commits another, this number changes. */
int nftset_genid(struct nl *nl, uint32_t *ret, struct error *err) _must_use_;
/* The number of the transaction that follows number GENID. */
uint32_t nftset_genid_after(uint32_t genid);

/*
 * Changes that are made together: all zero at first, except the name of the table, GENID, and messages.max if the batch
 * is to stay smaller than NL_TRANSACTION_MAX. If messages.failed is set, changes are missing.
 */
struct nftset_batch {
	const char *table;
	uint32_t genid; /* nothing is changed unless this is the number of the last transaction; 0: it may be any */
	struct buf messages;
	size_t n;
};
/*
 * Adds or deletes an element. Adding one that is there already changes nothing; deleting one that is not there makes
 * the whole batch fail with -ENOENT. DATA: the value in a map, for elements to be added; else NULL.
 */
void nftset_change(struct nftset_batch *b, const char *set, bool add, const void *key, size_t key_len, const void *data,
                   size_t data_len);
/*
 * Carries out the batch as one transaction. -EMSGSIZE: it is longer than it may be. -ESTALE: somebody else has
 * committed a transaction after number GENID. After a failure nothing has changed. Empties the batch.
 */
int nftset_commit(struct nl *nl, struct nftset_batch *b, struct error *err) _must_use_;
void nftset_batch_done(struct nftset_batch *b);

struct nftset_element {
	const uint8_t *key;
	size_t key_len;
	uint64_t packets, bytes; /* 0 if it has no counter */
	uint64_t expires_ms;     /* it will be gone in so long; 0: it stays */
	const char *comment;     /* NULL: it has none */
};
typedef void (*nftset_fn)(const struct nftset_element *e, void *userdata);
/* Calls FN for each element; twice, if a transaction is committed meanwhile. -ENOENT: there is no such set. */
int nftset_each(struct nl *nl, const char *table, const char *set, nftset_fn fn, void *userdata,
                struct error *err) _must_use_;

/* Calls FN with the name of each set and map of the table. -ENOENT: there is no such table, or it has none. */
typedef void (*nftset_name_fn)(const char *set, void *userdata);
int nftset_names(struct nl *nl, const char *table, nftset_name_fn fn, void *userdata, struct error *err) _must_use_;

/* Reads a named counter. */
int nftset_counter(struct nl *nl, const char *table, const char *name, uint64_t *ret_packets,
                   struct error *err) _must_use_;
