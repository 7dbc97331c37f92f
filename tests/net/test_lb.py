# SPDX-License-Identifier: Apache-2.0
"""A balancer, and objects that another version wrote and that it can't read. After a restart of nacre-lb what may belong
to them is still in the table and announced; all else is added and changed. The underlay has no leaves."""

import json
import os
import time

import pytest
from agentrig import AgentRig, GROUP
from harness import BIN, output as run, until
from rewriter import Rewriter

ONE, TWO, THREE = "198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/25"
MORE = {b'"ip":"2001:db8:9::2"': b'"ip":"z001:db8:9::2"'}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Balancer(AgentRig):
    def __init__(self):
        super().__init__("nb", "lb")
        self.host, self.rewriters = f"{self.prefix}b1", []

    def pool(self, name, prefix):
        self.post("addresspools", "AddressPool", name, {"use": "shared", "prefix": prefix})

    def endpoint(self, name, n, *addresses):
        self.post("endpoints", "Endpoint", name, {
            "host": "h9", "vtep": "fd5c::9", "ip": f"2001:db8:9::{n}", "mac": f"02:00:00:00:00:0{n}",
            "routes": [{"prefix": f"{a}/32", "firstPort": 1024, "lastPort": 1535} for a in addresses]})

    def start_lb(self, sock):
        self.spawn("lb", "nsenter", f"--net=/run/netns/{self.host}", f"{BIN}/nacre-lb", f"--api=unix:{sock}", "--host=b1",
                   "--vtep=fd5c::1", "--asn=4200000001", "--nic=eth0", f"--netns-prefix={self.host}-",
                   f"--run-dir={self.dir}/b1", "--overlay-ip=fd10::1", "--xdp=generic", f"--metrics=unix:{self.metrics}")

    def restart(self, changes):
        """Starts nacre-lb again, and only it hears the changed answers."""
        self.kill("lb")
        self.rewriters.append(Rewriter(f"{self.dir}/rewrite-{len(self.rewriters)}.sock", self.sock))
        self.rewriters[-1].changes = changes
        self.start_lb(self.rewriters[-1].path)
        until("it is ready again", lambda: self.is_ready(self.metrics))

    def heal(self, path):
        self.rewriters[-1].changes = {}
        self.touch(path)
        until("all is understood", lambda: self.metric("nacre_lb_objects_not_understood") == 0
              and self.metric("nacre_overlay_endpoints_not_understood") == 0)

    def start(self):
        for netns in (self.host, f"{self.prefix}leaf"):
            run("ip", "netns", "add", netns)
        run("ip", "-n", self.host, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", f"{self.prefix}leaf")
        self.start_api()
        self.pool("one", ONE)
        self.pool("two", TWO)
        self.endpoint("some", 1, "198.51.100.7")
        self.endpoint("more", 2, "203.0.113.7", "203.0.113.8")
        self.start_lb(self.sock)
        until("the balancer is ready", lambda: self.is_ready(self.metrics))
        until("all is in the table and announced", lambda: self.table() == 3 and self.announced() == [ONE, TWO])

    def stop(self):
        self.clean({f"{self.host}-underlay": f"{self.dir}/b1/frr-underlay"})
        for r in self.rewriters:
            r.close()

    def table(self):
        """How many slices have an owner in the kernel's table."""
        return self.metric("nacre_lb_groups")

    def announced(self):
        status, text = self.http(self.sock, "GET", f"{GROUP}/endpoints/lb-b1")
        return sorted(r["prefix"] for r in json.loads(text)["spec"]["routes"]) if status == 200 else []

    def look(self):
        """Waits until it has looked at all again, on its own."""
        time.sleep(4)


@pytest.fixture
def balancer():
    b = Balancer()
    try:
        b.start()
        yield b
    finally:
        b.stop()


def test_endpoint(balancer):
    balancer.restart(MORE)
    until("an operator can learn of it", lambda: balancer.metric("nacre_overlay_endpoints_not_understood") == 1)
    balancer.look()
    assert balancer.metric("nacre_lb_slices") == 1 and balancer.table() == 3
    # What is known goes on.
    balancer.endpoint("new", 3, "198.51.100.9")
    until("a new slice is in the table", lambda: balancer.table() == 4)
    balancer.delete("endpoints/some")
    until("one that is gone isn't", lambda: balancer.table() == 3)
    balancer.heal("endpoints/more")
    until("it knows all", lambda: balancer.metric("nacre_lb_slices") == 3 == balancer.table())
    # It has been in the table since another process, and goes without being understood.
    balancer.restart(MORE)
    assert balancer.table() == 3
    balancer.delete("endpoints/more")
    until("what was kept for it is removed", lambda: balancer.table() == 1)


def test_pool(balancer):
    balancer.restart({b'"use":"shared","prefix":"203': b'"use":"shared","prefix":"z03'})
    until("an operator can learn of it", lambda: balancer.metric("nacre_lb_objects_not_understood") == 1)
    (line,) = [s for s in balancer.log().splitlines() if 'part="AddressPool two"' in s]
    assert "not understood" in line and "spec.prefix: " in line
    balancer.pool("three", THREE)
    until("a new pool is announced with those that are kept", lambda: balancer.announced() == sorted([ONE, TWO, THREE]))
    balancer.look()
    assert balancer.table() == 3 and balancer.announced() == sorted([ONE, TWO, THREE])
    balancer.heal("addresspools/two")
    assert 'msg="well again" part="AddressPool two"' in balancer.log()
    balancer.delete("addresspools/two")
    until("it is withdrawn", lambda: balancer.announced() == sorted([ONE, THREE]))
