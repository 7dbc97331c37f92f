/* SPDX-License-Identifier: Apache-2.0 */

/* What we read, beside what libhwloc reads: this machine, and files of real machines where they are at hand. */

#include "base/testing.h"

#include <hwloc.h>

#include "hw/testing.h"
#include "hw/text.h"

static void same_processors(const struct hw_host *h, hwloc_topology_t t) {
	assert_int_equal(h->n_sockets, hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PACKAGE));
	assert_int_equal(h->n_nodes, hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE));
	assert_int_equal(h->n_cores, hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE));
	for (size_t i = 0; i < h->n_nodes; i++) {
		hwloc_obj_t node = hwloc_get_numanode_obj_by_os_index(t, (unsigned)h->nodes[i].id);
		struct hw_set cpus;
		unsigned n = 0, bit;
		assert_non_null(node);
		assert_int_equal(hw_set_parse_list(h->nodes[i].cpus, &cpus), 0);
		hwloc_bitmap_foreach_begin(bit, node->cpuset) {
			assert_true(hw_set_has(&cpus, bit));
			n++;
		}
		hwloc_bitmap_foreach_end();
		assert_int_equal(n, hw_set_count(&cpus));
		assert_int_equal(h->nodes[i].memory, node->attr->numanode.local_memory);
	}
	for (size_t i = 0; i < h->n_cores; i++) {
		struct hw_set cpus;
		assert_int_equal(hw_set_parse_list(h->cores[i].cpus, &cpus), 0);
		hwloc_obj_t pu = hwloc_get_pu_obj_by_os_index(t, (unsigned)hw_set_first(&cpus));
		hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(t, HWLOC_OBJ_CORE, pu);
		hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(t, HWLOC_OBJ_PACKAGE, pu);
		assert_int_equal(hwloc_bitmap_weight(core->cpuset), hw_set_count(&cpus));
		assert_int_equal(package->os_index, h->cores[i].socket);
		assert_true(hwloc_bitmap_isset(pu->nodeset, (unsigned)h->cores[i].node));
	}
}

/* The device of hwloc, and above it the node and the bridges that we have as a switch. */
static void same_devices(const struct hw_host *h, hwloc_topology_t t) {
	size_t found = 0;
	for (hwloc_obj_t o = NULL; (o = hwloc_get_next_pcidev(t, o));)
		for (size_t i = 0; i < h->n_devices; i++) {
			const struct hw_device *d = &h->devices[i];
			struct hw_address a;
			assert_true(hw_address_parse(d->address, &a));
			if (a.domain != o->attr->pcidev.domain || a.bus != o->attr->pcidev.bus ||
			    a.device != o->attr->pcidev.dev || a.function != o->attr->pcidev.func)
				continue;
			found++;
			hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(t, o);
			if (hwloc_bitmap_weight(place->nodeset) == 1)
				assert_int_equal(hwloc_bitmap_first(place->nodeset), d->node);
			char ids[10];
			snprintf(ids, sizeof(ids), "%04x:%04x", o->attr->pcidev.vendor_id, o->attr->pcidev.device_id);
			assert_string_equal(d->ids[0] ? d->ids : "0000:0000", ids);
		}
	assert_int_equal(found, h->n_devices);
}

static hwloc_topology_t load(const char *xml) {
	hwloc_topology_t t;
	assert_int_equal(hwloc_topology_init(&t), 0);
	hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_ALL);
	hwloc_topology_set_flags(t, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
	if (xml)
		assert_int_equal(hwloc_topology_set_xml(t, xml), 0);
	assert_int_equal(hwloc_topology_load(t), 0);
	return t;
}

static void this_machine(void **state) {
	(void)state;
	_hw_free_ struct hw_host *h = NULL;
	OK(hw_read_path("/sys", &h, &error));
	hwloc_topology_t t = load(NULL);
	same_processors(h, t);
	same_devices(h, t);
	hwloc_topology_destroy(t);
}

static void files(void **state) {
	(void)state;
	static const char *const names[] = {"nvidiaDGX2.hwloc2.xml", "turin-4gpu.xml"};
	_free_ char *folder = shared_path("");
	if (!folder)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_hw_free_ struct hw_host *h = NULL;
		_free_ char *file = strf("%s/%s", folder, names[i]);
		OK(hw_read_path(file, &h, &error));
		hwloc_topology_t t = load(file);
		same_processors(h, t);
		same_devices(h, t);
		hwloc_topology_destroy(t);
	}
}

/* Our reader and hwloc's, which takes the root of a captured tree from the environment. */
static void captured(void **state) {
	(void)state;
	char dir[] = CAPTURED_DIR;
	_hw_free_ struct hw_host *h = NULL;
	_free_ char *path = unpack_captured(dir);
	OK(hw_read_path(path, &h, &error));
	setenv("HWLOC_FSROOT", path, 1);
	hwloc_topology_t t = load(NULL);
	unsetenv("HWLOC_FSROOT");
	OK(remove_tree(dir, &error));
	same_processors(h, t);
	hwloc_topology_destroy(t);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(this_machine),
		cmocka_unit_test(files),
		cmocka_unit_test(captured),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
