/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/models.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <pci/pci.h>

#include "base/macros.h"
#include "base/util.h"
#include "hw/text.h"

/*
 * Names are only added once they are in a release. Device ids are those of the PCI ID repository (pciutils/pciids,
 * version 2026.08.22), with two exceptions that are marked. Where one id stands for several products, the name says no
 * more than the repository does.
 */
static const struct {
	const char *ids, *model;
} models[] = {
	{"10de:1db1", "v100-sxm2-16gb"},
	{"10de:1db4", "v100-pcie-16gb"},
	{"10de:1db5", "v100-sxm2-32gb"},
	{"10de:1db6", "v100-pcie-32gb"},
	{"10de:1db8", "v100-sxm3-32gb"},
	{"10de:1eb8", "t4-16gb"},
	{"10de:20b0", "a100-sxm4-40gb"},
	{"10de:20b2", "a100-sxm4-80gb"},
	{"10de:20b3", "a100-sxm-64gb"},
	{"10de:20b5", "a100-pcie-80gb"},
	{"10de:20b7", "a30-24gb"},
	{"10de:20bd", "a800-sxm4-40gb"},
	{"10de:20f1", "a100-pcie-40gb"},
	{"10de:20f3", "a800-sxm4-80gb"},
	{"10de:20f5", "a800-pcie-80gb"},
	{"10de:2235", "a40-48gb"},
	{"10de:2236", "a10-24gb"},
	{"10de:2321", "h100-nvl-94gb"},
	{"10de:2322", "h800-pcie"},
	{"10de:2324", "h800-sxm5-80gb"},
	{"10de:2329", "h20-sxm5-96gb"},
	{"10de:232c", "h20-hbm3e"},
	{"10de:2330", "h100-sxm5-80gb"},
	{"10de:2331", "h100-pcie-80gb"},
	{"10de:2335", "h200-sxm5-141gb"},
	{"10de:2336", "h100"},
	{"10de:2337", "h100-sxm5-64gb"},
	{"10de:2338", "h100-sxm5-96gb"},
	{"10de:2339", "h100-sxm5-94gb"},
	{"10de:233b", "h200-nvl-141gb"},
	{"10de:233d", "h100-96gb"},
	{"10de:2342", "gh200"},
	{"10de:2348", "gh200-144gb"},
	{"10de:26b5", "l40-48gb"},
	{"10de:26b9", "l40s-48gb"},
	{"10de:27b8", "l4-24gb"},
	{"10de:2901", "b200-sxm6-180gb"},
	{"10de:2909", "b200-sxm6-168gb"},
	{"10de:2941", "gb200"},
	{"10de:29bc", "b100"},
	{"10de:2bb5", "rtx-pro-6000-server"},
	{"10de:3182", "b300-sxm6-288gb"},
	{"10de:31c2", "gb300"},
	{"10de:31c3", "gb300"},
	{"10de:1ac2", "nvswitch-v100"}, /* not in the repository: hwloc's file of a DGX-2 has it */
	{"10de:1af1", "nvswitch-a100"},
	{"10de:22a3", "nvswitch-h100"},
	{"1002:738c", "mi100"},
	{"1002:7408", "mi250x"},
	{"1002:740c", "mi250-or-mi250x"},
	{"1002:740f", "mi210"},
	{"1002:74a0", "mi300a"},
	{"1002:74a1", "mi300x"},
	{"1002:74a2", "mi308x"},
	{"1002:74a5", "mi325x"},
	{"1002:74a9", "mi300x-hf"},
	{"1002:74b5", "mi300x-vf"},
	{"1002:74b9", "mi325x-vf"},
	{"1002:74bd", "mi300x-hf"},
	{"1002:75a0", "mi350x"},
	{"1002:75a3", "mi355x"},
	{"15b3:1017", "connectx-5"},
	{"15b3:1019", "connectx-5-ex"},
	{"15b3:101b", "connectx-6"},
	{"15b3:101d", "connectx-6-dx"},
	{"15b3:101e", "connectx-vf"},
	{"15b3:101f", "connectx-6-lx"},
	{"15b3:1021", "connectx-7"},
	{"15b3:1023", "connectx-8"},
	{"15b3:1024", "connectx-8-switch"},
	{"15b3:1025", "connectx-9"},
	{"15b3:1979", "connectx-7-bridge"},
	{"15b3:197c", "connectx-bridge"},
	{"15b3:197d", "connectx-8-bridge"},
	{"15b3:a2d6", "bluefield-2"},
	{"15b3:a2dc", "bluefield-3"},
	{"1d0f:efa0", "efa"},
	{"1d0f:efa1", "efa-1"},
	{"1d0f:efa2", "efa-2"},
	{"1d0f:efa3", "efa-3"},
	{"1d0f:efa4", "efa-4"},
	{"1000:c010", "pex88000"},
	{"1000:c012", "pex88000"},
	{"1000:c030", "pex89000"},
	{"1000:c034", "pex89000"},
	{"1000:c040", "pex90000"},
	{"10b5:8747", "pex8747"},
	{"10b5:8749", "pex8749"},
	{"10b5:8764", "pex8764"},
	{"10b5:8780", "pex8780"},
	{"10b5:8796", "pex8796"},
	{"10b5:9733", "pex9733"},
	{"10b5:9749", "pex9749"},
	{"10b5:9765", "pex9765"},
	{"10b5:9781", "pex9781"},
	{"10b5:9797", "pex9797"},
	{"1022:1500", "amd-gpu-switch"}, /* not in the repository: RCCL's models of MI300X hosts have it */
	{"11f8:4000", "switchtec-pfx-g4"},
	{"11f8:4028", "switchtec-pfx-g4"},
	{"11f8:4036", "switchtec-pfx-g4"},
	{"11f8:4052", "switchtec-pfx-g4"},
	{"11f8:4068", "switchtec-pfx-g4"},
	{"11f8:4084", "switchtec-pfx-g4"},
	{"11f8:4100", "switchtec-psx-g4"},
	{"11f8:4128", "switchtec-psx-g4"},
	{"11f8:4136", "switchtec-psx-g4"},
	{"11f8:4152", "switchtec-psx-g4"},
	{"11f8:4168", "switchtec-psx-g4"},
	{"11f8:4184", "switchtec-psx-g4"},
	{"11f8:5000", "switchtec-pfx-g5"},
	{"11f8:5028", "switchtec-pfx-g5"},
	{"11f8:5036", "switchtec-pfx-g5"},
	{"11f8:5052", "switchtec-pfx-g5"},
	{"11f8:5068", "switchtec-pfx-g5"},
	{"11f8:5084", "switchtec-pfx-g5"},
	{"11f8:5100", "switchtec-psx-g5"},
	{"11f8:5128", "switchtec-psx-g5"},
	{"11f8:5136", "switchtec-psx-g5"},
	{"11f8:5152", "switchtec-psx-g5"},
	{"11f8:5168", "switchtec-psx-g5"},
	{"11f8:5184", "switchtec-psx-g5"},
	{"144d:a824", "pm173x"},
	{"144d:a826", "pm174x"},
	{"1af4:1000", "virtio-net"},
	{"1af4:1041", "virtio-net"},
};

void hw_model_slug(const char *name, char *out, size_t size) {
	const char *open = strrchr(name, '['), *close = open ? strchr(open, ']') : NULL;
	const char *p = close && close > open + 1 ? open + 1 : name, *end = close > p ? close : name + strlen(name);
	size_t n = 0;
	for (; p < end && n + 1 < size; p++)
		if (isascii(*p) && isalnum(*p))
			out[n++] = (char)tolower(*p);
		else if (n && out[n - 1] != '-')
			out[n++] = '-';
	while (n && out[n - 1] == '-')
		n--;
	out[n] = 0;
}

static jmp_buf models_broken;

/* libpci's own handlers print, and end the program. */
static _noreturn_ void models_on_error(char *fmt, ...) {
	(void)fmt;
	longjmp(models_broken, 1);
}

static void models_on_message(char *fmt, ...) {
	(void)fmt;
}

/* libpci reads its file of names once; the handle is kept for the life of the program. A bad file is like none. */
static void models_lookup(uint32_t vendor, uint32_t device, char *out, size_t size) {
	static struct pci_access *names;
	static bool is_broken;
	char text[256];
	if (is_broken)
		return;
	if (setjmp(models_broken)) {
		is_broken = true;
		return;
	}
	if (!names) {
		names = pci_alloc();
		names->error = models_on_error;
		names->warning = names->debug = models_on_message;
	}
	const char *name = pci_lookup_name(names, text, sizeof(text),
	                                   PCI_LOOKUP_DEVICE | PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB, (int)vendor,
	                                   (int)device);
	if (name)
		hw_model_slug(name, out, size);
}

void hw_model(const char *ids, char *out, size_t size) {
	out[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (streq(models[i].ids, ids))
			snprintf(out, size, "%s", models[i].model);
}

void hw_model_from_pci_ids(const char *ids, char *out, size_t size) {
	char vendor_text[5];
	uint32_t vendor, device;
	out[0] = 0;
	if (strlen(ids) != 9)
		return;
	memcpy(vendor_text, ids, 4);
	vendor_text[4] = 0;
	if (hw_hex_parse(vendor_text, 4, &vendor) && hw_hex_parse(ids + 5, 4, &device) && vendor && vendor != 0xffff)
		models_lookup(vendor, device, out, size);
}
