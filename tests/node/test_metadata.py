# SPDX-License-Identifier: Apache-2.0
"""The metadata service of an instance, asked by a guest without a machine: src/vm/test-responders answers in the network
that src/node/test-instnet-host makes, so rules, addresses, sockets and the filter of system calls are the real ones."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import leftovers
import pytest
from harness import BIN, MORTAL, output as run, until
from nodelib import inside, open_packet
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether
from test_ipv4 import FIRST, GATEWAY, GATEWAY_MAC, ID, MAC, PRIVATE, Net

PROGRAM = os.path.join(BIN, "../vm/test-responders")
UUID = "0b5ac4a8-4b0e-4c35-9c3d-000000000001"
FOUR, SIX = "169.254.169.254", "fd00:ec2::254"
ADDRESS6, LINK_LOCAL = "2001:db8:1:1:4e:1ff:fe00:5", "fe80::4e:1ff:fe00:5"  # both made of the MAC
KEYS = ["ssh-ed25519 AAAAC3Nz one", "ssh-ed25519 AAAAC3Nz two"]
USER_DATA = b"#cloud-config\nruncmd: [\xc3\xa4]\n"
TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Guest(Net):
    """A guest that has a link-local address and nothing else, until it is connected."""

    def __init__(self, **spec):
        super().__init__(PRIVATE)
        self.responders, self.dir = None, tempfile.mkdtemp(prefix="nacre-test-")
        leftovers.claim("dir", self.dir)
        os.chmod(self.dir, 0o755)
        os.mkdir(f"{self.dir}/seed")
        self.config = {"name": "t/web", "uuid": UUID, "kernel": "/none", "mac": MAC, "tap": "tap", "prefix": "2001:db8:1:1::/64",
                       "seed": f"{self.dir}/seed", "hostname": "web", "domain": "a.example"}
        self.apply(**spec)
        if spec.get("ipv4", "none") != "none":
            self.config.update(ipv4=PRIVATE, ipv4Router=GATEWAY, public4=FIRST["address"])
        # The prefix is announced, and the guest makes no address of it.
        run("ip", "netns", "exec", self.guest, "sysctl", "-qw", "net.ipv6.conf.eth0.autoconf=0")

    def seed(self, name, data):
        with open(f"{self.dir}/new", "wb") as f:
            f.write(data)
        os.rename(f"{self.dir}/new", f"{self.dir}/seed/{name}")

    def serve(self):
        with open(f"{self.dir}/config.json", "w") as f:
            json.dump(self.config, f)
        self.responders = subprocess.Popen([*MORTAL, "nsenter", f"--net=/run/netns/{self.container}", PROGRAM,
                                            f"--config={self.dir}/config.json"], stdout=subprocess.PIPE)
        assert self.responders.stdout.readline() == b"ready\n"
        until("the guest has a default route", lambda: "default via fe80::1" in self.ip(self.guest, "-6", "route"))
        until("the guest has its link-local address", lambda: "tentative" not in self.ip(self.guest, "-6", "addr"))

    def close(self):
        try:
            if self.responders:
                self.responders.send_signal(signal.SIGTERM)
                assert self.responders.wait() == 0
                self.responders.stdout.close()
        finally:
            super().close()
            shutil.rmtree(self.dir)

    def connect_to(self, address=SIX, source=None):
        return inside(self.guest, lambda: socket.create_connection(
            (address, 80), 60, source and (source, 0, 0, socket.if_nametoindex("eth0") if source.startswith("fe80") else 0)))

    def http(self, address=SIX, source=None):
        c = http.client.HTTPConnection(f"[{address}]" if ":" in address else address)
        c.sock = self.connect_to(address, source)
        return c


def guest_of(**spec):
    guest = Guest(**spec)
    try:
        guest.serve()
        yield guest
    finally:
        guest.close()


@pytest.fixture(scope="module")
def guest():
    yield from guest_of(ipv4="shared", slices=[FIRST])


@pytest.fixture(scope="module")
def six_only():
    yield from guest_of(ipv4="none")


@pytest.fixture
def seeded(guest):
    guest.seed("user-data", USER_DATA)
    guest.seed("ssh-keys", "\n".join(KEYS).encode())
    yield guest
    for name in os.listdir(f"{guest.dir}/seed"):
        os.unlink(f"{guest.dir}/seed/{name}")


def ask(connection, method, path, headers=None):
    connection.request(method, path, headers=headers or {})
    r = connection.getresponse()
    return r.status, r.read()


def token(connection):
    status, text = ask(connection, "PUT", "/latest/api/token", {TTL: "21600", "Content-Length": "0"})
    assert status == 200
    return {TOKEN: text.decode()}


def both(guest):
    """A connection by each family, once the guest has IPv4."""
    guest.connect()
    return [guest.http(SIX), guest.http(FOUR)]


def test_answers_end_at_the_guest(seeded):
    """A container or a machine behind the guest, to which it would forward them, gets none."""
    seeded.connect()
    wire = inside(seeded.guest, lambda: open_packet("eth0"))
    with wire:
        wire.settimeout(0.2)
        for connection in both(seeded):
            assert ask(connection, "GET", "/nocloud/user-data") == (200, USER_DATA)
            connection.close()
        hops = set()
        with contextlib.suppress(TimeoutError):
            while True:
                packet = Ether(wire.recv(2000))
                if TCP in packet and packet[TCP].sport == 80:
                    hops.add((4, packet[IP].ttl) if IP in packet else (6, packet[IPv6].hlim))
    assert hops == {(4, 1), (6, 1)}


# What cloud-init 22.4 asked in each of its two stages: its data source Ec2 on a machine that looks like EC2's. It asks for
# another token if it raced the two families for the first.
EC2 = """instance-id user-data meta-data/ meta-data/network/ meta-data/network/interfaces/ meta-data/network/interfaces/macs/ MAC/
MAC/device-number MAC/ipv6s MAC/local-hostname MAC/local-ipv4s MAC/mac MAC/public-ipv4s MAC/subnet-ipv6-cidr-blocks
meta-data/public-keys/ meta-data/public-keys/0/openssh-key meta-data/public-keys/1/openssh-key
meta-data/hostname meta-data/instance-id meta-data/ipv6 meta-data/local-hostname meta-data/local-ipv4 meta-data/mac
meta-data/public-ipv4 meta-data/reservation-id dynamic/instance-identity dynamic/instance-identity/document"""
EC2 = ["/2021-03-23/" + path.replace("MAC", f"meta-data/network/interfaces/macs/{MAC}") for path in
       EC2.replace("instance-id", "meta-data/instance-id", 1).split()]


def test_what_cloud_init_asks_of_ec2(seeded):
    for address in (SIX, FOUR):
        seeded.connect()
        for _stage in range(2):
            got = {}
            for _race in range(2):
                headers = token(seeded.http(address))
            for path in EC2:  # a connection for each, as cloud-init makes them
                status, got[path] = ask(seeded.http(address), "GET", path, headers)
                assert status == 200 and got[path], path
            at = "/2021-03-23/"
            assert got[at + "user-data"] == USER_DATA
            assert got[at + "meta-data/public-keys/1/openssh-key"].decode() == KEYS[1]
            assert got[at + "meta-data/local-ipv4"].decode() == PRIVATE
            assert got[at + "meta-data/public-ipv4"].decode() == FIRST["address"]
            assert got[at + "meta-data/ipv6"].decode() == ADDRESS6
            assert json.loads(got[at + "dynamic/instance-identity/document"])["instanceId"] == UUID


def crawl(connection, headers, path):
    """Follows all listings."""
    status, text = ask(connection, "GET", path, headers)
    assert status == 200, path
    if not path.endswith("/"):
        return {path: text}
    found = {}
    for line in text.decode().splitlines():
        number, is_key, _ = line.partition("=")
        found.update(crawl(connection, headers, f"{path}{number}/openssh-key" if is_key else path + line))
    return found


def test_every_listed_path_exists(seeded):
    for c in both(seeded):
        found = crawl(c, token(c), "/latest/")
        assert set(found) - {"/latest/user-data"} == {
            p.replace("2021-03-23", "latest") for p in EC2 if not p.endswith(("/", "user-data", "instance-identity"))}


def test_what_cloud_init_asks_of_nocloud(seeded):
    seeded.connect()
    for url in (f"http://[{SIX}]/nocloud/", f"http://{FOUR}/nocloud/"):
        got = [run("ip", "netns", "exec", seeded.guest, "curl", "-sgf", "--max-time", "60", url + name)
               for name in ("meta-data", "user-data", "vendor-data", "network-config")]
        assert json.loads(got[0]) == {"instance-id": UUID, "local-hostname": "web.a.example", "public-keys": KEYS}
        assert got[1].encode() == USER_DATA and got[2] == ""
        assert json.loads(got[3]) == {"version": 2, "ethernets": {"nic0": {
            "match": {"macaddress": MAC}, "dhcp4": True, "dhcp6": True, "accept-ra": True}}}


def test_changed_keys_are_seen(seeded):
    c = seeded.http()
    headers = token(c)
    for keys in ([KEYS[1]], [], KEYS):
        seeded.seed("ssh-keys", "\n".join(keys).encode())
        assert json.loads(ask(c, "GET", "/nocloud/meta-data")[1])["public-keys"] == keys
        status, text = ask(c, "GET", "/latest/meta-data/public-keys/0/openssh-key", headers)
        assert (status, text.decode()) == (200, keys[0]) if keys else status == 404


def test_tokens_are_needed(guest):
    c = guest.http()
    assert ask(c, "GET", "/latest/meta-data/instance-id")[0] == 401
    assert ask(c, "GET", "/latest/meta-data/instance-id", {TOKEN: "0" * 80})[0] == 401
    headers = token(c)
    assert ask(c, "GET", "/latest/meta-data/instance-id", headers) == (200, UUID.encode())
    assert ask(c, "GET", "/latest/meta-data/instance-id", {**headers, "X-Forwarded-For": "10.0.0.1"})[0] == 403
    assert ask(c, "GET", "/nocloud/meta-data", {"Host": "rebound.example"})[0] == 421


def test_a_token_expires(guest):
    c = guest.http()
    status, text = ask(c, "PUT", "/latest/api/token", {TTL: "2", "Content-Length": "0"})
    assert status == 200
    until("it has expired", lambda: ask(c, "GET", "/latest/meta-data/mac", {TOKEN: text.decode()})[0] == 401)


def test_a_guest_without_addresses(six_only):
    """It has the address made of its MAC, or any other link-local one, for which the container must ask."""
    assert not [line for line in six_only.ip(six_only.guest, "-6", "addr", "show", "dev", "eth0").splitlines() if "scope global" in line]
    c = six_only.http()
    assert c.sock.getsockname()[0].split("%")[0] == LINK_LOCAL
    assert ask(c, "GET", "/latest/meta-data/mac", token(c)) == (200, MAC.encode())
    six_only.ip(six_only.guest, "addr", "add", "fe80::77/64", "dev", "eth0", "nodad")
    c = six_only.http(source="fe80::77")
    assert ask(c, "GET", "/nocloud/vendor-data") == (200, b"")


def test_a_guest_that_has_made_its_address(six_only):
    six_only.ip(six_only.guest, "addr", "replace", f"{ADDRESS6}/64", "dev", "eth0", "nodad", "noprefixroute")
    try:
        c = six_only.http(source=ADDRESS6)
        assert ask(c, "GET", "/latest/meta-data/ipv6", token(c)) == (200, ADDRESS6.encode())
    finally:
        six_only.ip(six_only.guest, "addr", "del", f"{ADDRESS6}/64", "dev", "eth0")


def test_the_address_may_be_on_link(guest):
    """Some images have a route for 169.254.0.0/16, and ask by ARP."""
    guest.connect()
    guest.ip(guest.guest, "route", "add", "169.254.0.0/16", "dev", "eth0")
    try:
        assert ask(guest.http(FOUR), "GET", "/nocloud/vendor-data") == (200, b"")
    finally:
        guest.ip(guest.guest, "route", "del", "169.254.0.0/16")


# ---- limits ----


def begun(guest):
    s = guest.connect_to()
    s.sendall(b"GET /nocloud/meta-data HT")
    return s


def is_closed(s):
    s.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        try:
            return s.recv(1) == b""
        except ConnectionResetError:
            return True
    return False


def test_slow_requests_hold_up_nobody(guest):
    began = time.monotonic()
    slow = [begun(guest) for _ in range(40)]
    until("all but 16 are closed", lambda: sum(map(is_closed, slow)) >= 24)
    assert all(map(is_closed, slow[:24]))
    c = guest.http()
    for _ in range(3):
        assert ask(c, "GET", "/nocloud/vendor-data") == (200, b"")
    # A byte now and then gives a request no more time.
    left = slow[25:]

    def trickle():
        for s in left:
            with contextlib.suppress(OSError):
                s.send(b"x")
        time.sleep(0.1)
        return all(map(is_closed, left))

    until("their time is over", trickle, 30)
    assert time.monotonic() - began >= 10


def test_answers_that_are_not_taken(seeded):
    seeded.seed("user-data", b"x" * 65536)
    slow = []
    for _ in range(16):
        s = seeded.connect_to()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(b"GET /nocloud/user-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n" * 20)
        slow.append(s)
    assert ask(seeded.http(), "GET", "/nocloud/user-data") == (200, b"x" * 65536)

    def sockets(state):
        return run("ip", "netns", "exec", seeded.container, "ss", "-Htn", "state", state, "sport", "=", ":80").splitlines()

    assert sockets("established")
    until("they are closed", lambda: not sockets("established"), 30)
    # The kernel keeps nothing of them, which would take its memory until it gives up sending.
    assert not sockets("fin-wait-1")


def test_new_connections_are_bounded(guest):
    frames = [bytes(Ether(src=MAC, dst=GATEWAY_MAC) / IPv6(src=ADDRESS6, dst=SIX) / TCP(sport=port, dport=80, flags="S"))
              for port in range(10000, 12000)]
    wire = inside(guest.guest, lambda: open_packet("eth0"))
    began = time.monotonic()
    for frame in frames:
        wire.send(frame)
    wire.close()
    # What is let in is tracked.
    with inside(guest.container, lambda: open("/proc/thread-self/net/nf_conntrack", encoding="ascii")) as f:
        tracked = sum("dport=80 " in line and 10000 <= int(line.split("sport=")[1].split()[0]) < 12000 for line in f)
    assert 0 < tracked <= 51 + 50 * (time.monotonic() - began)
    until("there is room again", lambda: ask(guest.http(), "GET", "/nocloud/vendor-data")[0] == 200)


# ---- nobody else ----


class Wires:
    def __init__(self, guest):
        self.guest = inside(guest.guest, lambda: open_packet("eth0"))
        self.public = inside(guest.public, lambda: open_packet(f"i-{ID}"))

    def from_guest(self, packet):
        self.guest.send(bytes(Ether(src=MAC, dst=GATEWAY_MAC) / packet))

    def from_outside(self, packet):
        self.public.send(bytes(Ether(src=GATEWAY_MAC, dst=MAC) / packet))

    @staticmethod
    def received(wire):
        """Packets that came in, up to the echo reply that question 7 caused."""
        got = []
        wire.settimeout(60)
        while True:
            data, (_, _, kind, _, _) = wire.recvfrom(65536)
            p = Ether(data)
            if kind == 4:
                continue
            if ICMPv6EchoReply in p and p[ICMPv6EchoReply].id == 7:
                return got
            got.append(p)

    def close(self):
        self.guest.close()
        self.public.close()


def is_from_service(p):
    """Not counted are SYN-ACKs to other tests, which may be repeated."""
    return (IP in p and p[IP].src == FOUR or IPv6 in p and p[IPv6].src == SIX) and (TCP not in p or p[TCP].dport == 999)


@pytest.fixture
def wires(guest):
    w = Wires(guest)
    yield w
    w.close()


def test_nothing_from_outside(wires):
    for dport in (80, 81):
        for flags in ("S", "A"):
            wires.from_outside(IPv6(src="2001:db8:9::1", dst=SIX) / TCP(sport=999, dport=dport, flags=flags))
            wires.from_outside(IPv6(src=LINK_LOCAL, dst=SIX) / TCP(sport=999, dport=dport, flags=flags))
            wires.from_outside(IP(src="192.0.2.1", dst=FOUR) / TCP(sport=999, dport=dport, flags=flags))
    wires.from_outside(IPv6(src="2001:db8:9::1", dst=SIX) / UDP(sport=999, dport=80))
    wires.from_outside(IP(src="192.0.2.1", dst=FOUR) / ICMP())
    wires.from_outside(IPv6(src="2001:db8:9::1", dst=SIX) / ICMPv6EchoRequest(id=66))
    wires.from_outside(IPv6(src="2001:db8:9::1", dst="fd10::5") / ICMPv6EchoRequest(id=7))
    assert not [p for p in wires.received(wires.public) if is_from_service(p)]


def test_nothing_goes_through(wires, guest):
    """What a guest sends to the service's addresses never leaves its container, and is answered on port 80 only."""
    guest.connect()
    for src in (LINK_LOCAL, ADDRESS6):
        wires.from_guest(IPv6(src=src, dst=SIX) / TCP(sport=999, dport=81, flags="S"))
        wires.from_guest(IPv6(src=src, dst=SIX) / UDP(sport=999, dport=80))
    wires.from_guest(IPv6(src=LINK_LOCAL, dst=SIX) / ICMPv6EchoRequest(id=66))
    wires.from_guest(IP(src=PRIVATE, dst=FOUR) / TCP(sport=999, dport=81, flags="S"))
    wires.from_guest(IP(src=PRIVATE, dst=FOUR) / UDP(sport=999, dport=80))
    wires.from_guest(IP(src=PRIVATE, dst=FOUR) / ICMP())
    # Sources that aren't the guest's own.
    wires.from_guest(IPv6(src="2001:db8:9::1", dst=SIX) / TCP(sport=999, dport=80, flags="S"))
    wires.from_guest(IPv6(src="fd10::5", dst=SIX) / TCP(sport=999, dport=80, flags="S"))
    wires.from_guest(IP(src="192.0.2.1", dst=FOUR) / TCP(sport=999, dport=80, flags="S"))
    wires.from_guest(IP(src="0.0.0.0", dst=FOUR) / TCP(sport=999, dport=80, flags="S"))
    wires.from_guest(IPv6(src=ADDRESS6, dst="fd10::5") / ICMPv6EchoRequest(id=7))
    assert not [p for p in wires.received(wires.guest) if is_from_service(p)]
    wires.from_outside(IPv6(src="2001:db8:9::1", dst="fd10::5") / ICMPv6EchoRequest(id=7))
    assert not [p for p in wires.received(wires.public) if TCP in p or UDP in p or ICMP in p]


def test_without_ipv4_there_is_none(six_only):
    w = Wires(six_only)
    try:
        w.from_guest(IP(src=PRIVATE, dst=FOUR) / TCP(sport=999, dport=80, flags="S"))
        w.from_guest(ARP(op=1, hwsrc=MAC, psrc=PRIVATE, pdst=FOUR))
        w.from_guest(IPv6(src=ADDRESS6, dst="fd10::5") / ICMPv6EchoRequest(id=7))
        assert not [p for p in w.received(w.guest) if IP in p or ARP in p]
    finally:
        w.close()


def test_the_addresses_are_no_source(guest):
    """ICMP errors still come from the gateway, and solicitations from fe80::1."""
    guest.connect()
    w = Wires(guest)
    try:
        w.from_guest(IP(src=PRIVATE, dst="192.0.2.1", ttl=1) / UDP(sport=999, dport=99))
        w.from_guest(IPv6(src=ADDRESS6, dst="2001:db8:9::1", hlim=1) / UDP(sport=999, dport=99))
        w.from_guest(IPv6(src=ADDRESS6, dst="fd10::5") / ICMPv6EchoRequest(id=7))
        got = w.received(w.guest)
        assert [p[IP].src for p in got if ICMP in p] == [GATEWAY]
        assert SIX not in {p[IPv6].src for p in got if IPv6 in p}
    finally:
        w.close()
