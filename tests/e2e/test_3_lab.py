# SPDX-License-Identifier: Apache-2.0
"""The lab's own behaviour, and which places can't be reached from which."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import IMAGES, NACRE, Console, Lab, Ping, Snapshot, eventually, instance, run
from harness import patient

from scapy.layers.inet6 import IPv6

INTERNET = "2001:db8:ffff::1"


@pytest.fixture
def console(lab, hello):
    c = Console(lab, "demo/hello")
    yield c
    c.close()


def test_console(console):
    assert "answer-42" in console.run("echo answer-$((6*7))", "answer-42")


def test_console_without_input(lab, console):
    """It prints what the console has said until then, and ends."""
    console.run("echo said-$((6*7))", "said-42")
    for _ in range(5):
        assert "said-42" in run(lab.program, "console", "--name", lab.name, "demo/hello", stdin=subprocess.DEVNULL).stdout


def test_spoofed_sources_are_dropped(lab, hello, console):
    """Packets with the guest's own address leave; packets with another, even another instance's, don't."""
    host, address = hello["status"]["host"], hello["status"]["address"]
    lab.await_answer("internet", address)
    fakes = ["2001:db8:bad::1", "2001:db8:1000:ffff::1", "fd4e::1:1"]
    with lab.capture(f"{host}/public", "any", f"icmp6 and dst host {INTERNET}") as packets:
        for fake in fakes:
            console.run(f"ip -6 addr add {fake}/128 dev lo nodad; ping -6 -c 2 -W 1 -I {fake} {INTERNET}; "
                        "echo done-$((1+1))", "done-2")
            console.run(f"ip -6 addr del {fake}/128 dev lo; echo done-$((1+2))", "done-3")
        console.run(f"ping -6 -c 2 -W 2 {INTERNET}; echo done-$((2+2))", "done-4")
    sources = {p[IPv6].src for p in packets}
    assert address in sources
    assert not sources & set(fakes)


def test_our_own_addresses_do_not_come_from_outside(lab, hello, cleanup):
    """Packets from outside with an address of an instance or of a pool are dropped, even if a guest allows that
    source."""
    cleanup += ["shy"]
    other = hello["status"]["prefix"]
    lab.apply(instance("shy", ingress=[{"protocol": "udp", "port": 7, "from": other},
                                       {"protocol": "udp", "port": 7, "from": f"{INTERNET}/128"}]))
    lab.wait_ready("demo", "shy")
    status = lab.instance("demo", "shy")["status"]
    fakes = [other.replace("/64", "99"), "2001:db8:1000:ffff::1", "2001:db8:40ff::1", "2001:db8:0:1::77"]
    knock = ("import socket, sys\n"
             "for source in sys.argv[2:]:\n"
             "    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
             "    s.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND\n"
             "    s.bind((source, 0))\n"
             "    for _ in range(20):\n"
             "        s.sendto(b'knock', (sys.argv[1], 7))\n")
    with lab.capture(f"{status['host']}/public", "any", f"udp and dst host {status['address']}") as packets:
        lab.exec("internet", "/usr/bin/python3", "-c", knock, status["address"], *fakes, INTERNET)
    assert {p[IPv6].src for p in packets} == {INTERNET}


def test_underlay_is_out_of_reach(lab, hello):
    host = hello["status"]["host"]
    vteps = [h["spec"]["vtep"] for h in lab.items("hosts")]
    # In the underlay these addresses answer.
    assert lab.answers(f"{host}/underlay", vteps[0])
    for place in [host, f"{host}/public", "edge1", "edge1/public", "internet"]:
        for vtep in vteps:
            assert not lab.answers(place, vtep), f"{vtep} answers {place}"


def test_underlay_from_guest(lab, hello, console):
    for vtep in [h["spec"]["vtep"] for h in lab.items("hosts")][:2]:
        out = console.run(f"ping -6 -c 1 -W 1 {vtep} >/dev/null && echo reach-$((1+0)) || echo reach-$((0+0))", "reach-")
        assert "reach-1" not in out


def test_wrong_use(lab):
    for argv, words in [
        (["lab", "up", "--hosts", "99"], "--hosts"),
        (["lab", "up", "--name", "no-good"], "--name"),
        (["lab", "frobnicate"], "frobnicate"),
        (["lab", "up", "--nonsense"], "--nonsense"),
        (["lab", "exec", "--name", lab.name, "internet"], "no command"),
    ]:
        result = run(NACRE, *argv, check=False)
        assert result.returncode == 2 and words in result.stderr, (argv, result)
    for argv, words in [
        (["lab", "exec", "--name", lab.name, "mars", "--", "true"], "no place `mars`"),
        (["lab", "exec", "--name", lab.name, "demo/nobody", "--", "true"], "nobody"),
        (["lab", "restart", "--name", lab.name, "host77"], "host77"),
        (["lab", "status", "--name", "nosuchlab"], "there is no lab `nosuchlab`"),
        (["lab", "up", "--name", "x", "--images", "/nonexistent"], "guest-image.sh"),
    ]:
        result = run(NACRE, *argv, check=False)
        assert result.returncode == 1 and words in result.stderr, (argv, result)


@contextlib.contextmanager
def another(lab, suffix, hosts=1):
    other = Lab(lab.name[:9] + suffix, hosts=hosts)
    before = Snapshot()
    try:
        yield other
    finally:
        other.down()
    assert Snapshot().left_behind(before, other.name) == {}


def test_two_labs_side_by_side(lab, hello):
    address = hello["status"]["address"]
    ping = Ping(lab, "internet", address, interval=0.02)
    with another(lab, "b") as other:
        result = other.up()
        assert "answers from the internet" in result.stdout
        # The same addresses in another lab.
        assert other.instance("demo", "hello")["metadata"]["uid"] != hello["metadata"]["uid"]
        assert other.answers("internet", other.instance("demo", "hello")["status"]["address"])
    ping.stop()
    assert ping.lost == []


def test_failed_up_cleans_up(lab, tmp_path):
    """A controller that ends at once: the error names the step and the log, and nothing is left but the logs."""
    directory = os.path.dirname(NACRE)
    shutil.copy(NACRE, tmp_path / "nacre")
    for program in ("nacre-apiserver", "nacre-node", "nacre-edge", "nacre-lb", "nacre-vm"):
        os.symlink(os.path.join(directory, program), tmp_path / program)
    (tmp_path / "nacre-controller").write_text("#!/bin/sh\necho out of cheese; exit 7\n")
    (tmp_path / "nacre-controller").chmod(0o755)
    with another(lab, "c") as other:
        result = run(str(tmp_path / "nacre"), "lab", "up", "--name", other.name, "--hosts", "1", "--images", IMAGES,
                     check=False, timeout=120)
        assert result.returncode == 1
        assert "out of cheese" in result.stderr and "controller.log" in result.stderr
        (logs,) = [line.split()[-1].rstrip(".") for line in result.stderr.splitlines() if "its logs are in" in line]
        with open(f"{logs}/controller.log") as f:
            assert "out of cheese" in f.read()
        shutil.rmtree(logs)
        assert not os.path.exists(other.dir)


def test_interrupted_up_cleans_up(lab):
    with another(lab, "d") as other:
        process = subprocess.Popen([NACRE, "lab", "up", "--name", other.name, "--hosts", "1", "--images", IMAGES],
                                   stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for line in process.stderr:
            if "agents of hosts" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=patient(60)) == 1
        assert "interrupted" in rest
        assert not os.path.exists(other.dir)
        for line in rest.splitlines():
            if "its logs are in" in line:
                shutil.rmtree(line.split()[-1].rstrip("."))


def test_offers_debian(lab, tmp_path):
    """The directory of images has what ./dev image debian makes."""
    for name in ("vmlinuz", "initrd"):
        os.symlink(f"{IMAGES}/{name}", tmp_path / name)
    with another(lab, "g") as other:
        (tmp_path / "debian-12.qcow2").touch()
        other.up("--no-instance", "--images", str(tmp_path))
        (image,) = [i for i in other.items("images") if i["metadata"]["name"] == "debian-12"]
        assert image["spec"]["disk"]["file"] == "debian-12.qcow2"
        assert "medium" in [t["metadata"]["name"] for t in other.items("instancetypes")]


def test_down_from_a_wreck(lab):
    """All daemons are killed and the lab's files deleted: `down` finds the rest by name."""
    with another(lab, "f") as other:
        other.up("--no-instance")
        for daemon in ("apiserver", "controller", "edge1", "lb1", "host1"):
            os.kill(other.pid(daemon), signal.SIGKILL)
        for name in os.listdir(other.dir):
            if name.endswith((".pid", ".json")):
                os.unlink(os.path.join(other.dir, name))
        assert other.nacre("lab", "status", "--name", other.name, check=False).returncode == 1
        other.down()
        eventually("edge2's agent is gone", 5, lambda: not Snapshot().left_behind(NOTHING, f"/{other.name}/"))


class NOTHING:
    netns = links = files = mounts = processes = cgroups = frozenset()
