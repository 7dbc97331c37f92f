/* SPDX-License-Identifier: Apache-2.0 */

/* A server with its sockets, and its clients on the same loop. tests/api tests what clients see. */

#include "base/testing.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "apiserver/server.h"
#include "base/loop.h"
#include "base/util.h"

#define READERS   16
#define READS_MAX 50000 /* takes a server seconds, even if it does nothing else */

struct client {
	int fd;
	sd_event_source *source;
	const char *request;
	size_t answers;
	bool again; /* sends the request again after each answer */
};

static struct error error;

/* The answers are short, so one read gets the whole answer. */
static int on_answer(_unused_ sd_event_source *src, int fd, _unused_ uint32_t revents, void *userdata) {
	struct client *c = userdata;
	char buf[4096];
	const ssize_t n = read(fd, buf, sizeof(buf) - 1);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_non_null(strstr(buf, "HTTP/1.1 20"));
	c->answers++;
	if (c->again)
		assert_int_equal(write(fd, c->request, strlen(c->request)), strlen(c->request));
	return 0;
}

static void client_open(struct client *c, sd_event *loop, const char *path, const char *request) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	c->request = request;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_true(sd_event_add_io(loop, &c->source, c->fd, EPOLLIN, on_answer, c) >= 0);
	assert_int_equal(write(c->fd, request, strlen(request)), strlen(request));
}

static void client_close(struct client *c) {
	sd_event_source_disable_unref(c->source);
	close(c->fd);
}

/* Even if clients send reads without a pause, a write is done in between. */
static void test_write_among_reads(void **state) {
	static const char get[] = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
	static const char post[] = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\n"
				   "Content-Type: application/json\r\nContent-Length: 27\r\n\r\n"
				   "{\"metadata\": {\"name\": \"c\"}}";
	char dir[] = "/tmp/nacre-test-XXXXXX";
	struct client readers[READERS] = {0}, writer = {0};
	struct server *server = NULL;
	struct http *http = NULL, *other = NULL;
	size_t reads = 0;
	assert_non_null(test_mkdtemp(dir));
	_free_ char *path = strf("%s/sock", dir), *listen = strf("unix:%s", path);
	_free_ char *path2 = strf("%s/other", dir), *listen2 = strf("unix:%s", path2);
	/* The writer uses the same listener as the readers, or another one. */
	const bool same = *state;
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	OK(loop_new(&loop, &error));
	OK(server_new(&server, loop, NULL, &error));
	OK(http_new(&http, &server->site, listen, 2, NULL, &error));
	OK(http_new(&other, &server->site, listen2, 2, NULL, &error));
	for (size_t i = 0; i < READERS; i++) {
		readers[i].again = true;
		client_open(&readers[i], loop, path, get);
	}
	client_open(&writer, loop, same ? path : path2, post);
	while (!writer.answers && reads < READS_MAX) {
		OK(sd_event_run(loop, UINT64_MAX));
		reads = 0;
		for (size_t i = 0; i < READERS; i++)
			reads += readers[i].answers;
	}
	assert_int_equal(writer.answers, 1);
	for (size_t i = 0; i < READERS; i++)
		client_close(&readers[i]);
	client_close(&writer);
	http_free(http);
	http_free(other);
	server_free(server);
	assert_int_equal(rmdir(dir), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_write_among_reads, "same"),
		cmocka_unit_test(test_write_among_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
