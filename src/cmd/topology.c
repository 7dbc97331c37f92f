/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/topology.h"

#include <langinfo.h>
#include <locale.h>

#include "base/opt.h"
#include "base/util.h"
#include "cmd/command.h"
#include "hw/draw.h"
#include "hw/read.h"

static bool topology_is_utf8(void) {
	setlocale(LC_CTYPE, "");
	return streq(nl_langinfo(CODESET), "UTF-8");
}

int cmd_topology(int argc, char **argv) {
	bool json = false, svg = false, matrix = false;
	const struct opt opts[] = {
		{"matrix", OPT_FLAG, &matrix, NULL, "print how close GPUs and NICs are: PIX, PXB, PHB, NODE, SYS", 0, 0,
	         false},
		{"json", OPT_FLAG, &json, NULL, "print the model as JSON", 0, 0, false},
		{"svg", OPT_FLAG, &svg, NULL, "print a picture as SVG", 0, 0, false},
		{0},
	};
	const struct opt_program prog = {
		"nacre topology", "Draws sockets, NUMA nodes, PCIe switches, GPUs, NICs and NVMe of a host.",
		"[OPTIONS] FILE|DIR",
		"FILE is an XML of hwloc 2 (lstopo host.xml), a topology XML of NCCL or RCCL, or what --json printed.\n"
		"It may be a pipe: nacre topology <(ssh HOST lstopo --of xml).\n"
		"DIR is /sys, or a directory with a captured copy of it. Only root sees ACS,\n"
		"ATS and which NICs only manage NVLink switches in /sys.\n"
		"A link marked with ! runs below its maximum, or below that of the same devices.\n"
		"docs/topology.md explains the drawing.\n",
		opts};
	_hw_free_ struct hw_host *h = NULL;
	_buf_free_ struct buf out = {0};
	struct error err = {0};
	int i = opt_parse_or_exit(&prog, argc, argv);
	if (argc - i != 1)
		return command_usage(&prog, "give one FILE or DIR");
	if (json + svg + matrix > 1)
		return command_usage(&prog, "--matrix, --json and --svg exclude each other");
	int r = hw_read_path(argv[i], &h, &err);
	if (r == 0 && json) {
		hw_print(h, &out);
		buf_putc(&out, '\n');
		r = buf_error(&out, "the JSON", &err);
	} else if (r == 0) {
		r = svg      ? hw_draw_svg(h, &out, &err)
		    : matrix ? hw_draw_matrix(h, &out, &err)
		             : hw_draw(h, topology_is_utf8(), &out, &err);
	}
	if (r == 0)
		r = write_all(1, out.data, out.len, &err);
	return r < 0 ? command_failed(prog.name, &err) : 0;
}
