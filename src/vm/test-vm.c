/* SPDX-License-Identifier: Apache-2.0 */

/* What can be tested without a guest: config, arguments, monitor, advertisements, console, control, images. */

#include "base/testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/listen.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/util.h"
#include "vm/config.h"
#include "vm/console.h"
#include "vm/control.h"
#include "vm/fds.h"
#include "vm/filter.h"
#include "vm/image.h"
#include "vm/qemu.h"
#include "vm/qmp.h"
#include "vm/ra.h"
#include "vm/status.h"

static struct error error;
static char dir[64];

#define HEAD "{\"name\":\"t/web\",\"uuid\":\"0b5ac4a8-4b0e-4c35-9c3d-000000000001\","

static int parse(const char *json, struct vm_config *c) {
	memset(&error, 0, sizeof(error));
	return vm_config_parse(json, strlen(json), c, &error);
}

static void config_round_trip(void **state) {
	(void)state;
	static const char json[] = HEAD
		"\"vcpus\":2,\"memoryMiB\":512,\"accel\":\"kvm\",\"boot\":\"uefi\",\"disk\":\"/instance/disk.qcow2\","
		"\"image\":\"/image/disk\",\"imageFormat\":\"qcow2\",\"firmware\":\"/fw\",\"firmwareVars\":\"/vars\","
		"\"mac\":\"02:00:00:00:00:05\",\"tap\":\"tap\",\"prefix\":\"2001:db8:1::/"
		"64\",\"mtu\":1500,\"uid\":200001,"
		"\"gid\":200001,\"graceSeconds\":10}";
	_buf_free_ struct buf out = {0};
	struct vm_config c, again;

	OK(parse(json, &c));
	vm_config_print(&c, &out);
	OK(parse(out.data, &again));
	assert_memory_equal(&c, &again, sizeof(c));
	assert_string_equal(out.data, json);
}

static void config_rejects(void **state) {
	(void)state;
	static const struct {
		const char *rest, *says;
	} bad[] = {
		{"\"kernel\":\"/k\"", "the text ends early"},
		{"\"kernel\":\"/k\",\"extra\":1}", "extra: unknown field"},
		{"\"kernel\":\"/k\",\"kernel\":\"/k\"}", "kernel: given twice"},
		{"\"kernel\":7}", "kernel"},
		{"\"kernel\":\"/k\",\"vcpus\":0}", "vcpus: must be 1..1024"},
		{"\"kernel\":\"/k\",\"vcpus\":\"2\"}", "vcpus"},
		{"\"kernel\":\"/k\",\"accel\":\"xen\"}", "accel: `xen`"},
		{"\"kernel\":\"/k\\nx\"}", "kernel: control characters"},
		{"\"kernel\":\"/k\",\"mac\":\"01:00:00:00:00:05\",\"tap\":\"t\"}", "mac"},
		{"\"kernel\":\"/k\",\"tap\":\"t\"}", "tap, mac"},
		{"\"kernel\":\"/k\",\"tap\":\"sixteen-letters-\"}", "tap: at most 15"},
		{"\"kernel\":\"/k\",\"prefix\":\"2001:db8:1::/64\"}", "prefix: needs a tap"},
		{"\"kernel\":\"/k\",\"tap\":\"t\",\"mac\":\"02:00:00:00:00:05\",\"prefix\":\"2001:db8::/60\"}",
	         "an IPv6 /64"},
		{"\"boot\":\"uefi\",\"disk\":\"/d\",\"image\":\"/i\"}", "firmware"},
		{"\"boot\":\"bios\"}", "disk"},
		{"\"boot\":\"bios\",\"disk\":\"/d\"}", "disk, image"},
		{"\"boot\":\"bios\",\"disk\":\"/d\",\"image\":\"/i\",\"kernel\":\"/k\"}", "kernel"},
		{"\"vcpus\":1}", "kernel"},
	};
	_buf_free_ struct buf long_text = {0};
	struct vm_config c = {.vcpus = 77};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_free_ char *json = strf("%s%s", HEAD, bad[i].rest);
		if (parse(json, &c) != -EINVAL || !strstr(error.msg, bad[i].says))
			fail_msg("%s: `%s`", bad[i].rest, error.msg);
	}
	buf_printf(&long_text, "%s\"kernel\":\"", HEAD);
	for (int i = 0; i < VM_PATH_MAX + 1; i++)
		buf_putc(&long_text, 'x');
	buf_puts(&long_text, "\"}");
	assert_int_equal(parse(long_text.data, &c), -EINVAL);
	assert_int_equal(parse("[]", &c), -EINVAL);
	assert_int_equal(c.vcpus, 77);
}

static bool has(char **v, const char *option, const char *value) {
	for (; *v; v++)
		if (streq(*v, option) && (!value || (v[1] && strstr(v[1], value))))
			return true;
	return false;
}

static void arguments(void **state) {
	(void)state;
	_strv_free_ char **v = NULL;
	_strv_free_ char **w = NULL;
	struct vm_config c;

	OK(parse(HEAD
	         "\"kernel\":\"/a,b\",\"initrd\":\"/i\",\"cmdline\":\"console=ttyS0 x=\\\"y,z\\\"\",\"tap\":\"tap\","
	         "\"mac\":\"02:00:00:00:00:05\"}",
	         &c));
	OK(qemu_argv(&c, &(struct qemu_fds){.tap = 5, .qmp = 6, .serial = 7}, &v, &error));
	assert_string_equal(v[0], QEMU_PROGRAM);
	assert_true(has(v, "-nodefaults", NULL));
	assert_true(has(v, "-no-user-config", NULL));
	assert_true(has(v, "-sandbox", "spawn=deny"));
	assert_true(has(v, "-accel", "tcg"));
	assert_true(has(v, "-kernel", "/a,b"));
	assert_true(has(v, "-append", "x=\"y,z\""));
	assert_true(has(v, "-netdev", "tap,id=net0,fd=5"));
	assert_true(has(v, "-chardev", "fd=6"));
	assert_true(has(v, "-chardev", "fd=7"));
	assert_false(has(v, "-blockdev", NULL));

	/* No character of a path gets a meaning, and no image names another file. */
	OK(parse(HEAD
	         "\"boot\":\"uefi\",\"disk\":\"/d,\\\"file.driver\\\"\",\"image\":\"/i\",\"imageFormat\":\"qcow2\","
	         "\"firmware\":\"/fw\",\"firmwareVars\":\"/vars\",\"accel\":\"kvm\"}",
	         &c));
	OK(qemu_argv(&c, &(struct qemu_fds){.tap = -1, .qmp = 6, .serial = 7}, &w, &error));
	assert_true(has(w, "-blockdev", "\"filename\":\"/d,\\\"file.driver\\\"\""));
	assert_true(has(w, "-blockdev", "\"backing\":null"));
	assert_true(has(w, "-blockdev", "\"backing\":\"image\""));
	assert_true(has(w, "-accel", "kvm"));
	assert_false(has(w, "-netdev", NULL));
	assert_false(has(w, "-kernel", NULL));
}

static void status_round_trip(void **state) {
	(void)state;
	struct vm_status s = {.state = VM_ENDED,
	                      .since_us = 1767225600000000,
	                      .resets = 3,
	                      .end = VM_END_KILLED,
	                      .message = "QEMU was killed by signal 9 (Killed)"},
			 t = {0};
	_buf_free_ struct buf out = {0};

	vm_status_print(&s, &out);
	OK(vm_status_parse(out.data, out.len, &t, &error));
	assert_memory_equal(&s, &t, sizeof(s));
	OK(vm_status_parse("{\"state\":\"running\",\"more\":[1]}", 30, &t, &error));
	assert_int_equal(t.state, VM_RUNNING);
	static const char rude[] = "{\"state\":\"ended\",\"message\":\"\\u001b[2Ja\\nb\\u009b\xe2\x82\xac\"}";
	OK(vm_status_parse(rude, sizeof(rude) - 1, &t, &error));
	assert_string_equal(t.message, "?[2Ja?b?????");
	assert_int_equal(vm_status_parse("{\"state\":\"dancing\"}", 19, &t, &error), -EINVAL);
	assert_int_equal(vm_status_parse("{\"state\":", 9, &t, &error), -EINVAL);
}

/* ---- the monitor, against a QEMU that misbehaves ---- */

struct monitor {
	sd_event *loop;
	struct qmp *qmp;
	int qemu; /* the other end */
	char events[256], replies[256], closed[sizeof(((struct error *)0)->msg)];
};

static void on_event(void *userdata, const char *name, const char *data, size_t len) {
	struct monitor *m = userdata;
	size_t n = strlen(m->events);
	snprintf(m->events + n, sizeof(m->events) - n, "%s%.*s ", name, (int)len, data);
}

static void on_reply(void *userdata, const struct error *err, const char *data, size_t len) {
	struct monitor *m = userdata;
	size_t n = strlen(m->replies);
	snprintf(m->replies + n, sizeof(m->replies) - n, "%s%.*s ", err ? err->msg : "", (int)len, data);
}

static void on_closed(void *userdata, const struct error *err) {
	struct monitor *m = userdata;
	snprintf(m->closed, sizeof(m->closed), "%s", err->msg);
}

/* Everything that is there to be done is done. */
static void turn(sd_event *loop) {
	while (sd_event_run(loop, 0) > 0)
		;
}

static void say(struct monitor *m, const char *text) {
	assert_int_equal(write(m->qemu, text, strlen(text)), strlen(text));
	turn(m->loop);
}

static void monitor_open(struct monitor *m) {
	static const struct qmp_ops ops = {.event = on_event, .closed = on_closed};
	int sv[2];

	*m = (struct monitor){0};
	OK(sd_event_new(&m->loop));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	m->qemu = sv[1];
	OK(qmp_new(&m->qmp, m->loop, sv[0], &ops, m, &error));
}

static void monitor_close(struct monitor *m) {
	qmp_free(m->qmp);
	sd_event_unref(m->loop);
	close(m->qemu);
}

static void monitor_talks(void **state) {
	(void)state;
	struct monitor m;
	char heard[512];

	monitor_open(&m);
	OK(qmp_command(m.qmp, "query-status", NULL, on_reply, &error));
	turn(m.loop);
	assert_int_equal(read(m.qemu, heard, sizeof(heard)), -1); /* nothing before the greeting */
	say(&m, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
	ssize_t n = read(m.qemu, heard, sizeof(heard) - 1);
	assert_true(n > 0);
	heard[n] = 0;
	assert_string_equal(heard,
	                    "{\"execute\":\"qmp_capabilities\",\"id\":0}\n{\"execute\":\"query-status\",\"id\":1}\n");
	say(&m, "{\"return\": {}, \"id\": 0}\r\n{\"event\": \"STOP\", \"timestamp\": {}}\r\n");
	say(&m, "{\"return\": {\"running\"");
	say(&m, ": true}, \"id\": 1}\r\n{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true}}\n");
	assert_string_equal(m.replies, "{\"running\": true} ");
	assert_string_equal(m.events, "STOP SHUTDOWN{\"guest\":true} ");
	OK(qmp_command(m.qmp, "eject", "{\"force\":true}", on_reply, &error));
	say(&m, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such drive\"},\"id\":2}\n");
	assert_string_equal(m.replies, "{\"running\": true} QEMU: no such drive ");
	assert_string_equal(m.closed, "");
	monitor_close(&m);
}

static void monitor_distrusts(void **state) {
	(void)state;
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"nonsense\n", "invalid JSON"},
		{"{\"QMP\":{}}\n{\"QMP\":{}}\n", "greets twice"},
		{"{\"return\":{},\"id\":9}\n", "was not asked"},
		{"{\"QMP\":{}}\n{\"event\":\"\"}\n", "event without a name"},
		{"[1]\n", "invalid JSON"},
	};
	struct monitor m;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		monitor_open(&m);
		OK(qmp_command(m.qmp, "query-status", NULL, on_reply, &error));
		say(&m, bad[i].text);
		if (!strstr(m.closed, bad[i].says))
			fail_msg("%s: `%s`", bad[i].text, m.closed);
		assert_string_not_equal(m.replies, ""); /* who waits is told */
		assert_int_equal(qmp_command(m.qmp, "quit", NULL, NULL, &error), -ENOTCONN);
		monitor_close(&m);
	}
	/* A message without an end. */
	monitor_open(&m);
	_free_ char *flood = malloc(65536);
	memset(flood, '[', 65536);
	for (int i = 0; i < 64 && !m.closed[0]; i++) {
		(void)!write(m.qemu, flood, 65536);
		turn(m.loop);
	}
	assert_non_null(strstr(m.closed, "past"));
	monitor_close(&m);
	/* More commands than are ever answered. */
	monitor_open(&m);
	for (int i = 0; i < QMP_PENDING_MAX; i++)
		OK(qmp_command(m.qmp, "stop", NULL, NULL, &error));
	assert_int_equal(qmp_command(m.qmp, "stop", NULL, NULL, &error), -EBUSY);
	monitor_close(&m);
}

/* ---- router advertisements ---- */

static void advertisement(void **state) {
	(void)state;
	static const uint8_t want[RA_MESSAGE_MAX] = {
		134, 0, 0,  0,    64,   0, 0x07, 0x08, 0, 0, 0,    0,    0, 0, 0, 0, /* lifetime 1800 */
		1,   1, 0,  0,    0x5e, 0, 2,    1,                                  /* source link-layer address */
		5,   1, 0,  0,    0,    0, 0x05, 0xdc,                               /* MTU 1500 */
		3,   4, 64, 0x40, 0,    1, 0x51, 0x80, 0, 1, 0x51, 0x80, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 1, 0, 2};
	struct ra_config c = {.mac = {{0, 0, 0x5e, 0, 2, 1}}, .mtu = 1500};
	uint8_t msg[RA_MESSAGE_MAX];

	OK(prefix_parse("2001:db8:1:2::/64", &c.prefix, &error));
	assert_int_equal(ra_build(&c, msg), RA_MESSAGE_MAX);
	assert_memory_equal(msg, want, RA_MESSAGE_MAX);
}

static void solicitations(void **state) {
	(void)state;
	const struct in6_addr from = {.s6_addr = {0xfe, 0x80, [15] = 2}}, nobody = {0};
	uint8_t rs[24] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 5, 14, 1};

	assert_true(ra_solicitation_valid(rs, 8, &nobody, 255));
	assert_true(ra_solicitation_valid(rs, 16, &from, 255));
	assert_true(ra_solicitation_valid(rs, 24, &from, 255));
	assert_false(ra_solicitation_valid(rs, 16, &from, 254));
	assert_false(ra_solicitation_valid(rs, 16, &nobody, 255)); /* source link-layer address of nobody */
	assert_false(ra_solicitation_valid(rs, 7, &from, 255));
	assert_false(ra_solicitation_valid(rs, 15, &from, 255));
	assert_false(ra_solicitation_valid(rs, 9, &from, 255));
	rs[9] = 0;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255)); /* an option without length */
	rs[9] = 3;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255)); /* an option past the end */
	rs[9] = 1;
	rs[1] = 1;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255));
	rs[1] = 0;
	rs[0] = 134;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255));
}

/* An ICMPv6 message in a frame from a host to all routers; SPOIL is added to the checksum. */
static size_t frame(uint8_t *out, const uint8_t *msg, size_t len, uint8_t hop_limit, uint16_t spoil) {
	static const uint8_t head[] = {0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 5, 0x86, 0xdd, 0x60, 0, 0, 0};
	static const uint8_t addresses[32] = {0xfe, 0x80, [15] = 5, [16] = 0xff, 2, [31] = 2};
	uint32_t sum = 58 + (uint32_t)len;

	memcpy(out, head, sizeof(head));
	out[18] = 0;
	out[19] = (uint8_t)len;
	out[20] = 58;
	out[21] = hop_limit;
	memcpy(out + 22, addresses, 32);
	memcpy(out + 54, msg, len);
	for (size_t i = 22; i < 54 + len; i += 2)
		sum += (uint32_t)out[i] << 8 | (i + 1 < 54 + len ? out[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = (~sum & 0xffff) ^ spoil;
	out[56] = (uint8_t)(sum >> 8);
	out[57] = (uint8_t)sum;
	return 54 + len;
}

/* How many advertisements have come when none more has for 100 ms; LEAST are waited for. */
static int advertisements(sd_event *loop, int fd, int least) {
	uint64_t deadline = now_monotonic_ns() + 60 * NSEC_PER_SEC;
	uint8_t got[2048];
	int n = 0;
	for (int quiet = 0; quiet < 10 || (n < least && now_monotonic_ns() < deadline); quiet++) {
		sd_event_run(loop, 10000);
		for (ssize_t len; (len = recv(fd, got, sizeof(got), MSG_DONTWAIT)) > 0;)
			if (len == 54 + RA_MESSAGE_MAX && got[54] == 134 && got[21] == 255) {
				n++;
				quiet = 0;
			}
	}
	return n;
}

static void command(const char *const *argv) {
	OK(proc_run(&(struct proc_spec){.argv = argv}, NULL, &error));
}

/* Last of all tests: it leaves the process in a network namespace of its own. */
static void solicitations_are_answered(void **state) {
	(void)state;
	static const uint8_t rs[] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 5},
			     no_length[] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 5},
			     cut[] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 5}, advert[16] = {134};
	const char *const make[] = {"ip", "link", "add", "tap", "type", "veth", "peer", "name", "guest", NULL},
			  *const address[] = {"ip", "addr", "add", "fe80::1/64", "dev", "tap", "nodad", NULL},
			  *const up_a[] = {"ip", "link", "set", "tap", "up", NULL}, *const up_b[] = {"ip",  "link",
	                                                                                             "set", "guest",
	                                                                                             "up",  NULL};
	struct ra_config c = {.mac = {{0, 0, 0x5e, 0, 2, 1}}, .mtu = 1500};
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IPV6)};
	uint8_t out[256];
	sd_event *loop;
	struct ra *ra;
	int ra_fd;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		skip();
	command(make);
	command(address);
	command(up_b);
	command(up_a);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IPV6));
	sa.sll_ifindex = (int)if_nametoindex("guest");
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	OK(sd_event_new(&loop));
	OK(prefix_parse("2001:db8:1:2::/64", &c.prefix, &error));
	OK(ra_open("tap", &ra_fd, &error));
	OK(ra_new(&ra, loop, ra_fd, &c, &error));
	assert_int_equal(advertisements(loop, fd, 1), 1); /* unasked for */
	assert_int_equal(send(fd, out, frame(out, rs, sizeof(rs), 255, 0), 0), 54 + sizeof(rs));
	assert_int_equal(advertisements(loop, fd, 1), 1);
	send(fd, out, frame(out, rs, sizeof(rs), 254, 0), 0);
	send(fd, out, frame(out, rs, sizeof(rs), 255, 1), 0);
	send(fd, out, frame(out, rs, 7, 255, 0), 0);
	send(fd, out, frame(out, no_length, sizeof(no_length), 255, 0), 0);
	send(fd, out, frame(out, cut, sizeof(cut), 255, 0), 0);
	send(fd, out, frame(out, advert, sizeof(advert), 255, 0), 0);
	assert_int_equal(advertisements(loop, fd, 0), 0);
	for (int i = 0; i < 200; i++)
		send(fd, out, frame(out, rs, sizeof(rs), 255, 0), 0);
	assert_in_range(advertisements(loop, fd, 1), 1, RA_BURST);
	ra_free(ra);
	sd_event_unref(loop);
	close(fd);
}

/* ---- console and control socket ---- */

static int listen_at(const char *name) {
	_free_ char *path = strf("unix:%s/%s", dir, name);
	int fd;
	OK(listen_socket(path, &fd, &error));
	return fd;
}

static int connect_to(const char *name) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", dir, name);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static ssize_t drain(int fd, char *out, size_t size) {
	size_t n = 0;
	ssize_t r;
	while (n < size - 1 && (r = read(fd, out + n, size - 1 - n)) > 0)
		n += (size_t)r;
	out[n] = 0;
	return (ssize_t)n;
}

static void console_keeps_and_passes(void **state) {
	(void)state;
	static char text[CONSOLE_KEEP * 2];
	struct console *con;
	sd_event *loop;
	int sv[2];

	OK(sd_event_new(&loop));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	OK(console_new(&con, loop, sv[0], listen_at("console"), &error));
	assert_int_equal(write(sv[1], "boot\n", 5), 5);
	turn(loop);
	int a = connect_to("console"), b = connect_to("console");
	turn(loop);
	drain(a, text, sizeof(text));
	assert_string_equal(text, "boot\n");
	assert_int_equal(write(a, "ls\n", 3), 3);
	turn(loop);
	drain(sv[1], text, sizeof(text));
	assert_string_equal(text, "ls\n");
	/* A client that does not read neither holds up the guest nor costs more than its bound. */
	memset(text, 'x', sizeof(text));
	for (int i = 0; i < 16; i++) {
		size_t sent = 0;
		while (sent < CONSOLE_KEEP) {
			ssize_t n = write(sv[1], text, CONSOLE_KEEP - sent);
			sent += n > 0 ? (size_t)n : 0;
			turn(loop);
			drain(a, text, sizeof(text));
		}
	}
	assert_int_equal(write(sv[1], "end\n", 4), 4);
	turn(loop);
	drain(a, text, sizeof(text));
	assert_non_null(strstr(text, "end\n"));
	while (read(b, text, sizeof(text)) > 0)
		;
	assert_int_equal(read(b, text, 1), 0); /* was disconnected */
	int c = connect_to("console");
	turn(loop);
	ssize_t n = drain(c, text, sizeof(text));
	assert_in_range(n, CONSOLE_KEEP / 4, CONSOLE_KEEP);
	assert_string_equal(text + n - 4, "end\n");
	close(a);
	close(b);
	close(c);
	turn(loop);
	console_free(con);
	close(sv[1]);
	sd_event_unref(loop);
}

static void print_status(void *userdata, struct buf *out) {
	vm_status_print(userdata, out);
}

static int on_command(void *userdata, const char *name, struct error *err) {
	struct vm_status *s = userdata;
	if (!streq(name, "reset"))
		return error_set(err, EINVAL, "no such command");
	s->resets++;
	return 0;
}

static void control_answers(void **state) {
	(void)state;
	static const struct control_ops ops = {.status = print_status, .command = on_command};
	struct vm_status s = {.state = VM_RUNNING};
	struct control *con;
	char text[8192];
	sd_event *loop;

	OK(sd_event_new(&loop));
	OK(control_new(&con, loop, listen_at("control"), &ops, &s, &error));
	int a = connect_to("control");
	turn(loop);
	drain(a, text, sizeof(text));
	assert_non_null(strstr(text, "\"state\":\"running\""));
	(void)!write(a, "{\"command\":\"reset\"}\n{\"command\":\"dance\"}\n{\"other\":1}\nrubbish\n", 61);
	turn(loop);
	turn(loop);
	drain(a, text, sizeof(text));
	assert_non_null(strstr(text, "{\"error\":\"\"}\n{\"error\":\"no such command\"}\n{\"error\":\"other: unknown"));
	assert_non_null(strstr(text, "invalid JSON"));
	assert_int_equal(s.resets, 1);
	s.state = VM_PAUSED;
	control_changed(con);
	drain(a, text, sizeof(text));
	assert_non_null(strstr(text, "\"state\":\"paused\""));
	/* A line without an end costs the connection. */
	memset(text, 'x', sizeof(text));
	(void)!write(a, text, sizeof(text));
	turn(loop);
	assert_int_equal(drain(a, text, sizeof(text)), 0);
	assert_true(read(a, text, 1) == 0 || errno == ECONNRESET);
	close(a);
	control_free(con);
	sd_event_unref(loop);
}

/* ---- what the agent gives ---- */

/* In a process of its own, whose descriptors are its own. */
static int take_given(bool all) {
	struct vm_fds f = VM_FDS_NONE, taken = VM_FDS_NONE;
	struct vm_fds_env env;
	struct stat before, after;

	if (vm_fds_open(dir, NULL, &f, &error) < 0)
		return 1;
	/* Each where another belongs, or anywhere. */
	if (dup2(f.fd[VM_FD_END], VM_FDS_FIRST) < 0 || dup2(f.fd[VM_FD_CONTROL], VM_FDS_FIRST + 1) < 0)
		return 2;
	f.fd[VM_FD_END] = VM_FDS_FIRST;
	f.fd[VM_FD_CONTROL] = VM_FDS_FIRST + 1;
	f.fd[VM_FD_RA] = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!all)
		f.fd[VM_FD_END] = -1;
	if (fstat(f.fd[VM_FD_CONTROL], &before) < 0 || vm_fds_pass(&f, &env, &error) < 0)
		return 3;
	putenv(env.pid);
	putenv(env.fds);
	putenv(env.names);
	for (int i = VM_FDS_FIRST; i < VM_FDS_FIRST + 3; i++)
		if (fcntl(i, F_GETFD) != 0)
			return 4;
	int r = vm_fds_take(&taken, &error);
	if (!all)
		return r == -EBADF && strstr(error.msg, "`end`") ? 0 : 5;
	if (r < 0 || fstat(taken.fd[VM_FD_CONTROL], &after) < 0 || before.st_ino != after.st_ino)
		return 6;
	if (write(taken.fd[VM_FD_END], "x", 1) != 1 || taken.fd[VM_FD_TAP] != -1 || taken.fd[VM_FD_RA] < 0)
		return 7;
	for (size_t i = 0; i < VM_FDS; i++)
		if (taken.fd[i] >= 0 && fcntl(taken.fd[i], F_GETFD) != FD_CLOEXEC)
			return 8;
	return getenv("LISTEN_FDS") ? 9 : 0;
}

static void descriptors_are_given(void **state) {
	(void)state;
	int status;

	for (int all = 0; all < 2; all++) {
		fflush(NULL);
		pid_t pid = fork();
		if (pid == 0)
			_exit(take_given(all));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	/* Nobody gave this process any. */
	struct vm_fds f;
	assert_int_equal(vm_fds_take(&f, &error), -EBADF);
}

/* ---- images ---- */

static char *put(const char *name, const void *data, size_t len, mode_t mode) {
	char *path = strf("%s/%s", dir, name);
	OK(write_file_atomic(path, data, len, mode, &error));
	return path;
}

static void images(void **state) {
	(void)state;
	static uint8_t kernel[1024] = {[0x1fe] = 0x55, [0x1ff] = 0xaa, [0x202] = 'H', 'd', 'r', 'S'};
	static uint8_t disk[1024];
	uint8_t qcow2[512] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, [28] = 0, 16, 0, 0};
	uint64_t size = 0;

	_free_ char *k = put("kernel", kernel, sizeof(kernel), 0644), *raw = put("raw", disk, sizeof(disk), 0644),
		    *q = put("qcow2", qcow2, sizeof(qcow2), 0644), *odd = put("odd", disk, 513, 0644),
		    *secret = put("secret", kernel, sizeof(kernel), 0600), *empty = put("empty", "", 0, 0644);
	OK(image_check_kernel(k, &error));
	assert_int_equal(image_check_kernel(raw, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "not a Linux kernel"));
	assert_int_equal(image_check_kernel(empty, &error), -EINVAL);
	assert_int_equal(image_check_kernel(dir, &error), -EINVAL);
	assert_int_equal(image_check_kernel(secret, &error), -EACCES);
	assert_non_null(strstr(error.msg, "chmod"));
	assert_int_equal(image_check_kernel("/nonexistent", &error), -ENOENT);
	OK(image_check_initrd(k, &error));
	assert_int_equal(image_check_initrd(empty, &error), -EINVAL);
	OK(image_check_disk(raw, VM_FORMAT_RAW, &size, &error));
	assert_int_equal(size, 1024);
	OK(image_check_disk(q, VM_FORMAT_QCOW2, &size, &error));
	assert_int_equal(size, 16 << 16);
	assert_int_equal(image_check_disk(raw, VM_FORMAT_QCOW2, &size, &error), -EINVAL);
	assert_int_equal(image_check_disk(q, VM_FORMAT_RAW, &size, &error), -EINVAL);
	assert_int_equal(image_check_disk(odd, VM_FORMAT_RAW, &size, &error), -EINVAL);
	/* What would have QEMU open other files. */
	qcow2[15] = 1;
	_free_ char *backed = put("backed", qcow2, sizeof(qcow2), 0644);
	assert_int_equal(image_check_disk(backed, VM_FORMAT_QCOW2, &size, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "backing file"));
	qcow2[15] = 0;
	qcow2[79] = 4;
	_free_ char *external = put("external", qcow2, sizeof(qcow2), 0644);
	assert_int_equal(image_check_disk(external, VM_FORMAT_QCOW2, &size, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "external data file"));
}

static int setup(void **state) {
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/nacre-test-vm-%d", getpid());
	return mkdir_p(dir, 0755, &error);
}

static int teardown(void **state) {
	(void)state;
	return remove_tree(dir, &error);
}

/* What becomes of a process that makes a call behind a filter: a signal, or an errno, or 0. */
struct outcome {
	int signal, code;
};

static struct outcome make_call(enum filter which, const long c[7]) {
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (filter_apply(which, &error) < 0)
			_exit(200);
		long r = syscall(c[0], c[1], c[2], c[3], c[4], c[5], c[6]);
		_exit(r < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? (struct outcome){.signal = WTERMSIG(status)}
	                           : (struct outcome){.code = WEXITSTATUS(status)};
}

static void forbidden_calls_kill(void **state) {
	(void)state;
	static const long calls[][7] = {
		{SYS_socket, AF_NETLINK, SOCK_RAW, 0},
		{SYS_socket, AF_VSOCK, SOCK_STREAM, 0},
		{SYS_socket, AF_INET6, SOCK_DGRAM, 0},
		{SYS_socket, AF_UNIX, SOCK_STREAM, 0},
		{SYS_socket, AF_PACKET, SOCK_RAW, 0},
		{SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0},
		{SYS_connect, 0, 0, 0},
		{SYS_keyctl, 0, -3, 0},
		{SYS_add_key, 0, 0, 0},
		{SYS_bpf, 0, 0, 0},
		{SYS_perf_event_open, 0, 0, -1, -1, 0},
		{SYS_userfaultfd, 0},
		{SYS_unshare, CLONE_NEWUSER},
		{SYS_setns, 0, 0},
		{SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0},
		{SYS_fork},
		{SYS_vfork},
		{SYS_mount, 0, 0, 0, 0, 0},
		{SYS_umount2, 0, 0},
		{SYS_pivot_root, 0, 0},
		{SYS_chroot, 0},
		{SYS_ptrace, 0, 0, 0, 0},
		{SYS_process_vm_readv, 1, 0, 0, 0, 0, 0},
		{SYS_process_vm_writev, 1, 0, 0, 0, 0, 0},
		{SYS_pidfd_getfd, 0, 0, 0},
		{SYS_io_uring_enter, 0, 0, 0, 0, 0, 0},
		{SYS_io_setup, 1, 0},
		{SYS_setuid, 0},
		{SYS_setresuid, 0, 0, 0},
		{SYS_capset, 0, 0},
		{SYS_init_module, 0, 0, 0},
		{SYS_kexec_load, 0, 0, 0, 0},
		{SYS_open_by_handle_at, 0, 0, 0},
		{SYS_name_to_handle_at, 0, 0, 0, 0, 0},
		{SYS_shmget, 0, 4096, 0},
		{SYS_msgget, 0, 0},
		{SYS_semget, 0, 1, 0},
		{SYS_personality, 0},
		{SYS_quotactl, 0, 0, 0, 0},
		{SYS_chmod, 0, 0},
		{SYS_fchmod, 0, 0},
		{SYS_mkdir, 0, 0},
		{SYS_rename, 0, 0},
		{SYS_renameat2, 0, 0, 0, 0, 0},
		{SYS_unlink, 0},
		{SYS_unlinkat, 0, 0, 0},
		{SYS_link, 0, 0},
		{SYS_symlink, 0, 0},
		{SYS_mknod, 0, 0, 0},
		{SYS_prctl, PR_SET_DUMPABLE, 1},
		/* Past RLIMIT_FSIZE. */
		{SYS_fallocate, -1, FALLOC_FL_KEEP_SIZE, 0, 4096},
		{SYS_fallocate, -1, FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, 0, 4096},
		{SYS_fallocate, -1, FALLOC_FL_INSERT_RANGE, 0, 4096},
		{0x40000000 | 39}, /* getpid of the x32 interface */
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct outcome q = make_call(FILTER_QEMU, calls[i]), v = make_call(FILTER_NACRE_VM, calls[i]);
		if (q.signal != SIGSYS || v.signal != SIGSYS)
			fail_msg("call %ld (entry %zu): signals %d and %d, codes %d and %d", calls[i][0], i, q.signal,
			         v.signal, q.code, v.code);
	}
	/* QEMU is told that the kernel has none of these. */
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_io_uring_setup, 1, 0}).code, ENOSYS);
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_clone3, 0, 0}).code, ENOSYS);
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_memfd_create, 0, 0}).code, ENOSYS);
	/* It may do so with files. Descriptor -1 would be EBADF. */
	static const int modes[] = {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE};
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_fallocate, -1, modes[i], 0, 4096}).code,
		                 EBADF);
	/* Its forbidden modes by another name: XFS_IOC_RESVSP64 and XFS_IOC_ZERO_RANGE, which every file system has. */
	const unsigned long reserve = _IOC(_IOC_WRITE, 'X', 42, 48), zero = _IOC(_IOC_WRITE, 'X', 57, 48);
	for (int i = 0; i < 2; i++) {
		const enum filter which = i ? FILTER_QEMU : FILTER_NACRE_VM;
		assert_int_equal(make_call(which, (const long[7]){SYS_ioctl, -1, FIONBIO, 0}).code, EBADF);
		assert_int_equal(make_call(which, (const long[7]){SYS_ioctl, -1, (long)reserve, 0}).code, ENOTTY);
		assert_int_equal(make_call(which, (const long[7]){SYS_ioctl, -1, (long)(1UL << 32 | zero), 0}).code,
		                 ENOTTY);
	}
	assert_int_equal(make_call(FILTER_NACRE_VM, (const long[7]){SYS_io_uring_setup, 1, 0}).signal, SIGSYS);
	assert_int_equal(make_call(FILTER_NACRE_VM, (const long[7]){SYS_execve, 0, 0, 0}).signal, SIGSYS);
	assert_int_equal(make_call(FILTER_QEMU, (const long[7]){SYS_getpid}).signal, 0);
	assert_int_equal(make_call(FILTER_NACRE_VM, (const long[7]){SYS_getpid}).signal, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config_round_trip),
		cmocka_unit_test(config_rejects),
		cmocka_unit_test(arguments),
		cmocka_unit_test(status_round_trip),
		cmocka_unit_test(monitor_talks),
		cmocka_unit_test(monitor_distrusts),
		cmocka_unit_test(advertisement),
		cmocka_unit_test(solicitations),
		cmocka_unit_test(console_keeps_and_passes),
		cmocka_unit_test(control_answers),
		cmocka_unit_test(descriptors_are_given),
		cmocka_unit_test(images),
		cmocka_unit_test(forbidden_calls_kill),
		cmocka_unit_test(solicitations_are_answered),
	};
	return cmocka_run_group_tests_name("vm", tests, setup, teardown);
}
