/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A client of the API and its loop, for a command that blocks: _cleanup_(session_close) struct session s = {0}; */

#include "kube/client.h"

struct session {
	sd_event *loop;
	struct kube_client *client;
};

int session_open(struct session *s, const struct kube_access *access, struct error *err) _must_use_;
void session_close(struct session *s);
