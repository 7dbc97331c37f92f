# SPDX-License-Identifier: Apache-2.0
"""Hosts on a fabric of two leaves with real FRR: the kernel's state, and what packets do. There is no API here:
src/net/test-host is a host that reads its endpoints from stdin. All namespaces and directories have the prefix of the
run in their names and are removed at the end."""

import functools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time

import leftovers
import pytest
from bgproutes import STALE_ROUTES_S, routes_given
from capture import capture
from harness import BIN, MORTAL, PATIENCE, output as run, patient, until
from pings import Ping

BINARY = os.path.join(BIN, "../net/test-host")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Host:
    def __init__(self, fabric, number, asn):
        self.fabric, self.number, self.vtep = fabric, number, f"fd5c:a1ab::{number}"
        self.prefix = f"{fabric.prefix}h{number}-"
        self.underlay, self.public = self.prefix + "underlay", self.prefix + "public"
        self.options = ["--netns-prefix", self.prefix, "--run-dir", f"{fabric.dir}/h{number}", "--vtep", self.vtep,
                        "--asn", str(asn), "--vni", "77", "--nic", "eth1", "--nic", "eth2",
                        "--underlay-password", f"{fabric.dir}/password", "--underlay-max-prefixes", "100"]
        self.endpoints, self.reports, self.process = [], [], None

    def start(self):
        self.process = subprocess.Popen([*MORTAL, BINARY, *self.options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.buffer = b""
        self.answer()

    def line(self):
        deadline = time.monotonic() + patient(30)
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return None
            chunk = os.read(self.process.stdout.fileno(), 65536)
            assert chunk, "test-host ended"
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def answer(self):
        while True:
            line = self.line()
            assert line is not None, "no answer from test-host"
            if line.startswith("report "):
                self.reports.append(line)
                continue
            return line

    def say(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        answer = self.answer()
        assert answer.startswith("ok"), f"{command}: {answer}"
        return answer

    def stats(self):
        return json.loads(self.say("stats")[3:])

    def settled(self):
        return until("all sent", lambda: (s := self.stats())["pending"] == 0 and s)

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def put(self, name, ip, mac, vtep, device, *prefixes):
        self.say(f"put {name} {ip} {mac} {vtep} {device or '-'} {' '.join(prefixes)}")

    def ip(self, *argv, check=True):
        return run("ip", "-n", self.public, *argv, check=check)

    def via(self, prefix):
        """The nexthop object of a route of ours."""
        route = re.search(r"nhid (\d+)", self.ip("-6", "route", "show", prefix, "proto", "78"))
        return route and self.ip("nexthop", "show", "id", route.group(1))

    def kernel(self):
        """All entries that we programmed, with ids, as text to compare."""
        return "\n".join([
            self.ip("nexthop", "show"),
            *sorted(self.ip("-6", "route", "show", "proto", "78").splitlines()),
            *sorted(self.ip("-4", "route", "show", "proto", "78").splitlines()),
            *sorted(self.ip("-6", "neigh", "show", "nud", "permanent").splitlines()),
            *sorted(run("bridge", "-n", self.public, "fdb", "show", "dev", "overlay").splitlines())])

    def instance(self, name, n):
        """A namespace on a veth, like an instance's container. Returns the arguments to announce it."""
        ns, mac = f"{self.prefix}i-{name}", f"02:00:00:00:00:{n:02x}"
        ip, prefix = f"2001:db8::{n}", f"2001:db8:{n}::/64"
        run("ip", "netns", "add", ns)
        run("ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self.ip("link", "add", f"i-{name}", "type", "veth", "peer", "name", "eth0", "netns", ns)
        run("ip", "-n", ns, "link", "set", "eth0", "address", mac, "up")
        run("ip", "-n", ns, "link", "set", "lo", "up")
        run("ip", "-n", ns, "addr", "add", f"{ip}/128", "dev", "lo")
        run("ip", "-n", ns, "addr", "add", f"2001:db8:{n}::1/128", "dev", "lo")
        run("ip", "-n", ns, "addr", "add", f"198.51.100.{n}/32", "dev", "lo")
        self.ip("link", "set", f"i-{name}", "address", "00:00:5e:00:02:01", "up")
        self.ip("addr", "add", "fe80::1/64", "dev", f"i-{name}", "nodad")
        run("ip", "-n", ns, "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
        run("ip", "-n", ns, "-4", "route", "add", "default", "via", "inet6", "fe80::1", "dev", "eth0")
        return (f"i-{name}", ip, mac, self.vtep, f"i-{name}", prefix, f"198.51.100.{n}/32"), ns


class Fabric:
    def __init__(self, directory, hosts=3):
        self.prefix, self.dir = f"tn{os.getpid()}-", directory
        self.leaves = [f"{self.prefix}leaf{i}" for i in (1, 2)]
        self.hosts = [Host(self, n, 65100 + n) for n in range(1, hosts + 1)]

    def up(self):
        with open(os.open(f"{self.dir}/password", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write("the-fabrics\n")
        for i, leaf in enumerate(self.leaves):
            run("ip", "netns", "add", leaf)
            for key, value in (("all/forwarding", 1), ("default/accept_dad", 0), ("all/accept_ra", 0)):
                run("ip", "netns", "exec", leaf, "sysctl", "-qw", f"net.ipv6.conf.{key.replace('/', '.')}={value}")
            run("ip", "-n", leaf, "link", "set", "lo", "up")
        for host in self.hosts:
            run("ip", "netns", "add", host.underlay)
            for i, leaf in enumerate(self.leaves, 1):
                run("ip", "-n", leaf, "link", "add", f"h{host.number}", "mtu", "9000", "type", "veth",
                    "peer", "name", f"eth{i}", "mtu", "9000", "netns", host.underlay)
                run("ip", "-n", leaf, "link", "set", f"h{host.number}", "up")
        for i, leaf in enumerate(self.leaves, 1):
            neighbours = "".join(f" neighbor h{h.number} interface remote-as external\n"
                                 f" neighbor h{h.number} timers 1 3\n neighbor h{h.number} timers connect 1\n"
                                 f" neighbor h{h.number} password the-fabrics\n"
                                 for h in self.hosts)
            active = "".join(f"  neighbor h{h.number} activate\n" for h in self.hosts)
            os.makedirs(f"{self.dir}/leaf{i}")
            with open(f"{self.dir}/leaf{i}.zebra", "w") as f:
                f.write("frr defaults datacenter\n")
            with open(f"{self.dir}/leaf{i}.bgpd", "w") as f:
                f.write(f"frr defaults datacenter\nrouter bgp 6500{i}\n bgp router-id 10.0.0.{i}\n"
                        f" no bgp default ipv4-unicast\n coalesce-time 10\n{neighbours}"
                        f" address-family ipv6 unicast\n{active}")
            run(BINARY, "frr", leaf, f"{self.dir}/leaf{i}/frr", f"{self.dir}/leaf{i}.zebra", f"{self.dir}/leaf{i}.bgpd")
        for host in self.hosts:
            host.start()
        for host in self.hosts:
            others = [h.vtep for h in self.hosts if h is not host]
            until("routes to all VTEPs", lambda: all(
                run("ip", "-n", host.underlay, "-6", "route", "show", v).count("nexthop") == 2 for v in others))

    def down(self):
        for host in self.hosts:
            if host.process and host.process.poll() is None:
                host.kill(signal.SIGTERM)
            run(BINARY, *host.options, "remove")
        for i, leaf in enumerate(self.leaves, 1):
            run(BINARY, "frr-stop", leaf, f"{self.dir}/leaf{i}/frr")
        for line in run("ip", "netns", "list").splitlines():
            if line.startswith(self.prefix):
                run("ip", "netns", "del", line.split()[0])


@pytest.fixture(scope="module")
def fabric():
    # The name is short because paths of sockets are limited.
    directory = f"/run/nacre-test-{os.getpid()}"
    os.makedirs(directory)
    f = Fabric(directory)
    leftovers.claim("dir", directory)
    leftovers.claim("netns", f.prefix)
    try:
        f.up()
        yield f
    finally:
        f.down()
        shutil.rmtree(directory)
    assert f.prefix not in run("ip", "netns", "list")
    assert directory not in run("ps", "-eo", "args")


@pytest.fixture(scope="module")
def instances(fabric):
    """One instance on each host, known to every host."""
    made = [host.instance(f"t{host.number}", host.number) for host in fabric.hosts]
    for host in fabric.hosts:
        host.endpoints = [(*e[:4], e[4] if e[3] == host.vtep else None, *e[5:]) for e, _ in made]
        for e in host.endpoints:
            host.put(*e)
        host.say("start")
    return [ns for _, ns in made]


def ping(ns, to, source=None, count=1):
    argv = ["ip", "netns", "exec", ns, "ping", "-n", "-q", "-c", str(count), "-i", "0.01", "-W", "2"]
    argv += ["-I", source] if source else []
    return subprocess.run([*argv, to], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def await_answer(*args):
    until("pings are answered", lambda: ping(*args))


def pinging(ns, to, source):
    return Ping(["ip", "netns", "exec", ns], to, "-I", source)


def test_ping_between_hosts(fabric, instances):
    await_answer(instances[0], "2001:db8:2::1", "2001:db8:1::1")
    await_answer(instances[0], "2001:db8::3", "2001:db8::1")
    await_answer(instances[1], "198.51.100.3", "198.51.100.2")


def test_start_is_right(fabric, instances):
    host = fabric.hosts[0]
    routes = host.ip("-6", "route", "show", "proto", "78") + host.ip("-4", "route", "show", "proto", "78")
    assert len(re.findall(r"^(2001|198)", routes, re.M)) == 9, routes
    fdb = [l for l in run("bridge", "-n", host.public, "fdb", "show", "dev", "overlay").splitlines() if "dst" in l]
    assert len(fdb) == 2
    assert host.reports == []


def test_encapsulation(fabric, instances):
    """A host sends only VXLAN of our VNI between the two VTEPs, with the MACs derived from the VTEPs."""
    from scapy.all import IPv6, UDP, VXLAN, Ether
    leaf1, leaf2 = (functools.partial(lambda leaf, *argv: ["ip", "netns", "exec", leaf, *argv], leaf) for leaf in fabric.leaves)
    with capture(leaf1, "h1", "udp or icmp6") as seen1, capture(leaf2, "h1", "udp or icmp6") as seen2:
        assert ping(instances[0], "2001:db8:2::1", "2001:db8:1::1", count=5)
    inner = []
    for p in seen1 + seen2:
        if UDP in p and p[UDP].dport == 4789:
            assert {p[IPv6].src, p[IPv6].dst} == {"fd5c:a1ab::1", "fd5c:a1ab::2"}
            v = VXLAN(bytes(p[UDP].payload))
            assert v.vni == 77
            inner.append(v[Ether])
        else:
            assert p[IPv6].src.startswith("fe80:"), p.summary()
    assert len(inner) == 10
    for e in inner:
        assert {e[IPv6].src, e[IPv6].dst} == {"2001:db8:1::1", "2001:db8:2::1"}
        assert e.src.startswith("02:") and e.dst.startswith("02:") and e.src != e.dst


def test_large_packets_whole(fabric, instances):
    argv = ["ip", "netns", "exec", instances[0], "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-I", "2001:db8:1::1"]
    until("a large one is answered", lambda: " 0% packet loss" in run(*argv, "-s", "1452", "2001:db8:2::1", check=False))


def test_restart_changes_nothing(fabric, instances):
    host = fabric.hosts[0]
    before = host.kernel()
    frr = run("pgrep", "-f", f"{fabric.dir}/h1/frr-underlay")
    monitor = subprocess.Popen(["ip", "-n", host.public, "monitor", "route", "nexthop", "neigh", "link"],
                               stdout=subprocess.PIPE, text=True)
    pings = pinging(instances[0], "2001:db8:2::1", "2001:db8:1::1")
    for _ in range(3):
        host.kill()
        host.start()
        for e in host.endpoints:
            host.put(*e)
        host.say("start")
    assert pings.stop().lost == []
    monitor.terminate()
    assert monitor.communicate()[0] == ""
    assert host.kernel() == before
    assert run("pgrep", "-f", f"{fabric.dir}/h1/frr-underlay") == frr
    assert host.stats()["messages"] == 0


def test_restart_repairs_and_sweeps(fabric, instances):
    host = fabric.hosts[0]
    before = host.kernel()
    host.kill()
    host.ip("-6", "route", "del", "2001:db8:2::/64")
    host.ip("-6", "route", "add", "2001:db8:dead::/48", "dev", "overlay", "proto", "78")
    host.ip("nexthop", "add", "id", "100000999", "via", "fe80::99", "dev", "overlay", "proto", "78")
    host.ip("-6", "route", "add", "2001:db8:beef::/48", "nhid", "100000999", "proto", "78")
    host.ip("-6", "route", "add", "2001:db8:cafe::/48", "dev", "overlay", "proto", "static")
    host.ip("-6", "route", "add", "unreachable", "2001:db8:cafe::/47", "proto", "78", "metric", "8192")
    host.ip("neigh", "add", "fe80::99", "lladdr", "02:00:00:00:00:99", "dev", "overlay", "nud", "permanent", "protocol", "78")
    run("bridge", "-n", host.public, "fdb", "append", "02:00:00:00:00:99", "dev", "overlay", "dst", "fd5c:a1ab::99")
    host.start()
    for e in host.endpoints:
        host.put(*e)
    host.say("start")
    # Entries that aren't the overlay's stay.
    assert "cafe" in host.ip("-6", "route", "show", "proto", "static")
    assert "2001:db8:cafe::/47" in host.ip("-6", "route", "show", "proto", "78")
    host.ip("-6", "route", "del", "2001:db8:cafe::/48")
    host.ip("-6", "route", "del", "unreachable", "2001:db8:cafe::/47", "proto", "78")
    assert host.kernel() == before


@pytest.mark.parametrize("damage", [
    ("ip", "-6", "route", "del", "2001:db8:2::/64"),
    ("ip", "-6", "route", "replace", "2001:db8:2::/64", "dev", "lo", "metric", "1024"),
    ("ip", "-4", "route", "del", "198.51.100.2/32"),
    ("ip", "-6", "route", "add", "2001:db8:dead::/48", "dev", "lo", "proto", "78"),
    ("ip", "nexthop", "flush", "proto", "78"),
    ("ip", "-6", "neigh", "flush", "nud", "permanent"),
    ("bridge", "fdb", "del", "MAC2", "dev", "overlay", "dst", "fd5c:a1ab::2"),
    ("bridge", "fdb", "replace", "MAC2", "dev", "overlay", "dst", "fd5c:a1ab::3"),
    ("bridge", "fdb", "append", "02:00:00:00:00:99", "dev", "overlay", "dst", "fd5c:a1ab::3"),
    ("ip", "link", "set", "i-t1", "down"),
    ("ip", "link", "set", "overlay", "down"),
], ids=lambda d: " ".join(d[:4]))
def test_drift_is_repaired(fabric, instances, damage):
    def normal(text):
        ids = {}
        return re.sub(r"\b1000000\d\d\b", lambda m: ids.setdefault(m.group(), f"id{len(ids)}"), text)

    def same():
        a, b = normal(host.kernel()).splitlines(), normal(before).splitlines()
        return sorted(a) == sorted(b) or None

    host = fabric.hosts[0]
    before = host.kernel()
    mac2 = re.search(r"^(\S+) .*dst fd5c:a1ab::2 ", before, re.M).group(1)
    tool, *argv = [mac2 if w == "MAC2" else w for w in damage]
    # A flush fails if the entries are restored faster than it can look.
    run(tool, "-n", host.public, *argv, check="flush" not in argv)
    if damage[1] == "link":
        host.ip("link", "set", damage[3], "up")
        # A device that goes down loses its IPv6 addresses; whoever made the veth must restore this one.
        host.ip("addr", "replace", "fe80::1/64", "dev", "i-t1", "nodad")
    until("repaired", lambda: host.settled() and same())
    await_answer(instances[0], "2001:db8:2::1", "2001:db8:1::1")
    await_answer(instances[0], "198.51.100.2", "198.51.100.1")


def test_lost_notifications(fabric, instances):
    """More foreign changes than the socket buffer holds: everything is compared again."""
    host = fabric.hosts[0]
    before = host.kernel()
    syncs = host.stats()["syncs"]
    host.process.send_signal(signal.SIGSTOP)
    try:
        batch = "".join(f"route add 2001:db8:dead:{n:x}::/64 dev overlay proto 78\n" for n in range(40000))
        subprocess.run(["ip", "-n", host.public, "-6", "-batch", "-"], input=batch, text=True, check=True, timeout=60)
        host.ip("-6", "route", "del", "2001:db8:2::/64")
    finally:
        host.process.send_signal(signal.SIGCONT)
    until("all is as before", lambda: host.settled()["syncs"] > syncs and host.kernel() == before)


def test_replace_and_remove(fabric, instances):
    host = fabric.hosts[0]
    before = host.kernel()
    host.put("x", "2001:db8::77", "02:00:00:00:00:77", "fd5c:a1ab::9", None, "2001:db8:77::/64", "203.0.113.0/24")
    host.settled()
    assert "fd5c:a1ab::9" in host.kernel() and "203.0.113.0/24" in host.kernel()
    # The endpoint moves to a known host: the entries of the old VTEP are removed.
    host.put("x", "2001:db8::77", "02:00:00:00:00:77", "fd5c:a1ab::2", None, "2001:db8:77::/64")
    host.settled()
    assert "fd5c:a1ab::9" not in host.kernel() and "203.0.113.0/24" not in host.kernel()
    assert "2001:db8:77::/64" in host.kernel()
    host.say("remove x")
    host.say("remove x")
    host.settled()
    assert host.kernel() == before


def test_many_announcers(fabric, instances):
    """Two hosts announce ::/0: a group. A lost VTEP leaves the group and joins it again when it returns. A local
    endpoint wins."""
    host, third = fabric.hosts[0], fabric.hosts[2]
    before = host.kernel()

    def members():
        return host.via("default").split(" group ")[1].split()[0].count("/") + 1

    for n in (2, 3):
        host.put(f"edge{n}", f"2001:db8::e{n}", f"02:00:00:00:00:e{n}", f"fd5c:a1ab::{n}", None, "::/0", "0.0.0.0/0")
    host.settled()
    assert members() == 2
    for leaf in fabric.leaves:
        run("ip", "-n", leaf, "link", "set", "h3", "down")
    until("out of the group", lambda: members() == 1)
    for leaf in fabric.leaves:
        run("ip", "-n", leaf, "link", "set", "h3", "up")
    until("back in the group", lambda: members() == 2)
    # A restart adopts an existing group as it is.
    at = host.kernel()
    host.kill()
    host.start()
    for e in host.endpoints:
        host.put(*e)
    for n in (2, 3):
        host.put(f"edge{n}", f"2001:db8::e{n}", f"02:00:00:00:00:e{n}", f"fd5c:a1ab::{n}", None, "::/0", "0.0.0.0/0")
    host.say("start")
    assert host.kernel() == at
    assert host.stats()["messages"] == 0
    host.put("edge1", "2001:db8::e1", "02:00:00:00:00:e1", "fd5c:a1ab::1", "i-t1", "::/0")
    host.settled()
    assert "i-t1" in host.via("default")
    for n in (1, 2, 3):
        host.say(f"remove edge{n}")
    host.settled()
    assert host.kernel() == before
    until("third is back", lambda: ping(instances[0], "2001:db8:3::1", "2001:db8:1::1"))


def test_device_comes_later(fabric, instances):
    host = fabric.hosts[0]
    before = host.kernel()
    host.reports.clear()
    host.put("late", "2001:db8::50", "02:00:00:00:00:50", "fd5c:a1ab::1", "i-late", "2001:db8:50::/64")
    until("reported", lambda: host.stats() and any("i-late" in r for r in host.reports))
    assert host.reports == ["report late - network device `i-late` is not there"]
    host.ip("link", "add", "i-late", "type", "veth", "peer", "name", "i-peer")
    host.ip("link", "set", "i-late", "up")
    host.ip("link", "set", "i-peer", "up")
    until("routed", lambda: host.settled() and "i-late" in (host.via("2001:db8:50::/64") or ""))
    assert host.reports[-1] == "report late - ok"
    host.ip("link", "del", "i-late")
    until("gone", lambda: host.stats() and "50::/64" not in host.kernel())
    host.say("remove late")
    host.settled()
    assert host.kernel() == before


def test_refusal_is_told_and_tried_again(fabric, instances):
    """If the kernel refuses an entry, this is reported for its endpoint, other endpoints are not affected, and it is
    retried."""
    host = fabric.hosts[0]
    before = host.kernel()
    host.reports.clear()
    host.ip("link", "add", "i-no6", "type", "veth", "peer", "name", "i-peer")
    switch = lambda off: run("ip", "netns", "exec", host.public, "sysctl", "-qw", f"net.ipv6.conf.i-no6.disable_ipv6={off}")
    switch(1)
    for dev in ("i-no6", "i-peer"):
        host.ip("link", "set", dev, "up")
    host.put("no6", "2001:db8::60", "02:00:00:00:00:60", host.vtep, "i-no6", "2001:db8:60::/64")
    host.put("fine", "2001:db8::61", "02:00:00:00:00:61", "fd5c:a1ab::2", None, "2001:db8:61::/64")
    host.settled()
    until("reported", lambda: host.stats() and host.reports and "refused" in host.reports[-1])
    # The device's "up" may arrive after the endpoint.
    *earlier, refusal = host.reports
    assert re.match(r"report no6 - refused by the kernel: .*IPv6", refusal), host.reports
    assert earlier in ([], ["report no6 - network device `i-no6` is down"])
    assert host.via("2001:db8:61::/64") and not host.via("2001:db8:60::/64")
    switch(0)
    until("tried again", lambda: host.stats() and host.via("2001:db8:60::/64"))
    until("reported again", lambda: host.stats() and host.reports == [*earlier, refusal, "report no6 - ok"])
    host.say("remove no6")
    host.say("remove fine")
    host.ip("link", "del", "i-no6")
    host.settled()
    assert host.kernel() == before


def test_no_learning_no_flooding(fabric, instances):
    """A frame to an unknown MAC is not sent, and received frames make no entries."""
    one, two = fabric.hosts[0], fabric.hosts[1]
    fdb = run("bridge", "-n", two.public, "fdb", "show", "dev", "overlay")
    tx = lambda: json.loads(run("ip", "-n", one.public, "-s", "-j", "link", "show", "overlay"))[0]["stats64"]["tx"]
    before = tx()
    code = ("from scapy.all import *; "
            "mac = get_if_hwaddr('overlay'); "
            "sendp([Ether(src=mac, dst=d)/IPv6(src='2001:db8:1::1', dst='2001:db8:2::1')/ICMPv6EchoRequest() "
            "for d in ('02:aa:aa:aa:aa:aa', 'ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01')], iface='overlay', verbose=0)")
    run("ip", "netns", "exec", one.public, "/usr/bin/python3", "-c", code)
    after = tx()
    assert after["dropped"] + after["errors"] + after["carrier_errors"] > before["dropped"] + before["errors"] + before[
        "carrier_errors"] or after["packets"] == before["packets"]
    code = code.replace("'02:aa:aa:aa:aa:aa', 'ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01'",
                        "'" + re.search(r"^(\S+) .*dst fd5c:a1ab::2 ", run("bridge", "-n", one.public, "fdb", "show", "dev", "overlay"),
                                        re.M).group(1) + "',").replace("src=mac", "src='02:bb:bb:bb:bb:bb'")
    run("ip", "netns", "exec", one.public, "/usr/bin/python3", "-c", code)
    assert run("bridge", "-n", two.public, "fdb", "show", "dev", "overlay") == fdb


def test_underlay_out_of_reach(fabric, instances):
    """No address of the underlay answers from an instance, from `public` or from the default namespace."""
    host = fabric.hosts[0]
    for to in ("fd5c:a1ab::1", "fd5c:a1ab::2"):
        assert not ping(instances[0], to, "2001:db8:1::1")
        assert not ping(host.public, to)
        assert subprocess.run(["ping", "-c1", "-W1", to], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    # No traffic between the leaves goes through the host.
    assert "fd5c:a1ab::" in run("ip", "-n", fabric.leaves[0], "-6", "route")
    assert not re.search(r"65002", run("vtysh", "--vty_socket", f"{fabric.dir}/leaf1/frr", "-c", "show bgp ipv6 unicast"))


def test_router_is_no_service(fabric, instances):
    """A service that listens in `public` (bgpd on an edge) can't be reached from an instance, on this host or
    another."""
    host = fabric.hosts[1]
    server = subprocess.Popen([*MORTAL, "ip", "netns", "exec", host.public, "/usr/bin/python3", "-c",
                               "import socket; s = socket.create_server(('::', 179), family=socket.AF_INET6);\n"
                               "print(1, flush=True)\nwhile 1: s.accept()"], stdout=subprocess.PIPE)
    host.ip("addr", "add", "2001:db8::b179/128", "dev", "lo", "nodad")
    one = fabric.hosts[0]
    one.put("router", "2001:db8::b179", "02:00:00:00:b1:79", host.vtep, None)
    try:
        server.stdout.readline()
        one.settled()
        await_answer(instances[0], "2001:db8::b179", "2001:db8:1::1")
        await_answer(instances[1], "2001:db8::b179", "2001:db8:2::1")
        connect = "import socket, sys; socket.create_connection((sys.argv[1], 179), float(sys.argv[2]))"
        run("ip", "netns", "exec", host.public, "/usr/bin/python3", "-c", connect, "::1", "60")
        for ns, to in ((instances[0], "2001:db8::b179"), (instances[1], "2001:db8::b179"), (instances[1], "fe80::1%eth0")):
            with pytest.raises(AssertionError, match="timed out|TimeoutError"):
                run("ip", "netns", "exec", ns, "/usr/bin/python3", "-c", connect, to, "1")
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        one.say("remove router")
        host.ip("addr", "del", "2001:db8::b179/128", "dev", "lo")


def test_no_route_says_so(fabric, instances):
    argv = ["ip", "netns", "exec", instances[0], "ping", "-n", "-c", "1", "-W", "1", "-I", "2001:db8:1::1", "2001:db8:99::1"]
    # Several tries, since the kernel limits the rate of such answers.
    until("told so", lambda: "unreachable" in run(*argv, check=False).lower())


def test_leaf_lost(fabric, instances):
    pings = pinging(instances[0], "2001:db8:2::1", "2001:db8:1::1")
    for host in fabric.hosts:
        run("ip", "-n", fabric.leaves[0], "link", "set", f"h{host.number}", "down")
    until("one path", lambda: run("ip", "-n", fabric.hosts[0].underlay, "-6", "route", "show", "fd5c:a1ab::2").count("via") == 1)
    until("works", lambda: ping(instances[0], "2001:db8:2::1", "2001:db8:1::1"))
    for host in fabric.hosts:
        run("ip", "-n", fabric.leaves[0], "link", "set", f"h{host.number}", "up")
    until("two paths", lambda: run("ip", "-n", fabric.hosts[0].underlay, "-6", "route", "show", "fd5c:a1ab::2").count("via") == 2)
    lost = len(pings.stop().lost)
    print(f"lost with a leaf: {lost} pings of 10 ms")
    assert lost < 300 * PATIENCE


def leaf2(fabric, *commands):
    run("vtysh", "--vty_socket", f"{fabric.dir}/leaf2/frr", *(w for c in commands for w in ("-c", c)))


def paths(host, vtep):
    return run("ip", "-n", host.underlay, "-6", "route", "show", vtep).count("via")


def test_a_leaf_that_announces_too_much_is_cut_off(fabric, instances):
    """The other leaf carries the traffic; the surplus prefixes are not accepted."""
    ours = fabric.hosts[0]
    enter = ("configure terminal", "router bgp", "no bgp network import-check", "address-family ipv6 unicast")
    many = [f"network 2001:db8:bad:{n:x}::/64" for n in range(200)]
    pings = pinging(instances[0], "2001:db8:2::1", "2001:db8:1::1")
    leaf2(fabric, *enter, *many)
    try:
        until("one path is left", lambda: paths(ours, "fd5c:a1ab::2") == 1)
        until("works", lambda: ping(instances[0], "2001:db8:2::1", "2001:db8:1::1"))
        assert "2001:db8:bad:" not in run("ip", "-n", ours.underlay, "-6", "route")
    finally:
        leaf2(fabric, *enter, *(f"no {n}" for n in many))
        for host in fabric.hosts:  # at once, not after five minutes
            run("vtysh", "--vty_socket", f"{fabric.dir}/h{host.number}/frr-underlay", "-c", "clear bgp *")
    for host in fabric.hosts:
        for other in {h.vtep for h in fabric.hosts} - {host.vtep}:
            until("two paths", lambda: paths(host, other) == 2)
    print(f"lost: {len(pings.stop().lost)} pings of 10 ms")


@pytest.mark.parametrize("content", ["another-one", ""])
def test_a_password_that_is_not_the_fabrics(fabric, instances, content):
    """A changed file takes effect; an empty one is an error and leaves the sessions as they are."""
    path, third = f"{fabric.dir}/other", fabric.hosts[2]
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(content)
    os.rename(path, f"{fabric.dir}/password")
    try:
        third.process.stdin.write(b"ensure\n")
        answer = third.answer()
        if content:
            assert answer.startswith("ok")
            until("no leaf is believed", lambda: paths(third, "fd5c:a1ab::2") == 0)
        else:
            assert answer == (f"error BGP password `{fabric.dir}/password`: must be one line of 1 to 80 printable ASCII "
                              "characters without blanks")
            assert paths(third, "fd5c:a1ab::2") == 2
    finally:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write("the-fabrics\n")
        os.rename(path, f"{fabric.dir}/password")
        third.say("ensure")
    until("two paths", lambda: paths(third, "fd5c:a1ab::2") == 2)


def test_ensure_repairs_the_underlay(fabric, instances):
    host = fabric.hosts[2]
    run("ip", "-n", host.underlay, "addr", "del", "fd5c:a1ab::3/128", "dev", "lo")
    run("ip", "-n", host.underlay, "addr", "add", "fd5c:a1ab::33/128", "dev", "lo")
    run("ip", "-n", host.underlay, "link", "set", "eth1", "down", "mtu", "1500")
    bgpd = int(run("cat", f"{fabric.dir}/h3/frr-underlay/bgpd.pid"))
    os.kill(bgpd, signal.SIGKILL)
    until("bgpd is dead", lambda: not os.path.exists(f"/proc/{bgpd}"))
    host.say("ensure")
    until("works", lambda: ping(instances[2], "2001:db8:2::1", "2001:db8:3::1"))
    until("two paths", lambda: run("ip", "-n", host.underlay, "-6", "route", "show", "fd5c:a1ab::2").count("via") == 2)
    assert "fd5c:a1ab::33" not in run("ip", "-n", host.underlay, "addr", "show", "lo")


def test_zebra_killed(fabric, instances):
    """Routes stay while zebra is dead and when it is back, and follow BGP again."""
    host = fabric.hosts[0]
    pings = pinging(instances[0], "2001:db8:2::1", "2001:db8:1::1")
    zebra = int(run("cat", f"{fabric.dir}/h1/frr-underlay/zebra.pid"))
    os.kill(zebra, signal.SIGKILL)
    until("zebra is dead", lambda: not os.path.exists(f"/proc/{zebra}"))
    host.say("ensure")
    paths = lambda: run("ip", "-n", host.underlay, "-6", "route", "show", "fd5c:a1ab::2").count("via")
    started = time.monotonic()
    assert paths() == 2

    def given():
        host.say("ensure")  # as the agent does every few seconds
        return routes_given(f"{fabric.dir}/h1/frr-underlay")[1] > 0

    until("bgpd gave its routes to the new zebra", given, 30)
    if "NACRE_TEST_ALL" in os.environ:
        time.sleep(max(0, started + STALE_ROUTES_S + 5 - time.monotonic()))  # nothing is waited for: they stay
    assert paths() == 2
    assert pings.stop().lost == []
    run("ip", "-n", fabric.leaves[0], "link", "set", "h1", "down")
    until("one path", lambda: paths() == 1)
    run("ip", "-n", fabric.leaves[0], "link", "set", "h1", "up")
    until("two paths", lambda: paths() == 2)


def test_bad_endpoints_change_nothing(fabric, instances):
    host = fabric.hosts[0]
    before = host.kernel()
    for bad in ("put x 10.0.0.1 02:00:00:00:00:01 fd5c:a1ab::2 -", "put x ::1", "put x 2001:db8::1 02:00:00:00:00:01 10.0.0.1 -",
                "put x fe80::1 02:00:00:00:00:01 fd5c:a1ab::2 -", "put x 2001:db8::5 02:00:00:00:00:01 fd5c:a1ab::2 - ff00::/8",
                "put x 2001:db8::5 02:00:00:00:00:01 fd5c:a1ab::2 - 127.0.0.0/8",
                "put x 2001:db8::5 02:00:00:00:00:01 fd5c:a1ab::1 a-device-name-that-is-too-long"):
        host.process.stdin.write(bad.encode() + b"\n")
        assert host.answer().startswith("error ")
    host.settled()
    assert host.kernel() == before
