/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The tokens of the metadata service (IMDSv2). A token is the second at which it expires and an HMAC-SHA256 of that,
 * in hexadecimal digits. So nothing is kept for each token, however many a guest asks for. The key is made when
 * nacre-vm starts, and so tokens end with it.
 */

#include <stdbool.h>
#include <stdint.h>

#define IMDSTOKEN_KEY_LEN 32
#define IMDSTOKEN_LEN     80    /* digits */
#define IMDSTOKEN_TTL_MAX 21600 /* seconds, as in EC2 */

struct imdstoken_key {
	uint8_t bytes[IMDSTOKEN_KEY_LEN];
};

/* NOW_S is a time in seconds on any clock that doesn't go back. */
void imdstoken_make(const struct imdstoken_key *key, uint64_t now_s, uint32_t ttl_s,
                    char out[static IMDSTOKEN_LEN + 1]);
bool imdstoken_valid(const struct imdstoken_key *key, uint64_t now_s, const char *token);
