/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/pcicap.h"

#include <pci/header.h>
#include <string.h>

struct config {
	const unsigned char *bytes;
	size_t len;
};

/* Bytes past the end read as 0. */
static unsigned config_get16(const struct config *c, size_t at) {
	return at + 2 <= c->len ? (unsigned)(c->bytes[at] | c->bytes[at + 1] << 8) : 0;
}

static uint32_t config_get32(const struct config *c, size_t at) {
	return config_get16(c, at) | (uint32_t)config_get16(c, at + 2) << 16;
}

/* The offset of a capability; 0 if there is none. */
static size_t config_find_cap(const struct config *c, unsigned id) {
	size_t at = config_get16(c, PCI_STATUS) & PCI_STATUS_CAP_LIST && c->len > 64
	                    ? config_get16(c, PCI_CAPABILITY_LIST) & 0xfc
	                    : 0;
	for (int left = 48; at >= 64 && left > 0; left--, at = config_get16(c, at) >> 8 & 0xfc)
		if ((config_get16(c, at) & 0xff) == id)
			return at;
	return 0;
}

static size_t config_find_ext_cap(const struct config *c, unsigned id) {
	size_t at = 256;
	for (int left = 480; at >= 256 && left > 0; left--, at = config_get32(c, at) >> 20 & 0xffc)
		if (config_get32(c, at) != 0 && (config_get32(c, at) & 0xffff) == id)
			return at;
	return 0;
}

static enum hw_raw_type config_bridge_type(unsigned flags, enum hw_raw_type other) {
	switch (flags >> 4 & 0xf) {
	case PCI_EXP_TYPE_ROOT_PORT: return HW_RAW_ROOT_PORT;
	case PCI_EXP_TYPE_UPSTREAM: return HW_RAW_UPSTREAM;
	case PCI_EXP_TYPE_DOWNSTREAM: return HW_RAW_DOWNSTREAM;
	case PCI_EXP_TYPE_PCI_BRIDGE: return HW_RAW_UPSTREAM;
	default: return other;
	}
}

static int64_t config_speed(unsigned code) {
	static const int64_t speeds[] = {0, 2500, 5000, 8000, 16000, 32000, 64000, 128000};
	return code < ARRAY_SIZE(speeds) ? speeds[code] : 0;
}

static int64_t config_width(unsigned code) {
	char text[8];
	int64_t width;
	snprintf(text, sizeof(text), "%u", code);
	return hw_width_parse(text, &width) < 0 ? 0 : width;
}

static void config_read_link(const struct config *c, size_t cap, struct hw_link *l) {
	uint32_t can = config_get32(c, cap + PCI_EXP_LNKCAP), now = config_get16(c, cap + PCI_EXP_LNKSTA);
	if (!l->max_speed)
		l->max_speed = config_speed(can & PCI_EXP_LNKCAP_SPEED);
	if (!l->max_width)
		l->max_width = config_width((can & PCI_EXP_LNKCAP_WIDTH) >> 4);
	if (!l->speed && !l->width) {
		l->speed = config_speed(now & PCI_EXP_LNKSTA_SPEED);
		l->width = config_width((now & PCI_EXP_LNKSTA_WIDTH) >> 4);
	}
}

static void config_read_acs(const struct config *c, struct hw_raw *raw) {
	size_t at = config_find_ext_cap(c, PCI_EXT_CAP_ID_ACS);
	raw->acs = HW_ABSENT;
	if (!at)
		return;
	raw->acs_capability = config_get16(c, at + 4);
	raw->acs_control = config_get16(c, at + 6);
	raw->acs = raw->acs_control ? HW_ON : HW_OFF;
}

static bool config_all_set(const unsigned char *bytes, size_t len) {
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0xff)
			return false;
	return true;
}

void hw_pcicap_read(struct hw_raw *raw, const unsigned char *bytes, size_t len) {
	const struct config c = {bytes, len};
	bool is_bridge = raw->type != HW_RAW_ENDPOINT;
	if (len < 64)
		return;
	if (config_all_set(bytes, 64)) {
		raw->found.dead = true;
		return;
	}
	/* Virtual functions have no ids of their own (PCI Express Base Specification, 9.3.4.1.1). */
	raw->is_virtual |= config_all_set(bytes, 4);
	if (is_bridge && (bytes[PCI_HEADER_TYPE] & 0x7f) == PCI_HEADER_TYPE_BRIDGE && bytes[PCI_SECONDARY_BUS]) {
		raw->has_bus_range = true;
		raw->first_bus = bytes[PCI_SECONDARY_BUS];
		raw->last_bus = bytes[PCI_SUBORDINATE_BUS];
	}
	size_t cap = config_find_cap(&c, PCI_CAP_ID_EXP);
	if (cap) {
		if (is_bridge)
			raw->type = config_bridge_type(config_get16(&c, cap + PCI_EXP_FLAGS), raw->type);
		config_read_link(&c, cap, &raw->found.link);
	}
	if (len < 4096)
		return;
	if (is_bridge) {
		config_read_acs(&c, raw);
	} else {
		size_t at = config_find_ext_cap(&c, PCI_EXT_CAP_ID_ATS);
		raw->found.ats = !at ? HW_ABSENT : config_get16(&c, at + 6) & 0x8000 ? HW_ON : HW_OFF;
	}
}
