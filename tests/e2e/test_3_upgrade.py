# SPDX-License-Identifier: Apache-2.0
"""A cloud with running guests gets the programs of this build, one after the other, as packages replace them: no packet
is lost, and no guest is restarted. Only in `./dev test --all`, since it builds an older commit."""

import os
import shutil
import subprocess

import pytest
from conftest import BIN, KUBERNETES, Console, Lab, Ping, eventually, instance
from harness import ROOT, run
from test_2_disturb import kill_and_restart, qemu_pids

from scapy.layers.inet import ICMP, IP

# The new programs must adopt guests of this version.
OLDEST = os.environ.get("NACRE_UPGRADE_FROM", "dba7e5a6")
SOURCES = "/var/cache/nacre/upgrade"

pytestmark = [
    pytest.mark.skipif("NACRE_TEST_ALL" not in os.environ, reason="builds an older commit; in --all"),
    pytest.mark.skipif(KUBERNETES, reason="the lab of an older version is made with its own API server"),
]


def programs(directory):
    return sorted(f for f in os.listdir(directory) if f.startswith("nacre") and os.access(f"{directory}/{f}", os.X_OK)
                  and os.path.isfile(f"{directory}/{f}"))


@pytest.fixture(scope="module")
def old_programs():
    """The directory of the older version's programs, which is kept for the next run."""
    try:
        commit = run("git", "-C", ROOT, "rev-parse", "--verify", f"{OLDEST}^{{commit}}").stdout.strip()
    except subprocess.CalledProcessError:
        pytest.skip(f"this clone has no commit {OLDEST}; fetch the whole history")
    tree = f"{SOURCES}/{commit}"
    if not os.path.exists(f"{tree}/built"):
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(tree)
        archive = subprocess.Popen(["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE)
        run("tar", "-x", "-C", tree, stdin=archive.stdout)
        archive.stdout.close()
        assert archive.wait() == 0
        run("./dev", "build", cwd=tree, env={k: v for k, v in os.environ.items() if k != "NACRE_BUILD"}, timeout=900)
        open(f"{tree}/built", "w").close()
    return f"{tree}/build/src/cmd"


@pytest.fixture
def old_lab(old_programs, tmp_path):
    """A lab of the older version, whose programs can be replaced."""
    for name in programs(old_programs):
        shutil.copy2(f"{old_programs}/{name}", tmp_path / name)
    lab = Lab(f"u{os.getpid()}", hosts=2, program=str(tmp_path / "nacre"))
    lab.up()
    yield lab
    lab.down()


def replace_programs(lab):
    """Replaces the files as dpkg does: running processes keep the old file."""
    directory = os.path.dirname(lab.program)
    for name in programs(BIN):
        shutil.copy2(f"{BIN}/{name}", f"{directory}/{name}.new")
        os.replace(f"{directory}/{name}.new", f"{directory}/{name}")


def machines(lab, names):
    """What must not change: the process of each instance and its number of restarts."""
    found = {}
    for name in names:
        obj = lab.instance("demo", name)
        status = obj["status"]
        found[name] = (qemu_pids(lab, status["host"], obj["metadata"]["uid"]), status["phase"], status.get("restarts", 0))
    return found


def sends_from_its_slice(lab, name, configure=None):
    """The instance has a slice; its guest, configured by DHCP or by the commands CONFIGURE, sends from the slice's ports.
    (There are no answers: the older version's lab has no balancers.)"""
    eventually(f"{name} has a slice", 30, lambda: lab.instance("demo", name)["status"].get("portSlices"))
    status = lab.instance("demo", name)["status"]
    (part,) = status["portSlices"]
    console = Console(lab, f"demo/{name}")
    try:
        console.await_shell()
        if configure:
            console.run(f"{configure}; echo done-$((1+1))", "done-2")
        # A udhcpc that had no answer asks again after 20 s.
        eventually(f"{name}'s guest has an address", 60, lambda: "inet 192.0.0.2/32" in console.run(
            "ip -4 addr; echo shown-$((1+1))", "shown-2"), 0.5)

        def pings():
            with lab.capture(f"demo/{name}", "uplink", "icmp") as packets:
                console.run("ping -c 2 -W 1 192.0.2.1; echo sent-$((1+1))", "sent-2")
            return packets

        packets = eventually(f"{name}'s container translates", 30, pings)
    finally:
        console.close()
    assert all(p[IP].src == status["publicIPv4"] == part["address"] and part["firstPort"] <= p[ICMP].id <= part["lastPort"]
               for p in packets)


def test_upgrade(old_lab):
    lab = old_lab
    names = ["hello", "beside", "third"]
    lab.apply(*(instance(name) for name in names[1:]))
    lab.wait_ready("demo", *names)
    addresses = {name: lab.instance("demo", name)["status"]["address"] for name in names}
    for address in addresses.values():
        lab.await_answer("internet", address)
    before = machines(lab, names)
    assert all(len(pids) == 1 and phase == "Running" for pids, phase, _ in before.values()), before

    replace_programs(lab)
    pings = {name: Ping(lab, "internet", address) for name, address in addresses.items()}
    for daemon in ("apiserver", "controller", "host1", "edge1", "host2", "edge2"):
        kill_and_restart(lab, daemon)
        assert machines(lab, names) == before, daemon
    # If the two versions overwrote each other's changes, this would show within some turns of the loops.
    for ping in pings.values():
        ping.await_answers(500)
    assert machines(lab, names) == before
    for name, ping in pings.items():
        ping.stop()
        ping.note_gap(f"upgrade, {name}")
        assert ping.lost == [], f"{name}: lost {len(ping.lost)} of {ping.sent}, longest gap {ping.gap:.3f} s"

    # The new programs can do everything with guests of the old ones: add another guest, ...
    lab.apply(instance("new"))
    lab.wait_ready("demo", "new")
    addresses["new"] = lab.instance("demo", "new")["status"]["address"]
    lab.await_answer("internet", addresses["new"])
    # ... give all of them IPv4 when the first pool of shared addresses comes, ...
    names.append("new")
    before = machines(lab, names)
    pings = {name: Ping(lab, "internet", address) for name, address in addresses.items()}
    lab.apply({"apiVersion": "nacre.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "shared"},
               "spec": {"use": "shared", "prefix": "198.51.100.0/30", "quarantineSeconds": 0}})
    sends_from_its_slice(lab, "new")
    # An old nacre-vm, which runs as long as the guest, doesn't tell it.
    sends_from_its_slice(lab, "hello", "ip addr add 192.0.0.2/32 dev eth0; ip route add 169.254.0.1 dev eth0; "
                                       "ip route add default via 169.254.0.1")
    assert machines(lab, names) == before
    for name, ping in pings.items():
        ping.stop()
        ping.note_gap(f"IPv4 comes to {name}")
        assert ping.lost == [], f"{name}: lost {len(ping.lost)} of {ping.sent}, longest gap {ping.gap:.3f} s"
    # ... power off and on, delete completely.
    lab.kubectl("-n", "demo", "patch", "instance", "beside", "--type=merge", "-p", '{"spec":{"running":false}}')
    eventually("it is off", 60, lambda: lab.instance("demo", "beside")["status"]["phase"] == "Stopped")
    lab.kubectl("-n", "demo", "patch", "instance", "beside", "--type=merge", "-p", '{"spec":{"running":true}}')
    lab.wait_ready("demo", "beside")
    lab.await_answer("internet", addresses["beside"])
    sends_from_its_slice(lab, "beside")
    obj = lab.instance("demo", "third")
    lab.delete_instances("demo", "third")
    netns = f"nl-{lab.name}-{obj['status']['host']}-i-{obj['metadata']['uid'].replace('-', '')[:12]}"
    eventually("its container is gone", 30, lambda: netns not in os.listdir("/run/netns"))
