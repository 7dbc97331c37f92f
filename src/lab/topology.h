/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The cables of a lab: the namespaces of switches, hosts and the internet, and the veth pairs between them. A host's
 * own agent makes the namespaces inside the host (underlay and public).
 *
 * `mgmt` has a bridge with one port for each machine, with the machine's name, and one for the caller's namespace,
 * `admin`.
 */

#include "lab/lab.h"

/* Makes the management network, to which machines are connected later. */
int lab_mgmt_up(const struct lab *lab, struct error *err) _must_use_;
/* On failure the parts made so far stay: lab_down() finds them by name. */
int lab_topology_up(const struct lab *lab, struct error *err) _must_use_;
/* Deletes every namespace of the lab, and with them the links. The lab's processes must have ended before. */
int lab_topology_down(const struct lab *lab, struct error *err);
