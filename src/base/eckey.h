/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Private keys on the curve P-256 as PEM, in the one form that all clients read: SEC1 ("BEGIN EC PRIVATE KEY") with a
 * private value of exactly 32 octets, as RFC 5915 section 3 requires. GnuTLS writes a value whose first bit is set with
 * 33 octets, and rustls refuses such a key. fabric8's Java client does not read an EC key in PKCS #8 ("BEGIN PRIVATE
 * KEY").
 */

#include <gnutls/x509.h>

#include "base/buf.h"

int eckey_new(gnutls_x509_privkey_t *ret, struct error *err) _must_use_;
/* Appends KEY as PEM. -EINVAL if KEY is not on P-256. */
int eckey_print(gnutls_x509_privkey_t key, struct buf *pem, struct error *err) _must_use_;
/* The reason why clients refuse the EC key in PEM; NULL if they accept it, or if PEM holds no EC key. */
const char *eckey_refused(const char *pem, size_t len);
