/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an instance on this host must be: everything that the API says about it, resolved. The structs of other modules
 * are embedded, so a new field is declared where it is used and filled in by a part (node/part.h).
 *
 * The struct has no pointers: copy it freely.
 */

#include "api/resources.h"
#include "node/instnet.h"
#include "vm/config.h"

#define GUEST_IMAGE_MAX 253 /* bytes of the name of an Image */

/* clang-format off */
#define GUEST_SPEC_FIELDS(F, T) \
	F(T, flag, running, "running") \
	F(T, obj, size, "size", resources) /* what it was placed with */ \
	/* The machine as the API describes it: name, uuid (the Instance's status.id), how its image boots, the image's \
	 * words for its kernel. The parts fill in the rest when they start the machine (node/part.h). */ \
	F(T, obj, vm, "vm", vm_config) \
	F(T, obj, net, "net", instnet_spec) \
	F(T, text, image, "image", GUEST_IMAGE_MAX) /* name of its Image, for messages */ \
	/* Where the Image is on this host. */ \
	F(T, text, kernel, "kernel", VM_PATH_MAX) /* VM_BOOT_KERNEL */ \
	F(T, text, initrd, "initrd", VM_PATH_MAX) /* "" = none */ \
	F(T, text, disk, "disk", VM_PATH_MAX)     /* with any other boot */ \
	/* What it is told about users and setup: the number of the content (node/seeds.h), and why a part of it is not \
	 * known, which keeps it from its first start; "": all is known. */ \
	F(T, i64, seed, "seed", 0, INT64_MAX, 0) \
	F(T, text, seed_reason, "seedReason", 31) \
	F(T, text, seed_problem, "seedProblem", 300)
/* clang-format on */
extern const struct jt_table jt_resources;
JT_DECLARE(guest_spec, GUEST_SPEC_FIELDS)

bool guest_spec_equal(const struct guest_spec *a, const struct guest_spec *b);
