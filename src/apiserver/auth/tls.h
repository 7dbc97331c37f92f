/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The TLS of a listener: the server's certificate and key, and the authorities whose client certificates are believed.
 * The files are read again when they change; connections that are open keep what they began with, but their
 * certificates are verified anew. Files that don't fit together (yet) change nothing.
 */

#include <gnutls/gnutls.h>
#include <stdint.h>

#include "apiserver/request/user.h"
#include "base/error.h"

/* TLS 1.2 and 1.3. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls_files {
	const char *cert, *key;
	const char *client_ca; /* NULL: client certificates are not asked for */
	/*
	 * Lists of client certificates that are refused, each signed by an authority in client_ca; NULL: none are. A
	 * list past its next update stays in force, see tls_crl_until().
	 */
	const char *client_crl;
};

struct tls;
/* The files' content at one time, shared by counted references by the connections that use it. */
struct tls_set;

/* FILES' strings must outlive it. */
int tls_new(struct tls **ret, const struct tls_files *files, struct error *err) _must_use_;
struct tls *tls_free(struct tls *t);
DEFINE_CLEANUP(tls, struct tls *, tls_free)

/* Reads the files again if they changed: 1 if something new is in force, 0 if not. On failure the old stays. */
int tls_refresh(struct tls *t, struct error *err) _must_use_;
/* PEM of what is in force, for MHD; valid until the next tls_refresh(). */
const char *tls_cert_pem(const struct tls *t);
const char *tls_key_pem(const struct tls *t);
/* The content of --client-ca's file, NULL without one. */
const char *tls_client_ca_pem(const struct tls *t);

/* When the first of the lists of revoked certificates should have been made anew; INT64_MAX: never. */
int64_t tls_crl_until(const struct tls *t);

/* Prepares a session of a new connection, which keeps the returned reference. NULL: the session can't be used. */
struct tls_set *tls_session_begin(struct tls *t, gnutls_session_t session);
struct tls_set *tls_set_unref(struct tls_set *s); /* NULL is fine; returns NULL */

/* Grows with each change of the files: what was verified before must be verified again. */
unsigned tls_generation(const struct tls *t);
/*
 * Who the client of SESSION is by its certificate: common name and organisations. *RET is NULL if it showed none.
 * RET_UNTIL_S: when that ceases to be true. -EACCES: it showed one that is not good.
 */
int tls_client(struct tls *t, gnutls_session_t session, struct user **ret, int64_t *ret_until_s,
               struct error *err) _must_use_;
