/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "apiserver/server.h"

/*
 * What is stored must be whole: each object parses as its kind, is nested no deeper than TREE_DEPTH_MAX, stands where
 * its metadata says and has a version of its own.
 */
void check_stored(const struct store *s);
