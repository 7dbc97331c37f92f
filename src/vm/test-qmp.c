/* SPDX-License-Identifier: Apache-2.0 */

/* The client of QEMU's monitor, tested with a QEMU that misbehaves. */

#include "base/testing.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/util.h"
#include "vm/qmp.h"

static struct error error;

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

/* Runs the loop until nothing is left to do. */
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
		{"{\"return\":{},\"id\":9}\n", "without a command"},
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
		assert_string_not_equal(m.replies, ""); /* whoever waits for a reply is told */
		assert_int_equal(qmp_command(m.qmp, "quit", NULL, NULL, &error), -ENOTCONN);
		monitor_close(&m);
	}
	/* A message that never ends. */
	monitor_open(&m);
	_free_ char *flood = malloc(65536);
	memset(flood, '[', 65536);
	for (int i = 0; i < 64 && !m.closed[0]; i++) {
		(void)!write(m.qemu, flood, 65536);
		turn(m.loop);
	}
	assert_non_null(strstr(m.closed, "of more than"));
	monitor_close(&m);
	/* More commands than may wait for an answer. */
	monitor_open(&m);
	for (int i = 0; i < QMP_PENDING_MAX; i++)
		OK(qmp_command(m.qmp, "stop", NULL, NULL, &error));
	assert_int_equal(qmp_command(m.qmp, "stop", NULL, NULL, &error), -EBUSY);
	monitor_close(&m);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(monitor_talks),
		cmocka_unit_test(monitor_distrusts),
	};
	return cmocka_run_group_tests_name("vm-qmp", tests, NULL, NULL);
}
