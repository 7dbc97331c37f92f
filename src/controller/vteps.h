/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which Host a VTEP belongs to if several Hosts name it, or name VTEPs with the same router MAC. */

#include "api/host.h"
#include "controller/concern.h"

struct vteps;

static inline struct vteps *vteps_of(const struct controller *c) {
	return concern_state(c, &concern_vteps);
}

/* The older Host that has the VTEP of H, or its router MAC; NULL: there is none, and the VTEP is H's. */
const struct host *vteps_rival(const struct vteps *v, const struct host *h);
