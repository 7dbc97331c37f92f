/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/token.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <string.h>

#include "base/base64.h"
#include "base/eckey.h"
#include "base/util.h"

#define KEY_FILE_MAX 16384
#define HALF         ((size_t)32) /* bytes of each of r and s, the halves of a signature */
#define KID_MAX      64

struct token_key {
	gnutls_privkey_t private;
	gnutls_pubkey_t public;
	char kid[KID_MAX];
};

/* ---- base64url without padding, RFC 7515 ---- */

static void encode(struct buf *out, const void *data, size_t len) {
	size_t at = out->len;
	base64_encode(out, data, len);
	if (out->failed)
		return;
	for (char *p = out->data + at; *p; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	while (out->len > at && out->data[out->len - 1] == '=')
		out->data[--out->len] = '\0';
}

static int decode(struct buf *out, const char *text, size_t len) {
	char block[TOKEN_MAX + 4];
	size_t at;
	if (len > TOKEN_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '+' || text[i] == '/' || text[i] == '=')
			return -EINVAL;
		block[i] = (char)(text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i]);
	}
	while (len % 4)
		block[len++] = '=';
	int r = base64_decode(out, block, len, &at);
	return r < 0 ? r : out->failed ? -ENOMEM : 0;
}

/* ---- keys ---- */

struct token_key *token_key_free(struct token_key *k) {
	if (!k)
		return NULL;
	if (k->private)
		gnutls_privkey_deinit(k->private);
	if (k->public)
		gnutls_pubkey_deinit(k->public);
	free(k);
	return NULL;
}

static int make_key(struct buf *pem, struct error *err) {
	gnutls_x509_privkey_t key;
	int r = eckey_new(&key, err);
	if (r < 0)
		return r;
	r = eckey_print(key, pem, err);
	gnutls_x509_privkey_deinit(key);
	return r;
}

static int import_key(struct token_key *k, const char *pem, size_t len, const char *where, struct error *err) {
	const gnutls_datum_t text = {(unsigned char *)pem, (unsigned)len};
	gnutls_ecc_curve_t curve;
	unsigned char id[HALF];
	size_t id_len = sizeof(id);
	_buf_free_ struct buf kid = {.max = KID_MAX - 1};
	int e = gnutls_privkey_init(&k->private);
	if (e == 0)
		e = gnutls_pubkey_init(&k->public);
	if (e == 0)
		e = gnutls_privkey_import_x509_raw(k->private, &text, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (e == 0)
		e = gnutls_pubkey_import_privkey(k->public, k->private, 0, 0);
	if (e < 0)
		return error_set(err, EINVAL,
		                 "`%s` holds no private key: %s; restore it from a backup, or remove it: the server "
		                 "then makes a new key, "
		                 "and all tokens issued so far are void",
		                 where, gnutls_strerror(e));
	if (gnutls_pubkey_export_ecc_raw2(k->public, &curve, NULL, NULL, 0) < 0 || curve != GNUTLS_ECC_CURVE_SECP256R1)
		return error_set(err, EINVAL, "the key in `%s` is not an ECDSA P-256 key, which ES256 requires", where);
	e = gnutls_pubkey_get_key_id(k->public, GNUTLS_KEYID_USE_SHA256, id, &id_len);
	if (e < 0)
		return error_set(err, EINVAL, "`%s`: %s", where, gnutls_strerror(e));
	encode(&kid, id, id_len);
	snprintf(k->kid, sizeof(k->kid), "%s", kid.data ? kid.data : "");
	return buf_error(&kid, "key id", err);
}

int token_key_load(struct token_key **ret, const char *path, struct error *err) {
	_cleanup_(cleanup_token_key) struct token_key *k = calloc(1, sizeof(*k));
	_buf_free_ struct buf pem = {.max = KEY_FILE_MAX};
	char *data = NULL;
	size_t len;
	if (!k)
		return error_oom(err);
	int r = path ? read_file(path, KEY_FILE_MAX, &data, &len, err) : -ENOENT;
	if (r == 0) {
		buf_add(&pem, data, len);
		explicit_bzero(data, len);
		free(data);
	} else if (r == -ENOENT) {
		r = make_key(&pem, err);
		if (r == 0 && path)
			r = write_file_atomic(path, pem.data, pem.len, 0600, err);
	}
	if (r == 0)
		r = import_key(k, pem.data ? pem.data : "", pem.len, path ? path : "memory", err);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

/* ---- signing ---- */

/* Converts an ASN.1 integer to HALF bytes. */
static int fixed(const gnutls_datum_t *n, unsigned char out[static HALF]) {
	const unsigned char *p = n->data;
	size_t len = n->size;
	while (len > 0 && *p == 0) {
		p++;
		len--;
	}
	if (len > HALF)
		return -EIO;
	memset(out, 0, HALF);
	memcpy(out + HALF - len, p, len);
	return 0;
}

char *token_sign(const struct token_key *k, const json_t *claims, struct error *err) {
	_buf_free_ struct buf out = {.max = TOKEN_MAX}, header = {.max = 256};
	_free_ char *text = json_dumps(claims, JSON_COMPACT);
	unsigned char raw[2 * HALF];
	gnutls_datum_t sig = {0}, rr = {0}, ss = {0};
	buf_printf(&header, "{\"alg\":\"ES256\",\"kid\":\"%s\"}", k->kid);
	if (!text || header.failed) {
		(void)error_oom(err);
		return NULL;
	}
	encode(&out, header.data, header.len);
	buf_putc(&out, '.');
	encode(&out, text, strlen(text));
	if (buf_error(&out, "token", err) < 0)
		return NULL;
	const gnutls_datum_t data = {(unsigned char *)out.data, (unsigned)out.len};
	int e = gnutls_privkey_sign_data2(k->private, GNUTLS_SIGN_ECDSA_SHA256, 0, &data, &sig);
	if (e == 0)
		e = gnutls_decode_rs_value(&sig, &rr, &ss);
	bool ok = e == 0 && fixed(&rr, raw) == 0 && fixed(&ss, raw + HALF) == 0;
	gnutls_free(sig.data);
	gnutls_free(rr.data);
	gnutls_free(ss.data);
	if (!ok) {
		(void)error_set(err, EIO, "sign a token: %s", gnutls_strerror(e));
		return NULL;
	}
	buf_putc(&out, '.');
	encode(&out, raw, sizeof(raw));
	return buf_error(&out, "token", err) < 0 ? NULL : buf_steal(&out);
}

/* ---- verifying ---- */

static int token_bad(struct error *err, const char *what) {
	return error_set(err, EACCES, "%s", what);
}

static json_t *decode_json(const char *text, size_t len) {
	_buf_free_ struct buf b = {.max = TOKEN_MAX};
	if (decode(&b, text, len) < 0)
		return NULL;
	json_t *json = json_loadb(b.data ? b.data : "", b.len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(json))
		return json;
	json_decref(json);
	return NULL;
}

static int check_header(const struct token_key *k, const char *text, size_t len, struct error *err) {
	json_t *h = decode_json(text, len);
	const char *alg = json_string_value(json_object_get(h, "alg")),
		   *kid = json_string_value(json_object_get(h, "kid"));
	int r = 0;
	if (!h)
		r = token_bad(err, "its header can't be read");
	else if (!streq(alg, "ES256") || json_object_get(h, "crit"))
		r = token_bad(err, "its signature is not of the kind that this issuer makes");
	else if (!streq(kid, k->kid))
		r = token_bad(err, "it is signed with another key");
	json_decref(h);
	return r;
}

static int check_signature(const struct token_key *k, const char *token, size_t signed_len, const char *sig_text,
                           struct error *err) {
	_buf_free_ struct buf raw = {.max = TOKEN_MAX};
	gnutls_datum_t sig = {0};
	if (decode(&raw, sig_text, strlen(sig_text)) < 0 || raw.len != 2 * HALF)
		return token_bad(err, "its signature can't be read");
	const gnutls_datum_t rr = {(unsigned char *)raw.data, HALF}, ss = {(unsigned char *)raw.data + HALF, HALF};
	const gnutls_datum_t data = {(unsigned char *)token, (unsigned)signed_len};
	if (gnutls_encode_rs_value(&sig, &rr, &ss) < 0)
		return error_oom(err);
	int e = gnutls_pubkey_verify_data2(k->public, GNUTLS_SIGN_ECDSA_SHA256, 0, &data, &sig);
	gnutls_free(sig.data);
	return e < 0 ? token_bad(err, "its signature is not good") : 0;
}

int token_verify(const struct token_key *k, const char *token, json_t **ret, struct error *err) {
	if (strlen(token) > TOKEN_MAX)
		return token_bad(err, "it is too long");
	const char *claims = strchr(token, '.'), *sig = claims ? strchr(claims + 1, '.') : NULL;
	if (!sig || strchr(sig + 1, '.'))
		return token_bad(err, "it doesn't have three parts");
	int r = check_header(k, token, (size_t)(claims - token), err);
	if (r == 0)
		r = check_signature(k, token, (size_t)(sig - token), sig + 1, err);
	if (r < 0)
		return r;
	json_t *json = decode_json(claims + 1, (size_t)(sig - claims - 1));
	if (!json)
		return token_bad(err, "its claims can't be read");
	*ret = json;
	return 0;
}
