# SPDX-License-Identifier: Apache-2.0
"""What a guest can send and receive. The test plays the guest: it uses the tap of an instance that is powered off."""

import contextlib
import ipaddress
import json
import os
import random
import socket
import struct
import time

import pytest
from harness import patient
from nodelib import cloud, images, inside, open_packet, open_tap, run, until  # noqa: F401 (two are fixtures)
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS,
                                ICMPv6NDOptDstLLAddr, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr,
                                ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN,
                                fragment6)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

OUTSIDE = "2001:db8:9::1"
GATEWAY_MAC = "00:00:5e:00:02:01"


def eui64_link_local(mac):
    """fe80:: and the modified EUI-64 of a MAC (RFC 4291, appendix A)."""
    b = bytes.fromhex(mac.replace(":", ""))
    return str(ipaddress.ip_address((0xFE80 << 112) + int.from_bytes(bytes([b[0] ^ 2]) + b[1:3] + b"\xff\xfe" + b[3:], "big")))


class Wire:
    """Both sides of an instance's container: the guest's tap, and the veth in `public`."""

    def __init__(self, cloud, guest):
        self.guest, self.cloud = guest, cloud
        self.tap = inside(guest.netns, lambda: open_tap("tap"))
        self.link_local = eui64_link_local(guest.mac)
        self.public = inside(cloud.public, lambda: open_packet(guest.device))

    def close(self):
        os.close(self.tap)
        self.public.close()

    def send(self, packet, mac=None):
        os.write(self.tap, bytes(10) + bytes(Ether(src=mac or self.guest.mac, dst=GATEWAY_MAC) / packet))

    def send_in(self, packet):
        self.public.send(bytes(Ether(src=GATEWAY_MAC, dst=self.guest.mac) / packet))

    def outside(self, layer=None, seconds=0.3):
        """The packets that left the container, until none comes for SECONDS. Waits for a packet with LAYER first."""
        def receive():
            data, (_, _, kind, _, _) = self.public.recvfrom(65536, socket.MSG_DONTWAIT)
            return data if kind != 4 else None  # sent by us

        return receive_all(receive, layer, seconds)

    def guest_got(self, layer=None, seconds=0.3):
        return receive_all(lambda: os.read(self.tap, 65536)[10:], layer, seconds)


def receive_all(receive, layer, seconds):
    got, last = [], time.monotonic()
    while time.monotonic() < last + (seconds if not layer or any(layer in p for p in got) else patient(5)):
        try:
            if data := receive():
                got.append(Ether(data))
                last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.005)
    return got


@pytest.fixture(scope="module")
def wire(cloud):
    cloud.create("off", "lab", running=False,
                 ingress=[{"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": 53, "from": "2001:db8:9::/48"},
                          {"protocol": "icmp"}])
    guest = cloud.wait("off", "Stopped")
    w = Wire(cloud, guest)
    yield w
    w.close()
    cloud.delete("off")


@pytest.fixture(autouse=True)
def quiet(wire):
    """Discards the packets that an earlier test caused."""
    wire.guest_got(seconds=0.05)
    wire.outside(seconds=0.05)


def own(guest, n=5):
    return str(guest.net[n])


def test_its_own_addresses_pass(wire):
    g = wire.guest
    for src in (g.address, own(g, 77), str(g.delegated[1]), str(g.delegated[-1])):
        wire.send(IPv6(src=src, dst=OUTSIDE) / UDP(sport=9, dport=99))
        got = wire.outside(UDP)
        assert [p[IPv6].src for p in got if UDP in p] == [src]
        assert got[0].dst == GATEWAY_MAC and got[0].src == g.mac and got[0][IPv6].hlim == 63


@pytest.mark.parametrize("src", ["2001:db8:ffff::1", "fd10::1", "fe80::2", "::1", "::", "ff02::1", "fd10::2"])
def test_others_addresses_do_not(wire, src):
    wire.send(IPv6(src=src, dst=OUTSIDE) / UDP(sport=9, dport=99))
    assert not [p for p in wire.outside() if UDP in p]


def test_neighbouring_prefixes_do_not(wire):
    for net in (wire.guest.net, wire.guest.delegated):
        for n in (int(net[0]) - 1, int(net[-1]) + 1):
            wire.send(IPv6(src=str(ipaddress.ip_address(n)), dst=OUTSIDE) / UDP(sport=9, dport=99))
    assert not wire.outside()


def test_another_mac_does_not(wire):
    wire.send(IPv6(src=own(wire.guest), dst=OUTSIDE) / UDP(sport=9, dport=99), mac="02:4e:01:ff:ff:ff")
    assert not wire.outside()


def test_ipv4_and_arp_do_not(wire):
    wire.send(IP(src="10.0.0.2", dst="192.0.2.1") / UDP(sport=9, dport=99))
    wire.send(ARP(op=1, psrc="10.0.0.2", pdst="10.0.0.1", hwsrc=wire.guest.mac))
    assert not wire.outside()
    assert not [p for p in wire.guest_got() if ARP in p]


def test_random_packets(wire):
    """Random packets: only those with the guest's own addresses leave."""
    g, rng = wire.guest, random.Random(4861)
    for _ in range(2000):
        src = rng.choice([own(g, rng.randrange(1, 1 << 40)), str(g.delegated[rng.randrange(1 << 60)]),
                          str(ipaddress.ip_address(rng.getrandbits(128))), f"fe80::{rng.getrandbits(16):x}"])
        dst = rng.choice([OUTSIDE, "fe80::1", "ff02::1", "fd10::1", str(ipaddress.ip_address(rng.getrandbits(128)))])
        upper = rng.choice([UDP(sport=1, dport=2), TCP(dport=22), ICMPv6EchoRequest(), ICMPv6ND_RA(), ICMPv6ND_NA(tgt=dst),
                            Raw(rng.randbytes(rng.randrange(80)))])
        mac = g.mac if rng.random() < 0.8 else f"02:00:00:00:00:{rng.getrandbits(8):02x}"
        packet = IPv6(src=src, dst=dst, hlim=rng.choice([1, 64, 255]), nh=rng.choice([17, 6, 58, 0, 44, 60])) / upper
        try:
            wire.send(packet, mac)
        except OSError:
            pass  # too strange for a frame
    mine = [g.net, g.delegated, ipaddress.ip_network("fd10::/64")]  # the last is for errors from the container itself
    for p in wire.outside():
        assert IPv6 in p
        assert any(ipaddress.ip_address(p[IPv6].src) in n for n in mine), p.summary()


def test_what_may_come_in(wire):
    g = wire.guest
    for name, packet, passes in (
            ("http", IPv6(src=OUTSIDE, dst=g.address) / TCP(sport=5000, dport=80, flags="S"), True),
            ("http to the /60", IPv6(src=OUTSIDE, dst=str(g.delegated[1])) / TCP(sport=5001, dport=80, flags="S"), True),
            ("ssh", IPv6(src=OUTSIDE, dst=g.address) / TCP(sport=5002, dport=22, flags="S"), False),
            ("http by udp", IPv6(src=OUTSIDE, dst=g.address) / UDP(sport=5003, dport=80), False),
            ("dns from where it may", IPv6(src="2001:db8:9:1::7", dst=g.address) / UDP(sport=5004, dport=53), True),
            ("dns from elsewhere", IPv6(src="2001:db8:a::7", dst=g.address) / UDP(sport=5005, dport=53), False),
            ("echo", IPv6(src=OUTSIDE, dst=g.address) / ICMPv6EchoRequest(id=7), True),
            ("an answer to nothing", IPv6(src=OUTSIDE, dst=g.address) / ICMPv6EchoReply(id=8), False),
            ("its own address from outside", IPv6(src=own(g), dst=g.address) / TCP(sport=5006, dport=80, flags="S"), False),
            ("not its address", IPv6(src=OUTSIDE, dst="2001:db8:ffff::1") / TCP(sport=5007, dport=80, flags="S"), False)):
        wire.guest_got(seconds=0.05)
        wire.send_in(packet)
        got = [p for p in wire.guest_got(IPv6 if passes else None) if IPv6 in p and p[IPv6].src == packet.src]
        assert bool(got) == passes, name


def test_the_rules_follow_the_spec(wire):
    g, ssh = wire.guest, {"protocol": "tcp", "port": 22}
    rules = wire.cloud.instance("off")["spec"]["ingress"]

    def passes(port):
        wire.guest_got(seconds=0.05)
        wire.send_in(IPv6(src=OUTSIDE, dst=g.address) / TCP(sport=random.randrange(1024, 65536), dport=port, flags="S"))
        return bool([p for p in wire.guest_got(seconds=0.1) if TCP in p])

    assert not passes(22)
    wire.cloud.patch("off", {"ingress": rules + [ssh]})
    until("ssh is let in", lambda: passes(22))
    wire.cloud.patch("off", {"ingress": rules})
    until("ssh is not let in", lambda: not passes(22))
    until("http is", lambda: passes(80))
    # The agent repairs foreign changes when it applies the next change.
    run("ip", "netns", "exec", g.netns, "nft", "flush", "chain", "inet", "nacre", "forward")
    assert not passes(80)
    wire.cloud.patch("off", {"ingress": rules + [ssh]})
    until("both are let in", lambda: passes(80) and passes(22))
    wire.cloud.patch("off", {"ingress": rules})


def test_answers_come_in(wire):
    g = wire.guest
    answer = IPv6(src=OUTSIDE, dst=g.address) / UDP(sport=4242, dport=2424)
    wire.guest_got(seconds=0.05)
    wire.send_in(answer)
    assert not [p for p in wire.guest_got() if UDP in p]
    wire.send(IPv6(src=g.address, dst=OUTSIDE) / UDP(sport=2424, dport=4242))
    assert wire.outside(UDP)
    wire.send_in(answer)
    assert [p for p in wire.guest_got(UDP) if UDP in p]


def neighbours(wire):
    return len(run("ip", "-n", wire.guest.netns, "-6", "neigh", "show", "nud", "all").splitlines())


def test_a_scan_makes_no_neighbours(wire):
    before = neighbours(wire)
    for n in range(2000):
        wire.send_in(IPv6(src=OUTSIDE, dst=own(wire.guest, n + 1)) / TCP(sport=1, dport=80, flags="S"))
    until("the scan went through", lambda: len(wire.guest_got()) > 0)
    assert neighbours(wire) <= before + 2


def solicit(wire, src, cls=ICMPv6ND_NS, dst="ff02::1:ff00:1", before=None):
    message = cls(tgt="fe80::1") if cls is ICMPv6ND_NS else cls()
    packet = IPv6(src=src, dst=dst, hlim=255)
    wire.send((packet / before if before else packet) / message / ICMPv6NDOptSrcLLAddr(lladdr=wire.guest.mac))


@pytest.mark.parametrize("means", ["solicitations from link-local addresses", "solicitations from its own addresses",
                                   "router solicitations", "echo requests", "solicitations behind a fragment header",
                                   "solicitations behind options"])
def test_a_guest_cannot_fill_the_neighbour_table(wire, means):
    """The kernel has one neighbour table for the whole host."""
    g = wire.guest
    for n in range(1, 500):
        if means == "solicitations from link-local addresses":
            solicit(wire, f"fe80::1:{n:x}")
        elif means == "solicitations from its own addresses":
            solicit(wire, own(g, n) if n % 2 else str(g.delegated[n]))
        elif means == "router solicitations":
            solicit(wire, own(g, n) if n % 2 else f"fe80::2:{n:x}", ICMPv6ND_RS, "ff02::2")
        elif means == "echo requests":
            wire.send(IPv6(src=f"fe80::3:{n:x}", dst="fe80::1") / ICMPv6EchoRequest(id=n))
        elif means == "solicitations behind a fragment header":
            solicit(wire, own(g, n), before=IPv6ExtHdrFragment(id=n, m=0, offset=0))
        else:
            solicit(wire, own(g, n), before=IPv6ExtHdrDestOpt(options=[PadN(optdata=b"1234")]))
    wire.guest_got()
    assert neighbours(wire) <= 16 + 4, run("ip", "-n", g.netns, "-6", "neigh", "show", "nud", "all")


def test_the_gateway_answers_neighbour_solicitations(wire):
    # Whatever the last test has used up, the guest can always use the address made of its MAC.
    wire.send(IPv6(src=wire.link_local, dst="ff02::1:ff00:1", hlim=255) /
              ICMPv6ND_NS(tgt="fe80::1") / ICMPv6NDOptSrcLLAddr(lladdr=wire.guest.mac))
    got = [p for p in wire.guest_got(ICMPv6ND_NA) if ICMPv6ND_NA in p]
    assert got and got[0][ICMPv6NDOptDstLLAddr].lladdr == GATEWAY_MAC


def test_a_guest_is_no_router(wire):
    routes = run("ip", "-n", wire.guest.netns, "-6", "route")
    wire.send(IPv6(src=wire.link_local, dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=1800) /
              ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64))
    wire.send(IPv6(src=wire.link_local, dst="fe80::1", hlim=255) / ICMPv6ND_NA(tgt="fe80::2", O=1) /
              ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:66"))
    wire.guest_got()
    assert run("ip", "-n", wire.guest.netns, "-6", "route") == routes
    assert wire.guest.mac in run("ip", "-n", wire.guest.netns, "-6", "neigh", "show", "fe80::2")


def test_the_container_itself_is_closed(wire):
    g = wire.guest
    for dst in ("fe80::1", "fd10::1"):
        src = wire.link_local if dst == "fe80::1" else g.address
        wire.guest_got(seconds=0.05)
        wire.send(IPv6(src=src, dst=dst) / TCP(sport=6000, dport=22, flags="S"))
        wire.send(IPv6(src=src, dst=dst) / UDP(sport=6000, dport=9))
        # The kernel may solicit neighbours of an earlier test; that is no answer to these packets.
        assert not [p for p in wire.guest_got() if IPv6 in p and p[IPv6].src == dst and ICMPv6ND_NS not in p], \
            "not even a refusal"


def test_an_unreachable_port_and_a_large_packet_are_told(wire):
    """ICMPv6 errors for a connection of the guest's own come in."""
    g = wire.guest
    wire.send(IPv6(src=g.address, dst=OUTSIDE) / UDP(sport=7000, dport=7001) / Raw(b"x" * 100))
    sent = [p for p in wire.outside(UDP) if UDP in p][0][IPv6]
    wire.guest_got(seconds=0.05)
    wire.send_in(IPv6(src="2001:db8:77::1", dst=g.address) / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(sent)))
    assert [p for p in wire.guest_got(ICMPv6PacketTooBig) if ICMPv6PacketTooBig in p]
    wire.send_in(IPv6(src="2001:db8:77::1", dst=g.address) / ICMPv6PacketTooBig(mtu=1280) /
                 Raw(bytes(IPv6(src=g.address, dst=OUTSIDE) / UDP(sport=1, dport=1))))
    assert not [p for p in wire.guest_got() if ICMPv6PacketTooBig in p]


def test_router_solicitation_is_not_answered_while_off(wire):
    """nacre-vm sends advertisements, and it doesn't run; the kernel sends none."""
    wire.send(IPv6(src=wire.link_local, dst="ff02::2", hlim=255) / ICMPv6ND_RS())
    assert not [p for p in wire.guest_got() if ICMPv6ND_RA in p]


AS_QEMU = r"""
import os, socket, sys
uid, source, to = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
for kind, protocol, freebind in ((socket.SOCK_DGRAM, 0, 0), (socket.SOCK_DGRAM, 0, 1), (socket.SOCK_STREAM, 0, 0),
                                 (socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6, 0)):
    try:
        s = socket.socket(socket.AF_INET6, kind, protocol)
        s.setsockopt(socket.IPPROTO_IPV6, 78, freebind)  # IPV6_FREEBIND, ipv6(7)
        s.settimeout(0.2)
        s.bind((source, 0))
        s.connect((to, 4000))
        s.send(b"\x80\0\0\0\0\0\0\0 out of the container")
    except OSError as e:
        print(e)
"""


@pytest.mark.parametrize("source", ["overlay", "guest"])
def test_nothing_leaves_the_container_but_answers(wire, source):
    """QEMU is in the container's network namespace, but code in it can't send from the overlay address or the
    guest's."""
    g = wire.guest
    address = json.loads(run("ip", "-n", g.netns, "-j", "addr", "show", "uplink"))[0]["addr_info"][0]["local"]
    assert address.startswith("fd10:")
    uid = os.stat(f"{g.dir}/disk.qcow2").st_uid if os.path.exists(f"{g.dir}/disk.qcow2") else 200001
    for to in (OUTSIDE, "2001:db8:1000:ffff::1"):
        run("ip", "netns", "exec", g.netns, "/usr/bin/python3", "-c", AS_QEMU, str(uid),
            address if source == "overlay" else g.address, to)
    assert not wire.outside()
    # The kernel's own answers leave: an echo reply, and an error for a packet whose hop limit ran out.
    wire.send_in(IPv6(src=OUTSIDE, dst=address) / ICMPv6EchoRequest(id=77))
    assert [p for p in wire.outside(ICMPv6EchoReply) if ICMPv6EchoReply in p]
    wire.send_in(IPv6(src=OUTSIDE, dst=g.address, hlim=1) / TCP(sport=5000, dport=80, flags="S"))
    assert [p for p in wire.outside(ICMPv6TimeExceeded) if ICMPv6TimeExceeded in p]


AS_NACRE_VM = r"""
import os, socket, struct, sys
uid, tap, uplink = int(sys.argv[1]), sys.argv[2], socket.if_nametoindex(sys.argv[3])
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, tap.encode() + b"\0")
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
for scope in (uplink, socket.if_nametoindex(tap)):
    for to in ("ff02::1", "fe80::1"):
        for kind in (1, 2, 3, 4, 129, 135, 136, 137):
            try:
                s.sendto(struct.pack("!BBHI", kind, 0, 0, 1280) + bytes(48), (to, 0, 0, scope))
            except OSError as e:
                print(e)
"""


def test_the_socket_for_advertisements_sends_nothing_else(wire):
    """nacre-vm has this socket. It is bound to the tap, but the kernel ignores that if an address names another
    device."""
    g = wire.guest
    run("ip", "netns", "exec", g.netns, "/usr/bin/python3", "-c", AS_NACRE_VM, "260001", "tap", "uplink")
    assert not wire.outside()
    # The kernel may solicit neighbours that earlier tests made it remember, with its own link-layer address.
    assert not [p for p in wire.guest_got() if ICMPv6NDOptSrcLLAddr not in p]


def dhcp6_server():
    """A socket as nacre-vm has it (src/vm/dhcp6.c)."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tap\0")
    index = struct.pack("@I", socket.if_nametoindex("tap"))
    for group in ("ff02::1:2", "ff05::1:3"):
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group) + index)
    s.bind(("::", 547))
    s.settimeout(patient(5))
    return s


def test_dhcpv6_reaches_a_server_in_the_container(wire):
    """Messages of the guest from a link-local address come in, answers go out, and no others."""
    g = wire.guest
    with inside(g.netns, dhcp6_server) as s:
        for src, dst in ((wire.link_local, "ff02::1:2"), (wire.link_local, "fe80::1")):
            wire.send(IPv6(src=src, dst=dst) / UDP(sport=546, dport=547) / Raw(b"whole"))
            assert s.recvfrom(2000)[1][:2] == (src, 546)
        # The permanent neighbour stands for all others, which would have to answer a solicitation first.
        for source, to, port, passes in (("fe80::1", "fe80::2", 546, True), ("fe80::1", "fe80::2", 547, False),
                                         ("fe80::1", g.address, 546, False), ("fe80::1", "ff02::1", 546, False)):
            index = struct.pack("@I", inside(g.netns, lambda: socket.if_nametoindex("tap")))
            info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, source) + index)
            wire.guest_got(seconds=0.05)
            with contextlib.suppress(PermissionError):
                s.sendmsg([b"answer"], [info], 0, (to, port))
            assert [(p[IPv6].src, p[IPv6].dst) for p in wire.guest_got(UDP if passes else None) if UDP in p] == (
                [(source, to)] if passes else [])
        s.settimeout(0.2)
        whole_packet = UDP(sport=546, dport=547) / Raw(b"x" * 2000)
        for f in fragments(IPv6(src=wire.link_local, dst="ff02::1:2") / IPv6ExtHdrFragment(id=0x6000) / whole_packet):
            wire.send(f)
        for src, dst, sport in ((g.address, "ff02::1:2", 546), (g.address, "fe80::1", 546), ("::", "ff02::1:2", 546),
                                (wire.link_local, "ff02::1:2", 547), (wire.link_local, "ff05::1:3", 546)):
            wire.send(IPv6(src=src, dst=dst) / UDP(sport=sport, dport=547) / Raw(b"other"))
        wire.send(IPv6(src=wire.link_local, dst="ff02::1:2") / UDP(sport=546, dport=547) / Raw(b"forged"), mac="02:4e:01:ff:ff:ff")
        wire.send_in(IPv6(src="fe80::5", dst="ff02::1:2") / UDP(sport=546, dport=547) / Raw(b"outside"))
        with pytest.raises(TimeoutError):
            print(s.recv(2000))
    assert not [p for p in wire.outside() if UDP in p]


def fragments(packet, size=1280):
    return fragment6(packet, size)


def whole(packets, src, size):
    """Whether PACKETS contain all fragments of one packet from SRC with SIZE bytes."""
    seen = {p[IPv6ExtHdrFragment].offset * 8: len(p[IPv6ExtHdrFragment].payload)
            for p in packets if IPv6ExtHdrFragment in p and p[IPv6].src == src}
    return sum(seen.values()) == size


def udp(src, dst, dport, ident, size=2000):
    return IPv6(src=src, dst=dst) / IPv6ExtHdrFragment(id=ident) / UDP(sport=4000, dport=dport) / Raw(b"x" * (size - 8))


def test_fragments_in(wire):
    """The whole packet decides what may come in: later fragments of a forbidden packet don't come in either."""
    g = wire.guest
    for ident, (src, dport, order, passes) in enumerate([
            ("2001:db8:9:1::7", 53, 1, True), ("2001:db8:9:1::7", 53, -1, True), ("2001:db8:9:1::7", 54, 1, False),
            ("2001:db8:a::7", 53, -1, False), (own(g), 53, 1, False)], 0x1000):
        wire.guest_got(seconds=0.05)
        for f in fragments(udp(src, g.address, dport, ident))[::order]:
            wire.send_in(f)
        got = wire.guest_got(IPv6 if passes else None)
        assert whole(got, src, 2000) == passes, (src, dport, order)
        assert passes or not [p for p in got if IPv6 in p and p[IPv6].src == src]


def test_fragments_out(wire):
    """Source and MAC are checked in each fragment, before the kernel stores any of it."""
    g = wire.guest
    for f in fragments(udp(g.address, OUTSIDE, 9, 0x2000)):
        wire.send(f)
    assert whole(wire.outside(IPv6ExtHdrFragment), g.address, 2000)
    first, second = fragments(udp(g.address, OUTSIDE, 9, 0x2001))
    wire.send(first)
    wire.send(second, mac="02:4e:01:ff:ff:ff")
    assert not wire.outside()
    for f in fragments(udp("2001:db8:ffff::1", OUTSIDE, 9, 0x2002)):
        wire.send(f)
    assert not wire.outside()

    def held():
        text = run("ip", "netns", "exec", g.netns, "cat", "/proc/net/sockstat6")
        return int(text.split("FRAG6: inuse ")[1].split()[0])

    before = held()
    for n in range(50):
        wire.send(fragments(udp(f"2001:db8:ffff::{n:x}", OUTSIDE, 9, 0x3000 + n))[0])
    wire.outside()
    assert held() == before


def test_fragments_that_overlap(wire):
    """The whole packet is dropped (RFC 5722), so that its ports can't be read in two ways."""
    g, src = wire.guest, "2001:db8:9:1::7"
    first, second = fragments(udp(src, g.address, 53, 0x4000))
    twice = second.copy()
    twice[IPv6ExtHdrFragment].offset -= 1
    for f in (first, twice, second):
        wire.send_in(f)
    assert not [p for p in wire.guest_got() if IPv6 in p and p[IPv6].src == src]


def test_a_large_echo_passes_both_ways(wire):
    """Of a fragmented ICMPv6 packet only the first fragment has a type."""
    g = wire.guest
    for f in fragments(IPv6(src=g.address, dst=OUTSIDE) / IPv6ExtHdrFragment(id=0x5000) / ICMPv6EchoRequest(id=5, data=b"x" * 1992)):
        wire.send(f)
    assert whole(wire.outside(IPv6ExtHdrFragment), g.address, 2000)
    for f in fragments(IPv6(src=OUTSIDE, dst=g.address) / IPv6ExtHdrFragment(id=0x5001) / ICMPv6EchoRequest(id=6, data=b"x" * 1992)):
        wire.send_in(f)
    assert whole(wire.guest_got(IPv6ExtHdrFragment), OUTSIDE, 2000)
