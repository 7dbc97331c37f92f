/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `nacre export` and `nacre import`. */

int cmd_export(int argc, char **argv);
int cmd_import(int argc, char **argv);
