# SPDX-License-Identifier: Apache-2.0
"""
nacre-apiserver beside kube-apiserver and etcd (tests/oracle), both over TLS, from one client program, on the same cores
and disk: each figure is taken of the one, then of the other. Every write is on disk when it is answered. Beside the
writes: what fdatasync of the same disk takes at that moment.

Usage: bench-apiserver.py [OBJECTS [LARGE]] (default 10,000 and 0); LARGE is a second size for lists and memory.
"""

import json
import mmap
import os
import socket
import ssl
import http.client
import subprocess
import sys
import time

from lib import BUILD, Bench, percentile, program, wait

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "oracle"))
import oracle  # noqa: E402

OBJECTS = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
LARGE = int(sys.argv[2]) if len(sys.argv) > 2 else 0


def memory(processes):
    """Bytes that are the processes' own (anonymous memory; not mapped files)."""
    total = 0
    for p in processes:
        with open(f"/proc/{p.pid}/status") as f:
            total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))
    return total


def fsync(path, count=300):
    """p50 and p99 in ms of 8 KiB written into a file of fixed length, and fdatasync."""
    took = []
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, bytes(16 << 20))
    os.fsync(fd)
    data = mmap.PAGESIZE * 2 * b"x"
    for n in range(count):
        began = time.perf_counter()
        os.pwrite(fd, data, n * len(data))
        os.fdatasync(fd)
        took.append((time.perf_counter() - began) * 1000)
    os.close(fd)
    os.unlink(path)
    return percentile(took, 50), percentile(took, 99)


class Nacre:
    name = "nacre-apiserver"

    def __init__(self, bench):
        self.bench = bench
        self.pki = oracle.Pki(bench.path("pki"))
        self.port, = oracle.free_ports(1)
        self.cert = self.pki.sign("system:admin", ("system:masters",))

    def start(self):
        cert, key = self.pki.sign("nacre-apiserver", san="IP:127.0.0.1")
        p = self.bench.start(program("nacre-apiserver"), "--database", self.bench.path("nacre.db"),
                             "--listen", f"127.0.0.1:{self.port}", "--tls-cert", cert, "--tls-key", key,
                             "--client-ca", self.pki.ca)
        self.processes = [p]

    def stop(self):
        for p in self.processes:
            p.terminate()
            p.wait()

    def prepare(self):
        pass


class Kube(Nacre):
    name = "kube-apiserver, etcd"

    def __init__(self, bench):
        os.mkdir(bench.path("kube"))
        self.oracle = oracle.Oracle(bench.path("kube"))
        self.pki, self.port = self.oracle.pki, self.oracle.port
        self.cert = self.pki.sign("system:admin", ("system:masters",))
        bench.cleanups.append(self.oracle.stop)

    def start(self):
        self.oracle.start()
        self.processes = self.oracle.processes

    def stop(self):
        for p in reversed(self.processes):
            p.terminate()
            p.wait()
        self.oracle.processes = []

    def prepare(self):
        crds = subprocess.run([program("nacre"), "crds"], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.oracle.kubectl("apply", "--server-side", "-f", "-", input=crds)
        self.oracle.kubectl("wait", "--for=condition=Established", "crd/instances.nacre.dev", "--timeout=60s")
        wait("the kind", lambda: not self.oracle.kubectl("get", "instances").returncode)


def ready(server):
    context = ssl.create_default_context(cafile=server.pki.ca)
    context.load_cert_chain(*server.cert)
    conn = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
    try:
        conn.request("GET", "/readyz")
        return conn.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        conn.close()


def load(server, mode, clients, count, objects=None):
    where = f"127.0.0.1:{server.port},{server.cert[0]},{server.cert[1]}"
    argv = [os.path.join(BUILD, "bench", "bench-apiserver"), where, mode, str(clients), str(count)]
    p = subprocess.run(argv + ([str(objects)] if objects else []), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True)
    if p.returncode:
        raise RuntimeError(f"{server.name}: {' '.join(argv)}: {p.stderr}")
    return json.loads(p.stdout)


def restart(server):
    server.stop()
    began = time.monotonic()
    server.start()
    wait(server.name, lambda: ready(server), 300, 0.005)
    return time.monotonic() - began


with Bench("apiserver") as b:
    servers = [Nacre(b)]
    why = oracle.missing()
    if why:
        print(f"Without its peer: {why}\n")
    else:
        servers.append(Kube(b))
    for s in servers:
        s.start()
        wait(s.name, lambda: ready(s), 120)
        s.prepare()

    def pair(what, mode, clients, count, objects=None, disk=False):
        """One row: rate, p50 and p99 of each."""
        before = fsync(b.path("fsync")) if disk else None
        got = [load(s, mode, clients, count, objects) for s in servers]
        cells = " | ".join(f"{r['per_second']:,.0f}/s, {r['p50_ms']:.2f}, {r['p99_ms']:.2f}" for r in got)
        ratio = f"{got[0]['per_second'] / got[1]['per_second']:.1f}" if len(got) > 1 else "-"
        sync = f"{before[0]:.2f}, {before[1]:.2f}" if before else ""
        print(f"| {what} | {clients} | {cells} | {ratio} | {sync} |", flush=True)
        return got

    def watchers(server, count):
        context = ssl.create_default_context(cafile=server.pki.ca)
        context.load_cert_chain(*server.cert)
        before, held = memory(server.processes), []
        for _ in range(count):
            s = context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname="127.0.0.1")
            s.sendall(b"GET /apis/nacre.dev/v1alpha1/instances?watch=1&fieldSelector=metadata.name%3Db0 HTTP/1.1\r\n"
                      b"Host: x\r\n\r\n")
            held.append(s)
        wait("the watches", lambda: ready(server))
        after = memory(server.processes)
        for s in held:
            s.close()
        return (after - before) / count

    watcher = [watchers(s, 500) for s in servers]
    titles = " | ".join(s.name + ": rate, p50, p99 ms" for s in servers)
    print(f"| what | clients | {titles} | ratio | fdatasync p50, p99 ms |\n|---|---|" + "---|" * (len(servers) + 2))
    empty = [memory(s.processes) for s in servers]
    pair("create", "create", 64, OBJECTS, disk=True)
    full = [memory(s.processes) for s in servers]
    for mode, what in (("update", "update (PUT)"), ("patch", "patch"), ("status", "status patch")):
        for clients, count in ((1, 400), (16, 3000), (64, 4000)):
            pair(what, mode, clients, count, OBJECTS, disk=True)
    for clients, count in ((1, 2000), (64, 10000)):
        pair("get", "get", clients, count, OBJECTS)
    for clients, count in ((1, 10), (4, 20)):
        pair(f"list of {OBJECTS:,}", "list", clients, count)
    for watchers, changes in ((1, 400), (100, 100), (1000, 20)):
        pair("watch delivery", "watch", watchers, changes)
    print("\n| | " + " | ".join(s.name for s in servers) + " |\n|---|" + "---|" * len(servers))

    def line(what, values, form):
        print(f"| {what} | " + " | ".join(form.format(v) for v in values) + " |", flush=True)

    line("memory at the start, MiB", [e / 2**20 for e in empty], "{:,.1f}")
    line(f"memory an object ({OBJECTS:,} just created), bytes",
         [(f - e) / OBJECTS for e, f in zip(empty, full)], "{:,.0f}")

    line("memory a watcher (of 500), kB", [w / 1000 for w in watcher], "{:,.1f}")
    line(f"start to ready, {OBJECTS:,} objects, s", [restart(s) for s in servers], "{:.2f}")
    if LARGE > OBJECTS:
        for s in servers:
            load(s, "status", 1, 1)  # warm after the restart
        first = [memory(s.processes) for s in servers]
        for s in servers:
            # b0 to b(OBJECTS-1) are there; the others are made by a create that goes on from them.
            load(s, "create", 64, LARGE - OBJECTS, OBJECTS)
        line(f"memory an object ({LARGE:,}), bytes",
             [(memory(s.processes) - f) / (LARGE - OBJECTS) for s, f in zip(servers, first)], "{:,.0f}")
        got = [load(s, "list", 1, 5) for s in servers]
        line(f"list of {LARGE:,}, s", [r["p50_ms"] / 1000 for r in got], "{:.2f}")
        line(f"start to ready, {LARGE:,} objects, s", [restart(s) for s in servers], "{:.2f}")
