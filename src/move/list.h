/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Lists all objects of one kind on a server. */

#include <jansson.h>

#include "kube/client.h"

/*
 * Calls EACH with every object of K, page by page, in the order of the server. EACH does not own the object but may
 * change it. A negative result of EACH ends the list and is returned.
 */
int list_all(struct kube_client *c, const struct api_kind *k,
             int (*each)(json_t *obj, void *userdata, struct error *err), void *userdata, struct error *err) _must_use_;
