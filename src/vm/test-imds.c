/* SPDX-License-Identifier: Apache-2.0 */

/* What the metadata service answers, and to whom: tokens, the seed, the two trees, refusals. */

#include "vm/testing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "vm/metadata.h"

#define UUID "0b5ac4a8-4b0e-4c35-9c3d-000000000001"
#define MAC  "02:4e:01:00:00:05"

static const struct imdstoken_key key = {{1, 2, 3}};
static char token[IMDSTOKEN_LEN + 1]; /* good from second 100 to 159 */

static struct vm_config config_of(const char *more) {
	_free_ char *text = strf("{\"name\":\"t/web\",\"uuid\":\"" UUID "\",\"kernel\":\"/k\",\"mac\":\"" MAC
	                         "\",\"tap\":\"tap\",\"prefix\":\"2001:db8:1:1::/64\",\"seed\":\"%s\"%s}",
	                         dir, more);
	struct vm_config c;

	OK(vm_config_parse(text, strlen(text), &c, &error));
	return c;
}

#define FULL                                                                                                        \
	",\"imageName\":\"debian\",\"ipv4\":\"192.0.0.2\",\"ipv4Router\":\"169.254.0.1\",\"public4\":\"198.51.100." \
	"3\","                                                                                                      \
	"\"hostname\":\"web\",\"domain\":\"a.example\""

static void put_file(const char *name, const void *text, size_t len) {
	_free_ char *path = strf("%s/%s", dir, name);

	OK(write_file_atomic(path, text, len, 0644, &error));
}

static void remove_file(const char *name) {
	_free_ char *path = strf("%s/%s", dir, name);

	unlink(path);
}

/* ---- tokens ---- */

static void tokens(void **state) {
	(void)state;
	static const struct imdstoken_key other = {{1, 2, 4}};
	char text[IMDSTOKEN_LEN + 1];

	imdstoken_make(&key, 100, 60, text);
	assert_true(imdstoken_valid(&key, 100, text));
	assert_true(imdstoken_valid(&key, 159, text));
	assert_false(imdstoken_valid(&key, 160, text));
	assert_false(imdstoken_valid(&other, 100, text));
	for (size_t i = 0; i < IMDSTOKEN_LEN; i++) {
		char was = text[i];
		text[i] = was == '1' ? '2' : '1';
		assert_false(imdstoken_valid(&key, 100, text));
		text[i] = was;
	}
	text[IMDSTOKEN_LEN - 1] = 0;
	assert_false(imdstoken_valid(&key, 100, text));
	assert_false(imdstoken_valid(&key, 100, ""));
}

/* ---- the seed ---- */

static void seeds(void **state) {
	(void)state;
	static char large[SEED_USER_DATA_MAX + 1];
	_buf_free_ struct buf out = {0}, text = {0};
	_free_ char *none = strf("%s/none", dir), *link = strf("%s/user-data", dir);
	struct seed_keys k;
	int fd;

	OK(seed_open("", &fd, &error));
	assert_int_equal(fd, -1);
	OK(seed_open(none, &fd, &error));
	assert_int_equal(fd, -1);
	OK(seed_user_data(fd, &out));
	OK(seed_keys(fd, &k));
	assert_int_equal(k.n + out.len, 0);
	seed_keys_done(&k);

	OK(seed_open(dir, &fd, &error));
	OK(seed_user_data(fd, &out));
	assert_int_equal(out.len, 0);
	put_file("user-data", "a\0b", 3);
	OK(seed_user_data(fd, &out));
	assert_int_equal(out.len, 3);
	assert_memory_equal(out.data, "a\0b", 3);
	put_file("user-data", large, sizeof(large));
	assert_int_equal(seed_user_data(fd, &out), -EFBIG);
	put_file("user-data", large, sizeof(large) - 1);
	buf_reset(&out);
	OK(seed_user_data(fd, &out));
	assert_int_equal(out.len, SEED_USER_DATA_MAX);
	/* Nothing but a regular file is read, and opening another one doesn't block. */
	unlink(link);
	assert_int_equal(mkfifo(link, 0644), 0);
	assert_int_equal(seed_user_data(fd, &out), -EINVAL);
	unlink(link);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	assert_int_equal(seed_user_data(fd, &out), -ELOOP);
	unlink(link);

	buf_puts(&text, "ssh-ed25519 AAAA j\xc3\xb6rg\n\n");
	for (size_t i = 0; i < SEED_KEY_MAX + 1; i++)
		buf_putc(&text, 'x');
	buf_puts(&text, "\nssh-rsa BBBB");
	put_file("ssh-keys", text.data, text.len);
	OK(seed_keys(fd, &k));
	assert_int_equal(k.n, 2);
	assert_string_equal(k.key[0], "ssh-ed25519 AAAA j??rg");
	assert_string_equal(k.key[1], "ssh-rsa BBBB");
	seed_keys_done(&k);
	buf_reset(&text);
	for (size_t i = 0; i < SEED_KEYS_MAX + 1; i++)
		buf_printf(&text, "key %zu\n", i);
	put_file("ssh-keys", text.data, text.len);
	OK(seed_keys(fd, &k));
	assert_int_equal(k.n, SEED_KEYS_MAX);
	seed_keys_done(&k);
	remove_file("ssh-keys");
	close(fd);
}

/* ---- answers ---- */

/* The whole answer to a request with more lines; "" if it has none. */
static void answer(const struct vm_config *c, const char *first, const char *lines, struct buf *out) {
	_free_ char *text = strf("%s HTTP/1.1\r\nHost: 169.254.169.254\r\n%s\r\n", first, lines);
	struct imds m = {.config = c};
	struct http1_request q;

	OK(seed_open(c->seed, &m.seed, &error));
	buf_reset(out);
	assert_int_equal(http1_parse(text, strlen(text), &q), 1);
	metadata_answer(&m, &key, 100, &q, out);
	safe_close(m.seed);
}

static const char *body_of(const struct buf *b) {
	return strstr(b->data, "\r\n\r\n") + 4;
}

static int status_of(const struct buf *b) {
	assert_memory_equal(b->data, "HTTP/1.1 ", 9);
	return atoi(b->data + 9);
}

/* GETs with a token. EXPECTED is the body, or NULL for a 404. */
static void check_get(const struct vm_config *c, const char *path, const char *expected) {
	_free_ char *first = strf("GET %s", path), *lines = strf("x-AWS-ec2-metadata-token: %s\r\n", token);
	_buf_free_ struct buf out = {0};

	answer(c, first, lines, &out);
	if (status_of(&out) != (expected ? 200 : 404) || (expected && !streq(body_of(&out), expected)))
		fail_msg("%s: %s", path, out.data);
}

#define NIC "/latest/meta-data/network/interfaces/macs/" MAC

static void what_is_told(void **state) {
	(void)state;
	static const struct {
		const char *path, *body;
	} table[] = {
		{"/", "2009-04-04\n2016-09-02\n2018-09-24\n2021-03-23\nlatest"},
		{"/latest", "dynamic/\nmeta-data/\nuser-data"},
		{"/latest/", "dynamic/\nmeta-data/\nuser-data"},
		{"/1999-12-31/meta-data/instance-id", UUID},
		{"/2021-03-23/meta-data/",
	         "ami-id\nhostname\ninstance-id\nipv6\nlocal-hostname\nlocal-ipv4\nmac\nnetwork/"
	         "\npublic-ipv4\npublic-keys/\nreservation-id"},
		{"/latest/meta-data/ami-id", "debian"},
		{"/latest/meta-data/hostname", "web.a.example"},
		{"/latest/meta-data/local-hostname", "web.a.example"},
		{"/latest/meta-data/local-ipv4", "192.0.0.2"},
		{"/latest/meta-data/public-ipv4", "198.51.100.3"},
		{"/latest/meta-data/ipv6", "2001:db8:1:1:4e:1ff:fe00:5"},
		{"/latest/meta-data/mac", MAC},
		{"/latest/meta-data/reservation-id", UUID},
		{"/latest/meta-data/network", "interfaces/"},
		{"/latest/meta-data/network/interfaces/macs/", MAC "/"},
		{NIC "/",
	         "device-number\nipv6s\nlocal-hostname\nlocal-ipv4s\nmac\npublic-ipv4s\nsubnet-ipv6-cidr-blocks"},
		{NIC "/device-number", "0"},
		{NIC "/ipv6s", "2001:db8:1:1:4e:1ff:fe00:5"},
		{NIC "/subnet-ipv6-cidr-blocks", "2001:db8:1:1::/64"},
		{NIC "/public-ipv4s", "198.51.100.3"},
		{"/latest/meta-data/public-keys/", "0=key-0\n1=key-1"},
		{"/latest/meta-data/public-keys", "0=key-0\n1=key-1"},
		{"/latest/meta-data/public-keys/1", "openssh-key"},
		{"/latest/meta-data/public-keys/0/", "openssh-key"},
		{"/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA"},
		{"/latest/meta-data/public-keys/1/openssh-key", "ssh-rsa \"BBBB\""},
		{"/latest/user-data", "#!/bin/sh\necho\n"},
		{"/latest/dynamic/instance-identity", "document"},
		{"/latest/dynamic/instance-identity/document",
	         "{\"version\":\"2017-09-30\",\"instanceId\":\"" UUID "\",\"imageId\":\"debian\","
	         "\"privateIp\":\"192.0.0.2\",\"architecture\":\"x86_64\"}"},
		{"/nocloud/", "meta-data\nnetwork-config\nuser-data\nvendor-data"},
		{"/nocloud/meta-data", "{\"instance-id\":\"" UUID "\",\"local-hostname\":\"web.a.example\","
	                               "\"public-keys\":[\"ssh-ed25519 AAAA\",\"ssh-rsa \\\"BBBB\\\"\"]}"},
		{"/nocloud/user-data", "#!/bin/sh\necho\n"},
		{"/nocloud/vendor-data", ""},
		{"/nocloud/network-config", "{\"version\":2,\"ethernets\":{\"nic0\":{\"match\":{\"macaddress\":\"" MAC
	                                    "\"},\"dhcp4\":true,\"dhcp6\":true,\"accept-ra\":true}}}"},
		{"/nocloud/seed", NULL},
		{"/latest/meta-data/public-hostname", NULL},
		{"/latest/meta-data/placement/region", NULL},
		{"/latest/meta-data/security-groups", NULL},
		{"/latest/meta-data/mac/", NULL},
		{"/latest/meta-data/ma", NULL},
		{"/latest//meta-data/mac", NULL},
		{"/latest/meta-data//mac", NULL},
		{"/latest/meta-data/network/interfaces/macs/*/mac", NULL},
		{"/latest/meta-data/network/interfaces/macs/02:4e:01:00:00:06/mac", NULL},
		{"/latest/meta-data/public-keys/2", NULL},
		{"/latest/meta-data/public-keys/00", NULL},
		{"/latest/meta-data/public-keys/0/other", NULL},
		{"/latest/meta-data/public-keyss", NULL},
		{"/latest/user-data/", NULL},
		{"/latest/user-data?x", NULL},
		{"/latest/../latest/user-data", NULL},
		{"/latest2/user-data", NULL},
		{"/2021-3-23/user-data", NULL},
		{"/2021-03-23x/user-data", NULL},
		{"/meta-data/", NULL},
		{"/latest/meta-data/\x25"
	         "2e",
	         NULL},
	};
	const struct vm_config c = config_of(FULL);

	put_file("user-data", "#!/bin/sh\necho\n", 15);
	put_file("ssh-keys", "ssh-ed25519 AAAA\nssh-rsa \"BBBB\"\n", 32);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		check_get(&c, table[i].path, table[i].body);
	/* Other keys are seen at once. */
	put_file("ssh-keys", "ssh-rsa CCCC\n", 13);
	check_get(&c, "/latest/meta-data/public-keys/", "0=key-0");
	check_get(&c, "/latest/meta-data/public-keys/0/openssh-key", "ssh-rsa CCCC");
	remove_file("user-data");
	remove_file("ssh-keys");
}

static void what_is_not_there(void **state) {
	(void)state;
	const struct vm_config c = config_of("");

	check_get(&c, "/latest", "dynamic/\nmeta-data/");
	check_get(&c, "/latest/meta-data/", "instance-id\nipv6\nmac\nnetwork/\nreservation-id");
	check_get(&c, NIC, "device-number\nipv6s\nmac\nsubnet-ipv6-cidr-blocks");
	check_get(&c, "/latest/user-data", NULL);
	check_get(&c, "/latest/meta-data/public-keys/", NULL);
	check_get(&c, "/latest/meta-data/local-ipv4", NULL);
	check_get(&c, "/latest/meta-data/hostname", NULL);
	check_get(&c, "/nocloud/user-data", "");
	check_get(&c, "/nocloud/meta-data", "{\"instance-id\":\"" UUID "\",\"public-keys\":[]}");
	check_get(&c, "/nocloud/network-config",
	          "{\"version\":2,\"ethernets\":{\"nic0\":{\"match\":{\"macaddress\":\"" MAC
	          "\"},\"dhcp4\":false,\"dhcp6\":true,\"accept-ra\":true}}}");
}

/* The largest seed is told whole; one that can't be read is a failure, and never looks like a missing one. */
static void seeds_at_the_limits(void **state) {
	(void)state;
	static char large[SEED_USER_DATA_MAX + 1];
	_buf_free_ struct buf keys = {0}, out = {0};
	const struct vm_config c = config_of("");

	for (size_t i = 0; i < SEED_KEYS_MAX; i++) {
		for (size_t n = 0; n < SEED_KEY_MAX; n++)
			buf_putc(&keys, '"');
		buf_putc(&keys, '\n');
	}
	put_file("ssh-keys", keys.data, keys.len);
	answer(&c, "GET /nocloud/meta-data", "", &out);
	assert_int_equal(status_of(&out), 200);
	assert_true(strlen(body_of(&out)) > (size_t)2 * SEED_KEYS_MAX * SEED_KEY_MAX);
	buf_puts(&keys, "\n");
	put_file("ssh-keys", keys.data, keys.len);
	answer(&c, "GET /nocloud/meta-data", "", &out);
	assert_int_equal(status_of(&out), 500);
	put_file("user-data", large, sizeof(large));
	answer(&c, "GET /nocloud/user-data", "", &out);
	assert_int_equal(status_of(&out), 500);
	remove_file("user-data");
	remove_file("ssh-keys");
}

static void who_is_answered(void **state) {
	(void)state;
	static const struct {
		const char *first, *lines;
		int status;
	} table[] = {
		{"GET /latest/meta-data/", "", 401},
		{"GET /2021-03-23/user-data", "", 401},
		{"GET /", "", 401},
		{"GET /unknown", "", 401},
		{"GET /latest/user-data", "X-aws-ec2-metadata-token: x\r\n", 401},
		{"GET /nocloud/meta-data", "", 200},
		{"GET /nocloud/meta-data", "X-Forwarded-For: 10.0.0.1\r\n", 403},
		{"PUT /latest/api/token", "X-Forwarded-For:\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n", 403},
		{"PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 1\r\n", 200},
		{"PUT /latest/api/token", "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", 200},
		{"PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21601\r\n", 400},
		{"PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 0\r\n", 400},
		{"PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60s\r\n", 400},
		{"PUT /latest/api/token",
	         "X-aws-ec2-metadata-token-ttl-seconds: 60\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n", 400},
		{"PUT /latest/api/token", "", 400},
		{"GET /latest/api/token", "", 405},
		{"PUT /2021-03-23/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n", 405},
		{"PUT /nocloud/meta-data", "", 405},
		{"POST /nocloud/meta-data", "", 405},
		{"DELETE /latest/user-data", "", 405},
	};
	_buf_free_ struct buf out = {0};
	const struct vm_config c = config_of("");

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		answer(&c, table[i].first, table[i].lines, &out);
		if (status_of(&out) != table[i].status)
			fail_msg("entry %zu: %s", i, out.data);
	}
	answer(&c, "GET /latest/api/token", "", &out);
	assert_non_null(strstr(out.data, "\r\nAllow: PUT\r\n"));
	answer(&c, "PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n", &out);
	assert_string_equal(body_of(&out), token);
	assert_non_null(strstr(out.data, "\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n"));
	answer(&c, "HEAD /nocloud/meta-data", "", &out);
	assert_non_null(strstr(out.data, "\r\nContent-Length: 71\r\n"));
	assert_string_equal(body_of(&out), "");
}

static void hosts(void **state) {
	(void)state;
	static const struct {
		const char *lines;
		int status;
	} table[] = {
		{"HTTP/1.1\r\nHost: 169.254.169.254\r\n", 200},
		{"HTTP/1.1\r\nHost: 169.254.169.254:80\r\n", 200},
		{"HTTP/1.1\r\nHost: [fd00:ec2::254]\r\n", 200},
		{"HTTP/1.1\r\nHost: [fd00:ec2::254]:80\r\n", 200},
		{"HTTP/1.1\r\nHost: [FD00:0EC2::0254]\r\n", 200},
		{"HTTP/1.0\r\n", 200},
		{"HTTP/1.1\r\nHost: evil.example\r\n", 421},
		{"HTTP/1.1\r\nHost:\r\n", 421},
		{"HTTP/1.1\r\nHost: :80\r\n", 421},
		{"HTTP/1.1\r\nHost: [\r\n", 421},
		{"HTTP/1.1\r\nHost: []\r\n", 421},
		{"HTTP/1.1\r\nHost: [fd00:ec2::254\r\n", 421},
		{"HTTP/1.1\r\nHost: 169.254.169.254:81\r\n", 421},
		{"HTTP/1.0\r\nHost: 169.254.169.254.example\r\n", 421},
	};
	_buf_free_ struct buf out = {0};
	const struct vm_config c = config_of("");
	const struct imds m = {.config = &c, .seed = -1};
	struct http1_request q;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_free_ char *text = strf("GET /nocloud/vendor-data %s\r\n", table[i].lines);
		assert_int_equal(http1_parse(text, strlen(text), &q), 1);
		buf_reset(&out);
		metadata_answer(&m, &key, 100, &q, &out);
		if (status_of(&out) != table[i].status)
			fail_msg("entry %zu: %s", i, out.data);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens),
		cmocka_unit_test(seeds),
		cmocka_unit_test(what_is_told),
		cmocka_unit_test(what_is_not_there),
		cmocka_unit_test(seeds_at_the_limits),
		cmocka_unit_test(who_is_answered),
		cmocka_unit_test(hosts),
	};
	imdstoken_make(&key, 100, 60, token);
	return cmocka_run_group_tests_name("vm-imds", tests, setup, teardown);
}
