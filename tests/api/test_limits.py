# SPDX-License-Identifier: Apache-2.0
"""A tenant uses all it can: requests beyond its limits are refused (429), and everybody else goes on."""

import contextlib
import json
import os
import resource
import socket
import time

import pytest
from apilib import ADMIN, G, V, eventually, instance, namespace

ALL = bool(os.environ.get("NACRE_TEST_ALL"))

RED, BLUE = ("red",), ("blue",)
AGENT = ("system:nacre:host:h1", "system:nacre:hosts")
CONTROLLER = ("system:nacre:controller",)
CONNECTIONS, REQUESTS, WATCHES, MEMORY = 512, 128, 256, 128 << 20
ADDRESS_CONNECTIONS = 256
OF_RED = f"{G}/namespaces/red/instances"


def bind(name, ns, role, user):
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": ns},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]}


@pytest.fixture
def tenants(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for user in ("red", "blue"):
        server.create(namespace(user))
        a = server.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{user}/rolebindings", bind("admin", user, "admin", user))
        assert a.status == 201, a.text
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        yield server, stack


def others_go_on(server):
    """New connections of all other users are answered, and the watch of another tenant gets events."""
    n = f"i{time.monotonic_ns()}"
    a = server.request("POST", f"{G}/namespaces/blue/instances", instance(n, "blue"), conn=server.connection(BLUE))
    assert a.status == 201, a.text
    with server.socket(BLUE, timeout=60) as s:
        s.sendall(f"GET {G}/namespaces/blue/instances?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        while n.encode() not in got:
            more = s.recv(65536)
            assert more, got
            got += more
    for user in (AGENT, CONTROLLER):
        a = server.request("GET", f"{G}/hosts?fieldSelector=metadata.name=h1", conn=server.connection(user))
        assert a.status == 200, a.text
    assert server.request("GET", "/api/v1/nodes", conn=server.connection(ADMIN)).status == 404
    assert server.request("GET", "/readyz", conn=server.connection(())).status == 200


def refused(server, what):
    lines = server.get("/metrics").text.splitlines()
    return int(next(x for x in lines if x.startswith(f'nacre_apiserver_refused_total{{limit="{what}"}}')).split()[-1])


def answer(s):
    """Status, headers and body of one answer that has a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        assert more, data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in head.decode().split("\r\n")[1:])}
    while "content-length" in headers and len(body) < int(headers["content-length"]):
        body += s.recv(65536)
    return int(head.split()[1]), headers, body


def is_429(got, *words):
    status, headers, body = got
    assert status == 429, got
    o = json.loads(body)
    assert (o["kind"], o["reason"], o["code"]) == ("Status", "TooManyRequests", 429)
    assert o["details"]["retryAfterSeconds"] == int(headers["retry-after"]) > 0
    assert all(w in o["message"] for w in words), o["message"]


def ask(s, path, method="GET", headers=""):
    s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())


def test_connections(tenants):
    server, stack = tenants
    open_ = []
    for _ in range(CONNECTIONS):
        s = stack.enter_context(server.socket(RED, timeout=60))
        ask(s, f"{OF_RED}?limit=1")
        assert answer(s)[0] == 200
        open_.append(s)
    for _ in range(3):
        with server.socket(RED, timeout=60) as s:
            ask(s, f"{OF_RED}?limit=1")
            is_429(answer(s), "user red", "connections", str(CONNECTIONS))
            assert s.recv(1) == b"", "it is closed"
    others_go_on(server)
    ask(open_[0], f"{OF_RED}?limit=1")
    assert answer(open_[0])[0] == 200, "those that it has are good"
    assert refused(server, "connections") == 3
    open_.pop().close()

    def again():
        with server.socket(RED, timeout=60) as s:
            ask(s, f"{OF_RED}?limit=1")
            return answer(s)[0] == 200

    eventually("there is room again", 60, again)


def test_connections_that_say_nothing(tenants):
    """Connections without a request count for their address, and the oldest give way to the newest."""
    server, stack = tenants
    for _ in range(ADDRESS_CONNECTIONS * 2):
        stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
    others_go_on(server)
    for _ in range(ADDRESS_CONNECTIONS + 10):
        stack.enter_context(server.socket((), timeout=60))
    others_go_on(server)
    assert refused(server, "connections") > ADDRESS_CONNECTIONS


def test_watches(tenants):
    server, stack = tenants
    for _ in range(WATCHES):
        s = stack.enter_context(server.socket(RED, timeout=60))
        ask(s, f"{OF_RED}?watch=1")
        assert answer(s)[0] == 200
    s = stack.enter_context(server.socket(RED, timeout=60))
    ask(s, f"{OF_RED}?watch=1")
    is_429(answer(s), "user red", "watches", str(WATCHES))
    ask(s, f"{OF_RED}?limit=1")
    assert answer(s)[0] == 200, "what is no watch is answered, on the same connection"
    others_go_on(server)


def test_requests_under_way(tenants):
    """Requests whose bodies don't end."""
    server, stack = tenants
    started = [stack.enter_context(server.socket(RED, timeout=60)) for _ in range(REQUESTS)]
    for s in started:
        ask(s, OF_RED, "POST", "Content-Type: application/json\r\nContent-Length: 2\r\n")
        s.sendall(b"{")

    def full():
        with server.socket(RED, timeout=60) as s:
            ask(s, f"{OF_RED}?limit=1")
            got = answer(s)
            return got if got[0] == 429 else None

    is_429(eventually("it has as many as it may", 60, full), "user red", "requests", str(REQUESTS))
    others_go_on(server)
    for s in started:
        s.sendall(b"}")
        assert answer(s)[0] in (400, 422)
    with server.socket(RED, timeout=60) as s:
        ask(s, f"{OF_RED}?limit=1")
        assert answer(s)[0] == 200


def rss(server):
    with open(f"/proc/{server.process.pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))


def test_memory_of_bodies(tenants):
    server, stack = tenants
    before, size = rss(server), 3_000_000
    def send(n):
        s = stack.enter_context(server.socket(RED, timeout=60))
        ask(s, OF_RED, "POST", f"Content-Type: application/json\r\nContent-Length: {size}\r\n")
        s.sendall(b" " * n)
        return s

    # All requests but one lack their last byte. The server may read the complete one before the others.
    refusal = (0,)
    for n in range(REQUESTS - 1):
        send(size - 1)
        if n * size > MEMORY and (refusal := answer(send(size)))[0] == 429:
            break
    is_429(refusal, "user red", "memory", str(MEMORY >> 20))
    others_go_on(server)
    assert rss(server) - before < MEMORY * 1.5
    assert refused(server, "memory") > 0


def test_memory_of_parsed_bodies(tenants):
    """A body with a few bytes for each value takes fifty times its size when parsed."""
    server, stack = tenants
    size = 2_000_000
    body = b'{"a":[' + b"{}," * ((size - 10) // 3)
    body += b"{}" + b" " * (size - len(body) - 4) + b"]}"
    assert len(body) == size and json.loads(body)
    waiting = [stack.enter_context(server.socket(RED, timeout=120)) for _ in range(3)]
    for s in waiting:
        ask(s, OF_RED, "POST", f"Content-Type: application/json\r\nContent-Length: {size}\r\n")
        s.sendall(body[:-1])
    others_go_on(server)
    for s in waiting:
        s.sendall(body[-1:])
    assert 429 in [answer(s)[0] for s in waiting], "each is parsed to more than all may hold"
    with server.socket(RED, timeout=120) as s:
        ask(s, OF_RED, "POST", f"Content-Type: application/json\r\nContent-Length: {size}\r\n")
        s.sendall(body)
        assert answer(s)[0] in (400, 422), "one alone is always let through"


def fill(server, mib):
    for n in range(mib):
        a = server.post("/api/v1/namespaces/red/configmaps", {"metadata": {"name": f"big{n}"}, "data": {"x": "y" * 1_000_000}})
        assert a.status == 201, a.text


def test_memory_of_answers(tenants):
    """Clients that don't read the lists that they requested."""
    server, stack = tenants
    path = "/api/v1/namespaces/red/configmaps"
    fill(server, 20)
    for n in range(40):
        s = stack.enter_context(server.socket(RED, timeout=60))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask(s, path)
        if answer_status(s) == 429:
            break
    else:
        raise AssertionError("nothing was refused")
    assert 4 <= n <= 30, n
    others_go_on(server)
    assert refused(server, "memory") > 0


def answer_status(s):
    data = b""
    while b"\r\n" not in data:
        more = s.recv(64)
        assert more, data
        data += more
    return int(data.split()[1])


def test_service_accounts_are_one_party(tenants):
    """Whoever may create one ServiceAccount may create many, so those of a namespace share their limits."""
    server, stack = tenants
    tokens = []
    for n in range(4):
        conn = server.connection(RED)
        at = "/api/v1/namespaces/red/serviceaccounts"
        assert server.request("POST", at, {"metadata": {"name": f"a{n}"}}, conn=conn).status == 201
        tokens.append(server.request("POST", f"{at}/a{n}/token", {}, conn=conn).json["status"]["token"])
        assert server.post("/apis/rbac.authorization.k8s.io/v1/namespaces/red/rolebindings", {
            **bind(f"a{n}", "red", "view", ""), "subjects": [{"kind": "ServiceAccount", "name": f"a{n}", "namespace": "red"}],
        }).status == 201
    for n in range(WATCHES + 1):
        s = stack.enter_context(server.socket((), timeout=60))
        ask(s, f"{OF_RED}?watch=1", headers=f"Authorization: Bearer {tokens[n % 4]}\r\n")
        got = answer(s)
        if n < WATCHES:
            assert got[0] == 200, got
        else:
            is_429(got, "ServiceAccounts of namespace red", "watches")
    others_go_on(server)


def configmap(name, size=0):
    return {"metadata": {"name": name}, "data": {"x": "y" * size}}


def test_bytes_of_a_namespace(tenants):
    """Full for its tenant, who can still delete and shrink; not full for agents, the controller, Events, other
    tenants."""
    server, stack = tenants
    at, big, fit = "/api/v1/namespaces/red/configmaps", 1_000_000, (256 << 20) // 1_000_384
    red = server.connection(RED)
    ask_red = lambda *args: server.request(*args, conn=red)
    server.create(instance("a", "red"))
    assert server.patch(f"{OF_RED}/a/status", {"status": {"host": "h1"}}).status == 200
    admin = server.connection()  # the tenant doesn't have enough processor time
    for n in range(fit - 10):
        assert server.post(at, configmap(f"c{n}", big), conn=admin).status == 201
    # Concurrent requests don't exceed the limit: all send all but the last byte first, so that they arrive together.
    body = json.dumps(configmap("", big) | {"metadata": {"generateName": "x"}}).encode()
    socks = [stack.enter_context(server.socket(RED, timeout=120)) for _ in range(30)]
    for s in socks:
        ask(s, at, "POST", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n")
        s.sendall(body[:-1])
    for s in socks:
        s.sendall(body[-1:])
    got = [answer(s)[0] for s in socks]
    assert set(got) == {201, 403} and got.count(201) == 10, got
    a = ask_red("POST", at, configmap("more", big))
    assert (a.status, a.json["reason"]) == (403, "Forbidden")
    for words in ("namespace red", "50000 objects", "256 MiB", f"{fit + 3} of 25", "delete"):  # and two from before
        assert words in a.json["message"], a.json["message"]
    assert ask_red("POST", at, configmap("small", 0)).status == 201, "what fits is taken"
    assert ask_red("PATCH", f"{at}/small", {"data": {"x": "y" * big}}, "application/merge-patch+json").status == 403
    fill = 0
    for size in (20_000, 0):
        while ask_red("POST", at, configmap(f"fill{fill}", size)).status == 201:
            fill += 1

    def grow(who, n):
        return server.request("PATCH", f"{OF_RED}/a/status", {"status": {"conditions": [
            {"type": f"T{i}", "status": "True", "reason": "R", "message": "m" * 1000,
             "lastTransitionTime": "2026-01-01T00:00:00Z"} for i in range(n)]}}, "application/merge-patch+json",
            conn=server.connection(who))

    assert grow(AGENT, 1).status == 200, "an agent's status"
    assert grow(CONTROLLER, 2).status == 200
    event = {"metadata": {"generateName": "e"}, "source": {"host": "h1"}, "reason": "R", "type": "Normal", "message": "m",
             "involvedObject": {"kind": "Instance", "namespace": "red", "name": "a"}}
    a = server.request("POST", "/api/v1/namespaces/red/events", event, conn=server.connection(AGENT))
    assert a.status == 201, a.text
    others_go_on(server)
    assert ask_red("PATCH", f"{at}/c0", {"data": {"x": ""}}, "application/merge-patch+json").status == 200
    assert ask_red("POST", at, configmap("again", big - 100_000)).status == 201
    # The count is of what is stored, and the same after a restart.
    server.stop()
    server.start()
    red = server.connection(RED)
    assert ask_red("POST", at, configmap("more", big)).status == 403
    assert ask_red("DELETE", f"{at}/c1").status == 200
    assert ask_red("POST", at, configmap("more", big - 100_000)).status == 201


def test_events_of_a_namespace(tenants):
    server, _ = tenants
    at = "/api/v1/namespaces/red/events"
    conn = server.connection(CONTROLLER)
    event = lambda n: {"metadata": {"name": f"e{n}", "annotations": {"x": "y" * 250_000}}, "reason": "R", "type": "Normal",
                       "message": "m", "involvedObject": {"kind": "Instance", "namespace": "red", "name": "a"}}
    n = 0
    while (a := server.request("POST", at, event(n), conn=conn)).status == 201:
        n += 1
        assert n < 300
    assert a.status == 403 and n == (32 << 20) // 250_500 and "20000 Events of 32 MiB" in a.json["message"], (n, a.text)
    assert server.request("POST", OF_RED, instance("a", "red"), conn=server.connection(RED)).status == 201


def test_firewalls_of_a_namespace(tenants):
    server, _ = tenants
    at, red = f"{G}/namespaces/red/firewalls", server.connection(RED)
    firewall = lambda n: {"apiVersion": "nacre.dev/v1alpha1", "kind": "Firewall", "metadata": {"name": f"f{n}"},
                          "spec": {"instances": {}}}
    for n in range(100):
        a = server.request("POST", at, firewall(n), conn=red)
        assert a.status == 201, a.text
    a = server.request("POST", at, firewall(100), conn=red)
    assert a.status == 403 and "100 Firewalls of 16 MiB" in a.json["message"], a.text
    # What exists may be changed, and other objects and namespaces have their own room.
    change = {"spec": {"ingress": [{"protocol": "tcp", "port": 22}]}}
    assert server.request("PATCH", f"{at}/f0", change, "application/merge-patch+json", conn=red).status == 200
    assert server.request("POST", OF_RED, instance("a", "red"), conn=red).status == 201
    assert server.request("DELETE", f"{at}/f1", conn=red).status == 200
    assert server.request("POST", at, firewall(100), conn=red).status == 201
    # Their bytes have a limit, too.
    large = {"metadata": {"annotations": {"x": "y" * 250_000}}}
    codes = [server.request("PATCH", f"{at}/f{n}", large, "application/merge-patch+json", conn=red).status for n in range(2, 72)]
    n = codes.count(200)
    assert codes == [200] * n + [403] * (70 - n) and n == (16 << 20) // 250_700, codes


@pytest.mark.skipif(not ALL, reason="makes 50,000 objects")
def test_objects_of_a_namespace(tenants):
    server, _ = tenants
    at = "/api/v1/namespaces/red/configmaps"
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.socket(RED, timeout=120)) for _ in range(60)]
        codes = []
        while 403 not in codes:
            body = b'{"metadata":{"generateName":"c"}}'
            for s in socks:
                ask(s, at, "POST", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n")
                s.sendall(body)
            now = [answer(s)[0] for s in socks]
            codes += now
            if 429 in now:  # the user has no processor time left
                time.sleep(1)
        assert set(codes) - {429} == {201, 403} and 49_990 <= codes.count(201) <= 50_000, codes.count(201)
    assert server.request("DELETE", at, conn=server.connection(RED)).status == 200
    # So many deletions may have used up the user's processor time.
    eventually("there is room again", 60, lambda: server.request("POST", at, configmap("again"),
                                                                 conn=server.connection(RED)).status == 201)
