# SPDX-License-Identifier: Apache-2.0
"""Shared IPv4 addresses: pools at the internet router, slices of ports through the balancers, and what is lost when a
balancer fails. A namespace at host1 plays an instance: the operator makes its Endpoint by hand."""

import contextlib
import json
import os
import re
import signal
import time

import pytest
from conftest import GAPS, condition, eventually
from datagrams import Datagrams, echo
from harness import patient, run

INTERNET = "192.0.2.1"
ENDPOINTS = "/apis/nacre.dev/v1alpha1/endpoints"
SHARED, OWN = "198.51.100.0/24", "203.0.113.0/24"
ADDRESS, FIRST, LAST, PORT = "198.51.100.7", 1024, 1535, 1100


def balancers(lab):
    return sorted(e["metadata"]["name"] for e in lab.items("endpoints.nacre.dev") if e["metadata"]["name"].startswith("lb-"))


def metrics(lab, balancer):
    return run("curl", "-s", "--unix-socket", f"{lab.dir}/{balancer}.sock", "http://balancer/metrics").stdout


def metric(lab, balancer, name):
    return int(re.search(rf"^nacre_lb_{name} (\d+)$", metrics(lab, balancer), re.M).group(1))


def packets(lab, balancer):
    return {k: int(v) for k, v in re.findall(r'nacre_lb_packets_total\{result="(\w+)"\} (\d+)', metrics(lab, balancer))}


def members(lab, place, prefix):
    """How many nexthops the route of the prefix has there."""
    route = json.loads(lab.exec(place, "ip", "-j", "-4", "route", "show", prefix, "metric", "1024"))
    if not route:
        return 0
    group = lab.exec(place, "ip", "nexthop", "show", "id", str(route[0]["nhid"]))
    match = re.search(r"group (\S+)", group)
    return len(match.group(1).split("/")) if match else 1


def endpoint(lab, name, host, mac, address, first, last, ip):
    return {"apiVersion": "nacre.dev/v1alpha1", "kind": "Endpoint", "metadata": {"name": name},
            "spec": {"host": host, "vtep": lab.get("host", host)["spec"]["vtep"], "ip": ip, "mac": mac,
                     "routes": [{"prefix": f"{address}/32", "firstPort": first, "lastPort": last}]}}


@pytest.fixture
def both(lab):
    """Both balancers work, before the test and after it."""
    def well():
        return balancers(lab) == ["lb-lb1", "lb-lb2"] and all(members(lab, f"edge{i}/public", SHARED) == 2 for i in (1, 2))

    eventually("both balancers announce", 60, well)
    yield
    eventually("both balancers announce again", 90, well)


@pytest.fixture
def served(lab, both):
    """The namespace that plays an instance, with a server at PORT. Frames for its MAC come by a macvlan on host1's VXLAN
    device; what it sends goes by host1's `public`."""
    ns, public, mac = f"nl-{lab.name}-played", f"nl-{lab.name}-host1-public", "02:00:00:00:07:01"
    with contextlib.ExitStack() as stack:
        run("ip", "netns", "add", ns)
        stack.callback(run, "ip", "netns", "delete", ns)
        for argv in (["-n", public, "link", "add", "link", "overlay", "name", "played-in", "address", mac, "type", "macvlan"],
                     ["-n", public, "link", "set", "played-in", "netns", ns], ["-n", ns, "link", "set", "played-in", "up"],
                     ["-n", public, "link", "add", "played", "type", "veth", "peer", "name", "out", "netns", ns],
                     ["-n", public, "link", "set", "played", "up"], ["-n", ns, "link", "set", "out", "up"],
                     ["-n", public, "address", "add", "169.254.7.1/32", "dev", "played"],
                     ["-n", ns, "address", "add", f"{ADDRESS}/32", "dev", "out"],
                     ["-n", ns, "route", "add", "default", "via", "169.254.7.1", "dev", "out", "onlink"]):
            run("ip", *argv)
        # host1 has no route to ADDRESS by this device, so it needn't answer ARP for it.
        run("ip", "-n", ns, "neighbour", "add", "169.254.7.1", "dev", "out", "lladdr", json.loads(
            run("ip", "-n", public, "-j", "link", "show", "played").stdout)[0]["address"])
        run("ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.played-in.rp_filter=0")
        server = echo(["ip", "netns", "exec", ns], ADDRESS, PORT)
        stack.callback(server.wait)
        stack.callback(server.kill)
        lab.apply(endpoint(lab, "played", "host1", mac, ADDRESS, FIRST, LAST, "2001:db8:0:9::7"))
        stack.callback(lab.kubectl, "delete", "endpoint.nacre.dev", "played")
        yield


def flows(lab, **kwargs):
    return Datagrams(lab.exec_argv("internet"), INTERNET, ADDRESS, PORT, **kwargs)


def test_pools_reach_the_internet(lab, both):
    """IPv4 by the unnumbered sessions, whose nexthops are IPv6 (RFC 8950). Unused addresses are unreachable at the edge."""
    for prefix in (SHARED, OWN):
        route = lab.exec("internet", "ip", "-4", "route", "show", prefix)
        assert "edge1" in route and "edge2" in route, route
    answer = lab.exec("internet", "ping", "-n", "-c", "1", "-W", "2", "203.0.113.77", check=False)
    assert "Unreachable" in answer, answer
    # Hosts reach shared addresses by the balancers, too.
    assert members(lab, "host2/public", SHARED) == 2
    # Nobody outside may use our addresses as a source.
    rules = lab.exec("edge1/public", "nft", "list", "set", "inet", "nacre-edge", "own4")
    assert SHARED in rules and OWN in rules


def test_a_pool_comes_and_goes(lab, both):
    """Balancers announce a new pool at once, and keep the others meanwhile."""
    more = "192.0.2.128/25"

    def announced():
        return [sorted(r["prefix"] for r in e["spec"]["routes"]) for e in lab.items("endpoints.nacre.dev")
                if e["metadata"]["name"].startswith("lb-")]

    lab.apply({"apiVersion": "nacre.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "more"},
               "spec": {"use": "shared", "prefix": more, "slicePorts": 64, "quarantineSeconds": 0}})
    try:
        eventually("both announce it", 10, lambda: announced() == [[more, SHARED]] * 2)
        eventually("it reaches the internet", 10, lambda: "edge1" in lab.exec("internet", "ip", "-4", "route", "show", more))
        assert all(members(lab, f"edge{i}/public", SHARED) == 2 for i in (1, 2))
    finally:
        lab.kubectl("delete", "addresspool", "more")
    eventually("nobody announces it", 10, lambda: announced() == [[SHARED]] * 2)
    eventually("the internet has forgotten it", 10, lambda: not lab.exec("internet", "ip", "-4", "route", "show", more))


def test_flows_are_spread_over_both(lab, served):
    before = {b: packets(lab, b) for b in ("lb1", "lb2")}
    stream = flows(lab, n=64).stop()
    assert stream.lost == 0 and stream.silent == 0, vars(stream)
    after = {b: packets(lab, b) for b in ("lb1", "lb2")}
    sent = {b: after[b]["forwarded"] - before[b]["forwarded"] for b in before}
    assert sum(sent.values()) >= stream.sent and min(sent.values()) > stream.sent / 10, sent
    # A port that nobody has.
    lab.exec("internet", "/usr/bin/python3", "-c",
             f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{ADDRESS}', {LAST + 1}))")
    eventually("it is dropped and counted", 10, lambda: sum(packets(lab, b)["no_owner"] for b in before) > sum(
        after[b]["no_owner"] for b in before))


def test_frames_reach_the_container_of_an_instance(lab, hello, both):
    """A balancer sends frames to the MAC of the instance; the host delivers them to its container."""
    address, port, st = "198.51.100.8", 2100, hello["status"]
    lab.apply(endpoint(lab, "delivered", st["host"], st["mac"], address, 2048, 2559, "2001:db8:0:9::8"))
    send = (f"import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            f"for i in range(100):\n    s.sendto(b'x', ('{address}', {port}))\n    time.sleep(0.05)\n")
    try:
        with lab.capture("demo/hello", "uplink", f"udp and dst host {address} and dst port {port}") as got:
            lab.exec("internet", "/usr/bin/python3", "-c", send)
        assert len(got) >= 20, len(got)
        # The agent takes what runs over, without a gap.
        os.kill(lab.pid(st["host"]), signal.SIGKILL)
        with lab.capture("demo/hello", "uplink", f"udp and dst host {address} and dst port {port}") as got:
            lab.restart(st["host"])
            lab.exec("internet", "/usr/bin/python3", "-c", send)
        assert len(got) == 100, len(got)
    finally:
        lab.kubectl("delete", "endpoint.nacre.dev", "delivered")


def note(what, stream):
    GAPS.append(f"{what}: longest gap of a flow {stream.gap * 1000:.0f} ms, {stream.lost} of {stream.sent} datagrams lost")


def test_restart_loses_nothing(lab, served):
    """Killed, upgraded or stopped in order: the program goes on with its table, and the next process adopts both."""
    stream, conditions = flows(lab), balancing(lab)
    for i in range(3):
        for b in ("lb1", "lb2"):
            if i < 2:
                os.kill(lab.pid(b), signal.SIGKILL)
            lab.restart(b)
            stream.await_answers()
    for b in ("lb1", "lb2"):
        eventually(f"{b} is ready", 30, lambda: run("curl", "-sf", "--unix-socket", f"{lab.dir}/{b}.sock",
                                                    "http://balancer/readyz", check=False).returncode == 0)
    stream.stop()
    note("balancers are killed and started again", stream)
    assert stream.lost == 0, vars(stream)
    assert balancing(lab) == conditions


def test_balancer_without_its_daemon_is_withdrawn(lab, served):
    """Its table gets old, so it loses its Endpoint when its heartbeat runs out. The program forwards until then."""
    stream = flows(lab)
    os.kill(lab.pid("lb1"), signal.SIGKILL)
    since = time.monotonic()
    try:
        eventually("lb1 is withdrawn", 40, lambda: balancers(lab) == ["lb-lb2"])
        GAPS.append(f"a balancer's daemon is dead: its Endpoint is withdrawn after {time.monotonic() - since:.1f} s")
        eventually("the edges use the other one", 20, lambda: members(lab, "edge1/public", SHARED) == 1)
        stream.await_answers()
    finally:
        lab.restart("lb1")
    eventually("lb1 is back", 30, lambda: members(lab, "edge1/public", SHARED) == 2)
    stream.await_answers()
    stream.stop()
    note("a balancer's daemon is dead", stream)
    assert stream.lost == 0, vars(stream)


@pytest.mark.parametrize("way", ["cables", "silent"])
def test_lose_a_balancer(lab, served, way):
    """Edges and hosts leave a balancer out as soon as the underlay has no route to it: at once if its cables are down, by
    BGP's timers if it falls silent. That doesn't wait for the controller."""
    silence = """table netdev dead {
        chain out { type filter hook egress device lb1 priority -500; policy drop; }
        chain in { type filter hook ingress device lb1 priority -500; policy drop; }
    }"""

    def lose(state):
        if way == "cables":
            for leaf in ("leaf1", "leaf2"):
                lab.exec(leaf, "ip", "link", "set", "lb1", "down" if state else "up")
        else:
            for leaf in ("leaf1", "leaf2"):
                lab.exec(leaf, "nft", *(["-f", "-"] if state else ["delete", "table", "netdev", "dead"]), input=silence)

    stream = flows(lab)
    lose(True)
    try:
        eventually("the edges use the other one", 30, lambda: all(members(lab, f"edge{i}/public", SHARED) == 1 for i in (1, 2)))
        stream.await_answers()
        stream.await_answers()
    finally:
        lose(False)
    eventually("lb1 is back", 60, lambda: all(members(lab, f"edge{i}/public", SHARED) == 2 for i in (1, 2)))
    stream.await_answers()
    stream.await_answers()
    stream.stop()
    note(f"a balancer is lost ({way})", stream)
    assert stream.gap < patient(5), vars(stream)


def test_api_away(lab, served):
    """Balancers go on with what they have, even one that is started meanwhile."""
    stream = flows(lab)
    pid = lab.pid("apiserver")
    os.kill(pid, signal.SIGSTOP)
    try:
        os.kill(lab.pid("lb2"), signal.SIGKILL)
        lab.restart("lb2")
        for _ in range(5):
            stream.await_answers()
    finally:
        os.kill(pid, signal.SIGCONT)
    stream.await_answers()
    stream.stop()
    assert stream.lost == 0, vars(stream)


def test_detach(lab, served):
    """A balancer is taken out of service without losing a packet."""
    stream = flows(lab)
    with open(f"/proc/{lab.pid('lb1')}/cmdline") as f:
        argv = f.read().rstrip("\0").split("\0")
    refused = run("ip", "netns", "exec", f"nl-{lab.name}-lb1", *argv, "--detach", check=False)
    assert refused.returncode == 1 and "another nacre-lb runs" in refused.stderr, refused
    os.kill(lab.pid("lb1"), signal.SIGTERM)
    eventually("it has ended", 10, lambda: not os.path.exists(f"/proc/{lab.pid('lb1')}"))
    assert "xdp" in lab.exec("lb1/underlay", "ip", "link", "show", "eth0"), "the program stays"
    run("ip", "netns", "exec", f"nl-{lab.name}-lb1", *argv, "--detach", "--detach-seconds", "3")
    assert "xdp" not in lab.exec("lb1/underlay", "ip", "link")
    assert balancers(lab) == ["lb-lb2"]
    stream.await_answers()
    lab.restart("lb1")
    eventually("lb1 is back", 30, lambda: members(lab, "edge1/public", SHARED) == 2)
    stream.await_answers()
    stream.stop()
    note("a balancer is taken out of service", stream)
    assert stream.lost == 0, vars(stream)


def request(api, method, path, body=None):
    api.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = api.getresponse()
    text = answer.read()
    assert answer.status in (200, 201), text


def balancing(lab):
    return [condition(lab.get("host", b), "Balancing") for b in ("lb1", "lb2")]


def test_ports_claimed_twice(lab, served):
    """The older Endpoint keeps them, at every balancer. (Of two of the same second it is the first by name.)"""
    mac = "02:00:00:00:07:07"
    lab.apply(endpoint(lab, "second", "host2", mac, ADDRESS, FIRST, LAST, "2001:db8:0:9::9"))
    try:
        for b in ("lb1", "lb2"):
            eventually(f"{b} sees two claims", 10, lambda: metric(lab, b, "conflicts") == 1)
            assert "ports claimed twice" in lab.log(b) and "endpoint=second owner=played" in lab.log(b)
        stream = flows(lab).stop()
        assert stream.lost == 0, vars(stream)
    finally:
        lab.kubectl("delete", "endpoint.nacre.dev", "second")
    for b in ("lb1", "lb2"):
        eventually(f"{b} sees one claim", 10, lambda: metric(lab, b, "conflicts") == 0)


def test_full_table(lab, served):
    """Slices of more addresses than fit: the condition says so, and all others work."""
    before = {b: metric(lab, b, "addresses") for b in ("lb1", "lb2")}
    assert all(c["status"] == "True" for c in balancing(lab))
    vtep, n = lab.get("host", "host2")["spec"]["vtep"], 16384 // 64 + 1
    many = [{"apiVersion": "nacre.dev/v1alpha1", "kind": "Endpoint",
             "metadata": {"name": f"many-{i}", "labels": {"many": "yes"}},
             "spec": {"host": "host2", "vtep": vtep, "ip": f"2001:db8:0:a::{i + 1:x}", "mac": "02:00:00:00:08:08",
                      "routes": [{"prefix": f"10.{i >> 8}.{i & 255}.{k}/32", "firstPort": 1024, "lastPort": 1535}
                                 for k in range(64)]}} for i in range(n)]
    stream, (api, _, _) = flows(lab), lab.connect()
    try:
        for e in many:
            request(api, "POST", ENDPOINTS, e)
        eventually("the condition says so", 60, lambda: all(c["reason"] == "TableFull" for c in balancing(lab)))
        assert all(c["status"] == "False" and "16384" in c["message"] for c in balancing(lab)), balancing(lab)
        assert all(metric(lab, b, "failing_addresses") > 0 for b in ("lb1", "lb2"))
        assert all(condition(lab.get("host", b), "Ready")["status"] == "True" for b in ("lb1", "lb2"))
        # A restart reads all of it again, and takes over what runs.
        os.kill(lab.pid("lb1"), signal.SIGKILL)
        lab.restart("lb1")
        eventually("lb1 says so again", 60, lambda: metric(lab, "lb1", "failing_addresses") > 0)
        stream.await_answers()
    finally:
        request(api, "DELETE", f"{ENDPOINTS}?labelSelector=many%3Dyes")
        api.close()
    eventually("all is well again", 60, lambda: all(c["status"] == "True" for c in balancing(lab)))
    eventually("the room is free", 10, lambda: before == {b: metric(lab, b, "addresses") for b in before})
    stream.stop()
    note("a table is filled and emptied", stream)
    assert stream.lost == 0, vars(stream)
