/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `nacre topology`: draws what a host has (hw/read.h). */

int cmd_topology(int argc, char **argv);
