/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The server's request path: lines of "METHOD TARGET [CONTENT-TYPE]", each followed by a line with its body (empty for
 * none). All requests go to one fresh server in memory. Afterwards every stored object must still parse as its kind and
 * be stored under the name in its metadata.
 */

#include "fuzz.h"

#include <string.h>

#include "apiserver/read/watch.h"
#include "apiserver/server.h"
#include "base/util.h"
#include "stored.h"

#define REQUESTS_MAX 32

static void one(struct server *s, char *line, const char *body) {
	char *save = NULL;
	const char *method = strtok_r(line, " ", &save), *target = strtok_r(NULL, " ", &save);
	const char *type = strtok_r(NULL, " ", &save);
	if (!method || !target)
		return;
	struct request *r = request_new(method, target);
	CHECK(r);
	r->user = user_new_admin();
	if (r->reply.code == 0 && request_set_content_type(r, type) == 0 && request_set_accept(r, type) == 0)
		buf_puts(&r->body, body);
	CHECK(server_handle(s, r));
	CHECK(r->reply.code >= 200 && r->reply.code < 600);
	CHECK(r->reply.code != 500 && !r->reply.body.failed);
	if (r->reply.watch) {
		char buf[512];
		for (int i = 0; i < 64 && watch_read(r->reply.watch, buf, sizeof(buf)) > 0; i++)
			;
	}
	request_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct server *s = NULL;
	struct error err = {0};
	char *text = malloc(size + 1), *p = text;
	CHECK(text && server_new(&s, NULL, NULL, &err) == 0);
	memcpy(text, data, size);
	text[size] = '\0';
	for (int i = 0; i < REQUESTS_MAX && p; i++) {
		char *line = strsep(&p, "\n");
		const char *body = p ? strsep(&p, "\n") : "";
		one(s, line, body);
	}
	server_tick(s);
	check_stored(s->store);
	server_free(s);
	free(text);
	return 0;
}
