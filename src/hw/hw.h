/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a host has: sockets, NUMA nodes, cores, and the PCI devices that matter to a GPU cloud with the switches and
 * root complexes above them. Placement decides on this model, people look at it with `nacre topology`, and its JSON is
 * declared here.
 *
 * Ownership: the structs have no pointers (base/jsontable.h). hw_new() allocates the one large struct, hw_free()
 * releases it; there is nothing else to free.
 *
 * References: sockets and nodes are referred to by the number that the kernel gave them (`id`), since these have gaps.
 * Roots, switches and devices are referred to by their index in the lists of struct hw_host. A switch comes
 * after the switch that it is below. -1 means none or unknown. Every reader checks all of this (build.h).
 *
 * Units: memory and BARs in bytes; speed of a link in MT/s a lane (2500, 5000, 8000, 16000, 32000, 64000, 128000),
 * throughput in MB/s (10^6) of one direction after the line code. 0 means unknown.
 *
 * Sources: docs/topology.md says for every field which file of sysfs, or which attribute of XML, it comes from.
 */

#include "base/jsontable.h"

#define HW_SOCKETS_MAX     64
#define HW_NODES_MAX       64 /* GPUs with memory of their own make many nodes: 34 have been seen on one host */
#define HW_CORES_MAX       2048
#define HW_ROOTS_MAX       128
#define HW_SWITCHES_MAX    256
#define HW_DEVICES_MAX     256
#define HW_GPU_LINKS_MAX   1024
#define HW_DEPTH_MAX       32 /* bridges above a device */
#define HW_ADDRESS_MAX     16 /* dddddddd:bb:dd.f, in lower case; domains have 4 to 8 digits */
#define HW_EMPTY_PORTS_MAX 255
#define HW_CPUS_TEXT       2047
#define HW_MODEL_MAX       63
#define HW_NAME_MAX        63

enum hw_kind { HW_GPU, HW_NIC, HW_NVME, HW_NVSWITCH, HW_KINDS };
/* Whether a capability is there, and whether it is in use. Unknown where config space could not be read. */
enum hw_state { HW_UNKNOWN, HW_ABSENT, HW_OFF, HW_ON };
enum hw_gpu_link_kind { HW_NVLINK, HW_XGMI, HW_C2C };
extern const char *const jt_words_hw_gpu_link_kind[];
enum hw_answer { HW_NO, HW_PERHAPS, HW_YES };
enum hw_port_state { HW_PORT_UNKNOWN, HW_PORT_DOWN, HW_PORT_INIT, HW_PORT_ARMED, HW_PORT_ACTIVE };
enum hw_link_layer { HW_LAYER_UNKNOWN, HW_INFINIBAND, HW_ETHERNET };
extern const char *const jt_words_hw_kind[],
	*const jt_words_hw_state[], *const jt_words_hw_answer[], *const jt_words_hw_port_state[],
									 *const jt_words_hw_link_layer[];

/* clang-format off */
#define HW_SOCKET_FIELDS(F, T) \
	F(T, i64, id, "id", 0, 65535, 0)

#define HW_HUGEPAGES_FIELDS(F, T) \
	F(T, i64, size_kib, "sizeKiB", 4, 1 << 25, 2048) \
	F(T, i64, total, "total", 0, INT64_MAX, 0) /* pages */ \
	F(T, i64, free, "free", -1, INT64_MAX, -1)

#define HW_DISTANCE_FIELDS(F, T) \
	F(T, i64, node, "node", 0, 1023, 0) \
	F(T, i64, value, "value", 1, 255, 10) /* as in ACPI's SLIT: 10 is the node itself, 255 unreachable */

#define HW_NODE_FIELDS(F, T) \
	F(T, i64, id, "id", 0, 1023, 0) \
	F(T, i64, socket, "socket", -1, 65535, -1) \
	F(T, i64, memory, "memory", 0, INT64_MAX, 0) \
	F(T, text, cpus, "cpus", HW_CPUS_TEXT) /* "0-15,128-143"; empty where a node has only memory */ \
	F(T, list, hugepages, "hugepages", hw_hugepages, 4) \
	F(T, list, distances, "distances", hw_distance, HW_NODES_MAX)

#define HW_CORE_FIELDS(F, T) \
	F(T, i64, socket, "socket", -1, 65535, -1) \
	F(T, i64, node, "node", -1, 1023, -1) \
	F(T, text, cpus, "cpus", 63) /* its threads: "0,112" */

/* The link between a device and what is above it. The maximum is the smaller one of both ends. The device's own maximum
 * is greater where the port above has fewer lanes than the card, or is slower. */
#define HW_LINK_FIELDS(F, T) \
	F(T, i64, speed, "speed", 0, 128000, 0) \
	F(T, i64, width, "width", 0, 32, 0) \
	F(T, i64, max_speed, "maxSpeed", 0, 128000, 0) \
	F(T, i64, max_width, "maxWidth", 0, 32, 0) \
	F(T, i64, throughput, "throughput", 0, 1000000, 0) /* now; all that an hwloc XML knows about a link */ \
	F(T, i64, own_max_speed, "ownMaxSpeed", 0, 128000, 0) \
	F(T, i64, own_max_width, "ownMaxWidth", 0, 32, 0)

/* The root port or the downstream port of a switch right above. Empty where there is none or it is not told. */
#define HW_PORT_FIELDS(F, T) \
	F(T, text, address, "address", HW_ADDRESS_MAX) \
	F(T, word, acs, "acs", hw_state)              /* on: at least one bit of the control word is set */ \
	F(T, i64, acs_capability, "acsCapability", 0, 65535, 0) \
	F(T, i64, acs_control, "acsControl", 0, 65535, 0) /* 0x5d: P2P through a switch (docs/topology.md) */

#define HW_BAR_FIELDS(F, T) \
	F(T, i64, index, "index", 0, 5, 0) \
	F(T, i64, size, "size", 1, INT64_MAX, 1) \
	F(T, flag, prefetchable, "prefetchable") \
	F(T, flag, bits64, "bits64") \
	F(T, flag, unassigned, "unassigned") /* it has no address: neither the firmware nor the kernel had room */

#define HW_RDMA_PORT_FIELDS(F, T) \
	F(T, i64, number, "number", 1, 255, 1) \
	F(T, word, layer, "layer", hw_link_layer) \
	F(T, i64, mbit, "mbit", 0, 10000000, 0) /* 10^6 bits/s now */ \
	F(T, word, state, "state", hw_port_state)

#define HW_ROOT_FIELDS(F, T) \
	F(T, text, address, "address", HW_ADDRESS_MAX) /* "0000:15"; empty where the source has none (NCCL) */ \
	F(T, i64, node, "node", -1, 1023, -1) \
	F(T, i64, socket, "socket", -1, 65535, -1)

#define HW_SWITCH_FIELDS(F, T) \
	F(T, text, address, "address", HW_ADDRESS_MAX) /* of the upstream port */ \
	F(T, i64, root, "root", 0, HW_ROOTS_MAX - 1, 0) \
	F(T, i64, above, "switch", -1, HW_SWITCHES_MAX - 1, -1) /* the switch above it */ \
	F(T, i64, levels, "levels", 1, 2, 1) /* 2: a second level was folded into it, as NCCL does */ \
	F(T, text, ids, "ids", 9)            /* vendor:device, "1000:c030"; empty: unknown */ \
	F(T, text, subids, "subids", 9) \
	F(T, text, model, "model", HW_MODEL_MAX) \
	F(T, obj, link, "link", hw_link) \
	F(T, obj, port, "port", hw_port) \
	F(T, i64, empty_ports, "emptyPorts", 0, HW_EMPTY_PORTS_MAX, 0) /* downstream ports of 8 lanes and more with nothing below */

#define HW_DEVICE_FIELDS(F, T) \
	F(T, word, kind, "kind", hw_kind) \
	F(T, text, address, "address", HW_ADDRESS_MAX) \
	F(T, i64, root, "root", 0, HW_ROOTS_MAX - 1, 0) \
	F(T, i64, above, "switch", -1, HW_SWITCHES_MAX - 1, -1) \
	F(T, i64, node, "node", -1, 1023, -1) \
	F(T, text, ids, "ids", 9) \
	F(T, text, subids, "subids", 9) \
	F(T, text, model, "model", HW_MODEL_MAX)  /* "h100-sxm5-80gb"; empty: unknown */ \
	F(T, i64, module, "module", 0, 255, 0)    /* GPU: module id of its baseboard, 1-based; only its driver knows it */ \
	F(T, i64, iommu_group, "iommuGroup", -1, INT32_MAX, -1) \
	F(T, text, driver, "driver", HW_NAME_MAX) \
	F(T, obj, link, "link", hw_link) \
	F(T, obj, port, "port", hw_port) \
	F(T, word, ats, "ats", hw_state) \
	F(T, list, bars, "bars", hw_bar, 6) \
	F(T, text, name, "name", HW_NAME_MAX)     /* NIC: RDMA device, "mlx5_0"; NVMe: controller, "nvme0" */ \
	F(T, text, netdev, "netdev", 15)          /* NIC: the first one */ \
	F(T, list, ports, "ports", hw_rdma_port, 4) \
	F(T, i64, vfs_total, "vfsTotal", 0, 65535, 0) \
	F(T, i64, vfs, "vfs", 0, 65535, 0) \
	F(T, word, management, "management", hw_answer) /* NIC: it leads to the NVLink switches of the board; see below */ \
	F(T, flag, dead, "dead") /* it does not answer: all that is read from it has all bits set */

/* Management: on HGX B200 and B300 the host reaches the NVLink switches through functions of a ConnectX-7 that look like
 * any other NIC. Only a device with `no` may be given to a guest; `unknown` means that its VPD could not be read. */

/* Links of a GPU beside PCIe. NVLinks to switches are one entry, with peer -1; so are C2C links to the processor. */
#define HW_GPU_LINK_FIELDS(F, T) \
	F(T, word, kind, "kind", hw_gpu_link_kind) \
	F(T, i64, gpu, "gpu", 0, HW_DEVICES_MAX - 1, 0) \
	F(T, i64, peer, "peer", -1, HW_DEVICES_MAX - 1, -1) /* a GPU of this host */ \
	F(T, i64, count, "count", 1, 1023, 1)

#define HW_HOST_FIELDS(F, T) \
	F(T, list, sockets, "sockets", hw_socket, HW_SOCKETS_MAX) \
	F(T, list, nodes, "nodes", hw_node, HW_NODES_MAX) \
	F(T, list, cores, "cores", hw_core, HW_CORES_MAX) \
	F(T, list, roots, "roots", hw_root, HW_ROOTS_MAX) \
	F(T, list, switches, "switches", hw_switch, HW_SWITCHES_MAX) \
	F(T, list, devices, "devices", hw_device, HW_DEVICES_MAX) \
	F(T, list, gpu_links, "gpuLinks", hw_gpu_link, HW_GPU_LINKS_MAX)
/* clang-format on */

JT_DECLARE(hw_socket, HW_SOCKET_FIELDS)
JT_DECLARE(hw_hugepages, HW_HUGEPAGES_FIELDS)
JT_DECLARE(hw_distance, HW_DISTANCE_FIELDS)
JT_DECLARE(hw_node, HW_NODE_FIELDS)
JT_DECLARE(hw_core, HW_CORE_FIELDS)
JT_DECLARE(hw_link, HW_LINK_FIELDS)
JT_DECLARE(hw_port, HW_PORT_FIELDS)
JT_DECLARE(hw_bar, HW_BAR_FIELDS)
JT_DECLARE(hw_rdma_port, HW_RDMA_PORT_FIELDS)
JT_DECLARE(hw_root, HW_ROOT_FIELDS)
JT_DECLARE(hw_switch, HW_SWITCH_FIELDS)
JT_DECLARE(hw_device, HW_DEVICE_FIELDS)
JT_DECLARE(hw_gpu_link, HW_GPU_LINK_FIELDS)
JT_DECLARE(hw_host, HW_HOST_FIELDS)

/* An empty model; NULL without memory. */
struct hw_host *hw_new(void) _must_use_;
void hw_free(struct hw_host *h);
DEFINE_CLEANUP(hw_free, struct hw_host *, hw_free)
#define _hw_free_ _cleanup_(cleanup_hw_free)

/* How close two devices are, closest first, in the terms of `nvidia-smi topo -m` and NCCL. */
enum hw_relation {
	HW_SELF,
	HW_PIX,  /* one switch between them, or functions of one card */
	HW_PXB,  /* several switches, but not through the root complex */
	HW_PHB,  /* through their common root complex */
	HW_NODE, /* root complexes of one NUMA node */
	HW_SYS,  /* across NUMA nodes, or one of the nodes is unknown */
};
const char *hw_relation_name(enum hw_relation r);
/* A and B are indexes in h->devices. */
enum hw_relation hw_relation(const struct hw_host *h, size_t a, size_t b);

/*
 * Which GPUs NVLink or xGMI connects, perhaps through others: writes for each device the index of the first GPU that it
 * is connected to (itself, if that is the first), or -1 for what is connected to none.
 */
void hw_gpu_sets(const struct hw_host *h, int set[static HW_DEVICES_MAX]);

/* NULL if there is none. */
const struct hw_node *hw_node_find(const struct hw_host *h, int64_t id);
/* The distance between two nodes, which must exist; 0 if the host doesn't say. */
int64_t hw_distance(const struct hw_host *h, int64_t from, int64_t to);
/* NICs that are known to be for management are not counted. */
size_t hw_count(const struct hw_host *h, enum hw_kind kind);
/* Whether the link runs with less speed or width than both its ends can. A GPU that is idle lowers its speed. */
bool hw_link_is_below(const struct hw_link *l);

/* The model as JSON, with the fields above. OUT records a failure (base/buf.h). */
void hw_print(const struct hw_host *h, struct buf *out);
/* Reads such JSON and checks all references. *RET, which the caller frees, is written only on success. */
int hw_parse(const char *text, size_t len, struct hw_host **ret, struct error *err) _must_use_;
/* -EINVAL if a reference doesn't hold, something is there twice, or CPUs, sockets and links don't fit together; the
 * message names the element. */
int hw_check(const struct hw_host *h, struct error *err) _must_use_;
