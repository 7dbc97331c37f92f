/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who may talk to a lab's API, and how: an authority of its own in DIR/pki, the server's certificate, a kubeconfig for
 * each program there (DIR/pki/NAME.kubeconfig) and for people: DIR/kubeconfig, the operator's, and one a tenant.
 */

#include "kube/client.h"
#include "lab/lab.h"

#define LAB_TENANT_RED  "red"
#define LAB_TENANT_BLUE "blue"

/* Makes all of it. What people use belongs to who called sudo(8). */
int lab_access_make(const struct lab *lab, struct error *err) _must_use_;

/* A connection to the lab's API as the operator, for the commands of this program. */
struct lab_api {
	sd_event *loop;
	struct kube_client *client;
};
int lab_api_open(const struct lab *lab, struct lab_api *ret, struct error *err) _must_use_;
void lab_api_close(struct lab_api *a);
#define _lab_api_ _cleanup_(lab_api_close)
