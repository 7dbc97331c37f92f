# SPDX-License-Identifier: Apache-2.0
"""Public IPv4 of an instance: what its container does with real packets, without an API. The guest is a namespace whose
device is the other end of a veth that has the name of the tap, so the guest's connections are the kernel's own.
src/node/test-instnet-host makes the container's network.

    guest (eth0) -- tap :container: uplink -- i-ID :public: far0 -- near0 :far (192.0.2.1 to 192.0.2.9)
"""

import contextlib
import json
import os
import resource
import select
import socket
import struct
import subprocess
import threading
import time

import leftovers
import pytest
from harness import BIN, MORTAL, ROOT, output as run, patient, until
from nodelib import inside, open_packet
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP, IPerror, UDPerror, fragment
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

BINARY = os.path.join(BIN, "../node/test-instnet-host")
ID = "0b5ac4a84b0e"
MAC = "02:4e:01:00:00:05"
GATEWAY, GATEWAY_MAC = "169.254.0.1", "00:00:5e:00:02:01"
SHARED, OWN, PRIVATE = "198.51.100.3", "203.0.113.7", "192.0.0.2"
FAR = "192.0.2.1"
FIRST, SECOND = [{"address": SHARED, "first": n, "last": n + 511} for n in (1024, 4096)]
SSH = {"proto": "tcp", "address": SHARED, "port": 1100, "target": 22}
DNS = {"proto": "udp", "address": SHARED, "port": 1101, "target": 53}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def link_local(mac):
    b = bytes.fromhex(mac.replace(":", ""))
    return f"fe80::{b[0] ^ 2:x}{b[1]:02x}:{b[2]:x}ff:fe{b[3]:02x}:{b[4]:x}{b[5]:02x}"


class Net:
    number = 0

    def __init__(self, address):
        Net.number += 1
        self.prefix, self.address = f"nf{os.getpid()}-{Net.number}-", address
        leftovers.claim("netns", self.prefix)
        self.public, self.container, self.guest, self.far = (
            self.prefix + name for name in ("public", f"i-{ID}", "guest", "far"))
        for name in (self.public, self.container, self.guest, self.far):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        self.ip(self.container, "link", "add", "tap", "type", "veth", "peer", "name", "eth0", "netns", self.guest)
        self.ip(self.guest, "link", "set", "eth0", "address", MAC, "up")
        self.ip(self.public, "link", "add", "far0", "type", "veth", "peer", "name", "near0", "netns", self.far)
        run("ip", "netns", "exec", self.public, "sysctl", "-qw", "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", "net.ipv4.icmp_ratelimit=0")
        for netns, device, own, other in (
                (self.public, "far0", "100.64.0.0", None), (self.far, "near0", "100.64.0.1", "100.64.0.0")):
            self.ip(netns, "link", "set", device, "up")
            self.ip(netns, "addr", "add", f"{own}/31", "dev", device)
            if other:
                self.ip(netns, "route", "add", "default", "via", other)
        for n in range(1, 10):
            self.ip(self.far, "addr", "add", f"192.0.2.{n}/32", "dev", "lo")
        self.ip(self.public, "route", "add", "192.0.2.0/24", "via", "100.64.0.1")
        self.generation = 0
        self.host, self.spec = None, {"mac": MAC, "ip": "fd10::5", "net": "2001:db8:1:1::/64", "address4": address}
        self.start()

    def ip(self, netns, *argv):
        return run("ip", "-n", netns, *argv)

    def start(self):
        self.host = subprocess.Popen([*MORTAL, BINARY, self.prefix], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def apply(self, open_slices=0, **spec):
        self.spec.update(spec)
        self.host.stdin.write(f"{open_slices} {json.dumps(self.spec)}\n")
        self.host.stdin.flush()
        answer = self.host.stdout.readline().strip()
        assert answer in ("changed", "same"), answer
        return answer

    def command(self, line):
        self.host.stdin.write(line + "\n")
        self.host.stdin.flush()
        answer = self.host.stdout.readline().strip()
        assert not answer.startswith("failed"), answer
        return answer

    def firewall(self, name="fw", ingress=(), egress=(), deny=False):
        self.generation += 1
        spec = {"instances": {}, "ingress": list(ingress), "egress": list(egress),
                "defaultEgress": "deny" if deny or egress else "allow"}
        self.command("firewall " + json.dumps({"metadata": {
            "name": name, "namespace": "t", "uid": name, "generation": self.generation}, "spec": spec}))
        return self.apply()

    def read(self):
        return json.loads(self.command("read"))

    def connect(self):
        """What the guest does after DHCP, and what the overlay does in `public`."""
        self.ip(self.guest, "addr", "replace", f"{self.address}/32", "dev", "eth0")
        self.ip(self.guest, "route", "replace", GATEWAY, "dev", "eth0")
        self.ip(self.guest, "route", "replace", "default", "via", GATEWAY)
        device = f"i-{ID}"
        self.ip(self.public, "neigh", "replace", link_local(MAC), "lladdr", MAC, "nud", "permanent", "dev", device)
        public = OWN if self.address == OWN else SHARED
        self.ip(self.public, "route", "replace", public, "via", "inet6", link_local(MAC), "dev", device)

    def close(self):
        if self.host:
            self.host.stdin.close()
            self.host.wait()
            self.host.stdout.close()
        leftovers.remove_namespaces(self.prefix)

    def connections(self):
        with inside(self.container, lambda: open("/proc/thread-self/net/nf_conntrack", encoding="ascii")) as f:
            return [line for line in f if line.startswith("ipv4")]

    def refused(self):
        """New connections that were dropped, mostly for want of a port."""
        with inside(self.container, lambda: open("/proc/thread-self/net/stat/nf_conntrack", encoding="ascii")) as f:
            names, *rows = [line.split() for line in f]
        return sum(int(row[names.index("drop")], 16) for row in rows)

    def neighbours(self):
        return self.ip(self.container, "-4", "neigh", "show", "nud", "all").splitlines()


def made(address, **spec):
    net = Net(address)
    try:
        net.apply(**spec)
        net.connect()
        yield net
    finally:
        net.close()


@pytest.fixture(scope="module")
def dedicated():
    yield from made(OWN, ipv4="dedicated", ingress=[
        {"proto": "tcp", "port": 80}, {"proto": "udp", "port": 53, "from": "2001:db8:9::/48"}, {"proto": "icmp"}])


@pytest.fixture(scope="module")
def shared_net():
    yield from made(PRIVATE, ipv4="shared", slices=[FIRST], forwards=[SSH, DNS], ingress=[{"proto": "tcp", "port": 80}])


@pytest.fixture
def shared(shared_net):
    """With one slice, its forwards, and no connections."""
    shared_net.apply(slices=[], forwards=[])
    shared_net.apply(slices=[FIRST], forwards=[SSH, DNS])
    return shared_net


def bound(netns, kind, address, port=0):
    s = inside(netns, lambda: socket.socket(socket.AF_INET, kind))
    if port:  # otherwise two sockets may get the same one
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(patient(5))
    s.bind((address, port))
    return s


@contextlib.contextmanager
def server(netns, kind, address, port):
    """Echoes what it gets, after the address of the peer as it sees it."""
    s, stop = bound(netns, kind, address, port), threading.Event()
    if kind == socket.SOCK_STREAM:
        s.listen(1024)

    def serve():
        peers = {}
        while not stop.is_set():
            for ready in select.select([s, *peers], [], [], 0.02)[0]:
                if kind == socket.SOCK_DGRAM:
                    data, peer = s.recvfrom(65536)
                    s.sendto(f"{peer[0]} {peer[1]} ".encode() + data, peer)
                elif ready is s:
                    c, peer = s.accept()
                    peers[c] = peer
                else:
                    try:
                        data = ready.recv(65536)
                    except OSError:
                        data = b""
                    if data:
                        ready.sendall(f"{peers[ready][0]} {peers[ready][1]} ".encode() + data)
                    else:
                        del peers[ready]
                        ready.close()
        for c in peers:
            c.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        s.close()


def ask(s, text=b"hello"):
    """The peer's address and port as the server sees them."""
    s.send(text)
    address, port, rest = s.recv(65536).split(b" ", 2)
    assert rest == text
    return address.decode(), int(port)


def connected(netns, kind, address, to, port=0):
    s = bound(netns, kind, address, port)
    s.connect(to)
    return s


def refused(netns, address, to, seconds=0.4):
    """True if nothing answers a TCP connection."""
    s = bound(netns, socket.SOCK_STREAM, address)
    s.settimeout(seconds)
    try:
        s.connect(to)
        return False
    except TimeoutError:
        return True
    finally:
        s.close()


def inside_slice(port, *slices):
    return any(s["first"] <= port <= s["last"] for s in slices or (FIRST,))


class Frames:
    """Raw frames at the guest's device and at the device in `public`."""

    def __init__(self, net):
        self.net = net
        self.tap = inside(net.guest, lambda: open_packet("eth0"))
        self.outer = inside(net.public, lambda: open_packet(f"i-{ID}"))

    def close(self):
        self.tap.close()
        self.outer.close()

    def send(self, packet, src=MAC, dst=GATEWAY_MAC):
        self.tap.send(bytes(Ether(src=src, dst=dst) / packet))

    def send_in(self, packet):
        self.outer.send(bytes(Ether(src=GATEWAY_MAC, dst=MAC) / packet))

    @staticmethod
    def received(s, layer, seconds):
        got, last = [], time.monotonic()
        while time.monotonic() < last + (seconds if not layer or any(layer in p for p in got) else patient(5)):
            try:
                data, (_, _, kind, _, _) = s.recvfrom(65536, socket.MSG_DONTWAIT)
                if kind != 4 and (p := Ether(data)).type in (0x800, 0x806):
                    got.append(p)
                    last = time.monotonic()
            except BlockingIOError:
                time.sleep(0.005)
        return got

    def outside(self, layer=None, seconds=0.15):
        return self.received(self.outer, layer, seconds)

    def guest_got(self, layer=None, seconds=0.15):
        return self.received(self.tap, layer, seconds)


@contextlib.contextmanager
def frames(net):
    f = Frames(net)
    try:
        yield f
    finally:
        f.close()


# ---- dedicated ----


def test_dedicated_both_ways(dedicated):
    with server(dedicated.far, socket.SOCK_STREAM, FAR, 80), server(dedicated.guest, socket.SOCK_STREAM, OWN, 80), \
            server(dedicated.guest, socket.SOCK_STREAM, OWN, 81), server(dedicated.guest, socket.SOCK_DGRAM, OWN, 53):
        with connected(dedicated.guest, socket.SOCK_STREAM, OWN, (FAR, 80), 5000) as s:
            assert ask(s) == (OWN, 5000)
        with connected(dedicated.far, socket.SOCK_STREAM, "192.0.2.2", (OWN, 80), 6000) as s:
            assert ask(s) == ("192.0.2.2", 6000)
        # What isn't opened stays closed; a rule with an IPv6 prefix opens nothing for IPv4.
        assert refused(dedicated.far, FAR, (OWN, 81))
        with connected(dedicated.far, socket.SOCK_DGRAM, FAR, (OWN, 53)) as s:
            s.settimeout(0.3)
            s.send(b"x")
            with pytest.raises(TimeoutError):
                s.recv(10)
    run("ip", "netns", "exec", dedicated.far, "ping", "-c1", "-W5", "-I", FAR, OWN)
    run("ip", "netns", "exec", dedicated.guest, "ping", "-c1", "-W5", FAR)


def test_the_gateway(dedicated):
    """The guest finds it by ARP, and it answers echoes of the guest only."""
    run("ip", "netns", "exec", dedicated.guest, "ping", "-c1", "-W5", GATEWAY)
    with frames(dedicated) as f:
        f.send_in(IP(src=FAR, dst=GATEWAY) / ICMP(id=3))
        assert not [p for p in f.outside() if IP in p]


def test_large_frames_that_the_host_cuts(dedicated):
    """A peer with the least MSS that Linux uses, 48, gets all that the guest has to say; 8 bytes are the least."""
    far = bound(dedicated.far, socket.SOCK_DGRAM, FAR, 5300)
    far.settimeout(patient(1))
    raw = inside(dedicated.guest, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    with far, raw:
        raw.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
        inside(dedicated.guest, lambda: raw.bind(("eth0", 0)))
        for piece, arrives in ((36, True), (8, True), (7, False)):
            body = bytes([piece]) * (piece * 10)
            packet = Ether(src=MAC, dst=GATEWAY_MAC) / IP(src=OWN, dst=FAR) / UDP(sport=5300, dport=5300, chksum=0) / Raw(body)
            frame = bytearray(bytes(packet))
            words = struct.unpack("!6H", bytes(frame[26:34]) + bytes([0, 17]) + struct.pack("!H", len(body) + 8))
            pseudo = sum(words)
            while pseudo >> 16:
                pseudo = (pseudo & 0xffff) + (pseudo >> 16)
            frame[40:42] = struct.pack("!H", pseudo)
            raw.send(struct.pack("=BBHHHH", 1, 5, 42, piece, 34, 6) + frame)  # VIRTIO_NET_HDR_GSO_UDP_L4
            if arrives:
                assert [far.recv(2000) for _ in range(10)] == [body[:piece]] * 10
            else:  # what is sent after it arrives instead
                raw.send(bytes(10) + bytes(Ether(src=MAC, dst=GATEWAY_MAC) / IP(src=OWN, dst=FAR) / UDP(sport=5300, dport=5300) / Raw(b"next")))
                assert far.recv(2000) == b"next"


def test_only_a_syn_makes_a_tcp_connection(dedicated):
    """Each stray ACK would otherwise make an established one, which lasts for five days."""
    with frames(dedicated) as f:
        for n, flags in enumerate(("A", "PA", "FA", "R", "S")):
            f.send(IP(src=OWN, dst=FAR) / TCP(sport=4000 + n, dport=9, flags=flags))
        assert {p[TCP].sport for p in f.outside(TCP) if TCP in p and p[IP].src == OWN} == {4004}
    assert not [line for line in dedicated.connections() if "ESTABLISHED" in line and "dport=9 " in line]


# ---- shared ----


def test_translation(shared):
    with server(shared.far, socket.SOCK_STREAM, FAR, 80), server(shared.far, socket.SOCK_DGRAM, FAR, 53):
        for kind, port in ((socket.SOCK_STREAM, 80), (socket.SOCK_DGRAM, 53)):
            with connected(shared.guest, kind, PRIVATE, (FAR, port)) as s:
                address, public = ask(s)
                assert address == SHARED and inside_slice(public)
    with frames(shared) as f:
        run("ip", "netns", "exec", shared.guest, "ping", "-c2", "-i0.1", "-W5", FAR)
        sent = [p for p in f.outside(ICMP) if ICMP in p]
        assert len(sent) == 2 and all(p[IP].src == SHARED and inside_slice(p[ICMP].id) for p in sent)


@contextlib.contextmanager
def host_setting(name):
    """With the value that deploy/sysctl.d has for hosts."""
    with open(f"{ROOT}/deploy/sysctl.d/nacre.conf", encoding="ascii") as f:
        value, = [line.split("=")[1].strip() for line in f if line.startswith(f"{name} =")]
    if not os.access(f"/proc/sys/{name.replace('.', '/')}", os.W_OK):
        pytest.skip("only the initial network namespace may set it")
    before = run("sysctl", "-n", name).strip()
    run("sysctl", "-qw", f"{name}={value}")
    try:
        yield int(value)
    finally:
        run("sysctl", "-qw", f"{name}={before}")


def test_connections_are_bounded(shared):
    """Of each container by itself. Those that are answered stay; others make room for new ones."""
    def tracked():
        with inside(shared.container, lambda: open("/proc/thread-self/net/stat/nf_conntrack", encoding="ascii")) as f:
            return int(f.read().split("\n")[1].split()[0], 16)

    shared.ip(shared.public, "route", "replace", "blackhole", "10.0.0.0/8")
    with host_setting("net.netfilter.nf_conntrack_max") as most, \
            server(shared.far, socket.SOCK_STREAM, FAR, 80), \
            connected(shared.guest, socket.SOCK_STREAM, PRIVATE, (FAR, 80)) as s, \
            bound(shared.guest, socket.SOCK_DGRAM, PRIVATE, 4444) as flood:
        assert ask(s)[0] == SHARED
        for n in range(most + 5000):
            flood.sendto(b"x", (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 53))
        assert 0.9 * most <= tracked() <= most + 1
        ask(s)
        with connected(shared.guest, socket.SOCK_STREAM, PRIVATE, (FAR, 80)) as other:
            assert ask(other)[0] == SHARED


def test_the_guest_cannot_have_its_rules_replaced(shared):
    """That would empty the sets that limit how many neighbours it can make, at each look of the agent."""
    def handles():
        return run("ip", "netns", "exec", shared.container, "nft", "-a", "-t", "list", "table", "inet", "nacre")

    before = handles()
    with frames(shared) as f:
        for n in range(40):
            f.send(IPv6(src=f"2001:db8:1:1::{n + 5:x}", dst="fe80::1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1")
                   / ICMPv6NDOptSrcLLAddr(lladdr=MAC))
            assert shared.apply() == "same"
    listed = run("ip", "netns", "exec", shared.container, "nft", "-s", "list", "set", "inet", "nacre", "neighbours")
    assert listed.count("2001:db8:1:1::") == 12 and handles() == before


def test_a_socket_keeps_its_port(shared):
    """Towards other destinations, too, even with two slices; so peers of peer-to-peer programs find it."""
    shared.apply(slices=[FIRST, SECOND])
    with contextlib.ExitStack() as stack:
        for n in range(1, 5):
            stack.enter_context(server(shared.far, socket.SOCK_DGRAM, f"192.0.2.{n}", 53))
        for source in range(7000, 7008):
            with bound(shared.guest, socket.SOCK_DGRAM, PRIVATE, source) as s:
                seen = set()
                for n in range(1, 5):
                    s.sendto(b"x", (f"192.0.2.{n}", 53))
                    seen.add(s.recv(100).split()[1])
                assert len(seen) == 1


def test_a_connection_that_one_side_has_closed_keeps_its_port(shared):
    """For four minutes (RFC 5382, REQ-5): the other side may still answer."""
    with bound(shared.far, socket.SOCK_STREAM, FAR, 8080) as listener, \
            bound(shared.guest, socket.SOCK_STREAM, PRIVATE) as client:
        listener.listen(1)
        client.connect((FAR, 8080))
        client.shutdown(socket.SHUT_WR)

        def left():
            return [int(line.split()[4]) for line in shared.connections() if " CLOSE_WAIT " in line]

        until("the container has seen it", left)
        assert 120 < left()[0] <= 240


def flows(net, count, to):
    """How many of COUNT UDP sockets of the guest get an answer, and the ports that the server saw."""
    ports, sockets = set(), [connected(net.guest, socket.SOCK_DGRAM, PRIVATE, to) for _ in range(count)]
    try:
        answered = 0
        for s in sockets:
            s.send(b"x")
            time.sleep(0.001)
        for s in sockets:
            s.settimeout(0)
        until_quiet = time.monotonic() + 0.3
        left = set(sockets)
        while time.monotonic() < until_quiet and left:
            for s in select.select(list(left), [], [], 0.05)[0]:
                ports.add(int(s.recv(100).split()[1]))
                left.discard(s)
                answered += 1
                until_quiet = time.monotonic() + 0.3
        return answered, ports
    finally:
        for s in sockets:
            s.close()


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_slices_and_a_full_one(shared, many_files):
    with server(shared.far, socket.SOCK_DGRAM, FAR, 53):
        answered, ports = flows(shared, 700, (FAR, 53))
        assert 500 <= answered <= 512 and all(inside_slice(p) for p in ports)
    shared.apply(slices=[FIRST, SECOND])
    with server(shared.far, socket.SOCK_DGRAM, "192.0.2.2", 53):
        answered, ports = flows(shared, 700, ("192.0.2.2", 53))
        assert answered == 700 and all(inside_slice(p, FIRST, SECOND) for p in ports)
        assert any(inside_slice(p, SECOND) for p in ports)
        # Other destinations use the same ports again.
    with server(shared.far, socket.SOCK_DGRAM, "192.0.2.3", 53):
        assert flows(shared, 700, ("192.0.2.3", 53))[0] == 700


def test_a_slice_that_is_closed_for_new_connections(shared):
    shared.apply(slices=[FIRST, SECOND])
    with server(shared.far, socket.SOCK_DGRAM, FAR, 53):
        old = {}
        for _ in range(16):
            s = connected(shared.guest, socket.SOCK_DGRAM, PRIVATE, (FAR, 53))
            old[s] = ask(s)
        assert any(inside_slice(p, SECOND) for _, p in old.values())
        assert shared.apply(open_slices=1) == "changed"
        assert all(ask(s) == before for s, before in old.items())
        for _ in range(16):
            with connected(shared.guest, socket.SOCK_DGRAM, PRIVATE, (FAR, 53)) as s:
                assert inside_slice(ask(s)[1], FIRST)
        for s in old:
            s.close()


def test_forwards(shared):
    with server(shared.guest, socket.SOCK_STREAM, PRIVATE, 22), server(shared.guest, socket.SOCK_DGRAM, PRIVATE, 53), \
            server(shared.guest, socket.SOCK_STREAM, PRIVATE, 80):
        with connected(shared.far, socket.SOCK_STREAM, FAR, (SHARED, 1100), 6000) as s:
            assert ask(s) == (FAR, 6000)
        with connected(shared.far, socket.SOCK_DGRAM, FAR, (SHARED, 1101), 6000) as s:
            assert ask(s) == (FAR, 6000)
        # The guest's port 80 is open, but no port of the slice leads to it.
        for port in (80, 22, 1080, 1102):
            assert refused(shared.far, FAR, (SHARED, port), 0.2)


def test_the_guest_reaches_its_own_forwards(shared):
    with server(shared.guest, socket.SOCK_STREAM, PRIVATE, 22):
        with connected(shared.guest, socket.SOCK_STREAM, PRIVATE, (SHARED, 1100)) as s:
            address, port = ask(s)
            assert address == SHARED and inside_slice(port)
    with frames(shared) as f:
        f.guest_got(seconds=0.05)
        f.send(IP(src=PRIVATE, dst=PRIVATE) / UDP(sport=9, dport=99))
        assert not [p for p in f.guest_got() if UDP in p]


def test_nothing_goes_from_the_uplink_to_the_uplink(shared):
    """Nor is it a packet for the guest, which the firewall would count and log."""
    shared.firewall(ingress=[{"protocol": "udp"}])
    before = shared.read()
    with frames(shared) as f:
        for n in range(40):
            f.send_in(IP(src=FAR, dst=SHARED) / UDP(sport=9, dport=1200 + n))
            f.send_in(IP(src=FAR, dst="192.0.2.7") / TCP(sport=9, dport=1200 + n))
            f.send_in(IP(src=FAR, dst=SHARED) / ICMP(id=1200 + n))
            f.send_in(IP(src=FAR, dst=PRIVATE) / TCP(sport=9, dport=80))
        assert not [p for p in f.outside() if IP in p]
        assert not [p for p in f.guest_got() if IP in p]
        assert not shared.connections()
        f.send_in(IP(src=FAR, dst=SHARED) / UDP(sport=9, dport=1101))
        assert [p for p in f.guest_got(UDP) if UDP in p]
    now = shared.read()
    shared.command("nofirewall fw")
    assert (now["in"], now["out"], now["drops"]) == (before["in"], before["out"], [])
    assert not any(packets for *_, packets in now["rules"])


def test_what_cannot_be_translated_stays(shared):
    """Other protocols and errors about nothing would leave with the private address."""
    quoted = IP(src=FAR, dst=PRIVATE) / UDP(sport=53, dport=4000)
    with frames(shared) as f:
        for packet in (IP(src=PRIVATE, dst=FAR) / GRE() / IP() / UDP(), IP(src=PRIVATE, dst=FAR, proto=50) / Raw(b"x" * 40),
                       IP(src=PRIVATE, dst=FAR) / ICMP(type=3, code=3) / quoted,
                       IP(src=PRIVATE, dst=FAR) / ICMP(type=0, id=1100), IP(src=PRIVATE, dst=FAR) / ICMP(type=13),
                       IP(src=PRIVATE, dst=FAR) / TCP(sport=4000, dport=80, flags="SFRPU"),
                       IP(src=PRIVATE, dst=FAR) / TCP(sport=4000, dport=80, flags="R")):
            f.send(packet)
        assert not [p for p in f.outside() if IP in p]


def test_errors_come_in(shared):
    """An error about the guest's packet reaches its socket, in both directions of translation."""
    with connected(shared.guest, socket.SOCK_DGRAM, PRIVATE, (FAR, 7777)) as s:
        s.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            s.recv(10)
    # The guest's own error, about a packet that came by a forward.
    with connected(shared.far, socket.SOCK_DGRAM, FAR, (SHARED, 1101)) as s, frames(shared) as f:
        s.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            s.recv(10)
        (error,) = [p for p in f.outside(ICMP) if ICMP in p]
        assert error[IP].src == SHARED and error[IPerror].dst == SHARED and error[UDPerror].dport == 1101


@pytest.fixture(params=["dedicated", "shared"])
def either(request):
    return request.getfixturevalue(request.param)


def hops(net, netns, source, to, port):
    """The sources of the errors about packets whose hop limits run out, up to the first one that arrives."""
    found = []
    errors = inside(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    errors.settimeout(patient(2))
    with bound(netns, socket.SOCK_DGRAM, source) as s, errors:
        for ttl in range(1, 6):
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            s.sendto(b"x", (to, port))
            packet = IP(errors.recv(2000))
            found.append((packet.src, packet[ICMP].type))
            assert packet[IPerror].dst == to and packet[UDPerror].dport == port
            if packet[ICMP].type == 3:
                return found
    raise AssertionError(found)


def test_traceroute(either):
    public = OWN if either is not None and either.address == OWN else SHARED
    assert hops(either, either.guest, either.address, FAR, 33434) == [(GATEWAY, 11), ("100.64.0.0", 11), (FAR, 3)]
    if either.address == OWN:
        either.apply(ingress=[{"proto": "udp", "port": 1101}])
    found = hops(either, either.far, FAR, public, 1101)
    assert found[0] == ("100.64.0.0", 11) and found[-1] == (public, 3)
    # The container has no public address of its own.
    assert len(found) == 3 and found[1][1] == 11 and found[1][0] in ("192.0.0.8", public), found


def test_path_mtu(either):
    """A link of 1,400 bytes on the way: TCP finds out, in both directions."""
    with server(either.far, socket.SOCK_STREAM, FAR, 80):
        either.ip(either.public, "link", "set", "far0", "mtu", "1400")
        try:
            with connected(either.guest, socket.SOCK_STREAM, either.address, (FAR, 80)) as s, frames(either) as f:
                s.sendall(b"x" * 60000)
                got = 0
                while got < 60000:
                    got += len(s.recv(65536))
                told = [p for p in f.guest_got() if ICMP in p]
                assert told and told[0][ICMP].type == 3 and told[0][ICMP].code == 4
        finally:
            either.ip(either.public, "link", "set", "far0", "mtu", "1500")
            either.ip(either.guest, "route", "flush", "cache")


def test_large_datagrams(either):
    """The guest's fragments are put together, translated and fragmented again."""
    with server(either.far, socket.SOCK_DGRAM, FAR, 53):
        with connected(either.guest, socket.SOCK_DGRAM, either.address, (FAR, 53)) as s:
            assert ask(s, b"x" * 4000)[0] == (OWN if either.address == OWN else SHARED)


# ---- what a guest may not do ----


@pytest.mark.parametrize("source", ["10.0.0.2", "192.0.2.9", SHARED, "203.0.113.8", "192.0.0.1", "192.0.0.8", "0.0.0.0",
                                    "255.255.255.255", "224.0.0.1", "127.0.0.1", GATEWAY, "192.0.0.2", OWN])
def test_others_addresses(either, source):
    if source == either.address:
        pytest.skip("its own")
    with frames(either) as f:
        for packet in (UDP(sport=9, dport=99), TCP(sport=9, dport=99), ICMP(id=4), UDP(sport=67, dport=68)):
            f.send(IP(src=source, dst=FAR) / packet)
        for part in fragment(IP(src=source, dst=FAR) / UDP(sport=9, dport=99) / Raw(b"x" * 3000)):
            f.send(part)
        f.send(IP(src=either.address, dst=FAR) / UDP(sport=9, dport=99), src="02:4e:01:00:00:06")
        assert not [p for p in f.outside() if IP in p]


@pytest.mark.parametrize("to", ["255.255.255.255", "224.0.0.1", "239.1.2.3", "240.0.0.1", "127.0.0.1", "0.0.0.1",
                                "169.254.1.1", "169.254.169.254"])
def test_addresses_that_it_may_not_reach(either, to):
    with frames(either) as f:
        f.send(IP(src=either.address, dst=to) / UDP(sport=9, dport=99))
        f.send(IP(src=either.address, dst=to) / UDP(sport=67, dport=68))
        assert not [p for p in f.outside() if IP in p]
        assert not [p for p in f.guest_got() if IP in p]


def test_forged_arp(either):
    """The kernel has one neighbour table for the whole host."""
    with frames(either) as f:
        f.send(ARP(op=1, hwsrc=MAC, psrc=either.address, pdst=GATEWAY))
        answer = [p for p in f.guest_got(ARP) if ARP in p][0][ARP]
        assert answer.op == 2 and answer.psrc == GATEWAY and answer.hwsrc == GATEWAY_MAC
        for n in range(60):
            f.send(ARP(op=1, hwsrc=MAC, psrc=f"10.0.0.{n}", pdst=GATEWAY))
            f.send(ARP(op=2, hwsrc=MAC, psrc=f"10.0.1.{n}", pdst=GATEWAY, hwdst=GATEWAY_MAC))
            f.send(ARP(op=1, hwsrc=f"02:00:00:00:00:{n:02x}", psrc=either.address, pdst=GATEWAY))
        f.send(ARP(op=1, hwsrc=MAC, psrc=either.address, pdst=FAR))
        f.send(ARP(op=1, hwsrc=MAC, psrc="0.0.0.0", pdst=either.address))
        assert not [p for p in f.guest_got() if ARP in p and p[ARP].op == 2]
        (neighbour,) = either.neighbours()
        assert neighbour.startswith(f"{either.address} ") and MAC in neighbour and "PERMANENT" in neighbour
        assert not [p for p in f.outside() if ARP in p]


def test_dhcp_reaches_a_server_in_the_container(either):
    """Requests of a client come in, answers of a UDP socket that is bound to the tap go out, and no others."""
    def listen():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tap\0")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.bind(("0.0.0.0", 67))
        s.settimeout(patient(5))
        return s

    discover = BOOTP(chaddr=bytes.fromhex(MAC.replace(":", ""))) / DHCP(options=[("message-type", "discover"), "end"])
    with inside(either.container, listen) as s, frames(either) as f:
        f.send(IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / discover, dst="ff:ff:ff:ff:ff:ff")
        assert s.recvfrom(2000)[1] == ("0.0.0.0", 68)
        f.send(IP(src=either.address, dst=GATEWAY) / UDP(sport=68, dport=67) / discover)
        assert s.recvfrom(2000)[1] == (either.address, 68)
        for to in ("255.255.255.255", either.address):
            s.sendto(b"x" * 300, (to, 68))
            answers = [p for p in f.guest_got(UDP) if UDP in p]
            assert [(p[IP].src, p[IP].dst, p[UDP].sport) for p in answers] == [(GATEWAY, to, 67)]
        for to in ((FAR, 68), (either.address, 69)):
            with contextlib.suppress(OSError):
                s.sendto(b"x", to)
        # A server of the guest, a request from elsewhere, the first fragment of one, and its answer.
        s.settimeout(0.2)
        f.send(IP(src=either.address, dst="255.255.255.255") / UDP(sport=67, dport=68) / discover, dst="ff:ff:ff:ff:ff:ff")
        f.send(IP(src="10.0.0.2", dst="255.255.255.255") / UDP(sport=68, dport=67) / discover, dst="ff:ff:ff:ff:ff:ff")
        f.send(IP(src="0.0.0.0", dst="255.255.255.255", flags="MF") / UDP(sport=68, dport=67) / discover,
               dst="ff:ff:ff:ff:ff:ff")
        f.send_in(IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / discover)
        f.send_in(IP(src=FAR, dst=GATEWAY) / UDP(sport=68, dport=67) / discover)
        with pytest.raises(TimeoutError):
            s.recv(2000)
        assert not [p for p in f.outside() if IP in p]


# ---- changes ----


def test_a_change_keeps_what_stays_and_cuts_what_goes(shared):
    with server(shared.far, socket.SOCK_STREAM, FAR, 80), server(shared.guest, socket.SOCK_STREAM, PRIVATE, 22), \
            contextlib.ExitStack() as stack:
        shared.apply(slices=[FIRST, SECOND], forwards=[SSH])
        kept, cut = [], []
        for _ in range(24):
            s = stack.enter_context(connected(shared.guest, socket.SOCK_STREAM, PRIVATE, (FAR, 80)))
            (kept if inside_slice(ask(s)[1], FIRST) else cut).append(s)
        assert kept and cut
        ssh = stack.enter_context(connected(shared.far, socket.SOCK_STREAM, "192.0.2.2", (SHARED, 1100)))
        ask(ssh)
        # The second slice and the forward go.
        assert shared.apply(slices=[FIRST]) == "changed"
        for s in kept:
            ask(s)
        ask(ssh)
        assert not [c for c in shared.connections() if any(f"dport={p} " in c for p in range(4096, 4608))]
        for s in cut:
            s.settimeout(0.3)
            with pytest.raises(OSError):
                s.send(b"x")
                s.recv(10)
        assert shared.apply(forwards=[]) == "changed"
        for s in kept:
            ask(s)
        ssh.settimeout(0.3)
        with pytest.raises(OSError):
            ssh.send(b"x")
            ssh.recv(10)


def test_a_change_or_a_new_agent_loses_no_packet(shared):
    """While rules are replaced a hundred times, and by an agent that doesn't know what the kernel has."""
    with server(shared.far, socket.SOCK_DGRAM, FAR, 53), \
            connected(shared.guest, socket.SOCK_DGRAM, PRIVATE, (FAR, 53)) as s:
        before, stop, lost = ask(s), threading.Event(), []

        def talk():
            while not stop.is_set():
                try:
                    if ask(s) != before:
                        lost.append("another port")
                except TimeoutError:
                    lost.append("no answer")

        s.settimeout(patient(2))  # a busy machine answers late, but a lost packet is never answered
        thread = threading.Thread(target=talk)
        thread.start()
        for n in range(50):
            shared.apply(slices=[FIRST, SECOND] if n % 2 else [FIRST])
        assert shared.apply() == "same"
        shared.host.stdin.close()
        shared.host.wait()
        shared.host.stdout.close()
        shared.start()
        assert shared.apply() == "changed"
        assert shared.apply() == "same"
        stop.set()
        thread.join()
        assert not lost


def test_an_instance_of_an_earlier_version_gets_ipv4(shared):
    """Its namespace and devices exist, with rules that have no IPv4; its IPv6 goes on without a lost packet."""
    net = Net(PRIVATE)
    try:
        net.apply()  # none
        net.ip(net.guest, "addr", "add", "2001:db8:1:1::7/64", "dev", "eth0", "nodad")
        net.ip(net.guest, "-6", "route", "replace", "default", "via", "fe80::1", "dev", "eth0")
        net.ip(net.public, "-6", "route", "add", "2001:db8:1:1::/64", "via", link_local(MAC), "dev", f"i-{ID}")
        net.ip(net.public, "addr", "add", "2001:db8:9::1/128", "dev", "lo", "nodad")
        run("ip", "netns", "exec", net.public, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        net.connect()
        with frames(net) as f:
            f.send(IP(src=PRIVATE, dst=FAR) / UDP(sport=9, dport=99))
            f.send(ARP(op=1, hwsrc=MAC, psrc=PRIVATE, pdst=GATEWAY))
            assert not f.outside() and not [p for p in f.guest_got() if ARP in p and p[ARP].op == 2]
        run("ip", "netns", "exec", net.guest, "ping", "-c1", "-W5", "2001:db8:9::1")
        ping = subprocess.Popen([*MORTAL, "ip", "netns", "exec", net.guest, "ping", "-i0.01", "-c100", "-W2", "2001:db8:9::1"],
                                stdout=subprocess.PIPE, text=True)
        net.apply(ipv4="shared", slices=[FIRST])
        with server(net.far, socket.SOCK_STREAM, FAR, 80), \
                connected(net.guest, socket.SOCK_STREAM, PRIVATE, (FAR, 80)) as s:
            assert ask(s)[0] == SHARED
        assert " 0% packet loss" in ping.communicate()[0]
    finally:
        net.close()
