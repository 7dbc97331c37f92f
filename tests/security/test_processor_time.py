# SPDX-License-Identifier: Apache-2.0
"""A tenant whose requests take much processor time has to wait, while others, agents and the controller go on.
src/apiserver/request/test-limits.c tests the numbers, with a simulated clock."""

from harness import eventually
from tenant import CONFIGMAPS, RBAC, ask, make

GROUP = RBAC[6:-3]
# A small request that takes the server some 15 ms: each of its groups has a role of many rules. The client's time is
# small.
REVIEW = {"spec": {"user": "u", "groups": [f"g{i}" for i in range(255)],
                   "resourceAttributes": {"verb": "get", "resource": "events", "namespace": "red"}}}
REVIEWS = "/apis/authorization.k8s.io/v1/namespaces/red/localsubjectaccessreviews"


def make_rules(server):
    rules = [{"verbs": [f"v{i}-{j}" for j in range(190)], "apiGroups": [""], "resources": ["events"]} for i in range(50)]
    assert server.post(f"{RBAC}/namespaces/red/roles", {"metadata": {"name": "r"}, "rules": rules}).status == 201
    assert server.post(f"{RBAC}/namespaces/red/rolebindings", {
        "metadata": {"name": "r"}, "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": f"g{i}"} for i in range(255)]}).status == 201


def metric(server, name):
    return float(next(x for x in server.get("/metrics").text.splitlines() if x.startswith(name)).split()[-1])


def test_costly_tenant(strict_server):
    server = strict_server
    make(server)
    make_rules(server)
    with server.socket(("red",), timeout=60) as s:
        s.sendall(f"GET {CONFIGMAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        conn = server.connection(("red",))
        for _ in range(2000):
            a = server.request("POST", REVIEWS, REVIEW, conn=conn)
            if a.status != 201:
                break
        conn.close()
        assert a.status == 429 and a.json["reason"] == "TooManyRequests", a.text[:500]
        assert "user red" in a.json["message"] and "processor time" in a.json["message"]
        assert a.json["details"]["retryAfterSeconds"] > 0
        # Others, an agent and the controller go on, and so does the tenant's watch.
        for user in (("blue",), ("system:nacre:host:h1", "system:nacre:hosts"), ("system:nacre:controller",)):
            assert ask(server, "GET", "/api", user=user).status == 200, user
        assert server.post(CONFIGMAPS, {"metadata": {"name": "c"}}).status == 201
        data = b""
        while b'"ADDED"' not in data:
            more = s.recv(65536)
            assert more, data
            data += more
    assert metric(server, 'nacre_apiserver_refused_total{limit="time"}') >= 1
    assert metric(server, 'nacre_apiserver_charged_cpu_seconds_total{work="requests"}') >= 2
    eventually("it may ask again", 60, lambda: ask(server, "GET", CONFIGMAPS).status == 200)
