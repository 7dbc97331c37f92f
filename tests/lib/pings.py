# SPDX-License-Identifier: Apache-2.0
"""Pings while something happens, and which of them were lost."""

import re
import signal
import subprocess
import tempfile

from harness import MORTAL, eventually, patient


class Ping:
    """A ping every 10 ms. INSIDE goes before the command; no answer at the start is a failure."""

    def __init__(self, inside, address, *options, interval=0.01):
        self.margin = int(1 / interval)
        # Not a pipe: one that nobody reads would be full after some seconds, and the pings would stand still.
        self.out = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([*MORTAL, *inside, "ping", "-n", "-D", *options, "-i", str(interval), address],
                                        stdout=self.out, stderr=subprocess.STDOUT)
        self.await_answers(1)

    def output(self):
        self.out.seek(0)
        return self.out.read()

    def answered(self):
        return [int(s) for s in re.findall(r"icmp_seq=(\d+) ttl", self.output())]

    def await_answers(self, more):
        """As many more as have come by now."""
        before = max(self.answered(), default=0)
        eventually("pings are answered", 15, lambda: max(self.answered(), default=0) >= before + more)
        assert self.process.poll() is None, self.output()[-500:]

    def stop(self):
        """
        Of the last second's some may be under way when ping is told to end. The others are lost if they have no answer,
        for there is one to a later ping.
        """
        try:
            self.await_answers(self.margin)
        finally:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(patient(20))
        out, answered = self.output(), set(self.answered())
        self.sent = int(re.search(r"(\d+) packets transmitted", out).group(1))
        self.lost = sorted(set(range(1, max(answered) - self.margin)) - answered)
        times = [float(t) for t in re.findall(r"^\[([\d.]+)\] \d+ bytes from", out, re.M)]
        self.gap = max((b - a for a, b in zip(times, times[1:])), default=0.0)
        self.out.close()
        return self
