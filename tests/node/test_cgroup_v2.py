# SPDX-License-Identifier: Apache-2.0
"""Control groups of version 2, as current hosts have them: src/node/test-cgroup-v2.c is the only program of a virtual
machine whose kernel has all controllers. The machine that runs the tests may have version 1."""

import gzip
import os

import pytest
from harness import BIN, IMAGES, output

PROGRAM = os.path.join(os.path.dirname(BIN), "node", "test-cgroup-v2")


def archive(files):
    """An initramfs, in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst ("newc")."""
    out = b""
    for i, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")]):
        fields = (i + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        out += head.ljust(-(-len(head) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")
    return out


def test_groups_of_version_2(tmp_path):
    if not os.path.exists(f"{IMAGES}/vmlinuz"):
        pytest.skip(f"no kernel in {IMAGES}; scripts/guest-image.sh makes it")
    with open(PROGRAM, "rb") as f:
        (tmp_path / "initrd").write_bytes(gzip.compress(archive([("init", 0o100755, f.read())]), 1))
    said = output("qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2",
                  "-m", "300", "-kernel", f"{IMAGES}/vmlinuz", "-initrd", tmp_path / "initrd", "-append",
                  "console=ttyS0 quiet panic=-1", "-serial", "stdio", "-no-reboot", stdin=-3)
    assert "all is ok" in said, said
