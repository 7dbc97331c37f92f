/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "apiserver/server.h"

/*
 * Checks all stored objects: each parses as its kind, is nested no deeper than TREE_DEPTH_MAX, is stored under the name
 * in its metadata, and has a version of its own.
 */
void check_stored(const struct store *s);
