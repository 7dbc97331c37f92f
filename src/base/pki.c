/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pki.h"

#include <ctype.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"
#include "base/eckey.h"
#include "base/inet.h"
#include "base/jsonwrite.h"
#include "base/util.h"

#define DAY_S      ((int64_t)24 * 3600)
#define BACKDATE_S 300 /* clocks differ */
#define SERIAL_LEN 16

DEFINE_CLEANUP(crt, gnutls_x509_crt_t, gnutls_x509_crt_deinit)
DEFINE_CLEANUP(crl, gnutls_x509_crl_t, gnutls_x509_crl_deinit)
DEFINE_CLEANUP(privkey, gnutls_x509_privkey_t, gnutls_x509_privkey_deinit)
#define _crt_     _cleanup_(cleanup_crt)
#define _crl_     _cleanup_(cleanup_crl)
#define _privkey_ _cleanup_(cleanup_privkey)

static int tls_error(struct error *err, int e, const char *what) {
	return error_set(err, e == GNUTLS_E_MEMORY_ERROR ? ENOMEM : EINVAL, "%s: %s", what, gnutls_strerror(e));
}

/* ---- files ---- */

static char *ca_path(const char *dir, const char *file) {
	return strf("%s/%s", dir, file);
}

/* Reads PATH into *RET; the caller frees its bytes. */
static int read_pem(const char *path, gnutls_datum_t *ret, struct error *err) {
	char *data;
	size_t len;
	int r = read_file(path, PKI_FILE_MAX, &data, &len, err);
	if (r < 0)
		return r;
	*ret = (gnutls_datum_t){(unsigned char *)data, (unsigned)len};
	return 0;
}

static int parse_crt(const char *path, const gnutls_datum_t *pem, gnutls_x509_crt_t *ret, struct error *err) {
	_crt_ gnutls_x509_crt_t crt = NULL;
	int e = gnutls_x509_crt_init(&crt);
	if (e == 0)
		e = gnutls_x509_crt_import(crt, pem, GNUTLS_X509_FMT_PEM);
	if (e < 0)
		return error_set(err, EINVAL, "`%s` holds no certificate: %s", path, gnutls_strerror(e));
	*ret = TAKE_PTR(crt);
	return 0;
}

static int load_crt(const char *path, gnutls_x509_crt_t *ret, struct error *err) {
	gnutls_datum_t pem;
	int r = read_pem(path, &pem, err);
	if (r < 0)
		return r;
	r = parse_crt(path, &pem, ret, err);
	free(pem.data);
	return r;
}

static int load_key(const char *path, gnutls_x509_privkey_t *ret, struct error *err) {
	gnutls_datum_t pem;
	_privkey_ gnutls_x509_privkey_t key = NULL;
	int r = read_pem(path, &pem, err);
	if (r)
		return r;
	int e = gnutls_x509_privkey_init(&key);
	if (e == 0)
		e = gnutls_x509_privkey_import2(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	explicit_bzero(pem.data, pem.size);
	free(pem.data);
	if (e < 0)
		return error_set(err, EINVAL, "`%s` holds no private key: %s", path, gnutls_strerror(e));
	*ret = TAKE_PTR(key);
	return 0;
}

static int add_crt(struct buf *b, gnutls_x509_crt_t crt, struct error *err) {
	gnutls_datum_t out;
	int e = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &out);
	if (e < 0)
		return tls_error(err, e, "print a certificate");
	buf_add(b, out.data, out.size);
	gnutls_free(out.data);
	return buf_error(b, "certificate", err);
}

/* Writes the key first, so that a reader of the new certificate finds its key. */
static int write_pair(const char *key_path, const struct buf *key, const char *crt_path, const struct buf *crt,
                      struct error *err) {
	int r = write_file_atomic(key_path, key->data, key->len, 0600, err);
	return r < 0 ? r : write_file_atomic(crt_path, crt->data, crt->len, 0644, err);
}

/* ---- certificates ---- */

static int pki_check_name(const char *what, const char *name, struct error *err) {
	size_t len = name ? strlen(name) : 0;
	if (len == 0 || len > PKI_NAME_MAX)
		return error_set(err, EINVAL, "%s: must have 1 to %d bytes", what, PKI_NAME_MAX);
	for (const char *p = name; *p; p++)
		if (iscntrl((unsigned char)*p))
			return error_set(err, EINVAL, "%s `%.64s`: control characters are not allowed", what, name);
	return 0;
}

static int set_dn(gnutls_x509_crt_t crt, const char *oid, const char *what, const char *value, struct error *err) {
	int r = pki_check_name(what, value, err);
	if (r < 0)
		return r;
	int e = gnutls_x509_crt_set_dn_by_oid(crt, oid, 0, value, (unsigned)strlen(value));
	return e < 0 ? error_set(err, EINVAL, "%s `%s` can't be put into a certificate: %s", what, value,
	                         gnutls_strerror(e))
	             : 0;
}

static int set_host(gnutls_x509_crt_t crt, const char *name, struct error *err) {
	struct addr a;
	int e;
	if (addr_parse(name, &a, NULL) == 0)
		e = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, a.bytes,
		                                         a.family == AF_INET ? 4 : 16, GNUTLS_FSAN_APPEND);
	else {
		size_t len = strlen(name);
		if (len == 0 || len > 253 ||
		    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		                 "0123456789-.*") != len)
			return error_set(err, EINVAL, "`%.64s` is neither an address nor a DNS name", name);
		e = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)len,
		                                         GNUTLS_FSAN_APPEND);
	}
	return e < 0 ? error_set(err, EINVAL, "name `%s` can't be put into a certificate: %s", name, gnutls_strerror(e))
	             : 0;
}

/* What all certificates have: version, serial number, validity, key and key id. */
static int pki_begin(gnutls_x509_crt_t *ret, gnutls_x509_privkey_t key, int64_t end_s, struct error *err) {
	_crt_ gnutls_x509_crt_t crt = NULL;
	unsigned char serial[SERIAL_LEN], id[64];
	size_t id_len = sizeof(id);
	random_bytes(serial, sizeof(serial));
	serial[0] = (serial[0] & 0x3f) | 0x40; /* positive and without leading zeros */
	int e = gnutls_x509_crt_init(&crt);
	if (e == 0)
		e = gnutls_x509_crt_set_version(crt, 3);
	if (e == 0)
		e = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
	if (e == 0)
		e = gnutls_x509_crt_set_activation_time(crt, time(NULL) - BACKDATE_S);
	if (e == 0)
		e = gnutls_x509_crt_set_expiration_time(crt, end_s);
	if (e == 0)
		e = gnutls_x509_crt_set_key(crt, key);
	if (e == 0)
		e = gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA1, id, &id_len);
	if (e == 0)
		e = gnutls_x509_crt_set_subject_key_id(crt, id, id_len);
	if (e < 0)
		return tls_error(err, e, "make a certificate");
	*ret = TAKE_PTR(crt);
	return 0;
}

static int sign(gnutls_x509_crt_t crt, gnutls_x509_crt_t ca, gnutls_x509_privkey_t ca_key, struct error *err) {
	unsigned char id[64];
	size_t len = sizeof(id);
	int e = gnutls_x509_crt_get_subject_key_id(ca, id, &len, NULL);
	if (e == 0)
		e = gnutls_x509_crt_set_authority_key_id(crt, id, len);
	else if (e == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		e = 0;
	if (e == 0)
		e = gnutls_x509_crt_sign2(crt, ca, ca_key, GNUTLS_DIG_SHA256, 0);
	return e < 0 ? tls_error(err, e, "sign a certificate") : 0;
}

/* ---- the authority ---- */

struct authority {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
};

static void authority_done(struct authority *a) {
	cleanup_crt(&a->crt);
	cleanup_privkey(&a->key);
}

static int authority_load(const char *dir, struct authority *a, struct error *err) {
	_free_ char *crt = ca_path(dir, "ca.crt"), *key = ca_path(dir, "ca.key");
	unsigned char crt_id[64], key_id[64];
	size_t crt_len = sizeof(crt_id), key_len = sizeof(key_id);
	if (!crt || !key)
		return error_oom(err);
	int r = load_crt(crt, &a->crt, err);
	if (r == -ENOENT)
		return error_set(err, ENOENT, "there is no authority in `%s`; make one with `nacre pki init %s`", dir,
		                 dir);
	if (r == 0)
		r = load_key(key, &a->key, err);
	if (r < 0)
		return r;
	if (gnutls_x509_crt_get_key_id(a->crt, GNUTLS_KEYID_USE_SHA256, crt_id, &crt_len) < 0 ||
	    gnutls_x509_privkey_get_key_id(a->key, GNUTLS_KEYID_USE_SHA256, key_id, &key_len) < 0 ||
	    crt_len != key_len || memcmp(crt_id, key_id, crt_len) != 0)
		return error_set(err, EINVAL, "`%s` is not the key of `%s`; restore the right one", key, crt);
	if (gnutls_x509_crt_get_expiration_time(a->crt) <= time(NULL))
		return error_set(err, EKEYEXPIRED,
		                 "authority `%s` has expired; make a new one in another directory with `nacre pki "
		                 "init`",
		                 crt);
	return 0;
}

static int authority_make(const char *name, struct buf *crt, struct buf *key, struct error *err) {
	_cleanup_(authority_done) struct authority a = {0};
	int r = eckey_new(&a.key, err);
	if (r == 0)
		r = pki_begin(&a.crt, a.key, time(NULL) + PKI_CA_DAYS * DAY_S, err);
	if (r == 0)
		r = set_dn(a.crt, GNUTLS_OID_X520_COMMON_NAME, "authority", name, err);
	if (r < 0)
		return r;
	int e = gnutls_x509_crt_set_basic_constraints(a.crt, 1, 0);
	if (e == 0)
		e = gnutls_x509_crt_set_key_usage(a.crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN);
	if (e < 0)
		return tls_error(err, e, "make an authority");
	r = sign(a.crt, a.crt, a.key, err);
	if (r == 0)
		r = eckey_print(a.key, key, err);
	return r < 0 ? r : add_crt(crt, a.crt, err);
}

int pki_init(const char *dir, const char *name, struct error *err) {
	_cleanup_(authority_done) struct authority a = {0};
	_free_ char *crt_path = ca_path(dir, "ca.crt"), *key_path = ca_path(dir, "ca.key");
	_buf_free_ struct buf crt = {0}, key = {0};
	if (!crt_path || !key_path)
		return error_oom(err);
	bool has_crt = access(crt_path, F_OK) == 0, has_key = access(key_path, F_OK) == 0;
	/* A key without a certificate is left by a crash between the two writes; nothing was signed with it, so it is
	 * replaced. */
	if (has_crt && has_key)
		return authority_load(dir, &a, err);
	if (has_crt)
		return error_set(err, ENOENT,
		                 "`%s` exists, but its key `%s` does not; restore the key, or remove both files",
		                 crt_path, key_path);
	int r = mkdir_p(dir, 0755, err);
	if (r == 0)
		r = authority_make(name, &crt, &key, err);
	return r < 0 ? r : write_pair(key_path, &key, crt_path, &crt, err);
}

/* ---- certificates of servers and clients ---- */

static int pki_fill(gnutls_x509_crt_t crt, const struct pki_request *rq, struct error *err) {
	if (rq->n_groups > PKI_NAMES_MAX || rq->n_names > PKI_NAMES_MAX)
		return error_set(err, E2BIG, "a certificate takes at most %d groups and %d names", PKI_NAMES_MAX,
		                 PKI_NAMES_MAX);
	if (rq->server && rq->n_names == 0)
		return error_set(err, EINVAL, "a server's certificate needs at least one name or address");
	int r = 0;
	for (size_t i = 0; r == 0 && i < rq->n_groups; i++)
		r = set_dn(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, "group", rq->groups[i], err);
	if (r == 0)
		r = set_dn(crt, GNUTLS_OID_X520_COMMON_NAME, rq->server ? "name" : "user", rq->name, err);
	for (size_t i = 0; r == 0 && i < rq->n_names; i++)
		r = set_host(crt, rq->names[i], err);
	if (r < 0)
		return r;
	int e = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
	if (e == 0)
		e = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
	if (e == 0)
		e = gnutls_x509_crt_set_key_purpose_oid(
			crt, rq->server ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT, 0);
	return e < 0 ? tls_error(err, e, "make a certificate") : 0;
}

int pki_issue(const char *dir, const struct pki_request *rq, struct buf *cert, struct buf *key, struct error *err) {
	_cleanup_(authority_done) struct authority a = {0};
	_privkey_ gnutls_x509_privkey_t own = NULL;
	_crt_ gnutls_x509_crt_t crt = NULL;
	int64_t days = rq->days ? rq->days : PKI_DAYS;
	if (days < 0 || days > PKI_CA_DAYS)
		return error_set(err, EINVAL, "a certificate lives for 1 to %d days, not %lld", PKI_CA_DAYS,
		                 (long long)days);
	int r = authority_load(dir, &a, err);
	if (r == 0)
		r = eckey_new(&own, err);
	if (r < 0)
		return r;
	int64_t end = MIN((int64_t)time(NULL) + days * DAY_S, (int64_t)gnutls_x509_crt_get_expiration_time(a.crt));
	r = pki_begin(&crt, own, end, err);
	if (r == 0)
		r = pki_fill(crt, rq, err);
	if (r == 0)
		r = sign(crt, a.crt, a.key, err);
	if (r == 0)
		r = eckey_print(own, key, err);
	return r < 0 ? r : add_crt(cert, crt, err);
}

int pki_issue_files(const char *dir, const struct pki_request *rq, const char *prefix, struct error *err) {
	_buf_free_ struct buf crt = {0}, key = {0};
	_free_ char *crt_path = strf("%s.crt", prefix), *key_path = strf("%s.key", prefix);
	if (!crt_path || !key_path)
		return error_oom(err);
	int r = pki_issue(dir, rq, &crt, &key, err);
	return r < 0 ? r : write_pair(key_path, &key, crt_path, &crt, err);
}

/* Appends the decoded base64 value of KEY in the kubeconfig TEXT; appends nothing if TEXT has no KEY. */
static void kubeconfig_data(const char *text, const char *key, struct buf *out) {
	const char *p = strstr(text, key);
	size_t at;
	if (!p)
		return;
	p += strlen(key);
	p += strspn(p, " \"'");
	if (base64_decode(out, p, strcspn(p, " \"'\r\n"), &at) < 0)
		buf_reset(out);
}

static int info_crt(const char *path, const char *text, size_t len, struct pki_info *i, struct error *err) {
	_crt_ gnutls_x509_crt_t crt = NULL;
	gnutls_datum_t dn;
	const gnutls_datum_t pem = {(unsigned char *)text, (unsigned)len};
	int r = parse_crt(path, &pem, &crt, err);
	if (r < 0)
		return r;
	i->certificate = true;
	i->not_before_s = gnutls_x509_crt_get_activation_time(crt);
	i->not_after_s = gnutls_x509_crt_get_expiration_time(crt);
	if (gnutls_x509_crt_get_dn3(crt, &dn, 0) == 0) {
		snprintf(i->subject, sizeof(i->subject), "%.*s", (int)dn.size, (const char *)dn.data);
		gnutls_free(dn.data);
	}
	i->due = i->not_after_s - time(NULL) < (i->not_after_s - i->not_before_s) / 3;
	return 0;
}

/* Appends the PEM of PATH, or the PEM inside PATH if it is a kubeconfig. The caller wipes OUT, which may hold a key. */
static int read_all(const char *path, struct buf *out, struct error *err) {
	char *text;
	size_t len;
	int r = read_file(path, PKI_FILE_MAX, &text, &len, err);
	if (r < 0)
		return r;
	if (strstr(text, "-----BEGIN "))
		buf_add(out, text, len);
	else {
		kubeconfig_data(text, "client-certificate-data:", out);
		kubeconfig_data(text, "client-key-data:", out);
	}
	explicit_bzero(text, len);
	free(text);
	return buf_error(out, path, err);
}

static void pki_wipe(struct buf *b) {
	if (b->data)
		explicit_bzero(b->data, b->len);
	buf_free(b);
}

int pki_info(const char *path, struct pki_info *ret, struct error *err) {
	_cleanup_(pki_wipe) struct buf all = {.max = 2 * PKI_FILE_MAX};
	struct pki_info i = {0};
	int r = read_all(path, &all, err);
	const char *pem = all.data ? all.data : "";
	bool key = strstr(pem, "PRIVATE KEY-----");
	if (r == 0 && (!key || strstr(pem, "BEGIN CERTIFICATE-----")))
		r = info_crt(path, pem, all.len, &i, err);
	if (r == 0 && key) {
		i.refused = eckey_refused(pem, all.len);
		i.due = i.due || i.refused;
	}
	if (r < 0)
		return r;
	*ret = i;
	return 0;
}

bool pki_due(const char *path) {
	struct pki_info i;
	return pki_info(path, &i, NULL) < 0 || i.due;
}

/* ---- revocation ---- */

struct entry {
	unsigned char serial[64];
	size_t len;
	time_t when;
};

/* Reads the next entry of CRL; *IT is NULL at first. False after the last one. */
static bool next_entry(gnutls_x509_crl_t crl, gnutls_x509_crl_iter_t *it, struct entry *e) {
	e->len = sizeof(e->serial);
	if (gnutls_x509_crl_iter_crt_serial(crl, it, e->serial, &e->len, &e->when) == 0)
		return true;
	gnutls_x509_crl_iter_deinit(*it);
	*it = NULL;
	return false;
}

static int pki_add_entry(gnutls_x509_crl_t crl, const struct entry *e, struct error *err) {
	int r = gnutls_x509_crl_set_crt_serial(crl, e->serial, e->len, e->when);
	return r < 0 ? tls_error(err, r, "revoke a certificate") : 0;
}

static int revoke_entry(gnutls_x509_crl_t crl, struct entry *new, struct error *err) {
	gnutls_x509_crl_iter_t it = NULL;
	struct entry e;
	bool there = false;
	while (next_entry(crl, &it, &e))
		there |= e.len == new->len &&memcmp(e.serial, new->serial, e.len) == 0;
	new->when = time(NULL);
	return there ? 0 : pki_add_entry(crl, new, err);
}

/* Copies the entries of the list PATH, which another program may have made. Does nothing if PATH does not exist. */
static int add_old(const char *path, gnutls_x509_crt_t ca, gnutls_x509_crl_t crl, struct error *err) {
	gnutls_datum_t pem;
	_crl_ gnutls_x509_crl_t old = NULL;
	unsigned status = 0;
	int r = read_pem(path, &pem, err);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	int e = gnutls_x509_crl_init(&old);
	if (e == 0)
		e = gnutls_x509_crl_import(old, &pem, GNUTLS_X509_FMT_PEM);
	if (e == 0)
		e = gnutls_x509_crl_verify(old, &ca, 1, 0, &status);
	free(pem.data);
	/* An expired list is accepted: it is about to be made anew. */
	if (e < 0 || (status & (GNUTLS_CERT_SIGNATURE_FAILURE | GNUTLS_CERT_SIGNER_NOT_FOUND)))
		return error_set(err, EINVAL,
		                 "`%s` was not signed by this authority; restore the right list, or remove the file "
		                 "and revoke each of its certificates again",
		                 path);
	gnutls_x509_crl_iter_t it = NULL;
	struct entry entry;
	while (r == 0 && next_entry(old, &it, &entry))
		r = pki_add_entry(crl, &entry, err);
	gnutls_x509_crl_iter_deinit(it);
	return r;
}

static int revoke_file(const struct authority *a, gnutls_x509_crl_t crl, const char *path, struct error *err) {
	_cleanup_(pki_wipe) struct buf pem = {.max = 2 * PKI_FILE_MAX};
	_crt_ gnutls_x509_crt_t crt = NULL;
	struct entry entry = {.len = sizeof(entry.serial)};
	unsigned status = 0;
	int r = read_all(path, &pem, err);
	if (r < 0)
		return r;
	const gnutls_datum_t text = {(unsigned char *)pem.data, (unsigned)pem.len};
	r = parse_crt(path, &text, &crt, err);
	if (r < 0)
		return r;
	if (gnutls_x509_crt_verify(crt, &a->crt, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status) < 0 || status)
		return error_set(err, EINVAL, "`%s` was not issued by this authority", path);
	int e = gnutls_x509_crt_get_serial(crt, entry.serial, &entry.len);
	return e < 0 ? tls_error(err, e, path) : revoke_entry(crl, &entry, err);
}

static int revoke_hex(gnutls_x509_crl_t crl, const char *hex, struct error *err) {
	struct entry entry = {.len = sizeof(entry.serial)};
	size_t n = strlen(hex);
	const gnutls_datum_t text = {(unsigned char *)hex, (unsigned)n};
	if (n == 0 || n > 40 || n % 2 || strspn(hex, "0123456789abcdefABCDEF") != n ||
	    gnutls_hex_decode(&text, entry.serial, &entry.len) < 0)
		return error_set(err, EINVAL,
		                 "serial `%.64s`: must be two hexadecimal digits for each octet, at most 20 octets "
		                 "(`openssl x509 -serial` prints it)",
		                 hex);
	/* DER needs a zero byte before a number whose first bit is set, as it would be negative (RFC 5280, 4.1.2.2). */
	if (entry.serial[0] & 0x80) {
		memmove(entry.serial + 1, entry.serial, entry.len++);
		entry.serial[0] = 0;
	}
	return revoke_entry(crl, &entry, err);
}

/* The list is valid as long as the authority: if nobody signs it anew, revoked users must stay out and others must stay
 * in. */
static int sign_crl(const struct authority *a, gnutls_x509_crl_t crl, struct buf *out, struct error *err) {
	unsigned char number[8], id[64];
	size_t len = sizeof(id);
	uint64_t us = now_realtime_us(); /* numbers must grow (RFC 5280, 5.2.3), and no other counter is stored */
	gnutls_datum_t pem;
	for (size_t i = 0; i < sizeof(number); i++)
		number[i] = (unsigned char)(us >> (56 - 8 * i));
	int e = gnutls_x509_crl_set_version(crl, 2);
	if (e == 0)
		e = gnutls_x509_crl_set_this_update(crl, time(NULL) - BACKDATE_S);
	if (e == 0)
		e = gnutls_x509_crl_set_next_update(crl, gnutls_x509_crt_get_expiration_time(a->crt));
	if (e == 0)
		e = gnutls_x509_crl_set_number(crl, number, sizeof(number));
	if (e == 0 && gnutls_x509_crt_get_subject_key_id(a->crt, id, &len, NULL) == 0)
		e = gnutls_x509_crl_set_authority_key_id(crl, id, len);
	if (e == 0)
		e = gnutls_x509_crl_sign2(crl, a->crt, a->key, GNUTLS_DIG_SHA256, 0);
	if (e == 0)
		e = gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem);
	if (e < 0)
		return tls_error(err, e, "sign the list of revoked certificates");
	buf_add(out, pem.data, pem.size);
	gnutls_free(pem.data);
	return buf_error(out, "list of revoked certificates", err);
}

int pki_revoke(const char *dir, const char *const *files, size_t n_files, const char *const *serials, size_t n_serials,
               size_t *ret_n, struct error *err) {
	_cleanup_(authority_done) struct authority a = {0};
	_crl_ gnutls_x509_crl_t crl = NULL;
	_free_ char *path = ca_path(dir, "ca.crl");
	_buf_free_ struct buf out = {.max = PKI_FILE_MAX};
	if (!path)
		return error_oom(err);
	int r = authority_load(dir, &a, err);
	if (r == 0 && gnutls_x509_crl_init(&crl) < 0)
		r = error_oom(err);
	if (r == 0)
		r = add_old(path, a.crt, crl, err);
	for (size_t i = 0; r == 0 && i < n_files; i++)
		r = revoke_file(&a, crl, files[i], err);
	for (size_t i = 0; r == 0 && i < n_serials; i++)
		r = revoke_hex(crl, serials[i], err);
	if (r == 0)
		r = sign_crl(&a, crl, &out, err);
	if (r == 0)
		r = write_file_atomic(path, out.data, out.len, 0644, err);
	if (r == 0)
		*ret_n = (size_t)gnutls_x509_crl_get_crt_count(crl);
	return r;
}

void pki_file_name(const char *name, char out[static PKI_NAME_MAX + 1]) {
	snprintf(out, PKI_NAME_MAX + 1, "%s", name);
	for (char *p = out; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-' && (*p != '.' || p == out))
			*p = '-';
}

/* ---- kubeconfigs ---- */

static int kv_base64(struct buf *out, const char *key, const void *data, size_t len, struct error *err) {
	gnutls_datum_t in = {(unsigned char *)data, (unsigned)len}, text;
	int e = gnutls_base64_encode2(&in, &text);
	if (e < 0)
		return tls_error(err, e, "encode");
	buf_printf(out, "    %s: %.*s\n", key, (int)text.size, (const char *)text.data);
	gnutls_free(text.data);
	return 0;
}

/* A JSON string is also a YAML string. */
static void kv(struct buf *out, const char *lead, const char *value) {
	_buf_free_ struct buf quoted = {0};
	jw_string(&quoted, value);
	buf_puts(out, lead);
	buf_add(out, quoted.data, quoted.len);
	buf_putc(out, '\n');
}

int pki_kubeconfig(const char *dir, const struct pki_kubeconfig *k, const struct buf *cert, const struct buf *key,
                   struct buf *out, struct error *err) {
	_free_ char *ca_file = ca_path(dir, "ca.crt"), *ca = NULL;
	const char *cluster = k->cluster ? k->cluster : "nacre";
	size_t ca_len;
	if (!ca_file)
		return error_oom(err);
	int r = read_file(ca_file, PKI_FILE_MAX, &ca, &ca_len, err);
	if (r < 0)
		return r;
	_free_ char *context = strf("%s@%s", k->user, cluster);
	if (!context)
		return error_oom(err);
	buf_puts(out, "apiVersion: v1\nkind: Config\nclusters:\n");
	kv(out, "- name: ", cluster);
	kv(out, "  cluster:\n    server: ", k->server);
	r = kv_base64(out, "certificate-authority-data", ca, ca_len, err);
	kv(out, "users:\n- name: ", k->user);
	buf_puts(out, "  user:\n");
	if (r == 0)
		r = kv_base64(out, "client-certificate-data", cert->data, cert->len, err);
	if (r == 0)
		r = kv_base64(out, "client-key-data", key->data, key->len, err);
	kv(out, "contexts:\n- name: ", context);
	kv(out, "  context:\n    cluster: ", cluster);
	kv(out, "    user: ", k->user);
	if (k->ns)
		kv(out, "    namespace: ", k->ns);
	kv(out, "current-context: ", context);
	return r < 0 ? r : buf_error(out, "kubeconfig", err);
}

int pki_kubeconfig_file(const char *dir, const struct pki_request *rq, struct pki_kubeconfig k, const char *path,
                        struct error *err) {
	_buf_free_ struct buf crt = {0}, key = {0}, out = {0};
	k.user = rq->name;
	if (!starts_with(k.server, "https://"))
		return error_set(err, EINVAL, "server `%s`: must be https://NAME[:PORT]", k.server);
	int r = pki_issue(dir, rq, &crt, &key, err);
	if (r == 0)
		r = pki_kubeconfig(dir, &k, &crt, &key, &out, err);
	return r < 0 ? r : write_file_atomic(path, out.data, out.len, 0600, err);
}
