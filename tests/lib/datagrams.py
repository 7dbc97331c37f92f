# SPDX-License-Identifier: Apache-2.0
"""Datagrams of many flows that are echoed, and what was lost of them: for paths on which flows are spread."""

import json
import signal
import subprocess

from harness import MORTAL, eventually, patient

ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE: this process may have to wait for its turn
s.bind((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
while True:
    data, who = s.recvfrom(2048)
    s.sendto(data, who)
"""

# Each flow sends a datagram in each interval, and counts those that come back. A line of output at each 1,000 answers,
# and the result at the end.
FLOWS = """
import json, selectors, signal, socket, struct, sys, time
source, address, port, n, interval = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
over = []
signal.signal(signal.SIGINT, lambda *_: over.append(1))
selector = selectors.DefaultSelector()
flows = []
for i in range(n):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)
    s.bind((source, 0))
    s.connect((address, port))
    s.setblocking(False)
    flows.append({"socket": s, "sent": 0, "got": set(), "last": None, "gap": 0.0})
    selector.register(s, selectors.EVENT_READ, flows[-1])
answers, until, due = 0, None, time.monotonic()
while until is None or time.monotonic() < until:
    if over and until is None:
        until = time.monotonic() + 1  # for answers that are under way
    now = time.monotonic()
    if now >= due and until is None:
        due += interval
        for f in flows:
            try:
                f["socket"].send(struct.pack("!I", f["sent"]))
            except OSError:
                pass  # an ICMP error about an earlier one
            f["sent"] += 1
    for key, _ in selector.select(max(0.0, min(due - time.monotonic(), interval)) if until is None else 0.05):
        f = key.data
        try:
            data = f["socket"].recv(2048)
        except OSError:
            continue
        now = time.monotonic()
        f["got"].add(struct.unpack("!I", data)[0])
        if f["last"]:
            f["gap"] = max(f["gap"], now - f["last"])
        f["last"] = now
        answers += 1
        if answers % 1000 == 0:
            print("answers", answers, flush=True)
print(json.dumps({"sent": sum(f["sent"] for f in flows), "lost": sum(f["sent"] - len(f["got"]) for f in flows),
                  "silent": sum(not f["got"] for f in flows), "gap": max(f["gap"] for f in flows)}), flush=True)
"""


class Datagrams:
    """N flows from SOURCE, each with a datagram in each INTERVAL. INSIDE is put before the command."""

    def __init__(self, inside, source, address, port, n=32, interval=0.02):
        self.process = subprocess.Popen([*MORTAL, *inside, "/usr/bin/python3", "-c", FLOWS, source, address, str(port),
                                         str(n), str(interval)], stdout=subprocess.PIPE, text=True)
        self.await_answers()

    def await_answers(self):
        """Waits for 1,000 more answers."""
        line = self.process.stdout.readline()
        assert line.startswith("answers"), line

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        for line in self.process.communicate(timeout=patient(20))[0].splitlines():
            if line.startswith("{"):
                for key, value in json.loads(line).items():
                    setattr(self, key, value)
        return self


def echo(inside, address, port):
    """Starts the server; the caller ends the process that is returned."""
    process = subprocess.Popen([*MORTAL, *inside, "/usr/bin/python3", "-c", ECHO, address, str(port)],
                               stdout=subprocess.PIPE, text=True)
    eventually("the server listens", 10, lambda: process.stdout.readline() == "listening\n")
    return process
