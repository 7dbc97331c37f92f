/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The work of the code under test: the executed edges of its control flow, which the compiler makes it count
 * (-fsanitize-coverage=trace-pc-guard), and the blocks of memory that were allocated and freed, which also count the
 * libraries below it. Unlike time, the count doesn't depend on the machine and its load, and unlike callgrind's count
 * it is available inside a fuzzer.
 *
 * Not counted: loops inside libraries that allocate no memory (memmove(), memmem(), json_equal(), SQLite, which has a
 * thread of its own in the server).
 */

#include <stdint.h>

extern uint64_t work_edges, work_blocks;

/* Begins to count blocks. One call is enough. */
void work_init(void);
