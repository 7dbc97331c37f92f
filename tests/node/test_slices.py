# SPDX-License-Identifier: Apache-2.0
"""What the agent makes of slices of shared addresses, and what it says about them. The test plays the controller, which
doesn't run, and the guest, whose machine is off."""

import os
import time

import pytest
from nodelib import GROUP, cloud, images, inside, open_packet, open_tap, run, until  # noqa: F401 (two are fixtures)
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

ADDRESS, FAR = "198.51.100.3", "192.0.2.1"
FIRST, SECOND = ({"address": ADDRESS, "firstPort": n, "lastPort": n + 63} for n in (1024, 1088))


class Slices:
    def __init__(self, cloud, guest):
        self.cloud, self.guest = cloud, guest
        self.tap = inside(guest.netns, lambda: open_tap("tap"))
        self.outer = inside(cloud.public, lambda: open_packet(guest.device))

    def close(self):
        os.close(self.tap)
        self.outer.close()

    def status(self):
        return self.cloud.instance("off")["status"]

    def give(self, *slices, **status):
        status = {"portSlices": slices, "publicIPv4": ADDRESS if slices else None, **status}
        code, data = self.cloud.request("PATCH", f"{GROUP}/namespaces/t/instances/off/status", {"status": status},
                                        "application/merge-patch+json")
        assert code == 200, data

    def announced(self):
        """The slices in the Endpoint; None if there is no Endpoint."""
        code, endpoint = self.cloud.request("GET", f"{GROUP}/endpoints/i-{self.guest.uid}")
        if code == 404:
            return None
        return [(r["firstPort"], r["lastPort"]) for r in endpoint["spec"]["routes"] if r["prefix"] == f"{ADDRESS}/32"]

    def is_announced(self, *slices):
        return self.announced() == [(s["firstPort"], s["lastPort"]) for s in slices]

    def use(self, ports, dst=FAR):
        for port in ports:
            os.write(self.tap, bytes(10) + bytes(Ether(src=self.guest.mac, dst="00:00:5e:00:02:01") /
                                                 IP(src="192.0.0.2", dst=dst) / UDP(sport=port, dport=9)))

    def left(self):
        """The public ports of what left the container since the last call."""
        time.sleep(0.1)
        found = []
        try:
            while True:
                p = Ether(self.outer.recv(65536, 0x40))  # MSG_DONTWAIT
                if IP in p and UDP in p and p[UDP].dport == 9:
                    assert p[IP].src == ADDRESS
                    found.append(p[UDP].sport)
        except BlockingIOError:
            return found

    def ports_condition(self):
        return next((c for c in self.status()["conditions"] if c["type"] == "PortsAvailable"), {})

    def metric(self, name):
        text = run("curl", "-s", "--unix-socket", f"{self.cloud.dir}/node.sock", "http://localhost/metrics")
        return int(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])


@pytest.fixture
def slices(cloud):
    if "controller" not in cloud.daemons:
        cloud.start_controller()
    cloud.create("off", "lab", running=False)
    s = Slices(cloud, cloud.wait("off", "Stopped"))
    cloud.kill("controller")
    yield s
    s.close()
    cloud.start_controller()
    cloud.delete("off")


def test_slices_are_used_announced_and_given_back(cloud, slices):
    assert not [s for s in slices.announced() if s]
    slices.give(FIRST, SECOND)
    until("both are announced", lambda: slices.is_announced(FIRST, SECOND))
    # The kernel has no route for a slice: balancers forward it.
    assert ADDRESS not in run("ip", "-n", cloud.public, "-4", "route")
    until("the container uses them", lambda: slices.use(range(5000, 5032)) or slices.left())
    slices.use(range(5100, 5140), "192.0.2.2")
    assert {port // 64 for port in slices.left()} == {16, 17}
    slices.give(FIRST)
    until("the second is withdrawn", lambda: slices.is_announced(FIRST))
    # By then the container has stopped to use it.
    slices.use(range(5100, 5140))
    assert {port // 64 for port in slices.left()} == {16}


def test_an_agent_that_cannot_change_the_container_withdraws_nothing(cloud, slices):
    """Otherwise the controller would give the slice to another instance while the container still uses it."""
    slices.give(FIRST, SECOND)
    until("both are announced", lambda: slices.is_announced(FIRST, SECOND))
    # The name of the container's network namespace is in the way: it leads to a namespace of another kind.
    path = f"/run/netns/{slices.guest.netns}"
    run("mount", "--bind", "/proc/self/ns/uts", path)
    try:
        slices.give(FIRST)
        until("the agent has tried", lambda: "NetworkFailed" in [r for r, _ in cloud.events("off")])
        assert slices.is_announced(FIRST, SECOND)
    finally:
        run("umount", path)
    until("the second is withdrawn", lambda: slices.is_announced(FIRST), 60)


def test_an_endpoint_that_is_lost_meanwhile_is_made_later(cloud, slices):
    """It would not have the slice that the container still uses, which would look as if it was given back."""
    slices.give(FIRST, SECOND)
    until("both are announced", lambda: slices.is_announced(FIRST, SECOND))
    path = f"/run/netns/{slices.guest.netns}"
    run("mount", "--bind", "/proc/self/ns/uts", path)
    try:
        slices.give(FIRST)
        until("the agent has tried", lambda: "NetworkFailed" in [r for r, _ in cloud.events("off")])
        assert cloud.request("DELETE", f"{GROUP}/endpoints/i-{slices.guest.uid}")[0] == 200
        # Nothing but the Endpoint waits: the status is written.
        slices.give(FIRST, phase="Running")
        until("the agent has written the status", lambda: slices.status()["phase"] != "Running")
        time.sleep(1)
        assert slices.announced() is None
    finally:
        run("umount", path)
    until("the first is announced", lambda: slices.is_announced(FIRST), 60)
    slices.use(range(5100, 5140))
    assert {port // 64 for port in slices.left()} == {16}


def test_a_container_that_was_not_told_withdraws_nothing(cloud, slices):
    """While an object that the Instance needs is missing, its container stays as it was."""
    slices.give(FIRST, SECOND)
    until("both are announced", lambda: slices.is_announced(FIRST, SECOND))
    _, image = cloud.request("GET", f"{GROUP}/images/lab")
    assert cloud.request("DELETE", f"{GROUP}/images/lab")[0] == 200
    try:
        time.sleep(1)
        slices.give(FIRST, phase="Running")
        until("the agent has written the status", lambda: slices.status()["phase"] != "Running")
        time.sleep(1)
        assert slices.is_announced(FIRST, SECOND)
    finally:
        cloud.post(f"{GROUP}/images", "Image", "lab", image["spec"])
    until("the second is withdrawn", lambda: slices.is_announced(FIRST))
    slices.use(range(5100, 5140))
    assert {port // 64 for port in slices.left()} == {16}


def test_a_busy_instance_asks_for_more_and_says_so(cloud, slices):
    slices.give(FIRST)
    until("it has one", lambda: slices.status().get("portSlicesWanted") == 1)
    assert slices.ports_condition()["status"] == "True"
    until("the metrics say so", lambda: slices.metric("nacre_node_ports") == 64)
    slices.use(range(5000, 5055))
    until("it wants two", lambda: slices.status()["portSlicesWanted"] == 2)
    assert slices.ports_condition()["status"] == "True"
    until("the metrics say so", lambda: slices.metric("nacre_node_ports_used") >= 50)
    slices.use(range(5060, 5100))
    until("it says that it has no more ports", lambda: slices.ports_condition()["status"] == "False")
    assert f"slice {ADDRESS}:1024-1087" in slices.ports_condition()["message"]
    assert "PortsExhausted" in [reason for reason, _ in cloud.events("off")]
    until("the metrics say so", lambda: slices.metric("nacre_node_connections_refused_total") > 20)
    version = cloud.instance("off")["metadata"]["resourceVersion"]
    slices.use(range(5100, 5200))
    time.sleep(6)  # a look
    assert cloud.instance("off")["metadata"]["resourceVersion"] == version, "no write without news"
