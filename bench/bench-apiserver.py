# SPDX-License-Identifier: Apache-2.0
"""
nacre-apiserver under load from one client program: every write is on disk when it is answered (synchronous=FULL).
Client and server share the machine's cores.
"""

import json
import os
import subprocess
import sys

from lib import BUILD, Api, Bench

OBJECTS = int(sys.argv[1]) if len(sys.argv) > 1 else 10000


def rss(p):
    with open(f"/proc/{p.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


with Bench("apiserver") as b:
    sock, server = b.apiserver()

    def load(mode, clients, count):
        out = subprocess.run([os.path.join(BUILD, "bench", "bench-apiserver"), sock, mode, str(clients), str(count)],
                             check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(out)

    def row(what, r, unit="/s"):
        print(f"| {what} | {r['clients']} | {r['per_second']:,.0f} {unit} | {r['p50_ms']:.2f} | {r['p99_ms']:.2f} |")

    before = rss(server)
    print("| what | clients | rate | p50 ms | p99 ms |\n|---|---|---|---|---|")
    row("create", load("create", 64, OBJECTS))
    after = rss(server)
    size = len(json.dumps(Api(sock).json("GET", "/apis/nacre.dev/v1alpha1/endpoints/b0"), separators=(",", ":")))
    for clients, count in ((1, 2000), (16, 10000), (64, 10000)):
        row("patch", load("patch", clients, min(count, OBJECTS)))
    for clients in (1, 16, 64):
        row("get", load("get", clients, OBJECTS))
    row(f"list of {OBJECTS:,}", load("list", 1, 20))
    row(f"list of {OBJECTS:,}", load("list", 4, 40))
    for watchers, changes in ((1, 2000), (100, 200), (1000, 50)):
        row("watch delivery", load("watch", watchers, changes))
    print(f"\nMemory: {(after - before) / OBJECTS:,.0f} bytes an object of {size} bytes of JSON "
          f"({OBJECTS:,} objects just created, the events of their creation held).")
