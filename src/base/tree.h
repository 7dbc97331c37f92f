/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Ordered maps and lists: the BSD RB_* and TAILQ_* macros, from libbsd. Trees, not hash tables: tenants choose the
 * keys, and a tree has no bad case that they could aim at; it iterates in order and finds a lower bound (RB_NFIND) for
 * paging.
 */

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
