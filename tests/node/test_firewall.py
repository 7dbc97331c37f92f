# SPDX-License-Identifier: Apache-2.0
"""The firewall of an instance: what its container lets pass, with real packets and without an API. The namespaces are
those of test_ipv4.py, with IPv6 beside IPv4."""

import contextlib
import itertools
import json
import os
import select
import socket
import subprocess
import threading
import time

import pytest
from harness import output as run, patient, until
from nodelib import inside
from test_ipv4 import FAR, FIRST, ID, MAC, MORTAL, OWN, PRIVATE, SHARED, Net, link_local

GUEST6, FAR6 = "2001:db8:1:1::5", "2001:db8:f:1::1"
OTHER, OTHER6 = "192.0.2.2", "2001:db8:f:2::1"
IN_60 = "2001:db8:e0:3::1"
FAR_ADDRESSES = (f"::ffff:{FAR}", f"::ffff:{OTHER}", FAR6, OTHER6, IN_60)
SO_RCVBUFFORCE = 33
WAIT = 0.3  # for what must not come

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class FirewallNet(Net):
    def __init__(self, address, **spec):
        super().__init__(address)
        try:
            self.apply(**spec)
            self.connect()
        except BaseException:
            self.close()
            raise

    def connect(self):
        super().connect()
        run("ip", "netns", "exec", self.public, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        self.ip(self.guest, "addr", "replace", f"{GUEST6}/128", "dev", "eth0", "nodad")
        self.ip(self.guest, "-6", "route", "replace", "default", "via", "fe80::1", "dev", "eth0")
        self.ip(self.public, "-6", "route", "replace", "2001:db8:1:1::/64", "via", link_local(MAC), "dev", f"i-{ID}")
        for netns, device, own, other, to in (
                (self.public, "far0", "fd00:9::", "fd00:9::1", ("2001:db8:e0::/44", "2001:db8:f::/48")),
                (self.far, "near0", "fd00:9::1", "fd00:9::", ("default",))):
            self.ip(netns, "addr", "replace", f"{own}/127", "dev", device, "nodad")
            for prefix in to:
                self.ip(netns, "-6", "route", "replace", prefix, "via", other)
        for address in (FAR6, OTHER6, IN_60):
            self.ip(self.far, "addr", "replace", f"{address}/128", "dev", "lo", "nodad")

    def endpoint(self, name, *routes, group=None):
        if routes:
            self.command("endpoint " + json.dumps({
                "metadata": {"name": name, "namespace": "t"}, "status": {"groups": [group]},
                "spec": {"host": "h", "vtep": "fd10::9", "ip": "fd10::9", "mac": MAC, "routes": list(routes)}}))
        else:
            self.command(f"noendpoint {name}")
        return self.apply()

    def table(self):
        """The one of the two that is in force."""
        names = [line.split()[2] for line in self.nft("list", "tables").splitlines() if "nacre_firewall" in line]
        assert len(names) == 1, names
        return names[0]

    def nft(self, *argv):
        return run("ip", "netns", "exec", self.container, "nft", *argv)


@pytest.fixture(scope="module")
def own_net():
    net = FirewallNet(OWN, ipv4="dedicated")
    with contextlib.closing(net), servers(net.guest), servers(net.far, addresses=FAR_ADDRESSES):
        yield net


@pytest.fixture
def net(own_net):
    """With no Firewall and no member."""
    yield own_net
    for name in ("fw", "second"):
        own_net.command(f"nofirewall {name}")
    for name in ("m1", "m2"):
        own_net.command(f"noendpoint {name}")
    own_net.apply(ingress=[])


@contextlib.contextmanager
def servers(netns, tcp=(80, 81), udp=(53, 54), addresses=("::",)):
    """Echoes, at all addresses of both families. An answer of UDP has the address to which its socket is bound."""
    def made(kind, port, address="::"):
        s = inside(netns, lambda: socket.socket(socket.AF_INET6, kind))
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM:
            s.listen(100)
        return s

    listening = [made(socket.SOCK_STREAM, p) for p in tcp]
    all_, stop = listening + [made(socket.SOCK_DGRAM, p, a) for p in udp for a in addresses], threading.Event()

    def serve():
        while not stop.is_set():
            for s in select.select(all_, [], [], 0.02)[0]:
                try:
                    if s in listening:
                        all_.append(s.accept()[0])
                    elif s.type == socket.SOCK_DGRAM:
                        s.sendto(*s.recvfrom(65536))
                    elif data := s.recv(65536):
                        s.sendall(data)
                    else:
                        all_.remove(s)
                        s.close()
                except OSError:
                    if s.type != socket.SOCK_DGRAM and s not in listening:
                        all_.remove(s)
                        s.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for s in all_:
            s.close()


def opened(netns, kind, source, port=0):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    s = inside(netns, lambda: socket.socket(family, kind))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source.startswith("fe80:"):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    s.bind((source, port))
    return s


def answers(s, text=b"x", seconds=None):
    s.settimeout(seconds or patient(5))
    try:
        s.send(text)
        return s.recv(100) == text
    except (TimeoutError, ConnectionRefusedError):
        return False


def passes(netns, kind, source, to, seconds=WAIT):
    """True if an echo of that kind answers; `seconds` only limits how long to wait for what must not come."""
    with opened(netns, kind, source) as s:
        s.settimeout(seconds)
        try:
            s.connect(to)
        except (TimeoutError, ConnectionRefusedError):
            return False
        return answers(s, seconds=seconds)


TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def into(net, kind, port, source=FAR, **seconds):
    return passes(net.far, kind, source, (GUEST6 if ":" in source else OWN, port), **seconds)


def out_of(net, kind, port, to=FAR, **seconds):
    return passes(net.guest, kind, GUEST6 if ":" in to else OWN, (to, port), **seconds)


def may(call, *argv, **kw):
    return call(*argv, seconds=patient(5), **kw)


def pings(netns, source, to, seconds=0.4):
    return subprocess.run(["ip", "netns", "exec", netns, "ping", "-c1", f"-W{seconds}", "-I", source, to],
                          stdout=subprocess.DEVNULL, check=False).returncode == 0


# ---- rules ----


def test_nothing_comes_in_and_all_goes_out(net):
    net.apply()
    for source in (FAR, FAR6):
        assert not into(net, TCP, 80, source) and not into(net, UDP, 53, source)
        assert not pings(net.far, source, GUEST6 if ":" in source else OWN)
        assert may(out_of, net, TCP, 80, source) and may(out_of, net, UDP, 53, source)
        assert pings(net.guest, GUEST6 if ":" in source else OWN, source, patient(5))


def test_each_protocol_comes_in(net):
    net.firewall(ingress=[{"protocol": "tcp", "port": 79, "endPort": 80}, {"protocol": "udp", "port": 53},
                          {"protocol": "icmp", "icmpType": 8}, {"protocol": "icmpv6", "icmpType": 128}])
    for source in (FAR, FAR6):
        assert may(into, net, TCP, 80, source) and may(into, net, UDP, 53, source)
        assert not into(net, TCP, 81, source) and not into(net, UDP, 54, source)
        assert pings(net.far, source, GUEST6 if ":" in source else OWN, patient(5))
    counted = {rule: packets for _, direction, rule, packets in net.read()["rules"] if direction == "in"}
    # One packet of each connection, whatever it carried; the third and fourth rule are of one family.
    assert counted == {0: 2, 1: 2, 2: 1, 3: 1}


def test_addresses(net):
    net.firewall(ingress=[{"prefixes": ["192.0.2.1/32", "2001:db8:f:1::/64"]},
                          {"protocol": "tcp", "port": 81, "prefixes": ["192.0.2.0/24", "2001:db8:f::/48"]}])
    for source, other in ((FAR, OTHER), (FAR6, OTHER6)):
        assert may(into, net, TCP, 80, source) and may(into, net, UDP, 54, source) and may(into, net, TCP, 81, other)
        assert not into(net, TCP, 80, other) and not into(net, UDP, 54, other)
        assert pings(net.far, source, GUEST6 if ":" in source else OWN, patient(5))
        assert not pings(net.far, other, GUEST6 if ":" in source else OWN)


def test_layers(net):
    """Rules that overlap in part: each is in force."""
    net.firewall(ingress=[{"protocol": "tcp", "port": 70, "endPort": 80},
                          {"protocol": "tcp", "port": 80, "endPort": 90, "prefixes": ["192.0.2.0/24", "2001:db8:f:1::/64"]},
                          {"protocol": "tcp", "port": 75, "endPort": 85, "prefixes": ["2001:db8:f::/48"]}])
    for source in (FAR, FAR6, OTHER6):
        assert may(into, net, TCP, 80, source) and may(into, net, TCP, 81, source)


def test_many_rules_of_one_port(net):
    """So many, for prefixes of three lengths, that each length has a map of hashes."""
    kinds = ((TCP, "tcp", 80, ["192.0.2.1/32", f"{FAR6}/128"], ["198.51.100.9/32", "2001:db8:9::9/128"]),
             (UDP, "udp", 53, ["192.0.2.0/24", "2001:db8:f::/48"], ["198.51.100.0/24", "2001:db8:9::/48"]),
             (TCP, "tcp", 81, [], []))
    rules = [{"protocol": word, "port": port, "prefixes": prefixes} for _, word, port, prefixes, _ in kinds] + [
        {"protocol": word, "port": k * 1000 + i, "prefixes": others} for k, (_, word, _, _, others) in enumerate(kinds, 1)
        for i in range(300)]
    net.firewall(ingress=rules, egress=rules)
    maps = {name for name in net.nft("-t", "list", "table", "inet", net.table()).split() if "h" in name and name[0] in "io"}
    assert {f"{d}{m}" for d in ("in", "out") for m in ("6h128", "6h48", "6h0", "4h32", "4h24", "4h0")} <= maps
    for call in (into, out_of):
        for source, other in ((FAR, OTHER), (FAR6, OTHER6)):
            assert may(call, net, TCP, 80, source) and may(call, net, UDP, 53, source) and may(call, net, TCP, 81, source)
            assert may(call, net, UDP, 53, other) and may(call, net, TCP, 81, other)
            assert not call(net, TCP, 80, other) and not call(net, UDP, 54, source)
        assert not call(net, UDP, 53, IN_60)
    assert {rule: packets for _, direction, rule, packets in net.read()["rules"] if direction == "in"} == {0: 2, 1: 4, 2: 4}
    # A connection goes on after a change, by whichever of its packets comes first.
    with opened(net.far, TCP, FAR6) as s:
        s.settimeout(patient(5))
        s.connect((GUEST6, 80))
        net.firewall(ingress=rules, egress=rules)
        assert answers(s)
        net.firewall(ingress=rules[1:], egress=rules)
        assert not answers(s, seconds=WAIT)


def test_several_add_up(net):
    net.apply(ingress=[{"proto": "udp", "port": 54}, {"proto": "icmp"}])
    net.firewall(ingress=[{"protocol": "tcp", "port": 80}])
    net.firewall("second", ingress=[{"protocol": "udp", "port": 53}])
    for source in (FAR, FAR6):
        assert may(into, net, TCP, 80, source) and may(into, net, UDP, 53, source) and may(into, net, UDP, 54, source)
        assert pings(net.far, source, GUEST6 if ":" in source else OWN, patient(5))
        assert not into(net, TCP, 81, source)
    assert sorted(row[0] for row in net.read()["rules"]) == [0, 1]


def test_egress(net):
    net.firewall(ingress=[{"protocol": "tcp", "port": 80}], egress=[
        {"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": 53, "prefixes": ["192.0.2.1/32", "2001:db8:f:1::/64"]},
        {"protocol": "icmp"}, {"protocol": "icmpv6"}])
    for to, other in ((FAR, OTHER), (FAR6, OTHER6)):
        assert may(out_of, net, TCP, 80, other) and may(out_of, net, UDP, 53, to)
        assert not out_of(net, TCP, 81, to) and not out_of(net, UDP, 53, other)
        assert pings(net.guest, GUEST6 if ":" in to else OWN, to, patient(5))
        # Answers to what came in are no egress.
        assert may(into, net, TCP, 80, to)
    # Another Firewall without defaultEgress adds nothing and takes nothing away.
    net.firewall("second", ingress=[{"protocol": "tcp", "port": 81}])
    assert not out_of(net, TCP, 81) and may(out_of, net, TCP, 80)
    net.command("nofirewall fw")
    net.apply()
    assert may(out_of, net, TCP, 81)


def test_drops_are_counted(net):
    net.firewall(deny=True)
    before = net.read()
    assert not into(net, UDP, 53, FAR6) and not into(net, UDP, 53, OTHER) and not out_of(net, UDP, 54, FAR)
    assert not pings(net.far, FAR, OWN)
    now = net.read()
    assert now["in"] == before["in"] + 3 and now["out"] == before["out"] + 1
    # From the guest to nobody of its own prefix: it would go back to the guest, and no rule is asked.
    assert not out_of(net, UDP, 54, "2001:db8:1:1::99")
    assert net.read()["out"] == now["out"]
    new = [drop[:5] for drop in now["drops"]]
    assert sorted(new) == [["in", FAR, 1, 0, 1], ["in", OTHER, 17, 53, 1], ["in", FAR6, 17, 53, 1], ["out", FAR, 17, 54, 1]]
    assert all(drop[5] < 60000 for drop in now["drops"])
    # A new table begins with no flows; the totals go on.
    net.firewall(ingress=[{"protocol": "tcp", "port": 80}], deny=True)
    after = net.read()
    assert (after["in"], after["out"], after["drops"]) == (now["in"], now["out"], [])


def test_what_no_rule_can_allow_is_counted(net):
    """Rules are asked before the container drops what a guest may never send."""
    with servers(net.far, tcp=(), udp=(67, 68), addresses=(f"::ffff:{FAR}",)):
        net.firewall(egress=[{"protocol": "udp", "port": 67}])
        before = net.read()
        assert not out_of(net, UDP, 67) and not out_of(net, UDP, 68)
    now = net.read()
    assert now["rules"] == [[0, "out", 0, 1]] and now["out"] == before["out"] + 1


def test_icmp_errors(net):
    """Errors about connections that are allowed pass both ways, others don't."""
    net.firewall(ingress=[{"protocol": "udp", "port": 99}, {"protocol": "icmp"}])
    for source, to, netns in ((FAR, OWN, net.far), (OWN, FAR, net.guest)):
        with opened(netns, UDP, source) as s:
            s.settimeout(patient(5))
            s.connect((to, 99))
            s.send(b"x")
            with pytest.raises(ConnectionRefusedError):
                s.recv(10)
    # The connection is cut: the guest's error about its packet, were there one, and those about it from outside are not
    # looked up, although the rules let all ICMP in.
    with opened(net.far, UDP, FAR) as s:
        s.connect((OWN, 53))
        net.firewall(ingress=[{"protocol": "udp", "port": 53}, {"protocol": "icmp"}])
        assert answers(s)
        net.firewall(ingress=[{"protocol": "icmp"}])
        quoted = packet_of(s)
        assert net.read()["in"] >= 0
        send_error(net, quoted)
        assert not answers(s, seconds=WAIT)


def packet_of(s):
    """The guest's answer on the connection, as an error from outside quotes it."""
    from scapy.layers.inet import IP, UDP as Udp
    return bytes(IP(src=OWN, dst=FAR, ttl=60) / Udp(sport=53, dport=s.getsockname()[1]) / b"x")


def send_error(net, quoted):
    from scapy.layers.inet import ICMP, IP
    raw = inside(net.far, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
    with raw:
        raw.sendto(bytes(IP(src=OTHER, dst=OWN) / ICMP(type=3, code=1) / quoted), (OWN, 0))


# ---- changes ----


def test_what_is_no_longer_allowed_is_cut(net):
    rules = [{"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": 53}]
    net.firewall(ingress=rules)
    pairs = [(TCP, 80, FAR), (TCP, 80, FAR6), (UDP, 53, FAR), (UDP, 53, FAR6)]
    with contextlib.ExitStack() as stack:
        open_ = []
        for kind, port, source in pairs:
            s = stack.enter_context(opened(net.far, kind, source))
            s.settimeout(patient(5))
            s.connect((GUEST6 if ":" in source else OWN, port))
            assert answers(s)
            open_.append(s)
        net.firewall(ingress=[{"protocol": "tcp", "port": 81}])
        for s in open_:
            assert not answers(s, b"lost", seconds=WAIT)
        # Another change: what was cut stays cut.
        net.firewall(ingress=[{"protocol": "tcp", "port": 82}])
        assert not any(answers(s, b"lost", seconds=WAIT) for s in open_)
        # It is allowed again: TCP sends again what was lost.
        net.firewall(ingress=rules)
        open_[0].settimeout(patient(20))
        assert open_[0].recv(100).startswith(b"lost")
        assert answers(open_[2], b"new")


def resumes(sender, receiver, to):
    """True if a datagram arrives, of several."""
    receiver.settimeout(WAIT)
    for _ in range(int(patient(5) / WAIT)):
        sender.sendto(b"again", to)
        with contextlib.suppress(TimeoutError):
            return receiver.recv(100) == b"again"
    return False


@pytest.mark.parametrize("source", [FAR, FAR6])
@pytest.mark.parametrize("began, port", [("guest", 5282), ("outside", 5283)])
def test_one_port_at_both_ends(net, source, began, port):
    """WireGuard: after a change only the other side may begin. Both go on sending, so the kernel keeps the connection."""
    rule, own = [{"protocol": "udp", "port": port}], GUEST6 if ":" in source else OWN
    net.firewall(ingress=[] if began == "guest" else rule, egress=rule if began == "guest" else [], deny=True)
    with opened(net.guest, UDP, own, port) as guest, opened(net.far, UDP, source, port) as far:
        to_far, to_guest = (guest, far, (source, port)), (far, guest, (own, port))
        first, second = (to_far, to_guest) if began == "guest" else (to_guest, to_far)
        assert resumes(*first) and resumes(*second)
        net.firewall(ingress=rule if began == "guest" else [], egress=[] if began == "guest" else rule, deny=True)
        assert not passes_once(*first)
        assert resumes(*second) and resumes(*first)
        # Neither may begin any more.
        net.firewall(deny=True)
        for _ in range(3):
            assert not passes_once(*first) and not passes_once(*second)
        # The rules of the beginning: the old connection goes on, whoever sends.
        net.firewall(ingress=[] if began == "guest" else rule, egress=rule if began == "guest" else [], deny=True)
        assert resumes(*second) and resumes(*first)


def passes_once(sender, receiver, to):
    receiver.settimeout(WAIT)
    sender.sendto(b"once", to)
    with contextlib.suppress(TimeoutError):
        return receiver.recv(100) == b"once"
    return False


def test_egress_without_rules_begins_the_other_way_round(net):
    net.firewall(ingress=[{"protocol": "udp", "port": 5284}])
    with opened(net.guest, UDP, OWN, 5284) as guest, opened(net.far, UDP, FAR, 5284) as far:
        assert resumes(far, guest, (OWN, 5284))
        net.firewall()
        assert not passes_once(far, guest, (OWN, 5284)) and not passes_once(far, guest, (OWN, 5284))
        assert resumes(guest, far, (FAR, 5284)) and resumes(far, guest, (OWN, 5284))


def test_tcp_does_not_begin_the_other_way_round(net):
    net.firewall(egress=[{"protocol": "tcp", "port": 80}])
    with opened(net.guest, TCP, OWN) as s:
        s.settimeout(patient(5))
        s.connect((FAR, 80))
        assert may(answers, s)
        net.firewall(ingress=[{"protocol": "tcp"}], deny=True)
        assert not answers(s, seconds=WAIT) and not answers(s, seconds=WAIT)


@pytest.mark.parametrize("source", [FAR, FAR6])
def test_what_was_cut_does_not_pass_between_two_tables(net, source):
    """While one table takes the other's place, a packet may meet chains without rules."""
    net.firewall(ingress=[{"protocol": "udp", "port": 53}])
    with opened(net.far, UDP, source) as cut, opened(net.far, UDP, source) as idle:
        for s in (cut, idle):
            s.connect((GUEST6 if ":" in source else OWN, 53))
            assert may(answers, s)
        net.firewall(ingress=[{"protocol": "udp", "port": 54}])
        assert not answers(cut, seconds=WAIT)
        net.nft("flush", "chain", "inet", net.table(), "forward")
        assert not answers(cut, seconds=WAIT)
        assert may(answers, idle)


def test_a_connection_without_memory_does_not_come_back(net):
    """The kernel has forgotten a connection of TCP. Its next packet is not the beginning of another one."""
    net.firewall(ingress=[{"protocol": "tcp"}])
    with opened(net.far, TCP, FAR) as s:
        s.settimeout(patient(5))
        s.connect((OWN, 80))
        assert answers(s)
        net.firewall(ingress=[{"protocol": "udp"}])
        run("ip", "netns", "exec", net.container, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
        assert not answers(s, seconds=WAIT)


@pytest.mark.parametrize("first", ["outside", "guest"])
@pytest.mark.parametrize("source", [FAR, FAR6])
def test_whoever_comes_first_after_a_change(net, source, first):
    """The guest's answer renews a connection as well as a packet from outside, in both directions of connections."""
    rules = {"ingress": [{"protocol": "udp", "port": 60}], "egress": [{"protocol": "udp", "port": 61}]}
    guest = GUEST6 if ":" in source else OWN
    net.firewall(**rules)
    with opened(net.guest, UDP, guest, 60) as served, opened(net.far, UDP, source, 5000) as client, \
            opened(net.guest, UDP, guest, 5001) as asking, opened(net.far, UDP, source, 61) as asked:
        for s in (served, client, asking, asked):
            s.settimeout(patient(5))
        client.sendto(b"1", (guest, 60))
        assert served.recvfrom(10)[1][1] == 5000
        asking.sendto(b"1", (source, 61))
        assert asked.recvfrom(10)[1][1] == 5001
        net.firewall(**rules)
        ways = [(client, served, (guest, 60)), (asked, asking, (guest, 5001))]
        if first == "guest":
            ways = [(served, client, (source, 5000)), (asking, asked, (source, 61))]
        for sender, receiver, to in ways:
            sender.sendto(b"2", to)
            assert receiver.recv(10) == b"2"


def backlog_drops():
    """Packets that this machine's kernel has dropped since its processors had too much to do (net.core.netdev_max_backlog)."""
    with open("/proc/net/softnet_stat") as f:
        return sum(int(line.split()[1], 16) for line in f)


class Stream:
    """Numbered datagrams one way, paced, and which of them didn't arrive. No more than IN_FLIGHT are on their way, so
    that those of several streams fit into the backlog of one processor (1,000) that has too much to do. AIM: where they
    are sent, if a rule on the way gives them the destination TO."""
    IN_FLIGHT, QUIET = 100, 5

    def __init__(self, netns, source, to_netns, to, port, aim=None):
        self.out = opened(netns, UDP, source)
        self.out.connect((aim or to, port))
        self.back = opened(to_netns, UDP, to, port)
        self.back.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.back.settimeout(0.05)
        self.sent, self.arrived, self.stop, self.got = 0, 0, threading.Event(), set()
        self.sender, self.receiver = (threading.Thread(target=fn) for fn in (self.send, self.receive))
        self.sender.start()
        self.receiver.start()

    def send(self):
        while not self.stop.is_set():
            for _ in range(min(5, self.IN_FLIGHT - (self.sent - self.arrived))):
                self.out.send(self.sent.to_bytes(4, "big"))
                self.sent += 1
            time.sleep(0.001)

    def receive(self):
        """Until nothing has come for a while after the last datagram was sent: while the sender runs, that all have
        arrived means nothing, since it may be amid five of them."""
        while self.sender.is_alive() or len(self.got) < self.sent:
            sent_all = not self.sender.is_alive()
            self.back.settimeout(self.QUIET if sent_all else 0.05)
            try:
                number = int.from_bytes(self.back.recv(10), "big")
                self.got.add(number)
                self.arrived = max(self.arrived, number + 1)
            except TimeoutError:
                if sent_all:
                    return

    def end(self):
        """How many were sent, and the numbers of those that are lost."""
        self.stop.set()
        self.sender.join()
        self.receiver.join()
        self.out.close()
        self.back.close()
        return self.sent, sorted(set(range(self.sent)) - self.got)


def loses_nothing(begin, act, least=1):
    """Calls ACT while the streams that BEGIN returns are sending: each sends at least LEAST datagrams and loses none. If
    the kernel has dropped packets of whomever meanwhile because its processors had too much to do, a loss says nothing
    about the rules, and all is done again."""
    for _ in range(3):
        dropped, streams = backlog_drops(), begin()
        try:
            act(streams)
        finally:
            results = [stream.end() for stream in streams]
        if not any(lost for _, lost in results):
            assert all(sent >= least for sent, _ in results), results
            return
        assert backlog_drops() != dropped, results
    raise AssertionError(f"each time the kernel dropped packets of its backlog, too: {results}")


@pytest.mark.parametrize("busy, tries", [(False, 1), (True, 3)])
def test_a_loss_is_not_hidden_by_load(net, monkeypatch, busy, tries):
    """That the kernel drops packets of its backlog excuses no loss."""
    count = itertools.count(step=10000)
    monkeypatch.setattr(Stream, "QUIET", WAIT)
    monkeypatch.setitem(globals(), "backlog_drops", lambda: next(count) * busy)
    acted = []

    def begin():
        net.firewall(ingress=[{"protocol": "udp", "port": 70}])
        return [Stream(net.far, FAR6, net.guest, GUEST6, 70)]

    def act(streams):
        acted.append(streams)
        until("packets arrive", lambda: streams[0].got, 20)
        net.firewall()
        until("packets are lost", lambda: streams[0].sent > len(streams[0].got) + 50, 20)

    with pytest.raises(AssertionError):
        loses_nothing(begin, act)
    assert len(acted) == tries


def test_a_hundred_changes_under_traffic(net):
    """What stays allowed goes on, what is not allowed gets no packet through."""
    fixed = [{"protocol": "udp", "port": 70}, {"protocol": "tcp", "port": 80}]
    egress = [{"protocol": "udp", "port": 71}]
    many = [{"protocol": "tcp", "port": 1000 + i, "prefixes": [f"2001:db8:{i + 1:x}::/48"]} for i in range(300)]
    net.firewall(ingress=fixed, egress=egress)
    with opened(net.far, TCP, FAR6) as s, opened(net.far, UDP, OTHER6) as refused, opened(net.guest, UDP, GUEST6, 72) as none:
        s.settimeout(patient(20))
        s.connect((GUEST6, 80))
        none.settimeout(WAIT)
        refused.connect((GUEST6, 72))

        def change(_):
            for i in range(100):
                assert net.firewall(ingress=fixed + many[:3 * i], egress=egress) == "changed"
                assert answers(s, str(i).encode())
                refused.send(b"x")

        loses_nothing(lambda: [Stream(net.far, FAR6, net.guest, GUEST6, 70), Stream(net.far, FAR, net.guest, OWN, 70),
                               Stream(net.guest, GUEST6, net.far, FAR6, 71)], change, least=500)
        with pytest.raises(TimeoutError):
            none.recv(10)


# Packets to the gateway that `antispoof` (-450) has let pass go to FAR6, where they can be counted.
TURNED = f"""
table inet turned {{
	chain prerouting {{
		type filter hook prerouting priority -440; policy accept;
		ip6 daddr fe80::1 udp dport 73 ip6 saddr set {GUEST6} ip6 daddr set {FAR6}
	}}
}}
"""


def test_the_containers_own_rules_are_replaced_under_traffic(net):
    """The rules about addresses, which an agent that starts writes anew."""
    egress = [{"protocol": "udp", "port": port} for port in (53, 71, 72, 73)]
    delegated, wider, in_delegated = "2001:db8:5000::/60", "2001:db8:5000::/59", "2001:db8:5000:7::5"
    net.firewall(ingress=[{"protocol": "udp", "port": 70}], egress=egress)
    assert may(out_of, net, UDP, 53, FAR6) and may(out_of, net, UDP, 53, FAR)  # neighbours know each other now
    net.apply(delegated=delegated)
    net.ip(net.guest, "addr", "replace", f"{in_delegated}/128", "dev", "eth0", "nodad")
    subprocess.run(["ip", "netns", "exec", net.container, "nft", "-f", "-"], input=TURNED, text=True, check=True)

    def replace(_):
        for i in range(200):
            assert net.apply(delegated=delegated if i % 2 else wider) == "changed"

    try:
        loses_nothing(lambda: [
            Stream(net.far, FAR6, net.guest, GUEST6, 70), Stream(net.far, FAR, net.guest, OWN, 70),
            Stream(net.guest, GUEST6, net.far, FAR6, 71), Stream(net.guest, OWN, net.far, FAR, 71),
            Stream(net.guest, in_delegated, net.far, FAR6, 72),
            Stream(net.guest, link_local(MAC), net.far, FAR6, 73, aim="fe80::1")], replace, least=500)
    finally:
        net.nft("delete", "table", "inet", "turned")
        net.ip(net.guest, "addr", "del", f"{in_delegated}/128", "dev", "eth0")
        del net.spec["delegated"]


# ---- members of groups ----

PEERS = {"peers": {"matchLabels": {"team": "a"}}}
ROUTES = {"/64": ({"prefix": "2001:db8:f:1::/64"}, FAR6, OTHER6), "/60": ({"prefix": "2001:db8:e0::/60"}, IN_60, FAR6),
          "/32": ({"prefix": f"{FAR}/32"}, FAR, OTHER)}


@pytest.mark.parametrize("kind", ROUTES)
def test_members(net, kind):
    route, member, other = ROUTES[kind]
    net.firewall(ingress=[{"protocol": "tcp", "port": 80, **PEERS}, {"protocol": "icmp", **PEERS}, {"protocol": "icmpv6", **PEERS}],
                 egress=[PEERS])
    group = net.command("group fw")
    assert not into(net, TCP, 80, member) and not out_of(net, TCP, 80, member)
    net.endpoint("m1", route, group=group)
    assert may(into, net, TCP, 80, member) and not into(net, TCP, 81, member) and not into(net, TCP, 80, other)
    assert may(out_of, net, UDP, 53, member) and not out_of(net, TCP, 80, other)
    assert pings(net.far, member, GUEST6 if ":" in member else OWN, patient(5))
    with opened(net.far, TCP, member) as s:
        s.settimeout(patient(5))
        s.connect((GUEST6 if ":" in member else OWN, 80))
        assert answers(s)
        # The same address, and another member: nothing is taken away.
        net.endpoint("m2", route, {"prefix": "2001:db8:77::/64"}, group=group)
        net.endpoint("m1")
        assert answers(s)
        assert net.endpoint("m2") == "changed"
        assert not answers(s, seconds=WAIT)
        assert not into(net, TCP, 80, member) and not out_of(net, UDP, 53, member)
    assert net.endpoint("m1", route, group="0" * 32) == "same" or not into(net, TCP, 80, member)


def test_members_with_slices(net):
    """By the port of a shared address; of echo requests by the identifier."""
    net.firewall(ingress=[{"protocol": "udp", "port": 53, **PEERS}, {"protocol": "icmp", **PEERS}],
                 egress=[{"protocol": "tcp", **PEERS}])
    net.endpoint("m1", {"prefix": f"{FAR}/32", "firstPort": 1024, "lastPort": 1535}, group=net.command("group fw"))

    def asks(port):
        with opened(net.far, UDP, FAR, port) as s:
            s.connect((OWN, 53))
            return answers(s, seconds=patient(5) if 1024 <= port <= 1535 else WAIT)

    assert [port for port in (1023, 1024, 1535, 1536) if asks(port)] == [1024, 1535]

    def echoed(identifier):
        return subprocess.run(["ip", "netns", "exec", net.far, "ping", "-c1", "-e", str(identifier), "-I", FAR,
                               f"-W{patient(5) if identifier == 1100 else WAIT}", OWN],
                              stdout=subprocess.DEVNULL, check=False).returncode == 0

    assert echoed(1100) and not echoed(1600)
    with servers(net.far, tcp=(1100, 1600), udp=()):
        assert may(out_of, net, TCP, 1100) and not out_of(net, TCP, 1600)


def test_peers_and_prefixes_are_a_union(net):
    net.firewall(ingress=[{"protocol": "tcp", "port": 80, "prefixes": [f"{OTHER}/32"], **PEERS}])
    net.endpoint("m1", {"prefix": f"{FAR}/32"}, group=net.command("group fw"))
    assert may(into, net, TCP, 80, FAR) and may(into, net, TCP, 80, OTHER)
    assert not into(net, TCP, 80, "192.0.2.3") and not into(net, TCP, 80, FAR6)


# ---- forwards ----


def test_forwards_are_open_to_all():
    net = FirewallNet(PRIVATE, ipv4="shared", slices=[FIRST], forwards=[
        {"proto": "tcp", "address": SHARED, "port": 1100, "target": 80}])
    with contextlib.closing(net), servers(net.guest), servers(net.far):
        net.firewall(deny=True)
        assert passes(net.far, TCP, FAR, (SHARED, 1100), patient(5))
        assert passes(net.guest, TCP, PRIVATE, (SHARED, 1100), patient(5))  # hairpin
        assert not passes(net.guest, TCP, PRIVATE, (FAR, 80))
        with opened(net.far, TCP, FAR) as s:
            s.settimeout(patient(5))
            s.connect((SHARED, 1100))
            assert answers(s)
            net.firewall(ingress=[{"protocol": "udp", "port": 1}], egress=[{"protocol": "tcp", "port": 81}])
            assert answers(s)
            assert passes(net.guest, TCP, PRIVATE, (FAR, 81), patient(5))
            net.apply(forwards=[])
            assert not answers(s, seconds=WAIT)


# ---- what goes wrong ----


def test_nothing_passes_without_the_table(net):
    net.firewall(ingress=[{}])
    assert may(into, net, TCP, 80)
    net.nft("delete", "table", "inet", net.table())
    for address in (FAR, FAR6):
        assert not into(net, UDP, 53, address) and not out_of(net, UDP, 53, address)
    assert net.apply() == "changed"
    for address in (FAR, FAR6):
        assert may(into, net, UDP, 53, address) and may(out_of, net, UDP, 53, address)


def test_what_somebody_changes_is_repaired(net):
    net.firewall(ingress=[{"protocol": "tcp", "port": 80}])
    assert net.apply() == "same"
    for table in (net.table(), "nacre"):
        net.nft("add", "rule", "inet", table, "forward", "accept")
        assert net.apply() == "changed"
        assert net.apply() == "same"
    assert may(into, net, TCP, 80) and not into(net, TCP, 81)


def test_another_process_goes_on(net):
    """The agent begins anew: connections go on, and are looked up again."""
    ingress = [{"protocol": "udp", "port": 53}, {"protocol": "udp", "port": 70}]
    net.firewall(ingress=ingress)
    assert may(into, net, UDP, 53, FAR6)  # neighbours know each other now

    def restart(_):
        net.host.stdin.close()
        net.host.wait()
        net.host.stdout.close()
        net.start()
        net.firewall(ingress=ingress)

    loses_nothing(lambda: [Stream(net.far, FAR6, net.guest, GUEST6, 70)], restart)


# What the version before Firewalls had in its table, as far as it decides what comes in.
BEFORE = """
delete table inet nacre
table inet nacre {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state invalid drop
		iifname "tap" oifname "uplink" accept
		iifname "uplink" oifname "tap" jump ingress
	}
	chain ingress {
		ct state established,related accept
		udp dport 70 accept
		tcp dport 80 accept
		tcp dport 81 accept
	}
}
"""


def test_an_instance_of_an_earlier_version(net):
    """Connections that its rules had let pass go on without a lost packet, those that are not allowed now are cut."""
    ingress = [{"proto": "udp", "port": 70}, {"proto": "tcp", "port": 80}]
    connections = ((net.far, FAR6, (GUEST6, 80)), (net.far, FAR, (OWN, 81)), (net.guest, GUEST6, (FAR6, 80)))
    with contextlib.ExitStack() as stack:
        sockets = []

        def begin():
            net.apply(ingress=ingress)
            net.nft("delete", "table", "inet", net.table())
            subprocess.run(["ip", "netns", "exec", net.container, "nft", "-f", "-"], input=BEFORE, text=True, check=True)
            sockets[:] = [stack.enter_context(opened(netns, TCP, source)) for netns, source, _ in connections]
            for s, (_, _, to) in zip(sockets, connections):
                s.settimeout(patient(5))
                s.connect(to)
                assert answers(s)
            return [Stream(net.far, FAR6, net.guest, GUEST6, 70), Stream(net.guest, OWN, net.far, FAR, 70)]

        def upgrade(streams):
            kept, cut, out = sockets
            until("packets arrive", lambda: all(s.got for s in streams), 20)
            assert net.apply() == "changed"
            assert answers(kept) and answers(out) and not answers(cut, seconds=WAIT)

        loses_nothing(begin, upgrade)
