/* SPDX-License-Identifier: Apache-2.0 */

/* What guests are told: SSH keys, user data and the Secrets that have them, DNS. */

#include "api/addresspool.h"
#include "api/cluster.h"
#include "api/instance.h"
#include "base/testing.h"
#include "base/util.h"

#define INSTANCE_WITH(spec) "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"type\":\"t\",\"image\":\"i\"" spec "}}"

static void expect_errors(const struct api_kind *k, const char *json, const char *want) {
	struct api_errors errs = {0};
	struct error err = {0};
	void *obj = NULL;
	int r = api_parse(k, json, strlen(json), &obj, &errs);
	if (r == 0) {
		api_free(k, obj);
		fail_msg("accepted: %s", json);
	}
	api_errors_to_error(&errs, &err);
	assert_string_equal(err.msg, want);
}

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

static void test_ssh_keys(void **state) {
	static const char *const good[] = {
		ED25519,
		ED25519 " me@laptop (work)",
		"sk-ssh-ed25519@openssh.com AAAA",
		"ssh-rsa AAAAB3NzaC1yc2E=",
		"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHA= x",
	};
	static const char *const bad[] = {
		"",
		"ssh-ed25519",
		"ssh-ed25519 ",
		"ssh-ed25519  AAAA",
		" ssh-ed25519 AAAA",
		"ssh-ed25519 AAA",
		"ssh-ed25519 BAAA",
		"ssh-ed25519 AAAA=",
		"ssh-ed25519 AAAA====",
		"ssh-ed25519 AAAA\tme",
		"ssh-ed25519 AAAA me\n",
		"ssh-ed25519 AAAA me\x7f",
		"ssh-ed25519 AAAA J\xc3\xbcrgen",
		"no-pty ssh-ed25519 AAAA",
		"command=\"x\" ssh-ed25519 AAAA",
		"1ssh AAAA",
	};
	static const char *const private[] = {
		"-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n-----END OPENSSH PRIVATE KEY-----\n",
		"-----BEGIN RSA PRIVATE KEY----- secret",
		"PuTTY-User-Key-File-3: ssh-ed25519",
	};
	struct error err;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(sshkey_check(good[i], strlen(good[i]), &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(sshkey_check(bad[i], strlen(bad[i]), &err), -EINVAL);
		assert_non_null(strstr(err.msg, "must be a public key of OpenSSH"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(private); i++) {
		assert_int_equal(sshkey_check(private[i], strlen(private[i]), &err), -EINVAL);
		assert_non_null(strstr(err.msg, "is a private key"));
		assert_null(strstr(err.msg, "secret"));
	}
	/* The bytes may be a part of something, in which more follows. */
	assert_int_equal(sshkey_check("ssh-ed25519 AAAA\nx", 16, &err), 0);
}

static void test_guest_data(void **state) {
	_buf_free_ struct buf b = {0};
	struct instance_secret secret;
	struct api_errors errs = {0};
	struct instance *i;
	(void)state;
	expect_errors(&api_kind_instance, INSTANCE_WITH(",\"sshKeys\":[\"" ED25519 " a\",\"-----BEGIN PRIVATE KEY\"]"),
	              "spec.sshKeys[1]: " SSHKEY_PRIVATE);
	expect_errors(&api_kind_instance, INSTANCE_WITH(",\"sshKeys\":[\"\"]"), "spec.sshKeys[0]: must not be empty");
	expect_errors(
		&api_kind_instance, INSTANCE_WITH(",\"sshKeysFrom\":{\"secret\":\"../x\",\"key\":\"a/b\"}"),
		"spec.sshKeysFrom.secret: `../x` must be a name: at most 253 lower-case letters, digits, `-` and "
		"`.`, each part beginning and ending with a letter or digit; spec.sshKeysFrom.key: Invalid value: "
		"\"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.', begin with no "
		"'..' and have at most 253 characters");
	expect_errors(&api_kind_instance, INSTANCE_WITH(",\"userDataFrom\":{}"),
	              "spec.userDataFrom.secret: is required");
	expect_errors(&api_kind_instance, INSTANCE_WITH(",\"userData\":\"\",\"userDataFrom\":{\"secret\":\"s\"}"),
	              "spec: only one of userData and userDataFrom may be set");
	expect_errors(&api_kind_cluster,
	              "{\"spec\":{\"template\":{\"type\":\"t\",\"image\":\"i\",\"userData\":\"a\","
	              "\"userDataFrom\":{\"secret\":\"s\"}}}}",
	              "spec.template: only one of userData and userDataFrom may be set");

	/* The longest of everything is let in, and one byte or key more is not. */
	for (int more = 0; more < 2; more++) {
		buf_reset(&b);
		buf_puts(&b, "{\"spec\":{\"type\":\"t\",\"image\":\"i\",\"userData\":\"");
		for (int k = 0; k < INSTANCE_USER_DATA_MAX + more; k++)
			buf_putc(&b, 'x');
		buf_puts(&b, "\",\"sshKeys\":[");
		for (int k = 0; k < INSTANCE_KEYS_MAX + more; k++) {
			buf_printf(&b, "%s\"ssh-rsa AAAA", k ? "," : "");
			for (int n = 12; n < SSHKEY_MAX + (k == 0 && more); n++)
				buf_putc(&b, n == 12 ? ' ' : 'y');
			buf_putc(&b, '"');
		}
		buf_puts(&b, "]}}");
		assert_false(b.failed);
		if (more)
			expect_errors(&api_kind_instance, b.data,
			              "spec.userData: must be at most 16384 bytes long; spec.sshKeys[0]: must be at "
			              "most 4096 bytes long; spec.sshKeys: must have at most 16 items");
		else {
			assert_int_equal(api_parse(&api_kind_instance, b.data, b.len, (void **)&i, &errs), 0);
			assert_false(instance_secret(i->spec, INSTANCE_SECRET_KEYS, &secret));
			api_free(&api_kind_instance, i);
		}
	}

	static const char from[] = INSTANCE_WITH(",\"sshKeysFrom\":{\"secret\":\"a\"},"
	                                         "\"userDataFrom\":{\"secret\":\"b\",\"key\":\"c\"}");
	assert_int_equal(api_parse(&api_kind_instance, from, strlen(from), (void **)&i, &errs), 0);
	assert_true(instance_secret(i->spec, INSTANCE_SECRET_KEYS, &secret));
	assert_string_equal(secret.field, "sshKeysFrom");
	assert_string_equal(secret.secret, "a");
	assert_string_equal(secret.key, "ssh-keys");
	assert_true(instance_secret(i->spec, INSTANCE_SECRET_USER_DATA, &secret));
	assert_string_equal(secret.secret, "b");
	assert_string_equal(secret.key, "c");
	api_free(&api_kind_instance, i);
}

static void test_pool_dns(void **state) {
	static const char *const domains[] = {"",
	                                      "a.",
	                                      ".a",
	                                      "a..b",
	                                      "a b",
	                                      "a/b",
	                                      "a123456789012345678901234567890123456789012345678901234567890123.b"};
	(void)state;
#define POOL_DNS(use, prefix, more) "{\"spec\":{\"use\":\"" use "\",\"prefix\":\"" prefix "\"," more "}}"
	expect_errors(&api_kind_addresspool,
	              POOL_DNS("instance", "2001:db8::/32", "\"dnsServers\":[\"192.0.2.53\",\"fd00:0::1\"]"),
	              "spec.dnsServers[1]: `fd00:0::1` must be written `fd00::1`");
	expect_errors(&api_kind_addresspool,
	              POOL_DNS("dedicated", "192.0.2.0/24", "\"dnsServers\":[\"::1\"],\"dnsSearch\":[\"a.b\"]"),
	              "spec.dnsServers: must only be set for use instance; spec.dnsSearch: must only be set for use "
	              "instance");
	for (size_t i = 0; i < ARRAY_SIZE(domains); i++) {
		_free_ char *text =
			strf(POOL_DNS("instance", "2001:db8::/32", "\"dnsSearch\":[\"_x.Ok-1\",\"%s\"]"), domains[i]);
		struct api_errors errs = {0};
		void *pool;
		assert_int_equal(api_parse(&api_kind_addresspool, text, strlen(text), &pool, &errs), -EINVAL);
		assert_int_equal(errs.n, 1);
		assert_string_equal(errs.v[0].path, "spec.dnsSearch[1]");
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ssh_keys),
		cmocka_unit_test(test_guest_data),
		cmocka_unit_test(test_pool_dns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
