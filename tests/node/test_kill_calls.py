# SPDX-License-Identifier: Apache-2.0
"""The agent is killed at each of its calls of netlink in the middle of a change, and starts again: the kernel then has
what it has after the change without a disturbance, and flows that the change doesn't concern lose no packet. The test
plays the controller, and the guest: a namespace whose device is connected to the instance's tap."""

import contextlib
import json
import os
import re
import select
import socket
import threading

import kernelstate
import leftovers
import netns
import pytest
from harness import patient
from killcall import Change, KillCall, Rounds
from nodelib import GROUP, Guest, cloud, images, inside, open_tap, run, until  # noqa: F401 (two are fixtures)
from pings import Ping

SHARED, FAR, FAR6, PRIVATE = "198.51.100.3", "192.0.2.1", "2001:db8:9::1", "192.0.0.2"
FIRST, SECOND, THIRD = ({"address": SHARED, "firstPort": n, "lastPort": n + 63} for n in (1024, 1088, 1152))
SSH = {"protocol": "tcp", "address": SHARED, "port": 1030, "targetPort": 22}
DNS = {"protocol": "udp", "address": SHARED, "port": 1031, "targetPort": 53}
PING, WEB = {"protocol": "icmp"}, {"protocol": "tcp", "port": 80}
INSTANCES = f"{GROUP}/namespaces/t/instances"
MERGE = "application/merge-patch+json"
# Kills of each change in a run of all tests.
MOST = 2


def link_local(mac):
    b = bytes.fromhex(mac.replace(":", ""))
    return f"fe80::{b[0] ^ 2:x}{b[1]:02x}:{b[2]:x}ff:fe{b[3]:02x}:{b[4]:x}{b[5]:02x}"


class Wire:
    """Connects the guest's end of the instance's tap with a tap in the guest's namespace."""

    def __init__(self, *ends):
        self.ends, self.stop = ends, threading.Event()
        self.thread = threading.Thread(target=self.carry)
        self.thread.start()

    def carry(self):
        other = dict(zip(self.ends, reversed(self.ends)))
        while not self.stop.is_set():
            for fd in select.select(self.ends, [], [], 0.05)[0]:
                with contextlib.suppress(BlockingIOError):
                    os.write(other[fd], os.read(fd, 65536))

    def close(self):
        self.stop.set()
        self.thread.join()
        for fd in self.ends:
            os.close(fd)


class Stream:
    """One UDP flow of the guest through a slice: a question after the other, each of which is answered in time."""

    def __init__(self, guest, far):
        self.asked, self.lost, self.peer, self.stop = 0, [], None, threading.Event()
        self.client = inside(guest, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.server = inside(far, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.server.bind((FAR, 53))
        self.client.bind((PRIVATE, 5000))
        self.client.connect((FAR, 53))
        self.thread = threading.Thread(target=self.talk)
        for s in (self.client, self.server):
            s.settimeout(patient(1) / 20)
        self.thread.start()

    def ask(self, question):
        """Whether it is answered, and came from the address and port from which all others came."""
        try:
            self.client.send(question)
            got, peer = self.server.recvfrom(100)
            self.peer = self.peer or peer
            self.server.sendto(got, peer)
            return self.client.recv(100) == question and peer == self.peer and peer[0] == SHARED
        except OSError:
            return False

    def talk(self):
        while not self.stop.wait(0.005):
            question = str(self.asked).encode()
            self.asked += 1
            if not self.ask(question):
                self.lost.append(question)

    def close(self):
        self.stop.set()
        self.thread.join()
        self.client.close()
        self.server.close()


class Rig:
    def __init__(self, cloud):
        self.cloud, self.killcall = cloud, KillCall(cloud.dir, "nacre-node")
        cloud.kill("node")
        cloud.node_options = ("--accel=tcg",)
        cloud.start_node(*self.killcall.argv())
        cloud.create("off", "lab", running=False, ingress=[PING])
        self.guest = cloud.wait("off", "Stopped")
        cloud.kill("controller")
        self.made = None
        self.far, self.inner = f"{cloud.prefix}far", f"{cloud.prefix}guest"
        self.give(portSlices=[FIRST], publicIPv4=SHARED)
        self.outside()
        self.inside()

    def outside(self):
        public = self.cloud.public
        run("ip", "netns", "add", self.far)
        run("ip", "-n", self.far, "link", "add", "eth0", "type", "veth", "peer", "name", "test", "netns", public)
        for where, device, n in ((public, "test", "fe"), (self.far, "eth0", "1")):
            run("ip", "-n", where, "addr", "add", f"2001:db8:9::{n}/64", "dev", device, "nodad")
            run("ip", "-n", where, "addr", "add", f"192.0.2.{int(n, 16)}/24", "dev", device)
            run("ip", "-n", where, "link", "set", device, "up")
        # Other tests may fill the kernel's table of neighbours, which all namespaces share.
        for where, device, peer, n in ((public, "test", self.far, "1"), (self.far, "eth0", public, "fe")):
            other = json.loads(run("ip", "-n", peer, "-j", "link", "show", "eth0" if device == "test" else "test"))[0]
            for address in (f"2001:db8:9::{n}", f"192.0.2.{int(n, 16)}"):
                run("ip", "-n", where, "neigh", "add", address, "lladdr", other["address"], "nud", "permanent",
                    "dev", device)
        run("ip", "-n", self.far, "-6", "route", "add", "default", "via", "2001:db8:9::fe")
        run("ip", "-n", self.far, "route", "add", "default", "via", "192.0.2.254")

    def inside(self):
        run("ip", "netns", "add", self.inner)
        tap = inside(self.inner, lambda: open_tap("eth0"))
        self.wire = Wire(inside(self.guest.netns, lambda: open_tap("tap")), tap)

        def ip(*argv):
            run("ip", "-n", self.inner, *argv)
        ip("link", "set", "eth0", "address", self.guest.mac, "up")
        ip("addr", "add", f"{self.guest.address}/64", "dev", "eth0", "nodad")
        ip("addr", "add", f"{PRIVATE}/32", "dev", "eth0")
        for gateway in ("fe80::1", "169.254.0.1"):
            ip("neigh", "add", gateway, "lladdr", "00:00:5e:00:02:01", "nud", "permanent", "dev", "eth0")
        ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
        ip("route", "add", "169.254.0.1", "dev", "eth0")
        ip("route", "add", "default", "via", "169.254.0.1")
        # What a balancer and the program that delivers its frames do.
        mac = self.guest.mac
        run("ip", "-n", self.cloud.public, "neigh", "replace", link_local(mac), "lladdr", mac, "nud", "permanent",
            "dev", self.guest.device)
        run("ip", "-n", self.cloud.public, "route", "replace", SHARED, "via", "inet6", link_local(mac),
            "dev", self.guest.device)

    def close(self):
        self.wire.close()
        self.killcall.close()
        self.cloud.start_controller()
        self.cloud.delete("off")

    # ---- what Rounds needs ----

    def process(self):
        return self.cloud.daemons["node"]

    def restart(self):
        self.cloud.kill("node")
        self.cloud.start_node(*self.killcall.argv())

    def state(self):
        """Names of the instance that is made and deleted don't depend on its uid."""
        found = {"namespaces": [n for n in os.listdir(netns.DIRECTORY) if n.startswith(self.cloud.prefix)],
                 "control groups": leftovers.cgroups(self.cloud.prefix),
                 "folders": os.listdir(f"{self.cloud.dir}/h1/instances"),
                 "endpoints": [(e["metadata"]["name"], str(e["spec"])) for e in self.endpoints()],
                 "connections cut": not self.strays()}
        for name in (self.cloud.public, self.guest.netns, self.made and self.made.netns):
            if name and netns.is_usable(name):
                for section, value in kernelstate.of_netns(name, inside).items():
                    found[f"{section} of {name}"] = value
        text = json.dumps(found, sort_keys=True)
        if self.made:
            text = text.replace(self.made.uid, "UID").replace(self.made.id, "ID")
        return {k: sorted(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}

    # ---- the API ----

    def request(self, method, path, body=None):
        status, data = self.cloud.request(method, path, body, MERGE if method == "PATCH" else "application/json")
        assert status in (200, 201), data
        return data

    def give(self, name="off", **status):
        self.request("PATCH", f"{INSTANCES}/{name}/status", {"status": status})

    def endpoints(self):
        return self.request("GET", f"{GROUP}/endpoints")["items"]

    def announced(self):
        return [r["firstPort"] for e in self.endpoints() if e["metadata"]["name"] == f"i-{self.guest.uid}"
                for r in e["spec"]["routes"] if "firstPort" in r]

    # ---- the container ----

    def rules(self):
        return run("nsenter", f"--net=/run/netns/{self.guest.netns}", "nft", "-s", "list", "ruleset")

    def has_one_firewall(self):
        """While the rules are being replaced there are two tables."""
        return self.rules().count("table inet nacre_firewall") == 1

    def strays(self):
        """Connections of the second slice, if the instance doesn't have it."""
        return [] if len(self.cloud.instance("off")["status"]["portSlices"]) > 1 else self.connections_of_second()

    def connections_of_second(self):
        with inside(self.guest.netns, lambda: open("/proc/thread-self/net/nf_conntrack", encoding="ascii")) as f:
            return [line for line in f if any(1088 <= int(port) <= 1151 for port in re.findall(r"dport=(\d+)", line))]

    def use_both_slices(self):
        with inside(self.inner, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as s:
            s.bind((PRIVATE, 0))
            s.sendto(b"x", (FAR, 9))

    # ---- the other instance ----

    def make(self):
        spec = {"type": "small", "image": "lab", "running": False, "ingress": [WEB]}
        off = self.cloud.instance("off")
        status = {k: v for k, v in off["status"].items()
                  if k in ("host", "vcpus", "memoryMiB", "address", "prefix", "delegatedPrefix", "overlayAddress", "mac")}
        status |= {"mac": "02:4e:01:00:99:99", "prefix": "2001:db8:1000:99::/64", "address": "2001:db8:1000:99::15",
                   "delegatedPrefix": "2001:db8:2000:90::/60", "overlayAddress": "fd10::99",
                   "portSlices": [THIRD], "publicIPv4": SHARED}
        self.request("POST", INSTANCES, {
            "apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "spec": spec,
            "metadata": {"name": "made", "finalizers": off["metadata"]["finalizers"]}})
        self.give("made", **status)
        self.made = Guest(self.cloud, self.cloud.instance("made"))

    def is_made(self):
        return self.cloud.ready("made").get("reason") == "Stopped" and \
            f"i-{self.made.uid}" in [e["metadata"]["name"] for e in self.endpoints()]

    def delete(self):
        self.request("DELETE", f"{INSTANCES}/made")

    def is_deleted(self):
        obj = self.cloud.instance("made")
        if obj and obj["status"].get("phase") == "Removed":
            # The controller would give its addresses to another instance now.
            assert self.made.netns not in os.listdir(netns.DIRECTORY)
            self.request("PATCH", f"{INSTANCES}/made", {"metadata": {"finalizers": None}})
        return not obj


@pytest.fixture(scope="module")
def rig(cloud):
    r = Rig(cloud)
    try:
        yield r
    finally:
        r.close()


@pytest.fixture
def rounds(rig):
    """Runs changes, of which each takes back the one before, and looks whether the flows lose anything."""
    def run_rounds(phase, *changes):
        stream = Stream(rig.inner, rig.far)
        pings = Ping(["ip", "netns", "exec", rig.far], rig.guest.address)
        settled = [Change(c.name, c.do, lambda c=c: c.is_done() and rig.has_one_firewall()) for c in changes]
        try:
            counts = Rounds(rig, *settled).run(MOST, phase)
        finally:
            pings.stop()
            stream.close()
        print(*(f"{change.name}: {count} calls;" for change, count in zip(changes, counts)),
              f"{pings.sent} pings, {stream.asked} questions")
        assert pings.lost == []
        assert not stream.lost and stream.asked > 10

    return run_rounds


def test_forward(rig, rounds):
    def has_rule(forward):
        return f"dport {forward['port']} dnat" in rig.rules()

    rig.give(forwards=[SSH])
    rounds(0.0, Change("a forward is added", lambda: rig.give(forwards=[SSH, DNS]), lambda: has_rule(DNS)),
           Change("a forward is withdrawn", lambda: rig.give(forwards=[SSH]), lambda: not has_rule(DNS)))


def test_slice(rig, rounds):
    def take():
        until("there are connections of the second slice", lambda: rig.use_both_slices() or rig.connections_of_second())
        rig.give(portSlices=[FIRST])

    def is_taken():
        if rig.announced() != [1024]:
            return False
        # The controller would give it to another instance now.
        assert "1088-1151" not in rig.rules() and not rig.strays()
        return True

    rounds(0.125, Change("a slice is added", lambda: rig.give(portSlices=[FIRST, SECOND]),
                  lambda: rig.announced() == [1024, 1088] and "1088-1151" in rig.rules()),
           Change("a slice is withdrawn", take, is_taken))


def test_ingress(rig, rounds):
    def has_web():
        return "tcp . 80 " in rig.rules()

    rounds(0.25, Change("ingress is opened", lambda: rig.cloud.patch("off", {"ingress": [PING, WEB]}), has_web),
           Change("ingress is closed", lambda: rig.cloud.patch("off", {"ingress": [PING]}), lambda: not has_web()))


def test_instance(rig, rounds):
    rounds(0.375, Change("an instance is made", rig.make, rig.is_made),
           Change("an instance is deleted", rig.delete, rig.is_deleted))


def test_start(rig, rounds):
    rounds(0.5, Change("the agent starts", rig.restart, lambda: rig.cloud.is_ready(f"{rig.cloud.dir}/node.sock")))
