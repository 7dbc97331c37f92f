/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A lab: a small data centre in network namespaces of one machine. This file knows what a lab consists of and how
 * its parts are called; the others build it (topology, routers, daemon, up), look at it (status, place) and take it
 * away (down).
 *
 * Everything of lab NAME is found by name: namespaces begin with "nl-NAME-", files are in /run/nacre-lab/NAME. So
 * several labs live side by side, and `down` needs no memory of what `up` did.
 *
 *     internet            one router that has the rest of the world behind it
 *     edge1, edge2        gateway hosts: uplink `wan` to the internet
 *     leaf1, leaf2        switches; every host and edge has eth0 to leaf1 and eth1 to leaf2
 *     host1, host2, ...   compute hosts
 *     mgmt                the management network: API server and controller; a bridge to `mgmt` of every host and edge
 *
 * One cable leads out: the management network's to interface "nl-NAME" of the caller's namespace, for kubectl. Its
 * prefix, a ULA, is the lab's own.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/inet.h"

#define LAB_RUN_DIR   "/run/nacre-lab"
#define LAB_NAME_MAX  12
#define LAB_HOSTS_MAX 16
#define LAB_EDGES     2
#define LAB_LEAVES    2
#define LAB_NS_MAX    48  /* longest name of a namespace that the lab makes itself */
#define LAB_PATH_MAX  256 /* longest path inside the lab's directory */

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
	int64_t hosts;
	bool kubernetes;  /* the API is a kube-apiserver's */
	char oracle[256]; /* where kube-apiserver, etcd and kubectl are */
	char images[256]; /* directory of guest images */
	char bindir[256]; /* where the programs of Nacre are: beside this one */
};

/* NAME: 1 to 12 of a-z and 0-9 (a "-" could make one lab's names the prefix of another's). */
int lab_init(struct lab *lab, const char *name, struct error *err) _must_use_;

/* Keeps hosts, API, images and bindir in the lab's directory, for the commands that come later. */
int lab_save(const struct lab *lab, struct error *err) _must_use_;
/* lab_init(), and reads what was saved. -ENOENT with a hint at `nacre lab up` if there is no such lab. */
int lab_load(struct lab *lab, const char *name, struct error *err) _must_use_;

/*
 * Takes the lab's lock (its directory, which must exist): held by up, down and restart, until the descriptor is
 * closed. -EBUSY if another command is at work on this lab.
 */
int lab_lock(const struct lab *lab, int *ret_fd, struct error *err) _must_use_;

/* "/run/nacre-lab/NAME/<what>" */
const char *lab_path(const struct lab *lab, char out[static LAB_PATH_MAX], const char *fmt, ...) _printf_(3, 4);

/* A host or an edge. */
struct lab_machine {
	bool edge;
	int index;               /* from 1, hosts and edges apart */
	char name[16];           /* "host1", "edge2" */
	char ns[LAB_NS_MAX];     /* its default namespace */
	char prefix[LAB_NS_MAX]; /* what its agent puts before the names of namespaces */
	char vtep[40];
	char overlay[40]; /* edges: the address in the public overlay */
	int64_t asn;
};

/* Hosts and edges together. */
int lab_machines(const struct lab *lab);
/* I from 0 to lab_machines() - 1; the edges come first. */
void lab_machine(const struct lab *lab, int i, struct lab_machine *ret);

/* In the management network, a /64: the API server, the caller's end, and the machine of index I. */
#define LAB_MGMT_API        0x1
#define LAB_MGMT_ADMIN      0xffff
#define LAB_MGMT_MACHINE(i) (0x10000 + 1 + (i))
struct addr lab_mgmt_address(const struct lab *lab, uint32_t which);
/* "https://[…]:6443" */
#define LAB_URL_MAX 64
const char *lab_api_url(const struct lab *lab, char out[static LAB_URL_MAX]);

/* Names of the namespaces that the lab makes itself. */
const char *lab_ns(const struct lab *lab, const char *what, char out[static LAB_NS_MAX]);
