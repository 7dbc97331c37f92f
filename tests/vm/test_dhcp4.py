# SPDX-License-Identifier: Apache-2.0
"""DHCPv4 with real clients, and by messages that no client sends."""

import os
import random
import signal
import time

import pytest
from harness import run, until
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from vmlib import ADDRESS, GATEWAY_MAC, MAC, ROUTER, SLOW, Port, await_renewal, kind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DEFAULT = ("default", ROUTER)


@pytest.fixture
def port(request):
    p = Port(**getattr(request, "param", {}))
    try:
        p.start()
        yield p
    finally:
        p.stop()


def lease(seconds):
    return pytest.mark.parametrize("port", [{"leaseSeconds": seconds}], indirect=True, ids=["lease"])


@lease(12)
def test_dhclient(port):
    with port.client("dhclient", "-4", "-d", "-lf", "/run/leases", "-pf", "/run/pid", "eth0") as c:
        until("the routes are there", lambda: DEFAULT in c.routes())
        assert c.addresses() == [(ADDRESS, 32)]
        assert c.mtu() == 1400
        until("it has written resolv.conf", lambda: c.read("/etc/resolv.conf"))
        assert set(c.read("/etc/resolv.conf").splitlines()) == {"domain a.example", "search a.example. b.example.", "nameserver 9.9.9.9",
                                                                "nameserver 149.112.112.112"}
        until("it has set the host name", lambda: c.hostname() == "web")
        port.restart_responders()
        await_renewal(port)
        assert c.addresses() == [(ADDRESS, 32)] and DEFAULT in c.routes()


def test_udhcpc(port):
    with port.client("udhcpc", "-f", "-i", "eth0", "-O", "mtu", "-s", "/etc/udhcpc/default.script") as c:
        until("the routes are there", lambda: DEFAULT in c.routes())
        assert c.addresses() == [(ADDRESS, 32)]
        assert c.mtu() == 1400
        until("it has written resolv.conf", lambda: "nameserver" in c.read("/etc/resolv.conf"))
        assert c.read("/etc/resolv.conf").split() == ["domain", "a.example", "nameserver", "9.9.9.9", "nameserver", "149.112.112.112"]
        port.restart_responders()
        port.messages()
        c.process.send_signal(signal.SIGUSR1)
        await_renewal(port)
        assert c.addresses() == [(ADDRESS, 32)] and DEFAULT in c.routes()


NETWORK = """[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
[DHCPv4]
UseMTU=yes
UseDomains=yes
"""


@lease(12)
def test_networkd(port):
    with port.client("/lib/systemd/systemd-networkd", files=[("/run/systemd/network/eth0.network", NETWORK)]) as c:
        until("the routes are there", lambda: {DEFAULT, (ROUTER, None)} <= c.routes())
        assert (ADDRESS, 32) in c.addresses()
        until("it has set the MTU", lambda: c.mtu() == 1400)
        index = c.ip("link", "show", "dev", "eth0")[0]["ifindex"]

        def state():
            return dict(line.split("=", 1) for line in c.read(f"/run/systemd/netif/leases/{index}").splitlines() if "=" in line)

        got = until("it has recorded the lease", lambda: state())
        assert got["ADDRESS"] == ADDRESS and got["NETMASK"] == "255.255.255.255" and got["SERVER_ADDRESS"] == ROUTER
        assert got["DNS"] == "9.9.9.9 149.112.112.112" and got["HOSTNAME"] == "web" and got["MTU"] == "1400"
        assert got["DOMAINNAME"] == "a.example" and got["DOMAIN_SEARCH_LIST"] == "a.example b.example"
        assert f"{ROUTER}/32,0.0.0.0" in got["CLASSLESS_ROUTES"] and f"0.0.0.0/0,{ROUTER}" in got["CLASSLESS_ROUTES"], got
        port.restart_responders()
        await_renewal(port)
        assert (ADDRESS, 32) in c.addresses() and {DEFAULT, (ROUTER, None)} <= c.routes()


@SLOW
@lease(12)
def test_rebinding(port):
    """A client that can't renew its lease with its server asks all servers, and keeps its address."""
    port.lose(f"ip daddr {ROUTER} udp dport 67")
    with port.client("dhclient", "-4", "-d", "-lf", "/run/leases", "-pf", "/run/pid", "eth0") as c:
        until("the routes are there", lambda: DEFAULT in c.routes())
        frames = []

        def rebound():
            frames.extend(port.messages())
            asked = {f[BOOTP].xid for f in frames if kind(f) == 3 and f[BOOTP].ciaddr == ADDRESS and f[IP].dst == "255.255.255.255"}
            return [f for f in frames if kind(f) == 5 and f[BOOTP].xid in asked]

        ack = until("the client has rebound its lease", rebound, 40)[0]
        assert ack[BOOTP].yiaddr == ADDRESS and ack[IP].dst == ADDRESS
        assert [f for f in frames if kind(f) == 3 and f[IP].dst == ROUTER]
        until("it keeps its address", lambda: c.addresses() == [(ADDRESS, 32)] and DEFAULT in c.routes())


class Asker:
    """The guest, which sends whatever it likes."""

    def __init__(self, port):
        self.port, self.xid = port, random.Random(2131)
        self.answerable, self.unexpected = set(), []

    def frame(self, payload, src="0.0.0.0", dst="255.255.255.255", mac=MAC, sport=68, dport=67):
        return Ether(src=mac, dst=GATEWAY_MAC if dst == ROUTER else "ff:ff:ff:ff:ff:ff") / IP(src=src, dst=dst) / \
            UDP(sport=sport, dport=dport) / payload

    def message(self, options, **fields):
        fields.setdefault("xid", self.xid.getrandbits(32))
        fields.setdefault("chaddr", bytes.fromhex(MAC.replace(":", "")))
        return BOOTP(**fields) / DHCP(options=[*options, "end"])

    def send(self, *frames):
        for f in frames:
            self.port.wire.send(bytes(f))

    def replies(self):
        return [f for f in self.port.messages() if f[BOOTP].op == 2]

    def answered(self, frame):
        """The reply to a frame, which is repeated as a client would do."""
        xid, found = frame[BOOTP].xid, []
        self.answerable.add(xid)

        def repeated():
            self.send(frame)
            time.sleep(0.05)
            got = self.replies()
            found.extend(f for f in got if f[BOOTP].xid == xid)
            self.unexpected += [f for f in got if f[BOOTP].xid not in self.answerable]
            return found

        until("the reply comes", repeated)
        return found[0]

    def ask(self, options, ip=(), **fields):
        return self.answered(self.frame(self.message(options, **fields), *ip))

    def ignored(self, *frames):
        """None of these frames is answered, but one after them is."""
        self.send(*frames)
        self.answered(self.frame(self.message([("message-type", "discover")])))
        assert not self.unexpected


@pytest.fixture
def asker(port):
    return Asker(port)


def options(frame):
    return dict(o for o in frame[DHCP].options if isinstance(o, tuple) and len(o) == 2)


def test_replies_need_no_address_resolution(asker):
    """The guest has no address yet, so it answers no ARP."""
    offer = asker.ask([("message-type", "discover"), ("requested_addr", "10.0.0.1")])
    assert kind(offer) == 2 and offer[BOOTP].yiaddr == ADDRESS
    assert (offer.src, offer.dst, offer[IP].src, offer[IP].dst) == (GATEWAY_MAC, MAC, ROUTER, ADDRESS)
    assert (offer[UDP].sport, offer[UDP].dport) == (67, 68)
    offer = asker.ask([("message-type", "discover")], flags="B")
    assert (offer.dst, offer[IP].src, offer[IP].dst) == ("ff:ff:ff:ff:ff:ff", ROUTER, "255.255.255.255")


def test_any_client_identifier_gets_the_address(asker):
    for n in range(5):
        client = bytes([255, n]) * (n + 1)
        ack = asker.ask([("message-type", "request"), ("server_id", ROUTER), ("requested_addr", ADDRESS), ("client_id", client)])
        assert kind(ack) == 5 and ack[BOOTP].yiaddr == ADDRESS and options(ack)["client_id"] == client


def test_wrong_addresses_are_refused(asker):
    nak = asker.ask([("message-type", "request"), ("requested_addr", "10.0.0.9")])
    assert kind(nak) == 6 and nak.dst == "ff:ff:ff:ff:ff:ff" and nak[IP].dst == "255.255.255.255"
    nak = asker.ask([("message-type", "request")], ciaddr="10.0.0.9")
    assert kind(nak) == 6
    # Rebinding
    ack = asker.ask([("message-type", "request")], ip=(ADDRESS,), ciaddr=ADDRESS)
    assert kind(ack) == 5 and ack.dst == MAC and ack[IP].dst == ADDRESS
    # A client that only wants to know
    ack = asker.ask([("message-type", "inform")], ip=(ADDRESS, ROUTER), ciaddr=ADDRESS)
    assert kind(ack) == 5 and ack[BOOTP].yiaddr == "0.0.0.0" and "lease_time" not in options(ack)


def test_release_and_decline_change_nothing(asker):
    first = asker.ask([("message-type", "discover")], xid=7)
    asker.ignored(asker.frame(asker.message([("message-type", "release"), ("server_id", ROUTER)], ciaddr=ADDRESS), ADDRESS, ROUTER),
                  asker.frame(asker.message([("message-type", "decline"), ("server_id", ROUTER), ("requested_addr", ADDRESS)])))
    assert bytes(asker.ask([("message-type", "discover")], xid=7)[BOOTP]) == bytes(first[BOOTP])


def test_a_restart_changes_nothing(port, asker):
    first = asker.ask([("message-type", "discover"), ("client_id", b"\1abc")], xid=7)
    port.restart_responders()
    assert bytes(asker.ask([("message-type", "discover"), ("client_id", b"\1abc")], xid=7)[BOOTP]) == bytes(first[BOOTP])


def test_odd_messages_are_ignored(asker):
    discover = [("message-type", "discover")]
    raw = bytes(asker.message(discover))
    asker.ignored(
        asker.frame(asker.message(discover), mac="02:4e:01:00:00:06"),
        asker.frame(asker.message(discover, chaddr=bytes(6))),
        asker.frame(asker.message(discover, giaddr="10.0.0.1")),
        asker.frame(asker.message(discover, op=2)),
        asker.frame(asker.message(discover), src="10.0.0.1"),
        asker.frame(asker.message(discover), sport=67),
        asker.frame(asker.message([("message-type", "offer")])),
        asker.frame(asker.message([("message-type", "request"), ("server_id", "10.0.0.1"), ("requested_addr", ADDRESS)])),
        asker.frame(Raw(b"")),
        asker.frame(Raw(raw[:239])))
    asker.ignored(
        asker.frame(Raw(raw[:240] + b"\x35")),
        asker.frame(Raw(raw[:240] + b"\x35\x01\x01\x32\xff\x0a")),
        asker.frame(Raw(raw[:240] + b"\x35\x01\x01\x35\x01\x01\xff")),
        asker.frame(Raw(raw[:236] + b"\x35\x01\x01\xff")))


def test_large_messages(port, asker):
    for netns, device in ((port.router, "tap"), (port.guest, "eth0")):
        run("ip", "-n", netns, "link", "set", device, "mtu", "9000")
    discover = [("message-type", "discover")]
    m = asker.frame(asker.message(discover) / Raw(bytes(1472 - 244)))
    assert len(bytes(m[BOOTP])) == 1472 and kind(asker.answered(m)) == 2
    large = asker.frame(asker.message(discover) / Raw(bytes(1473 - 244)))
    fragmented = asker.frame(asker.message(discover) / Raw(bytes(3000)))
    asker.ignored(large, asker.frame(asker.message(discover) / Raw(bytes(8000))), *fragment(fragmented, 1400))


def test_random_messages(port, asker):
    """Whatever comes, only the guest's address and 255.255.255.255 get replies, and the server goes on."""
    rng = random.Random(2132)
    valid = bytes(asker.message([("message-type", "request"), ("requested_addr", ADDRESS), ("client_id", b"\1abc"),
                                 ("param_req_list", [1, 3, 6, 121, 26])]))
    replies = []
    for n in range(3000):
        m = bytearray(valid)
        for _ in range(rng.randrange(1, 6)):
            m[rng.choice([rng.randrange(len(m)), rng.randrange(236, len(m))])] = rng.randrange(256)
        asker.send(asker.frame(Raw(bytes(m[:rng.choice([len(m), rng.randrange(len(m))])] + rng.randbytes(rng.choice([0, 40]))))))
        if n % 50 == 0:
            replies += asker.replies()
    assert replies and {f[IP].dst for f in replies} <= {ADDRESS, "255.255.255.255"}
    assert port.responders.poll() is None
    asker.ask([("message-type", "discover")])


def test_replies_are_bounded(asker):
    frame = asker.frame(asker.message([("message-type", "discover")]))
    began, got = time.monotonic(), []
    for _ in range(50):
        asker.send(*[frame] * 40)
        got += asker.replies()
        time.sleep(0.01)
    # A bucket of 20, which gets ten back in a second.
    assert 20 <= len(got) <= 20 + 10 * (time.monotonic() - began) + 1
