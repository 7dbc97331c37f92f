/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What guests are given as user data and SSH keys, by the uuid of the guest (status.id). The loop puts contents in
 * here; workers, which have a copy of the agent's memory, take them out (node/part_seed.c). A guest_spec carries only
 * the number of its content, so it stays small and shows a change.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct seed {
	const char *user_data; /* NULL: none */
	size_t user_data_len;
	const char *ssh_keys; /* a key a line; NULL: none */
	size_t ssh_keys_len;
	bool keep_user_data, keep_ssh_keys; /* it is not known now; what the guest has stays */
};

struct seeds;

int seeds_new(struct seeds **ret, struct error *err) _must_use_;
struct seeds *seeds_free(struct seeds *s);

/* Copies SEED. *RET_NUMBER is greater than 0; it is another one if the content has changed. 0 or -ENOMEM. */
int seeds_put(struct seeds *s, const char *uuid, const struct seed *seed, int64_t *ret_number) _must_use_;
/* Borrowed. NULL: there is none. */
const struct seed *seeds_get(const struct seeds *s, const char *uuid);
void seeds_drop(struct seeds *s, const char *uuid);
