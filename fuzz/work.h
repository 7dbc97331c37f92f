/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How much work the code under test did: the edges of its control flow that were executed, which the compiler makes it
 * count (-fsanitize-coverage=trace-pc-guard), and the blocks of memory that were taken and given back, which tell of
 * the libraries below it. Unlike time, the count doesn't depend on the machine and its load, and unlike callgrind's
 * it is to be had inside a fuzzer.
 *
 * What it doesn't see: loops inside libraries that take no memory (memmove(), memmem(), json_equal(), SQLite, which has
 * a thread of its own in the server).
 */

#include <stdint.h>

extern uint64_t work_edges, work_blocks;

/* Begins to count blocks. Once is enough. */
void work_init(void);
