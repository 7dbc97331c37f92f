/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Requests that are not about objects: discovery, OpenAPI, health, metrics. */

#include "apiserver/request/request.h"

/* What /readyz tells of. */
struct health {
	const char *database; /* what is wrong with it, NULL: nothing */
	bool stopping;
};

/* Sets r->reply; 404 if there is nothing of that path. */
void handle_other(const struct health *health, struct request *r);
