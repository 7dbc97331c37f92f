/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "apiserver/request/limits.h"
#include "apiserver/store/store.h"

struct authn;
struct rbac;

/* From what it is answered who somebody is and what he may do. */
struct auth {
	const struct store *store;
	struct rbac *rbac;
	struct authn *authn;   /* NULL: no tokens */
	struct limits *limits; /* of the Events that agents make */
};
