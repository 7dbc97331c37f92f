/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/endpoint.h"
#include "api/host.h"
#include "controller/concern.h"

/* True if HOST is known to be lost: its heartbeat ran out, or there is no such Host. */
bool host_is_lost(const struct controller *c, const char *host);
/* The Endpoints that name HOST, in order of name: begin with PREV NULL; NULL at the end. */
const struct endpoint *host_endpoint_next(const struct controller *c, const char *host, const struct endpoint *prev);
