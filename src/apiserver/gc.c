/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/gc.h"

struct gc {
	struct server *server;
};

int gc_new(struct gc **ret, struct server *s, struct error *err) {
	struct gc *g = calloc(1, sizeof(*g));
	if (!g)
		return error_oom(err);
	g->server = s;
	*ret = g;
	return 0;
}

struct gc *gc_free(struct gc *g) {
	free(g);
	return NULL;
}

void gc_notice(struct gc *g, unsigned kind, const struct watch_event *e) {
}

void gc_run(struct gc *g) {
}

void gc_tick(struct gc *g) {
}
