# SPDX-License-Identifier: Apache-2.0
"""nacre-lb is killed at each of its calls of netlink and bpf(2) in the middle of a change, and starts again: the kernel
then has what it has after the change without a disturbance, and packets that the change doesn't concern go on."""

import contextlib
import ctypes
import json
import mmap
import os
import socket
import struct
import threading

import kernelstate
import pytest
from agentrig import GROUP
from harness import output as run, patient, until
from killcall import Change, KillCall, Rounds
from lbrig import ONE, THREE, TWO, Balancer
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from test_service import in_netns, router_mac

VTEP, EDGE, HOST, VNI = "fd5c::1", "fd5c::e", "fd5c::9", 4096
STAYS = "198.51.100.7"
# Kills of each change in a run of all tests.
MOST = 4
# src/bpf/balancer.h
WAYS, BUCKETS, BLOCK, SHARED = 8, 8192, 128, 2

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Stream:
    """Packets for a slice that stays: the balancer sends each back to the leaf, for the host of its owner."""

    def __init__(self, leaf, mac):
        self.sent, self.lost, self.stop = 0, [], threading.Event()
        self.head = bytes(Ether(src="02:00:00:00:00:ee", dst=mac) / IPv6(src=EDGE, dst=VTEP) / UDP(sport=5000, dport=4789) /
                          VXLAN(flags="Instance", vni=VNI) / Ether(src="02:00:00:00:00:ee", dst=router_mac(VTEP)) /
                          IP(src="203.0.113.99", dst=STAYS) / UDP(sport=9, dport=1100) / bytes(8))[:-8]
        self.socket = in_netns(leaf, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        self.socket.bind(("eth0", 0))
        self.thread = threading.Thread(target=self.send)
        self.thread.start()

    def comes_back(self, number):
        """Whether the packet comes back with another destination. The socket gets it as it is sent, too."""
        self.socket.settimeout(patient(1) / 20)
        with contextlib.suppress(TimeoutError):
            while True:
                data = self.socket.recv(4096)
                if data.endswith(number) and data[38:54] == socket.inet_pton(socket.AF_INET6, HOST):
                    return True
        return False

    def send(self):
        while not self.stop.wait(0.005):
            number = struct.pack("!Q", self.sent)
            self.socket.send(self.head + number)
            self.sent += 1
            if not self.comes_back(number):
                self.lost.append(number)

    def close(self):
        self.stop.set()
        self.thread.join()
        self.socket.close()


class Table:
    """The maps of the program on a NIC."""

    def __init__(self, netns):
        link, = json.loads(run("ip", "-n", netns, "-j", "-d", "link", "show", "eth0"))
        self.maps = {}
        program = json.loads(run("bpftool", "-j", "prog", "show", "id", str(link["xdp"]["prog"]["id"])))
        for number in program["map_ids"]:
            found = json.loads(run("bpftool", "-j", "map", "show", "id", str(number)))
            self.maps[found["name"]] = number

    def memory(self, name, size):
        fd = ctypes.CDLL("libbpf.so.1").bpf_map_get_fd_by_id(self.maps[name])
        assert fd >= 0
        try:
            with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as m:
                return m[:]
        finally:
            os.close(fd)

    def owners(self):
        """MAC and VTEP of each group of ports that has an owner, wherever in the maps they are."""
        found = {}
        owners, hosts = self.memory("owners", 8 << 21), self.memory("hosts", 24 * 65536)
        for address, block, shift, state in struct.iter_unpack("<4sHBB", self.memory("addresses", 8 * WAYS * BUCKETS)):
            for group in range(65536 >> shift if state == SHARED else 0):
                mac, host = struct.unpack_from("<6sH", owners, 8 * (block * BLOCK + group))
                if host:
                    port = f"{socket.inet_ntoa(address)}:{group << shift}"
                    found[port] = [mac.hex(), hosts[24 * host:24 * host + 16].hex()]
        return found

    def prefixes(self):
        return sorted(str(e["key"]) for e in json.loads(
            run("bpftool", "-j", "map", "dump", "id", str(self.maps["prefixes"]))))


class Rig(Balancer):
    def __init__(self):
        super().__init__()
        self.killcall = KillCall(self.dir, "nacre-lb")

    def start_lb(self, sock):
        super().start_lb(sock, *self.killcall.argv())

    def stop(self):
        super().stop()
        self.killcall.close()

    # ---- what Rounds needs ----

    def process(self):
        return self.daemons["lb"]

    def restart(self):
        self.kill("lb")
        self.start_lb(self.sock)

    def state(self):
        table = Table(f"{self.host}-underlay")
        found = {"owners": table.owners(), "prefixes": table.prefixes(), "announced": self.announced()}
        for name in ("underlay", "public"):
            for section, value in kernelstate.of_netns(f"{self.host}-{name}", in_netns).items():
                found[f"{section} of {name}"] = value
        return found

    # ---- what changes are done ----

    def owns(self, address):
        return f"{address}:1024" in Table(f"{self.host}-underlay").owners()

    def appear(self):
        self.post("endpoints", "Endpoint", "new", {
            "host": "h8", "vtep": "fd5c::8", "ip": "2001:db8:9::8", "mac": "02:00:00:00:00:08",
            "routes": [{"prefix": "2001:db8:8::/64"},
                       {"prefix": "198.51.100.9/32", "firstPort": 1024, "lastPort": 1535},
                       {"prefix": "203.0.113.9/32", "firstPort": 1024, "lastPort": 1087}]})

    def routes(self):
        return run("ip", "-n", f"{self.host}-public", "-6", "route")


@pytest.fixture(scope="module")
def rig():
    r = Rig()
    try:
        r.start()
        run("ip", "-n", f"{r.prefix}leaf", "link", "set", "eth0", "up")
        until("the program runs", lambda: "xdp" in run("ip", "-n", f"{r.host}-underlay", "-d", "link", "show", "eth0"))
        yield r
    finally:
        r.stop()


@pytest.fixture
def rounds(rig):
    """Runs changes, of which each takes back the one before, and looks whether packets are lost."""
    def run_rounds(*changes):
        link, = json.loads(run("ip", "-n", f"{rig.host}-underlay", "-j", "link", "show", "eth0"))
        stream = Stream(f"{rig.prefix}leaf", link["address"])
        try:
            counts = Rounds(rig, *changes).run(MOST, 0.5)
        finally:
            stream.close()
        print(*(f"{change.name}: {count} calls;" for change, count in zip(changes, counts)), f"{stream.sent} packets")
        assert not stream.lost and stream.sent > 10

    return run_rounds


def test_endpoint(rig, rounds):
    rounds(Change("an Endpoint appears", rig.appear, lambda: rig.owns("203.0.113.9") and "2001:db8:8::/64" in rig.routes()),
           Change("an Endpoint goes", lambda: rig.delete("endpoints/new"),
                  lambda: not rig.owns("203.0.113.9") and "2001:db8:8::/64" not in rig.routes()))


def test_pool(rig, rounds):
    rounds(Change("a pool appears", lambda: rig.pool("three", THREE), lambda: rig.announced() == sorted([ONE, TWO, THREE])),
           Change("a pool goes", lambda: rig.delete("addresspools/three"), lambda: rig.announced() == sorted([ONE, TWO])))


def test_start(rig, rounds):
    rounds(Change("nacre-lb starts", rig.restart, lambda: rig.is_ready(rig.metrics)))
