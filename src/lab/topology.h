/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The cables of a lab: the namespaces of switches, hosts and the internet, and the veth pairs between them. What is
 * inside a host (its underlay and public namespaces) is made by the host's own agent.
 */

#include "lab/lab.h"

/* Leaves what was made so far when it fails: lab_down() finds it by name. */
int lab_topology_up(const struct lab *lab, struct error *err) _must_use_;
/* Deletes every namespace of the lab; with them go the links. Processes must have ended before. */
int lab_topology_down(const struct lab *lab, struct error *err);
