# SPDX-License-Identifier: Apache-2.0
"""The balancer and the delivery of frames between namespaces: kernel VXLAN devices at both ends, real sockets.
src/service/test-service does what its stdin says.

    client ── edge ── fabric ── balancer
                         └───── host ── public ── instance

The edge sends 198.51.100.0/24 to the balancer; the instance has ports 1024 to 1535 of 198.51.100.3."""

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
import time

import leftovers
import pytest
from harness import BIN, MORTAL, output as run, patient, until

BINARY = os.path.join(BIN, "../service/test-service")
VNI, EDGE, BALANCER, HOST = 77, "fd5c:a1ab::e", "fd5c:a1ab::b", "fd5c:a1ab::1"
SHARED, PORT, CLIENT, MAC = "198.51.100.3", 1100, "203.0.113.9", "02:00:00:00:00:01"
SLICE = f"{SHARED}:1024-1535"
HERE = "198.51.101.3"  # the edge sends it to the instance's host, which has a balancer, too
ETHTOOL_STXCSUM, SIOCETHTOOL = 0x17, 0x8946

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def router_mac(vtep):
    """As base/vtep.h says."""
    h = 0xCBF29CE484222325
    for b in socket.inet_pton(socket.AF_INET6, vtep):
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return ":".join(f"{b:02x}" for b in bytes([2]) + (h & 0xFFFFFFFFFF).to_bytes(5, "big"))


def in_netns(name, fn):
    """The result of FN in a thread that is in the namespace. Sockets that it opens stay there."""
    result = []

    def body():
        with open(f"/run/netns/{name}") as f:
            assert ctypes.CDLL(None).setns(f.fileno(), 0x40000000) == 0
        result.append(fn())

    t = threading.Thread(target=body)
    t.start()
    t.join()
    return result[0]


class Service:
    """test-service."""

    def __init__(self):
        self.process = subprocess.Popen([*MORTAL, BINARY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        answer = self.process.stdout.readline()
        assert answer.startswith("ok"), f"{command}: {answer}"
        return answer[3:].strip()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def counters(self):
        return {k: int(v) for k, v in (word.split("=") for word in self.say("counters").split())}


class Net:
    def __init__(self):
        self.prefix = f"ts{os.getpid()}-"
        self.services = []

    def name(self, ns):
        return self.prefix + ns

    def ip(self, ns, *argv):
        return run("ip", "-n", self.name(ns), *argv)

    def namespace(self, ns):
        run("ip", "netns", "add", self.name(ns))
        for key in ("net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.forwarding=1", "net.ipv4.ip_forward=1",
                    "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"):
            run("ip", "netns", "exec", self.name(ns), "sysctl", "-qw", key)
        self.ip(ns, "link", "set", "lo", "up")

    def cable(self, ns, number, vtep):
        """Connects `underlay` of a host with the fabric."""
        self.ip("fabric", "link", "add", ns, "mtu", "9000", "type", "veth",
                "peer", "name", "nic", "mtu", "9000", "netns", self.name(ns))
        self.ip("fabric", "link", "set", ns, "up")
        self.ip(ns, "link", "set", "nic", "up")
        self.ip("fabric", "addr", "add", f"fd00:{number}::1/64", "dev", ns, "nodad")
        self.ip(ns, "addr", "add", f"fd00:{number}::2/64", "dev", "nic", "nodad")
        self.ip(ns, "addr", "add", f"{vtep}/128", "dev", "lo")
        self.ip("fabric", "route", "add", vtep, "via", f"fd00:{number}::2", "dev", ns)
        self.ip(ns, "route", "add", "default", "via", f"fd00:{number}::1", "dev", "nic", "src", vtep)

    def overlay(self, underlay, public, vtep, peers):
        self.ip(underlay, "link", "add", "overlay", "address", router_mac(vtep), "mtu", "1500", "type", "vxlan", "id", str(VNI),
                "dstport", "4789", "local", vtep, "nolearning", "udp6zerocsumrx")
        if public != underlay:
            self.ip(underlay, "link", "set", "overlay", "netns", self.name(public))
        self.ip(public, "link", "set", "overlay", "up")
        for n, peer in enumerate(peers, 1):
            self.ip(public, "neigh", "add", f"fe80::{n}", "lladdr", router_mac(peer), "dev", "overlay", "nud", "permanent")
            run("bridge", "-n", self.name(public), "fdb", "add", router_mac(peer), "dev", "overlay", "dst", peer)

    def up(self):
        for ns in ("client", "edge", "fabric", "balancer", "host", "public", "instance"):
            self.namespace(ns)
        for number, (ns, vtep) in enumerate((("edge", EDGE), ("balancer", BALANCER), ("host", HOST)), 1):
            self.cable(ns, number, vtep)
        self.overlay("edge", "edge", EDGE, [BALANCER, HOST])
        self.overlay("host", "public", HOST, [EDGE])
        self.ip("edge", "route", "add", "198.51.100.0/24", "via", "inet6", "fe80::1", "dev", "overlay")
        self.ip("edge", "route", "add", "198.51.101.0/24", "via", "inet6", "fe80::2", "dev", "overlay")
        self.ip("public", "-4", "route", "add", "default", "via", "inet6", "fe80::1", "dev", "overlay")
        # The client sends through the edge, so that its TCP packets come there with unfinished checksums.
        self.ip("edge", "link", "add", "client", "type", "veth", "peer", "name", "eth0", "netns", self.name("client"))
        self.ip("edge", "addr", "add", "203.0.113.1/24", "dev", "client")
        self.ip("edge", "link", "set", "client", "up")
        self.ip("client", "addr", "add", f"{CLIENT}/24", "dev", "eth0")
        self.ip("client", "link", "set", "eth0", "up")
        self.ip("client", "route", "add", "default", "via", "203.0.113.1")
        self.ip("public", "link", "add", "i-1", "type", "veth", "peer", "name", "uplink", "address", MAC, "netns", self.name("instance"))
        self.ip("public", "addr", "add", "fe80::1/64", "dev", "i-1", "nodad")
        self.ip("public", "link", "set", "i-1", "up")
        self.ip("instance", "link", "set", "uplink", "up")
        for address in (SHARED, HERE):
            self.ip("instance", "addr", "add", f"{address}/32", "dev", "lo")
        self.ip("instance", "-4", "route", "add", "default", "src", SHARED, "via", "inet6", "fe80::1", "dev", "uplink")

    def down(self):
        for s in self.services:
            if s.process.poll() is None:
                s.kill()
        for line in run("ip", "netns", "list").splitlines():
            if line.startswith(self.prefix):
                run("ip", "netns", "del", line.split()[0])

    def service(self):
        s = Service()
        self.services.append(s)
        return s

    def balancer(self, look=True):
        s = self.service()
        s.found = s.say(f"balancer {self.name('balancer')} {BALANCER} {VNI} {'nic' if look else '-'}")
        return s

    def fill(self, s):
        s.say("begin")
        s.say("prefix 198.51.100.0/24")
        s.say(f"set {SLICE} {HOST} {MAC}")
        s.say("end")

    def delivery(self):
        s = self.service()
        s.say(f"deliver {self.name('public')} overlay")
        return s

    def fill_delivery(self, s):
        s.say("deliver-begin")
        index = in_netns(self.name("public"), lambda: socket.if_nametoindex("i-1"))
        s.say(f"put {MAC} {index}")
        s.say("deliver-end")
        s.say("deliver-attach")


@pytest.fixture(scope="module")
def net():
    n = Net()
    leftovers.claim("netns", n.prefix)
    try:
        n.up()
        yield n
    finally:
        n.down()


@pytest.fixture(scope="module")
def running(net):
    b, d = net.balancer(), net.delivery()
    assert b.found == "new"
    net.fill(b)
    assert b.say("attach nic generic") == "generic"
    net.fill_delivery(d)
    net.current, net.current_delivery = b, d
    return net


class Echo:
    """Answers each datagram to a port of the instance."""

    def __init__(self, net, address=SHARED):
        self.socket = in_netns(net.name("instance"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.bind((address, PORT))
        self.stopping = False
        self.thread = threading.Thread(target=self.body)
        self.thread.start()

    def body(self):
        while not self.stopping:
            if select.select([self.socket], [], [], 0.05)[0]:
                data, source = self.socket.recvfrom(2048)
                self.socket.sendto(data, source)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()
        self.socket.close()


class Flow:
    """Sends numbered datagrams all the time; .lost() says which weren't answered."""

    def __init__(self, net):
        self.socket = in_netns(net.name("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.connect((SHARED, PORT))
        self.sent, self.answered, self.stopping = 0, set(), False
        self.thread = threading.Thread(target=self.body)
        self.thread.start()

    def receive(self, wait):
        while select.select([self.socket], [], [], wait)[0]:
            self.answered.add(struct.unpack("!I", self.socket.recv(2048)[:4])[0])
            wait = 0

    def body(self):
        while not self.stopping:
            self.socket.send(struct.pack("!I", self.sent) + b"x" * 60)
            self.sent += 1
            self.receive(0.0005)

    def lost(self):
        self.stopping = True
        self.thread.join()
        deadline = time.monotonic() + 2
        while len(self.answered) < self.sent and time.monotonic() < deadline:
            self.receive(0.05)
        self.socket.close()
        return sorted(set(range(self.sent)) - self.answered)


def answers(net, address=SHARED):
    """Whether a datagram is answered."""
    s = in_netns(net.name("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    s.connect((address, PORT))
    s.send(b"ping")
    answered = bool(select.select([s], [], [], 0.2)[0])
    s.close()
    return answered


def transfer(net, size):
    """Sends SIZE bytes by TCP from the client to the instance, which sends them back."""
    listener = in_netns(net.name("instance"), lambda: socket.create_server((SHARED, PORT)))
    client = in_netns(net.name("client"), lambda: socket.socket())
    client.settimeout(patient(10))
    listener.settimeout(patient(10))
    data, back = os.urandom(size), []

    def serve():
        conn, _ = listener.accept()
        conn.settimeout(patient(10))
        got = b""
        while len(got) < size:
            got += conn.recv(1 << 20)
        conn.sendall(got)
        conn.close()

    server = threading.Thread(target=serve)
    server.start()
    client.connect((SHARED, PORT))
    client.sendall(data)
    while sum(map(len, back)) < size:
        back.append(client.recv(1 << 20))
        assert back[-1], "the connection ended early"
    server.join()
    client.close()
    listener.close()
    return b"".join(back) == data


def test_datagrams_and_tcp(running):
    """The kernel encapsulates, the balancer forwards, the delivery redirects; large packets and unfinished checksums too."""
    before = running.current.counters()
    with Echo(running):
        until("a datagram is answered", lambda: answers(running))
    assert transfer(running, 3_000_000)
    after = running.current.counters()
    assert after["forwarded"] > before["forwarded"]
    assert int(running.current_delivery.say("delivered")) > 10
    assert after["malformed"] == before["malformed"] == 0


def test_port_without_owner(running):
    """Packets that nobody owns are dropped at the balancer, not sent back to the edge."""
    before = running.current.counters()["no_owner"]
    s = in_netns(running.name("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for address, port in ((SHARED, 1536), ("198.51.100.4", PORT)):
        s.sendto(b"x", (address, port))
    s.close()
    until("both were counted", lambda: running.current.counters()["no_owner"] == before + 2)


def test_owner_on_the_same_host(running):
    """The balancer passes the packet to the stack of its own host, for the delivery."""
    b = running.service()
    b.say(f"balancer {running.name('host')} {HOST} {VNI} nic")
    b.say("prefix 198.51.101.0/24")
    b.say(f"set {HERE}:1024-1535 {HOST} {MAC}")
    b.say("attach nic generic")
    with Echo(running, HERE):
        until("a datagram is answered", lambda: answers(running, HERE))
    assert b.counters()["local"] > 0
    b.say("detach nic")


def test_icmp_error_reaches_the_sender(running):
    """The instance sends to a closed port of the client; its socket gets the client's error."""
    s = in_netns(running.name("instance"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    s.bind((SHARED, PORT))
    s.connect((CLIENT, 9))

    def refused():
        try:
            s.send(b"x")
            time.sleep(0.02)
            s.send(b"x")
        except ConnectionRefusedError:
            return True
        return False

    until("the socket is told that the port is closed", refused)
    s.close()


def test_nothing_is_lost_over_restarts(running):
    """Both processes are killed and started again, some with tables of their own, while packets flow."""
    with Echo(running):
        until("a datagram is answered", lambda: answers(running))
        flow = Flow(running)
        for i in range(6):
            sent = flow.sent
            until("packets flow", lambda: flow.sent > sent + 50)
            running.current.kill()
            running.current_delivery.kill()
            # Every other one doesn't look for tables, as a version with another layout doesn't.
            running.current, running.current_delivery = running.balancer(look=i % 2 == 0), running.delivery()
            assert running.current.found == ("adopted" if i % 2 == 0 else "new")
            running.fill(running.current)
            running.current.say("attach nic generic")
            running.fill_delivery(running.current_delivery)
        sent = flow.sent
        until("packets flow", lambda: flow.sent > sent + 50)
        lost = flow.lost()
    assert not lost, f"{len(lost)} of {flow.sent} lost"


def test_native(running):
    """In the driver. A veth then needs a peer with a program, and a sender whose NIC finishes checksums, as real ones do."""
    peer = running.service()
    peer.say(f"balancer {running.name('fabric')} fd00:ff::1 {VNI} -")  # passes everything
    assert peer.say("attach balancer native") == "native"

    def finish_checksums():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sP16x", b"nic", ctypes.addressof(value))
        fcntl.ioctl(s, SIOCETHTOOL, request)
        s.close()

    in_netns(running.name("edge"), finish_checksums)
    running.current.say("detach nic")
    assert running.current.say("attach nic native") == "native"
    before = running.current.counters()["forwarded"]
    with Echo(running):
        until("a datagram is answered", lambda: answers(running))
        flow = Flow(running)
        until("packets flow", lambda: flow.sent > 500)
        assert not flow.lost()
    assert transfer(running, 1_000_000)
    assert running.current.counters()["forwarded"] > before + 500
