# SPDX-License-Identifier: Apache-2.0
"""Sends pings during a test, and reports which were lost."""

import os
import re
import signal
import subprocess
import tempfile

from harness import MORTAL, eventually, patient


class Ping:
    """A ping every 10 ms. INSIDE is put before the command. Fails if there is no answer at the start."""

    def __init__(self, inside, address, *options, interval=0.01):
        self.margin = int(1 / interval)
        # Not a pipe: nobody reads it, so it would be full after some seconds and ping would block.
        self.out = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([*MORTAL, *inside, "ping", "-n", "-D", *options, "-i", str(interval), address],
                                        stdout=self.out, stderr=subprocess.STDOUT)
        self.await_answers(1)

    def output(self):
        # Without seek(): ping writes at the position of the same open file, over what it has written before.
        fd = self.out.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode()

    def answered(self):
        return [int(s) for s in re.findall(r"icmp_seq=(\d+) ttl", self.output())]

    def await_answers(self, more):
        """Waits for that many more answers."""
        before = max(self.answered(), default=0)
        eventually("pings are answered", 15, lambda: max(self.answered(), default=0) >= before + more)
        assert self.process.poll() is None, self.output()[-500:]

    def stop(self):
        """Pings of the last second may still be under way, so they are not counted. Earlier ones without an answer are
        lost, since there is an answer to a later ping."""
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
