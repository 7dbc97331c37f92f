/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What one virtual machine is made of: the contract between nacre-node, which
 * writes it to config.json in the instance's directory, and nacre-vm, which reads
 * it there. Paths are as seen inside the instance's container.
 *
 * The struct holds no pointers: copy it freely, nothing to free.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/inet.h"

/* Bytes of each file of nacre-vm's own: log and exit.json. */
#define VM_OWN_FILE_MAX ((uint64_t)1 << 20)

#define VM_PATH_MAX    255
#define VM_NAME_MAX    127 /* namespace/name, at most 63 each */
#define VM_CMDLINE_MAX 2000
#define VM_CONFIG_MAX  16384 /* bytes of config.json */

enum vm_accel { VM_ACCEL_TCG, VM_ACCEL_KVM };
enum vm_boot { VM_BOOT_KERNEL, VM_BOOT_BIOS, VM_BOOT_UEFI };
enum vm_format { VM_FORMAT_RAW, VM_FORMAT_QCOW2 };

struct vm_config {
	char name[VM_NAME_MAX + 1];
	char uuid[37];
	int64_t vcpus;
	int64_t memory_mib;
	int accel;                    /* enum vm_accel */
	int boot;                     /* enum vm_boot */
	char kernel[VM_PATH_MAX + 1]; /* with boot "kernel" */
	char initrd[VM_PATH_MAX + 1]; /* optional */
	char cmdline[VM_CMDLINE_MAX + 1];
	char disk[VM_PATH_MAX + 1];          /* the machine's own qcow2, written to; "" = none */
	char image[VM_PATH_MAX + 1];         /* the image below it, only read */
	int image_format;                    /* enum vm_format */
	char firmware[VM_PATH_MAX + 1];      /* with boot "uefi": code, only read */
	char firmware_vars[VM_PATH_MAX + 1]; /* the machine's own copy of the variables */
	struct mac mac;
	char tap[16];
	struct prefix prefix; /* announced on the tap, /64; family 0 = no announcements */
	int64_t mtu;
	int64_t uid, gid; /* QEMU runs as these; 0 = as the caller */
	int64_t grace_s;  /* from the power button to the plug */
};

/* The defaults: 1 vCPU, 256 MiB, TCG, MTU 1500, 30 s of grace; everything else empty. */
void vm_config_init(struct vm_config *c);

/*
 * Strict: unknown and duplicate keys, wrong types, values out of range, and fields that don't go together are -EINVAL,
 * with a message that names the field.
 */
int vm_config_parse(const char *text, size_t len, struct vm_config *ret, struct error *err) _must_use_;
void vm_config_print(const struct vm_config *c, struct buf *out);
