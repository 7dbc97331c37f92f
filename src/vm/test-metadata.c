/* SPDX-License-Identifier: Apache-2.0 */

/* The connections of the metadata service, and their limits. */

#include "vm/testing.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/listen.h"
#include "base/loop.h"
#include "vm/metadata.h"

#define GET_VENDOR "GET /nocloud/vendor-data HTTP/1.1\r\nHost: 169.254.169.254\r\n"

struct server {
	struct metadata *m;
	sd_event *loop;
};

/* The service on a socket of the folder, which behaves as TCP does here. */
static struct server server_start(void) {
	_free_ char *path = strf("unix:%s/socket", dir);
	struct vm_config c;
	struct server s;
	int fd;

	vm_config_init(&c);
	snprintf(c.seed, sizeof(c.seed), "%s", dir);
	OK(sd_event_new(&s.loop));
	OK(listen_socket(path, &fd, &error));
	OK(metadata_new(&s.m, s.loop, -1, fd, &c, &error));
	return s;
}

static void server_stop(struct server *s) {
	metadata_free(s->m);
	sd_event_unref(s->loop);
}

static void turn(struct server *s) {
	while (sd_event_run(s->loop, 0) > 0)
		;
}

static int connect_to(struct server *s) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/socket", dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	turn(s);
	return fd;
}

static void say(struct server *s, int fd, const char *text) {
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	turn(s);
}

/* How many answers of status 200 came; -1 if the connection is closed and none did. */
static int answers(struct server *s, int fd) {
	char text[65536];
	size_t len = 0;
	ssize_t n;
	int found = 0;

	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0) {
		len += (size_t)n;
		turn(s);
	}
	text[len] = 0;
	for (const char *p = text; (p = strstr(p, "HTTP/1.1 200 ")); p++)
		found++;
	return n == 0 && !len ? -1 : found;
}

static void connections_are_kept(void **state) {
	(void)state;
	struct server s = server_start();
	int fd = connect_to(&s);

	/* A request in pieces, two at once, and one and a half. */
	for (const char *p = GET_VENDOR "\r\n"; *p; p++)
		say(&s, fd, (const char[]){*p, 0});
	assert_int_equal(answers(&s, fd), 1);
	say(&s, fd, GET_VENDOR "\r\n" GET_VENDOR "\r\n");
	assert_int_equal(answers(&s, fd), 2);
	say(&s, fd, GET_VENDOR "\r\n" GET_VENDOR);
	assert_int_equal(answers(&s, fd), 1);
	say(&s, fd, "\r\n");
	assert_int_equal(answers(&s, fd), 1);
	/* After a request that asks for it, or a malformed one, nothing more is answered. */
	say(&s, fd, GET_VENDOR "Connection: close\r\n\r\n" GET_VENDOR "\r\n");
	assert_int_equal(answers(&s, fd), 1);
	assert_int_equal(answers(&s, fd), -1);
	close(fd);
	fd = connect_to(&s);
	say(&s, fd, "rubbish\r\n\r\n" GET_VENDOR "\r\n");
	assert_int_equal(answers(&s, fd), 0);
	assert_int_equal(answers(&s, fd), -1);
	close(fd);
	/* A client that has ended its side gets its answer. */
	fd = connect_to(&s);
	assert_true(write(fd, GET_VENDOR "\r\n", sizeof(GET_VENDOR "\r\n") - 1) > 0);
	shutdown(fd, SHUT_WR);
	turn(&s);
	assert_int_equal(answers(&s, fd), 1);
	close(fd);
	server_stop(&s);
}

static void the_oldest_connection_gives_way(void **state) {
	(void)state;
	struct server s = server_start();
	int fd[METADATA_CONNECTIONS_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = connect_to(&s);
		say(&s, fd[i], "GET / HT");
	}
	/* The first one is served and so is no longer the oldest; bytes of a request that isn't complete don't count.
	 */
	say(&s, fd[0], "TP/1.0\r\n\r");
	say(&s, fd[0], "\n");
	close(fd[0]);
	turn(&s);
	fd[0] = connect_to(&s);
	say(&s, fd[1], "TP");
	int more = connect_to(&s);
	assert_int_equal(answers(&s, fd[1]), -1);
	for (size_t i = 2; i < ARRAY_SIZE(fd); i++)
		assert_int_equal(answers(&s, fd[i]), 0);
	say(&s, more, GET_VENDOR "\r\n");
	assert_int_equal(answers(&s, more), 1);
	say(&s, fd[0], GET_VENDOR "\r\n");
	assert_int_equal(answers(&s, fd[0]), 1);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	close(more);
	server_stop(&s);
}

/* Large answers to a client that takes them slowly, while others are served. */
static void slow_readers(void **state) {
	(void)state;
	static char large[SEED_USER_DATA_MAX];
	_free_ char *file = strf("%s/user-data", dir);
	struct server s = server_start();
	int fd = connect_to(&s), other = connect_to(&s);
	size_t len = 0;
	char text[4096];
	ssize_t n;

	memset(large, 'x', sizeof(large));
	OK(write_file_atomic(file, large, sizeof(large), 0644, &error));
	for (int i = 0; i < 16; i++)
		(void)!write(fd, "GET /nocloud/user-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 58);
	turn(&s);
	say(&s, other, GET_VENDOR "\r\n");
	assert_int_equal(answers(&s, other), 1);
	while ((n = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			len += text[i] == 'x';
		turn(&s);
	}
	assert_true(n < 0 && errno == EAGAIN);
	assert_int_equal(len % sizeof(large), len / sizeof(large)); /* "text/plain" has one more */
	assert_int_equal(len / sizeof(large), 16);
	close(fd);
	close(other);
	server_stop(&s);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections_are_kept),
		cmocka_unit_test(the_oldest_connection_gives_way),
		cmocka_unit_test(slow_readers),
	};
	return cmocka_run_group_tests_name("vm-metadata", tests, setup, teardown);
}
