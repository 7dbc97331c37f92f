/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the tenant gives its guest: user data and SSH keys, in a folder that the agent writes and nacre-vm only reads.
 * Both files may be missing, and are read anew for each question, so that a guest sees keys that were changed while it
 * runs. The agent replaces a file by renaming another over it, so that nobody reads half of one.
 *
 *   user-data   any bytes, at most SEED_USER_DATA_MAX
 *   ssh-keys    a public key in OpenSSH's form on each line
 */

#include "base/buf.h"

#define SEED_USER_DATA_MAX ((size_t)64 << 10)
#define SEED_KEYS_MAX      64
#define SEED_KEY_MAX       4096 /* bytes of a line */

/* Opens the folder PATH; *RET_FD is -1 if PATH is "" or doesn't exist. A folder that is made later is not seen. */
int seed_open(const char *path, int *ret_fd, struct error *err) _must_use_;

/* Appends the user data to OUT: nothing if there is none or DIR is -1. -EFBIG: it is too large; -EINVAL: it is no
 * regular file. */
int seed_user_data(int dir, struct buf *out) _must_use_;

struct seed_keys {
	struct buf text; /* the lines, each ended by NUL */
	const char *key[SEED_KEYS_MAX];
	size_t n;
};
/*
 * The keys in the order of the file; none if there is no file or DIR is -1. Empty lines, lines that are too long and
 * those after SEED_KEYS_MAX are left out. In a line, whatever is not printable ASCII (which can be only in its comment)
 * becomes `?`. Errors are as above, and leave *RET empty. Free with seed_keys_done().
 */
int seed_keys(int dir, struct seed_keys *ret) _must_use_;
void seed_keys_done(struct seed_keys *k);
