/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A lab: a small data centre in network namespaces of one machine. This file defines the parts of a lab and their
 * names; others build it (topology, routers, daemon, up), inspect it (status, place) and remove it (down).
 *
 * Everything of lab NAME is found by name: namespaces begin with "nl-NAME-", files are in /run/nacre-lab/NAME. So
 * several labs can exist at the same time, and `down` needs no record of what `up` did.
 *
 *     internet            one router that stands for the rest of the world
 *     edge1, edge2        gateway hosts: uplink `wan` to the internet
 *     lb1, lb2, ...       balancers: forward packets for shared IPv4 addresses
 *     leaf1, leaf2        switches; every machine has eth0 to leaf1 and eth1 to leaf2
 *     host1, host2, ...   compute hosts
 *     mgmt                the management network: API server and controller; a bridge to `mgmt` of every machine
 *
 * One cable leads out of the lab: from the management network to interface "nl-NAME" of the caller's namespace, for
 * kubectl. The prefix of the management network is a ULA, different for each lab.
 */

#include <stdbool.h>
#include <stdint.h>

#include "api/agents.h"
#include "base/error.h"
#include "base/inet.h"

#define LAB_RUN_DIR       "/run/nacre-lab"
#define LAB_NAME_MAX      12
#define LAB_HOSTS_MAX     16
#define LAB_EDGES         2
#define LAB_BALANCERS     2 /* by default */
#define LAB_BALANCERS_MAX 8
#define LAB_LEAVES        2
#define LAB_NS_MAX        48  /* longest name of a namespace that the lab itself creates */
#define LAB_PATH_MAX      256 /* longest path inside the lab's directory */

/* Addresses and numbers: documentation prefixes (RFC 3849, RFC 5737), private AS numbers (RFC 6996), ULA (RFC 4193). */
#define LAB_ASN_INTERNET      64496
#define LAB_ASN_EDGE_UPLINK   64512
#define LAB_INTERNET_ADDRESS  "2001:db8:ffff::1"
#define LAB_INTERNET_ADDRESS4 "192.0.2.1"
#define LAB_MTU_FABRIC        9000
#define LAB_API_PORT          6443

struct lab {
	char name[LAB_NAME_MAX + 1];
	char dir[sizeof(LAB_RUN_DIR) + 1 + LAB_NAME_MAX];
	char prefix[LAB_NAME_MAX + 5]; /* "nl-NAME-" */
	int64_t hosts, balancers;
	bool kubernetes;  /* the API server is a kube-apiserver */
	char oracle[256]; /* directory of kube-apiserver, etcd and kubectl */
	char images[256]; /* directory of guest images */
	char bindir[256]; /* directory of Nacre's programs: that of this one */
};

/* NAME has 1 to 12 characters of a-z and 0-9 (with "-", the name of one lab could be the prefix of another's). */
int lab_init(struct lab *lab, const char *name, struct error *err) _must_use_;

/* Saves hosts, balancers, API, images and bindir in the lab's directory, for later commands. */
int lab_save(const struct lab *lab, struct error *err) _must_use_;
/* Calls lab_init() and reads what was saved. -ENOENT with a hint at `nacre lab up` if there is no such lab. */
int lab_load(struct lab *lab, const char *name, struct error *err) _must_use_;

/*
 * Locks the lab's directory, which must exist. up, down and restart hold the lock until they close the descriptor.
 * -EBUSY if another command holds it.
 */
int lab_lock(const struct lab *lab, int *ret_fd, struct error *err) _must_use_;

/* "/run/nacre-lab/NAME/<what>" */
const char *lab_path(const struct lab *lab, char out[static LAB_PATH_MAX], const char *fmt, ...) _printf_(3, 4);

/* What a machine is. */
struct lab_role {
	const char *name;    /* machines are this and a number: "edge1" */
	const char *program; /* its agent is nacre-PROGRAM */
	unsigned whose;      /* of its agent (api/agents.h) */
	int net;             /* its VTEP is fd4e::NET:INDEX, its address in the overlay 2001:db8:0:NET::INDEX */
};

/* A host, an edge or a balancer. */
struct lab_machine {
	const struct lab_role *role;
	const struct agent_kind *agent;
	int index;               /* from 1, counted separately for each role */
	char name[16];           /* "host1", "edge2" */
	char ns[LAB_NS_MAX];     /* its default namespace */
	char prefix[LAB_NS_MAX]; /* the --netns-prefix of its agent */
	char vtep[40];
	char overlay[40]; /* its own address in the public overlay; "": none */
	int64_t asn;
};

int lab_machines(const struct lab *lab);
/* Fills RET for I from 0 to lab_machines() - 1: the edges, then the balancers, then the hosts. */
void lab_machine(const struct lab *lab, int i, struct lab_machine *ret);

/* Interface numbers in the management network, a /64: the API server, the caller's end, and the machine number I. */
#define LAB_MGMT_API        0x1
#define LAB_MGMT_ADMIN      0xffff
#define LAB_MGMT_MACHINE(i) (0x10000 + 1 + (i))
struct addr lab_mgmt_address(const struct lab *lab, uint32_t which);
/* "https://[…]:6443" */
#define LAB_URL_MAX 64
const char *lab_api_url(const struct lab *lab, char out[static LAB_URL_MAX]);

/* Prints "edge1 to edge2, lb1 to lb2, host1 to host3", for messages. */
#define LAB_NAMES_MAX 80
const char *lab_names(const struct lab *lab, char out[static LAB_NAMES_MAX]);

/* The name of a namespace that the lab itself creates. */
const char *lab_ns(const struct lab *lab, const char *what, char out[static LAB_NS_MAX]);
