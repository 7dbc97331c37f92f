/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Input that nacre-vm reads from others. The first byte chooses: its config, a status (which must print and parse again
 * to the same), a router solicitation, or QEMU's side of the monitor.
 */

#include "fuzz.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vm/config.h"
#include "vm/qmp.h"
#include "vm/ra.h"
#include "vm/status.h"

static void config(const char *text, size_t len) {
	_buf_free_ struct buf out = {0};
	struct error err = {0};
	struct vm_config c, again;

	if (vm_config_parse(text, len, &c, &err) < 0) {
		CHECK(err.msg[0]);
		return;
	}
	vm_config_print(&c, &out);
	CHECK(vm_config_parse(out.data, out.len, &again, &err) == 0);
}

static void status(const char *text, size_t len) {
	_buf_free_ struct buf out = {0};
	struct error err = {0};
	struct vm_status s, again;

	if (vm_status_parse(text, len, &s, &err) < 0) {
		CHECK(err.msg[0]);
		return;
	}
	vm_status_print(&s, &out);
	CHECK(vm_status_parse(out.data, out.len, &again, &err) == 0);
	CHECK(again.state == s.state && again.end == s.end && again.resets == s.resets);
}

static void on_event(void *userdata, const char *name, const char *data, size_t len) {
	CHECK(name[0]);
}

static void on_closed(void *userdata, const struct error *err) {
	CHECK(err->msg[0]);
}

static void on_reply(void *userdata, const struct error *err, const char *data, size_t len) {
	++*(int *)userdata;
}

static void monitor(const char *text, size_t len) {
	static const struct qmp_ops ops = {.event = on_event, .closed = on_closed};
	struct error err;
	struct qmp *q;
	sd_event *loop;
	int sv[2], replies = 0;

	CHECK(sd_event_new(&loop) >= 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	CHECK(qmp_new(&q, loop, sv[0], &ops, &replies, &err) == 0);
	CHECK(qmp_command(q, "query-status", NULL, on_reply, &err) == 0);
	(void)!write(sv[1], text, len);
	close(sv[1]);
	while (sd_event_run(loop, 0) > 0)
		;
	CHECK(replies == 1);
	qmp_free(q);
	sd_event_unref(loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	const struct in6_addr from = {.s6_addr = {0xfe, 0x80, [15] = 2}};

	if (size < 1)
		return 0;
	const char *text = (const char *)data + 1;
	switch (data[0] % 4) {
	case 0: config(text, size - 1); break;
	case 1: status(text, size - 1); break;
	case 2: (void)ra_solicitation_valid(data + 1, size - 1, &from, 255); break;
	case 3: monitor(text, size - 1); break;
	}
	return 0;
}
