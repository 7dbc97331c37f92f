/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the metadata service knows (vm/metadata.h): two trees of paths, made from the configuration and the seed alone.
 *
 * /VERSION/… has the shape of EC2's instance metadata ("Instance metadata categories" of the EC2 User Guide). VERSION
 * is `latest` or any date. A path that ends in `/` or names a folder lists it; folders in it end in `/`. Nothing is
 * said about the host, and what an instance of Nacre has not is missing.
 *
 * /nocloud/… is what cloud-init's NoCloud data source asks for ("NoCloud" of cloud-init's documentation). It needs all
 * of these paths. Where there is no user data, it is empty: that makes no warning in cloud-init (handlers/__init__.py,
 * walker_callback()), while an empty `#cloud-config` does, and 404 is repeated for ten seconds and then fails.
 */

#include "vm/config.h"
#include "vm/seed.h"

struct imds {
	const struct vm_config *config;
	int seed; /* vm/seed.h; -1: none */
};

/* False for what has no secret of the tenant and for what cloud-init asks without a token. */
bool imds_needs_token(const char *path);

/* Appends what is at PATH to OUT. Returns an HTTP status: 200; 404; 500 if the seed can't be read now. */
int imds_get(const struct imds *m, const char *path, struct buf *out);
