# SPDX-License-Identifier: Apache-2.0
"""
kill -9 at random moments, while several clients create, update, patch and delete: no acknowledged write is lost, no write
is half done, versions never go back, and a watch continues exactly where it ended.

NACRE_CRASHES is the number of kills (default 200). From a thousand on the test prints the count after each hundred, so
that a run which somebody stops has a number. Ten thousand take ten to fifteen minutes on two cores:
NACRE_CRASHES=10000 python3 -m pytest tests/api/test_crash.py
"""

import collections
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

from apilib import G, SERVER, eventually, instance
from harness import MORTAL, patient

CRASHES = int(os.environ.get("NACRE_CRASHES", "200"))
LIFE_S = 0.02  # average time from ready to kill
WRITERS = 4
PATH = f"{G}/namespaces/default/instances"
MERGE = "application/merge-patch+json"
Gone = (OSError, EOFError)


class Wire:
    """One connection to the server's socket; raises Gone when the server ends."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(120)
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self.file = self.sock.makefile("rb")

    def close(self):
        self.file.close()
        self.sock.close()

    def ask(self, method, path, body=None, ctype="application/json"):
        data = b"" if body is None else json.dumps(body).encode()
        self.sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {ctype}\r\n"
                          f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        status, length = self.head()
        text = self.file.read(length)
        if len(text) < length:
            raise EOFError
        return status, json.loads(text)

    def head(self):
        status, length = None, None
        while True:
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                raise EOFError
            if line == b"\r\n":
                return status, length
            if status is None:
                status = int(line.split()[1])
            elif line.lower().startswith(b"content-length:"):
                length = int(line[15:])

    def events(self, version):
        """The events after VERSION, until the server ends."""
        self.sock.sendall(f"GET {PATH}?watch=1&resourceVersion={version} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, _ = self.head()
        assert status == 200, status
        pending = b""
        while True:
            size = self.file.readline()
            if not size.endswith(b"\r\n"):
                raise EOFError
            n = int(size, 16)
            data = self.file.read(n + 2)
            if n == 0 or len(data) < n + 2:
                raise EOFError
            pending += data[:-2]
            *lines, pending = pending.split(b"\n")
            for line in lines:
                e = json.loads(line)
                assert e["type"] in ("ADDED", "MODIFIED", "DELETED"), e
                yield e["type"], e["object"]


def fingerprint(o):
    """The state of an object that is compared. All its parts were written together."""
    n = int(o["metadata"]["labels"]["n"])
    assert o["metadata"]["annotations"]["long"] == str(n) * 500, "half a write"
    return n, o.get("status", {}).get("restarts", 0), int(o["metadata"]["resourceVersion"])


def version(o):
    return int(o["metadata"]["resourceVersion"])


class Writer:
    """Writes objects of its own. `known`: the acknowledged state; `unsure`: the one change whose answer was lost."""

    def __init__(self, number):
        self.number, self.rng = number, random.Random(number)
        self.known, self.unsure, self.acked, self.writes = {}, None, [], 0

    def meta(self, name, n):
        return {"name": name, "namespace": "default", "labels": {"n": str(n)}, "annotations": {"long": str(n) * 500}}

    def step(self, wire):
        name = f"w{self.number}-{self.rng.randrange(6)}"
        have = self.known.get(name)
        what = self.rng.choice(["delete", "patch", "put", "status", "status"]) if have else "create"
        n, s, rv = have or (0, 0, 0)
        self.unsure = (name, {"create": (0, 0), "delete": None, "status": (n, s + 1)}.get(what, (n + 1, s)))
        if what == "create":
            status, o = wire.ask("POST", PATH, instance(name, meta=self.meta(name, 0)))
        elif what == "delete":
            status, o = wire.ask("DELETE", f"{PATH}/{name}")
        elif what == "status":
            status, o = wire.ask("PATCH", f"{PATH}/{name}/status", {"status": {"restarts": s + 1}}, MERGE)
        elif what == "patch":
            status, o = wire.ask("PATCH", f"{PATH}/{name}", {"metadata": self.meta(name, n + 1)}, MERGE)
        else:
            obj = instance(name, meta={**self.meta(name, n + 1), "resourceVersion": str(rv)})
            status, o = wire.ask("PUT", f"{PATH}/{name}", obj)
        assert status in (200, 201), (what, o)
        self.unsure = None
        self.writes += 1
        if what == "delete":
            self.known.pop(name)
        else:
            self.known[name] = fingerprint(o)
            self.acked.append(version(o))

    def run(self, sock):
        try:
            wire = Wire(sock)
        except Gone:
            return
        try:
            while True:
                self.step(wire)
        except Gone:
            pass
        finally:
            wire.close()

    def settle(self, there):
        """After a restart: acknowledged changes are there; the unsure change is there as a whole or not at all."""
        mine = {k: v for k, v in there.items() if k.startswith(f"w{self.number}-")}
        if self.unsure:
            name, after = self.unsure
            now, before = mine.get(name), self.known.get(name)
            assert now == before or (now and now[:2]) == after, (name, before, after, now)
            self.known.pop(name, None)
            if now:
                self.known[name] = now
            self.unsure = None
        assert mine == self.known


class Watcher:
    """One watch, continued over all crashes: its events together must give the same state as a list."""

    def __init__(self, last):
        self.last, self.state, self.seen = last, {}, collections.deque(maxlen=20000)
        self.snapshots, self.failure = collections.deque(), None

    def run(self, sock):
        wire = None
        try:
            wire = Wire(sock)
            for kind, o in wire.events(self.last):
                self.take(kind, o)
        except Gone:
            pass
        except AssertionError as e:
            self.failure = e
        finally:
            if wire:
                wire.close()

    def take(self, kind, o):
        rv, name = version(o), o["metadata"]["name"]
        assert rv > self.last, f"event {rv} after {self.last}"
        while self.snapshots and rv > self.snapshots[0][0]:
            at, there = self.snapshots.popleft()
            assert self.state == there, f"what was watched up to {at} is not what was listed"
        assert (kind == "ADDED") == (name not in self.state), (kind, name)
        if kind == "DELETED":
            self.state.pop(name)
        else:
            self.state[name] = fingerprint(o)
        self.last = rv
        self.seen.append(rv)


class Crashing:
    def __init__(self, directory):
        self.sock, self.database, self.log = (str(directory / n) for n in ("sock", "db", "log"))
        self.process, self.starts = None, []

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*MORTAL, SERVER, "--database", self.database, "--listen", f"unix:{self.sock}",
                                             "--log-level", "error"], stderr=log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def connect(self):
        begin = time.monotonic()
        while True:
            try:
                wire = Wire(self.sock)
                break
            except OSError:
                assert self.process.poll() is None, open(self.log).read()[-2000:]
                assert time.monotonic() - begin < patient(30), "no answer"
                time.sleep(0.001)
        self.starts.append(time.monotonic() - begin)
        return wire


def listed(wire):
    status, answer = wire.ask("GET", PATH)
    assert status == 200, answer
    return int(answer["metadata"]["resourceVersion"]), {o["metadata"]["name"]: fingerprint(o) for o in answer["items"]}


def check_resume(server, watcher, rng):
    """A second watch, from an earlier version, gets the same events again."""
    seen = list(watcher.seen)[-2000:]
    if len(seen) < 2:
        return
    at = rng.randrange(len(seen) - 1)
    wire = Wire(server.sock)
    for want, (_, o) in zip(seen[at + 1:], wire.events(seen[at])):
        assert version(o) == want
    wire.close()


def test_crashes(tmp_path, capfd):
    rng, server, writers = random.Random(), Crashing(tmp_path), [Writer(n) for n in range(WRITERS)]
    watcher, highest, began = None, 0, time.monotonic()
    server.start()
    try:
        for crash in range(CRASHES):
            wire = server.connect()
            at, there = listed(wire)
            wire.close()
            newest = max((rv for w in writers for rv in w.acked), default=0)
            assert at >= max(highest, newest, watcher.last if watcher else 0), "versions went back"
            for w in writers:
                w.settle(there)
            highest = at
            if not watcher:
                watcher = Watcher(at)
            watcher.snapshots.append((at, there))
            if crash % 10 == 9:
                check_resume(server, watcher, rng)
            threads = [threading.Thread(target=x.run, args=(server.sock,)) for x in [watcher, *writers]]
            for t in threads:
                t.start()
            before = sum(w.writes for w in writers)
            eventually("a write is acknowledged", 20, lambda: sum(w.writes for w in writers) > before, 0.001)
            time.sleep(rng.expovariate(1 / LIFE_S))
            server.kill()
            for t in threads:
                t.join()
            assert watcher.failure is None, watcher.failure
            for w in writers:
                missed = [rv for rv in w.acked if highest < rv <= watcher.last and rv not in watcher.seen]
                assert not missed, f"written, but not watched: {missed}"
                w.acked = w.acked[-1:]
            if CRASHES >= 1000 and crash % 100 == 99:
                with capfd.disabled():
                    print(f"{crash + 1} kills, {sum(w.writes for w in writers)} acknowledged writes, nothing lost, "
                          f"{time.monotonic() - began:.0f} s", flush=True)
            server.start()
            if rng.random() < 0.1:  # also while it starts
                time.sleep(rng.uniform(0, 0.02))
                server.kill()
                server.start()
        # The watch now gets the events that it has not seen yet.
        thread = threading.Thread(target=watcher.run, args=(server.sock,))
        wire = server.connect()
        thread.start()
        assert wire.ask("POST", PATH, instance("end", meta=writers[0].meta("end", 0)))[0] == 201
        wire.close()
        eventually("the watch has passed all lists", 20, lambda: not watcher.snapshots or watcher.failure)
        assert watcher.failure is None, watcher.failure
    finally:
        server.kill()
    thread.join()
    writes, starts = sum(w.writes for w in writers), sorted(server.starts)
    print(f"\n{CRASHES} kills, {writes} acknowledged writes, start {starts[len(starts) // 2] * 1000:.0f} ms (p99 {starts[len(starts) * 99 // 100] * 1000:.0f}), "
          f"{time.monotonic() - began:.0f} s")
    assert writes >= CRASHES
