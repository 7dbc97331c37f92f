/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * AddressPool: values that nacre-controller may hand out. Pools never overlap. Allocation: a value that was handed out.
 * AllocationRecord: who had a value that was given back.
 */

#include "api/meta.h"
#include "base/inet.h"
#include "base/slice.h"
#include "base/util.h"

/* Bounds of slices: the number of ports of one, and how many an instance can have. */
#define ADDRESSPOOL_SLICE_MIN  64
#define ADDRESSPOOL_SLICE_MAX  32768
#define ADDRESSPOOL_SLICES_MAX 16
/* The shortest prefix of a pool with use shared: balancers hold no more addresses (bpf/balancer.h). */
#define ADDRESSPOOL_SHARED_MIN 18
/* How many AllocationRecords of a pool may be kept: each takes about 400 bytes of the controller's memory. */
#define ADDRESSPOOL_HISTORY_MAX 1000000
/* How many resolvers and domains instances are told (vm/config.h). */
#define ADDRESSPOOL_DNS_MAX    8
#define ADDRESSPOOL_SEARCH_MAX 6

#define ADDRESSPOOL_SPEC(F, T)                                                                                        \
	F(T, str, use, "use", API_REQ | API_IMMUT, pool_use, 1, 15, NULL,                                             \
	  "instance: the /64 of an instance. delegated: the /60 delegated to it. overlay: its address in the public " \
	  "overlay. mac: its MAC. dedicated: public IPv4 addresses, each for one instance. shared: public IPv4 "      \
	  "addresses, each shared by several instances, which get slices of its ports.")                              \
	F(T, str, prefix, "prefix", API_IMMUT, prefix, 3, 49, NULL,                                                   \
	  "The addresses, for every use but mac: IPv4 for dedicated and shared, IPv6 for all others. Host bits must " \
	  "be 0; no other pool may overlap it.")                                                                      \
	F(T, str, mac_prefix, "macPrefix", API_IMMUT, mac_prefix, 8, 8, NULL,                                         \
	  "The first three bytes of the MACs, for use mac, such as 02:4e:01.")                                        \
	F(T, i64, slice_ports, "slicePorts", API_IMMUT, _, ADDRESSPOOL_SLICE_MIN, ADDRESSPOOL_SLICE_MAX, NULL,        \
	  "Use shared: number of ports of a slice, a power of two; default 512.")                                     \
	F(T, i64, first_port, "firstPort", API_IMMUT, _, 1, 65535, NULL,                                              \
	  "Use shared: slices have no ports below this one; default 1024.")                                           \
	F(T, i64, last_port, "lastPort", API_IMMUT, _, 1, 65535, NULL,                                                \
	  "Use shared: slices have no ports above this one; default 65535.")                                          \
	F(T, i64, slices_per_instance, "slicesPerInstance", 0, _, 1, ADDRESSPOOL_SLICES_MAX, NULL,                    \
	  "Use shared: a busy instance gets up to so many slices, unless its InstanceType says otherwise; default "   \
	  "2.")                                                                                                       \
	F(T, i64, quarantine, "quarantineSeconds", 0, _, 0, 86400, NULL,                                              \
	  "Seconds for which a value that was given back is not handed out again; default 300 for uses dedicated "    \
	  "and shared, 0 for all others.")                                                                            \
	F(T, i64, history_days, "historyDays", 0, _, 0, 3650, NULL,                                                   \
	  "Days for which AllocationRecords say who had the pool's values; 0: there are none; default 180. Uses "     \
	  "overlay and mac have none.")                                                                               \
	F(T, i64, history_records, "historyRecords", 0, _, 0, ADDRESSPOOL_HISTORY_MAX, NULL,                          \
	  "The most AllocationRecords that are kept of the pool, the newest; 0: there are none; default 100000. Of "  \
	  "the namespace that has the most the oldest go first.")                                                     \
	F(T, strs, dns_servers, "dnsServers", 0, ip, 0, ADDRESSPOOL_DNS_MAX, NULL,                                    \
	  "Use instance: addresses of resolvers, of both families, that the instances of the pool are told.")         \
	F(T, strs, dns_search, "dnsSearch", 0, domain, 0, ADDRESSPOOL_SEARCH_MAX, NULL,                               \
	  "Use instance: domains in which the instances of the pool are told to search for names.")
API_DECLARE(addresspool_spec, ADDRESSPOOL_SPEC)

#define ADDRESSPOOL_STATUS(F, T)                                                             \
	F(T, i64, used, "used", 0, _, 0, INT64_MAX, NULL,                                    \
	  "Number of values handed out, including those in quarantine.")                     \
	F(T, i64, total, "total", 0, _, 0, INT64_MAX, NULL, "Number of values in the pool.") \
	API_CONDITIONS(F, T)
API_DECLARE(addresspool_status, ADDRESSPOOL_STATUS)

#define ADDRESSPOOL(F, T)                                                                           \
	API_META(F, T)                                                                              \
	F(T, obj, spec, "spec", API_REQ, addresspool_spec, 0, 0, NULL, "The values and their use.") \
	F(T, obj, status, "status", 0, addresspool_status, 0, 0, NULL, "How many values are in use.")
API_DECLARE(addresspool, ADDRESSPOOL)
extern const struct api_kind api_kind_addresspool;

/* The prefix length of the values of a use: instance 64, delegated 60, overlay 128, dedicated 32; mac, shared 0. */
uint8_t addresspool_length(const char *use);
/* The number of ports of a slice, for use shared. */
uint32_t addresspool_slice_ports(const struct addresspool_spec *spec);
/* The numbers of all slices of the address whose slice has number INDEX: FIRST, FIRST + STEP, ..., N of them. */
struct addresspool_numbers {
	uint64_t first, step, n;
};
struct addresspool_numbers addresspool_slices_beside(const struct addresspool_spec *spec, uint64_t index);
/* How many slices an instance may have, for use shared. */
int64_t addresspool_slices_per_instance(const struct addresspool_spec *spec);
/* Seconds for which a value that was given back is not handed out again. */
int64_t addresspool_quarantine(const struct addresspool_spec *spec);
/* How long and how many AllocationRecords are kept of the pool. Either may be 0: none. */
int64_t addresspool_history_days(const struct addresspool_spec *spec);
int64_t addresspool_history_records(const struct addresspool_spec *spec);
/*
 * The number of values in the pool, at most INT64_MAX. It doesn't include the first value of use overlay or mac, which
 * is reserved.
 */
int64_t addresspool_total(const struct addresspool_spec *spec);
/*
 * Writes value number INDEX as text: "2001:db8:1:1::/64", "fd00::1" (overlay), "02:4e:01:00:00:01", "203.0.113.7"
 * (dedicated), "198.51.100.3:1024-1535" (shared: a slice). The slices of a pool are counted in windows of up to
 * ADDRESSPOOL_WINDOW addresses. In a window each address gives one before any gives a second; so instances spread over
 * these addresses, and another slice of an address that an instance has already is likely to be free. The next window
 * follows when a window is full, because balancers hold a limited number of addresses. -ERANGE: the pool has fewer
 * values.
 */
#define ADDRESSPOOL_WINDOW 256
int addresspool_value(const struct addresspool_spec *spec, uint64_t index, char out[static PREFIX_STR_MAX]) _must_use_;
/* The number of VALUE, the inverse of addresspool_value(). False: it isn't a value of this pool. */
bool addresspool_index(const struct addresspool_spec *spec, const char *value, uint64_t *ret);
/* True if both pools could hand out the same value. */
bool addresspool_overlaps(const struct addresspool_spec *a, const struct addresspool_spec *b);

#define ALLOCATION_SPEC(F, T)                                                                                      \
	F(T, str, pool, "pool", API_REQ | API_IMMUT, subdomain, 1, 253, NULL, "AddressPool that the value is of.") \
	F(T, str, value, "value", API_REQ | API_IMMUT, any, 1, 63, NULL, "The value.")                             \
	F(T, obj, owner, "owner", API_REQ | API_IMMUT, api_object_ref, 0, 0, NULL, "Who has it.")                  \
	F(T, str, since, "since", API_IMMUT, time, 0, 40, NULL,                                                    \
	  "When it was handed out; it doesn't change when a move to another API server makes the object anew. "    \
	  "Default: when the object was created.")
API_DECLARE(allocation_spec, ALLOCATION_SPEC)

#define ALLOCATION_STATUS(F, T)                                                                                    \
	F(T, str, released_at, "releasedAt", 0, time, 0, 40, NULL, "When it was given back; it is in quarantine.") \
	F(T, str, taken_for, "takenFor", 0, any, 0, 63, NULL,                                                      \
	  "The version of the Instance to whose status the slice was last being added.")
API_DECLARE(allocation_status, ALLOCATION_STATUS)

#define ALLOCATION(F, T)                                                                           \
	API_META(F, T)                                                                             \
	F(T, obj, spec, "spec", API_REQ, allocation_spec, 0, 0, NULL, "The value and who has it.") \
	F(T, obj, status, "status", 0, allocation_status, 0, 0, NULL, "Whether it was given back.")
API_DECLARE(allocation, ALLOCATION)
extern const struct api_kind api_kind_allocation;

/* Writes when the value of AL was handed out, in whole seconds as in AllocationRecords. False: that isn't known. */
bool allocation_since(const struct allocation *al, char out[static TIME_STR_MAX]);

#define ALLOCATIONRECORD_SPEC(F, T)                                                                                \
	F(T, str, pool, "pool", API_REQ | API_IMMUT, subdomain, 1, 253, NULL, "AddressPool that the value is of.") \
	F(T, str, value, "value", API_REQ | API_IMMUT, any, 1, 63, NULL, "The value.")                             \
	F(T, str, address, "address", API_REQ | API_IMMUT, ip, 2, 45, NULL,                                        \
	  "The IP address of the value, or the first one of the prefix.")                                          \
	F(T, obj, owner, "owner", API_REQ | API_IMMUT, api_object_ref, 0, 0, NULL, "Who had it.")                  \
	F(T, str, from, "from", API_REQ | API_IMMUT, time, 1, 40, NULL, "When it was handed out.")                 \
	F(T, str, until, "until", API_REQ | API_IMMUT, time, 1, 40, NULL, "When it was given back.")
API_DECLARE(allocationrecord_spec, ALLOCATIONRECORD_SPEC)

#define ALLOCATIONRECORD(F, T) \
	API_META(F, T)         \
	F(T, obj, spec, "spec", API_REQ, allocationrecord_spec, 0, 0, NULL, "The value, who had it, and when.")
API_DECLARE(allocationrecord, ALLOCATIONRECORD)
extern const struct api_kind api_kind_allocationrecord;

/*
 * Writes the name that the record of AL has: that of AL, the owner's uid and spec.since in microseconds. It doesn't
 * change when a move to another API server makes AL anew, and an owner that has a value twice has two records.
 */
#define ALLOCATIONRECORD_NAME_MAX 160
void allocationrecord_name(const struct allocation *al, char out[static ALLOCATIONRECORD_NAME_MAX]);

/*
 * Writes the name of the Allocation of VALUE: "ip6-2001-db8-1-1--64", "mac-02-4e-01-00-00-01", "ip4-203-0-113-7",
 * "port-198-51-100-3-1024" (a slice, by its first port). Each value has its own name.
 */
void allocation_name(const char *value, char out[static 64]);
/* Writes the IP address of VALUE, or the first one of its prefix. False: it is a MAC. */
bool allocation_address(const char *value, char out[static ADDR_STR_MAX]);
