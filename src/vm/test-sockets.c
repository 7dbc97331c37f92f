/* SPDX-License-Identifier: Apache-2.0 */

/* The console, the control socket, and the descriptors that the agent passes. */

#include "vm/testing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/listen.h"
#include "base/loop.h"
#include "vm/console.h"
#include "vm/control.h"
#include "vm/fds.h"
#include "vm/responders.h"
#include "vm/status.h"

/* Runs the loop until nothing is left to do. */
static void turn(sd_event *loop) {
	while (sd_event_run(loop, 0) > 0)
		;
}

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
	/* A client that does not read doesn't hold up the guest and costs no more memory than its limit. */
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

/* A client that types nothing more gets all that was said until then, more than its socket holds, and then the end. */
static void console_ends_after_the_backlog(void **state) {
	(void)state;
	static char text[CONSOLE_BEHIND];
	struct console *con;
	sd_event *loop;
	int sv[2];
	size_t said = 0, got = 0;

	OK(sd_event_new(&loop));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	OK(console_new(&con, loop, sv[0], listen_at("ending"), &error));
	int a = connect_to("ending"), early = connect_to("ending");
	assert_int_equal(shutdown(early, SHUT_WR), 0);
	turn(loop);
	assert_int_equal(read(early, text, sizeof(text)), 0);
	memset(text, 'x', sizeof(text));
	for (ssize_t n; said < CONSOLE_BEHIND; said += (size_t)n) {
		assert_true((n = write(sv[1], text, MIN((size_t)1000, CONSOLE_BEHIND - said))) > 0);
		turn(loop);
	}
	assert_int_equal(write(a, "last", 4), 4);
	assert_int_equal(shutdown(a, SHUT_WR), 0);
	turn(loop);
	assert_int_equal(read(sv[1], text, sizeof(text)), 4);
	assert_int_equal(write(sv[1], "later", 5), 5);
	turn(loop);
	for (ssize_t n; (n = read(a, text, sizeof(text))) != 0; turn(loop))
		got += n > 0 ? (size_t)n : 0;
	assert_int_equal(got, said);
	/* One that goes away meanwhile leaves its place. */
	for (int i = 0; i < CONSOLE_CLIENTS_MAX + 1; i++) {
		int gone = connect_to("ending");
		shutdown(gone, SHUT_WR);
		turn(loop);
		close(gone);
		turn(loop);
	}
	int b = connect_to("ending");
	turn(loop);
	assert_true(read(b, text, sizeof(text)) > 0);
	close(a);
	close(b);
	close(early);
	turn(loop);
	console_free(con);
	close(sv[1]);
	sd_event_unref(loop);
}

/* A client that never reads what it gets after the end of its input takes no place from another one. */
static void console_has_a_place_beside_ended_clients(void **state) {
	(void)state;
	static char text[CONSOLE_BEHIND];
	struct console *con;
	sd_event *loop;
	int sv[2], idle[CONSOLE_CLIENTS_MAX], new[CONSOLE_CLIENTS_MAX];

	OK(sd_event_new(&loop));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	OK(console_new(&con, loop, sv[0], listen_at("places"), &error));
	for (int i = 0; i < CONSOLE_CLIENTS_MAX; i++)
		idle[i] = connect_to("places");
	turn(loop);
	/* More than a socket holds. */
	memset(text, 'x', sizeof(text));
	for (size_t said = 0; said < CONSOLE_BEHIND; said += 1024) {
		assert_int_equal(write(sv[1], text, 1024), 1024);
		turn(loop);
	}
	/* The last one may type more. */
	for (int i = 0; i < CONSOLE_CLIENTS_MAX - 1; i++)
		shutdown(idle[i], SHUT_WR);
	turn(loop);
	/* Each new client takes the place of an ended one. */
	for (int i = 0; i < CONSOLE_CLIENTS_MAX - 1; i++) {
		new[i] = connect_to("places");
		turn(loop);
		assert_true(read(new[i], text, sizeof(text)) > 0);
		assert_int_equal(write(new[i], "typed", 5), 5);
		turn(loop);
		assert_int_equal(drain(sv[1], text, sizeof(text)), 5);
	}
	/* Now none has ended, so there is no place. */
	new[CONSOLE_CLIENTS_MAX - 1] = connect_to("places");
	turn(loop);
	assert_int_equal(read(new[CONSOLE_CLIENTS_MAX - 1], text, sizeof(text)), 0);
	assert_int_equal(write(idle[CONSOLE_CLIENTS_MAX - 1], "typed", 5), 5);
	turn(loop);
	assert_int_equal(drain(sv[1], text, sizeof(text)), 5);
	for (int i = 0; i < CONSOLE_CLIENTS_MAX; i++) {
		close(idle[i]);
		close(new[i]);
	}
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
	/* A line that never ends costs its sender the connection. */
	memset(text, 'x', sizeof(text));
	(void)!write(a, text, sizeof(text));
	turn(loop);
	assert_int_equal(drain(a, text, sizeof(text)), 0);
	assert_true(read(a, text, 1) == 0 || errno == ECONNRESET);
	close(a);
	control_free(con);
	sd_event_unref(loop);
}

/* Runs in another process, which may replace its descriptors. */
static int take_given(bool all) {
	struct vm_fds f = VM_FDS_NONE, taken = VM_FDS_NONE;
	struct vm_fds_env env;
	struct stat before, after;

	if (vm_fds_open(dir, NULL, &f, &error) < 0)
		return 1;
	/* Each descriptor where another belongs, or anywhere else. */
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
	/* Nobody has passed descriptors to this process. */
	struct vm_fds f;
	assert_int_equal(vm_fds_take(&f, &error), -EBADF);
}

/* An older agent prepares a guest without the sockets of DHCPv6 and metadata, and a newer nacre-vm starts it. */
static void descriptors_of_an_older_agent(void **state) {
	(void)state;
	static const char json[] =
		"{\"name\":\"t/a\",\"uuid\":\"0b5ac4a8-4b0e-4c35-9c3d-000000000001\",\"kernel\":\"/k\",\"tap\":\"lo\","
		"\"mac\":\"02:4e:01:00:00:05\",\"prefix\":\"2001:db8:1:1::/64\",\"ipv4\":\"192.0.0.2\","
		"\"ipv4Router\":\"169.254.0.1\"}";
	struct vm_fds fds = VM_FDS_NONE;
	struct responders *responders;
	struct vm_config c;
	sd_event *loop;

	OK(vm_config_parse(json, sizeof(json) - 1, &c, &error));
	fds.fd[VM_FD_RA] = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	fds.fd[VM_FD_DHCP4] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	OK(sd_event_new(&loop));
	OK(responders_new(&responders, loop, &c, &fds, &error));
	responders_free(responders);
	sd_event_unref(loop);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(console_keeps_and_passes),
		cmocka_unit_test(console_ends_after_the_backlog),
		cmocka_unit_test(console_has_a_place_beside_ended_clients),
		cmocka_unit_test(control_answers),
		cmocka_unit_test(descriptors_are_given),
		cmocka_unit_test(descriptors_of_an_older_agent),
	};
	return cmocka_run_group_tests_name("vm-sockets", tests, setup, teardown);
}
