# SPDX-License-Identifier: Apache-2.0
"""What one change costs nacre-controller while 90 % of N instances wait: processor time and memory.

    bench-waiters.py [N ...]        1,000, 10,000 and 100,000 if none is named

Of N instances a tenth is placed on 20 hosts, which are full; a tenth waits for a quota; the others wait for room, with 20
different demands. Each change is made ROUNDS times, one after the other. What the controller uses anyway (timers, and
what 20 waiters a second cost whose reason the change made another) is measured afterwards and taken off.
"""

import itertools
import json
import multiprocessing
import sys
import time

from lib import Api, Bench, metrics, program, wait

HOSTS, DEMANDS, ROUNDS, MAKERS = 20, 20, 100, 16
# The controller refreshes the reasons of so many waiters a second (REFRESH_US of src/controller/room.c), until it has
# looked at all. If the reason is another, it is written, and each concern that reconciles Instances (instances, ipv4)
# looks at what was written.
REFRESHES, LOOKS_EACH = 20, 3
GROUP = "/apis/nacre.dev/v1alpha1"
NAMESPACES = [f"t{k}" for k in range(10)]
numbers = itertools.count(1)


def thing(kind, name, spec, **meta):
    return {"apiVersion": "nacre.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def instances(ns):
    return f"{GROUP}/namespaces/{ns}/instances"


def make(sock, work):
    api = Api(sock)
    for ns, name, spec in work:
        api.request("POST", instances(ns), thing("Instance", name, spec, finalizers=["nacre.dev/instance"]))


def host(api, name, vcpus):
    api.request("POST", f"{GROUP}/hosts", thing("Host", name, {"vtep": f"fd00:a::{next(numbers):x}"}))
    api.request("PATCH", f"{GROUP}/hosts/{name}/status", {"status": {
        "capacity": {"vcpus": vcpus, "memoryMiB": 16777216},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}, "application/merge-patch+json")
    lease = thing("Lease", "host-" + name, {"holderIdentity": name, "leaseDurationSeconds": 3600})
    lease["apiVersion"] = "coordination.k8s.io/v1"
    api.request("POST", "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases", lease)


def cloud(api):
    for ns in NAMESPACES + ["quota"]:
        api.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}})
    for name, spec in (("inst", {"use": "instance", "prefix": "2001:db8::/32"}),
                       ("deleg", {"use": "delegated", "prefix": "2001:1000::/32"}),
                       ("ovl", {"use": "overlay", "prefix": "fd00:1::/64"}), ("mac", {"use": "mac", "macPrefix": "02:4e:01"})):
        api.request("POST", f"{GROUP}/addresspools", thing("AddressPool", name, spec))
    for k in range(DEMANDS):
        api.request("POST", f"{GROUP}/instancetypes", thing("InstanceType", f"type{k}", {"vcpus": 1, "memoryMiB": 256 + k}))


class Controller:
    def __init__(self, bench, sock):
        self.socket = bench.path("controller.sock")
        self.proc = bench.start(program("nacre-controller"), "--api", f"unix:{sock}", "--no-leader-election",
                                "--metrics", f"unix:{self.socket}")

    def cpu(self):
        """Seconds on a processor."""
        with open(f"/proc/{self.proc.pid}/schedstat") as f:
            return int(f.read().split()[0]) / 1e9

    def memory(self):
        with open(f"/proc/{self.proc.pid}/status") as f:
            return next(int(l.split()[1]) for l in f if l.startswith("VmRSS")) / 1024

    def busy(self):
        """Whether more is going on than what goes on anyway, which may vary by a half."""
        def looks():
            m = metrics(self.socket)
            return m["nacre_controller_reconciles_total"], sum(v for k, v in m.items() if "queue_depth" in k)
        before, _ = looks()
        time.sleep(1)
        after, depth = looks()
        return depth > 5 or after - before > 1.5 * REFRESHES * LOOKS_EACH

    def settle(self, seconds):
        wait("the controller to have nothing to do", lambda: not self.busy(), seconds)
        time.sleep(1.5)  # usage of pools and quotas is told late


def idle(ctl):
    """Processor time in each second in which nothing changes."""
    begin, at = ctl.cpu(), time.monotonic()
    time.sleep(5)
    return (ctl.cpu() - begin) / (time.monotonic() - at)


def cost(ctl, change):
    """Milliseconds of processor time for one CHANGE, of ROUNDS."""
    ctl.settle(60)
    begin, at = ctl.cpu(), time.monotonic()
    for k in range(ROUNDS):
        change(k)
        time.sleep(0.02)
    ctl.settle(60)
    used, seconds = ctl.cpu() - begin, time.monotonic() - at
    return 1000 * (used - idle(ctl) * seconds) / ROUNDS


def measure(n):
    with Bench("waiters") as bench:
        sock, _ = bench.apiserver()
        api = Api(sock)
        cloud(api)
        for k in range(HOSTS):
            host(api, f"h{k}", n // 10 // HOSTS)
        limited = [("quota", f"q{k}", {"type": "type0", "image": "lab"}) for k in range(n // 10)]
        others = [(NAMESPACES[k % len(NAMESPACES)], f"i{k:06}", {"type": f"type{k % DEMANDS}", "image": "lab"})
                  for k in range(n - n // 10)]
        makers = [multiprocessing.Process(target=make, args=(sock, (others + limited)[k::MAKERS])) for k in range(MAKERS)]
        for p in makers:
            p.start()
        for p in makers:
            p.join()
        Api(sock).request("POST", f"{GROUP}/namespaces/quota/tenantquotas", thing("TenantQuota", "q", {"instances": 0}, namespace="quota"))
        ctl = Controller(bench, sock)
        start = time.monotonic()
        wait("all to be looked at", lambda: metrics(ctl.socket)["nacre_controller_reconciles_total"] > n, 900, 1)
        ctl.settle(900)
        started = time.monotonic() - start
        api = Api(sock)  # the server has closed the other, which was silent
        placed = [i["metadata"] for i in json.loads(api.request("GET", f"{GROUP}/instances"))["items"] if i.get("status", {}).get("host")]
        assert len(placed) == n // 10 // HOSTS * HOSTS, len(placed)

        def delete(k):
            m = placed[k]
            api.request("PATCH", f"{instances(m['namespace'])}/{m['name']}/status", {"status": {"phase": "Removed"}}, "application/merge-patch+json")
            api.request("DELETE", f"{instances(m['namespace'])}/{m['name']}")

        def new(k):
            make(sock, [(NAMESPACES[0], f"new{k}", {"type": "type1", "image": "lab"})])

        def quota(k):
            api.request("PATCH", f"{GROUP}/namespaces/quota/tenantquotas/q", {"spec": {"instances": 1 + k}}, "application/merge-patch+json")

        def lost(k):
            api.request("PATCH", f"/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases/host-x{k}", {"spec": {"leaseDurationSeconds": 1}}, "application/merge-patch+json")

        rows = {"memory": ctl.memory(), "start": started, "idle": 1000 * idle(ctl),
                "delete": cost(ctl, delete), "new": cost(ctl, new), "quota": cost(ctl, quota),
                "come": cost(ctl, lambda k: host(api, f"x{k}", 1)),
                "lost": cost(ctl, lost),
                "go": cost(ctl, lambda k: api.request("DELETE", f"{GROUP}/hosts/x{k}"))}
        return rows


def main():
    sizes = [int(a) for a in sys.argv[1:]] or [1000, 10000, 100000]
    got = [measure(n) for n in sizes]
    ratio = ["ratio"] if len(sizes) > 1 else []
    print("| | " + " | ".join([f"{n:,} instances" for n in sizes] + ratio) + " |")
    print("|---|" + "---|" * (len(sizes) + len(ratio)))
    for key, text in (("memory", "memory (MiB)"), ("start", "until all are looked at, from an empty status (s)"),
                      ("idle", "anyway, in each second (ms)"),
                      ("delete", "a placed instance goes, another takes its place (ms)"),
                      ("new", "an instance comes, and waits (ms)"), ("quota", "a quota lets one more in (ms)"),
                      ("come", "a host comes, with room for one (ms)"), ("lost", "that host is lost (ms)"),
                      ("go", "its Host is deleted (ms)")):
        ratio = [f"{got[-1][key] / got[0][key]:.2f}"] if len(sizes) > 1 else []
        print(f"| {text} | " + " | ".join([f"{g[key]:.2f}" for g in got] + ratio) + " |")


main()
