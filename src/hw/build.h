/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * From what a reader has found to the model: the one place that decides what is a switch, a GPU or a NIC, folds, fills
 * in NUMA nodes, and refuses what cannot be. A reader appends one `struct hw_raw` for each root complex and each PCI
 * function that it finds, in any order, and fills in nodes, sockets and cores of the model itself.
 *
 * Functions that are no GPU, NIC, NVMe or NVSwitch are left out of the model, and so are switches and root complexes
 * without any of these, unless the switch has free ports for some. Virtual functions are left out, too.
 */

#include "hw/text.h"

#define HW_RAW_MAX 4096 /* PCI functions and root complexes, without virtual functions */

enum hw_raw_type {
	HW_RAW_ROOT,      /* a root complex (host bridge) */
	HW_RAW_BRIDGE,    /* a bridge whose place in a switch is unknown: it is told by what is above it */
	HW_RAW_ROOT_PORT, /* these are known from config space */
	HW_RAW_UPSTREAM,  /* also a bridge to conventional PCI */
	HW_RAW_DOWNSTREAM,
	HW_RAW_SWITCH, /* a whole switch: NCCL has one element for its upstream and downstream ports */
	HW_RAW_ENDPOINT,
};

struct hw_raw {
	enum hw_raw_type type;
	char name[HW_ADDRESS_MAX + 1]; /* address; of a root "0000:15", or "" */
	struct hw_address address;     /* of a root: domain and bus */
	bool has_bus_range;            /* a bridge or root: children are on these buses of its own domain */
	uint8_t first_bus, last_bus;
	int parent;             /* index of what it is below; -1 for a root */
	uint32_t class;         /* 24 bits: class, subclass, interface */
	int64_t node;           /* -1: unknown */
	unsigned line;          /* of XML; 0: none */
	bool is_gpu, is_switch; /* the source says that it is a GPU, an NVSwitch */
	enum hw_state acs;      /* of a port */
	int64_t acs_capability, acs_control;
	bool is_virtual;   /* a virtual function of SR-IOV */
	int64_t vf_offset; /* where the virtual functions of this one are (SR-IOV capability); 0: unknown */
	int64_t vf_stride;
	bool has_vpd;           /* its vital product data was read, so that found.management is known */
	struct hw_device found; /* what else was read; `root`, `above`, `kind`, `model` and `port` are not set */
};

struct hw_raws {
	struct hw_raw *v;
	size_t n, cap;
};

/* Whether it is a bridge or, by its class, may be a device of the model: for others class and ids are all that is
 * needed. */
bool hw_raw_is_needed(const struct hw_raw *raw);
/* Whether only its vital product data tells if it is a NIC or a way to the NVLink switches (hw.h). */
bool hw_raw_may_be_management(const struct hw_raw *raw);

void hw_raws_clear(struct hw_raws *r);
#define _hw_raws_clear_ _cleanup_(hw_raws_clear)
/* A new last element with everything unknown; -EFBIG past HW_RAW_MAX. *RET is valid until the next call. */
int hw_raws_add(struct hw_raws *r, struct hw_raw **ret, struct error *err) _must_use_;

/*
 * Completes H from RAWS: roots, switches and devices, sorted by address within what they are below, and the socket of
 * each node. -EINVAL or -EFBIG with a message that names the element.
 */
int hw_build(struct hw_raws *raws, struct hw_host *h, struct error *err) _must_use_;
