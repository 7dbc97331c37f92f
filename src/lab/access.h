/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Access to a lab's API: an authority in DIR/pki, the server's certificate, a kubeconfig for each program
 * (DIR/pki/NAME.kubeconfig) and for people: DIR/kubeconfig for the operator, and one for each tenant.
 */

#include "kube/client.h"
#include "lab/lab.h"

#define LAB_TENANT_RED  "red"
#define LAB_TENANT_BLUE "blue"

/* Creates all of these. Files for people belong to the user who called sudo(8). */
int lab_access_make(const struct lab *lab, struct error *err) _must_use_;

/* A connection to the lab's API as the operator, for the commands of this program. */
struct lab_api {
	sd_event *loop;
	struct kube_client *client;
};
int lab_api_open(const struct lab *lab, struct lab_api *ret, struct error *err) _must_use_;
void lab_api_close(struct lab_api *a);
#define _lab_api_ _cleanup_(lab_api_close)
