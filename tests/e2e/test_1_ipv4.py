# SPDX-License-Identifier: Apache-2.0
"""Public IPv4 of running guests: dedicated addresses, shared ones with their slices of ports, and forwards, as the
internet and as other instances see them. The guests are configured by DHCP."""

import contextlib
import re
import subprocess
import time

import pytest
from conftest import GAPS, Console, condition, eventually, instance
from harness import MORTAL, run

from scapy.layers.inet import ICMP, TCP, UDP

INTERNET, FAR = "192.0.2.1", "192.0.2.50"
# Slices as small as can be, of one address, so that all instances share it. It comes before the lab's own pool by name.
POOL = {"apiVersion": "nacre.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "few"},
        "spec": {"use": "shared", "prefix": "198.51.101.0/32", "slicePorts": 64, "quarantineSeconds": 0}}
SHARED = "198.51.101.0"
GUESTS = ["own", "one", "two", "three"]

# Servers at ADDRESS: TCP port 8000 answers with the client's address and port and the line that it sent, port 8001 holds
# connections open, 8002 takes all and answers with its length, 8003 sends 200,000 bytes; UDP port 53 knows no name.
SERVERS = """
import socket, socketserver, sys, threading
class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128
class Names(socketserver.DatagramRequestHandler):
    def handle(self):
        self.socket.sendto(self.packet[:2] + b"\\x81\\x83" + self.packet[4:], self.client_address)
class Who(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"%s %s %d\\n" % (self.rfile.readline().strip(), self.client_address[0].encode(), self.client_address[1]))
class Hold(socketserver.BaseRequestHandler):
    def handle(self):
        threading.Event().wait()
class Take(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"took %d\\n" % len(self.rfile.read()))
class Give(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"x" * 200000)
address = sys.argv[1]
for port, handler in enumerate((Who, Hold, Take, Give), 8000):
    threading.Thread(target=Tcp((address, port), handler).serve_forever, daemon=True).start()
names = socketserver.UDPServer((address, 53), Names)
print("listening", flush=True)
names.serve_forever()
"""


@contextlib.contextmanager
def servers(inside, address):
    process = subprocess.Popen([*MORTAL, *inside, "/usr/bin/python3", "-c", SERVERS, address], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Guests:
    """The instances' consoles, and what the tests do there."""

    def __init__(self, lab, stack):
        self.lab, self.consoles = lab, {}
        for name in GUESTS:
            self.consoles[name] = Console(lab, f"demo/{name}")
            stack.callback(self.consoles[name].close)
        for console in self.consoles.values():
            console.await_shell()

    def status(self, name):
        return self.lab.instance("demo", name)["status"]

    def begin(self, name, command):
        self.consoles[name].process.stdin.write(f"echo $((20+1))-begin; {command}; echo $((40+2))-over\n".encode())

    def end(self, name, seconds=30):
        """The lines that the command has printed."""
        out = self.consoles[name].run("", "42-over", seconds).replace("\r", "")
        lines = out.split("21-begin\n", 1)[1].split("42-over", 1)[0].splitlines()
        return [line for line in lines if line]

    def run(self, name, command, seconds=30):
        self.begin(name, command)
        return self.end(name, seconds)

    def ports(self, name):
        return {p for s in self.status(name)["portSlices"] for p in range(s["firstPort"], s["lastPort"] + 1)}

    def web(self, name):
        """Address and port of the guest's HTTP server, as others see it."""
        status = self.status(name)
        if name == "own":
            return status["publicIPv4"], 80
        return SHARED, next(f["port"] for f in status["forwards"] if f["protocol"] == "tcp")


@pytest.fixture(scope="module")
def guests(lab):
    """`own` has an address of its own. `one` and `two` are on one host, `three` is on another; they share an address."""
    tcp = {"protocol": "tcp", "targetPort": 80}
    here, there = {"hostSelector": {"e2e": "here"}}, {"hostSelector": {"e2e": "there"}}
    lab.kubectl("label", "host", "host1", "e2e=here")
    lab.kubectl("label", "host", "host2", "e2e=there")
    with contextlib.ExitStack() as stack:
        stack.callback(lab.kubectl, "label", "host", "host1", "host2", "e2e-")
        lab.apply(POOL)
        stack.callback(lab.kubectl, "delete", "addresspool", "few")
        since = time.monotonic()
        lab.apply(instance("own", ipv4="dedicated", **here), instance("one", forwards=[tcp], **here),
                  instance("two", forwards=[tcp, {"protocol": "udp", "targetPort": 7}], ingress=[{"protocol": "icmp"}], **here),
                  instance("three", forwards=[tcp], **there))
        stack.callback(lab.delete_instances, "demo", *GUESTS)
        lab.wait_ready("demo", *GUESTS)
        own = lab.instance("demo", "own")["status"]["publicIPv4"]
        eventually("the dedicated address answers", 60, lambda: run(
            *lab.exec_argv("internet", "ping", "-n", "-c", "1", "-W", "1", own), check=False).returncode == 0)
        GAPS.append(f"four guests are created at once: the first answer by IPv4 comes after {time.monotonic() - since:.1f} s")
        guests = Guests(lab, stack)
        for name in GUESTS:
            eventually(f"{name} has a default route", 60, lambda: any("default" in l for l in guests.run(name, "ip -4 route")))
        yield guests


@pytest.fixture(scope="module")
def internet(lab, guests):
    with servers(lab.exec_argv("internet"), INTERNET) as process:
        yield process


def test_status(lab, guests):
    own, shared = guests.status("own"), {n: guests.status(n) for n in ("one", "two", "three")}
    assert own["publicIPv4"].startswith("203.0.113.") and "portSlices" not in own
    assert len(set.union(*(guests.ports(n) for n in shared))) == 3 * 64
    for name, status in shared.items():
        (part,) = status["portSlices"]
        assert part["address"] == status["publicIPv4"] == SHARED
        assert {f["port"] for f in status["forwards"]} <= guests.ports(name)
        assert condition({"status": status}, "ForwardsReady")["status"] == "True"
    table = lab.kubectl("-n", "demo", "get", "instances", "-o", "wide").stdout
    assert own["publicIPv4"] in table and table.count(SHARED) == 3, table


def test_guests_configure_themselves(guests):
    for name in GUESTS:
        address = guests.status("own")["publicIPv4"] if name == "own" else "192.0.0.2"
        lines = guests.run(name, "ip -4 -o addr show eth0; ip -4 route")
        assert f"inet {address}/32" in lines[0], lines
        assert any(line.startswith("default via 169.254.0.1") for line in lines), lines


def test_whois(lab, guests):
    whois = [lab.program, "whois", "--kubeconfig", f"{lab.dir}/kubeconfig"]
    for name in GUESTS:
        address, port = guests.web(name)
        out = run(*whois, address, *([] if name == "own" else [str(port)])).stdout
        assert f"demo/{name} " in out and "now" in out, out
    assert run(*whois, SHARED, "60000", check=False).returncode == 3


def test_reached_from_the_internet(lab, guests):
    """A dedicated address in full, a shared one by its forwards."""
    own = guests.status("own")["publicIPv4"]
    for name in GUESTS:
        assert f"hello from demo/{name}" in lab.exec("internet", "curl", "-s", "-m", "20", "http://%s:%d/" % guests.web(name))
    # Echo requests of all sizes reach a dedicated address, fragments too; a shared one has no answer.
    lab.exec("internet", "ping", "-n", "-c", "3", "-i", "0.2", "-s", "3000", own)
    assert run(*lab.exec_argv("internet", "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", SHARED), check=False).returncode == 1
    # What neither spec.ingress nor a forward opens stays closed. (`two` opens port 80 by its forward alone.)
    closed = [(own, 81), (SHARED, max(guests.ports("one"))), (SHARED, 60000)]
    for address, port in closed:
        got = lab.exec("internet", "curl", "-s", "-m", "0.5", "-o", "/dev/null", "-w", "%{exitcode}", f"http://{address}:{port}/", check=False)
        assert got.strip() == "28", (address, port, got)


@pytest.mark.parametrize("name", ["own", "one"])
def test_reaches_the_internet(lab, guests, internet, name):
    """By TCP, UDP and ICMP echo; with a shared address by the ports and identifiers of the slice alone."""
    address = guests.status(name)["publicIPv4"]
    with lab.capture("internet", "any", f"src host {address}") as packets:
        lines = guests.run(name, f"echo me | nc {INTERNET} 8000; nslookup a.b {INTERNET} | grep NXDOMAIN | head -n 1; "
                                 f"ping -c 2 {INTERNET}; ping -c 1 -s 1472 {INTERNET}")
    who, source, port = lines[0].split()
    assert (who, source) == ("me", address), lines
    assert "NXDOMAIN" in lines[1] and sum(" bytes from " in line for line in lines) == 3, lines
    tcp = {p[TCP].sport for p in packets if TCP in p}
    udp, echo = {p[UDP].sport for p in packets if UDP in p}, {p[ICMP].id for p in packets if ICMP in p}
    assert int(port) in tcp and udp and echo
    if name != "own":
        assert tcp | udp | echo <= guests.ports(name), (tcp, udp, echo)


def test_neighbours_at_one_address_do_not_cross(guests, internet):
    """Connections of three guests at once by one address: each answer comes to the guest that asked."""
    names, n = ["one", "two", "three"], 15
    for name in names:
        guests.begin(name, f"sh -c 'for i in $(seq {n}); do echo {name}-$i | nc {INTERNET} 8000 & done; wait'")
    for name in names:
        answers = [line.split() for line in guests.end(name)]
        assert sorted(a[0] for a in answers) == sorted(f"{name}-{i + 1}" for i in range(n)), answers
        assert {a[1] for a in answers} == {SHARED}
        ports = [int(a[2]) for a in answers]
        assert len(set(ports)) == n and set(ports) <= guests.ports(name)


def test_instances_reach_each_other_by_public_addresses(guests):
    """Also on one host, and a guest itself."""
    places, own = {name: guests.web(name) for name in GUESTS}, guests.status("own")["publicIPv4"]
    each = "; ".join(f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {a} {p} | tail -n 1" for a, p in places.values())
    for name in GUESTS:
        guests.begin(name, f"{each}; ping -c 1 -w 5 {own} | grep -c 'bytes from'")
    for name in GUESTS:
        assert guests.end(name) == [f"hello from demo/{to}" for to in GUESTS] + ["1"], name


def hops(lines):
    return [line.split()[1] for line in lines if re.match(r" *\d+ ", line)]


def test_traceroute(lab, guests):
    """Container, host, edge, internet. Machines without an IPv4 address have 192.0.0.8 (RFC 7600)."""
    trace = "traceroute -n -q 1 -w 2 -m 8"
    for name in ("own", "one"):
        guests.begin(name, f"{trace} {INTERNET}")
    for name in ("own", "one"):
        assert hops(guests.end(name)) == ["169.254.0.1", "192.0.0.8", "192.0.0.8", INTERNET], name
    own = guests.status("own")["publicIPv4"]
    for ttl, who in enumerate(["192.0.0.8", "192.0.0.8", "192.0.0.8", own], 1):
        out = lab.exec("internet", "ping", "-n", "-c", "1", "-W", "2", "-t", str(ttl), own, check=False)
        assert re.search(rf"[Ff]rom {who}\b", out), (ttl, out)


@pytest.fixture
def far(lab):
    """A server at FAR, to which a link of 1,400 bytes leads that is neither its own nor the guests'."""
    internet, middle, far = (f"nl-{lab.name}-{what}" for what in ("internet", "middle", "far"))
    with contextlib.ExitStack() as stack:
        for ns in (middle, far):
            run("ip", "netns", "add", ns)
            stack.callback(run, "ip", "netns", "delete", ns)
        run("ip", "netns", "exec", middle, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for a, b, net, mtu in ((internet, middle, "192.0.2.4", 1400), (middle, far, "192.0.2.48", 1500)):
            first, second = (f"{net[:net.rindex('.')]}.{int(net.split('.')[-1]) + i}/30" for i in (1, 2))
            run("ip", "-n", a, "link", "add", "narrow", "mtu", str(mtu), "type", "veth", "peer", "name", "back", "mtu", str(mtu), "netns", b)
            for ns, name, address in ((a, "narrow", first), (b, "back", second)):
                run("ip", "-n", ns, "address", "add", address, "dev", name)
                run("ip", "-n", ns, "link", "set", name, "up")
        run("ip", "-n", internet, "route", "add", "192.0.2.48/30", "via", "192.0.2.6")
        run("ip", "-n", middle, "route", "add", "default", "via", "192.0.2.5")
        run("ip", "-n", far, "route", "add", "default", "via", "192.0.2.49")
        stack.enter_context(servers(["ip", "netns", "exec", far], FAR))
        yield ["ip", "netns", "exec", far]


def test_path_mtu(lab, guests, far):
    """Both ends learn from ICMP errors that packets of more than 1,400 bytes don't get through: the guest as a client and
    as a server."""
    for name in ("own", "one"):
        address = guests.status(name)["publicIPv4"]
        with lab.capture("internet", "any", f"dst host {address} and icmp[0] == 3 and icmp[1] == 4") as errors:
            lines = guests.run(name, f"dd if=/dev/zero of=/www/big bs=1000 count=200 2>/dev/null; cat /www/big | nc {FAR} 8002; "
                                     f"nc {FAR} 8003 </dev/null | wc -c")
            got = run(*far, "curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", "http://%s:%d/big" % guests.web(name))
        assert lines == ["took 200000", "200000"] and got.stdout == "200000", (name, lines, got)
        assert errors and all(p[ICMP].nexthopmtu == 1400 for p in errors), name


def test_busy_instance_gets_a_second_slice(lab, guests, internet):
    """Without renumbering, and connections go on."""
    hold = f"sh -c 'for i in $(seq 60); do nc {INTERNET} 8001 </dev/null >/dev/null 2>&1 & done; sleep 1'"
    before, others = guests.status("three"), guests.ports("one") | guests.ports("two")

    def connected():
        lines = lab.exec("internet", "ss", "-Htn", "state", "connected", "sport", "=", "8001").splitlines()
        return {int(line.split()[-1].rsplit(":", 1)[1]) for line in lines}

    guests.run("three", hold)
    first = eventually("60 connections are there", 30, lambda: len(connected()) == 60 and connected())
    assert first <= guests.ports("three")
    since = time.monotonic()
    eventually("it has two slices", 60, lambda: len(guests.status("three")["portSlices"]) == 2)
    GAPS.append(f"a busy instance has a second slice after {time.monotonic() - since:.1f} s")
    after = guests.status("three")
    assert after["portSlices"][0] == before["portSlices"][0] and after["forwards"] == before["forwards"]
    assert not guests.ports("three") & others

    def more():
        guests.run("three", hold)
        return len(connected()) >= 110 and connected()

    # The agent may need a moment until the container uses the slice.
    second = eventually("as many again are there", 60, more, 2)
    assert first <= second <= guests.ports("three"), sorted(second)
    assert "hello from demo/three" in lab.exec("internet", "curl", "-s", "-m", "20", "http://%s:%d/" % guests.web("three"))
