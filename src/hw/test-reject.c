/* SPDX-License-Identifier: Apache-2.0 */

/* What must be refused, and the exact words for it: each message names the element and says what is wrong. */

#include "base/testing.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "hw/testing.h"
#include "hw/xml.h"

#define CPU    "cores 0 +0 package=0\n"
#define IDS    " vendor=0x8086 device=0x1234 "
#define NIC    " class=0x020000" IDS
#define BRIDGE " class=0x060400" IDS
#define ROOT   "pci pci0000:00/"

static const struct {
	const char *text, *says;
} sysfs[] = {
	{"", "there is no sysfs: devices/system/cpu has no CPUs"},
	{"file devices/system/cpu/cpu4096/x 0\n", "cpu4096: numbers from 4096 on are too large"},
	{"cores 0 +0 package=70000\n", "cpu0: physical_package_id `70000` must be 0..65535"},
	{CPU "file devices/system/cpu/online 0-1\n", "cpu1: it is online, but its directory is missing"},
	{CPU "file devices/system/cpu/online 0-\n", "devices/system/cpu/online: `0-` is no set of CPUs"},
	{"file devices/system/cpu/cpu0/topology/thread_siblings_list 1\n",
         "cpu0: it is not one of its own thread siblings"},
	{"file devices/system/cpu/cpu0/topology/thread_siblings_list zero\n",
         "cpu0: its thread siblings `zero` are no set of CPUs"},
	{"file devices/system/cpu/cpu0/topology/thread_siblings_list 0-1\n"
         "file devices/system/cpu/cpu1/topology/thread_siblings_list 1-2\n"
         "file devices/system/cpu/cpu2/topology/thread_siblings_list 2\n",
         "cpu1: some of its thread siblings are in another core, too"},
	{"file devices/system/cpu/cpu0/topology/thread_siblings_list 0\n"
         "file devices/system/cpu/cpu1/topology/thread_siblings_list 0-1\n",
         "cpu0 and cpu1 disagree about which threads their core has"},
	{CPU "node 0 cpus=0\nnode 1 cpus=0\n", "node1: some of its CPUs are of another node, too"},
	{CPU "node 0 cpus=0,x\n", "node0: its CPUs `0,x` are no set of CPUs"},
	{CPU "node 0 cpus=1,0\n", "node0: its CPUs `1,0` are no set of CPUs"},
	{CPU "node 0 cpus=0-1,1-2\n", "node0: its CPUs `0-1,1-2` are no set of CPUs"},
	{CPU "node 1024 cpus=0\n", "node1024: numbers from 1024 on are too large"},
	{CPU "node 0 cpus=0 distance=10,20\n", "node0: there are more distances than nodes"},
	{CPU "node 0 cpus=0 distance=10\nnode 1 cpus=1\n", "node0: the distance to node1 is missing"},
	{CPU "node 0 cpus=0 distance=256\n", "node0: distance `256` must be 1..255"},
	{CPU "node 0 cpus=0 memory=99999999999999999\n", "node0: MemTotal of meminfo is out of range"},
	{CPU "node 0 cpus=0 hugepages=2048:-1:0\n", "node0: hugepages-2048kB/nr_hugepages `-1` is no number of pages"},
	{CPU "file bus/pci/devices/0000:00:00.0/class 0x020000\n", "`bus/pci/devices/0000:00:00.0` is no link"},
	{CPU "link bus/pci/devices/evil ../../../devices/pci0000:00/evil\n",
         "bus/pci/devices: `evil` is no PCI address"},
	{CPU "link bus/pci/devices/0000:00:00.0 ../../../devices/pci0000:00/0000:00:01.0\n",
         "0000:00:00.0: its link leads to 0000:00:01.0"},
	{CPU "link bus/pci/devices/0000:00:00.0 0000:00:00.0\n", "0000:00:00.0: its path has no root complex"},
	{CPU ROOT "0000:00:00.0 class=0x020000\n", "0000:00:00.0: its file vendor is missing"},
	{CPU ROOT "0000:00:00.0 class=NIC" IDS "\n", "0000:00:00.0: class: `NIC` is no hexadecimal number"},
	{CPU ROOT "0000:00:00.0" NIC "resource=0x9_0x1_0x200\n", "0000:00:00.0: resource: BAR 0 ends before it begins"},
	{CPU ROOT "0000:00:00.0" NIC "resource=none\n", "0000:00:00.0: resource: line 1 is not three numbers"},
	{CPU ROOT "0000:00:00.0" NIC "driver=../a%b\n",
         "0000:00:00.0: the link driver leads to `../a%b`, which is no name"},
	{CPU ROOT "0000:00:00.0" NIC "iommu_group=../x\n", "0000:00:00.0: its IOMMU group `x` is no number"},
	{CPU ROOT "0000:00:01.0/0000:01:00.0" NIC "\n", "0000:01:00.0: it is below 0000:00:01.0, which does not exist"},
	{CPU ROOT "0000:00:01.0" NIC "\n" ROOT "0000:00:01.0/0000:01:00.0" NIC "\n",
         "0000:01:00.0: it is below 0000:00:01.0, which is no bridge"},
	{CPU ROOT "0000:00:01.0" BRIDGE "type=root buses=02-04\n" ROOT "0000:00:01.0/0000:01:00.0" NIC "\n",
         "0000:01:00.0: it is below 0000:00:01.0, which has buses 02 to 04 of domain 0000"},
	{CPU "pci pci0000:80/0000:00:00.0" NIC "\n",
         "0000:00:00.0: it is below root complex 0000:80, which has buses 80 to ff of domain 0000"},
	/* The same bridge has two places. */
	{CPU ROOT "0000:00:01.0" BRIDGE "\n" ROOT "0000:00:02.0" BRIDGE "\n" ROOT
                  "0000:00:02.0/0000:00:01.0/0000:01:00.0" NIC "\n",
         "0000:01:00.0: its path is below pci0000:00/0000:00:02.0/0000:00:01.0, but 0000:00:01.0 says that it is below "
         "pci0000:00"},
	/* A loop: each is below the other. */
	{CPU ROOT "0000:00:01.0/0000:00:02.0" BRIDGE "\n" ROOT "0000:00:02.0/0000:00:01.0" BRIDGE "\n",
         "0000:00:01.0: its path is below pci0000:00/0000:00:02.0, but 0000:00:02.0 says that it is below "
         "pci0000:00/0000:00:01.0"},
};

#define CPU0 "<system version=\"1\"><cpu numaid=\"0\">\n"
#define END  "</cpu></system>"

static const struct {
	const char *text, *says;
} xml[] = {
	{"", "line 1: invalid XML: no element found"},
	{"<system>", "line 1: invalid XML: no element found"},
	{"<system></pci>", "line 1: invalid XML: mismatched tag"},
	{"<!DOCTYPE s [<!ENTITY a \"b\">]><system/>",
         "line 1: declarations of entities and the like inside the document are not allowed"},
	{"<host/>", "<host> is neither hwloc's <topology> nor NCCL's <system>"},
	{"<system/>", "<system> has no <cpu>"},
	{CPU0 "<pci busid=\"0000:01:00.0\" class=\"0x030200\"><gpu><nvlink target=\"1\"/></gpu></pci></cpu></system>",
         "line 2: <nvlink>: target: `1` is not a PCI address"},
	{CPU0 "<pci busid=\"0000:01:00.0\" class=\"0x030200\"><gpu><xgmi "
              "target=\"0000:01:00.0\"/></gpu></pci></cpu></system>",
         "line 2: <xgmi>: the GPU is linked to itself"},
	{"<system>\n<cpu/></system>", "line 2: <cpu>: attribute numaid is missing"},
	{"<system>\n<cpu numaid=\"9999\"/></system>", "line 2: <cpu>: numaid: `9999` must be -1..1023"},
	{"<system>\n<cpu numaid=\"0\"/>\n<cpu numaid=\"0\"/></system>", "line 3: <cpu>: NUMA node 0 is there twice"},
	{"<system>\n<cpu numaid=\"0\" affinity=\"x\"/></system>",
         "line 2: <cpu>: affinity: `x` is not a mask of at most 4096 CPUs"},
	{"<system>\n<pci busid=\"0000:00:00.0\"/></system>", "line 2: <pci>: it can't be inside <system>"},
	{CPU0 "<nvlink><pci busid=\"0000:00:00.0\" class=\"0\"/></nvlink>" END,
         "line 2: <pci>: it can't be inside <nvlink>"},
	{CPU0 "<pci class=\"0x020000\"/>" END, "line 2: <pci>: attribute busid is missing"},
	{CPU0 "<pci busid=\"0000:00:40.0\" class=\"0x020000\"/>" END,
         "line 2: <pci>: busid: `0000:00:40.0` is not a PCI address"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x02000000\"/>" END,
         "line 2: <pci>: class: `0x02000000` is not a PCI class"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x020000\" link_speed=\"99 GT/s\"/>" END,
         "line 2: <pci>: link_speed: `99 GT/s` is no speed of PCIe, such as `32.0 GT/s PCIe`"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x020000\" link_width=\"-1\"/>" END,
         "line 2: <pci>: link_width: `-1` is no width of PCIe, such as 16"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x020000\" vendor=\"0x12345\"/>" END,
         "line 2: <pci>: vendor: `0x12345` is not a PCI id"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x020000\"/>\n<pci busid=\"0000:00:00.0\" class=\"0x030200\"/>" END,
         "line 3: 0000:00:00.0: the address is there twice, first in line 2"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x020000\">\n<pci busid=\"0000:01:00.0\" "
              "class=\"0x030200\"/></pci>" END,
         "line 3: 0000:01:00.0: it is below 0000:00:00.0, which is no bridge"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x060400\"><gpu/></pci>" END,
         "line 2: <gpu>: 0000:00:00.0 is a bridge and can't be a <gpu>"},
	{CPU0 "<pci busid=\"0000:00:00.0\" class=\"0x020000\"><nic><net speed=\"fast\"/></nic></pci>" END,
         "line 2: <net>: speed: `fast` must be 0..10000000 Mbit/s"},
};

#define TOPOLOGY(objects) "<topology version=\"2.0\"><object type=\"Machine\">\n" objects "\n</object></topology>"
#define NODE              "<object type=\"NUMANode\" os_index=\"0\" cpuset=\"0x1\"/>\n"
#define HOST_BRIDGE       "<object type=\"Bridge\" bridge_type=\"0-1\" bridge_pci=\"0000:[00-0f]\">\n"
#define TYPE              " pci_type=\"0200 [8086:1234] [0000:0000] 00\""

static const struct {
	const char *text, *says;
} hwloc[] = {
	{"<topology/>",
         "line 1: <topology>: only version 2 of hwloc's XML is read. lstopo 2 writes it; lstopo 3 with the option "
         "--export-xml-flags v2"},
	{TOPOLOGY(""), "<topology> has no NUMANode"},
	{TOPOLOGY("<object/>"), "line 2: <object>: attribute type is missing"},
	{TOPOLOGY(NODE NODE), "line 3: <object>: NUMANode 0 is there twice"},
	{TOPOLOGY("<object type=\"NUMANode\" os_index=\"-1\"/>"),
         "line 2: <object>: NUMANode: os_index `-1` must be 0..1023"},
	{TOPOLOGY("<object type=\"NUMANode\" os_index=\"0\"/>"),
         "line 2: <object>: NUMANode: cpuset `` is not a set of at most 4096"},
	{TOPOLOGY("<object type=\"Package\" os_index=\"0\"/>\n<object type=\"Package\" os_index=\"0\"/>"),
         "line 3: <object>: Package 0 is there twice"},
	{TOPOLOGY(NODE "<object type=\"Core\"/>"), "line 3: <object>: the Core has no PU"},
	{TOPOLOGY(NODE "<object type=\"Core\"><object type=\"PU\" os_index=\"0\"/></object>\n"
                       "<object type=\"Core\"><object type=\"PU\" os_index=\"0\"/></object>"),
         "Core 1: CPUs 0 are in another Core, too"},
	{TOPOLOGY(NODE "<object type=\"PCIDev\" pci_busid=\"0000:00:00.0\"" TYPE "/>"),
         "line 3: <object>: PCIDev 0000:00:00.0: it is below no host bridge"},
	{TOPOLOGY(NODE HOST_BRIDGE HOST_BRIDGE "</object></object>"),
         "line 4: <object>: a host bridge is inside 0000:00"},
	{TOPOLOGY(NODE "<object type=\"Bridge\" bridge_type=\"0-1\" bridge_pci=\"0000:[0f-00]\"/>"),
         "line 3: <object>: bridge_pci: `0000:[0f-00]` must be like `0000:[2b-3b]`"},
	{TOPOLOGY(NODE HOST_BRIDGE "<object type=\"PCIDev\" pci_busid=\"0000:10:00.0\"" TYPE "/></object>"),
         "line 4: 0000:10:00.0: it is below root complex 0000:00, which has buses 00 to 0f of domain 0000"},
	{TOPOLOGY(NODE HOST_BRIDGE "<object type=\"PCIDev\" pci_busid=\"0000:01:00.0\" pci_type=\"NIC\"/></object>"),
         "line 4: <object>: pci_type: `NIC` must be like `0604 [15b3:1979] [0000:0000] 00`"},
	{TOPOLOGY(NODE HOST_BRIDGE "<object type=\"PCIDev\" pci_busid=\"0000:01:00.0\"" TYPE
                                   " pci_link_speed=\"1e99\"/></object>"),
         "line 4: <object>: pci_link_speed: `1e99` must be 0..1000 GB/s"},
	{TOPOLOGY(NODE) "<x/>", "line 4: invalid XML: junk after document element"},
	{"<topology version=\"2.0\">" NODE
         "<distances2 type=\"NUMANode\"><indexes>0</indexes><u64values>10 20</u64values></distances2></topology>",
         "line 2: <u64values>: there are more or longer numbers than 1 nodes need"},
	{"<topology version=\"2.0\">" NODE
         "<distances2 type=\"NUMANode\"><indexes>5</indexes><u64values>10</u64values></distances2></topology>",
         "line 2: <distances2>: NUMA node 5 does not exist"},
};

static bool told_right(const char *text, struct hw_host *h, const char *says) {
	if (h && says)
		print_error("not refused: %s\n", text);
	else if (!h && (!says || !streq(error.msg, says)))
		print_error("input:  %s\nwanted: %s\ngot:    %s\n", text, says, error.msg);
	else
		return true;
	return false;
}

static void captured_trees(void **state) {
	(void)state;
	bool well = true;
	for (size_t i = 0; i < ARRAY_SIZE(sysfs); i++) {
		_hw_free_ struct hw_host *h = host_of(sysfs[i].text, strlen(sysfs[i].text));
		well &= told_right(sysfs[i].text, h, sysfs[i].says);
	}
	assert_true(well);
}

static struct hw_host *host_of_xml(const char *text, size_t len) {
	struct hw_host *h = NULL;
	memset(&error, 0, sizeof(error));
	return hw_read_text(text, len, &h, &error) < 0 ? NULL : h;
}

static void documents(void **state) {
	(void)state;
	bool well = true;
	for (size_t i = 0; i < ARRAY_SIZE(xml); i++) {
		_hw_free_ struct hw_host *h = host_of_xml(xml[i].text, strlen(xml[i].text));
		well &= told_right(xml[i].text, h, xml[i].says);
	}
	for (size_t i = 0; i < ARRAY_SIZE(hwloc); i++) {
		_hw_free_ struct hw_host *h = host_of_xml(hwloc[i].text, strlen(hwloc[i].text));
		well &= told_right(hwloc[i].text, h, hwloc[i].says);
	}
	assert_true(well);
}

/* Each bound, one past it. */
static void too_much(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h = NULL;
	_buf_free_ struct buf b = {0};

	buf_puts(&b, CPU);
	for (int i = 0; i < 10000; i++)
		buf_printf(&b, ROOT "0000:%02x:%02x.%x" NIC "\n", i >> 8, i >> 3 & 31, i & 7);
	assert_null(host_of(b.data, b.len));
	assert_string_equal(error.msg, "there are more than 4096 PCI functions and root complexes");

	buf_reset(&b);
	buf_puts(&b, CPU);
	for (int i = 0; i < 257; i++)
		buf_printf(&b, ROOT "0000:%02x:%02x.%x" NIC "\n", i >> 8, i >> 3 & 31, i & 7);
	assert_null(host_of(b.data, b.len));
	assert_string_equal(error.msg, "0000:01:00.0: the host has more than 256 GPUs, NICs, NVMes and NVSwitches");

	buf_reset(&b);
	buf_puts(&b, CPU ROOT);
	for (int i = 0; i < 33; i++)
		buf_printf(&b, "0000:%02x:00.0/", i);
	buf_puts(&b, "0000:40:00.0" NIC "\n");
	assert_null(host_of(b.data, b.len));
	assert_string_equal(error.msg, "0000:40:00.0: there are more than 32 bridges above it");

	buf_reset(&b);
	buf_puts(&b, CPU0);
	for (int i = 0; i < 40; i++)
		buf_printf(&b, "<pci busid=\"0000:%02x:00.0\" class=\"0x060400\">", i);
	buf_puts(&b, "<pci busid=\"0000:40:00.0\" class=\"0x020000\"/>");
	for (int i = 0; i < 40; i++)
		buf_puts(&b, "</pci>");
	buf_puts(&b, END);
	h = host_of_xml(b.data, b.len);
	assert_null(h);
	assert_string_equal(error.msg, "line 2: 0000:20:00.0: there are more than 32 bridges above it, or a loop");

	buf_reset(&b);
	buf_puts(&b, CPU ROOT "0000:00:00.0" NIC "\nfile devices/pci0000:00/0000:00:00.0/resource ");
	for (int i = 0; i < 9000; i++)
		buf_putc(&b, '0');
	assert_null(host_of(b.data, b.len));
	assert_string_equal(error.msg, "`devices/pci0000:00/0000:00:00.0/resource` has 8256 bytes or more");

	for (int sockets = HW_SOCKETS_MAX; sockets <= HW_SOCKETS_MAX + 1; sockets++) {
		_hw_free_ struct hw_host *many = NULL;
		buf_reset(&b);
		for (int i = 0; i < sockets; i++)
			buf_printf(&b, "cores %d +0 package=%d\n", i, i);
		many = host_of(b.data, b.len);
		assert_int_equal(many != NULL, sockets == HW_SOCKETS_MAX);
	}
	assert_string_equal(error.msg, "cpu64: there are more than 64 sockets");

	/* 9,300 times the same 4,096 CPUs. */
	buf_reset(&b);
	buf_puts(&b, CPU "node 0 cpus=");
	for (int i = 0; i < 9300; i++)
		buf_puts(&b, "0-4095,");
	buf_puts(&b, "0\n");
	assert_null(host_of(b.data, b.len));
	assert_string_equal(error.msg, "node0: its CPUs `0-4095,0-4095,0-4095,0-4095,0-4095,0-409` are no set of CPUs");

	buf_reset(&b);
	for (int i = 0; i < 65; i++)
		buf_puts(&b, "<a>");
	assert_null(host_of_xml(b.data, b.len));
	assert_string_equal(error.msg, "line 1: <a>: elements are nested more than 64 levels deep");

	buf_reset(&b);
	buf_puts(&b, "<a>");
	for (int i = 0; i < XML_ELEMENTS_MAX; i++)
		buf_puts(&b, "<b/>");
	assert_null(host_of_xml(b.data, b.len));
	assert_string_equal(error.msg, "line 1: <b>: the document has more than 65536 elements");

	buf_reset(&b);
	buf_puts(&b, "<a");
	for (int i = 0; i < XML_ATTRS_MAX + 1; i++)
		buf_printf(&b, " x%d=\"\"", i);
	buf_puts(&b, "/>");
	assert_null(host_of_xml(b.data, b.len));
	assert_string_equal(error.msg, "line 1: <a>: the element has more than 40 attributes");

	buf_reset(&b);
	buf_puts(&b, "<a b=\"");
	for (int i = 0; i < XML_VALUE_MAX + 1; i++)
		buf_putc(&b, 'x');
	buf_puts(&b, "\"/>");
	assert_null(host_of_xml(b.data, b.len));
	assert_string_equal(error.msg, "line 1: <a>: attribute b has more than 8192 bytes");

	buf_reset(&b);
	while (b.len <= XML_BYTES_MAX)
		buf_puts(&b, "<!-- nothing but a comment, again and again, which is no element -->\n");
	assert_null(host_of_xml(b.data, b.len));
	assert_string_equal(error.msg, "the document has more than 8388608 bytes");
}

/* A directory with links that run in circles or out of it, and with a pipe where a file should be. */
static void hostile_directory(void **state) {
	(void)state;
	char dir[] = "/tmp/nacre-test-hw-XXXXXX", path[200];
	const char *device = "/sys/bus/pci/devices/0000:00:00.0";
	struct hw_host *h = NULL;
	assert_non_null(test_mkdtemp(dir));
#define AT(...) (snprintf(path, sizeof(path), "%s%s%s", dir, __VA_ARGS__), path)
	OK(mkdir_p(AT("/sys/devices/system/cpu/cpu0", ""), 0755, &error));
	OK(mkdir_p(AT("/sys/bus/pci/devices", ""), 0755, &error));
	OK(mkdir_p(AT("/sys/devices/pci0000:00/0000:00:00.0", ""), 0755, &error));
	assert_int_equal(symlink("../../../devices/pci0000:00/0000:00:00.0", AT(device, "")), 0);
	OK(write_file_atomic(AT(device, "/class"), "0x020000\n", 9, 0644, &error));
	OK(write_file_atomic(AT(device, "/vendor"), "0x8086\n", 7, 0644, &error));

	assert_int_equal(symlink("device", AT(device, "/device")), 0);
	assert_int_equal(hw_read_path(dir, &h, &error), -ELOOP);
	assert_non_null(
		strstr(error.msg, "open `devices/pci0000:00/0000:00:00.0/device`: Too many levels of symbolic links"));

	assert_int_equal(unlink(AT(device, "/device")), 0);
	assert_int_equal(symlink("../../../../../../../../../../etc/passwd", AT(device, "/device")), 0);
	assert_int_equal(hw_read_path(dir, &h, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "0000:00:00.0: its file device is missing"));

	assert_int_equal(unlink(AT(device, "/device")), 0);
	assert_int_equal(mkfifo(AT(device, "/device"), 0644), 0);
	assert_int_equal(hw_read_path(dir, &h, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "`devices/pci0000:00/0000:00:00.0/device` is not a regular file"));

	assert_int_equal(unlink(AT(device, "/device")), 0);
	OK(write_file_atomic(AT(device, "/device"), "0x1234\n", 7, 0644, &error));
	OK(hw_read_path(dir, &h, &error));
	assert_int_equal(h->n_devices, 1);
	hw_free(h);
	OK(remove_tree(dir, &error));
	assert_int_equal(hw_read_path(dir, &h, &error), -ENOENT);
}

/* References in JSON that lead nowhere. */
static void json_that_lies(void **state) {
	(void)state;
	static const struct {
		const char *find, *put, *says;
	} lies[] = {
		{"\"switch\":-1,\"levels\"", "\"switch\":0,\"levels\"",
	         "0000:21:00.0: it is below switch 0, which does not come before it"},
		{"\"socket\":1,\"memory\"", "\"socket\":7,\"memory\"", "NUMA node 1: there is no socket 7"},
		{"\"address\":\"0000:26:00.0\"", "\"address\":\"0000:25:00.0\"",
	         "0000:25:00.0: the address is there twice"},
		{"\"root\":0,\"switch\":0,\"node\":0", "\"root\":1,\"switch\":0,\"node\":0",
	         "0000:25:00.0: it is below switch 0000:21:00.0 of another root complex"},
		{"\"root\":0,\"switch\":0,\"node\":0", "\"root\":2,\"switch\":0,\"node\":0",
	         "0000:25:00.0: there is no root complex 2"},
		{"\"address\":\"0000:a0\"", "\"address\":\"0000:a\"", "roots[1]: its address is not such as `0000:15`"},
		{"\"address\":\"0000:25:00.0\"", "\"address\":\"0000:25:0.0\"",
	         "devices[0]: an address is not such as `0000:16:00.0`"},
		{"\"driver\":\"vfio-pci\"", "\"driver\":\"../x\"",
	         "0000:25:00.0: its ids, model, driver or name have characters that are not allowed"},
		{"\"model\":\"pex88000\"", "\"model\":\"pe\\u00e9\"",
	         "0000:21:00.0: its ids or its model have characters that are not allowed"},
		{"\"cpus\":\"1,65\"", "\"cpus\":\"1,64\"", "core 1: CPUs 1,64 are in another core, too"},
		{"\"cpus\":\"1,65\"", "\"cpus\":\"1 65\"", "core 1: its CPUs are no list such as `0,128`"},
		{"\"sockets\":[{\"id\":0},{\"id\":1}]", "\"sockets\":[{\"id\":0},{\"id\":1},{\"id\":0}]",
	         "socket 0: it is there twice"},
		{"\"cpus\":\"32-63,96-127\",\"hug", "\"cpus\":\"31-63,96-127\",\"hug",
	         "NUMA node 1: some of its CPUs are of another node, too"},
		{"\"cpus\":\"1,65\"", "\"cpus\":\"1,4000\"", "core 1: its CPUs 1,4000 are not all of NUMA node 0"},
		{"\"node\":0,\"cpus\":\"1,65\"", "\"node\":-1,\"cpus\":\"1,65\"",
	         "core 1: its CPUs 1,65 are of a NUMA node, but it says of none"},
		{"\"address\":\"0000:a0\",\"node\":1,\"socket\":1", "\"address\":\"0000:a0\",\"node\":1,\"socket\":0",
	         "root complex 0000:a0: it is of socket 0, but its NUMA node 1 is of socket 1"},
		{"\"link\":{\"speed\":16000", "\"link\":{\"speed\":3",
	         "0000:21:00.0: speed 3 or width 16 of its link is not one of PCIe"},
		{"\"maxWidth\":16", "\"maxWidth\":7",
	         "0000:21:00.0: speed 16000 or width 7 of its link is not one of PCIe"},
		{"\"ownMaxWidth\":16", "\"ownMaxWidth\":7",
	         "0000:21:00.0: speed 16000 or width 7 of its link is not one of PCIe"},
		{"\"node\":1,\"value\":21", "\"node\":2,\"value\":21",
	         "NUMA node 0: it has a distance to node 2, which does not exist"},
	};
	_hw_free_ struct hw_host *good = host_of_fixture("pcie-1switch");
	_buf_free_ struct buf json = {0};
	hw_print(good, &json);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_buf_free_ struct buf b = {0};
		const char *at = strstr(json.data, lies[i].find);
		assert_non_null(at);
		buf_add(&b, json.data, (size_t)(at - json.data));
		buf_puts(&b, lies[i].put);
		buf_puts(&b, at + strlen(lies[i].find));
		assert_null(host_of_xml(b.data, b.len));
		assert_string_equal(error.msg, lies[i].says);
	}
}

/* More switches below each other than there may be bridges above a device. */
static void json_that_is_deep(void **state) {
	(void)state;
	for (int depth = HW_DEPTH_MAX; depth <= HW_DEPTH_MAX + 1; depth++) {
		_hw_free_ struct hw_host *h = hw_new(), *again = NULL;
		_buf_free_ struct buf json = {0};
		h->n_roots = 1;
		jt_init(&jt_hw_root, &h->roots[0]);
		for (int i = 0; i < depth; i++) {
			struct hw_switch *s = &h->switches[h->n_switches++];
			jt_init(&jt_hw_switch, s);
			snprintf(s->address, sizeof(s->address), "0000:%02x:00.0", i);
			s->above = i - 1;
		}
		hw_print(h, &json);
		again = host_of_xml(json.data, json.len);
		assert_int_equal(again != NULL, depth == HW_DEPTH_MAX);
	}
	assert_string_equal(error.msg, "0000:20:00.0: it is below more than 31 switches");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(captured_trees), cmocka_unit_test(documents),
		cmocka_unit_test(too_much),       cmocka_unit_test(hostile_directory),
		cmocka_unit_test(json_that_lies), cmocka_unit_test(json_that_is_deep),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
