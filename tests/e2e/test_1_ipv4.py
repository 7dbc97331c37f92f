# SPDX-License-Identifier: Apache-2.0
"""Public IPv4 of running guests: dedicated addresses, shared ones with their slices of ports, and forwards, as the
internet and as other instances see them. The guests are configured by DHCP."""

import time

import pytest
from conftest import GAPS, condition, eventually
from guests import running, servers
from harness import run

from scapy.layers.inet import ICMP, TCP, UDP

INTERNET = "192.0.2.1"
# Slices as small as can be, of one address, so that all instances share it. It comes before the lab's own pool by name.
POOL = {"apiVersion": "nacre.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "few"},
        "spec": {"use": "shared", "prefix": "198.51.101.0/32", "slicePorts": 64, "quarantineSeconds": 0}}
SHARED = "198.51.101.0"
GUESTS = ["own", "one", "two", "three"]


@pytest.fixture(scope="module")
def guests(lab):
    """`own` has an address of its own. `one` and `two` are on one host, `three` is on another; they share an address."""
    tcp = {"protocol": "tcp", "targetPort": 80}
    with running(lab, POOL, own={"ipv4": "dedicated"}, one={"forwards": [tcp]},
                 two={"forwards": [tcp, {"protocol": "udp", "targetPort": 7}], "ingress": [{"protocol": "icmp"}]},
                 three={"forwards": [tcp]}) as guests:
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
