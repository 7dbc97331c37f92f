/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The objects a lab starts with: pools, BGP sessions of the edges, a size, an image, tenants and the first instance.
 */

#include "lab/lab.h"

#define LAB_TENANT   "demo"
#define LAB_INSTANCE "hello"

/* Creates what is missing; what is there already stays as it is. */
int lab_seed(const struct lab *lab, struct error *err) _must_use_;

/* Where the first instance stands. */
struct lab_instance {
	bool ready;
	char address[46]; /* "" until it has one */
	char host[64];    /* "" until it is placed */
	char id[64];
	char waiting[256]; /* what the conditions say while it is not ready */
};
int lab_instance_get(const struct lab *lab, const char *ns, const char *name, struct lab_instance *ret,
                     struct error *err) _must_use_;
