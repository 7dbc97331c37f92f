/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The small texts that describe hardware: PCI addresses, sets of CPUs, speeds of links. No allocation. */

#include "hw/hw.h"

struct hw_address {
	uint32_t domain;
	uint8_t bus, device, function;
};

/* "0000:5e:00.0": a domain of 4 to 8 hexadecimal digits. Nothing may follow. */
bool hw_address_parse(const char *s, struct hw_address *ret);
/* Negative, 0 or positive: the order of domain, bus, device and function. */
int hw_address_cmp(const struct hw_address *a, const struct hw_address *b);
const char *hw_address_str(const struct hw_address *a, char out[static HW_ADDRESS_MAX + 1]);
/* "0000:5e", the name of a root bus. */
bool hw_bus_parse(const char *s, uint32_t *ret_domain, uint8_t *ret_bus);

/* A set of CPUs or of NUMA nodes. */
#define HW_SET_BITS 4096
struct hw_set {
	uint64_t words[HW_SET_BITS / 64];
};

bool hw_set_has(const struct hw_set *s, unsigned bit);
void hw_set_add(struct hw_set *s, unsigned bit); /* BIT < HW_SET_BITS */
void hw_set_merge(struct hw_set *s, const struct hw_set *more);
bool hw_set_is_empty(const struct hw_set *s);
bool hw_set_equal(const struct hw_set *a, const struct hw_set *b);
bool hw_set_overlaps(const struct hw_set *a, const struct hw_set *b);
unsigned hw_set_count(const struct hw_set *s);
int hw_set_first(const struct hw_set *s);           /* -1 if empty */
int hw_set_next(const struct hw_set *s, int after); /* -1 if none is left */
/* These return 0, -EINVAL for another text, or -ERANGE for a number that is too large. *RET is written on success. */
int hw_set_parse_list(const char *s, struct hw_set *ret) _must_use_;  /* "0-15,128-143": ascends, as the kernel's */
int hw_set_parse_mask(const char *s, struct hw_set *ret) _must_use_;  /* "000000ff,ffff0000", the kernel's and NCCL's */
int hw_set_parse_hwloc(const char *s, struct hw_set *ret) _must_use_; /* "0x000000ff,,0x0" */
/* The list in SIZE bytes of OUT; -ENOSPC if it is longer. */
int hw_set_print(const struct hw_set *s, char *out, size_t size) _must_use_;

/* "32.0 GT/s PCIe" to 32000. "Unknown" and "" are 0; -EINVAL for what is no speed of PCIe. */
int hw_speed_parse(const char *s, int64_t *ret) _must_use_;
/* 1, 2, 4, 8, 12, 16 or 32; 0, 63 and 255, which the kernel has for "unknown", are 0; -EINVAL for all else. */
int hw_width_parse(const char *s, int64_t *ret) _must_use_;
/* The throughput in MB/s of one direction; 0 if SPEED or WIDTH is. */
int64_t hw_throughput(int64_t speed, int64_t width);
/* "0x10de" or "10de" with at most DIGITS digits, nothing else. */
bool hw_hex_parse(const char *s, unsigned digits, uint32_t *ret);
/* Writes "10de:2330"; only the lower 16 bits of each count. */
void hw_ids_print(uint32_t vendor, uint32_t device, char out[static 10]);
/* Copies a name that is safe to show and to use in a path: at most MAX of [A-Za-z0-9_.:-]. False for others. */
bool hw_name_copy(char *out, size_t max, const char *s);
