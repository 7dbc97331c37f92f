/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A list on its way out, sent from where its objects are. */

#include <microhttpd.h>

#include "apiserver/request.h"

/* Takes the items and the body of R, which has a tail. NULL on no memory. */
struct MHD_Response *list_response(struct reply *r);
