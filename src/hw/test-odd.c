/* SPDX-License-Identifier: Apache-2.0 */

/* What is odd but found on real hosts: none of it may end the reading or be taken for something else. */

#include "base/testing.h"

#include "hw/testing.h"

#define CPU        "cores 0 +0 package=0\n"
#define TWO        CPU "cores 1 +0 package=1\nnode 0 cpus=0\nnode 1 cpus=1\n"
#define PCI(path)  "pci pci0000:" path " "
#define GPU        "class=0x030200 vendor=0x10de device=0x2330 "
#define NIC        "class=0x020000 vendor=0x15b3 device=0x101d "
#define USB        "class=0x0c0330 vendor=0x8086 device=0x1bcd "
#define BRIDGE     "class=0x060400 vendor=0x1000 device=0xc030 "
#define NIC_DIR    "devices/pci0000:00/0000:00:00.0/"
#define FILE_OF(f) "file " NIC_DIR f " "

static struct hw_host *host_of_text(const char *text) {
	struct hw_host *h = host_of(text, strlen(text));
	if (!h)
		fail_msg("%s: refused: %s", text, error.msg);
	return h;
}

/* Values of one function that make no sense to us. */
static void strange_values(void **state) {
	(void)state;
	static const char *const texts[] = {
		CPU PCI("00/0000:00:01.0") USB "current_link_speed=256.0_GT/s_PCIe\n" PCI("00/0000:00:00.0") NIC "\n",
		CPU PCI("00/0000:00:01.0") USB "current_link_width=3 resource=none driver=a%b\n" PCI("00/0000:00:00.0")
			NIC "\n",
		CPU PCI("00/0000:00:00.0") NIC "current_link_speed=256.0_GT/s_PCIe max_link_width=3\n",
		CPU PCI("00/0000:00:00.0") NIC "net=wan+1\n",
		CPU PCI("00/0000:00:00.0") NIC "numa_node=5\n",
		CPU PCI("00/0000:00:00.0") NIC "sriov_totalvfs=1 sriov_numvfs=2\n",
		CPU PCI("00/0000:00:00.0") NIC "sriov_totalvfs=many\n",
	};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_hw_free_ struct hw_host *h = host_of_text(texts[i]);
		assert_int_equal(h->n_devices, 1);
		const struct hw_device *d = &h->devices[0];
		assert_int_equal(d->link.speed, 0);
		assert_int_equal(d->link.max_width, 0);
		assert_string_equal(d->netdev, "");
		assert_int_equal(d->node, 0);
	}
}

/* A function without the link `physfn` that is a virtual one all the same. */
static void virtual_functions_that_come_or_go(void **state) {
	(void)state;
#define PF PCI("00/0000:00:00.0") NIC "sriov_totalvfs=4 sriov_numvfs=0 sriov_offset=2 sriov_stride=2 "
	static const struct {
		const char *text;
		size_t devices;
	} cases[] = {
		{CPU PF "\n" PCI("00/0000:00:00.2") NIC "\n", 1},
		{CPU PF "\n" PCI("00/0000:00:01.0") NIC "\n", 1},
		{CPU PF "\n" PCI("00/0000:00:00.1") NIC "\n", 2}, /* another port of the card */
		{CPU PF "\n" PCI("00/0000:00:01.1") NIC "\n", 2}, /* between two */
		{CPU PF "\n" PCI("00/0000:00:01.2") NIC "\n", 2}, /* past the last one */
		{CPU PF "\n" PCI("00/0000:00:00.2") "class=0x010802 vendor=0x15b3 device=0x6001\n", 2},
		{CPU PF "\n" PCI("00/0000:00:00.2") "class=0x020000 vendor=0x8086 device=0x1234\n", 2},
		{CPU PCI("00/0000:00:00.2") NIC "config=vf\n", 0},
		{CPU PCI("00/0000:00:00.2") NIC "config=short\n", 1},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_hw_free_ struct hw_host *h = host_of_text(cases[i].text);
		if (h->n_devices != cases[i].devices)
			fail_msg("%s: %zu devices", cases[i].text, h->n_devices);
	}
}

static void gpu_that_does_not_answer(void **state) {
	(void)state;
	static const struct {
		const char *text;
		bool dead;
	} cases[] = {
		{CPU PCI("00/0000:00:00.0") GPU "config=dead\n", true},
		{CPU PCI("00/0000:00:00.0") GPU "current_link_speed=Unknown current_link_width=63\n", true},
		{CPU PCI("00/0000:00:00.0") "class=0x030000 vendor=0x10de device=0x2bb5 config=dead\n", true},
		{CPU PCI("00/0000:00:00.0") GPU "type=end current_link_speed=Unknown current_link_width=0\n", false},
		/* Asleep: config space can be read, and then it wakes. */
		{CPU PCI("00/0000:00:00.0") GPU "type=end current_link_speed=Unknown current_link_width=63\n", false},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_hw_free_ struct hw_host *h = host_of_text(cases[i].text);
		_buf_free_ struct buf out = {0};
		assert_int_equal(hw_count(h, HW_GPU), 1);
		assert_int_equal(h->devices[0].dead, cases[i].dead);
		OK(hw_draw(h, false, &out, &error));
		assert_int_equal(strstr(out.data, "does not answer") != NULL, cases[i].dead);
		if (cases[i].dead)
			assert_int_equal(h->devices[0].ats, HW_UNKNOWN);
	}
}

/* A tree in memory in which what is below PATH goes away, or comes, when a link has been looked up AFTER times. */
struct moving {
	struct hw_fs below;
	const char *path;
	int after;
	bool comes;
};

static bool is_hidden(const struct moving *m, const char *path) {
	return (m->after > 0) == m->comes && strstr(path, m->path);
}

static int moving_read(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err) {
	struct moving *m = fs->data;
	return is_hidden(m, path) ? -ENOENT : m->below.read(&m->below, path, buf, size, err);
}

static int moving_link(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err) {
	struct moving *m = fs->data;
	bool hidden = is_hidden(m, path);
	if (strstr(path, "bus/pci/devices/") && m->after > 0)
		m->after--;
	return hidden ? -ENOENT : m->below.link(&m->below, path, buf, size, err);
}

static int moving_list(const struct hw_fs *fs, const char *path, int (*each)(void *arg, const char *name), void *arg,
                       struct error *err) {
	struct moving *m = fs->data;
	return m->below.list(&m->below, path, each, arg, err);
}

static void devices_that_come_or_go(void **state) {
	(void)state;
	static const char text[] = CPU PCI("00/0000:00:01.0") BRIDGE
		"type=root buses=01-01\n" PCI("00/0000:00:01.0/0000:01:00.0") GPU "\n" PCI("00/0000:00:02.0") NIC "\n";
	/* The bridge is the last one in the list. */
	static const char late[] = CPU PCI("80/0000:80:01.0/0000:01:01.0") GPU "\n" PCI("40/0000:40:00.0") NIC
		"\n" PCI("80/0000:80:01.0") BRIDGE "type=root\n";
	static const struct {
		const char *text, *path;
		int after;
		bool comes;
		int result;
		size_t devices;
	} cases[] = {
		{text, "nothing", 0, false, 0, 2},
		{text, "0000:01:00.0", 0, false, 0, 1},              /* gone after it was listed */
		{text, "0000:01:00.0", 3, false, -EAGAIN, 0},        /* gone after its link was read */
		{late, ":01.0", 2, false, -EAGAIN, 0},               /* gone with its bridge after it was read */
		{text, "devices/0000:00:01.0", 2, true, -EAGAIN, 0}, /* a bridge that wasn't there at first */
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct moving m = {.path = cases[i].path, .after = cases[i].after, .comes = cases[i].comes};
		struct hw_fs fs = {moving_read, moving_link, moving_list, &m};
		_hw_free_ struct hw_host *h = NULL;
		OK(hw_memfs_parse(cases[i].text, strlen(cases[i].text), &m.below, &error));
		int r = hw_read_fs(&fs, &h, &error);
		hw_memfs_clear(&m.below);
		if (r != cases[i].result || (h && h->n_devices != cases[i].devices))
			fail_msg("case %zu: %d: %s", i, r, error.msg);
	}
}

/* What can't be read is no file that is missing. */
static void files_that_can_not_be_read(void **state) {
	(void)state;
	_hw_fs_close_ struct hw_fs fs = {0};
	char buf[64];
	OK(hw_fs_open("/proc/self", &fs, &error));
	assert_int_equal(fs.read(&fs, "mem", buf, sizeof(buf), &error), -EIO);
	assert_string_equal(error.msg, "read `mem`: Input/output error");
	assert_int_equal(fs.read(&fs, "no-such-file", buf, sizeof(buf), &error), -ENOENT);
	assert_int_equal(fs.link(&fs, "no-such-link", buf, sizeof(buf), &error), -ENOENT);
	assert_int_equal(fs.link(&fs, "stat", buf, sizeof(buf), &error), -EINVAL);
	assert_string_equal(error.msg, "`stat` is no link");
}

static void network_interfaces(void **state) {
	(void)state;
	_buf_free_ struct buf b = {0};
	static const char virtio[] = CPU PCI("00/0000:00:00.0") "class=0x020000 vendor=0x1af4 device=0x1041\n" FILE_OF(
		"virtio3/net/enp0s3/mtu") "1500\n";
	_hw_free_ struct hw_host *v = host_of_text(virtio);
	assert_string_equal(v->devices[0].netdev, "enp0s3");

	buf_puts(&b, CPU PCI("00/0000:00:00.0") NIC "ib=mlx5_0:Ethernet:2.5_Gb/sec_(1X_SDR)\n");
	buf_puts(&b, FILE_OF("infiniband/mlx5_0/ports/1/state") "1: DOWN\n");
	buf_puts(&b, FILE_OF("net/up0/phys_port_name") "p0\n" FILE_OF("net/wan+1/mtu") "1500\n");
	for (int i = 0; i < 1000; i++) {
		buf_printf(&b, FILE_OF("net/eth%d/phys_port_name") "%spf0vf%d\n", i, i % 2 ? "c1" : "", i);
		buf_printf(&b, FILE_OF("infiniband/mlx5_0/ports/%d/state") "4: ACTIVE\n", i + 2);
	}
	_hw_free_ struct hw_host *h = host_of_text(b.data);
	const struct hw_device *d = &h->devices[0];
	char text[64];
	assert_string_equal(d->netdev, "up0");
	assert_int_equal(d->n_ports, 4);
	assert_int_equal(d->ports[0].mbit, 2500);
	assert_int_equal(d->ports[0].state, HW_PORT_DOWN);
	assert_int_equal(d->ports[1].state, HW_PORT_ACTIVE);
	hw_text_device(d, text, sizeof(text));
	assert_non_null(strstr(text, "mlx5_0 Eth 2.5G"));
}

static void bar_without_address(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h =
		host_of_text(CPU PCI("00/0000:00:00.0") GPU "\n" FILE_OF("resource") "0x0000000000000000 "
	                                                                             "0x0000001fffffffff "
	                                                                             "0x000000002014220c\n");
	assert_int_equal(h->devices[0].n_bars, 1);
	assert_int_equal(h->devices[0].bars[0].size, 1LL << 37);
	assert_true(h->devices[0].bars[0].unassigned);
	_hw_free_ struct hw_host *good = host_of_text(CPU PCI("00/0000:00:00.0") GPU "bars=26\n");
	assert_false(good->devices[0].bars[0].unassigned);
}

/* Places of a switch where nothing is plugged in; one of 4 lanes is for something else. */
static void ports_without_devices(void **state) {
	(void)state;
#define SWITCH                                                                                                      \
	PCI("00/0000:00:01.0")                                                                                      \
	BRIDGE "type=root buses=01-06\n" PCI("00/0000:00:01.0/0000:01:00.0") BRIDGE                                 \
		"type=up buses=02-06\n" PCI("00/0000:00:01.0/0000:01:00.0/0000:02:00.0") BRIDGE                     \
		"type=down buses=03-03 max_link_width=16\n" PCI("00/0000:00:01.0/0000:01:00.0/0000:02:01.0") BRIDGE \
		"type=down buses=04-04 max_link_width=8\n" PCI("00/0000:00:01.0/0000:01:00.0/0000:02:02.0") BRIDGE  \
		"type=down buses=05-05 max_link_width=4\n"
	_hw_free_ struct hw_host *empty = host_of_text(CPU SWITCH);
	assert_int_equal(empty->n_switches, 1);
	assert_int_equal(empty->n_devices, 0);
	assert_int_equal(empty->switches[0].empty_ports, 2);
	_hw_free_ struct hw_host *half =
		host_of_text(CPU SWITCH PCI("00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0") GPU "\n");
	assert_int_equal(half->n_devices, 1);
	assert_int_equal(half->switches[0].empty_ports, 1);
	assert_string_equal(half->devices[0].port.address, "0000:02:01.0");
}

/* A root complex has the node that its devices and their bridges tell, whatever the chipset says. */
static void nodes_of_system_functions(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h =
		host_of_text(TWO PCI("00/0000:00:01.0") BRIDGE
	                     "type=root buses=01-01 numa_node=1\n" PCI("00/0000:00:01.0/0000:01:00.0") GPU
	                     "numa_node=1\n" PCI("00/0000:00:1f.0") USB "numa_node=0\n" PCI("00/0000:00:02.0") BRIDGE
	                     "type=root buses=02-02 numa_node=0\n");
	assert_int_equal(h->roots[0].node, 1);
	assert_int_equal(h->roots[0].socket, 1);
}

/* hwloc has the CPUs nearby at memory that has none: here node 2, HBM of the whole package, and node 3, beside node 1.
 */
static void memory_without_processors(void **state) {
	(void)state;
#define CORE(n)       "<object type=\"Core\"><object type=\"PU\" os_index=\"" n "\"/></object>"
#define NUMA(n, cpus) "<object type=\"NUMANode\" os_index=\"" n "\" cpuset=\"" cpus "\"/>"
	static const char text[] =
		"<topology version=\"2.0\"><object type=\"Machine\"><object type=\"Package\" os_index=\"0\">" NUMA(
			"2", "0x3") "<object type=\"Group\">" NUMA("0", "0x1")
			CORE("0") "</object>"
				  "<object type=\"Group\">" NUMA("3", "0x2") NUMA("1", "0x2")
					  CORE("1") "</object></object></object></topology>";
	_hw_free_ struct hw_host *h = NULL;
	OK(hw_read_text(text, strlen(text), &h, &error));
	assert_string_equal(hw_node_find(h, 0)->cpus, "0");
	assert_string_equal(hw_node_find(h, 1)->cpus, "1");
	assert_string_equal(hw_node_find(h, 2)->cpus, "");
	assert_string_equal(hw_node_find(h, 3)->cpus, "");
	assert_int_equal(h->cores[0].node, 0);
	assert_int_equal(h->cores[1].node, 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strange_values),
		cmocka_unit_test(virtual_functions_that_come_or_go),
		cmocka_unit_test(gpu_that_does_not_answer),
		cmocka_unit_test(devices_that_come_or_go),
		cmocka_unit_test(files_that_can_not_be_read),
		cmocka_unit_test(network_interfaces),
		cmocka_unit_test(bar_without_address),
		cmocka_unit_test(ports_without_devices),
		cmocka_unit_test(nodes_of_system_functions),
		cmocka_unit_test(memory_without_processors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
