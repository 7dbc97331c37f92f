/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/tls.h"

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/util.h"

#define FILE_MAX    ((size_t)1 << 20)
#define CHAIN_MAX   8 /* the longest chain of a client's certificate */
#define SUBJECT_MAX 1024

struct tls_set {
	unsigned refs;
	gnutls_certificate_credentials_t credentials;
};

enum { FILE_CERT, FILE_KEY, FILE_CA, FILE_CRL, FILES };

/* A revoked certificate. ISSUER is a digest of the issuer's name. */
struct revoked {
	unsigned char issuer[32], serial[20];
	unsigned char len; /* length of serial; RFC 5280 allows no longer ones */
};

/* Shows whether a file has changed without reading it. */
struct stamp {
	struct timespec mtime;
	ino_t ino;
	off_t size;
};

struct content {
	char *text[FILES]; /* NULL: this file isn't used */
	size_t len[FILES];
	struct stamp stamps[FILES];
	struct tls_set *set;
	gnutls_x509_trust_list_t trust; /* NULL without a client authority */
	struct revoked *revoked;        /* sorted, since lists are long and each new connection is looked up */
	size_t n_revoked;
	int64_t crl_until_s;
};

struct tls {
	struct tls_files files;
	struct content now;
	struct stamp failed[FILES]; /* the files of the last failed try; they are not tried again until they change */
	unsigned generation;
};

struct tls_set *tls_set_unref(struct tls_set *s) {
	if (s && --s->refs == 0) {
		if (s->credentials)
			gnutls_certificate_free_credentials(s->credentials);
		free(s);
	}
	return NULL;
}

static void content_done(struct content *c) {
	for (int i = 0; i < FILES; i++) {
		if (c->text[i])
			explicit_bzero(c->text[i], c->len[i]);
		free(c->text[i]);
	}
	tls_set_unref(c->set);
	if (c->trust)
		gnutls_x509_trust_list_deinit(c->trust, 1);
	free(c->revoked);
	*c = (struct content){0};
}

static const char *file_of(const struct tls *t, int i) {
	const char *const paths[FILES] = {t->files.cert, t->files.key, t->files.client_ca, t->files.client_crl};
	return paths[i];
}

static void take_stamps(const struct tls *t, struct stamp stamps[static FILES]) {
	for (int i = 0; i < FILES; i++) {
		struct stat st;
		stamps[i] = (struct stamp){0};
		if (file_of(t, i) && stat(file_of(t, i), &st) == 0)
			stamps[i] = (struct stamp){st.st_mtim, st.st_ino, st.st_size};
	}
}

static bool same_stamps(const struct stamp a[static FILES], const struct stamp b[static FILES]) {
	for (int i = 0; i < FILES; i++)
		if (a[i].mtime.tv_sec != b[i].mtime.tv_sec || a[i].mtime.tv_nsec != b[i].mtime.tv_nsec ||
		    a[i].ino != b[i].ino || a[i].size != b[i].size)
			return false;
	return true;
}

static gnutls_datum_t datum(const struct content *c, int i) {
	return (gnutls_datum_t){(unsigned char *)c->text[i], (unsigned)c->len[i]};
}

static int make_set(const struct tls *t, struct content *c, struct error *err) {
	gnutls_datum_t cert = datum(c, FILE_CERT), key = datum(c, FILE_KEY), ca = datum(c, FILE_CA);
	c->set = calloc(1, sizeof(*c->set));
	if (!c->set)
		return error_oom(err);
	c->set->refs = 1;
	int e = gnutls_certificate_allocate_credentials(&c->set->credentials);
	if (e < 0)
		return error_oom(err);
	e = gnutls_certificate_set_x509_key_mem2(c->set->credentials, &cert, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (e == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		return error_set(err, EINVAL, "`%s` is not the key of certificate `%s`", t->files.key, t->files.cert);
	if (e < 0)
		return error_set(err, EINVAL, "can't use certificate `%s` with key `%s`: %s", t->files.cert,
		                 t->files.key, gnutls_strerror(e));
	if (!t->files.client_ca)
		return 0;
	/*
	 * The credentials tell clients which authorities are accepted; certificates are verified against the trust
	 * list.
	 */
	e = gnutls_certificate_set_x509_trust_mem(c->set->credentials, &ca, GNUTLS_X509_FMT_PEM);
	if (e > 0)
		e = gnutls_x509_trust_list_init(&c->trust, 0);
	if (e >= 0 && c->trust)
		e = gnutls_x509_trust_list_add_trust_mem(c->trust, &ca, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
	if (e > 0)
		return 0;
	return error_set(err, EINVAL, "client authority `%s` holds no certificate%s%s", t->files.client_ca,
	                 e < 0 ? ": " : "", e < 0 ? gnutls_strerror(e) : "");
}

static int revoked_cmp(const void *a, const void *b) {
	return memcmp(a, b, sizeof(struct revoked));
}

/*
 * DER puts zeros in front to keep a number positive. Without them a serial has at most 20 octets (RFC 5280, section
 * 4.1.2.2).
 */
static bool put_serial(struct revoked *r, const unsigned char *serial, size_t len) {
	while (len && !*serial)
		serial++, len--;
	if (len > sizeof(r->serial))
		return false;
	memset(r->serial, 0, sizeof(r->serial));
	memcpy(r->serial, serial, len);
	r->len = (unsigned char)len;
	return true;
}

static bool digest_name(const gnutls_datum_t *dn, struct revoked *ret) {
	return gnutls_hash_fast(GNUTLS_DIG_SHA256, dn->data, dn->size, ret->issuer) == 0;
}

static int add_crl(struct content *c, gnutls_x509_crl_t crl, struct error *err) {
	gnutls_x509_crl_iter_t it = NULL;
	gnutls_datum_t dn;
	struct revoked r = {0};
	int n = gnutls_x509_crl_get_crt_count(crl);
	time_t until = gnutls_x509_crl_get_next_update(crl);
	if (n < 0 || gnutls_x509_crl_get_raw_issuer_dn(crl, &dn) < 0)
		return error_set(err, EINVAL, "a list of revoked certificates can't be read");
	bool good = digest_name(&dn, &r);
	gnutls_free(dn.data);
	struct revoked *more = reallocarray(c->revoked, c->n_revoked + (size_t)n + 1, sizeof(*more));
	if (!good || !more)
		return error_oom(err);
	c->revoked = more;
	bool whole = true;
	for (int i = 0; i < n && whole; i++) {
		unsigned char serial[64];
		size_t len = sizeof(serial);
		whole = gnutls_x509_crl_iter_crt_serial(crl, &it, serial, &len, NULL) == 0;
		if (whole && put_serial(&r, serial, len))
			c->revoked[c->n_revoked++] = r;
	}
	gnutls_x509_crl_iter_deinit(it);
	if (until > 0)
		c->crl_until_s = MIN(c->crl_until_s, (int64_t)until);
	return whole ? 0 : error_set(err, EINVAL, "a list of revoked certificates can't be read");
}

static bool is_revoked(const struct content *c, gnutls_x509_crt_t crt) {
	struct revoked key = {0};
	gnutls_datum_t dn;
	unsigned char serial[64];
	size_t len = sizeof(serial);
	if (c->n_revoked == 0)
		return false;
	/* A certificate that can't be looked up is refused. */
	if (gnutls_x509_crt_get_raw_issuer_dn(crt, &dn) < 0)
		return true;
	bool good = digest_name(&dn, &key) && gnutls_x509_crt_get_serial(crt, serial, &len) == 0 &&
	            put_serial(&key, serial, len);
	gnutls_free(dn.data);
	return !good || bsearch(&key, c->revoked, c->n_revoked, sizeof(key), revoked_cmp);
}

/*
 * Each list must be signed by one of the client authorities: a list of another authority would revoke nothing, and
 * nobody would notice. A list past its next update is still accepted.
 */
static int check_crl(const struct tls *t, gnutls_x509_crl_t crl, const gnutls_x509_crt_t *cas, unsigned n_cas,
                     struct error *err) {
	const unsigned bad = GNUTLS_CERT_SIGNATURE_FAILURE | GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA |
	                     GNUTLS_CERT_INSECURE_ALGORITHM;
	unsigned status = 0;
	int e = gnutls_x509_crl_verify(crl, cas, (int)n_cas, 0, &status);
	return e < 0 || (status & bad) ? error_set(err, EINVAL, "`%s` is not signed by an authority in `%s`",
	                                           t->files.client_crl, t->files.client_ca)
	                               : 0;
}

static int load_crls(const struct tls *t, struct content *c, struct error *err) {
	const gnutls_datum_t ca = datum(c, FILE_CA), text = datum(c, FILE_CRL);
	gnutls_x509_crt_t *cas = NULL;
	gnutls_x509_crl_t *crls = NULL;
	unsigned n_cas = 0, n = 0;
	c->crl_until_s = INT64_MAX;
	if (!t->files.client_crl)
		return 0;
	int e = gnutls_x509_crl_list_import2(&crls, &n, &text, GNUTLS_X509_FMT_PEM, 0), r = 0;
	if (e < 0 || n == 0)
		r = error_set(err, EINVAL, "`%s` holds no list of revoked certificates%s%s", t->files.client_crl,
		              e < 0 ? ": " : "", e < 0 ? gnutls_strerror(e) : "");
	else if (gnutls_x509_crt_list_import2(&cas, &n_cas, &ca, GNUTLS_X509_FMT_PEM, 0) < 0)
		r = error_oom(err);
	for (unsigned i = 0; i < n && e >= 0; i++) {
		if (r == 0)
			r = check_crl(t, crls[i], cas, n_cas, err);
		if (r == 0)
			r = add_crl(c, crls[i], err);
		gnutls_x509_crl_deinit(crls[i]);
	}
	for (unsigned i = 0; i < n_cas; i++)
		gnutls_x509_crt_deinit(cas[i]);
	gnutls_free(crls);
	gnutls_free(cas);
	if (c->n_revoked)
		qsort(c->revoked, c->n_revoked, sizeof(*c->revoked), revoked_cmp);
	return r;
}

static int tls_load(const struct tls *t, struct content *c, struct error *err) {
	take_stamps(t, c->stamps);
	for (int i = 0; i < FILES; i++) {
		if (!file_of(t, i))
			continue;
		int r = read_file(file_of(t, i), FILE_MAX, &c->text[i], &c->len[i], err);
		if (r < 0)
			return r;
	}
	int r = make_set(t, c, err);
	return r < 0 ? r : load_crls(t, c, err);
}

int tls_refresh(struct tls *t, struct error *err) {
	_cleanup_(content_done) struct content c = {0};
	struct stamp stamps[FILES];
	take_stamps(t, stamps);
	if (t->now.set && (same_stamps(stamps, t->now.stamps) || same_stamps(stamps, t->failed)))
		return 0;
	int r = tls_load(t, &c, err);
	if (r < 0) {
		memcpy(t->failed, stamps, sizeof(stamps));
		return r;
	}
	struct content old = t->now;
	t->now = c;
	c = old;
	t->generation++;
	return 1;
}

int tls_new(struct tls **ret, const struct tls_files *files, struct error *err) {
	_cleanup_(cleanup_tls) struct tls *t = calloc(1, sizeof(*t));
	if (!t)
		return error_oom(err);
	t->files = *files;
	int r = tls_refresh(t, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

struct tls *tls_free(struct tls *t) {
	if (!t)
		return NULL;
	content_done(&t->now);
	free(t);
	return NULL;
}

const char *tls_cert_pem(const struct tls *t) {
	return t->now.text[FILE_CERT];
}

const char *tls_key_pem(const struct tls *t) {
	return t->now.text[FILE_KEY];
}

const char *tls_client_ca_pem(const struct tls *t) {
	return t->now.text[FILE_CA];
}

int64_t tls_crl_until(const struct tls *t) {
	return t->now.crl_until_s;
}

unsigned tls_generation(const struct tls *t) {
	return t->generation;
}

struct tls_set *tls_session_begin(struct tls *t, gnutls_session_t session) {
	static const gnutls_datum_t http = {(unsigned char *)"http/1.1", 8};
	struct tls_set *set = t->now.set;
	/* Replaces the credentials that MHD was started with. */
	if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, set->credentials) < 0 ||
	    gnutls_alpn_set_protocols(session, &http, 1, 0) < 0)
		return NULL;
	/*
	 * A certificate is requested but not required. A bad one doesn't end the connection: requests are then answered
	 * with the reason.
	 */
	gnutls_certificate_server_set_request(session, t->files.client_ca ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
	set->refs++;
	return set;
}

/* ---- clients ---- */

static int import_chain(gnutls_session_t session, gnutls_x509_crt_t *chain, unsigned *ret_n, struct error *err) {
	unsigned n = 0;
	const gnutls_datum_t *raw = gnutls_certificate_get_peers(session, &n);
	*ret_n = 0;
	if (!raw)
		return 0;
	if (n > CHAIN_MAX)
		return error_set(err, EACCES, "the client's certificate comes with more than %d others", CHAIN_MAX - 1);
	for (unsigned i = 0; i < n; i++) {
		if (gnutls_x509_crt_init(&chain[i]) < 0)
			return error_oom(err);
		++*ret_n;
		if (gnutls_x509_crt_import(chain[i], &raw[i], GNUTLS_X509_FMT_DER) < 0)
			return error_set(err, EACCES, "the client's certificate can't be read");
	}
	return 0;
}

/*
 * Reads value number I of OID in the subject. 0: there is no such value. A value with NUL is refused, because it would
 * not be the name that it looks like.
 */
static int subject_part(gnutls_x509_crt_t crt, const char *oid, unsigned i, char out[static SUBJECT_MAX],
                        struct error *err) {
	size_t len = SUBJECT_MAX;
	int e = gnutls_x509_crt_get_dn_by_oid(crt, oid, i, 0, out, &len);
	if (e == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return 0;
	json_t *utf8 = e < 0 ? NULL : json_string(out);
	json_decref(utf8);
	if (!utf8 || len >= SUBJECT_MAX || strlen(out) != len || len == 0)
		return error_set(err, EACCES, "the subject of the client's certificate can't be used");
	return 1;
}

static int add_fingerprint(gnutls_x509_crt_t crt, struct user *u, struct error *err) {
	unsigned char digest[32];
	size_t len = sizeof(digest);
	char text[sizeof("X509SHA256=") + 2 * sizeof(digest)] = "X509SHA256=";
	if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &len) < 0)
		return error_set(err, EACCES, "the client's certificate can't be read");
	for (size_t i = 0; i < len; i++)
		snprintf(text + strlen(text), 3, "%02x", digest[i]);
	return user_add_extra(u, EXTRA_CREDENTIAL_ID, text) < 0 ? error_oom(err) : 0;
}

static int user_of(gnutls_x509_crt_t crt, struct user **ret, struct error *err) {
	char text[SUBJECT_MAX];
	int r = subject_part(crt, GNUTLS_OID_X520_COMMON_NAME, 0, text, err);
	if (r <= 0)
		return r < 0 ? r : error_set(err, EACCES, "the client's certificate has no common name");
	_cleanup_(cleanup_user) struct user *u = user_new(text, NULL);
	if (!u)
		return error_oom(err);
	for (unsigned i = 0; (r = subject_part(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, i, text, err)) > 0; i++)
		if (user_add_group(u, text) < 0)
			return error_set(err, EACCES, "the client's certificate has more than %d organisations",
			                 USER_GROUPS_MAX);
	if (r < 0)
		return r;
	if (user_add_group(u, GROUP_AUTHENTICATED) < 0)
		return error_set(err, EACCES, "the client's certificate has too many organisations");
	r = add_fingerprint(crt, u, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(u);
	return 0;
}

static int tls_verify(struct tls *t, gnutls_x509_crt_t *chain, unsigned n, struct error *err) {
	gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
	                                 .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
	gnutls_datum_t why;
	unsigned status = 0;
	int e = gnutls_x509_trust_list_verify_crt2(t->now.trust, chain, n, &purpose, 1, 0, &status, NULL);
	if (e < 0)
		return error_set(err, EACCES, "the client's certificate can't be verified: %s", gnutls_strerror(e));
	for (unsigned i = 0; status == 0 && i < n; i++)
		if (is_revoked(&t->now, chain[i]))
			return error_set(err, EACCES, "the client's certificate was revoked");
	if (status == 0)
		return 0;
	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0) < 0)
		return error_set(err, EACCES, "the client's certificate is not good");
	(void)error_set(err, EACCES, "the client's certificate is not good: %s", (const char *)why.data);
	gnutls_free(why.data);
	return -EACCES;
}

int tls_client(struct tls *t, gnutls_session_t session, struct user **ret, int64_t *ret_until_s, struct error *err) {
	gnutls_x509_crt_t chain[CHAIN_MAX];
	struct user *u = NULL;
	int64_t until = INT64_MAX;
	unsigned n;
	int r = import_chain(session, chain, &n, err);
	if (r == 0 && n > 0 && !t->now.trust)
		r = error_set(err, EACCES, "this server accepts no client certificates: it has no authority for them");
	if (r == 0 && n > 0)
		r = tls_verify(t, chain, n, err);
	if (r == 0 && n > 0)
		r = user_of(chain[0], &u, err);
	for (unsigned i = 0; i < n; i++) {
		until = MIN(until, (int64_t)gnutls_x509_crt_get_expiration_time(chain[i]));
		gnutls_x509_crt_deinit(chain[i]);
	}
	if (r < 0)
		return r;
	*ret = u;
	*ret_until_s = until;
	return 0;
}
