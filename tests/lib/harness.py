# SPDX-License-Identifier: Apache-2.0
"""
What tests of all folders wait with and run programs with.

Times that tests give are those of a quiet machine. Continuous integration may have a quarter of a core, so they are
stretched here, and only here: a test that fails for its time has met something that doesn't come at all.
"""

import os
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(ROOT, os.environ.get("NACRE_BUILD", "build"), "src", "cmd")
IMAGES = os.environ.get("NACRE_IMAGES", "/var/cache/nacre/images")
PATIENCE = float(os.environ.get("NACRE_TEST_PATIENCE", "4"))


def patient(seconds):
    """How long to wait for what takes at most so many seconds where nothing else runs."""
    return max(60, seconds * PATIENCE)


def eventually(what, seconds, condition, interval=0.05, catch=()):
    """
    Returns condition()'s first true value; fails when it is long overdue, with what it said last. Exceptions in CATCH
    count as "not yet".
    """
    deadline = time.monotonic() + patient(seconds)
    while True:
        try:
            value = last = condition()
        except catch as e:
            value, last = None, e
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {patient(seconds):.0f} s: {what}; last: {last}"
        time.sleep(interval)


def until(what, condition, seconds=20):
    return eventually(what, seconds, condition, 0.02)


class Failed(subprocess.CalledProcessError, AssertionError):
    """A program that failed, with what it said."""

    def __str__(self):
        return f"{' '.join(map(str, self.cmd))}: exit status {self.returncode}: {self.stdout}{self.stderr}"


def run(*argv, check=True, timeout=60, **kwargs):
    p = subprocess.run(argv, timeout=patient(timeout), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    if check and p.returncode:
        raise Failed(p.returncode, argv, p.stdout, p.stderr)
    return p


def output(*argv, **kwargs):
    return run(*argv, **kwargs).stdout


# Before a command: it is killed when the thread that started it ends, however that ends.
MORTAL = ["setpriv", "--pdeathsig", "KILL"]
