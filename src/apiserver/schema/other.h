/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Requests that are not about objects: discovery, OpenAPI, health, metrics. */

#include "apiserver/request/request.h"

/* What /readyz reports. */
struct health {
	const char *database; /* what is wrong with the database; NULL: nothing */
	bool stopping;
};

/* Sets r->reply; 404 if the path doesn't exist. */
void handle_other(const struct health *health, struct request *r);
