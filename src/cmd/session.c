/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/session.h"

int session_open(struct session *s, const struct kube_access *access, struct error *err) {
	return sd_event_new(&s->loop) < 0 ? error_oom(err)
	                                  : kube_client_open(&s->client, s->loop, access, "nacre", err);
}

void session_close(struct session *s) {
	s->client = kube_client_free(s->client);
	s->loop = sd_event_unref(s->loop);
}
