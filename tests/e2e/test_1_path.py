# SPDX-License-Identifier: Apache-2.0
"""The main purpose: an instance that kubectl creates answers from the internet; instances on two hosts reach each
other."""

import ipaddress
import re

from conftest import Console, condition, eventually, instance

from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.vxlan import VXLAN


def test_up_shows_it(lab, hello):
    address = hello["status"]["address"]
    assert f"bytes from {address}" in lab.shown
    assert re.search(r"curl -s http://198\.51\.100\.\d+:\d+/\n", lab.shown)
    assert len(re.findall(r"^hello from demo/hello$", lab.shown, re.M)) == 2


def test_second_up_says_so(lab):
    second = lab.nacre("lab", "up", "--name", lab.name, check=False)
    assert second.returncode == 1
    assert "is there already" in second.stderr and "nacre lab down" in second.stderr


def test_status_is_well(lab):
    status = lab.nacre("lab", "status", "--name", lab.name)
    assert "All is well." in status.stdout


def test_apply_wait_ping_curl(lab, cleanup):
    name = "first"
    cleanup.append(name)
    lab.apply(
        {"apiVersion": "nacre.dev/v1alpha1", "kind": "InstanceType", "metadata": {"name": "tiny"},
         "spec": {"vcpus": 1, "memoryMiB": 128}},
        {"apiVersion": "nacre.dev/v1alpha1", "kind": "Image", "metadata": {"name": "other"},
         "spec": {"kernel": {"kernel": "vmlinuz", "initrd": "initrd", "cmdline": "console=ttyS0 quiet"}}},
        instance(name, type="tiny", image="other"))
    lab.wait_ready("demo", name)
    status = lab.instance("demo", name)["status"]
    address, delegated = status["address"], ipaddress.ip_network(status["delegatedPrefix"])
    assert ipaddress.ip_address(address) in ipaddress.ip_network(status["prefix"])
    lab.await_answer("internet", address)
    assert f"hello from demo/{name}" in lab.page(address)
    # The guest has the first address of its /60.
    inside = str(delegated.network_address + 1)
    lab.await_answer("internet", inside)
    assert f"hello from demo/{name}" in lab.page(inside)


def test_nothing_else_comes_in(lab, hello):
    address = hello["status"]["address"]
    refused = lab.exec("internet", "curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{exitcode}",
                       f"http://[{address}]:8080/", check=False)
    assert refused.strip() != "0"


def test_unallocated_is_unreachable_at_the_edge(lab):
    out = lab.exec("internet", "ping", "-6", "-n", "-c", "2", "-i", "0.2", "-W", "1", "2001:db8:10ff:ffff::1", check=False)
    assert re.search(r"unreachable", out), out
    assert "Time exceeded" not in out and "Hop limit" not in out


def test_two_instances_two_hosts(lab, hello, cleanup):
    cleanup.extend(["left", "right"])
    lab.apply(instance("left"), instance("right"))
    lab.wait_ready("demo", "left", "right")
    left, right = lab.instance("demo", "left")["status"], lab.instance("demo", "right")["status"]
    assert left["host"] != right["host"], "the scheduler puts them on two hosts"
    vtep = {h["metadata"]["name"]: h["spec"]["vtep"] for h in lab.items("hosts")}
    lab.await_answer("internet", left["address"])
    lab.await_answer("internet", right["address"])
    console = Console(lab, "demo/left")
    console.await_shell()
    with lab.capture(f"{left['host']}/underlay", "any", "udp port 4789") as outer, \
            lab.capture("edge1/public", "overlay") as edge1, lab.capture("edge2/public", "overlay") as edge2:
        console.run(f"ping -6 -c 5 {right['address']}; echo pinged-$((1+1))", "pinged-2")
    console.close()

    def echoes(packets):
        return [p for p in packets if ICMPv6EchoRequest in p and p[ICMPv6EchoRequest].underlayer.dst == right["address"]]

    there = [p for p in outer if VXLAN in p and ICMPv6EchoRequest in p[VXLAN]]
    assert len(there) >= 5
    for p in there:
        assert p[IPv6].src == vtep[left["host"]] and p[IPv6].dst == vtep[right["host"]]
        assert p[UDP].dport == 4789
        assert p[VXLAN][IPv6].dst == right["address"]
    assert not echoes(edge1) and not echoes(edge2), "nothing went through an edge"


def test_both_edges_carry(lab, hello):
    """While both are up, both carry traffic: flows from many sources leave by both edges."""
    peers = {p["metadata"]["name"]: p for p in lab.items("edgepeers")}
    for p in peers.values():
        assert condition(p, "Ready")["status"] == "True", p
        assert p["status"]["state"] == "Established"
    routes = lab.exec("internet", "ip", "-6", "route", "show", "2001:db8:1000::/40")
    assert "edge1" in routes and "edge2" in routes
    host = hello["status"]["host"]
    eventually("two edges announce defaults", 10,
               lambda: len([e for e in lab.items("endpoints.nacre.dev") if e["metadata"]["name"].startswith("edge-")]) == 2)
    assert lab.exec(f"{host}/public", "ip", "-6", "route", "show", "default").strip()


def test_routes_outside_pools_are_announced(lab):
    """Prefixes of an Endpoint that no pool holds, of both families, are announced, and withdrawn with the Endpoint."""
    vtep = lab.get("host", "host1")["spec"]["vtep"]
    prefixes = ["192.0.2.77/32", "2001:db8:aaaa::/48"]
    lab.apply({"apiVersion": "nacre.dev/v1alpha1", "kind": "Endpoint", "metadata": {"name": "byhand"},
               "spec": {"host": "host1", "vtep": vtep, "ip": "2001:db8:0:9::1", "mac": "02:00:00:00:03:01",
                        "routes": [{"prefix": p} for p in prefixes]}})

    def known():
        v4 = lab.exec("internet", "ip", "-4", "route", "show", prefixes[0])
        v6 = lab.exec("internet", "ip", "-6", "route", "show", prefixes[1])
        return ["edge1" in v4 and "edge2" in v4, "edge1" in v6 and "edge2" in v6]

    try:
        eventually("the internet knows them by both edges", 20, lambda: known() == [True, True])
        # On the edges these routes lead to the host; IPv4 has an IPv6 nexthop.
        assert "nhid" in lab.exec("edge1/public", "ip", "-4", "route", "show", prefixes[0])
    finally:
        lab.kubectl("delete", "endpoint.nacre.dev", "byhand")
    eventually("the internet has forgotten them", 20, lambda: known() == [False, False])


def test_hosts_have_defaults_by_both_edges(lab, hello):
    host = hello["status"]["host"]
    for family in ("-4", "-6"):
        route = lab.exec(f"{host}/public", "ip", family, "route", "show", "default", "proto", "78")
        match = re.search(r"nhid (\d+)", route)
        assert match, route
        group = lab.exec(f"{host}/public", "ip", "nexthop", "show", "id", match.group(1))
        assert len(re.search(r"group (\S+)", group).group(1).split("/")) == 2, group
