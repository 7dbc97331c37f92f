# SPDX-License-Identifier: Apache-2.0
"""
Compares nacre-apiserver with kube-apiserver and etcd (tests/oracle), both over TLS, by one client program, on the same
cores and disk: each figure is measured on one server and then on the other. Every write is on disk when it is answered.
The rows of writes also have the time of an fdatasync on the same disk at that moment.

Each row has a time limit: what was done by then counts. The end of the output lists what was not measured.
"""

import argparse
import base64
import http.client
import json
import mmap
import os
import socket
import ssl
import subprocess
import sys
import time

from lib import BUILD, Bench, percentile, program, wait

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "oracle"))
import oracle  # noqa: E402

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--objects", type=int, default=10000, help="made by `create`, gone through by the other rows")
arguments.add_argument("--large", type=int, default=100000, help="objects in the second, longer list; 0: leave it out")
arguments.add_argument("--watchers", type=int, default=1000, help="at most")
arguments.add_argument("--minutes", type=float, default=11, help="no row begins later than that")
arguments.add_argument("--seconds", type=int, default=6, help="for one row of one server, at most")
arguments.add_argument("--quick", action="store_true", help="2,000 objects, no second list, 2 s a row: two minutes")
args = arguments.parse_args()
if args.quick:
    args.objects, args.large, args.seconds = 2000, 0, 2
BEGAN = time.monotonic()
LEFT_OUT = []


def left():
    return args.minutes * 60 - (time.monotonic() - BEGAN)


def memory(processes):
    """The processes' own memory in bytes (anonymous memory; not mapped files)."""
    total = 0
    for p in processes:
        with open(f"/proc/{p.pid}/status") as f:
            total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))
    return total


def fsync(path, count=300):
    """p50 and p99 in ms of a write of 8 KiB into a file of fixed length with fdatasync."""
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

    def fill(self, first, count, seconds):
        return load(self, "create", 64, count, first, seconds)["count"]


class Kube(Nacre):
    name = "kube-apiserver, etcd"

    def __init__(self, bench):
        os.mkdir(bench.path("kube"))
        self.oracle = oracle.Oracle(bench.path("kube"))
        self.pki, self.port = self.oracle.pki, self.oracle.port
        self.cert = self.pki.sign("system:admin", ("system:masters",))
        bench.cleanups.append(self.oracle.stop)

    def start(self):
        self.oracle.start(300)
        self.processes = self.oracle.processes

    def stop(self):
        for p in reversed(self.processes):
            p.terminate()
            p.wait()
        self.oracle.processes = []

    def prepare(self):
        crds = subprocess.run([program("nacre"), "crds"], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.oracle.kubectl("apply", "--server-side", "-f", "-", input=crds)
        self.oracle.kubectl("wait", "--for=condition=Established", "crd/instances.nacre.dev", "--timeout=110s")
        wait("the kind", lambda: serves(self), 300, 0.1)

    def fill(self, first, count, seconds):
        """Writes copies of an object into etcd directly: through kube-apiserver so many would take most of an hour."""
        conn = http.client.HTTPConnection("127.0.0.1", self.oracle.etcd_port, timeout=60)
        folder = "/registry/nacre.dev/instances/default/"

        def ask(path, body):
            conn.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = conn.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"etcd: {path}: {answer.status} {text[:300]!r}")
            return json.loads(text)

        def b64(text):
            return base64.b64encode(text.encode()).decode()

        one = json.loads(base64.b64decode(ask("/v3/kv/range", {"key": b64(folder + "b0")})["kvs"][0]["value"]))
        end, done = time.monotonic() + seconds, 0
        while done < count and time.monotonic() < end:
            puts = []
            for n in range(first + done, first + min(count, done + 100)):
                one["metadata"].update(name=f"b{n}", uid=f"00000000-0000-4000-8000-{n:012x}")
                puts.append({"requestPut": {"key": b64(folder + f"b{n}"), "value": b64(json.dumps(one))}})
            ask("/v3/kv/txn", {"success": puts})
            done += len(puts)
        conn.close()
        return done


def ready(server, path="/readyz"):
    context = ssl.create_default_context(cafile=server.pki.ca)
    context.load_cert_chain(*server.cert)
    conn = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
    try:
        conn.request("GET", path)
        return conn.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        conn.close()


def serves(server):
    """kube-apiserver says that it is ready before it knows the kinds of CRDs again, and refuses watches for a while."""
    return ready(server) and ready(server, "/apis/nacre.dev/v1alpha1/instances?limit=1&resourceVersion=0")


def load(server, mode, clients, count, objects, seconds):
    where = f"127.0.0.1:{server.port},{server.cert[0]},{server.cert[1]}"
    argv = [os.path.join(BUILD, "bench", "bench-apiserver"), where, mode, *map(str, (clients, count, objects, seconds))]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode:
        raise RuntimeError(f"{server.name}: {mode}, {clients} clients: {p.stderr.strip()[-300:]}")
    return json.loads(p.stdout)


def restart(server):
    server.stop()
    began = time.monotonic()
    server.start()
    wait(server.name, lambda: serves(server), 300, 0.005)
    return time.monotonic() - began


def watchers_memory(server, count):
    """Bytes for each of COUNT waiting watches, over TLS."""
    context = ssl.create_default_context(cafile=server.pki.ca)
    context.load_cert_chain(*server.cert)
    before, held = memory(server.processes), []
    for _ in range(count):
        s = context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname="127.0.0.1")
        s.settimeout(60)
        s.sendall(b"GET /apis/nacre.dev/v1alpha1/instances?watch=1&fieldSelector=metadata.name%3Db0 HTTP/1.1\r\n"
                  b"Host: x\r\n\r\n")
        held.append(s)
    for s in held:  # each has sent b0 and now waits
        text = b""
        while b'"ADDED"' not in text:
            more = s.recv(65536)
            text += more
            if not more or not text.startswith(b"HTTP/1.1 200"[:len(text)]):
                raise RuntimeError(f"{server.name}: no watch: {text[:300]!r}")
    after = memory(server.processes)
    for s in held:
        s.close()
    return (after - before) / count


with Bench("apiserver") as b:
    servers = [Nacre(b)]
    why = oracle.missing()
    if why:
        print(f"Without its peer: {why}\n")
    else:
        servers.append(Kube(b))

    def each(what, fn, need=10):
        """FN's result for each server; None if it failed or there was no time."""
        got = []
        for s in servers:
            value = None
            if left() < need:
                LEFT_OUT.append(f"{what}, {s.name}: no time")
            else:
                try:
                    value = fn(s)
                except (OSError, RuntimeError, TimeoutError) as e:
                    LEFT_OUT.append(f"{what}, {s.name}: {e}")
            got.append(value)
        return got

    def pair(what, mode, clients, count, disk=False, objects=args.objects, seconds=args.seconds):
        """Prints one row: rate, p50 and p99 for each server. Lists are compared by objects if the numbers of objects
        differ."""
        before = fsync(b.path("fsync")) if disk and left() > 10 else None
        got = each(f"{what}, {clients}", lambda s: load(s, mode, clients, count, objects, seconds))
        cells = " | ".join(f"{r['per_second']:,.{0 if r['per_second'] >= 20 else 2}f}/s, {r['p50_ms']:.2f}, "
                           f"{r['p99_ms']:.2f}" if r else "-" for r in got)
        ratio = f"{got[0]['per_second'] / got[1]['per_second']:.1f}" if len(got) > 1 and all(got) else "-"
        sync = f"{before[0]:.2f}, {before[1]:.2f}" if before else ""
        print(f"| {what} | {clients} | {cells} | {ratio} | {sync} |", flush=True)
        return got

    def table(columns):
        print(f"\n| {' | '.join(columns)} |\n|" + "---|" * len(columns))

    def line(what, values, form):
        print(f"| {what} | " + " | ".join(form.format(v) if v is not None else "-" for v in values) + " |", flush=True)

    def per(after, before, counts):
        return [(y - x) / n if x is not None and y is not None and n else None
                for y, x, n in zip(after, before, counts)]

    for s in servers:
        s.start()
        wait(s.name, lambda s=s: ready(s), 300)
        s.prepare()
    names = [s.name for s in servers]
    print(f"{args.objects:,} objects; started and prepared in {time.monotonic() - BEGAN:.0f} s")

    table(["what", "clients", *(n + ": rate, p50, p99 ms" for n in names), "ratio", "fdatasync p50, p99 ms"])
    empty = [memory(s.processes) for s in servers]
    made = pair("create", "create", 64, args.objects, disk=True, objects=0, seconds=90)
    if not all(r and r["count"] == args.objects for r in made):  # the other rows need them
        sys.exit(f"not all objects could be made: {made} {LEFT_OUT}")
    full = [memory(s.processes) for s in servers]
    for mode, what in (("update", "update (PUT)"), ("patch", "patch"), ("status", "status patch")):
        for clients, count in ((1, 2000), (16, 10000), (64, 10000)):
            pair(what, mode, clients, count, disk=True)
    for clients, count in ((1, 5000), (64, 20000)):
        pair("get", "get", clients, count)
    for clients, count in ((1, 50), (4, 100)):
        pair(f"list of {args.objects:,}", "list", clients, count)
    for watchers, changes in ((1, 2000), (100, 200), (1000, 40)):
        pair("watch delivery", "watch", min(watchers, args.watchers), changes)

    table(["", *names])
    line("memory at the start, MiB", [e / 2**20 for e in empty], "{:,.1f}")
    line(f"memory an object ({args.objects:,} just created), bytes", per(full, empty, [args.objects] * 2), "{:,.0f}")
    line(f"start to ready, {args.objects:,} objects, s", each("start", restart, 40), "{:.2f}")
    # Measure a fresh process: after a thousand watches a process keeps their memory.
    some = min(500, args.watchers)
    line(f"memory a watcher (of {some}, waiting), kB",
         [m and m / 1000 for m in each("memory of watchers", lambda s: watchers_memory(s, some))], "{:,.1f}")

    if args.large > args.objects and left() > 60:
        more = args.large - args.objects
        each("list", lambda s: load(s, "list", 1, 1, 1, 30))  # fill the caches after the restart
        first = [memory(s.processes) for s in servers]
        added = each(f"filling up to {args.large:,}", lambda s: s.fill(args.objects, more, min(90, left() / 3)), 60)
        for s, n in zip(servers, added):
            if n is not None and n < more:
                LEFT_OUT.append(f"{s.name}: only {args.objects + n:,} objects instead of {args.large:,}")
        got = each(f"list of {args.large:,}", lambda s: load(s, "list", 1, 10, 1, 25), 40)
        line("memory an object (those after it, listed), bytes", per([memory(s.processes) for s in servers], first,
                                                                     [n or 0 for n in added]), "{:,.0f}")
        line(f"list of {args.large:,}: p50, s", [r and r["p50_ms"] / 1000 for r in got], "{:.2f}")
        line(f"list of {args.large:,}: objects/s",
             [r and n is not None and r["per_second"] * (args.objects + n) for r, n in zip(got, added)], "{:,.0f}")
        line(f"start to ready, {args.large:,} objects, s", each("second start", restart, 60), "{:.2f}")
    elif args.large > args.objects:
        LEFT_OUT.append(f"all about {args.large:,} objects: no time")

    print(f"\n{time.monotonic() - BEGAN:.0f} s in all.", *(["Left out:"] if LEFT_OUT else []))
    for what in LEFT_OUT:
        print(f"- {what}")
