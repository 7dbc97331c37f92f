# SPDX-License-Identifier: Apache-2.0
"""
A rule of a Firewall is for the members of a group of N instances. One member at a time leaves the group and comes back.
Measures the time from the API's answer to the write that says so (the status of the member's Endpoint, as
nacre-controller writes it) until the set of another host's instance has changed in the kernel. The host's agent follows
all N Endpoints.

    bench-firewall-change.py [N ...]        1,000 and 100,000 if none is named
"""

import hashlib
import importlib
import ipaddress
import multiprocessing
import socket
import statistics
import subprocess
import sys
import threading
import time

from lib import Api, Bench, in_netns, metrics, percentile, sh, wait

endpoints = importlib.import_module("bench-endpoints")

GROUP = "/apis/nacre.dev/v1alpha1"
ROUNDS, MAKERS = 300, 16
UID = "0b5ac4a8-4b0e-4c51-8f3e-6d6d2f9b7a01"
PEERS = hashlib.sha256(b"t\nrole in (member)").hexdigest()[:32]
MERGE = "application/merge-patch+json"


def make(sock, numbers):
    api = Api(sock)
    for i in numbers:
        obj = endpoints.body(i)
        obj["spec"]["owner"] = {"kind": "Instance", "namespace": "t", "name": f"m{i}", "uid": f"u{i}"}
        api.request("POST", endpoints.URL, obj)
        api.request("PATCH", f"{endpoints.URL}/e{i:06d}/status", {"status": {"groups": [PEERS]}}, MERGE)


def fill(sock, n):
    """N Endpoints, all in the group."""

    makers = [multiprocessing.Process(target=make, args=(sock, range(k, n, MAKERS))) for k in range(MAKERS)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
        assert maker.exitcode == 0


def guarded(api):
    """An instance of this host that is switched off: it has its network, and no machine."""
    def post(url, kind, name, spec):
        api.request("POST", url, {"apiVersion": "nacre.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})

    api.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t"}})
    post(f"{GROUP}/instancetypes", "InstanceType", "small", {"vcpus": 1, "memoryMiB": 256})
    post(f"{GROUP}/images", "Image", "none", {"kernel": {"kernel": "vmlinuz"}})
    post(f"{GROUP}/namespaces/t/firewalls", "Firewall", "peers", {
        "instances": {}, "ingress": [{"protocol": "tcp", "port": 443, "peers": {"matchLabels": {"role": "member"}}}]})
    post(f"{GROUP}/namespaces/t/instances", "Instance", "web", {"type": "small", "image": "none", "running": False, "ipv4": "none"})
    api.request("PATCH", f"{GROUP}/namespaces/t/instances/web/status", {"status": {
        "id": UID, "host": "bench", "vcpus": 1, "memoryMiB": 256, "address": "2001:db8:f:f::5", "prefix": "2001:db8:f:f::/64",
        "overlayAddress": "fd00:1:f::1", "mac": "02:4e:01:00:00:05"}}, MERGE)


def elements(netns):
    """How many members the instance's firewall has in the kernel."""
    return subprocess.run(["ip", "netns", "exec", netns, "nft", "-t", "list", "table", "inet", "nacre_firewall"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).returncode == 0


class Watch:
    """Times at which the namespace's transactions named a member's /64."""

    def __init__(self, netns):
        self.netns, self.seen, self.stop, self.ready = netns, [], threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()
        self.ready.wait()

    def listen(self):
        in_netns(self.netns)
        s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
        s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        s.bind((0, 1 << 6))  # NFNLGRP_NFTABLES
        s.settimeout(0.2)
        self.ready.set()
        while not self.stop.is_set():
            try:
                data = s.recv(1 << 20)
            except TimeoutError:
                continue
            self.seen.append((time.monotonic(), data))

    def when(self, key, since):
        return next((t for t, data in self.seen[since:] if key in data), None)


def change(n):
    with Bench("firewall-change") as b:
        sock, _ = b.apiserver()
        api = Api(sock)
        guarded(api)
        fill(sock, n)
        endpoints.make_host(b)
        open(b.path("vmlinuz"), "w").close()
        began = time.monotonic()
        endpoints.start_node(b, sock)
        netns = f"{b.prefix}-h-i-{UID.replace('-', '')[:12]}"
        wait("the instance's firewall", lambda: elements(netns), 120)
        took = time.monotonic() - began
        wait("all routes", lambda: metrics(b.path("node.sock")).get("nacre_overlay_pending", 1) == 0, 300)
        watch, delays, api = Watch(netns), [], Api(sock)
        for k in range(ROUNDS):
            i = (k // 2 * 7919) % n
            key = ipaddress.IPv6Network(endpoints.endpoint(i)[1][0]).network_address.packed
            since = len(watch.seen)
            api.request("PATCH", f"{endpoints.URL}/e{i:06d}/status", {"status": {"groups": [PEERS] if k % 2 else None}}, MERGE)
            answered = time.monotonic()
            wait("the kernel's change", lambda: watch.when(key, since), 20, 0.0005)
            delays.append((watch.when(key, since) - answered) * 1000)
        watch.stop.set()
        watch.thread.join()
        sizes = max(len(data) for _, data in watch.seen)
        assert sizes < 1 << 16, "a change replaced the table"
        print(f"| {n:,} | {took:.2f} s | {statistics.median(delays):.1f} ms | {percentile(delays, 99):.1f} ms |")


if __name__ == "__main__":
    print("| members | agent: start to the firewall in the kernel | one member, p50 | p99 |")
    print("|---|---|---|---|")
    for size in [int(a) for a in sys.argv[1:]] or [1000, 100000]:
        change(size)
