# SPDX-License-Identifier: Apache-2.0
"""
Compares two builds in one run, in turn, to measure the cost of a change. NACRE_BENCH_BASE is the other build directory.

    NACRE_BENCH_BASE=/srv/nacre-old/build ./dev bench builds

It measures the processor time of the API server for a request, which depends less on other load than rates do. Then, in a
lab of each build, it measures packets to and from a guest (packets.py), and the time from `create` to the first answered
ping. Ratios are pair by pair; above 1 this build is slower.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile

from instances import first_ping
from lib import BUILD, IMAGES, Api, Bench, sh, wait
from packets import Conversation

BASE = os.environ.get("NACRE_BENCH_BASE")


class Lab:
    """The data centre in a box of one build, with one host."""

    def __init__(self, bench, build, name):
        self.nacre, self.name = os.path.join(build, "src", "cmd", "nacre"), name
        bench.cleanups.append(lambda: sh(self.nacre, "lab", "down", "--name", name))
        sh(self.nacre, "lab", "up", "--name", name, "--hosts", "1", "--images", IMAGES)


class Server:
    """
    nacre-apiserver of one build. Each measurement uses a new process: two processes of the same build differ by up to a
    tenth, depending on the layout of their memory.
    """

    def __init__(self, bench, build):
        self.bench, self.build = bench, build

    def processor_us(self):
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        return total / 1000

    def load(self, mode, clients, count, objects):
        argv = [os.path.join(BUILD, "bench", "bench-apiserver"), self.sock, mode, *map(str, (clients, count, objects, 60))]
        before = self.processor_us()
        answered = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout)["count"]
        return (self.processor_us() - before) / answered

    @contextlib.contextmanager
    def running(self):
        with tempfile.TemporaryDirectory(dir=self.bench.path("")) as folder:
            self.sock = f"{folder}/sock"
            self.process = self.bench.start(os.path.join(self.build, "src", "cmd", "nacre-apiserver"),
                                            "--listen", f"unix:{self.sock}", "--database", f"{folder}/db")
            wait("nacre-apiserver", lambda: Api(self.sock).request("GET", "/readyz"))
            try:
                yield
            finally:
                self.process.terminate()
                self.process.wait()

    def create(self):
        with self.running():
            return self.load("create", 64, 9000, 0)

    def loaded(self, *load):
        with self.running():
            self.load("create", 64, 2000, 0)
            return self.load(*load, 2000)

    def patch(self):
        return self.loaded("patch", 16, 9000)

    def get(self):
        return self.loaded("get", 64, 20000)

    def list(self):
        return self.loaded("list", 1, 200)


def pairs(what, unit, base, now, rounds):
    """Measures BASE and NOW in pairs, each first in turn. One more pair fills caches."""
    got = []
    for i in range(rounds + 1):
        order = (base, now) if i % 2 else (now, base)
        values = {fn: fn() for fn in order}
        got.append((values[base], values[now]))
    got = got[1:]
    ratios = sorted(n / b for b, n in got)
    print(f"| {what}, {unit} | {statistics.median(b for b, _ in got):,.0f} | {statistics.median(n for _, n in got):,.0f} | "
          f"{statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |", flush=True)


def main():
    if not BASE:
        print("Left out: NACRE_BENCH_BASE names no build directory to compare with.")
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    builds = (os.path.abspath(BASE), os.path.abspath(BUILD))
    print(f"{rounds} pairs in turn, {5 * rounds} of packets; medians.\n\n"
          "| what | base | this build | ratio, pair by pair |\n|---|---|---|---|")
    with Bench("builds") as b:
        base, now = (Server(b, build) for build in builds)
        pairs("create, 64 clients", "µs of processor time", base.create, now.create, rounds)
        pairs("patch, 16 clients", "µs of processor time", base.patch, now.patch, rounds)
        pairs("get, 64 clients", "µs of processor time", base.get, now.get, rounds)
        pairs("list of 2,000", "µs of processor time", base.list, now.list, rounds)
        base, now = (Lab(b, build, f"{kind}{os.getpid() % 100000}") for build, kind in zip(builds, "bn"))
        base_hello, now_hello = Conversation(base.name), Conversation(now.name)
        for what, fn in (("a packet from the internet to a guest", Conversation.to_guest),
                         ("a packet from its host to a guest", Conversation.from_host),
                         ("a packet from a guest to the internet", Conversation.from_guest)):
            pairs(what, "ns", lambda: fn(base_hello), lambda: fn(now_hello), 5 * rounds)
        counter = iter(range(1000))
        pairs("from create to first answered ping", "ms",
              *((lambda lab=lab: first_ping(lab.name, f"boot{next(counter)}")["answered"] * 1000) for lab in (base, now)), rounds)


main()
