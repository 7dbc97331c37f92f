# SPDX-License-Identifier: Apache-2.0
"""NACRE_TEST_LOAD=N: N busy loops beside the tests, to find tests that depend on the speed of a quiet machine. Each
loop is a session of its own, so that the scheduler (sched_autogroup, sched(7)) gives it as much as a whole daemon."""

import os
import subprocess

from harness import MORTAL

processes = []


def start():
    for _ in range(int(os.environ.get("NACRE_TEST_LOAD") or 0)):
        processes.append(subprocess.Popen([*MORTAL, "sh", "-c", "while :; do :; done"], start_new_session=True))


def stop():
    while processes:
        p = processes.pop()
        p.kill()
        p.wait()
