/* SPDX-License-Identifier: Apache-2.0 */
#include "base/eckey.h"

#include <stdint.h>
#include <string.h>

#define OCTETS 32 /* octets of a number on P-256 */

/* ECPrivateKey of RFC 5915 for P-256. Every length in it is fixed, so the DER bytes around the three numbers are fixed,
 * too. */
static const unsigned char before_value[] = {0x30, 0x77, 0x02, 0x01, 0x01, 0x04, OCTETS};
static const unsigned char before_point[] = {0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                             0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42, 0x00, 0x04};
struct sec1 {
	unsigned char before_value[sizeof(before_value)], value[OCTETS];
	unsigned char before_point[sizeof(before_point)], x[OCTETS], y[OCTETS];
};
_Static_assert(sizeof(struct sec1) == 2 + 0x77, "the length of the outer sequence");

int eckey_new(gnutls_x509_privkey_t *ret, struct error *err) {
	gnutls_x509_privkey_t key = NULL;
	int e = gnutls_x509_privkey_init(&key);
	if (e == 0)
		e = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
		                                 0);
	if (e < 0) {
		gnutls_x509_privkey_deinit(key);
		return error_set(err, e == GNUTLS_E_MEMORY_ERROR ? ENOMEM : EIO, "make a private key: %s",
		                 gnutls_strerror(e));
	}
	*ret = key;
	return 0;
}

/* Writes the number N, which may have leading zero octets or lack them, as exactly OCTETS octets. False if N is too
 * long. */
static bool octets(const gnutls_datum_t *n, unsigned char out[static OCTETS]) {
	const unsigned char *p = n->data;
	size_t len = n->size;
	for (; len > OCTETS && *p == 0; p++, len--) {
	}
	if (len > OCTETS)
		return false;
	memset(out, 0, OCTETS - len);
	memcpy(out + OCTETS - len, p, len);
	return true;
}

static void wipe(gnutls_datum_t *d) {
	if (d->data)
		explicit_bzero(d->data, d->size);
	gnutls_free(d->data);
}

int eckey_print(gnutls_x509_privkey_t key, struct buf *pem, struct error *err) {
	gnutls_ecc_curve_t curve;
	gnutls_datum_t x = {0}, y = {0}, value = {0}, text = {0};
	struct sec1 der;
	int e = gnutls_x509_privkey_export_ecc_raw(key, &curve, &x, &y, &value);
	bool fits = e == 0 && curve == GNUTLS_ECC_CURVE_SECP256R1 && octets(&value, der.value) && octets(&x, der.x) &&
	            octets(&y, der.y);
	if (fits) {
		memcpy(der.before_value, before_value, sizeof(before_value));
		memcpy(der.before_point, before_point, sizeof(before_point));
		const gnutls_datum_t in = {(unsigned char *)&der, sizeof(der)};
		e = gnutls_pem_base64_encode2("EC PRIVATE KEY", &in, &text);
	}
	if (fits && e == 0)
		buf_add(pem, text.data, text.size);
	explicit_bzero(&der, sizeof(der));
	wipe(&value);
	wipe(&text);
	gnutls_free(x.data);
	gnutls_free(y.data);
	if (e < 0)
		return error_set(err, e == GNUTLS_E_MEMORY_ERROR ? ENOMEM : EINVAL, "print a private key: %s",
		                 gnutls_strerror(e));
	return fits ? buf_error(pem, "private key", err) : error_set(err, EINVAL, "the key is not on the curve P-256");
}

/* Decodes the PEM block with the label HEADER. The caller wipes and frees its bytes. */
static bool pem_block(const char *header, const char *pem, size_t len, gnutls_datum_t *ret) {
	const gnutls_datum_t in = {(unsigned char *)pem, (unsigned)len};
	return len <= UINT32_MAX && gnutls_pem_base64_decode2(header, &in, ret) == 0;
}

const char *eckey_refused(const char *pem, size_t len) {
	/* id-ecPublicKey (RFC 5480 section 2.1.1). */
	static const unsigned char ec[] = {0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01};
	/* Version 1 and the tag and length of a value of 33 octets, whose first octet is zero. */
	static const unsigned char longer[] = {0x02, 0x01, 0x01, 0x04, OCTETS + 1, 0x00};
	gnutls_datum_t der = {0};
	bool pkcs8 = false, sec1 = pem_block("EC PRIVATE KEY", pem, len, &der);
	if (!sec1)
		pkcs8 = pem_block("PRIVATE KEY", pem, len, &der) && memmem(der.data, der.size, ec, sizeof(ec));
	bool too_long = (sec1 || pkcs8) && memmem(der.data, der.size, longer, sizeof(longer));
	wipe(&der);
	if (too_long)
		return "its value has 33 octets instead of the 32 of RFC 5915, so clients that use rustls (kube-rs) "
		       "refuse it";
	return pkcs8 ? "it is in PKCS #8, and fabric8's Java client reads EC keys only in SEC1" : NULL;
}
