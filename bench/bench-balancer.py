# SPDX-License-Identifier: Apache-2.0
"""What the balancer costs a packet, by test runs in the kernel, beside a program that only sends packets back
(bench/balancer.c): on a table of one address, which stays in the nearest caches, and on one of a thousand."""

import json
import os
import subprocess
import sys

from lib import BUILD

ROUNDS = sys.argv[1] if len(sys.argv) > 1 else "40"

print("| shared addresses | slices, all owned | balancer | reflector | more | tables written | written again |")
print("|---|---|---|---|---|---|---|")
for addresses in ("1", "1000"):
    out = subprocess.run([os.path.join(BUILD, "bench", "bench-balancer"), addresses, ROUNDS], check=True, stdout=subprocess.PIPE).stdout
    r = json.loads(out)
    print(f"| {int(addresses):,} | {r['slices']:,} | {r['balancer_ns']} ns | {r['reflector_ns']} ns | "
          f"{r['balancer_ns'] - r['reflector_ns']} ns | {r['fill_s'] * 1e3:.0f} ms | {r['refill_s'] * 1e3:.0f} ms |", flush=True)
