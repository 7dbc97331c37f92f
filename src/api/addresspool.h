/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* AddressPool: values the controller may hand out. Pools never overlap. Allocation: one value handed out. */

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
	  "How long a freed value is kept before it is handed out again.")
API_DECLARE(addresspool_spec, ADDRESSPOOL_SPEC)

#define ADDRESSPOOL_STATUS(F, T)                                                                              \
	F(T, i64, used, "used", 0, _, 0, INT64_MAX, NULL, "Values handed out, those in quarantine included.") \
	F(T, i64, total, "total", 0, _, 0, INT64_MAX, NULL, "Values there are.")                              \
	API_CONDITIONS(F, T)
API_DECLARE(addresspool_status, ADDRESSPOOL_STATUS)

#define ADDRESSPOOL(F, T)                                                                \
	API_META(F, T)                                                                   \
	F(T, obj, spec, "spec", API_REQ, addresspool_spec, 0, 0, NULL, "What it holds.") \
	F(T, obj, status, "status", 0, addresspool_status, 0, 0, NULL, "How much of it is used.")
API_DECLARE(addresspool, ADDRESSPOOL)
extern const struct api_kind api_kind_addresspool;

/* Prefix length handed out for a use: instance 64, delegated 60, overlay 128; 0 for mac. */
uint8_t addresspool_length(const char *use);
/* How many values the pool has (saturates at INT64_MAX). The value with index 0 of use overlay is reserved. */
int64_t addresspool_total(const struct addresspool_spec *spec);
/* The INDEXth value as text: "2001:db8:1:1::/64", "fd00::1" (overlay), "02:4e:01:00:00:01". -ERANGE past the end. */
int addresspool_value(const struct addresspool_spec *spec, uint64_t index, char out[static PREFIX_STR_MAX]) _must_use_;
/* True if two pools could hand out one value. */
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

/* Name of the Allocation of VALUE: "ip6-2001-db8-1-1--64", "mac-02-4e-01-00-00-01". A value has one name only. */
void allocation_name(const char *value, char out[static 64]);
