# SPDX-License-Identifier: Apache-2.0
"""The public network in use: many downloads at once by one shared address (a thousand with NACRE_TEST_ALL), traceroute and
path MTU in both families and both directions, and throughput. All clients and servers are real: QEMU guests with Linux on one side, the kernel of
this machine (`internet` and what is behind it) on the other."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import tarfile
import time

import pytest
from conftest import GAPS
from guests import running, servers
from harness import MORTAL, patient, run

from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6PacketTooBig

INTERNET4, INTERNET6 = "192.0.2.1", "2001:db8:ffff::1"
EDGES6 = {"2001:db8:0:2::1", "2001:db8:0:2::2"}
DUMMY4 = "192.0.0.8"  # of machines without an IPv4 address (RFC 7600)
SHARED = "198.51.102.0"
# The slices of all instances are of one address. The pool comes before the lab's own by name.
POOL = {"apiVersion": "nacre.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "few"},
        "spec": {"use": "shared", "prefix": f"{SHARED}/32", "slicePorts": 512, "quarantineSeconds": 0}}
UDP_PORT = 7  # of a guest; nobody listens there, so the guest answers by an ICMP error
# The ways to guests: the guest, the family, and whether its address is its own.
WAYS = [("own", 6), ("own", 4), ("one", 4)]
ALL = bool(os.environ.get("NACRE_TEST_ALL"))
longer = pytest.mark.skipif(not ALL, reason="takes long; in --all")
way = pytest.mark.parametrize("name, family", WAYS, ids=["IPv6", "dedicated", "shared"])

# Waits for COUNT connections at ADDRESS, port 8000, and for the line that each sends. While all are open it prints for each
# the line, address and port of the client. Then it answers all in turns, each with 500 lines of its own: LINE PORT NUMBER.
DOWNLOADS = """
import json, resource, socket, sys
address, count, timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (2 * count + 100,) * 2)
listener = socket.create_server((address, 8000), backlog=count)
listener.settimeout(timeout)
print("listening", flush=True)
clients = []
while len(clients) < count:
    c, peer = listener.accept()
    c.settimeout(timeout)
    clients.append((c, *peer))
asked = [(c, c.makefile("rb").readline().strip().decode(), a, port) for c, a, port in clients]
print(json.dumps([entry[1:] for entry in asked]), flush=True)
for block in range(0, 500, 100):
    for c, line, a, port in asked:
        c.sendall("".join("%s %d %d\\n" % (line, port, i) for i in range(block, block + 100)).encode())
for c, *_ in asked:
    c.close()
"""

# Sends packets of SIZE bytes to ADDRESS and PORT, which may not be fragmented, by UDP or by TCP (SYN), one with each of the
# hop limits, again until something comes back. Prints type, code, sender and value of the ICMP error (ip(7), IP_RECVERR),
# "connected" for a connection, or null if nothing came.
PROBE = """
import ipaddress, json, select, socket, struct, sys, time
kind, address, port, size, timeout, hops = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), sys.argv[6]
v6 = ":" in address
# The numbers of the options: hop limit, errors, and what is known of the path, which is not to be used (3).
level, options, family = (41, (16, 25, 23), socket.AF_INET6) if v6 else (0, (2, 11, 10), socket.AF_INET)
def probe(hops):
    s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    for option, value in zip(options, (hops, 1, 3)):
        s.setsockopt(level, option, value)
    s.setblocking(False)
    s.connect_ex((address, port))
    if kind == "udp":
        s.send(bytes(size - (48 if v6 else 28)))
    answer = select.poll()
    answer.register(s, 0 if kind == "udp" else select.POLLOUT)
    if not answer.poll(1000):
        return None
    try:
        data = s.recvmsg(2048, 1024, socket.MSG_ERRQUEUE)[1][0][2]
    except BlockingIOError:
        return ["connected"]
    _, _, type, code, _, info, _ = struct.unpack("=IBBBBII", data[:16])
    return [type, code, str(ipaddress.ip_address(data[24:40] if v6 else data[20:24])), info]
for limit in map(int, hops.split(",")):
    answer, deadline = None, time.monotonic() + timeout
    while not answer and time.monotonic() < deadline:
        answer = probe(limit)
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def guests(lab):
    """`own` has an address of its own. `one`, `two` and `three` share an address."""
    forwards = [{"protocol": "tcp", "targetPort": 80}, {"protocol": "udp", "targetPort": UDP_PORT}]
    ingress = [{"protocol": "icmp"}, {"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": UDP_PORT}]
    with running(lab, POOL, own={"ipv4": "dedicated", "ingress": ingress}, one={"forwards": forwards}, two={}, three={}) as guests:
        yield guests


def place(guests, name, family, protocol="tcp"):
    """Address and port at which others reach the guest: its HTTP server, or UDP_PORT."""
    status, inner = guests.status(name), 80 if protocol == "tcp" else UDP_PORT
    if family == 6:
        return status["address"], inner
    return status["publicIPv4"], next((f["port"] for f in status.get("forwards", []) if f["protocol"] == protocol), inner)


def probe(inside, kind, address, port, size=100, hops="64"):
    out = run(*inside, "/usr/bin/python3", "-c", PROBE, kind, address, str(port), str(size), str(patient(5)), hops, timeout=120).stdout
    return [json.loads(line) for line in out.splitlines()]


# ---- downloads ----


def content(line, port):
    """What the server answers."""
    return "".join(f"{line} {port} {i}\n" for i in range(500))


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def test_downloads_at_once(lab, guests):
    """From three guests on two hosts by one address. Each download has the content that was made for it, so no packet
    went to another connection or guest; all are open at one moment, which the server sees."""
    names, n = ["one", "two", "three"], 340 if ALL else 60
    server = subprocess.Popen([*MORTAL, *lab.exec_argv("internet"), "/usr/bin/python3", "-c", DOWNLOADS, INTERNET4, str(len(names) * n),
                               str(patient(60))], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "listening\n"
        since = time.monotonic()
        for name in names:
            guests.begin(name, f"mkdir /tmp/d; cd /tmp/d; for i in $(seq {n}); do echo {name}-$i >q$i; done; "
                               f"sh -c 'for i in $(seq {n}); do nc {INTERNET4} 8000 <q$i >{name}-$i & done; wait'; "
                               f"md5sum {name}-* | md5sum; cd /; rm -r /tmp/d")
        asked = json.loads(server.stdout.readline() or "null")
        assert asked and len(asked) == len(names) * n, "not all connections came"
        took = time.monotonic() - since
        assert {line for line, _, _ in asked} == {f"{name}-{i + 1}" for name in names for i in range(n)}
        assert {address for _, address, _ in asked} == {SHARED}
        assert len({port for _, _, port in asked}) == len(asked)
        slices = {name: guests.ports(name) for name in names}
        assert not [(line, port) for line, _, port in asked if port not in slices[line.split("-")[0]]]
        for name in names:
            files = [(line, content(line, port)) for line, _, port in sorted(asked) if line.startswith(f"{name}-")]
            sums = "".join(f"{md5(text)}  {line}\n" for line, text in files)
            assert guests.end(name, 60) == [f"{md5(sums)}  -"], name
        GAPS.append(f"{len(asked)} connections of three guests by one address are open after {took:.1f} s, "
                    f"the downloads end after {time.monotonic() - since:.1f} s")
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


# ---- traceroute ----


@way
def test_traceroute_from_a_guest(guests, name, family):
    """Container, host, edge, internet. The host has no IPv6 address, so it doesn't answer by IPv6."""
    program, to = ("traceroute6", INTERNET6) if family == 6 else ("traceroute", INTERNET4)
    # Three probes a hop, since routers limit their errors; only the first answer of a hop is looked at.
    lines = [re.sub(r"  \*", "", line) for line in guests.run(name, f"{program} -n -q 3 -w 2 -m 8 {to}", 60)]
    found = [(line.split() + ["*"])[1] for line in lines if re.match(r" *\d+", line)]
    if family == 6:
        assert found[:2] == [guests.status(name)["overlayAddress"], "*"] and found[2] in EDGES6 and found[3:] == [to], lines
    else:
        assert found == ["169.254.0.1", DUMMY4, DUMMY4, to], lines


@way
@pytest.mark.parametrize("protocol", ["udp", pytest.param("tcp", marks=longer)])
def test_traceroute_to_a_guest(lab, guests, name, family, protocol):
    """Edge, host, container, guest. By IPv6 the host doesn't answer. To a shared address neither balancer nor host is a
    hop: they hand frames on."""
    address, port = place(guests, name, family, protocol)
    limits = {("own", 6): "1,3,4", ("own", 4): "1,2,3,4", ("one", 4): "1,2,3"}[name, family]
    *routers, last = probe(lab.exec_argv("internet"), protocol, address, port, hops=limits)
    assert all(routers) and {(type, code) for type, code, *_ in routers} == {(3, 0) if family == 6 else (11, 0)}, routers
    senders = [sender for _, _, sender, _ in routers]
    if family == 6:
        assert senders[0] in EDGES6 and senders[1] == guests.status(name)["overlayAddress"], senders
    else:
        assert senders == ([DUMMY4, SHARED] if name == "one" else [DUMMY4] * 3), senders
    assert last == (["connected"] if protocol == "tcp" else [1, 4, address, 0] if family == 6 else [3, 3, address, 0])


# ---- path MTU ----


@contextlib.contextmanager
def mtu(lab, *ends, value=1400):
    """Both ENDS of a link, a namespace and a device each, have another MTU."""
    with contextlib.ExitStack() as stack:
        for ns, device in ends:
            argv = ["ip", "-n", f"nl-{lab.name}-{ns}", "link", "set", device, "mtu"]
            run(*argv, str(value))
            stack.callback(run, *argv, "1500")
        yield


@pytest.fixture(params=["uplinks", pytest.param("beyond", marks=longer)])
def far(lab, request):
    """A namespace with servers at an address of each family, behind `internet` and a further router. One link on the way
    has 1,400 bytes: that between edge and internet (both edges have it), or that behind `internet`, whose routers are
    neither the cloud's nor the guests'. Each has its own addresses, as guests remember the path MTU of a destination.

        edge (wan) -- (edge1, edge2) internet (narrow) -- (back) middle (narrow2) -- (back2) far
    """
    n, names = 1 + ["uplinks", "beyond"].index(request.param), ("internet", "middle", "far")
    addresses = {4: f"192.0.2.{64 + n}", 6: f"2001:db8:fffe::{n}"}
    internet, middle, far = (f"nl-{lab.name}-{what}" for what in names)
    with contextlib.ExitStack() as stack:
        for ns in (middle, far):
            run("ip", "netns", "add", ns)
            stack.callback(run, "ip", "netns", "delete", ns)
        run("ip", "netns", "exec", middle, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for a, b, link, back, net in ((internet, middle, "narrow", "back", 4), (middle, far, "narrow2", "back2", 8)):
            run("ip", "-n", a, "link", "add", link, "type", "veth", "peer", "name", back, "netns", b)
            stack.callback(run, "ip", "-n", a, "link", "delete", link)  # it would outlive the name of its namespace
            for ns, device, host in ((a, link, 1), (b, back, 2)):
                run("ip", "-n", ns, "address", "add", f"192.0.2.{net + host}/30", "dev", device)
                run("ip", "-n", ns, "address", "add", f"2001:db8:ffff:{net}::{host}/64", "dev", device, "nodad")
                run("ip", "-n", ns, "link", "set", device, "up")
        run("ip", "-n", middle, "route", "add", "default", "via", "192.0.2.5")
        run("ip", "-n", middle, "route", "add", "default", "via", "2001:db8:ffff:4::1")
        run("ip", "-n", far, "link", "set", "lo", "up")
        for family, address in addresses.items():
            run("ip", "-n", far, "address", "add", address, "dev", "lo")
            gateway = "2001:db8:ffff:8::1" if family == 6 else "192.0.2.9"
            run("ip", "-n", far, "route", "add", "default", "via", gateway, "src", address)
            for ns, via in ((internet, 4), (middle, 8)):
                gateway = f"2001:db8:ffff:{via}::2" if family == 6 else f"192.0.2.{via + 2}"
                run("ip", "-n", ns, "route", "add", address, "via", gateway)
        inside = ["ip", "netns", "exec", far]
        if request.param == "uplinks":
            stack.enter_context(mtu(lab, *(end for i in (1, 2) for end in ((f"edge{i}-public", "wan"), ("internet", f"edge{i}")))))
        else:
            stack.enter_context(mtu(lab, ("internet", "narrow"), ("middle", "back")))
        for address in addresses.values():
            stack.enter_context(servers(inside, address))
        yield inside, addresses


@way
def test_path_mtu(lab, guests, far, name, family):
    """Guest and server learn from ICMP errors that the path has 1,400 bytes: 1 MB gets through in both directions,
    whoever connects. Errors to the shared address reach the container of their owner, which only balancers send there."""
    (inside, addresses), (address, port) = far, place(guests, name, family)
    server, url = addresses[family], f"http://[{address}]:{port}/big" if family == 6 else f"http://{address}:{port}/big"
    too_big = "icmp6 and ip6[40] == 2" if family == 6 else "icmp[0] == 3 and icmp[1] == 4"
    with lab.capture(f"demo/{name}", "uplink", f"dst host {address} and {too_big}") as errors:
        lines = guests.run(name, f"dd if=/dev/zero of=/www/big bs=1000 count=1000 2>/dev/null; cat /www/big | nc {server} 8002; "
                                 f"nc {server} 8003 </dev/null | wc -c", 60)
        got = run(*inside, "curl", "-s", "-m", str(patient(20)), "-o", "/dev/null", "-w", "%{size_download}", url)
    assert lines == ["took 1000000", "1000000"] and got.stdout == "1000000", (lines, got)
    assert errors and {p[ICMPv6PacketTooBig].mtu if family == 6 else p[ICMP].nexthopmtu for p in errors} == {1400}
    # What is too large by a byte is refused by a router on the way, the largest that fits is answered by the guest.
    address, port = place(guests, name, family, "udp")
    (refused,) = probe(inside, "udp", address, port, size=1401)
    (answered,) = probe(inside, "udp", address, port, size=1400)
    assert (refused[0], refused[1], refused[3]) == ((2, 0, 1400) if family == 6 else (3, 4, 1400)), refused
    assert answered[:3] == ([1, 4, address] if family == 6 else [3, 3, address]), answered


# ---- throughput ----


@pytest.fixture
def iperf3(lab, tmp_path):
    """A command that fetches iperf3 and its libraries into a guest."""
    libraries = re.findall(r"(/\S+) \(", run("ldd", "/usr/bin/iperf3").stdout)
    with tarfile.open(tmp_path / "iperf3.tar", "w", dereference=True) as tar:
        for path in ["/usr/bin/iperf3", *libraries]:
            tar.add(path, os.path.basename(path))
    httpd = subprocess.Popen([*MORTAL, *lab.exec_argv("internet", "busybox", "httpd", "-f", "-p", f"{INTERNET4}:8080", "-h", str(tmp_path))])
    yield f"mkdir /tmp/i; cd /tmp/i; until wget -q -O - http://{INTERNET4}:8080/iperf3.tar | busybox tar x; do sleep 1; done; cd /"
    httpd.kill()
    httpd.wait()


@longer
def test_throughput(lab, guests, iperf3):
    """A download by each way, for the record."""
    for name in ("own", "one"):
        guests.begin(name, iperf3)
    for name in ("own", "one"):
        guests.end(name, 60)
    for name, family in WAYS:
        server = INTERNET6 if family == 6 else INTERNET4
        process = subprocess.Popen([*MORTAL, *lab.exec_argv("internet", "iperf3", "-s", "-1", "-B", server, "--forceflush")],
                                   stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                if "listening" in line:
                    break
            lines = guests.run(name, "cd /tmp/i; LD_LIBRARY_PATH=. ./ld-linux-x86-64.so.2 ./iperf3 -R -t 2 -f m "
                                     f"-c {server}; cd /", 60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        speed = [re.search(r"([\d.]+) Mbits/sec .*receiver", line) for line in lines]
        assert any(speed), lines
        GAPS.append(f"iperf3, download of {name} by IPv{family}: {next(s for s in speed if s).group(1)} Mbit/s")
