/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <sys/stat.h>

#include "base/eckey.h"
#include "base/pki.h"
#include "base/proc.h"
#include "base/util.h"

static int set_up(void **state) {
	char dir[] = "/tmp/nacre-pki-XXXXXX";
	*state = test_mkdtemp(dir) ? strdup(dir) : NULL;
	return *state ? 0 : -1;
}

static int tear_down(void **state) {
	remove_tree(*state, NULL);
	free(*state);
	return 0;
}

static void test_issue(void **state) {
	static const char *const groups[] = {"system:nacre:hosts", "b"}, *const names[] = {"api.example", "::1"};
	const char *dir = *state;
	_free_ char *prefix = strf("%s/x", dir), *crt = strf("%s/x.crt", dir), *key = strf("%s/x.key", dir),
		    *ca = strf("%s/ca.crt", dir), *ca_key = strf("%s/ca.key", dir);
	struct pki_request rq = {.name = "system:nacre:host:h1", .groups = groups, .n_groups = 2, .days = 2};
	struct error err = {0};
	struct pki_info info;
	struct stat st;
	assert_int_equal(pki_issue_files(dir, &rq, prefix, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "nacre pki init"));
	assert_true(pki_due(crt));
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	assert_int_equal(pki_info(ca, &info, &err), 0);
	assert_string_equal(info.subject, "CN=ca");
	/* A second call keeps the existing authority. */
	_free_ char *before = NULL, *after = NULL;
	size_t len;
	assert_int_equal(read_file(ca_key, 4096, &before, &len, &err), 0);
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	assert_int_equal(read_file(ca_key, 4096, &after, &len, &err), 0);
	assert_string_equal(before, after);
	assert_int_equal(stat(ca_key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(pki_issue_files(dir, &rq, prefix, &err), 0);
	assert_int_equal(stat(key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(pki_info(crt, &info, &err), 0);
	assert_non_null(strstr(info.subject, "CN=system:nacre:host:h1"));
	assert_non_null(strstr(info.subject, "O=system:nacre:hosts"));
	assert_non_null(strstr(info.subject, "O=b"));
	assert_false(info.due);
	assert_int_equal(info.not_after_s - info.not_before_s, 2 * 24 * 3600 + 300);
	rq = (struct pki_request){.name = "server", .names = names, .n_names = 2, .server = true};
	assert_int_equal(pki_issue_files(dir, &rq, prefix, &err), 0);
	assert_false(pki_due(crt));
}

static void test_refused(void **state) {
	static const char *const bad[] = {"a b"};
	const char *dir = *state;
	char long_name[PKI_NAME_MAX + 2];
	_buf_free_ struct buf crt = {0}, key = {0};
	_free_ char *ca_key = strf("%s/ca.key", dir);
	struct error err = {0};
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	const struct pki_request cases[] = {
		{.name = ""},
		{.name = "a\nb"},
		{.name = long_name},
		{.name = "a", .days = -1},
		{.name = "a", .days = 100000},
		{.name = "a", .server = true},
		{.name = "a", .server = true, .names = bad, .n_names = 1},
		{.name = "a", .groups = bad, .n_groups = PKI_NAMES_MAX + 1},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_true(pki_issue(dir, &cases[i], &crt, &key, &err) < 0);
	const struct pki_request good = {.name = "a"};
	assert_int_equal(write_file_atomic(ca_key, "junk", 4, 0600, &err), 0);
	assert_int_equal(pki_issue(dir, &good, &crt, &key, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "ca.key"));
	assert_int_equal(unlink(ca_key), 0);
	assert_int_equal(pki_init(dir, "ca", &err), -ENOENT);
	assert_int_equal(crt.len, 0);
	long_name[PKI_NAME_MAX] = '\0';
	const struct pki_request longest = {.name = long_name};
	_free_ char *ca = strf("%s/ca.crt", dir);
	assert_int_equal(unlink(ca), 0);
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	if (pki_issue(dir, &longest, &crt, &key, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_kubeconfig(void **state) {
	const char *dir = *state;
	_free_ char *path = strf("%s/k", dir), *text = NULL;
	struct pki_request rq = {.name = "ann \"x\""};
	struct pki_kubeconfig k = {.server = "https://127.0.0.1:6443", .ns = "red"};
	char file[PKI_NAME_MAX + 1];
	struct error err = {0};
	size_t len;
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	assert_int_equal(pki_kubeconfig_file(dir, &rq, k, path, &err), 0);
	assert_int_equal(read_file(path, 1 << 20, &text, &len, &err), 0);
	assert_non_null(strstr(text, "\n    server: \"https://127.0.0.1:6443\"\n"));
	assert_non_null(strstr(text, "\n- name: \"ann \\\"x\\\"\"\n"));
	assert_non_null(strstr(text, "\n    certificate-authority-data: LS0tLS1CRUdJTi"));
	assert_non_null(strstr(text, "\n    namespace: \"red\"\n"));
	k.server = "http://x";
	assert_int_equal(pki_kubeconfig_file(dir, &rq, k, path, &err), -EINVAL);
	pki_file_name("../system:nacre:host:h1.x", file);
	assert_string_equal(file, "-.-system-nacre-host-h1.x");
}

/* Appends the output of openssl for PATH: "ec" checks the key, "asn1parse" shows its parts. */
static void openssl(const char *command, const char *path, const char *option, struct buf *out) {
	const char *const argv[] = {"openssl", command, "-in", path, option, NULL};
	const struct proc_spec spec = {.argv = argv};
	struct error err = {0};
	buf_reset(out);
	if (proc_run(&spec, out, &err) < 0)
		fail_msg("%s", err.msg);
}

static size_t from_hex(const char *hex, unsigned char *out) {
	size_t n = 0;
	for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (unsigned char)byte;
	return n;
}

/* Multiples of the generator of P-256 (SP 800-186), with values and points that have the first bit set or leading
 * zeros. */
static const struct {
	const char *value, *x, *y;
	bool first_bit;
} multiples[] = {
	{"0000000000000000000000000000000000000000000000000000000000000001",
         "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
         "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5", false},
	{"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550",
         "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
         "b01cbd1c01e58065711814b583f061e9d431cca994cea1313449bf97c840ae0a", true},
	{"8000000000000000000000000000000000000000000000000000000000000000",
         "77b20a912e6b23135066e911891524bc4efe3560e3e92350b52dec8f375f2b54",
         "a3dc291825cea3f7f7b10bfcdd038a72df623da1e850e0f1caa801fcd6cc67ff", true},
	{"4000000000000000000000000000000000000000000000000000000000000000",
         "01ee7fc202708cfeb0c2bf930bf33a68ad086d4ce99a11e38d93ca698eb99805",
         "9655cef01b024882124be02ef3455711811836ea35be799b09fd5f4e10eeccaf", false},
	{"0080000000000000000000000000000000000000000000000000000000000000",
         "3754e99f0786e2e13d70139bfcd5ce698be44e3392eb68e10e789e3ff0cdb59d",
         "24c2f87496addcbe012f3c27206480db61019b6f632734f04239c0ffeb6a8499", false},
	{"000000000000000000000000000000000000000000000000000000000000017b",
         "005543894af3d00ed7d740abdbd75c96b06877b787db5f70eea78b90a8d7c00a",
         "bb4c85a3d8ea29efaafa24406912dd84d5b14dc32bf656ef6c6bd58a5d943f92", false},
	{"000000000000000000000000000000000000000000000000000000000000002b",
         "986ae2506f1ff104d04230861d8f4b498f4bc4c6d009b30f7544dc129b82d28d",
         "003cccc0a6460e0ae328a4d97d3c7b61d86fc6289c189f2525110c441bb07e97", false},
};

static void test_key_form(void **state) {
	_free_ char *path = strf("%s/k", (const char *)*state);
	_buf_free_ struct buf said = {0}, pem = {0}, again = {0};
	struct error err = {0};
	struct pki_info info;
	for (size_t i = 0; i < ARRAY_SIZE(multiples); i++) {
		unsigned char value[32], x[32], y[32];
		const gnutls_datum_t k = {value, (unsigned)from_hex(multiples[i].value, value)},
				     px = {x, (unsigned)from_hex(multiples[i].x, x)},
				     py = {y, (unsigned)from_hex(multiples[i].y, y)};
		gnutls_datum_t old;
		gnutls_x509_privkey_t key;
		assert_int_equal(gnutls_x509_privkey_init(&key), 0);
		assert_int_equal(gnutls_x509_privkey_import_ecc_raw(key, GNUTLS_ECC_CURVE_SECP256R1, &px, &py, &k), 0);
		buf_reset(&pem);
		assert_int_equal(eckey_print(key, &pem, &err), 0);
		assert_true(starts_with(pem.data, "-----BEGIN EC PRIVATE KEY-----\n"));
		assert_null(eckey_refused(pem.data, pem.len));
		assert_int_equal(write_file_atomic(path, pem.data, pem.len, 0600, &err), 0);
		openssl("ec", path, "-check", &said);
		openssl("asn1parse", path, "-i", &said);
		_free_ char *want = strf("l=  32 prim:  OCTET STRING      [HEX DUMP]:%s\n", multiples[i].value);
		for (char *p = strstr(want, "DUMP]:") + 6; *p; p++)
			*p = *p >= 'a' && *p <= 'f' ? (char)(*p - 'a' + 'A') : *p;
		if (!strstr(said.data, want))
			fail_msg("not `%s` in\n%s", want, said.data);
		/* openssl writes the same bytes, so the PEM is complete by RFC 5915, and openssl can convert old keys.
		 */
		openssl("ec", path, "-outform=PEM", &again);
		assert_string_equal(again.data, pem.data);
		/* Keys were written like this before. */
		assert_int_equal(
			gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &old), 0);
		const char *why = eckey_refused((const char *)old.data, old.size);
		assert_non_null(why);
		assert_int_equal(strstr(why, "33 octets") != NULL, multiples[i].first_bit);
		assert_int_equal(write_file_atomic(path, old.data, old.size, 0600, &err), 0);
		assert_int_equal(pki_info(path, &info, &err), 0);
		assert_ptr_equal(info.refused, why);
		assert_true(info.due && !info.certificate);
		openssl("ec", path, "-outform=PEM", &again);
		assert_string_equal(again.data, pem.data);
		gnutls_free(old.data);
		gnutls_x509_privkey_deinit(key);
	}
}

/* Every file with a key that this library writes. */
static void test_key_files(void **state) {
	static const char *const files[] = {"ca.key", "x.key", "s.key", "k"}, *const names[] = {"::1"};
	const char *dir = *state;
	_free_ char *client = strf("%s/x", dir), *server = strf("%s/s", dir), *kubeconfig = strf("%s/k", dir);
	struct pki_request rq = {.name = "a"};
	struct pki_kubeconfig k = {.server = "https://x"};
	struct error err = {0};
	struct pki_info info;
	assert_int_equal(pki_init(dir, "ca", &err), 0);
	assert_int_equal(pki_issue_files(dir, &rq, client, &err), 0);
	assert_int_equal(pki_kubeconfig_file(dir, &rq, k, kubeconfig, &err), 0);
	rq = (struct pki_request){.name = "s", .names = names, .n_names = 1, .server = true};
	assert_int_equal(pki_issue_files(dir, &rq, server, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_free_ char *path = strf("%s/%s", dir, files[i]);
		if (pki_info(path, &info, &err) < 0)
			fail_msg("%s", err.msg);
		assert_null(info.refused);
		assert_false(info.due);
		assert_int_equal(info.certificate, i == 3);
	}
	assert_string_equal(info.subject, "CN=a");
	assert_int_equal(write_file_atomic(kubeconfig, "junk", 4, 0600, &err), 0);
	assert_int_equal(pki_info(kubeconfig, &info, &err), -EINVAL);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_issue, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kubeconfig, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_key_form, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_key_files, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
