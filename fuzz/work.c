/* SPDX-License-Identifier: Apache-2.0 */
#include "work.h"

#include <sanitizer/allocator_interface.h>

uint64_t work_edges, work_blocks;

/*
 * The linker redirects these calls to us (--wrap), since libFuzzer defines the same names only to report that it
 * doesn't use them.
 */
void __wrap___sanitizer_cov_trace_pc_guard(uint32_t *guard);
void __wrap___sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop);

#define NOT_COUNTED __attribute__((no_sanitize("coverage", "address", "undefined")))

NOT_COUNTED void __wrap___sanitizer_cov_trace_pc_guard(uint32_t *guard) {
	(void)guard;
	work_edges++;
}

NOT_COUNTED void __wrap___sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop) {
	(void)start;
	(void)stop;
}

NOT_COUNTED static void on_malloc(const volatile void *p, size_t n) {
	(void)p;
	(void)n;
	work_blocks++;
}

NOT_COUNTED static void on_free(const volatile void *p) {
	(void)p;
	work_blocks++;
}

void work_init(void) {
	static int installed;
	if (!installed)
		installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
