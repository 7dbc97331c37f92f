/* SPDX-License-Identifier: Apache-2.0 */

/* Reading and drawing hosts: our own fixtures, and the files of real machines where they are at hand. */

#include "base/testing.h"

#include <signal.h>
#include <sys/wait.h>

#include "hw/models.h"
#include "hw/testing.h"
#include "hw/xml.h"

static const char *const fixtures[] = {"hgx-h100", "hgx-b200", "pcie-1switch", "pcie-2switch", "mi300x"};

/* With HW_GOLDEN=write in the environment the drawings are written instead. */
static void drawings_are_as_recorded(void **state) {
	(void)state;
	const char *golden = getenv("HW_GOLDEN");
	for (size_t i = 0; i < ARRAY_SIZE(fixtures); i++) {
		_hw_free_ struct hw_host *h = host_of_fixture(fixtures[i]);
		_buf_free_ struct buf out = {0}, ascii = {0};
		OK(hw_draw(h, true, &out, &error));
		OK(hw_draw(h, false, &ascii, &error));
		if (golden && streq(golden, "write")) {
			_free_ char *path = strf("%s/tests/hw/fixtures/%s.txt", SOURCE_ROOT, fixtures[i]);
			OK(write_file_atomic(path, out.data, out.len, 0644, &error));
		}
		_free_ char *want = fixture(fixtures[i], "txt");
		assert_string_equal(out.data, want);
		for (const char *p = ascii.data; *p; p += strcspn(p, "\n") + 1) {
			assert_true(strcspn(p, "\n") <= HW_DRAW_COLUMNS);
			for (const char *c = p; *c && *c != '\n'; c++)
				assert_true(*c >= ' ' && *c <= '~');
		}
	}
}

static void json_is_read_back(void **state) {
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fixtures); i++) {
		_hw_free_ struct hw_host *h = host_of_fixture(fixtures[i]), *again = NULL;
		_buf_free_ struct buf one = {0}, two = {0};
		hw_print(h, &one);
		OK(hw_read_text(one.data, one.len, &again, &error));
		hw_print(again, &two);
		assert_string_equal(one.data, two.data);
	}
}

static void pictures_are_xml(void **state) {
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fixtures); i++) {
		_hw_free_ struct hw_host *h = host_of_fixture(fixtures[i]);
		_buf_free_ struct buf out = {0};
		_xml_clear_ struct xml_doc d = {0};
		OK(hw_draw_svg(h, &out, &error));
		OK(xml_parse(out.data, out.len, &d, &error));
		assert_string_equal(d.els[0].name, "svg");
		size_t rects = 0;
		for (const char *p = out.data; (p = strstr(p, "<rect ")); p++)
			rects++;
		assert_int_equal(rects, 1 + h->n_sockets + h->n_nodes + h->n_roots + h->n_switches + h->n_devices);
	}
}

static size_t device_find(const struct hw_host *h, const char *address) {
	for (size_t i = 0; i < h->n_devices; i++)
		if (streq(h->devices[i].address, address))
			return i;
	fail_msg("no device %s", address);
	return 0;
}

static const char *relation(const struct hw_host *h, const char *a, const char *b) {
	assert_int_equal(hw_relation(h, device_find(h, a), device_find(h, b)),
	                 hw_relation(h, device_find(h, b), device_find(h, a)));
	return hw_relation_name(hw_relation(h, device_find(h, a), device_find(h, b)));
}

static void relations(void **state) {
	(void)state;
	_hw_free_ struct hw_host *hgx = host_of_fixture("hgx-h100"), *one = host_of_fixture("pcie-1switch"),
				 *two = host_of_fixture("pcie-2switch"), *amd = host_of_fixture("mi300x");
	assert_string_equal(relation(hgx, "0000:19:00.0", "0000:19:00.0"), "X");
	assert_string_equal(relation(hgx, "0000:19:00.0", "0000:18:00.0"), "PIX");
	assert_string_equal(relation(hgx, "0000:19:00.0", "0000:3b:00.0"), "NODE");
	assert_string_equal(relation(hgx, "0000:19:00.0", "0000:db:00.0"), "SYS");
	/* Both levels of the folded switch are one. */
	assert_string_equal(relation(one, "0000:25:00.0", "0000:2a:00.0"), "PIX");
	assert_string_equal(relation(two, "0000:33:00.0", "0000:34:00.0"), "PIX");
	assert_string_equal(relation(two, "0000:33:00.0", "0000:38:00.0"), "PHB");
	assert_string_equal(relation(two, "0000:33:00.0", "0000:b3:00.0"), "SYS");
	assert_string_equal(relation(amd, "0000:0a:00.0", "0000:07:00.0"), "PXB");
}

static void what_is_read_from_sysfs(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h = host_of_fixture("hgx-h100"), *folded = host_of_fixture("pcie-1switch");
	const struct hw_device *gpu = &h->devices[device_find(h, "0000:19:00.0")],
			       *nic = &h->devices[device_find(h, "0000:18:00.0")],
			       *nvme = &h->devices[device_find(h, "0000:01:00.0")],
			       *slow = &h->devices[device_find(h, "0000:4c:00.0")];
	assert_int_equal(h->n_sockets, 2);
	assert_int_equal(h->n_nodes, 2);
	assert_int_equal(h->n_cores, 112);
	assert_string_equal(h->cores[1].cpus, "1,113");
	assert_string_equal(h->nodes[1].cpus, "56-111,168-223");
	assert_int_equal(h->nodes[1].socket, 1);
	assert_int_equal(h->nodes[0].memory, 1056000000LL << 10);
	assert_int_equal(h->nodes[0].hugepages[0].total, 524288);
	assert_int_equal(h->nodes[0].hugepages[0].free, 131072);
	assert_int_equal(hw_distance(h, 0, 1), 21);
	assert_int_equal(hw_distance(h, 1, 1), 10);
	assert_int_equal(hw_distance(h, 0, 7), 0);
	assert_int_equal(hw_count(h, HW_GPU), 8);
	assert_int_equal(hw_count(h, HW_NVSWITCH), 4);
	assert_string_equal(gpu->model, "h100-sxm5-80gb");
	assert_string_equal(gpu->driver, "vfio-pci");
	assert_int_equal(gpu->iommu_group, 12);
	assert_int_equal(gpu->n_bars, 3);
	assert_int_equal(gpu->bars[1].index, 2);
	assert_int_equal(gpu->bars[1].size, 1LL << 37);
	assert_true(gpu->bars[1].prefetchable && gpu->bars[1].bits64);
	assert_int_equal(gpu->ats, HW_OFF);
	assert_string_equal(gpu->port.address, "0000:17:01.0");
	assert_int_equal(gpu->port.acs, HW_ON);
	assert_int_equal(gpu->port.acs_control, 0x5d);
	assert_int_equal(gpu->link.throughput, 63015);
	assert_false(hw_link_is_below(&gpu->link));
	assert_true(hw_link_is_below(&slow->link));
	assert_int_equal(nic->ats, HW_ON);
	assert_string_equal(nic->name, "mlx5_0");
	assert_string_equal(nic->netdev, "ib0");
	assert_int_equal(nic->ports[0].layer, HW_INFINIBAND);
	assert_int_equal(nic->ports[0].mbit, 400000);
	assert_int_equal(nic->vfs_total, 16);
	/* Its numa_node is -1; other functions of its root complex tell. */
	assert_int_equal(nvme->node, 0);
	assert_string_equal(nvme->name, "nvme0");
	assert_int_equal(folded->n_switches, 2);
	assert_int_equal(folded->switches[0].levels, 2);
}

#define CPU            "cores 0 +0 package=0\n"
#define NODES          CPU "cores 1 +0 package=1\nnode 0 cpus=0\nnode 1 cpus=1\n"
#define NIC(bus, more) "pci pci0000:" bus "/0000:" bus ":00.0 class=0x020000 vendor=0x1af4 device=0x1000 " more "\n"

#define PORT(n, bus, more) \
	"pci pci0000:00/0000:00:0" n ".0 class=0x060400 vendor=0x8086 device=0x352a buses=" bus "-" bus " " more "\n"
#define BELOW(n, bus, more) \
	"pci pci0000:00/0000:00:0" n ".0/0000:" bus ":00.0 class=0x020000 vendor=0x1af4 device=0x1000 " more "\n"

static void nodes_that_are_not_told(void **state) {
	(void)state;
	static const char one[] = CPU NIC("00", "numa_node=-1"), unknown[] = NODES NIC("00", "numa_node=-1");
	static const char by_root[] = NODES PORT("1", "01", "numa_node=1") BELOW("1", "01", "numa_node=-1");
	static const char torn[] = NODES PORT("1", "01", "numa_node=1") BELOW("1", "01", "numa_node=-1")
		PORT("2", "02", "numa_node=0") BELOW("2", "02", "numa_node=-1");
	const struct {
		const char *text;
		int node;
	} cases[] = {{one, 0}, {unknown, -1}, {by_root, 1}, {torn, -1}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_hw_free_ struct hw_host *h = host_of(cases[i].text, strlen(cases[i].text));
		assert_non_null(h);
		assert_int_equal(h->devices[0].node, cases[i].node);
	}
}

/* A card with 16 lanes in a slot with 8: the link can't be better, but the card can. */
static void what_the_card_could(void **state) {
	(void)state;
	static const char text[] =
		CPU "pci pci0000:00/0000:00:01.0 class=0x060400 vendor=0x8086 device=0x352a buses=01-01 "
		    "max_link_speed=32.0_GT/s_PCIe max_link_width=8\n"
		    "pci pci0000:00/0000:00:01.0/0000:01:00.0 class=0x030200 vendor=0x10de device=0x2330 "
		    "current_link_speed=32.0_GT/s_PCIe current_link_width=8 "
		    "max_link_speed=64.0_GT/s_PCIe max_link_width=16\n";
	_hw_free_ struct hw_host *h = host_of(text, strlen(text));
	assert_non_null(h);
	const struct hw_link *l = &h->devices[0].link;
	assert_int_equal(l->max_speed, 32000);
	assert_int_equal(l->max_width, 8);
	assert_int_equal(l->own_max_speed, 64000);
	assert_int_equal(l->own_max_width, 16);
	assert_false(hw_link_is_below(l));
}

/* Which of these are GPUs. The first stands in for one in tests: QEMU's bochs-display with other ids. */
static void kinds_of_displays(void **state) {
	(void)state;
	static const struct {
		const char *function;
		size_t gpus;
	} cases[] = {
		{"class=0x038000 vendor=0x10de device=0x2330", 1},
		{"class=0x038000 vendor=0x1234 device=0x1111", 0},
		{"class=0x038000 vendor=0x1af4 device=0x1050", 0},
		{"class=0x030000 vendor=0x1a03 device=0x2000", 0}, /* a BMC */
		{"class=0x030000 vendor=0x1002 device=0x515e", 0}, /* a BMC, conventional PCI */
		{"class=0x030000 vendor=0x10de device=0x2bb5 current_link_width=16", 1},
		{"class=0x120000 vendor=0x1002 device=0x74a1", 1},
		{"class=0x120000 vendor=0x10ee device=0x5000", 0},                       /* an FPGA */
		{"class=0x120000 vendor=0x8086 device=0x7d1d", 0},                       /* an NPU */
		{"class=0x038000 vendor=0x8086 device=0x4680", 0},                       /* UHD graphics */
		{"class=0x038000 vendor=0x8086 device=0x0bda", 1},                       /* Max 1100 */
		{"class=0x038000 vendor=0x1002 device=0x164e current_link_width=16", 0}, /* in a Ryzen */
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_free_ char *text = strf(CPU "pci pci0000:00/0000:00:00.0 %s\n", cases[i].function);
		_hw_free_ struct hw_host *h = host_of(text, strlen(text));
		assert_non_null(h);
		assert_int_equal(hw_count(h, HW_GPU), cases[i].gpus);
	}
}

/* The ports through which the host reaches the NVLink switches look like other NICs: only their VPD tells. */
static void nvlink_management(void **state) {
	(void)state;
#define CX7 CPU "pci pci0000:00/0000:00:00.0 vendor=0x15b3 device=0x1021 "
	static const struct {
		const char *text;
		enum hw_answer management;
	} cases[] = {
		{CX7 "class=0x020700 vpd=MODL=CX7:SMDL=SW_MNG\n", HW_YES},
		{CX7 "class=0x020700 vpd=MODL=CX75310AAS-NEAT\n", HW_NO},
		{CX7 "class=0x020700\n", HW_PERHAPS}, /* as users other than root see it */
		{CX7 "class=0x020000\n", HW_NO},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_hw_free_ struct hw_host *h = host_of(cases[i].text, strlen(cases[i].text));
		assert_non_null(h);
		assert_int_equal(h->devices[0].management, cases[i].management);
	}
	_hw_free_ struct hw_host *b200 = host_of_fixture("hgx-b200");
	size_t n = 0;
	for (size_t i = 0; i < b200->n_devices; i++)
		n += b200->devices[i].management == HW_YES;
	assert_int_equal(n, 4);
	assert_int_equal(hw_count(b200, HW_NIC), 8);
}

/* Virtual functions are counted at their physical function and left out; VMD has a root complex inside another. */
static void odd_but_right(void **state) {
	(void)state;
	static const char text[] = CPU NIC(
		"00", "sriov_totalvfs=8 sriov_numvfs=1") "pci pci0000:00/0000:00:00.1 class=0x020000 vendor=0x1af4 "
							 "device=0x1000 physfn=../0000:00:00.0\n"
							 "pci pci0000:00/0000:00:0e.0 class=0x010400 vendor=0x8086 "
							 "device=0x28c0\n"
							 "pci pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:02.0 "
							 "class=0x060400 vendor=0x8086 device=0x347c "
							 "type=root buses=e1-e1\n"
							 "pci "
							 "pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:02.0/"
							 "10000:e1:00.0 class=0x010802 vendor=0x8086 "
							 "device=0x0a54 type=end nvme=nvme0\n";
	_hw_free_ struct hw_host *h = host_of(text, strlen(text));
	assert_non_null(h);
	assert_int_equal(h->n_devices, 2);
	assert_int_equal(h->devices[0].vfs, 1);
	assert_string_equal(h->devices[1].address, "10000:e1:00.0");
	assert_string_equal(h->roots[1].address, "10000:e0");
}

/* Two levels of a Broadcom switch are one, as to NCCL; a third is another switch. */
static void folding_ends_at_two_levels(void **state) {
	(void)state;
#define LEVEL(path, type, bus, sub)                                                                   \
	"pci pci0000:00/" path " class=0x060400 vendor=0x1000 device=0xc030 subsystem_vendor=0x1000 " \
	"subsystem_device=0x" sub " type=" type " buses=" bus "\n"
#define ROOT_PORT "0000:00:01.0"
#define UP_1      ROOT_PORT "/0000:01:00.0"
#define DOWN_1    UP_1 "/0000:02:00.0"
#define UP_2      DOWN_1 "/0000:03:00.0"
#define DOWN_2    UP_2 "/0000:04:00.0"
#define UP_3      DOWN_2 "/0000:05:00.0"
#define DOWN_3    UP_3 "/0000:06:00.0"
	static const char text[] = CPU LEVEL(ROOT_PORT, "root", "01-09", "0000") LEVEL(UP_1, "up", "02-09", "0144")
		LEVEL(DOWN_1, "down", "03-09", "0144") LEVEL(UP_2, "up", "04-09", "1144")
			LEVEL(DOWN_2, "down", "05-09", "1144") LEVEL(UP_3, "up", "06-09", "1144")
				LEVEL(DOWN_3, "down", "07-09",
	                              "1144") "pci pci0000:00/" DOWN_3
					      "/0000:07:00.0 class=0x020000 vendor=0x15b3 device=0x1021 type=end\n";
	_hw_free_ struct hw_host *h = host_of(text, strlen(text));
	assert_non_null(h);
	assert_int_equal(h->n_switches, 2);
	assert_int_equal(h->switches[0].levels, 2);
	assert_int_equal(h->switches[1].above, 0);
	assert_int_equal(h->devices[0].above, 1);
}

static void identifiers_of_models(void **state) {
	(void)state;
	static const char *const names[][2] = {{"GH100 [H100 PCIe]", "h100-pcie"},
	                                       {"GH100[H100 SXM5 80GB]", "h100-sxm5-80gb"},
	                                       {"NetXtreme II BCM5709 Gigabit", "netxtreme-ii-bcm5709-gigabit"},
	                                       {"[]", ""},
	                                       {"", ""},
	                                       {"x [", "x"}};
	char out[HW_MODEL_MAX + 1];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		hw_model_slug(names[i][0], out, sizeof(out));
		assert_string_equal(out, names[i][1]);
	}
	hw_model("10de:2330", out, sizeof(out));
	assert_string_equal(out, "h100-sxm5-80gb");
	hw_model("10de:31c2", out, sizeof(out));
	assert_string_equal(out, "gb300");
	hw_model("11f8:5184", out, sizeof(out));
	assert_string_equal(out, "switchtec-psx-g5");
	hw_model("ffff:0001", out, sizeof(out));
	assert_string_equal(out, "");
	hw_model_from_pci_ids("nonsense!", out, sizeof(out));
	assert_string_equal(out, "");
}

/* A GPU that pci.ids knows (GeForce 8800 GTS, since 2006) but the table does not has no model, on any host. */
static void models_are_those_of_the_table(void **state) {
	(void)state;
	static const char text[] = CPU "pci pci0000:00/0000:00:01.0 class=0x030200 vendor=0x10de device=0x0193\n"
				       "pci pci0000:00/0000:00:02.0 class=0x020000 vendor=0x8086 device=0x1521\n";
	_hw_free_ struct hw_host *h = host_of(text, strlen(text));
	_buf_free_ struct buf out = {0};
	char name[HW_MODEL_MAX + 1];
	assert_non_null(h);
	assert_string_equal(h->devices[0].model, "");
	assert_string_equal(h->devices[1].model, "");
	OK(hw_draw(h, false, &out, &error));
	assert_non_null(strstr(out.data, "GPU  0000:00:01.0  10de:0193"));
	hw_model_from_pci_ids("8086:1521", name, sizeof(name));
	if (name[0]) /* pci.ids is installed */
		assert_non_null(strstr(out.data, name));
}

/* The drawing of H has each text of WANT, and not WITHOUT, if that is given. */
static void drawing_has(struct hw_host *h, const char *const *want, const char *without) {
	_buf_free_ struct buf out = {0}, svg = {0};
	assert_non_null(h);
	OK(hw_draw(h, false, &out, &error));
	OK(hw_draw_svg(h, &svg, &error));
	for (; *want; want++)
		if (!strstr(out.data, *want))
			fail_msg("`%s` is not in:\n%s", *want, out.data);
	if (without && strstr(out.data, without))
		fail_msg("`%s` is in:\n%s", without, out.data);
	for (const char *p = out.data; *p; p += strcspn(p, "\n") + 1)
		assert_true(strcspn(p, "\n") <= HW_DRAW_COLUMNS);
}

#define GPU(slot, speed, width)                                                                                  \
	"pci pci0000:00/0000:00:" slot ".0 class=0x030200 vendor=0x10de device=0x26b9 current_link_speed=" speed \
	"_GT/s_PCIe current_link_width=" width " max_link_speed=16.0_GT/s_PCIe max_link_width=16\n"

static void links_below_their_maximum(void **state) {
	(void)state;
	static const char idle[] = CPU GPU("01", "2.5", "16") GPU("02", "2.5", "16"),
			  narrow[] = CPU GPU("01", "2.5", "8") GPU("02", "2.5", "16"),
			  slow[] = CPU GPU("01", "8.0", "16") GPU("02", "16.0", "16");
	const char *const idle_has[] = {"01.0  l40s-48gb  gen1 x16 idle? of gen4\n", NULL};
	const char *const narrow_has[] = {"gen1 x8 ! of gen4 x16\n", "gen1 x16 idle? of gen4\n", NULL};
	const char *const slow_has[] = {"gen3 x16 ! of gen4 x16\n", NULL};
	_hw_free_ struct hw_host *a = host_of(idle, strlen(idle)), *b = host_of(narrow, strlen(narrow)),
				 *c = host_of(slow, strlen(slow));
	_buf_free_ struct buf red = {0}, black = {0};
	drawing_has(a, idle_has, "!");
	drawing_has(b, narrow_has, NULL);
	drawing_has(c, slow_has, "idle");
	OK(hw_draw_svg(a, &black, &error));
	OK(hw_draw_svg(b, &red, &error));
	assert_null(strstr(black.data, "#b00000"));
	assert_non_null(strstr(red.data, "#b00000"));
}

static void devices_at_another_node_and_cards_in_short_slots(void **state) {
	(void)state;
	static const char text[] =
		NODES "pci pci0000:00/0000:00:01.0 class=0x060400 vendor=0x8086 device=0x352a type=root buses=01-01 "
		      "numa_node=0 max_link_width=8 max_link_speed=16.0_GT/s_PCIe\n"
		      "pci pci0000:00/0000:00:01.0/0000:01:00.0 class=0x020000 vendor=0x15b3 device=0x1021 numa_node=0 "
		      "type=end current_link_speed=16.0_GT/s_PCIe current_link_width=8 max_link_speed=32.0_GT/s_PCIe "
		      "max_link_width=16\n"
		      "pci pci0000:00/0000:00:02.0 class=0x020000 vendor=0x15b3 device=0x1019 numa_node=1\n"
		      "pci pci0000:00/0000:00:03.0 class=0x0c0300 vendor=0x8086 device=0x3a37 numa_node=0\n"
		      "file devices/pci0000:00/numa_node 0\n";
	_hw_free_ struct hw_host *h = host_of(text, strlen(text));
	assert_non_null(h);
	h->roots[0].node = 0;
	const char *const want[] = {"gen4 x8\n", "   card can gen5 x16\n", "connectx-5-ex  node 1\n", NULL};
	drawing_has(h, want, "node 0\n");
}

static struct hw_host *host_of_xml(const char *text) {
	struct hw_host *h = NULL;
	OK(hw_read_text(text, strlen(text), &h, &error));
	return h;
}

/* To NCCL everything below one <cpu> is below one root complex; two functions of one card are still closer. */
static void functions_of_one_card(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h =
		host_of_xml("<system version='1'><cpu numaid='0'><pci busid='0000:01:00.0' class='0x020000'/>"
	                    "<pci busid='0000:01:00.1' class='0x020000'/><pci busid='0000:01:01.0' class='0x020000'/>"
	                    "<pci busid='0000:11:00.0' class='0x020000'/></cpu></system>");
	assert_string_equal(relation(h, "0000:01:00.0", "0000:01:00.1"), "PIX");
	assert_string_equal(relation(h, "0000:01:00.0", "0000:01:01.0"), "PHB");
	assert_string_equal(relation(h, "0000:01:00.0", "0000:11:00.0"), "PHB");
}

#define LINKED(bus, links) \
	"<pci busid='0000:0" bus ":00.0' class='0x030200' vendor='0x10de' device='0x2330'><gpu>" links "</gpu></pci>"

static void links_between_gpus(void **state) {
	(void)state;
	_hw_free_ struct hw_host
		*pairs = host_of_xml(
			"<system version='1'><cpu numaid='0'>" LINKED(
				"1", "<nvlink target='0000:02:00.0' count='4' tclass='0x030200'/>") LINKED("2", "")
				LINKED("3", "<nvlink target='0000:04:00.0' count='4'/><c2c bw='400' count='2'/>")
					LINKED("4", "") LINKED(
						"5",
						"<nvlink target='0000:09:00.0' tclass='0x030200'/>") "</cpu></system>"),
		*ring = host_of_xml("<system version='1'><cpu numaid='0'>" LINKED("1", "<xgmi target='0000:02:00.0'/>")
	                                    LINKED("2", "<xgmi target='0000:03:00.0'/>")
	                                            LINKED("3", "") "</cpu></system>"),
		*switches = host_of_xml("<system version='1'><cpu numaid='0'>" LINKED(
			"1", "<nvlink target='0000:08:00.0' count='5' tclass='0x068000'/>"
			     "<nvlink target='0000:09:00.0' count='4' tclass='0x068000'/></gpu><gpu>"
			     "<nvlink target='0000:08:00.0' count='5' tclass='0x068000'/>")
	                                        LINKED("2", "<nvlink target='fffffff:ff:ff.0' count='18' "
	                                                    "tclass='0x068000'/>") "</cpu></system>");
	const char *const pairs_have[] = {"NVLink connects 2 GPUs, each with each: 0000:01:00.0 0000:02:00.0\n",
	                                  "NVLink connects 2 GPUs, each with each: 0000:03:00.0 0000:04:00.0\n",
	                                  "C2C connects 1 GPU to the processor\n", NULL};
	const char *const ring_has[] = {"xGMI connects all 3 GPUs, some through others\n", NULL};
	const char *const switches_have[] = {"NVLink connects all 2 GPUs through switches\n", NULL};
	int set[HW_DEVICES_MAX];
	drawing_has(pairs, pairs_have, NULL);
	drawing_has(ring, ring_has, NULL);
	drawing_has(switches, switches_have, NULL);
	hw_gpu_sets(pairs, set);
	assert_int_equal(set[1], 0);
	assert_int_equal(set[3], 2);
	assert_int_equal(set[4], -1);
	assert_int_equal(switches->gpu_links[0].count, 9);
	assert_int_equal(switches->gpu_links[0].peer, -1);
	_buf_free_ struct buf one = {0}, two = {0};
	_hw_free_ struct hw_host *again = NULL;
	hw_print(pairs, &one);
	OK(hw_read_text(one.data, one.len, &again, &error));
	hw_print(again, &two);
	assert_string_equal(one.data, two.data);
	again->gpu_links[0].peer = 77;
	assert_int_equal(hw_check(again, &error), -EINVAL);
}

static void what_is_out_of_order(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h = host_of_fixture("pcie-2switch");
	const char *const want[] = {"mlx5_0 Eth 100G down", "does not answer\n",
	                            "idle? of gen4\n      |  |       a BAR has no address\n", "2 ports empty", NULL};
	h->devices[device_find(h, "0000:35:00.0")].ports[0].state = HW_PORT_DOWN;
	h->devices[device_find(h, "0000:33:00.0")].dead = true;
	h->devices[device_find(h, "0000:34:00.0")].bars[0].unassigned = true;
	h->switches[0].empty_ports = 2;
	drawing_has(h, want, NULL);
}

/* hwloc names the namespace, or a path to it; sysfs the controller. */
static void names_of_nvmes(void **state) {
	(void)state;
	static const char *const names[][2] = {{"nvme0n1", "nvme0"}, {"nvme0c1n1", "nvme1"}, {"nvme12", "nvme12"}};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_free_ char *text = strf(
			"<topology version='2.0'><object type='Machine' os_index='0' nodeset='0x1'>"
			"<object type='NUMANode' os_index='0' cpuset='0x1'/>"
			"<object type='Bridge' bridge_type='0-1' bridge_pci='0000:[00-02]'>"
			"<object type='PCIDev' pci_busid='0000:01:00.0' pci_type='0108 [144d:a824] [0000:0000] 00'>"
			"<object type='OSDev' name='%s' osdev_type='0'/></object></object></object></topology>",
			names[i][0]);
		_hw_free_ struct hw_host *h = host_of_xml(text);
		assert_string_equal(h->devices[0].name, names[i][1]);
	}
}

/* What NCCL writes down is the maximum. Without a maximum of its own a device is compared with others of its model. */
static void links_without_a_reference(void **state) {
	(void)state;
#define PCI(busid, width)                                                                                      \
	"<pci busid='" busid "' class='0x030200' vendor='0x10de' device='0x2331' link_speed='32.0 GT/s PCIe' " \
	"link_width='" width "'/>"
#define DEV(busid, speed)                         \
	"<object type='PCIDev' pci_busid='" busid \
	"' pci_type='0302 [10de:2331] [10de:1626] a1' pci_link_speed='" speed "'/>"
	_hw_free_ struct hw_host *nccl = host_of_xml("<system version='1'><cpu numaid='0'>" PCI("0000:01:00.0", "16")
	                                                     PCI("0000:02:00.0", "8") "</cpu></system>"),
				 *hwloc = host_of_xml(
					 "<topology version='2.0'><object type='Machine' os_index='0' nodeset='0x1'>"
					 "<object type='NUMANode' os_index='0' cpuset='0x1'/>"
					 "<object type='Bridge' bridge_type='0-1' bridge_pci='0000:[00-02]'>" DEV(
						 "0000:01:00.0", "63.0")
						 DEV("0000:02:00.0", "31.5") "</object></object></topology>");
	const char *const nccl_has[] = {"01:00.0  h100-pcie-80gb  at most gen5 x16\n",
	                                "at most gen5 x8 ! of gen5 x16\n", NULL};
	const char *const hwloc_has[] = {"01:00.0  h100-pcie-80gb  63.0 GB/s\n", "31.5 GB/s ! of 63.0 GB/s\n", NULL};
	drawing_has(nccl, nccl_has, NULL);
	drawing_has(hwloc, hwloc_has, NULL);
	assert_int_equal(nccl->devices[0].link.max_width, 16);
	assert_int_equal(nccl->devices[0].link.width, 0);
}

/* A tray of the GB200 kind: 32 nodes are for the memory of GPUs, and few of them have any. */
static void nodes_without_cpus(void **state) {
	(void)state;
	_buf_free_ struct buf text = {0};
	buf_puts(&text, CPU "cores 1 +0 package=1\n");
	for (int i = 0; i < 34; i++) {
		if (i < 2)
			buf_printf(&text, "node %d cpus=%d memory=503316480 distance=", i, i);
		else
			buf_printf(&text, "node %d cpus= memory=%d distance=", i, i == 2 || i == 10 ? 196608000 : 0);
		for (int k = 0; k < 34; k++)
			buf_printf(&text, "%s%d", k ? "," : "", k == i ? 10 : 40);
		buf_putc(&text, '\n');
	}
	_hw_free_ struct hw_host *h = host_of(text.data, text.len);
	const char *const want[] = {"2 sockets, 2 NUMA nodes, 2 cores, 2 threads, 960 GiB\n"
	                            "32 NUMA nodes more without CPUs, with 375 GiB\n",
	                            "node 2  no CPUs, 187.5 GiB\n", "nodes 3-9,11-33  no CPUs, no memory\n",
	                            "NUMA distances (those of 32 more nodes: --json)\n           0    1\n", NULL};
	drawing_has(h, want, "node 3 ");
}

static void this_machine_can_be_read(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h = NULL;
	OK(hw_read_path("/sys", &h, &error));
	assert_true(h->n_sockets >= 1 && h->n_nodes >= 1 && h->n_cores >= 1);
	assert_true(h->nodes[0].memory > 0);
}

/* While files are renamed anywhere, the kernel refuses to follow ".." (fs.c). */
static void renames_do_not_disturb(void **state) {
	(void)state;
	char dir[] = "/tmp/nacre-test-hw-XXXXXX";
	assert_non_null(test_mkdtemp(dir));
	_free_ char *one = strf("%s/1", dir), *two = strf("%s/2", dir);
	OK(mkdir_p(one, 0755, &error));
	pid_t child = fork();
	if (child == 0)
		for (;;) {
			if (rename(one, two) < 0 || rename(two, one) < 0)
				_exit(1);
		}
	int r = 0;
	for (int i = 0; r == 0 && i < 10; i++) {
		struct hw_host *h = NULL;
		r = hw_read_path("/sys", &h, &error);
		hw_free(h);
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(remove_tree(dir, NULL), 0);
	OK(r);
}

/* Whether switch I is below switch ABOVE, or is it. */
static bool is_below(const struct hw_host *h, int64_t i, size_t above) {
	while (i >= 0 && (size_t)i != above)
		i = h->switches[i].above;
	return i >= 0;
}

/* Each switch right below a root complex, has so many GPUs and NICs below it. */
static void each_outer_switch_has(const struct hw_host *h, size_t gpus, size_t nics) {
	for (size_t i = 0; i < h->n_switches; i++) {
		size_t n[HW_KINDS] = {0};
		if (h->switches[i].above >= 0)
			continue;
		for (size_t k = 0; k < h->n_devices; k++)
			n[h->devices[k].kind] += is_below(h, h->devices[k].above, i);
		assert_int_equal(n[HW_GPU], gpus);
		assert_int_equal(n[HW_NIC], nics);
	}
}

/* Each node has so many GPUs; four of the eight nodes of Turin have none. */
static void each_node_has(const struct hw_host *h, size_t gpus) {
	for (size_t i = 0; i < h->n_nodes; i++) {
		size_t n = 0;
		for (size_t k = 0; k < h->n_devices; k++)
			n += h->devices[k].kind == HW_GPU && h->devices[k].node == h->nodes[i].id;
		assert_true(n == gpus || (n == 0 && h->n_nodes == 8));
	}
}

/* What README.md of the shared topologies says about each file. */
static void real_machines(void **state) {
	(void)state;
	static const struct {
		const char *file;
		size_t nodes, gpus, nics, switches, nvswitches;
		const char *gpu, *near, *relation; /* a GPU, a device near it, and how they relate */
		size_t switch_gpus, switch_nics, node_gpus;
	} hosts[] = {
		{"azure-ndv5-topo.xml", 2, 8, 8, 8, 0, "0001:00:00.0", "0101:00:00.0", "PIX", 1, 1, 4},
		{"azure-ndv4-topo.xml", 4, 8, 8, 4, 0, "0003:00:00.0", "0104:00:00.0", "PIX", 2, 2, 2},
		{"aws-p4d-24xl-topo.xml", 2, 8, 4, 4, 0, "0000:10:1c.0", "0000:10:1b.0", "PIX", 2, 1, 4},
		{"nvidiaDGX2.hwloc2.xml", 2, 16, 0, 14, 12, "0000:34:00.0", "0000:39:00.0", "PXB", 4, 0, 8},
		{"turin-4gpu.xml", 8, 4, 7, 8, 0, "0000:06:00.0", "0000:03:00.0", "PXB", 1, 1, 1},
		{"topo_8p_940.xml", 2, 8, 8, 24, 0, "0000:0c:00.0", "0000:07:00.0", "PXB", 1, 1, 4},
		{"topo_8p_940vm.xml", 2, 8, 8, 0, 0, "0021:00:00.0", "0020:00:00.0", "PHB", 0, 0, 4},
		{"topo_8p_rome_4nics.xml", 4, 8, 4, 20, 0, "0000:4a:00.0", "0000:45:00.0", "PXB", 2, 1, 2},
	};
	_free_ char *folder = shared_path("");
	if (!folder)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		_free_ char *path = strf("%s/%s", folder, hosts[i].file);
		_hw_free_ struct hw_host *h = NULL;
		_buf_free_ struct buf out = {0};
		OK(hw_read_path(path, &h, &error));
		assert_int_equal(h->n_nodes, hosts[i].nodes);
		assert_int_equal(hw_count(h, HW_GPU), hosts[i].gpus);
		assert_int_equal(hw_count(h, HW_NIC), hosts[i].nics);
		assert_int_equal(hw_count(h, HW_NVSWITCH), hosts[i].nvswitches);
		assert_int_equal(h->n_switches, hosts[i].switches);
		assert_string_equal(relation(h, hosts[i].gpu, hosts[i].near), hosts[i].relation);
		each_outer_switch_has(h, hosts[i].switch_gpus, hosts[i].switch_nics);
		each_node_has(h, hosts[i].node_gpus);
		OK(hw_draw(h, true, &out, &error));
	}
}

static void turin(void **state) {
	(void)state;
	static const int64_t nodes[] = {1, 2, 6, 7};
	_hw_free_ struct hw_host *h = NULL;
	size_t n = 0;
	_free_ char *file = shared_path("turin-4gpu.xml");
	if (!file)
		skip();
	OK(hw_read_path(file, &h, &error));
	for (size_t i = 0; i < h->n_devices; i++)
		if (h->devices[i].kind == HW_GPU) {
			assert_string_equal(h->devices[i].model, "h200-sxm5-141gb");
			assert_int_equal(h->devices[i].node, nodes[n++]);
		}
	assert_int_equal(h->n_sockets, 2);
	assert_int_equal(h->n_cores, 128);
	assert_int_equal(hw_distance(h, 1, 6), 32);
}

static void captured_directory(void **state) {
	(void)state;
	char dir[] = CAPTURED_DIR;
	_hw_free_ struct hw_host *h = NULL;
	_free_ char *path = unpack_captured(dir);
	int r = hw_read_path(path, &h, &error);
	assert_int_equal(remove_tree(dir, NULL), 0);
	OK(r);
	assert_non_null(h);
	assert_int_equal(h->n_sockets, 4);
	assert_int_equal(h->n_nodes, 4);
	assert_int_equal(h->n_cores, 40);
	assert_int_equal(hw_count(h, HW_NIC), 5);
	assert_string_equal(h->devices[device_find(h, "0000:43:00.0")].name, "qib0");
	assert_int_equal(h->devices[device_find(h, "0000:43:00.0")].node, 2);
	assert_int_equal(h->devices[device_find(h, "0000:02:00.0")].node, -1);
	assert_string_equal(relation(h, "0000:02:00.0", "0000:02:00.1"), "PIX");
	assert_string_equal(relation(h, "0000:02:00.0", "0000:03:00.0"), "PHB");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drawings_are_as_recorded),
		cmocka_unit_test(json_is_read_back),
		cmocka_unit_test(pictures_are_xml),
		cmocka_unit_test(relations),
		cmocka_unit_test(what_is_read_from_sysfs),
		cmocka_unit_test(nodes_that_are_not_told),
		cmocka_unit_test(odd_but_right),
		cmocka_unit_test(kinds_of_displays),
		cmocka_unit_test(folding_ends_at_two_levels),
		cmocka_unit_test(nvlink_management),
		cmocka_unit_test(what_the_card_could),
		cmocka_unit_test(identifiers_of_models),
		cmocka_unit_test(models_are_those_of_the_table),
		cmocka_unit_test(links_below_their_maximum),
		cmocka_unit_test(devices_at_another_node_and_cards_in_short_slots),
		cmocka_unit_test(functions_of_one_card),
		cmocka_unit_test(links_between_gpus),
		cmocka_unit_test(what_is_out_of_order),
		cmocka_unit_test(names_of_nvmes),
		cmocka_unit_test(links_without_a_reference),
		cmocka_unit_test(nodes_without_cpus),
		cmocka_unit_test(this_machine_can_be_read),
		cmocka_unit_test(renames_do_not_disturb),
		cmocka_unit_test(real_machines),
		cmocka_unit_test(turin),
		cmocka_unit_test(captured_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
