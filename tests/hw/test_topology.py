# SPDX-License-Identifier: Apache-2.0
"""`nacre topology` as its users run it: drawings, JSON, SVG, files that are refused. Unit tests of src/hw have the rest."""

import json
import os
import subprocess
import xml.etree.ElementTree as ET

from harness import BIN

NCCL = """<system version="1">
  <cpu numaid="0" affinity="00000000,0000ffff">
    <pci busid="ffff:ff:01.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
      <pci busid="0001:00:00.0" class="0x030200" vendor="0x10de" device="0x2330" link_speed="32.0 GT/s PCIe" link_width="16"/>
      <pci busid="0101:00:00.0" class="0x020700" link_speed="32.0 GT/s PCIe" link_width="16"/>
    </pci>
  </cpu>
</system>
"""


def topology(*args, locale="C.UTF-8"):
    done = subprocess.run([f"{BIN}/nacre", "topology", *map(str, args)], capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": locale})
    return done.returncode, done.stdout, done.stderr


def test_the_drawing_follows_the_locale(tmp_path):
    (tmp_path / "topo").write_text(NCCL)
    assert topology(tmp_path / "topo") == (0, """1 NUMA node, 1 GPU, 1 NIC
node 0  CPUs 0-15
└─ root complex
   └─ switch ffff:ff:01.0                   at most gen5 x16
      ├─ GPU  0001:00:00.0  h100-sxm5-80gb  at most gen5 x16
      └─ NIC  0101:00:00.0                  at most gen5 x16
""", "")
    assert topology(tmp_path / "topo", locale="C") == (0, """1 NUMA node, 1 GPU, 1 NIC
node 0  CPUs 0-15
`- root complex
   `- switch ffff:ff:01.0                   at most gen5 x16
      |- GPU  0001:00:00.0  h100-sxm5-80gb  at most gen5 x16
      `- NIC  0101:00:00.0                  at most gen5 x16
""", "")


def test_json_is_read_again(tmp_path):
    (tmp_path / "topo").write_text(NCCL)
    _, text, _ = topology("--json", tmp_path / "topo")
    host = json.loads(text)
    assert [d["model"] for d in host["devices"] if d["kind"] == "gpu"] == ["h100-sxm5-80gb"]
    (tmp_path / "json").write_text(text)
    assert topology(tmp_path / "json") == topology(tmp_path / "topo")


def test_matrix(tmp_path):
    (tmp_path / "topo").write_text(NCCL)
    rc, text, _ = topology("--matrix", tmp_path / "topo")
    assert rc == 0 and text.split("\n")[:7] == [
        "      GPU0  NIC0", "GPU0  X     PIX", "NIC0  PIX   X", "",
        "GPU0  0001:00:00.0  node 0  h100-sxm5-80gb", "NIC0  0101:00:00.0  node 0", ""]


def test_pipes(tmp_path):
    (tmp_path / "topo").write_text(NCCL)
    command = [f"{BIN}/nacre", "topology", "/dev/stdin"]
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, input=NCCL, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stdout, done.stderr) == topology(tmp_path / "topo")
    done = subprocess.run(command, input="<" + " " * (9 << 20), capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1 and "larger than the allowed 8388608 bytes" in done.stderr


def test_svg_is_xml(tmp_path):
    (tmp_path / "topo").write_text(NCCL)
    rc, text, _ = topology("--svg", tmp_path / "topo")
    texts = [e.text for e in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert rc == 0 and "GPU 0001:00:00.0" in texts and "h100-sxm5-80gb" in texts


def test_svg_boxes_hold_their_texts_and_do_not_overlap(tmp_path):
    group = '<pci busid="ffff:ff:{0:02x}.0" class="0x060400" vendor="0x1000" device="0xc030" link_speed="32.0 GT/s PCIe" link_width="16">' \
            '<pci busid="00{0:02x}:00:00.0" class="0x030200" vendor="0x10de" device="0x2330"/>' \
            '<pci busid="01{0:02x}:00:00.0" class="0x020700" vendor="0x15b3" device="0x1021"><nic><net name="a-very-long-name-of-a-device" speed="400000"/></nic></pci></pci>'
    (tmp_path / "topo").write_text('<system version="1">' + "".join(
        f'<cpu numaid="{n}">' + "".join(group.format(n * 4 + i) for i in range(4)) + "</cpu>" for n in range(2)) + "</system>")
    rc, text, _ = topology("--svg", tmp_path / "topo")
    space, svg = "{http://www.w3.org/2000/svg}", ET.fromstring(text)
    boxes = [tuple(int(e.get(k)) for k in ("x", "y", "width", "height")) for e in svg.iter(f"{space}rect")]
    assert rc == 0 and len(boxes) == 1 + 2 + 2 + 8 + 16
    assert all(x >= 0 and y >= 0 and x + w <= int(svg.get("width")) and y + h <= int(svg.get("height")) for x, y, w, h in boxes)
    for e in svg.iter(f"{space}text"):
        x, y = int(e.get("x")), int(e.get("y"))
        around = min((b for b in boxes if b[0] == x - 8 and b[1] < y <= b[1] + b[3]), key=lambda b: b[2] * b[3])
        assert 8 + len(e.text) * 6.7 <= around[2], e.text  # 11 px of a monospace font are at most so wide
    for i, a in enumerate(boxes):
        for b in boxes[i + 1:]:  # the inner box comes later
            apart = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]
            assert apart or (a[0] <= b[0] and a[1] <= b[1] and b[0] + b[2] <= a[0] + a[2] and b[1] + b[3] <= a[1] + a[3])


def test_this_machine():
    rc, text, err = topology("/sys")
    assert (rc, err) == (0, "") and text.split("\n")[1] == "socket 0"


def test_what_is_refused(tmp_path):
    (tmp_path / "twice").write_text(NCCL.replace("0101:00", "0001:00"))
    assert topology(tmp_path / "twice") == (
        1, "", f"nacre topology: {tmp_path}/twice: line 5: 0001:00:00.0: the address is there twice, first in line 4\n")
    assert topology(tmp_path) == (
        1, "", f"nacre topology: {tmp_path}: there is no sysfs: devices/system/cpu has no CPUs\n")
    assert topology(tmp_path / "none") == (1, "", f"nacre topology: `{tmp_path}/none`: No such file or directory\n")
    assert topology()[0] == 2
    assert topology("--json", "--svg", "/sys")[0] == 2
    assert topology("--matrix", "--svg", "/sys")[0] == 2
