# SPDX-License-Identifier: Apache-2.0
"""
A rule of a Firewall is for the members of a group of N instances. One instance at a time loses the label that makes it a
member; later all of these get it back, one at a time. Measures the time from the request that changes the label until
the set of another host's instance has changed in the kernel, and its parts: until the API has answered; until a watch
shows the status of the member's Endpoint, which nacre-controller writes; until the kernel's set has changed.

The members are made by the API: N Instances with addresses and N Endpoints. Then nacre-controller and the host's agent
start, and put all of them into their groups and into the kernel.

    bench-firewall-change.py [N ...]        1,000 and 100,000 if none is named
"""

import hashlib
import importlib
import ipaddress
import json
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from lib import Api, Bench, bulk, in_netns, metrics, percentile, program, wait

endpoints = importlib.import_module("bench-endpoints")

GROUP = "/apis/nacre.dev/v1alpha1"
INSTANCES = f"{GROUP}/namespaces/t/instances"
ROUNDS = int(os.environ.get("NACRE_BENCH_ROUNDS", 600))
UID = "0b5ac4a8-4b0e-4c51-8f3e-6d6d2f9b7a01"
PEERS = hashlib.sha256(b"t\nrole in (member)").hexdigest()[:32]
PAUSE = 0.02  # between changes, in which what a change leaves behind is done


# ---- what is made by the API ----


def thing(kind, name, spec, **meta):
    return {"apiVersion": "nacre.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def uid(i):
    return f"{i:08x}-0000-4000-8000-000000000000"


def make_instances(numbers):
    for i in numbers:
        spec = {"type": "small", "image": "none", "running": False, "ipv4": "none"}
        yield "POST", INSTANCES, thing("Instance", f"m{i}", spec, labels={"role": "member"}, finalizers=["nacre.dev/instance"])


def place_instances(numbers):
    """As nacre-controller does it, so that it has nothing to write there."""
    for i in numbers:
        ip, (p64, p60, _), _ = endpoints.endpoint(i)
        mac = endpoints.body(i)["spec"]["mac"]
        m = [int(v, 16) for v in mac.split(":")]
        host = bytes([m[0] ^ 2, m[1], m[2], 0xFF, 0xFE, *m[3:]])
        address = ipaddress.IPv6Network(p64)[int.from_bytes(host, "big")]
        allocated = {"type": "AddressesAllocated", "status": "True", "reason": "Allocated", "message": f"has {p64} and {p60}",
                     "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
        yield "PATCH", f"{INSTANCES}/m{i}/status", {"status": {
            "id": uid(i), "host": f"h{i % endpoints.HOSTS}", "vcpus": 1, "memoryMiB": 256, "overlayAddress": ip, "prefix": p64,
            "delegatedPrefix": p60, "mac": mac, "address": str(address), "conditions": [allocated]}}


def make_endpoints(numbers):
    for i in numbers:
        obj = endpoints.body(i, endpoints.endpoint(i)[1][:2])
        obj["metadata"]["name"] = f"i-{uid(i)}"
        obj["spec"]["owner"] = {"kind": "Instance", "namespace": "t", "name": f"m{i}", "uid": uid(i)}
        yield "POST", endpoints.URL, obj


def make_hosts(numbers):
    for i in numbers:
        name = f"h{i}"
        yield "POST", f"{GROUP}/hosts", thing("Host", name, {"vtep": endpoints.endpoint(i)[2]})
        lease = thing("Lease", f"host-{name}", {"holderIdentity": name, "leaseDurationSeconds": 3600})
        yield "POST", "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases", {**lease, "apiVersion": "coordination.k8s.io/v1"}


def cloud(sock):
    """An instance of this host that is switched off: it has its network, and no machine."""
    api = Api(sock)
    rule = {"protocol": "tcp", "port": 443, "peers": {"matchLabels": {"role": "member"}}}
    for url, obj in (
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t"}}),
        (f"{GROUP}/instancetypes", thing("InstanceType", "small", {"vcpus": 1, "memoryMiB": 256})),
        (f"{GROUP}/images", thing("Image", "none", {"kernel": {"kernel": "vmlinuz"}})),
        (f"{GROUP}/namespaces/t/firewalls", thing("Firewall", "peers", {"instances": {"matchLabels": {"app": "web"}}, "ingress": [rule]})),
        (INSTANCES, thing("Instance", "web", {"type": "small", "image": "none", "running": False, "ipv4": "none"},
                          labels={"app": "web"}, finalizers=["nacre.dev/instance"])),
    ):
        api.request("POST", url, obj)
    bulk(sock, make_hosts, endpoints.HOSTS)
    api.request("PATCH", f"{INSTANCES}/web/status", {"status": {
        "id": UID, "host": "bench", "vcpus": 1, "memoryMiB": 256, "address": "2001:db8:f:f::5", "prefix": "2001:db8:f:f::/64",
        "overlayAddress": "fd00:1:f::1", "mac": "02:4e:01:00:00:05"}}, "application/merge-patch+json")


# ---- what happens ----


class Follower:
    """Hears what the watch of Endpoints says and what transactions of the instance's namespace name."""

    def __init__(self, sock, netns):
        version = json.loads(Api(sock).request("GET", f"{endpoints.URL}?limit=1"))["metadata"]["resourceVersion"]
        self.watch = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.watch.connect(sock)
        self.watch.sendall(f"GET {endpoints.URL}?watch=1&resourceVersion={version} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        thread = threading.Thread(target=self.open, args=(netns,))
        thread.start()
        thread.join()
        self.api = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.api.connect(sock)
        self.largest = 0

    def open(self, netns):
        in_netns(netns)
        self.kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
        self.kernel.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.kernel.bind((0, 1 << 6))  # NFNLGRP_NFTABLES

    def forget(self):
        while ready := select.select([self.watch, self.kernel], [], [], 0)[0]:
            for s in ready:
                s.recv(1 << 20)

    def change(self, i, member):
        """Times in ms since the request: the answer, the Endpoint, the kernel."""
        body = json.dumps({"metadata": {"labels": {"role": "member" if member else None}}})
        key = socket.inet_pton(socket.AF_INET6, endpoints.endpoint(i)[1][0].split("/")[0])
        name, seen, text = f"i-{uid(i)}".encode(), {}, b""
        self.forget()
        began = time.monotonic()
        self.api.sendall(f"PATCH {INSTANCES}/m{i} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/merge-patch+json\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        while len(seen) < 3:
            ready = select.select([self.kernel, self.watch, self.api], [], [], 20)[0]
            now = (time.monotonic() - began) * 1000
            assert ready, f"waited 20 s in vain after {', '.join(seen) or 'nothing'} for a change of m{i}"
            for s in ready:
                data = s.recv(1 << 20)
                assert data, "a connection has ended"
                if s is self.api and "api" not in seen:
                    assert data[9:12] == b"200", data[:300]
                    seen["api"] = now
                elif s is self.watch:
                    text += data
                    if name in text:
                        seen.setdefault("endpoint", now)
                elif s is self.kernel:
                    self.largest = max(self.largest, len(data))
                    if key in data:
                        seen.setdefault("kernel", now)
        return seen


def ticks(pid):
    """The fields of /proc/PID/stat from the parent on."""
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[1:]


def processor(pid):
    """Seconds on a processor: of the process, and of those that it has started."""
    own, others = 0, 0
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            v = ticks(other)
        except OSError:
            continue
        if int(other) == pid:
            own, others = own + int(v[10]) + int(v[11]), others + int(v[12]) + int(v[13])
        elif int(v[0]) == pid:
            others += sum(map(int, v[10:14]))
    return own / os.sysconf("SC_CLK_TCK"), others / os.sysconf("SC_CLK_TCK")


def load():
    with open("/proc/loadavg") as f:
        return f.read().split()[0]


def members(netns):
    """How many addresses the sets of the group have in the kernel; a table that is being made has none in force."""
    text = subprocess.run(["ip", "netns", "exec", netns, "nft", "list", "tables", "inet"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout
    return max((count(netns, line.split()[2]) for line in text.splitlines() if "nacre_firewall" in line), default=0)


def count(netns, table):
    return sum(subprocess.run(["ip", "netns", "exec", netns, "nft", "list", "set", "inet", table, f"g0_6_{size}"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.count("2001:db") for size in (60, 64))


def grouped(sock):
    return Api(sock).request("GET", endpoints.URL).count(b'"' + PEERS.encode() + b'"')


def settle(path):
    """Waits until the controller has nothing to do but what it does anyway."""
    def looks():
        before = metrics(path)["nacre_controller_reconciles_total"]
        time.sleep(2)
        return metrics(path)["nacre_controller_reconciles_total"] - before
    wait("the controller to have nothing to do", lambda: looks() < 200, 300, 0)


def measure(sock, netns, n, pids):
    follower, times, began = Follower(sock, netns), [], load()
    before = [processor(p) for p in pids]
    for k in range(ROUNDS):
        # Nobody changes twice within a second: an Endpoint is written once a second at most.
        i = k % (ROUNDS // 2) * 7919 % n
        times.append(follower.change(i, k >= ROUNDS // 2))
        time.sleep(PAUSE)
    cpu = [[(now - then) * 1000 / ROUNDS for now, then in zip(processor(p), was)] for p, was in zip(pids, before)]
    assert follower.largest < 1 << 16, "a change replaced the table"
    print(f"\n{ROUNDS} changes, load {began} at their beginning and {load()} at their end\n")
    print("| a change of one member | p50 | p99 | longest |\n|---|---|---|---|")
    for what, of in (("from the request to the kernel", lambda t: t["kernel"]), ("until the API has answered", lambda t: t["api"]),
                     ("from there until a watch shows the Endpoint's groups", lambda t: t["endpoint"] - t["api"]),
                     ("from there until the kernel's set has changed", lambda t: t["kernel"] - t["endpoint"])):
        v = [of(t) for t in times]
        print(f"| {what} | {statistics.median(v):.1f} ms | {percentile(v, 99):.1f} ms | {max(v):.1f} ms |")
    print("\n| processor time of a change | |\n|---|---|")
    for what, ms in (("nacre-apiserver", sum(cpu[0])), ("nacre-controller", sum(cpu[1])), ("nacre-node, its loop", cpu[2][0]),
                     ("nacre-node, its other processes", cpu[2][1])):
        print(f"| {what} | {ms:.1f} ms |", flush=True)


def make(b, n):
    """
    Makes all members, in memory: the disk would be most of the time. Then the database is moved onto the disk, where the
    changes are measured.
    """
    with tempfile.TemporaryDirectory(prefix="nacre-bench-", dir="/dev/shm") as memory:
        sock, server = b.apiserver(f"{memory}/nacre.db")
        cloud(sock)
        filled = sum(bulk(sock, f, n) for f in (make_instances, place_instances, make_endpoints))
        controller, began = start_controller(b, sock), time.monotonic()
        wait("all Endpoints to be in the group", lambda: grouped(sock) >= n, 600, 1)
        print(f"{n:,} members: {3 * n:,} writes of Instances and Endpoints in {filled:.0f} s, then all Endpoints in the group "
              f"{time.monotonic() - began:.0f} s after the controller's start", flush=True)
        b.stop(controller)
        b.stop(server)
        for name in os.listdir(memory):
            shutil.move(f"{memory}/{name}", b.path(name))


def start_controller(b, sock):
    return b.start(program("nacre-controller"), f"--api=unix:{sock}", "--no-leader-election", f"--metrics=unix:{b.path('controller.sock')}")


def start_agent(b, sock, netns, n):
    began = time.monotonic()
    agent = endpoints.start_node(b, sock)
    wait("all members to be in the kernel", lambda: members(netns) >= 2 * n, 300, 0.2)
    print(f"the agent started: all members in the kernel after {time.monotonic() - began:.1f} s", flush=True)
    wait("all routes", lambda: metrics(b.path("node.sock")).get("nacre_overlay_pending", 1) == 0, 300)
    return agent


def change(n):
    with Bench("firewall-change") as b:
        make(b, n)
        sock, server = b.apiserver()
        controller = start_controller(b, sock)
        endpoints.make_host(b)
        open(b.path("vmlinuz"), "w").close()
        netns = f"{b.prefix}-h-i-{UID.replace('-', '')[:12]}"
        agent = start_agent(b, sock, netns, n)
        settle(b.path("controller.sock"))
        measure(sock, netns, n, [server.pid, controller.pid, agent.pid])


if __name__ == "__main__":
    for size in [int(a) for a in sys.argv[1:]] or [1000, 100000]:
        change(size)
        print()
