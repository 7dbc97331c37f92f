/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What one virtual machine is made of: the contract between nacre-node, which writes it to config.json in the
 * instance's directory, and nacre-vm, which reads it there. Paths are as seen inside the instance's container. An agent
 * also reads files that its earlier versions wrote, so fields are added and never renamed.
 *
 * The struct has no pointers: copy it freely; there is nothing to free.
 */

#include <stdint.h>

#include "base/jsontable.h"
#include "vm/dnsname.h"

/* The limit of each file that nacre-vm itself writes (log and exit.json), in bytes. */
#define VM_OWN_FILE_MAX ((uint64_t)1 << 20)

#define VM_PATH_MAX       255
#define VM_NAME_MAX       127 /* namespace/name, at most 63 each */
#define VM_CMDLINE_MAX    2000
#define VM_IMAGE_NAME_MAX 253
#define VM_DNS_MAX        8
#define VM_SEARCH_MAX     6
#define VM_CONFIG_MAX     16384 /* bytes of config.json */

enum vm_accel { VM_ACCEL_TCG, VM_ACCEL_KVM };
enum vm_boot { VM_BOOT_KERNEL, VM_BOOT_BIOS, VM_BOOT_UEFI };
enum vm_format { VM_FORMAT_RAW, VM_FORMAT_QCOW2 };

/* clang-format off */
#define VM_DNS_FIELDS(F, T) \
	F(T, addr, address, "address")
#define VM_SEARCH_FIELDS(F, T) \
	F(T, text, domain, "domain", DNSNAME_MAX)

#define VM_CONFIG_FIELDS(F, T) \
	F(T, text, name, "name", VM_NAME_MAX) \
	F(T, text, uuid, "uuid", 36) \
	F(T, i64, vcpus, "vcpus", 1, 1024, 1) \
	F(T, i64, memory_mib, "memoryMiB", 16, 16 << 20, 256) \
	F(T, word, accel, "accel", vm_accel) \
	F(T, word, boot, "boot", vm_boot) \
	F(T, text, kernel, "kernel", VM_PATH_MAX) /* with boot "kernel" */ \
	F(T, text, initrd, "initrd", VM_PATH_MAX) /* optional */ \
	F(T, text, cmdline, "cmdline", VM_CMDLINE_MAX) \
	F(T, text, disk, "disk", VM_PATH_MAX)   /* the machine's own qcow2, written to; "" = none */ \
	F(T, text, image, "image", VM_PATH_MAX) /* the image below it, only read */ \
	F(T, word, image_format, "imageFormat", vm_format) \
	F(T, text, image_name, "imageName", VM_IMAGE_NAME_MAX) /* told to the guest; may be empty */ \
	F(T, text, firmware, "firmware", VM_PATH_MAX)          /* with boot "uefi": code, only read */ \
	F(T, text, firmware_vars, "firmwareVars", VM_PATH_MAX) /* the machine's own copy of the variables */ \
	F(T, mac, mac, "mac") \
	F(T, text, tap, "tap", 15) \
	F(T, prefix, prefix, "prefix") /* announced on the tap, /64; family 0 = no announcements */ \
	F(T, prefix, delegated, "delegated") /* to the guest by DHCPv6; family 0 = none */ \
	F(T, i64, mtu, "mtu", 1280, 65535, 1500) \
	F(T, addr, ipv4, "ipv4")                /* given to the guest by DHCPv4; family 0 = it has no IPv4 */ \
	F(T, addr, ipv4_router, "ipv4Router")   /* an address of the tap: the guest's router and DHCPv4 server */ \
	F(T, addr, public4, "public4")          /* its public IPv4 address at the start; family 0 = none */ \
	F(T, i64, lease_s, "leaseSeconds", 4, INT32_MAX, 3600) \
	F(T, text, hostname, "hostname", 63)    /* these are told to the guest; each may be empty */ \
	F(T, text, domain, "domain", DNSNAME_MAX) \
	F(T, list, search, "search", vm_search, VM_SEARCH_MAX) \
	F(T, list, dns, "dns", vm_dns, VM_DNS_MAX) /* resolvers, of both families */ \
	F(T, text, seed, "seed", VM_PATH_MAX)   /* a folder (vm/seed.h); "" = none */ \
	F(T, i64, uid, "uid", 0, INT32_MAX, 0) /* QEMU runs as these; 0 = as the caller */ \
	F(T, i64, gid, "gid", 0, INT32_MAX, 0) \
	F(T, i64, grace_s, "graceSeconds", 0, 3600, 30) /* seconds from the power button until nacre-vm ends the machine */
/* clang-format on */
JT_DECLARE(vm_dns, VM_DNS_FIELDS)
JT_DECLARE(vm_search, VM_SEARCH_FIELDS)
JT_DECLARE(vm_config, VM_CONFIG_FIELDS)

/* Fills in the defaults: 1 vCPU, 256 MiB, TCG, MTU 1500, leases of an hour, 30 s of grace; everything else is empty. */
void vm_config_init(struct vm_config *c);

/*
 * Parsing is strict: unknown and duplicate keys, wrong types, values out of range, and fields that don't go together
 * are -EINVAL, with a message that names the field. *RET is written only on success.
 */
int vm_config_parse(const char *text, size_t len, struct vm_config *ret, struct error *err) _must_use_;
/* Appends config.json to OUT, which records a failure (base/buf.h). */
void vm_config_print(const struct vm_config *c, struct buf *out);
