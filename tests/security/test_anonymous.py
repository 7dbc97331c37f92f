# SPDX-License-Identifier: Apache-2.0
"""Anonymous clients from many addresses take all connections: every authenticated user still gets one."""

import contextlib
import resource
import socket

import pytest
from apilib import Server, context, namespace
from test_limits import AGENT, BLUE, CONTROLLER, answer, bind, others_go_on, refused

FILES, KEPT = 896, 128
MOST = (FILES - KEPT) // 2  # connections of each of two listeners, see src/apiserver/http/conn.c
FOR_ALL = MOST - MOST // 16
OF_ADDRESS = 256


@pytest.fixture
def small(tmp_path):
    """A server with few descriptors, and so few connections."""
    s = Server(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        s.start(prefix=("prlimit", f"--nofile={FILES}:{FILES}"))
        s.create(namespace("blue"))
        a = s.post("/apis/rbac.authorization.k8s.io/v1/namespaces/blue/rolebindings", bind("admin", "blue", "admin", "blue"))
        assert a.status == 201, a.text
        yield s
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        s.stop()


def nobody(server, address):
    """A connection from ADDRESS without a certificate."""
    s = socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=(address, 0))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context().wrap_socket(s, server_hostname="localhost")


def healthy(s):
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    return answer(s)[0] == 200


def alive(s):
    try:
        return healthy(s)
    except (OSError, AssertionError):
        return False


def fill(server, stack, addresses):
    all_ = []
    for i in range(OF_ADDRESS * len(addresses)):
        s = stack.enter_context(nobody(server, addresses[i % len(addresses)]))
        assert healthy(s)
        all_.append(s)
    return all_


ADDRESSES = [f"127.0.0.{n}" for n in range(2, 4)]


def test_all_connections_taken(small):
    with contextlib.ExitStack() as stack:
        held = fill(small, stack, ADDRESSES)
        assert len(held) > MOST
        # They never had the reserved connections, and the oldest were closed.
        up = [alive(s) for s in held]
        assert FOR_ALL - 10 < sum(up) <= FOR_ALL, sum(up)
        assert not up[0] and up[-1] and up.index(True) == len(up) - sum(up)
        others_go_on(small)
        # Tenants get as many as they may have: further anonymous connections are closed, the longest idle first.
        mine = []
        for _ in range(200):
            s = stack.enter_context(small.socket(BLUE, timeout=60))
            s.sendall(b"GET /apis/nacre.dev/v1alpha1/namespaces/blue/instances HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(s)[0] == 200
            mine.append(s)
        for user in (AGENT, CONTROLLER):
            a = small.request("GET", "/apis/nacre.dev/v1alpha1/hosts?fieldSelector=metadata.name=h1", conn=small.connection(user))
            assert a.status == 200, a.text
        assert refused(small, "server") > 200
        # The tenant's connections stay, however many anonymous ones come.
        for _ in range(60):
            stack.enter_context(nobody(small, ADDRESSES[0]))
        for s in mine:
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(s)[0] == 200


def test_half_a_request_is_no_shelter(small):
    """A request of which only the headers have come is still nobody's."""
    with contextlib.ExitStack() as stack:
        for i in range(OF_ADDRESS * len(ADDRESSES)):
            s = stack.enter_context(nobody(small, ADDRESSES[i % len(ADDRESSES)]))
            with contextlib.suppress(OSError):
                s.sendall(b"POST /apis/nacre.dev/v1alpha1/hosts HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
        others_go_on(small)
