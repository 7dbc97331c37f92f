/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/imdstoken.h"

#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <string.h>

#include "base/util.h"

#define TIME_DIGITS 16
_Static_assert(IMDSTOKEN_LEN == TIME_DIGITS + 2 * SHA256_DIGEST_SIZE, "time and digest");

static void imdstoken_print(const struct imdstoken_key *key, uint64_t expires_s, char out[static IMDSTOKEN_LEN + 1]) {
	struct hmac_sha256_ctx mac;
	uint8_t digest[SHA256_DIGEST_SIZE];

	snprintf(out, TIME_DIGITS + 1, "%016llx", (unsigned long long)expires_s);
	hmac_sha256_set_key(&mac, sizeof(key->bytes), key->bytes);
	hmac_sha256_update(&mac, TIME_DIGITS, (const uint8_t *)out);
	hmac_sha256_digest(&mac, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(out + TIME_DIGITS + 2 * i, 3, "%02x", digest[i]);
}

void imdstoken_make(const struct imdstoken_key *key, uint64_t now_s, uint32_t ttl_s,
                    char out[static IMDSTOKEN_LEN + 1]) {
	imdstoken_print(key, now_s + ttl_s, out);
}

bool imdstoken_valid(const struct imdstoken_key *key, uint64_t now_s, const char *token) {
	char digits[TIME_DIGITS + 1], right[IMDSTOKEN_LEN + 1];

	if (strlen(token) != IMDSTOKEN_LEN || strspn(token, "0123456789abcdef") != IMDSTOKEN_LEN)
		return false;
	snprintf(digits, sizeof(digits), "%.*s", TIME_DIGITS, token);
	uint64_t expires_s = strtoull(digits, NULL, 16);
	imdstoken_print(key, expires_s, right);
	return memeql_sec(right, token, IMDSTOKEN_LEN) && now_s < expires_s;
}
