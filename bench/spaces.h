/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What benchmarks in namespaces of their own share. Each is a program of one file. */

#include "base/util.h"
#include "net/netns.h"

static struct error error;
static char prefix[24]; /* of the names of all namespaces */

/* Removes all namespaces. */
static void cleanup(void) {
	char **names;
	size_t n;

	if (netns_list(prefix, &names, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		netns_delete(names[i], NULL);
	netns_list_free(names, n);
}

/* Ends the program if CALL fails. */
#define OK(call)                                                       \
	do {                                                           \
		if ((call) < 0) {                                      \
			fprintf(stderr, "%s: %s\n", #call, error.msg); \
			cleanup();                                     \
			exit(1);                                       \
		}                                                      \
	} while (0)

/* Makes and opens a namespace, whose whole name is written to FULL. */
static void make_netns(const char *name, char full[static 64], int *ret_fd) {
	snprintf(full, 64, "%s%s", prefix, name);
	OK(netns_ensure(full, NULL, &error));
	OK(netns_open(full, ret_fd, &error));
}

static int by_value(const void *a, const void *b) {
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts N times and returns in ms the one that PERCENT of them are below. */
static double percentile_ms(uint64_t *ns, size_t n, unsigned percent) {
	qsort(ns, n, sizeof(*ns), by_value);
	return (double)ns[n * percent / 100] / 1e6;
}
