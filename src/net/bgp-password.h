/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Passwords of BGP sessions (TCP-MD5, RFC 2385). They are files on the host, which the operator puts there; the API
 * never has them, for every agent of the fabric reads the API.
 */

#include "base/error.h"

#define BGP_PASSWORD_MAX 80 /* TCP_MD5SIG_MAXKEYLEN, tcp(7) */

/*
 * -ENOENT if there is none; -EINVAL if not root alone may use the file, or if it holds anything but one line of 1 to
 * BGP_PASSWORD_MAX printable ASCII characters without blanks.
 */
int bgp_password_read(const char *path, char out[static BGP_PASSWORD_MAX + 1], struct error *err) _must_use_;
