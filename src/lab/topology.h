/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The cables of a lab: the namespaces of switches, hosts and the internet, and the veth pairs between them. What is
 * inside a host (its underlay and public namespaces) is made by the host's own agent.
 *
 * `mgmt` has a bridge with a port for each machine, named like it, and one for the caller's namespace, `admin`.
 */

#include "lab/lab.h"

/* The management network, before there is anything to manage. */
int lab_mgmt_up(const struct lab *lab, struct error *err) _must_use_;
/* Leaves what was made so far when it fails: lab_down() finds it by name. */
int lab_topology_up(const struct lab *lab, struct error *err) _must_use_;
/* Deletes every namespace of the lab; with them go the links. Processes must have ended before. */
int lab_topology_down(const struct lab *lab, struct error *err);
