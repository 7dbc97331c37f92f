/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * /openapi/v3 and /openapi/v2, made from the declared kinds: for kubectl's explain, validation and apply, for Terraform
 * and for generators of clients.
 */

#include "apiserver/request/request.h"

void openapi_handle(struct request *r);
