/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The network of one instance without an API, for tests/node. Each line of the input is the number of slices that are
 * open for new connections (0: all), a space and the JSON of a struct instnet_spec. The network is made so, and the
 * answer is a line: "changed" if the rules were replaced, "same", or "failed: …". The argument is the prefix of
 * namespaces; the namespace `PREFIXpublic` exists.
 */

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "net/netns.h"
#include "node/instnet.h"

#define ID "0b5ac4a84b0e"

static int spec_read(const char *text, struct instnet_spec *ret, struct error *err) {
	_cleanup_(jr_done) struct jr r;

	jr_init(&r, text, strlen(text));
	jt_init(&jt_instnet_spec, ret);
	return jt_read(&jt_instnet_spec, &r, ret, err);
}

static int host_apply(const char *prefix, char *line, struct nl *public_nl, int public_fd, struct instnet_state *state,
                      struct error *err) {
	struct instnet_spec spec;
	char *rest;
	struct instnet_config c = {
		.prefix = prefix, .id = ID, .spec = &spec, .open_slices = strtoul(line, &rest, 10), .mtu = 1500};
	int r = spec_read(rest, &spec, err);

	return r < 0 ? r : instnet_ensure(&c, public_nl, public_fd, state, err);
}

int main(int argc, char **argv) {
	_free_ char *public_name = argc == 2 ? strf("%spublic", argv[1]) : NULL, *line = NULL;
	_nl_free_ struct nl *public_nl = NULL;
	_close_ int public_fd = -1;
	struct instnet_state state = {0};
	struct error err = {0};
	size_t room = 0;

	if (!public_name || netns_open(public_name, &public_fd, &err) < 0 || nl_open(&public_nl, public_fd, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	while (getline(&line, &room, stdin) > 0) {
		const struct instnet_state before = state;
		if (host_apply(argv[1], line, public_nl, public_fd, &state, &err) < 0)
			printf("failed: %s\n", err.msg);
		else
			puts(state.rules == before.rules ? "same" : "changed");
		fflush(stdout);
	}
	return 0;
}
