/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The TLS configuration of a listener: the server's certificate and key, and the authorities of client certificates.
 * The files are read again when they change. Open connections keep their configuration, but their client certificates
 * are verified again. Until the files fit together, the old configuration is kept.
 */

#include <gnutls/gnutls.h>
#include <stdint.h>

#include "apiserver/request/user.h"
#include "base/error.h"

/* Only TLS 1.2 and 1.3. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls_files {
	const char *cert, *key;
	const char *client_ca; /* NULL: clients are not asked for certificates */
	/*
	 * Lists of revoked client certificates, each signed by an authority in client_ca; NULL: none. A list past its
	 * next update stays in force, see tls_crl_until().
	 */
	const char *client_crl;
};

struct tls;
/* The configuration from one reading of the files, reference-counted by the connections that use it. */
struct tls_set;

/* The strings of FILES must outlive *RET. Fails if the files can't be used. */
int tls_new(struct tls **ret, const struct tls_files *files, struct error *err) _must_use_;
struct tls *tls_free(struct tls *t);
DEFINE_CLEANUP(tls, struct tls *, tls_free)

/*
 * Reads the files again if they have changed. 1: the new configuration is in force; 0: nothing has changed. On failure
 * the old configuration stays.
 */
int tls_refresh(struct tls *t, struct error *err) _must_use_;
/* The PEM texts in force, for MHD; valid until the next tls_refresh(). */
const char *tls_cert_pem(const struct tls *t);
const char *tls_key_pem(const struct tls *t);
/* The content of the client authority's file; NULL: there is none. Valid until the next tls_refresh(). */
const char *tls_client_ca_pem(const struct tls *t);

/*
 * The earliest next update of the lists of revoked certificates, in seconds since 1970; INT64_MAX: there are no lists.
 */
int64_t tls_crl_until(const struct tls *t);

/*
 * Configures the session of a new connection and returns a reference, which the connection keeps. NULL: the session
 * can't be used.
 */
struct tls_set *tls_session_begin(struct tls *t, gnutls_session_t session);
struct tls_set *tls_set_unref(struct tls_set *s); /* S may be NULL; returns NULL */

/* Grows with each change of the files. A client that was verified before must then be verified again. */
unsigned tls_generation(const struct tls *t);
/*
 * Finds the user of SESSION from its client certificate: common name and organisations. *RET is a reference, or NULL if
 * the client has sent no certificate. *RET_UNTIL_S is when the certificate expires, in seconds since 1970. -EACCES: the
 * certificate is not accepted.
 */
int tls_client(struct tls *t, gnutls_session_t session, struct user **ret, int64_t *ret_until_s,
               struct error *err) _must_use_;
