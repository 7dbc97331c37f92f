# SPDX-License-Identifier: Apache-2.0
"""Kills a program, its workers included, at a chosen one of its calls of netlink or bpf(2), as the kernel's OOM killer
might at any moment (src/base/test-killcall.c)."""

import contextlib
import itertools
import mmap
import os
import struct
import time

from harness import BIN, Failed, until

LIBRARY = os.path.join(BIN, "../base/killcall.so")
KINDS = 4096
QUIET_S = 0.15
ALL = bool(os.environ.get("NACRE_TEST_ALL"))


class KillCall:
    def __init__(self, directory, program):
        self.path, self.program = f"{directory}/killcall-{program}", program
        with open(self.path, "w+b") as f:
            f.truncate(8 + 4 * KINDS)
            self.shared = mmap.mmap(f.fileno(), 0)

    def close(self):
        self.shared.close()

    def argv(self):
        """Put before the command that starts the program."""
        return ["env", f"LD_PRELOAD={LIBRARY}", f"NACRE_KILLCALL={self.path}", f"NACRE_KILLCALL_PROGRAM={self.program}"]

    def arm(self, number):
        """The program is killed instead of its call of that number from now on, counted from 1; 0: it is only counted."""
        struct.pack_into("<II", self.shared, 0, 0, 0)
        struct.pack_into("<I", self.shared, 0, number)
        self.seen, self.since = 0, time.monotonic()

    def count(self):
        return struct.unpack_from("<I", self.shared, 4)[0]

    def is_quiet(self):
        """True if the program has made no call for a moment. To be called again and again."""
        now, count = time.monotonic(), self.count()
        if count != self.seen:
            self.seen, self.since = count, now
        return now - self.since > QUIET_S

    def kind(self, number):
        """What the call of that number is, for messages."""
        value, = struct.unpack_from("<I", self.shared, 4 + 4 * number)
        protocol, message = value >> 24, value & 0xFFFFFF
        if protocol == 0xFF:
            return f"bpf command {message}"
        return f"netlink protocol {protocol}, message {message}"


def sample(count, most, phase):
    """The numbers of the calls to be killed at: all of them, or at most MOST, spread over the range. PHASE, from 0 to 1,
    chooses others between these."""
    if ALL or count <= most:
        return range(1, count + 1)
    return [1 + int((i + phase) * count / most) for i in range(most)]


class Change:
    """DO makes the change; IS_DONE tells whether the program has done all that the change asks for."""

    def __init__(self, name, do, is_done):
        self.name, self.do, self.is_done = name, do, is_done


class Rounds:
    """Changes of which each takes back the one before, and the first the last. RIG has `killcall`, `process` (the
    program's, a Popen), state() (what the program has made, as a dict), and restart(), which reaps the process and
    starts another."""

    def __init__(self, rig, *changes):
        self.rig, self.changes = rig, changes

    def undisturbed(self, change):
        self.rig.killcall.arm(0)
        change.do()
        until(f"{change.name}: done", lambda: change.is_done() and self.rig.killcall.is_quiet())

    def killed(self, change, number, expected):
        killcall = self.rig.killcall
        killcall.arm(number)
        change.do()
        until(f"{change.name}: killed at call {number}, or done",
              lambda: self.rig.process().poll() is not None or (change.is_done() and killcall.is_quiet()))
        what = f"{change.name}, killed at call {number} ({killcall.kind(number)})"
        killcall.arm(0)
        self.rig.restart()
        until(f"{what}: done", lambda: self.runs() and change.is_done())
        self.becomes(what, expected)

    def runs(self):
        """As the service manager does: a worker that was being forked may hold the program's socket or lock for a moment
        longer, and with it the program doesn't start (deploy/systemd: Restart=always)."""
        if self.rig.process().poll() is not None:
            self.rig.restart()
        return True

    def becomes(self, what, expected):
        last = {}

        def is_equal():
            # A namespace may be removed while it is looked at.
            with contextlib.suppress(Failed, OSError):
                last.clear()
                last.update(self.rig.state())
            return last == expected
        try:
            until(what, is_equal)
        except AssertionError:
            for section in expected.keys() | last.keys():
                is_, want = last.get(section), expected.get(section)
                assert is_ == want, f"{what}: {section}: {is_} instead of {want}"
            raise

    def run(self, most, phase):
        """Kills at a sample of the calls of each change (sample()). Returns how many calls each has."""
        counts, states, turns = [], [], []
        for n, change in enumerate(self.changes):
            self.undisturbed(change)
            counts.append(self.rig.killcall.count())
            states.append(self.rig.state())
            turns.append(sample(counts[-1], most, (phase + n / len(self.changes)) % 1))
        for turn in itertools.zip_longest(*turns):
            for change, number, state in zip(self.changes, turn, states):
                if number:
                    self.killed(change, number, state)
                else:
                    self.undisturbed(change)
        return counts
