/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* nacre-apiserver backup and restore. ARGV[0] is the command's name; the result is the exit status. */

#include <stdbool.h>

bool backup_is_command(const char *name);
int backup_command(int argc, char **argv);
