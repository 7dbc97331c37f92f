/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Answers /openapi/v3 and /openapi/v2 from the declared kinds. kubectl uses them for explain, validation and apply;
 * Terraform and generators of clients read them as well. Sets r->reply.
 */

#include "apiserver/request/request.h"

void openapi_handle(struct request *r);
