/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The capabilities of a PCI function that matter here, from its config space (PCI Express Base Specification, 7.5 to
 * 7.8). Offsets that lead nowhere and lists that loop are ignored: devices have such. */

#include "hw/build.h"

/*
 * Fills in what BYTES, LEN of them, tell about RAW: type of a bridge and its buses, ACS, ATS, and the link where it is
 * unknown. Bytes that are all ff come from a device that does not answer; ids of ffff and another header from a virtual
 * function. With 64 bytes, which is what users other than root get, only the buses of a bridge are known.
 */
void hw_pcicap_read(struct hw_raw *raw, const unsigned char *bytes, size_t len);
