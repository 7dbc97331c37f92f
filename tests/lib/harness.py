# SPDX-License-Identifier: Apache-2.0
"""How tests of all folders wait and run programs. Times in tests are those of a quiet machine. Continuous integration
may have a quarter of a core, so they are stretched here, and only here. If a test fails by a timeout, the event really
doesn't come."""

import os
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(ROOT, os.environ.get("NACRE_BUILD", "build"), "src", "cmd")
IMAGES = os.environ.get("NACRE_IMAGES", "/var/cache/nacre/images")
PATIENCE = float(os.environ.get("NACRE_TEST_PATIENCE", "4"))


def patient(seconds):
    """The timeout for something that takes at most that many seconds on a quiet machine."""
    return max(60, seconds * PATIENCE)


def eventually(what, seconds, condition, interval=0.05, catch=()):
    """Returns condition()'s first true value. Fails at the stretched timeout, with condition()'s last value. Exceptions
    in CATCH count as "not yet"."""
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
    """A program that failed, with its output."""

    def __str__(self):
        return f"{' '.join(map(str, self.cmd))}: exit status {self.returncode}: {self.stdout}{self.stderr}"


def run(*argv, check=True, timeout=60, **kwargs):
    p = subprocess.run(argv, timeout=patient(timeout), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    if check and p.returncode:
        raise Failed(p.returncode, argv, p.stdout, p.stderr)
    return p


def output(*argv, **kwargs):
    return run(*argv, **kwargs).stdout


# Put before a command: kills it when the thread that started it ends, for whatever reason.
MORTAL = ["setpriv", "--pdeathsig", "KILL"]
