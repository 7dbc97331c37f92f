/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Names of PCI devices: short identifiers that stay the same, since InstanceTypes ask for GPUs by them. The table of
 * models.c comes first; for what it doesn't have, the name of the system's pci.ids (libpci) in lower case.
 */

#include <stddef.h>
#include <stdint.h>

/* Writes "" if nothing is known. IDS is "10de:2330". */
void hw_model(const char *ids, char *out, size_t size);
/* For tests: a name of pci.ids as an identifier; "GH100 [H100 PCIe]" is "h100-pcie". */
void hw_model_slug(const char *name, char *out, size_t size);
