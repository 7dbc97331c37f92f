/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Instance: a virtual machine of a tenant. InstanceType: its size. Image: what it boots. */

#include "api/addresspool.h"
#include "api/meta.h"
#include "api/resources.h"
#include "api/sshkey.h"

#define INSTANCE_INGRESS(F, T)                                                                        \
	F(T, str, protocol, "protocol", API_REQ, ip_protocol, 1, 7, NULL, "tcp, udp or icmp (echo).") \
	F(T, i64, port, "port", 0, _, 1, 65535, NULL, "Destination port; required for tcp and udp.")  \
	F(T, str, from, "from", 0, prefix6, 3, 49, NULL, "Only from this prefix; default: from anywhere.")
API_DECLARE(instance_ingress, INSTANCE_INGRESS)

#define INSTANCE_FORWARD(F, T)                                                                          \
	F(T, str, protocol, "protocol", API_REQ, forward_protocol, 1, 7, NULL, "tcp or udp.")           \
	F(T, i64, target_port, "targetPort", API_REQ, _, 1, 65535, NULL, "Port of the guest.")          \
	F(T, i64, port, "port", 0, _, 1, 65535, NULL,                                                   \
	  "Public port, which must be in a slice of the instance; default: one that is chosen for it, " \
	  "which status.forwards says.")
API_DECLARE(instance_forward, INSTANCE_FORWARD)

#define INSTANCE_FORWARDS_MAX 32

/* What an instance is given as SSH keys and user data: numbers of keys, and bytes in the object and in a Secret. */
#define INSTANCE_KEYS_MAX        16
#define INSTANCE_USER_DATA_MAX   16384
#define INSTANCE_SECRET_DATA_MAX 65536
#define INSTANCE_KEYS_KEY        "ssh-keys"
#define INSTANCE_USER_DATA_KEY   "user-data"

#define INSTANCE_SECRET_FIELDS(F, T, DEFAULT, DOC)                                                                     \
	F(T, str, secret, "secret", API_REQ, subdomain, 1, 253, NULL, "Name of a Secret of the instance's namespace.") \
	F(T, str, key, "key", 0, key, 1, 253, DEFAULT, DOC)
#define INSTANCE_KEYS_FROM(F, T)                                  \
	INSTANCE_SECRET_FIELDS(F, T, "\"" INSTANCE_KEYS_KEY "\"", \
	                       "Key of the Secret whose value has a public key a line; up to 64 KiB.")
API_DECLARE(instance_keys_from, INSTANCE_KEYS_FROM)
#define INSTANCE_DATA_FROM(F, T)                                       \
	INSTANCE_SECRET_FIELDS(F, T, "\"" INSTANCE_USER_DATA_KEY "\"", \
	                       "Key of the Secret whose value is the user data; up to 64 KiB.")
API_DECLARE(instance_data_from, INSTANCE_DATA_FROM)

#define INSTANCE_SPEC(F, T)                                                                                          \
	F(T, str, type, "type", API_REQ | API_IMMUT, subdomain, 1, 253, NULL, "InstanceType: its size.")             \
	F(T, str, image, "image", API_REQ | API_IMMUT, subdomain, 1, 253, NULL, "Image that it boots.")              \
	F(T, flag, running, "running", 0, _, 0, 0, "true", "False: powered off; it keeps its host and addresses.")   \
	F(T, list, ingress, "ingress", 0, instance_ingress, 0, 64, NULL,                                             \
	  "Traffic that may come in from outside; all other is dropped.")                                            \
	F(T, str, ipv4, "ipv4", API_IMMUT, instance_ipv4, 1, 15, "\"shared\"",                                       \
	  "Public IPv4. none: the instance has only IPv6. dedicated: a public address of its own, which the guest "  \
	  "configures. shared: the guest has a private address, behind a slice of the ports of a shared public "     \
	  "address; if the cloud has no AddressPool with use shared, the instance has no IPv4.")                     \
	F(T, list, forwards, "forwards", 0, instance_forward, 0, INSTANCE_FORWARDS_MAX, NULL,                        \
	  "ipv4 shared: public ports that lead to ports of the guest, such as 22 for SSH.")                          \
	F(T, strs, ssh_keys, "sshKeys", 0, ssh_key, 0, INSTANCE_KEYS_MAX, NULL,                                      \
	  "Public keys of OpenSSH, each TYPE BASE64 [COMMENT], that may log in to the guest. The guest sees a "      \
	  "change when it asks next.")                                                                               \
	F(T, obj, ssh_keys_from, "sshKeysFrom", 0, instance_keys_from, 0, 0, NULL,                                   \
	  "More public keys, which a Secret has. Without the Secret the instance doesn't start for the first time.") \
	F(T, str, user_data, "userData", 0, any, 0, INSTANCE_USER_DATA_MAX, NULL,                                    \
	  "User data for the guest, such as a #cloud-config for cloud-init. The guest sees a change when it asks "   \
	  "next.")                                                                                                   \
	F(T, obj, user_data_from, "userDataFrom", 0, instance_data_from, 0, 0, NULL,                                 \
	  "A Secret that has the user data, instead of userData. Without the Secret the instance doesn't start for " \
	  "the first time.")                                                                                         \
	F(T, map, host_selector, "hostSelector", API_IMMUT, _, 0, 16, NULL, "Labels that the host must have.")
API_DECLARE(instance_spec, INSTANCE_SPEC)

/* Checks rules about several fields of S. AT is the path of S in its object. The CEL is for each element of ingress. */
void instance_spec_check(const struct instance_spec *s, const char *at, struct api_errors *errs);
#define INSTANCE_INGRESS_CEL  "self.protocol == 'icmp' ? !has(self.port) : has(self.port)"
#define INSTANCE_INGRESS_RULE "port is required for tcp and udp, and must not be set for icmp"
/* These are for the spec. */
#define INSTANCE_FORWARDS_CEL \
	"!has(self.forwards) || size(self.forwards) == 0 || !has(self.ipv4) || self.ipv4 == 'shared'"
#define INSTANCE_FORWARDS_RULE "forwards must only be set for ipv4 shared; ingress opens ports"
#define INSTANCE_TARGETS_CEL                                                                                   \
	"!has(self.forwards) || self.forwards.all(f, self.forwards.exists_one(g, g.protocol == f.protocol && " \
	"g.targetPort == f.targetPort))"
#define INSTANCE_TARGETS_RULE "two forwards must not lead to the same port"
#define INSTANCE_PORTS_CEL                                                                         \
	"!has(self.forwards) || self.forwards.all(f, !has(f.port) || self.forwards.exists_one(g, " \
	"g.protocol == f.protocol && has(g.port) && g.port == f.port))"
#define INSTANCE_PORTS_RULE     "two forwards must not have the same port"
#define INSTANCE_USER_DATA_CEL  "!has(self.userData) || !has(self.userDataFrom)"
#define INSTANCE_USER_DATA_RULE "only one of userData and userDataFrom may be set"

#define INSTANCE_SLICE(F, T)                                                                   \
	F(T, str, address, "address", API_REQ, ip4, 7, 15, NULL, "The shared public address.") \
	F(T, i64, first_port, "firstPort", API_REQ, _, 0, 65535, NULL, "Its first port.")      \
	F(T, i64, last_port, "lastPort", API_REQ, _, 0, 65535, NULL, "Its last port.")
API_DECLARE(instance_slice, INSTANCE_SLICE)

#define INSTANCE_FORWARDED(F, T)                                                               \
	F(T, str, protocol, "protocol", API_REQ, forward_protocol, 1, 7, NULL, "tcp or udp.")  \
	F(T, str, address, "address", API_REQ, ip4, 7, 15, NULL, "The shared public address.") \
	F(T, i64, port, "port", API_REQ, _, 1, 65535, NULL, "The public port.")                \
	F(T, i64, target_port, "targetPort", API_REQ, _, 1, 65535, NULL, "Port of the guest.")
API_DECLARE(instance_forwarded, INSTANCE_FORWARDED)

/* How many rows an instance's counters of rules have. */
#define INSTANCE_COUNTERS_MAX 64

#define INSTANCE_COUNTER(F, T)                                                                                        \
	F(T, str, firewall, "firewall", API_REQ, subdomain, 1, 253, NULL, "The Firewall.")                            \
	F(T, str, direction, "direction", API_REQ, direction, 1, 7, NULL, "ingress or egress.")                       \
	F(T, str, rule, "rule", API_REQ, any, 1, 63, NULL, "Name of the rule, or its index, from 0.")                 \
	F(T, i64, packets, "packets", 0, _, 0, INT64_MAX, NULL,                                                       \
	  "Packets that the rule allowed: the first of each connection, and one more of it after each change of the " \
	  "rules.")                                                                                                   \
	F(T, i64, bytes, "bytes", 0, _, 0, INT64_MAX, NULL, "Bytes of these packets.")
API_DECLARE(instance_counter, INSTANCE_COUNTER)

#define INSTANCE_FIREWALL(F, T)                                                                                      \
	F(T, i64, dropped_in, "droppedIn", 0, _, 0, INT64_MAX, NULL, "Packets to the instance that were dropped.")   \
	F(T, i64, dropped_out, "droppedOut", 0, _, 0, INT64_MAX, NULL, "Packets of the instance that were dropped.") \
	F(T, list, rules, "rules", 0, instance_counter, 0, INSTANCE_COUNTERS_MAX, NULL,                              \
	  "What the rules of its Firewalls allowed, the most packets first.")
API_DECLARE(instance_firewall, INSTANCE_FIREWALL)

#define INSTANCE_STATUS(F, T)                                                                                        \
	F(T, str, id, "id", 0, any, 0, 63, NULL,                                                                     \
	  "The id by which hosts, Endpoints and Allocations know it: its uid when the controller first saw it. "     \
	  "It doesn't change when a move to another API server gives the object a new uid.")                         \
	F(T, str, host, "host", 0, subdomain, 0, 253, NULL, "Host that the instance is bound to.")                   \
	RESOURCES_PLACED_FIELDS(F, T)                                                                                \
	F(T, str, address, "address", 0, ip6, 0, 45, NULL,                                                           \
	  "Public IPv6 address that the guest configures by SLAAC (EUI-64).")                                        \
	F(T, str, prefix, "prefix", 0, prefix6, 0, 49, NULL, "Its public /64.")                                      \
	F(T, str, delegated_prefix, "delegatedPrefix", 0, prefix6, 0, 49, NULL, "The /60 routed to it.")             \
	F(T, str, overlay_address, "overlayAddress", 0, ip6, 0, 45, NULL, "Its address in the public overlay.")      \
	F(T, str, mac, "mac", 0, mac, 0, 17, NULL, "MAC of its network interface.")                                  \
	F(T, str, public_ipv4, "publicIPv4", 0, ip4, 0, 15, NULL,                                                    \
	  "Its public IPv4 address: its own, or the shared one of its first slice.")                                 \
	F(T, list, port_slices, "portSlices", 0, instance_slice, 0, ADDRESSPOOL_SLICES_MAX, NULL,                    \
	  "ipv4 shared: the ports of shared addresses that it has; they are the only ones that its packets use.")    \
	F(T, list, forwards, "forwards", 0, instance_forwarded, 0, INSTANCE_FORWARDS_MAX, NULL,                      \
	  "The public ports that lead to ports of the guest.")                                                       \
	F(T, i64, port_slices_wanted, "portSlicesWanted", 0, _, 0, ADDRESSPOOL_SLICES_MAX, NULL,                     \
	  "How many slices the host's agent asks for, by the connections that it sees.")                             \
	F(T, strs, dns_servers, "dnsServers", 0, ip, 0, ADDRESSPOOL_DNS_MAX, NULL,                                   \
	  "Resolvers that the guest is told, those of the AddressPool of its prefix.")                               \
	F(T, strs, dns_search, "dnsSearch", 0, domain, 0, ADDRESSPOOL_SEARCH_MAX, NULL,                              \
	  "Domains that the guest is told to search for names in, those of the AddressPool of its prefix.")          \
	F(T, str, phase, "phase", 0, instance_phase, 0, 15, NULL,                                                    \
	  "The state that the host's agent last saw: Starting, Running, Stopped (powered off), Failed or Removed "   \
	  "(nothing of it is left on the host).")                                                                    \
	F(T, obj, firewall, "firewall", 0, instance_firewall, 0, 0, NULL,                                            \
	  "What its firewall counted since its host made it; the host's agent writes it at most once a minute.")     \
	F(T, i64, restarts, "restarts", 0, _, 0, INT64_MAX, NULL, "How often it was started again after a failure.") \
	API_CONDITIONS(F, T)
API_DECLARE(instance_status, INSTANCE_STATUS)

#define INSTANCE(F, T)                                                                                  \
	API_META(F, T)                                                                                  \
	F(T, obj, spec, "spec", API_REQ, instance_spec, 0, 0, NULL, "The state that the tenant wants.") \
	F(T, obj, status, "status", 0, instance_status, 0, 0, NULL, "The last observed state.")
API_DECLARE(instance, INSTANCE)
extern const struct api_kind api_kind_instance;

/* Returns status.id or, if it is not written yet, the uid, which it will be. Borrowed. */
static inline const char *instance_id(const struct instance *i) {
	return i->status && i->status->id && *i->status->id ? i->status->id : i->meta.uid;
}

/* True if the instance has a host. */
static inline bool instance_is_bound(const struct instance *i) {
	return i->status && i->status->host && *i->status->host;
}

#define INSTANCETYPE_SPEC(F, T)                                                                                   \
	RESOURCES_TYPE_FIELDS(F, T)                                                                               \
	F(T, i64, port_slices, "portSlices", 0, _, 1, ADDRESSPOOL_SLICES_MAX, NULL,                               \
	  "A busy instance of ipv4 shared gets up to so many slices of ports; default: slicesPerInstance of the " \
	  "AddressPool.")
API_DECLARE(instancetype_spec, INSTANCETYPE_SPEC)
#define INSTANCETYPE(F, T) \
	API_META(F, T)     \
	F(T, obj, spec, "spec", API_REQ, instancetype_spec, 0, 0, NULL, "The size.")
API_DECLARE(instancetype, INSTANCETYPE)
extern const struct api_kind api_kind_instancetype;

/* How an instance with spec S gets public IPv4. Objects of earlier versions don't say it and count as shared. */
enum instance_ipv4 { INSTANCE_IPV4_NONE, INSTANCE_IPV4_DEDICATED, INSTANCE_IPV4_SHARED };
enum instance_ipv4 instance_ipv4(const struct instance_spec *s);

/* A Secret that an Instance names: of its own namespace. All strings are borrowed. */
struct instance_secret {
	const char *field;  /* of the spec, for messages: "sshKeysFrom" */
	const char *secret; /* its name */
	const char *key;
};
enum { INSTANCE_SECRET_KEYS, INSTANCE_SECRET_USER_DATA, N_INSTANCE_SECRETS };
/* False: S names no Secret for this. */
bool instance_secret(const struct instance_spec *s, unsigned what, struct instance_secret *ret);

/* What an instance of type T takes; RESOURCE_instances is 1. */
struct resources instancetype_size(const struct instancetype *t);
/* What an instance with status S was placed with; RESOURCE_instances is 1. */
struct resources instance_size(const struct instance_status *s);
void instance_set_size(struct instance_status *to, const struct resources *size);
/* What an instance of that SIZE with spec S takes of the quotas of its namespace. */
struct resources instance_charge(const struct instance_spec *s, const struct resources *size);

#define IMAGE_KERNEL(F, T)                                                                                          \
	F(T, str, kernel, "kernel", API_REQ, file, 1, 255, NULL, "Linux kernel (bzImage), in the image directory.") \
	F(T, str, initrd, "initrd", 0, file, 1, 255, NULL, "Initial RAM disk, in the image directory.")             \
	F(T, str, cmdline, "cmdline", 0, any, 0, 1500, NULL, "Kernel command line.")
API_DECLARE(image_kernel, IMAGE_KERNEL)
#define IMAGE_DISK(F, T)                                                                                              \
	F(T, str, file, "file", API_REQ, file, 1, 255, NULL, "Disk image, in the image directory; never written to.") \
	F(T, str, format, "format", API_REQ, disk_format, 1, 7, NULL, "qcow2 or raw.")                                \
	F(T, str, firmware, "firmware", 0, firmware, 1, 7, "\"uefi\"", "uefi (OVMF) or bios.")
API_DECLARE(image_disk, IMAGE_DISK)
#define IMAGE_SPEC(F, T)                                                                                     \
	F(T, obj, kernel, "kernel", 0, image_kernel, 0, 0, NULL, "Direct kernel boot. One of kernel, disk.") \
	F(T, obj, disk, "disk", 0, image_disk, 0, 0, NULL, "Boot from a disk. One of kernel, disk.")
API_DECLARE(image_spec, IMAGE_SPEC)
#define IMAGE(F, T)    \
	API_META(F, T) \
	F(T, obj, spec, "spec", API_REQ, image_spec, 0, 0, NULL, "The files of the image.")
API_DECLARE(image, IMAGE)
extern const struct api_kind api_kind_image;
