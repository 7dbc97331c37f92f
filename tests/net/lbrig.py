# SPDX-License-Identifier: Apache-2.0
"""An API server and one balancer, in namespaces of the test. The underlay has no leaves."""

import json
import time

from agentrig import AgentRig, GROUP
from harness import BIN, output as run, until
from rewriter import Rewriter

ONE, TWO, THREE = "198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/25"


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

    def start_lb(self, sock, *before):
        """BEFORE: a command that runs the balancer."""
        self.spawn("lb", *before, "nsenter", f"--net=/run/netns/{self.host}", f"{BIN}/nacre-lb", f"--api=unix:{sock}", "--host=b1",
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
