/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "apiserver/request/limits.h"
#include "apiserver/store/store.h"

struct authn;
struct rbac;

/* What authentication and authorization are decided from. Nothing here is owned. */
struct auth {
	const struct store *store;
	struct rbac *rbac;
	struct authn *authn;   /* NULL: tokens are not accepted */
	struct limits *limits; /* limits the Events that agents create */
};
