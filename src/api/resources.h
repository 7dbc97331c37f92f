/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What instances take from hosts and quotas, in one table, RESOURCES. A row gives the fields of InstanceType, Instance,
 * Host and TenantQuota, their columns in kubectl, and an amount in struct resources. Placement, quotas and messages go
 * over all rows and name none. A new resource needs a row and something that measures it: nacre-node reports the
 * capacity of its host (fabric/fabric.h) and gives each instance its part.
 *
 *     R(F, T, member, "name", "column", "title", "too little", "unit", flags,
 *       types, min, max,  hosts, max,  quotas, max)
 *
 * member      the field in C
 * name        the field in the API, also in lists of amounts: "vcpus=8"
 * column      the heading in kubectl get
 * title       the first words of the field's description
 * too little  why a host has no room: "too few vCPUs (free 3 at most, asked 8)"
 * unit        what follows an amount in that sentence, with its blank; "" if the words before it suffice
 * flags       API_REQ if types and hosts must have the field. A new row must not have it: objects of earlier versions
 *             lack the field, which then counts as 0.
 * types       YES: an InstanceType has the amount, MIN to MAX, and an Instance's status the amount it was placed with
 * hosts       YES: hosts report how much they have, at most MAX, and operators may limit it; NO: no host runs out of it
 * quotas      YES: TenantQuotas count and limit it, to at most MAX
 *
 * Fields and columns have the order of the rows. If a host is short of several resources, messages name the first row.
 *
 * A keyed resource, such as GPUs by model, will be one row, too. Its field in the API will be a list of keys and
 * amounts. In struct resources it will have several places, one for each key. A key gets the next place when an
 * InstanceType first names it, which only an operator can create, and keeps it while the process lives. A column will
 * say how many places there are; the API refuses InstanceTypes with more keys. Its names are "gpus.MODEL". An amount
 * remains one number in one place, so code that adds, compares and copies amounts doesn't change.
 */

#include "api/api.h"

/* clang-format off */
#define RESOURCES(R, F, T) \
	R(F, T, instances, "instances", "Instances", "Instances", "too few instances", "", 0, \
	  NO, 0, 0,           NO, 0,           YES, INT32_MAX) \
	R(F, T, vcpus, "vcpus", "vCPUs", "vCPUs", "too few vCPUs", "", API_REQ, \
	  YES, 1, 1024,       YES, 65536,      YES, INT32_MAX) \
	R(F, T, dedicated_ipv4, "dedicatedIPv4", "Dedicated-IPv4", "Dedicated public IPv4 addresses", \
	  "too few dedicated IPv4 addresses", "", 0, \
	  NO, 0, 0,           NO, 0,           YES, INT32_MAX) \
	R(F, T, memory_mib, "memoryMiB", "MemoryMiB", "Memory in MiB", "too little memory", " MiB", API_REQ, \
	  YES, 64, 16777216,  YES, 1 << 30,    YES, INT64_C(1) << 40)
/* clang-format on */

/* ---- amounts ---- */

#define RESOURCE_IF_YES(...) __VA_ARGS__
#define RESOURCE_IF_NO(...)

#define RESOURCE_INDEX(F, T, m, ...) RESOURCE_##m,
enum { RESOURCES(RESOURCE_INDEX, _, _) N_RESOURCES };

/* Sets of rows: one bit for each row. */
#define RESOURCE_TYPES_BIT(F, T, m, name, column, title, too, unit, flags, types, ...) \
	RESOURCE_IF_##types(| 1U << RESOURCE_##m)
#define RESOURCE_HOSTS_BIT(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, hosts, ...) \
	RESOURCE_IF_##hosts(| 1U << RESOURCE_##m)
#define RESOURCES_OF_TYPES (0U RESOURCES(RESOURCE_TYPES_BIT, _, _))
#define RESOURCES_OF_HOSTS (0U RESOURCES(RESOURCE_HOSTS_BIT, _, _))

/* An amount of each resource: what exists, what is taken, or a limit. It has no pointers and may be copied. */
struct resources {
	int64_t v[N_RESOURCES];
};

/*
 * Loops over all rows I. It is unrolled because placement does this for each host: a real loop costs placement 10 %
 * more.
 */
#define RESOURCES_FOREACH(i) _Pragma("GCC unroll 8") for (int i = 0; i < N_RESOURCES; i++)

/* The amount that means no limit, and that amount of every resource. */
#define RESOURCE_UNLIMITED  INT64_MAX
#define RESOURCES_UNLIMITED ((struct resources){.v = {[0 ... N_RESOURCES - 1] = RESOURCE_UNLIMITED}})

/* A result beyond int64_t becomes INT64_MAX or INT64_MIN. A difference may be negative. */
static inline void resources_add(struct resources *to, const struct resources *what) {
	RESOURCES_FOREACH (i)
		if (__builtin_add_overflow(to->v[i], what->v[i], &to->v[i]))
			to->v[i] = what->v[i] < 0 ? INT64_MIN : INT64_MAX;
}

static inline void resources_subtract(struct resources *from, const struct resources *what) {
	RESOURCES_FOREACH (i)
		if (__builtin_sub_overflow(from->v[i], what->v[i], &from->v[i]))
			from->v[i] = what->v[i] < 0 ? INT64_MAX : INT64_MIN;
}

/* N times ONE, with the same limits. */
struct resources resources_times(const struct resources *one, int64_t n);
bool resources_equal(const struct resources *a, const struct resources *b);

/* The first row in which ROOM is less than WANT; N_RESOURCES: there is enough of each. */
static inline int resources_short(const struct resources *room, const struct resources *want) {
	int i = 0;
	while (i < N_RESOURCES && room->v[i] >= want->v[i])
		i++;
	return i;
}

/* ---- text ---- */

const char *resources_name(int row); /* the name in the API */

#define RESOURCES_TEXT_MAX ((size_t)48 * N_RESOURCES)
/*
 * Prints the amounts of ROWS (one bit for each row), sorted by name as in Kubernetes: "memoryMiB=512,vcpus=2". Returns
 * OUT.
 */
const char *resources_print(const struct resources *r, unsigned rows, char out[static RESOURCES_TEXT_MAX]);

#define RESOURCE_SHORT_MAX 128
/* Prints which resource is short, and by how much: "too few vCPUs (free 3 at most, asked 8)". Returns OUT. */
const char *resources_print_short(int row, int64_t free, int64_t asked, char out[static RESOURCE_SHORT_MAX]);

/* ---- for the declarations of kinds ---- */

/*
 * Lists of fields (api.h): an InstanceType's spec, the size in an Instance's status, a Host's limits and capacity, a
 * TenantQuota's spec and its status.used.
 */
#define RESOURCES_TYPE_FIELDS(F, T)   RESOURCES(RESOURCE_TYPE_FIELD, F, T)
#define RESOURCES_PLACED_FIELDS(F, T) RESOURCES(RESOURCE_PLACED_FIELD, F, T)
#define RESOURCES_HOST_LIMITS(F, T)   RESOURCES(RESOURCE_HOST_LIMIT, F, T)
#define RESOURCES_HOST_CAPACITY(F, T) RESOURCES(RESOURCE_HOST_CAPACITY, F, T)
#define RESOURCES_QUOTA_LIMITS(F, T)  RESOURCES(RESOURCE_QUOTA_LIMIT, F, T)
#define RESOURCES_QUOTA_USED(F, T)    RESOURCES(RESOURCE_QUOTA_USED, F, T)

/* clang-format off */
#define RESOURCE_TYPE_FIELD(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, ...) \
	RESOURCE_IF_##types(F(T, i64, m, name, (flags) | API_IMMUT, _, tmin, tmax, NULL, title " of an instance."))
#define RESOURCE_PLACED_FIELD(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, ...) \
	RESOURCE_IF_##types(F(T, i64, m, name, 0, _, 0, tmax, NULL, title " that it was placed with."))
#define RESOURCE_HOST_LIMIT(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, hosts, hmax, ...) \
	RESOURCE_IF_##hosts(F(T, i64, m, name, 0, _, 0, hmax, NULL, title " that instances may have together."))
#define RESOURCE_HOST_CAPACITY(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, hosts, hmax, ...) \
	RESOURCE_IF_##hosts(F(T, i64, m, name, flags, _, 0, hmax, NULL, title " that instances may have together."))
#define RESOURCE_QUOTA_LIMIT(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, hosts, hmax, quotas, qmax) \
	RESOURCE_IF_##quotas(F(T, i64, m, name, 0, _, 0, qmax, NULL, title " that the namespace may have."))
#define RESOURCE_QUOTA_USED(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, hosts, hmax, quotas, qmax) \
	RESOURCE_IF_##quotas(F(T, i64, m, name, 0, _, 0, INT64_MAX, NULL, title " that the namespace has."))

/* Columns for kubectl get, each with a comma after it. */
#define RESOURCE_TYPE_COLUMN(F, T, m, name, column, title, too, unit, flags, types, ...) \
	RESOURCE_IF_##types({column, "integer", ".spec." name, title " of an instance.", 0},)
#define RESOURCE_HOST_COLUMN(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, hosts, ...) \
	RESOURCE_IF_##hosts({column, "integer", ".status.capacity." name, title " for instances.", 0},)
#define RESOURCE_QUOTA_COLUMNS(F, T, m, name, column, title, too, unit, flags, types, tmin, tmax, hosts, hmax, quotas, qmax) \
	RESOURCE_IF_##quotas({column, "integer", ".status.used." name, title " that the namespace has.", 0}, \
	                     {"Max-" column, "integer", ".spec." name, title " that it may have.", 0},)
/* clang-format on */

/*
 * Statements for each field. Each macro is used in place of F of such a list. FROM is a pointer.
 * RESOURCE_READ        copies the field of *FROM into the struct resources `ret`; an absent field is 0
 * RESOURCE_READ_LIMIT  lowers the amount in `ret` to the field of *FROM, if that is present
 * RESOURCE_WRITE       copies the amount of the struct resources *FROM into the field of *`to`
 */
#define RESOURCE_READ(from, kind, m, ...) ret.v[RESOURCE_##m] = (from)->m.v;
#define RESOURCE_READ_LIMIT(from, kind, m, ...) \
	if ((from)->m.set)                      \
		ret.v[RESOURCE_##m] = MIN(ret.v[RESOURCE_##m], (from)->m.v);
#define RESOURCE_WRITE(from, kind, m, ...) to->m = API_I64((from)->v[RESOURCE_##m]);
