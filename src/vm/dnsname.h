/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Names of the DNS, as text and as they are sent to guests (RFC 1035, section 3.1; never compressed). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNSNAME_MAX 253 /* characters of the text */

/* Labels of 1 to 63 letters, digits, '-' and '_', with dots between them only; at most DNSNAME_MAX characters. */
bool dnsname_valid(const char *name);
/* Writes a valid NAME. Returns its length in bytes, strlen(NAME) + 2; 0 and nothing written if that is more than ROOM.
 */
size_t dnsname_put(const char *name, uint8_t *out, size_t room);
