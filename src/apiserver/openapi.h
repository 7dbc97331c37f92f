/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* /openapi/v3 for kubectl's explain, validation and apply; an empty /openapi/v2, which satisfies old clients. */

#include "apiserver/request.h"

void openapi_handle(struct request *r);
