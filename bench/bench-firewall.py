# SPDX-License-Identifier: Apache-2.0
"""The firewall of an instance in the kernel: what it costs a packet, and a change of a member (bench/firewall.c)."""

import os
import subprocess

from lib import BUILD

subprocess.run([os.path.join(BUILD, "bench", "bench-firewall")], check=True)
