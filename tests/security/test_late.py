# SPDX-License-Identifier: Apache-2.0
"""A user without processor time can't cause refusals without end, nor keep watches that nobody reads."""

import contextlib
import json
import math
import socket
import struct
import time

import pytest
from apilib import fresh_server
from harness import eventually, patient
from tenant import CONFIGMAPS, RED, ask, make
from test_charges import charged, metric, watch
from test_limits import answer, refused
from test_processor_time import REVIEW, REVIEWS, make_rules

BURST_S, LEFT_S, OVER_S = 2, 0.4, 1.0
WATCHES = 16


class Debtor:
    """User red has a small share and almost no burst left. His open requests cost more than he has left."""

    def __init__(self, server, stack):
        make(server)
        make_rules(server)
        self.server, self.stack = server, stack
        self.body = json.dumps(REVIEW).encode()
        head = f"POST {REVIEWS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        self.head = f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode()
        self.begun = [self.connect() for _ in range(120)]
        for s in self.begun:
            s.sendall(self.head)
        before, n, used, s = charged(server, "requests"), 0, 0, self.connect()
        while used < BURST_S - LEFT_S:
            s.sendall(self.head + self.body)
            status = answer(s)[0]
            assert status == 201, f"{status} after {n}"
            n += 1
            # Reading the metrics is charged too.
            if n % 8 == 0:
                used = charged(server, "requests") - before
        # As many requests as cost what he has left, and some more.
        self.begun = self.begun[:math.ceil((LEFT_S + OVER_S) * n / used)]

    def connect(self):
        return self.stack.enter_context(self.server.socket(RED, timeout=patient(60)))

    def overdraw(self):
        for s in self.begun:
            s.sendall(self.body)
        for s in self.begun:
            assert answer(s)[0] == 201
        assert self.is_late(), "he has time left"

    def is_late(self):
        return ask(self.server, "GET", CONFIGMAPS).status == 429


@pytest.fixture
def debtor(tmp_path):
    """With a share of 10 ms each second the debt lasts for half a minute or more."""
    with fresh_server(tmp_path, "--processor-share", "1") as server, contextlib.ExitStack() as stack:
        yield Debtor(server, stack)


def wait_late(debtor, n):
    eventually("the watches wait", 60, lambda: metric(debtor.server, "nacre_apiserver_watches_late") == n)


def test_watches_of_clients_that_went(debtor):
    """Watches whose clients disconnected end, although their events must wait."""
    server = debtor.server
    mine = [watch(server, debtor.stack, RED, f"{CONFIGMAPS}?watch=1") for _ in range(WATCHES)]
    others = metric(server, "nacre_apiserver_watches") - WATCHES
    debtor.overdraw()
    assert server.post(CONFIGMAPS, {"metadata": {"name": "c"}}).status == 201
    wait_late(debtor, WATCHES)
    for n, s in enumerate(mine[1:]):
        # Half of them with a reset, as from a client that was killed.
        if n % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    eventually("they are gone", 20, lambda: metric(server, "nacre_apiserver_watches") - others == 1)
    wait_late(debtor, 1)
    assert debtor.is_late()


def test_end_of_a_watch(debtor):
    """A watch ends at its timeout. The next watch from the same version gets the events that it has not sent."""
    server = debtor.server
    version = server.list(CONFIGMAPS)["metadata"]["resourceVersion"]
    path = f"{CONFIGMAPS}?watch=1&allowWatchBookmarks=1&resourceVersion={version}"
    mine = [watch(server, debtor.stack, RED, f"{path}&timeoutSeconds=12") for _ in range(WATCHES)]
    debtor.overdraw()
    assert server.post(CONFIGMAPS, {"metadata": {"name": "c"}}).status == 201
    wait_late(debtor, WATCHES)
    for s in mine:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            more = s.recv(4096)
            assert more, data
            data += more
        assert b"{" not in data, "it told something"
    assert debtor.is_late() and metric(server, "nacre_apiserver_watches_late") == 0
    w = server.watch(CONFIGMAPS, resourceVersion=version)
    assert w.wait(1) == [("ADDED", "c")]
    w.close()


def test_refusals(debtor):
    """A client that doesn't wait is refused once a second on each connection, and is answered when it has time
    again."""
    server = debtor.server
    debtor.overdraw()
    s = debtor.connect()
    get = f"GET {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    start, before = time.monotonic(), refused(server, "time")
    s.sendall(get * 100)
    assert [answer_of_many(s) for _ in range(3)] == [429] * 3
    n, took = refused(server, "time") - before, time.monotonic() - start
    assert 3 <= n <= took + 1, f"{n} in {took:.1f} s"
    # Others are not delayed.
    assert server.get(CONFIGMAPS).status == 200


def answer_of_many(s):
    """The status of the next answer. Reads no byte past that answer."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = s.recv(1)
        assert more, data
        data += more
    left = int(next(x for x in data.lower().split(b"\r\n") if x.startswith(b"content-length:"))[15:])
    while left:
        left -= len(s.recv(left))
    return int(data.split()[1])
