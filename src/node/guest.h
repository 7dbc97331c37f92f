/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an instance on this host shall be: all that the API said about it, resolved.
 * No pointers: copy it freely.
 */

#include <stdbool.h>

#include "node/instnet.h"
#include "vm/config.h"

struct guest_spec {
	char uid[37];               /* the Instance's status.id */
	char name[VM_NAME_MAX + 1]; /* namespace/name */
	bool running;
	int64_t vcpus, memory_mib;
	struct mac mac;
	struct addr ip;          /* of its endpoint */
	struct addr address;     /* that the guest gives itself; only told to people */
	struct prefix net;       /* /64; family 0: it has no network */
	struct prefix delegated; /* family 0: none */
	struct instnet_ingress ingress[INSTNET_INGRESS_MAX];
	size_t n_ingress;
	char image[254]; /* name of its Image, for messages */
	/* Where that is on this host. */
	enum vm_boot boot;
	char kernel[VM_PATH_MAX + 1]; /* VM_BOOT_KERNEL */
	char initrd[VM_PATH_MAX + 1]; /* "" = none */
	char cmdline[VM_CMDLINE_MAX + 1];
	char disk[VM_PATH_MAX + 1]; /* else */
	enum vm_format format;
};
