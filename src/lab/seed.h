/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The first objects of a lab: pools, BGP sessions of the edges, InstanceTypes, images, tenants and the first
 * instance. */

#include "lab/lab.h"

#define LAB_TENANT   "demo"
#define LAB_INSTANCE "hello"

/* Creates objects that are missing; existing objects stay as they are. */
int lab_seed(const struct lab *lab, struct error *err) _must_use_;

/* The state of the first instance. */
struct lab_instance {
	bool ready;
	char address[46]; /* "" until the instance has one */
	char forward[24]; /* "198.51.100.3:1024", the first of its spec.forwards; "" until it has one */
	char host[64];    /* "" until the instance has one */
	char id[64];
	char waiting[256]; /* the message of its conditions while it is not ready */
};
int lab_instance_get(const struct lab *lab, const char *ns, const char *name, struct lab_instance *ret,
                     struct error *err) _must_use_;
