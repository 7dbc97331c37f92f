# SPDX-License-Identifier: Apache-2.0
"""The unit tests of src/service in a guest with Debian's own kernel (that of the guest image), whose verifier of BPF
programs is another than this machine's. Only with --all."""

import glob
import gzip
import os
import re
import shutil
import subprocess

import pytest
from harness import BIN, IMAGES, output

TESTS = ("test-balancer", "test-attach")
MODULES = ("udp_tunnel", "ip6_udp_tunnel", "veth", "vxlan", "sch_ingress", "cls_bpf")
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for m in %s; do /bin/busybox insmod /lib/$m.ko; done
for t in %s; do /bin/$t; echo "$t ended with $?"; done
/bin/busybox poweroff -f
""" % (" ".join(MODULES), " ".join(TESTS))

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.skipif(not os.environ.get("NACRE_TEST_ALL"), reason="only with --all")]


def make_initrd(root, to):
    for d in ("bin", "dev", "proc", "sys", "lib"):
        os.makedirs(f"{root}/{d}")
    for program in (*(f"{BIN}/../service/{t}" for t in TESTS), shutil.which("ip"), shutil.which("busybox")):
        shutil.copy(program, f"{root}/bin")
        for library in re.findall(r"/\S+\.so\S*", subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True).stdout):
            os.makedirs(root + os.path.dirname(library), exist_ok=True)
            shutil.copy(library, root + library)
    for m in MODULES:
        found = glob.glob(f"{IMAGES}/.cache/root/linux-image-*/lib/modules/*/kernel/**/{m}.ko", recursive=True)
        assert found, f"no module {m}"
        shutil.copy(max(found), f"{root}/lib")
    with open(f"{root}/init", "w") as f:
        f.write(INIT)
    os.chmod(f"{root}/init", 0o755)
    names = "\n".join(os.path.relpath(os.path.join(d, name), root) for d, dirs, files in os.walk(root) for name in [*dirs, *files])
    archive = subprocess.run(["cpio", "-o", "-H", "newc"], input=names.encode(), cwd=root, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=True).stdout
    with gzip.open(to, "wb", 1) as f:
        f.write(archive)


def test_service_on_debians_kernel(tmp_path):
    make_initrd(str(tmp_path / "root"), str(tmp_path / "initrd"))
    log = output("qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "2", "-nographic", "-no-reboot",
                 "-kernel", f"{IMAGES}/vmlinuz", "-initrd", str(tmp_path / "initrd"), "-append", "console=ttyS0 quiet panic=-1",
                 timeout=300, stdin=subprocess.DEVNULL)
    for t in TESTS:
        assert f"{t} ended with 0" in log, log
