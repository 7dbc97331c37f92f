/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an Endpoint claims must be true: its name is its owner's, the VTEP is its Host's, the addresses and routes are
 * what its Instance was given, and the Instance is on that host. Otherwise a host that was broken into draws other
 * people's traffic. nacre-apiserver refuses such an Endpoint as its agent writes it; on a kube-apiserver, where no
 * policy can look that up, it is deleted here.
 *
 * What can't be judged yet (a Host or Instance that isn't there, or knows less than the Endpoint says) is left alone.
 * And a cache may be behind: before anything goes the server is asked for Host and Instance, and only that state of the
 * Endpoint is deleted which was judged.
 */

#include "api/endpoint.h"
#include "controller/work.h"

/* True if E seems to claim what isn't its Host's and the server is being asked, which may end in its deletion. */
bool claims_check(struct work *w, const struct endpoint *e);
