# SPDX-License-Identifier: Apache-2.0
"""An edge with real FRR and a router outside, and objects that another version wrote and that the edge can't read.
What may belong to them stays as it was, also after a restart of the edge; all else is added and changed. The underlay
has no leaves: a route in it stands for them."""

import json
import os
import shutil
import signal
import time

import pytest
from agentrig import AgentRig, FRR, GROUP
from harness import BIN, output as run, until
from rewriter import Rewriter

REMEDY = "; correct the object or, if a newer program wrote it, upgrade this agent"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Edge(AgentRig):
    def __init__(self):
        super().__init__("ne", "edge")
        self.host, self.leaf, self.router = (self.prefix + n for n in ("e1", "leaf", "router"))
        self.underlay, self.public = f"{self.host}-underlay", f"{self.host}-public"
        self.rewriter = None
        self.frr = {self.underlay: f"{self.dir}/e1/frr-underlay", self.public: f"{self.dir}/e1/frr-public",
                    self.router: f"{self.dir}/router"}

    def pool(self, name, prefix):
        self.post("addresspools", "AddressPool", name, {"use": "instance", "prefix": prefix})

    def endpoint(self, name, address, *prefixes, mac="02:00:00:00:00:09"):
        self.post("endpoints", "Endpoint", name, {"host": "h9", "vtep": "fd5c::9", "ip": address, "mac": mac,
                                                  "routes": [{"prefix": p} for p in prefixes]})

    def start_edge(self, sock=None):
        self.spawn("edge", "nsenter", f"--net=/run/netns/{self.host}", f"{BIN}/nacre-edge", f"--api=unix:{sock or self.sock}",
                   "--host=e1", "--vtep=fd5c::1", "--asn=4200000001", "--nic=eth0", f"--netns-prefix={self.host}-",
                   f"--run-dir={self.dir}/e1", "--uplink=wan1", "--uplink=wan2", "--overlay-ip=fd10::1",
                   f"--metrics=unix:{self.metrics}")

    def wait_edge(self):
        until("the edge is ready", lambda: self.is_ready(self.metrics))

    def restart(self, changes, before=lambda: None):
        """Starts the edge again, and only it hears the changed answers."""
        self.kill("edge")
        before()
        self.rewriter = Rewriter(f"{self.dir}/rewrite-{time.monotonic_ns()}.sock", self.sock)
        self.rewriter.changes = changes
        self.start_edge(self.rewriter.path)

    def link(self):
        """Makes the edge's devices, which go with its namespaces."""
        for name in ("eth0", "wan1", "wan2"):
            peer = self.leaf if name == "eth0" else self.router
            run("ip", "-n", self.host, "link", "add", name, "type", "veth", "peer", "name", name, "netns", peer)
            run("ip", "-n", peer, "link", "set", name, "up")
        for i in (1, 2):
            run("ip", "-n", self.router, "addr", "add", f"fd0{i}::2/64", "dev", f"wan{i}", "nodad")

    def join(self):
        """What the test does for the leaves and for the operator, once the edge has its namespaces."""
        self.wait_edge()
        for i in (1, 2):
            run("ip", "-n", self.public, "addr", "add", f"fd0{i}::1/64", "dev", f"wan{i}", "nodad")
        self.reach_fabric("add")

    def reach_fabric(self, verb):
        run("ip", "-n", self.underlay, "-6", "route", verb, "fd5c:ffff::/64", "dev", "lo", "proto", "bgp")

    def start(self):
        for netns in (self.host, self.leaf, self.router):
            run("ip", "netns", "add", netns)
        run("ip", "-n", self.router, "link", "set", "lo", "up")
        self.link()
        with open(f"{self.dir}/zebra.conf", "w") as z, open(f"{self.dir}/bgpd.conf", "w") as b:
            z.write("frr defaults datacenter\n")
            b.write("frr defaults datacenter\nrouter bgp 64600\n bgp router-id 10.0.0.1\n no bgp ebgp-requires-policy\n"
                    + "".join(f" neighbor fd0{i}::1 remote-as 64512\n neighbor fd0{i}::1 timers 1 3\n"
                              f" neighbor fd0{i}::1 timers connect 1\n" for i in (1, 2))
                    + " address-family ipv6 unicast\n  neighbor fd01::1 activate\n  neighbor fd02::1 activate\n")
        run(FRR, "frr", self.router, self.frr[self.router], f"{self.dir}/zebra.conf", f"{self.dir}/bgpd.conf")
        self.start_api()
        self.start_edge()
        self.pool("one", "2001:db8:1000::/40")
        self.pool("two", "2001:db8:2000::/40")
        self.endpoint("outside", "2001:db8:f::7")
        self.endpoint("inside", "2001:db8:2000::7")
        for i in (1, 2):
            self.post("edgepeers", "EdgePeer", f"p{i}", {"edge": "e1", "address": f"fd0{i}::2", "localASN": 64512, "remoteASN": 64600})
        self.join()

    def stop(self):
        self.clean(self.frr)
        if self.rewriter:
            self.rewriter.close()

    def vtysh(self, netns, command):
        return run("vtysh", "--vty_socket", self.frr[netns], "-d", "bgpd", "-c", command)

    def sessions(self):
        """The edge's addresses whose sessions are established at the router, each with the number of the session."""
        found = json.loads(self.vtysh(self.router, "show bgp neighbors json"))
        return {k: v["connectionsEstablished"] for k, v in found.items()
                if isinstance(v, dict) and v.get("bgpState") == "Established"}

    def routes(self):
        """The prefixes that the router has learnt, each with the edge's addresses that announced it."""
        found = json.loads(self.vtysh(self.router, "show bgp ipv6 unicast json"))["routes"]
        return {k: sorted(p["peerId"] for p in v) for k, v in found.items()}

    def unreachable(self):
        return sorted(r["dst"] for r in json.loads(run("ip", "-j", "-6", "-n", self.public, "route", "show", "type", "unreachable"))
                      if r.get("metric") == 8192)

    def filtered(self):
        return [p for p in ("2001:db8:1000::/40", "2001:db8:2000::/40") if p in run(
            "ip", "netns", "exec", self.public, "nft", "list", "set", "inet", "nacre-edge", "own6")]

    def all(self):
        return self.sessions(), self.routes(), self.unreachable(), self.filtered()


BOTH = ["fd01::2", "fd02::2"]
POOLS = ["2001:db8:1000::/40", "2001:db8:2000::/40"]
OUTSIDE = "2001:db8:f::7/128"
PEER = {b'"address":"fd01::2"': b'"address":"zd01::2"'}
POOL = {b'"prefix":"2001:db8:2000': b'"prefix":"z001:db8:2000'}
ENDPOINT = {b'"ip":"2001:db8:f::7"': b'"ip":"z001:db8:f::7"'}


def settled(edge):
    routes = {p: sorted(["fd01::1", "fd02::1"]) for p in (*POOLS, OUTSIDE)}
    until("all is announced by both sessions", lambda: edge.routes() == routes)
    return until("and filtered", lambda: edge.unreachable() == POOLS and edge.filtered() == POOLS and edge.all())


@pytest.fixture
def edge():
    e = Edge()
    try:
        e.start()
        e.before = settled(e)
        yield e
    finally:
        e.stop()


def says_once(edge, what, field):
    until("the log says so", lambda: f'part="{what}"' in edge.log())
    (line,) = [s for s in edge.log().splitlines() if f'part="{what}"' in s]
    assert "not understood" in line and field in line and REMEDY in line


def heal(edge, *paths):
    edge.rewriter.changes = {}
    for path in paths:
        edge.touch(path)
    until("it is understood", lambda: edge.metric("nacre_edge_objects_not_understood") == 0
          and edge.metric("nacre_overlay_endpoints_not_understood") == 0)


def test_peer(edge):
    edge.restart(PEER)
    edge.wait_edge()
    until("an operator can learn of it", lambda: edge.metric("nacre_edge_objects_not_understood") == 1)
    # What is known goes on: a pool is new, and another one is gone.
    edge.pool("three", "2001:db8:3000::/40")
    edge.delete("addresspools/two")
    until("it is announced by the session that nobody knows", lambda: edge.routes().get("2001:db8:3000::/40") == ["fd01::1", "fd02::1"])
    until("the other is withdrawn", lambda: "2001:db8:2000::/40" not in edge.routes())
    assert edge.sessions() == edge.before[0]
    says_once(edge, "EdgePeer p1", "spec.address: ")
    # bgpd begins again with the session that nobody knows.
    with open(f"{edge.frr[edge.public]}/bgpd.pid") as f:
        os.kill(int(f.read()), signal.SIGKILL)
    until("both sessions are there again", lambda: all(n > edge.before[0][k] for k, n in edge.sessions().items()) and len(edge.sessions()) == 2)
    heal(edge, "edgepeers/p1")
    assert 'msg="well again" part="EdgePeer p1"' in edge.log()
    edge.delete("edgepeers/p1")
    until("its session is ended", lambda: list(edge.sessions()) == ["fd02::1"])


def test_only_peer(edge):
    edge.delete("edgepeers/p2")
    until("one session is left", lambda: list(edge.sessions()) == ["fd01::1"])
    edge.restart(PEER)
    edge.wait_edge()
    edge.pool("three", "2001:db8:3000::/40")
    until("it is announced", lambda: "2001:db8:3000::/40" in edge.routes())
    assert edge.sessions() == {"fd01::1": edge.before[0]["fd01::1"]}


def test_pool(edge):
    edge.restart(POOL)
    edge.wait_edge()
    until("an operator can learn of it", lambda: edge.metric("nacre_edge_objects_not_understood") == 1)
    edge.pool("three", "2001:db8:3000::/40")
    until("it is announced", lambda: "2001:db8:3000::/40" in edge.routes())
    assert edge.sessions() == edge.before[0]
    assert edge.filtered() == POOLS
    assert set(POOLS) <= set(edge.unreachable())
    assert set(edge.before[1]) <= set(edge.routes())
    # An Endpoint of the pool that nobody knows is not announced by itself.
    assert "2001:db8:2000::7/128" not in edge.routes()
    says_once(edge, "AddressPool two", "spec.prefix: ")
    # Without a way into the fabric other edges have to take the traffic.
    edge.reach_fabric("del")
    until("nothing is announced", lambda: not edge.routes())
    edge.reach_fabric("add")
    until("pools are announced again", lambda: set(POOLS) <= set(edge.routes()))
    edge.delete("addresspools/three")
    heal(edge, "addresspools/two")
    assert settled(edge)[0] == edge.before[0]
    edge.delete("addresspools/two")
    until("its prefix is withdrawn", lambda: "2001:db8:2000::/40" not in edge.routes())
    until("its route is removed", lambda: edge.unreachable() == POOLS[:1] and edge.filtered() == POOLS[:1])


def test_endpoint_outside_pools(edge):
    edge.restart(ENDPOINT)
    edge.wait_edge()
    edge.endpoint("new", "2001:db8:f::8")
    until("it is announced", lambda: "2001:db8:f::8/128" in edge.routes())
    assert edge.routes()[OUTSIDE] == edge.before[1][OUTSIDE]
    assert edge.sessions() == edge.before[0]
    heal(edge, "endpoints/outside")
    edge.delete("endpoints/outside")
    until("its prefix is withdrawn", lambda: OUTSIDE not in edge.routes())


def test_balancers_announce_nothing(edge):
    """A balancer that announces what is no pool's gets no traffic of it; what others have, too, is announced."""
    edge.endpoint("lb-h9", "2001:db8:f::9", "2001:db8:e::/48", "2001:db8:d::/48", mac="02:00:00:00:00:0a")
    edge.endpoint("other", "2001:db8:f::a", "2001:db8:d::/48", mac="02:00:00:00:00:0b")
    until("the other is announced", lambda: {"2001:db8:f::a/128", "2001:db8:d::/48"} <= set(edge.routes()))
    time.sleep(3)
    assert set(edge.routes()) == {*POOLS, OUTSIDE, "2001:db8:f::a/128", "2001:db8:d::/48"}


def test_boot(edge):
    """There is nothing to keep; the other peer comes up and announces."""
    def boot():
        for netns in (edge.public, edge.underlay):
            run(FRR, "frr-stop", netns, edge.frr[netns])
            run("ip", "netns", "del", netns)
        shutil.rmtree(f"{edge.dir}/e1")
        until("the links are gone", lambda: "wan" not in run("ip", "-n", edge.router, "link")
              and "eth0" not in run("ip", "-n", edge.leaf, "link"))
        edge.link()

    edge.restart({**PEER, **POOL, **ENDPOINT}, boot)
    edge.join()
    until("the other session announces what is known", lambda: edge.routes() == {POOLS[0]: ["fd02::1"]})
    until("an operator can learn of it", lambda: edge.metric("nacre_edge_objects_not_understood") == 2)
    heal(edge, "edgepeers/p1", "addresspools/two", "endpoints/outside")
    settled(edge)


def test_own_host(edge):
    """The Host exists, so the edge does not try to create it."""
    edge.restart({b'"role":"edge"': b'"role":"edgy"'})
    until("the log says so", lambda: "Host e1" in edge.log())
    until("it goes on with its heartbeat", lambda: edge.rewriter.asked.count(b"/leases/host-e1") > 1)
    assert edge.rewriter.asked.count(f"POST {GROUP}/hosts".encode()) == 0
    (line,) = [s for s in edge.log().splitlines() if "Host e1" in s]
    assert "not understood" in line and "spec.role: " in line and REMEDY in line
    assert edge.all() == edge.before
    edge.rewriter.changes = {}
    edge.touch("hosts/e1")
    edge.wait_edge()
    assert 'msg="well again" part="host"' in edge.log()
