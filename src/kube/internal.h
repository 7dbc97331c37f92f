/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of this folder share and nobody else includes. */

#include "kube/client.h"

/* Fills error, reason and err of R from its http and body. WHAT: "GET /path". */
void kube_response_decode(struct kube_response *r, const char *what);
