# SPDX-License-Identifier: Apache-2.0
"""The overlay without an API: endpoints into the kernel, compared with plain netlink and `ip -batch`
(bench/overlay.c)."""

import os
import subprocess
import sys

from lib import BUILD

for n in sys.argv[1:] or ("10000", "100000"):
    subprocess.run([os.path.join(BUILD, "bench", "bench-overlay"), n], check=True)
