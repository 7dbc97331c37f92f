/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Everything of one kind that a server has. */

#include <jansson.h>

#include "kube/client.h"

/*
 * Calls EACH with every object of K, page by page; it owns none of them and may change them. It is sorted as the server
 * does it. A negative result of EACH ends the list.
 */
int list_all(struct kube_client *c, const struct api_kind *k,
             int (*each)(json_t *obj, void *userdata, struct error *err), void *userdata, struct error *err) _must_use_;
