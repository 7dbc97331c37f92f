# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 and what router advertisements say about it, with real clients, and by messages that no client sends."""

import ipaddress
import os
import random
import time

import pytest
from harness import run, until
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from vmlib import DELEGATED, GATEWAY_MAC, IPV6, MAC, PREFIX, SLOW, Port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

OWN = "2001:db8:1:2::2"
LINK_LOCAL = "fe80::4e:1ff:fe00:5"
SERVERS = "ff02::1:2"
SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, RECONFIGURE, INFORM, RELAY = range(1, 13)
CLIENT_ID, SERVER_ID, IA_NA, IA_PD, DNS, STATUS = 1, 2, 3, 25, 23, 13


@pytest.fixture
def port(request):
    p = Port(**{**IPV6, **getattr(request, "param", {})})
    try:
        p.start()
        yield p
    finally:
        p.stop()


def payload(frame):
    return bytes(frame[UDP].payload)


def options(data):
    """Of a message or an IA: (code, value)."""
    found, at = [], 0
    while at < len(data):
        code, length = int.from_bytes(data[at:at + 2], "big"), int.from_bytes(data[at + 2:at + 4], "big")
        found.append((code, data[at + 4:at + 4 + length]))
        at += 4 + length
    return found


def await_renewal(port, kind=RENEW):
    """A renewal, or rebinding, is answered by a reply with the address and the prefix."""
    port.messages6()
    frames = []

    def renewed():
        frames.extend(port.messages6())
        asked = {payload(f)[1:4] for f in frames if payload(f)[0] == kind}
        return [f for f in frames if payload(f)[0] == REPLY and payload(f)[1:4] in asked]

    reply = until("the client has renewed its lease", renewed, 40)[-1]
    assert reply[IPv6].src == "fe80::1" and ipaddress.ip_address(reply[IPv6].dst).is_link_local
    assert ipaddress.ip_address(OWN).packed in payload(reply)
    assert bytes([60]) + ipaddress.ip_network(DELEGATED)[0].packed in payload(reply)


def await_link_local(port):
    """It can be used once the kernel has looked for a duplicate."""
    until("the kernel has the link-local address", lambda: LINK_LOCAL in run(
        "ip", "-n", port.guest, "-6", "addr", "show", "dev", "eth0", "-tentative").stdout)


def global_addresses(c):
    return {a for a, _ in c.addresses("-6") if not ipaddress.ip_address(a).is_link_local}


@pytest.mark.parametrize("port", [{"leaseSeconds": 12}], indirect=True, ids=["lease"])
def test_dhclient(port):
    await_link_local(port)
    with port.client("dhclient", "-6", "-N", "-P", "-d", "-lf", "/run/leases", "-pf", "/run/pid", "eth0") as c:
        until("it has the address", lambda: OWN in global_addresses(c))
        until("it has the prefix", lambda: f"iaprefix {DELEGATED}" in c.read("/run/leases"))
        until("it has written resolv.conf", lambda: "nameserver" in c.read("/etc/resolv.conf"))
        assert set(c.read("/etc/resolv.conf").splitlines()) == {"search a.example. b.example.", "nameserver 2620:fe::fe"}
        port.restart_responders()
        await_renewal(port)
        assert OWN in global_addresses(c)


@SLOW
@pytest.mark.parametrize("port", [{"leaseSeconds": 30}], indirect=True, ids=["lease"])
def test_rebinding(port):
    """A client whose renewals get lost asks all servers, and keeps its address and prefix. dhclient notices that it is time
    to do so when it would repeat its renewal, ten seconds after the first."""
    await_link_local(port)
    port.lose(f"udp dport 547 @th,64,8 {RENEW}")
    with port.client("dhclient", "-6", "-N", "-P", "-d", "-lf", "/run/leases", "-pf", "/run/pid", "eth0") as c:
        until("it has the address", lambda: OWN in global_addresses(c))
        await_renewal(port, REBIND)
        until("it keeps its address", lambda: OWN in global_addresses(c) and f"iaprefix {DELEGATED}" in c.read("/run/leases"))


NETWORK = """[Match]
Name=eth0
[Network]
DHCP=ipv6
IPv6AcceptRA=yes
[DHCPv6]
UseDomains=yes
[IPv6AcceptRA]
UseDomains=yes
"""

# The guest's own network behind it, which gets a /64 of the delegated prefix
LAN = """[Match]
Name=lan
[Network]
DHCPPrefixDelegation=yes
IPv6AcceptRA=no
ConfigureWithoutCarrier=yes
[DHCPPrefixDelegation]
UplinkInterface=eth0
SubnetId=1
Token=::7
"""


def test_networkd(port):
    """It is not asked to renew: its timers are late by up to ten seconds, so that would take half a minute.
    test_saved_state.py does that."""
    run("ip", "-n", port.guest, "link", "add", "lan", "type", "veth", "peer", "name", "lan-peer")
    run("ip", "-n", port.guest, "link", "set", "lan-peer", "up")
    with port.client("/lib/systemd/systemd-networkd", files=[("/run/systemd/network/eth0.network", NETWORK),
                                                             ("/run/systemd/network/lan.network", LAN)]) as c:
        until("it has a default route", lambda: ("default", "fe80::1") in c.routes("-6"))
        until("it has the address", lambda: OWN in global_addresses(c))
        until("it has an address of the advertised prefix", lambda: [
            a for a in global_addresses(c) - {OWN} if ipaddress.ip_address(a) in ipaddress.ip_network(PREFIX)])

        def lan():
            return [a["local"] for link in c.ip("-6", "addr", "show", "dev", "lan") for a in link["addr_info"]]

        until("the network behind it has its /64", lambda: "2001:db8:2:1::7" in lan())
        until("the rest of the prefix is unreachable", lambda: [
            r for r in c.ip("-6", "route", "show", "table", "all") if r["dst"] == DELEGATED and r.get("type") == "unreachable"])
        index = c.ip("link", "show", "dev", "eth0")[0]["ifindex"]

        def words(key):
            lines = c.read(f"/run/systemd/netif/links/{index}").splitlines()
            return {w for line in lines if line.startswith(f"{key}=") for w in line.split("=")[1].split()}

        until("it knows the resolver", lambda: words("DNS") == {"2620:fe::fe"})
        until("it knows the domains", lambda: words("DOMAINS") == {"a.example", "b.example"})


class Asker:
    """The guest, which sends whatever it likes."""

    def __init__(self, port):
        self.port, self.rng = port, random.Random(8415)
        self.answerable, self.unexpected = set(), []
        await_link_local(port)
        self.server = dict(options(payload(self.ask(SOLICIT, self.client(b"first")))[4:]))[SERVER_ID]

    @staticmethod
    def option(code, value=b""):
        return code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value

    def client(self, name):
        return self.option(CLIENT_ID, b"\0\2" + name)

    def ia(self, code, iaid, inner=b""):
        return self.option(code, iaid.to_bytes(4, "big") + bytes(8) + inner)

    def frame(self, data, src=LINK_LOCAL, dst=SERVERS, mac=MAC, sport=546, dport=547):
        to = "33:33:00:01:00:02" if dst == SERVERS else GATEWAY_MAC
        return Ether(src=mac, dst=to) / IPv6(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(data)

    def message(self, kind, content):
        return bytes([kind]) + self.rng.randbytes(3) + content

    def send(self, *frames):
        for f in frames:
            self.port.wire.send(bytes(f))

    def replies(self):
        return [f for f in self.port.messages6() if f[UDP].sport == 547]

    def answered(self, frame):
        """The reply to a frame, which is repeated as a client would do."""
        xid, found = payload(frame)[1:4], []
        self.answerable.add(xid)

        def repeated():
            self.send(frame)
            time.sleep(0.05)
            got = self.replies()
            found.extend(f for f in got if payload(f)[1:4] == xid)
            self.unexpected += [f for f in got if payload(f)[1:4] not in self.answerable]
            return found

        until("the reply comes", repeated)
        return found[0]

    def ask(self, kind, content, **frame):
        return self.answered(self.frame(self.message(kind, content), **frame))

    def ignored(self, *frames):
        """None of these frames is answered, but one after them is."""
        self.send(*frames)
        self.ask(SOLICIT, self.client(b"last"))
        assert not self.unexpected


@pytest.fixture
def asker(port):
    return Asker(port)


def test_the_advertisement(port):
    port.wire.send(bytes(Ether(src=MAC, dst="33:33:00:00:00:02") / IPv6(src="::", dst="ff02::2", hlim=255) / ICMPv6ND_RS()))
    frames = []

    def advertised():
        frames.extend(f for f in port.frames() if ICMPv6ND_RA in f)
        return frames

    ra = until("it is advertised", advertised)[0][ICMPv6ND_RA]
    assert (ra.M, ra.O, ra.routerlifetime) == (1, 1, 1800)
    found = {o.type: o for o in layers(ra.payload)}
    assert found[25].dns == ["2620:fe::fe"] and found[25].lifetime == 1800
    assert found[31].searchlist == ["a.example.", "b.example."] and found[31].lifetime == 1800
    assert found[5].mtu == 1400 and (found[3].prefix, found[3].prefixlen, found[3].L, found[3].A) == ("2001:db8:1:2::", 64, 0, 1)


def layers(packet):
    while packet:
        yield packet
        packet = packet.payload


def test_any_client_gets_the_same(port, asker):
    """Cloud images change DUID and IAID within one boot; nor does a restart change the answer."""
    seen = set()
    for n in range(5):
        got = asker.ask(REQUEST, asker.client(b"c%d" % n) + asker.option(SERVER_ID, asker.server) + asker.ia(IA_NA, n) +
                        asker.ia(IA_PD, 100 + n))
        assert (got[IPv6].src, got[IPv6].dst, got[UDP].sport, got[UDP].dport) == ("fe80::1", LINK_LOCAL, 547, 546)
        assert (got.src, got.dst) == (GATEWAY_MAC, MAC)
        told = options(payload(got)[4:])
        assert dict(told)[CLIENT_ID] == b"\0\2c%d" % n
        assert dict(told)[IA_NA][:4] == n.to_bytes(4, "big") and dict(told)[IA_PD][:4] == (100 + n).to_bytes(4, "big")
        seen.add((payload(got)[0], dict(told)[SERVER_ID], dict(told)[IA_NA][4:], dict(told)[IA_PD][4:], dict(told)[DNS]))
        if n == 2:
            port.restart_responders()
    assert len(seen) == 1


def test_a_message_to_the_servers_address(asker):
    got = asker.ask(RENEW, asker.client(b"c") + asker.option(SERVER_ID, asker.server) + asker.ia(IA_NA, 1), dst="fe80::1")
    assert dict(options(payload(got)[4:])) == {CLIENT_ID: b"\0\2c", SERVER_ID: asker.server, STATUS: b"\0\5"}
    asker.ignored(asker.frame(asker.message(SOLICIT, asker.client(b"c")), dst="fe80::1"))


def test_odd_messages_are_ignored(asker):
    solicit = asker.message(SOLICIT, asker.client(b"c") + asker.ia(IA_NA, 1))
    asker.ignored(
        asker.frame(solicit, mac="02:4e:01:00:00:06"),
        asker.frame(solicit, src=OWN),
        asker.frame(solicit, src="2001:db8:9::1"),
        asker.frame(solicit, sport=547),
        asker.frame(solicit, dst="ff05::1:3"),
        asker.frame(asker.message(RELAY, bytes(30) + asker.option(9, solicit))),
        asker.frame(asker.message(ADVERTISE, asker.client(b"c"))),
        asker.frame(b""), asker.frame(b"\1ab"), asker.frame(solicit[:-1]), asker.frame(solicit + b"\0"))


def test_large_messages(port, asker):
    for netns, device in ((port.router, "tap"), (port.guest, "eth0")):
        run("ip", "-n", netns, "link", "set", device, "mtu", "9000")

    def padded(size):
        head = asker.message(SOLICIT, asker.client(b"c"))
        return head + asker.option(99, bytes(size - len(head) - 4))

    assert payload(asker.answered(asker.frame(padded(1452))))[0] == ADVERTISE
    # One would be whole if it were cut off.
    asker.ignored(asker.frame(padded(1453)), asker.frame(padded(8000)), asker.frame(padded(1452) + asker.option(99)))


def test_random_messages(port, asker):
    """Whatever comes, only the guest's address gets replies, and the server goes on."""
    rng = random.Random(8416)
    inner = asker.option(5, ipaddress.ip_address(OWN).packed + bytes(8))
    valid = asker.message(RENEW, asker.client(b"abc") + asker.option(SERVER_ID, asker.server) + asker.ia(IA_NA, 1, inner) +
                          asker.ia(IA_PD, 1) + asker.option(6, b"\0\x17\0\x18"))
    replies = []
    for n in range(3000):
        m = bytearray(valid)
        for _ in range(rng.randrange(0, 5)):
            m[rng.randrange(len(m))] = rng.randrange(256)
        asker.send(asker.frame(bytes(m[:rng.choice([len(m), len(m), rng.randrange(len(m))])]) + rng.randbytes(rng.choice([0, 0, 40]))))
        if n % 50 == 0:
            replies += asker.replies()
    assert replies and {(f[IPv6].src, f[IPv6].dst, f[UDP].dport) for f in replies} == {("fe80::1", LINK_LOCAL, 546)}
    assert port.responders.poll() is None
    asker.ask(SOLICIT, asker.client(b"c"))


def test_replies_are_bounded(asker):
    frame = asker.frame(asker.message(SOLICIT, asker.client(b"c")))
    began, got = time.monotonic(), []
    for _ in range(50):
        asker.send(*[frame] * 40)
        got += asker.replies()
        time.sleep(0.01)
    # A bucket of 20, which gets ten back in a second. The asker has used some already.
    assert 10 <= len(got) <= 20 + 10 * (time.monotonic() - began) + 1
