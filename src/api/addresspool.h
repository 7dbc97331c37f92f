/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * AddressPool: values that nacre-controller may hand out. Pools never overlap. Allocation: a value that was handed out.
 */

#include "api/meta.h"
#include "base/inet.h"

#define ADDRESSPOOL_SPEC(F, T)                                                                                        \
	F(T, str, use, "use", API_REQ | API_IMMUT, pool_use, 1, 15, NULL,                                             \
	  "instance: the /64 of an instance. delegated: the /60 delegated to it. overlay: its address in the public " \
	  "overlay. mac: its MAC.")                                                                                   \
	F(T, str, prefix, "prefix", API_IMMUT, prefix6, 3, 49, NULL,                                                  \
	  "The addresses, for every use but mac. Host bits must be 0; no other pool may overlap it.")                 \
	F(T, str, mac_prefix, "macPrefix", API_IMMUT, mac_prefix, 8, 8, NULL,                                         \
	  "The first three bytes of the MACs, for use mac, such as 02:4e:01.")                                        \
	F(T, i64, quarantine, "quarantineSeconds", 0, _, 0, 86400, "0",                                               \
	  "Seconds for which a value that was given back is not handed out again.")
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

/* The prefix length of the values of a use: instance 64, delegated 60, overlay 128; mac 0. */
uint8_t addresspool_length(const char *use);
/*
 * The number of values in the pool, at most INT64_MAX. It doesn't include the first value of use overlay or mac, which
 * is reserved.
 */
int64_t addresspool_total(const struct addresspool_spec *spec);
/*
 * Writes value number INDEX as text: "2001:db8:1:1::/64", "fd00::1" (overlay), "02:4e:01:00:00:01". -ERANGE: the pool
 * has fewer values.
 */
int addresspool_value(const struct addresspool_spec *spec, uint64_t index, char out[static PREFIX_STR_MAX]) _must_use_;
/* True if both pools could hand out the same value. */
bool addresspool_overlaps(const struct addresspool_spec *a, const struct addresspool_spec *b);

#define ALLOCATION_SPEC(F, T)                                                                                      \
	F(T, str, pool, "pool", API_REQ | API_IMMUT, subdomain, 1, 253, NULL, "AddressPool that the value is of.") \
	F(T, str, value, "value", API_REQ | API_IMMUT, any, 1, 63, NULL, "The value.")                             \
	F(T, obj, owner, "owner", API_REQ | API_IMMUT, api_object_ref, 0, 0, NULL, "Who has it.")
API_DECLARE(allocation_spec, ALLOCATION_SPEC)

#define ALLOCATION_STATUS(F, T) \
	F(T, str, released_at, "releasedAt", 0, time, 0, 40, NULL, "When it was given back; it is in quarantine.")
API_DECLARE(allocation_status, ALLOCATION_STATUS)

#define ALLOCATION(F, T)                                                                           \
	API_META(F, T)                                                                             \
	F(T, obj, spec, "spec", API_REQ, allocation_spec, 0, 0, NULL, "The value and who has it.") \
	F(T, obj, status, "status", 0, allocation_status, 0, 0, NULL, "Whether it was given back.")
API_DECLARE(allocation, ALLOCATION)
extern const struct api_kind api_kind_allocation;

/*
 * Writes the name of the Allocation of VALUE: "ip6-2001-db8-1-1--64", "mac-02-4e-01-00-00-01". Each value has its own
 * name.
 */
void allocation_name(const char *value, char out[static 64]);
