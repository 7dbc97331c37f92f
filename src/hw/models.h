/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Names of PCI devices. InstanceTypes ask for GPUs by their models, so these are short identifiers that are the same on
 * every host: they come from the table of models.c alone. Drawings also have names from the system's pci.ids, which
 * differs from host to host.
 */

#include <stddef.h>
#include <stdint.h>

/* The model in the table; "" if it has none. IDS is "10de:2330". */
void hw_model(const char *ids, char *out, size_t size);
/* For drawings only: the name in the system's pci.ids (libpci) as an identifier; "" if it has none. */
void hw_model_from_pci_ids(const char *ids, char *out, size_t size);
/* For tests: a name of pci.ids as an identifier; "GH100 [H100 PCIe]" is "h100-pcie". */
void hw_model_slug(const char *name, char *out, size_t size);
