/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Internal to service: programs that the kernel has, their maps, and how an object that isn't loaded yet takes the maps
 * of a running program over.
 */

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define PROGRAM_MAPS          16
#define PROGRAM_CONSTANTS_MAX 4096

struct program {
	int fd; /* owned; -1: none */
	struct bpf_prog_info info;
	uint32_t maps[PROGRAM_MAPS];
};

/* libbpf writes no messages to stderr from now on; program_load() puts them into its error. */
void program_init(void);
/* The program that the kernel has under this number; -ENOENT if there is none any more. */
int program_open(struct program *ret, uint32_t id, struct error *err) _must_use_;
/* The same of a descriptor, which it duplicates. */
int program_of_fd(struct program *ret, int fd, struct error *err) _must_use_;
void program_close(struct program *p);

/*
 * Makes the object, which isn't loaded yet, use the maps of P with the names, types and sizes of its own, instead of
 * new ones. All maps but read-only data; returns 1, or 0 if P lacks one or has another layout, and then O is unchanged.
 */
int program_lend_maps(const struct program *p, struct bpf_object *o, struct error *err) _must_use_;
/* Loads the object. The error has what the kernel's verifier said last. */
int program_load(struct bpf_object *o, struct error *err) _must_use_;
/* Copies the read-only data of the program; -ENOENT if it has none, -EFBIG if it has more than MAX bytes. */
int program_constants(const struct program *p, void *ret, size_t max, size_t *ret_size) _must_use_;
/* Whether both do the same: the same instructions, the same maps, the same read-only data. */
bool program_equal(const struct program *a, const struct program *b);
/* The sum of all processors' counters of this number in the map FD (an array for each processor, of 64-bit values). */
int program_sum_counter(int fd, uint32_t index, uint64_t *ret, struct error *err) _must_use_;
