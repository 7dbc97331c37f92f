# SPDX-License-Identifier: Apache-2.0
"""The operator and the agent's own probe decide whether guests run with KVM; guests and images don't."""

import os
import signal
import stat
import subprocess
import time

import leftovers
import netns
import pytest
from harness import ROOT, output
from nodelib import GROUP, cloud, images, until  # noqa: F401 (two are fixtures)

QEMU = "qemu-system-x86_64"


def cache(cloud):
    return f"{cloud.dir}/h1/kvm"


def restart(cloud, *options):
    if "node" in cloud.daemons:
        cloud.kill("node")
    cloud.node_options = options
    cloud.start_node()
    cloud.wait_node()


@pytest.fixture(scope="module")
def halting(cloud):
    with open(f"{cloud.images}/halt", "wb") as f:
        f.write(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    cloud.post(f"{GROUP}/images", "Image", "halt", {"disk": {"file": "halt", "format": "raw", "firmware": "bios"}})
    yield "halt"
    restart(cloud, "--accel=auto")


def test_the_unit_file_has_kvm_or_nothing():
    with open(f"{ROOT}/deploy/systemd/nacre-node.service") as f:
        (start,) = [l for l in f if l.startswith("ExecStart=")]
    assert " --accel kvm " in start


def test_the_probe_decides_before_any_guest(cloud):
    """The result is there before any instance, and nothing is left of the probe."""
    cloud.wait_node()
    if not os.path.exists("/dev/kvm"):
        pytest.skip("no /dev/kvm, so nothing is probed")
    assert stat.S_IMODE(os.stat(cache(cloud)).st_mode) == 0o600
    assert not os.path.exists(f"{cloud.dir}/h1/kvm-probe")
    assert netns.is_gone(f"{cloud.host}-kvm-probe") and leftovers.cgroups(f"{cloud.host}-kvm-probe") == []


def test_a_killed_agent_leaves_no_probe(cloud, halting):
    """The next agent removes the probe, whatever its --accel says."""
    name = f"{cloud.host}-kvm-probe"
    for accel in ("tcg", "auto"):
        cloud.wait_node()
        cloud.kill("node")
        os.mkdir(f"{cloud.dir}/h1/kvm-probe")
        output("ip", "netns", "add", name)
        restart(cloud, f"--accel={accel}")
        assert not os.path.exists(f"{cloud.dir}/h1/kvm-probe") and netns.is_gone(name)


def test_not_known_is_no_answer(cloud, halting, tmp_path):
    """A probe that is killed gives no result: software emulation is not chosen, and nothing is stored."""
    if not os.path.exists("/dev/kvm"):
        pytest.skip("no /dev/kvm, so nothing is probed")
    cloud.wait_node()
    cloud.kill("node")
    os.unlink(cache(cloud))
    dies = tmp_path / "dies"
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    dies.chmod(0o755)
    agent = subprocess.run([*cloud.node_argv(), f"--vm-program={dies}"], capture_output=True, text=True, timeout=120,
                           check=False)
    assert agent.returncode == 1 and "whether KVM works is not known" in agent.stderr
    assert not os.path.exists(cache(cloud))
    restart(cloud, "--accel=auto")
    assert os.path.exists(cache(cloud))


def test_no_image_is_asked(cloud, halting):
    """With a stored result an instance neither starts a probe nor changes the result."""
    cloud.wait_node()
    if not os.path.exists("/dev/kvm"):
        pytest.skip("no /dev/kvm, so nothing is probed")
    with open(cache(cloud)) as f:
        answer = f.read()
    cloud.create("first", halting)
    g = cloud.wait("first", "Running")
    (pid,) = g.pids(QEMU)
    with open(f"/proc/{pid}/cmdline") as f:
        argv = f.read().split("\0")
    tcg = argv[argv.index("-accel") + 1].startswith("tcg")
    assert tcg == (len(answer.splitlines()) > 1)
    with open(cache(cloud)) as f:
        assert f.read() == answer
    assert [f for f in os.listdir(f"{cloud.dir}/h1") if f.startswith("kvm")] == ["kvm"]
    cloud.delete("first")


def test_an_error_brings_no_software_emulation(cloud, halting):
    """With --accel kvm a machine that fails starts again with KVM, or not at all."""
    if not os.path.exists("/dev/kvm"):
        pytest.skip("no /dev/kvm")
    restart(cloud, "--accel=kvm")
    cloud.create("kvm", halting)
    started = until("it was started twice, or runs", lambda: (
        [m for r, m in cloud.events("kvm") if r == "Started"] if cloud.ready("kvm").get("reason") == "Running" or
        (cloud.instance("kvm").get("status", {}).get("restarts", 0) > 1) else None))
    assert set(started) == {"started with KVM"}
    cloud.delete("kvm")


def test_nothing_is_ready_while_it_is_not_known(cloud, halting, tmp_path):
    """Neither the host, which else would be given instances, nor those that it has: these say what they wait for."""
    if not os.path.exists("/dev/kvm"):
        pytest.skip("no /dev/kvm, so nothing is probed")
    restart(cloud, "--accel=auto")
    cloud.create("waits", halting)
    g = cloud.wait("waits", "Running")
    cloud.kill("node")
    for pid in g.init():
        os.kill(pid, signal.SIGKILL)
    os.unlink(cache(cloud))
    cloud.request("DELETE", f"{GROUP}/hosts/h1")
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep infinity\n")
    endless.chmod(0o755)
    cloud.node_options = ("--accel=auto", f"--vm-program={endless}")
    cloud.start_node()
    until("the instance says what it waits for", lambda: "KVM" in cloud.ready("waits").get("message", ""))
    until("the host registers", lambda: cloud.request("GET", f"{GROUP}/hosts/h1")[0] == 200)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert not cloud.request("GET", f"{GROUP}/hosts/h1")[1].get("status", {}).get("conditions")
    restart(cloud, "--accel=auto")
    until("the host is ready", lambda: cloud.request("GET", f"{GROUP}/hosts/h1")[1]["status"]["conditions"][0]["reason"] == "AgentReady")
    cloud.wait("waits", "Running")
    cloud.delete("waits")
