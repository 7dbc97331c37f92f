/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Passwords of BGP sessions (TCP-MD5, RFC 2385). The operator puts them into files on the host. They are never in the
 * API, because every agent of the fabric can read the API.
 */

#include "base/error.h"

#define BGP_PASSWORD_MAX 80 /* TCP_MD5SIG_MAXKEYLEN, tcp(7) */

/*
 * Reads the password in the file PATH. -ENOENT if there is no file; -EINVAL if users other than root may use the file,
 * or if it holds anything but one line of 1 to BGP_PASSWORD_MAX printable ASCII characters without blanks.
 */
int bgp_password_read(const char *path, char out[static BGP_PASSWORD_MAX + 1], struct error *err) _must_use_;
