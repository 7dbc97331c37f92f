# SPDX-License-Identifier: Apache-2.0
"""
A host's agent gets N Endpoints (an address and three routes each) from a running API. Measures the time from its start
until all routes are in the kernel, where they are counted, and the time of `ip -batch` with the same routes. Then measures
500 single changes, one after the other, from the API's answer to the kernel's entry on the host.
"""

import ipaddress
import socket
import statistics
import struct
import sys
import threading
import time

from lib import Api, Bench, in_netns, metrics, percentile, program, sh, wait

HOSTS = 100  # hosts that the endpoints are spread over


def endpoint(i):
    n = i + 1
    ip = str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("fd00:1::")) + n))
    p64 = str(ipaddress.IPv6Network((int(ipaddress.IPv6Address("2001:db8::")) + (n << 64), 64)))
    p60 = str(ipaddress.IPv6Network((int(ipaddress.IPv6Address("2001:db9::")) + (n << 68), 60)))
    v4 = f"{ipaddress.IPv4Address(int(ipaddress.IPv4Address('10.0.0.0')) + n)}/32"
    vtep = f"fd00:2::{i % HOSTS + 16:x}"
    return ip, [p64, p60, v4], vtep


def body(i, routes=None):
    ip, prefixes, vtep = endpoint(i)
    return {
        "apiVersion": "nacre.dev/v1alpha1",
        "kind": "Endpoint",
        "metadata": {"name": f"e{i:06d}"},
        "spec": {
            "host": f"h{i % HOSTS}",
            "vtep": vtep,
            "ip": ip,
            "mac": "02:00:%02x:%02x:%02x:01" % (i >> 16, i >> 8 & 255, i & 255),
            "routes": [{"prefix": p} for p in routes or prefixes],
        },
    }


URL = "/apis/nacre.dev/v1alpha1/endpoints"


def fill(sock, n):
    def part(k, step):
        api = Api(sock)
        for i in range(k, n, step):
            api.request("POST", URL, body(i))

    threads = [threading.Thread(target=part, args=(k, 32)) for k in range(32)]
    t = time.monotonic()
    for th in threads:
        th.start()
    for th in threads:
        th.join()
    return n / (time.monotonic() - t)


def count(ns):
    """Number of the endpoints' routes in the kernel, both families."""
    six = sh("ip", "-n", ns, "-6", "route", "show").splitlines()
    four = sh("ip", "-n", ns, "-4", "route", "show").splitlines()
    return sum(l.startswith(("2001:db8:", "2001:db9:", "2001:db8::", "fd00:1:")) for l in six) + sum(
        l.startswith("10.") for l in four
    )


def make_host(b):
    host = f"{b.prefix}-h"
    sh("ip", "netns", "add", host)
    sh("ip", "netns", "add", f"{b.prefix}-leaf")
    sh("ip", "link", "add", "eth0", "netns", host, "mtu", "9000", "type", "veth", "peer", "eth0", "netns", f"{b.prefix}-leaf")
    sh("ip", "-n", f"{b.prefix}-leaf", "link", "set", "eth0", "up")


def start_node(b, sock):
    return b.start(
        program("nacre-node"), f"--api=unix:{sock}", "--host=bench", f"--netns-prefix={b.prefix}-h-",
        "--vtep=fd00:2::1", "--asn=65001", "--nic=eth0", f"--run-dir={b.path('node')}", f"--images={b.dir}",
        f"--metrics=unix:{b.path('node.sock')}", netns=f"{b.prefix}-h",
    )  # fmt: skip


def gauges(b):
    return metrics(b.path("node.sock"))


def feed(n):
    with Bench("endpoints") as b:
        sock, _ = b.apiserver()
        rate = fill(sock, n)
        # The first run makes namespaces and FRR, which are not measured. Then stop the agent, empty the kernel and
        # start it again.
        make_host(b)
        p = start_node(b, sock)
        routes = 4 * n
        ns = f"{b.prefix}-h-public"
        done = lambda: gauges(b).get("nacre_overlay_routes", 0) >= routes and gauges(b).get("nacre_overlay_pending", 1) == 0
        wait("the first run to finish", done, 300)
        p.terminate()
        p.wait(30)
        # The kernel removes all routes with their nexthop objects.
        sh("ip", "-n", ns, "nexthop", "flush")
        t0 = time.monotonic()
        start_node(b, sock)
        wait("all routes", done, 300, 0.005)
        took = time.monotonic() - t0
        got = count(ns)
        rss = gauges(b)["process_resident_memory_bytes"]
        # The same routes by ip -batch, into a namespace of its own.
        other = f"{b.prefix}-ip"
        sh("ip", "netns", "add", other)
        sh("ip", "-n", other, "link", "add", "x0", "type", "veth", "peer", "name", "x1")
        for dev in ("x0", "x1", "lo"):
            sh("ip", "-n", other, "link", "set", dev, "up")
        with open(b.path("batch"), "w") as f:
            for i in range(n):
                ip, prefixes, _ = endpoint(i)
                gw = f"fe80::{i % HOSTS + 16:x}"
                for pfx in [ip + "/128", *prefixes]:
                    via = f"via inet6 {gw}" if "." in pfx else f"via {gw}"
                    f.write(f"route add {pfx} {via} dev x0\n")
        t0 = time.monotonic()
        sh("ip", "-n", other, "-batch", b.path("batch"))
        batch = time.monotonic() - t0
        assert count(other) == routes, "ip -batch lost routes"
        change = single(b, sock, ns, n) if n <= 10000 else None
        print(f"| {n:,} | {rate:,.0f}/s | {took:.2f} s | {batch:.2f} s | {took / batch:.2f} | {got:,} of {routes:,} | {rss / n:,.0f} B |")
        assert got == routes, f"{routes - got} routes are missing in the kernel"
        return change


def single(b, sock, ns, n, rounds=500):
    """Gives one endpoint another route and waits for the kernel's notification of it."""
    seen, stop, ready = {}, threading.Event(), threading.Event()

    def listen():
        in_netns(ns)
        s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        s.bind((0, 0x400))  # RTMGRP_IPV6_ROUTE
        s.settimeout(0.2)
        ready.set()
        while not stop.is_set():
            try:
                data = s.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.monotonic()
            at = 0
            while at + 16 <= len(data):
                size, kind = struct.unpack_from("IH", data, at)
                if kind == 24:  # RTM_NEWROUTE
                    a = at + 16 + 12
                    while a + 4 <= at + size:
                        alen, atype = struct.unpack_from("HH", data, a)
                        if atype == 1 and alen == 20:  # RTA_DST
                            seen.setdefault(data[a + 4 : a + 20], now)
                        a += max(4, alen + 3 & ~3)
                at += max(16, size + 3 & ~3)

    th = threading.Thread(target=listen, daemon=True)
    th.start()
    ready.wait()
    api, delays = Api(sock), []
    for k in range(rounds):
        i = (k * 7919) % n
        new = f"2001:dba:{k + 1:x}::/64"
        key = socket.inet_pton(socket.AF_INET6, f"2001:dba:{k + 1:x}::")
        patch = {"spec": {"routes": [{"prefix": p} for p in [*endpoint(i)[1], new]]}}
        api.request("PATCH", f"{URL}/e{i:06d}", patch, "application/merge-patch+json")
        answered = time.monotonic()
        wait("the kernel's entry", lambda: key in seen, 10, 0.0005)
        delays.append((seen[key] - answered) * 1000)
    stop.set()
    th.join()
    return delays


if __name__ == "__main__":
    print(f"Endpoints spread over {HOSTS} hosts; each is a /128, a /64, a /60 and an IPv4 /32.\n")
    print("| endpoints | creates | agent: start to all in the kernel | ip -batch | ratio | counted | memory an endpoint |")
    print("|---|---|---|---|---|---|---|")
    sizes = [int(a) for a in sys.argv[1:]] or [10000, 100000]
    delays = None
    for size in sizes:
        delays = feed(size) or delays
    if delays:
        print(
            f"\nOne change at a time, {len(delays)} times, from the API's answer to the kernel's entry on the host: "
            f"p50 {statistics.median(delays):.2f} ms, p99 {percentile(delays, 99):.2f} ms "
            "(negative: it was in the kernel before the client had read the answer)"
        )
