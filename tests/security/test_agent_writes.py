# SPDX-License-Identifier: Apache-2.0
"""What one agent writes is small, and takes nothing from others. tests/api/test_agents.py tests the rules one by one,
on kube-apiserver too."""

import json

from agents import E1, H1, H2, L1, I, as_user, cloud, thing
from apilib import G

EVENTS = "/api/v1/namespaces/default/events"
BIG = "x" * 1_400_000


def test_big_endpoints(server):
    """Once possible: 100 Endpoints of 1.4 MiB by one agent, which server, controller and all agents had to hold."""
    cloud(server)
    of = server.get(f"{I}/a").json
    spec = {"host": "h1", "vtep": "fd00::1", "ip": "fd01::1", "mac": "02:00:00:00:00:01",
            "owner": {"kind": "Instance", "namespace": "default", "name": "a", "uid": of["metadata"]["uid"]}}
    own, ask = f"i-{of['metadata']['uid']}", as_user(server, H1)
    for n in range(10):
        for name in (own, f"e{n}"):
            for more in ({"annotations": {"a": BIG[:200_000]}}, {"labels": {"a": "b"}}, {"finalizers": ["a.b/c"]}):
                assert ask("POST", f"{G}/endpoints", thing("Endpoint", name, spec, **more)).status in (403, 413)
        assert ask("POST", f"{G}/endpoints", {**thing("Endpoint", own, {**spec, "owner": {**spec["owner"], "kind": BIG}})}).status in (413, 422)
    assert server.list(f"{G}/endpoints")["items"] == []
    assert ask("POST", f"{G}/endpoints", thing("Endpoint", own, spec)).status == 201
    # Other users may not make large Endpoints either, since every host holds all of them.
    a = server.post(f"{G}/endpoints", thing("Endpoint", "by-hand", spec, annotations={"a": "x" * 20_000}))
    assert a.status == 413 and "16384" in a.json["message"], a.text
    server.create(thing("Endpoint", "by-hand", spec, annotations={"a": "x" * 10_000}))
    assert server.patch(f"{G}/endpoints/by-hand", {"metadata": {"annotations": {"b": "x" * 10_000}}}).status == 413


def test_flood_of_events(server):
    """The limit holds over many connections, and nobody else is delayed."""
    cloud(server)
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "e", "namespace": "default"}, "reason": "R",
             "involvedObject": {"kind": "Instance", "namespace": "default", "name": "a"}, "source": {"host": "h1"}}
    made, refused = 0, None
    while not refused:
        assert made < 5000
        conn = server.connection(H1)
        for _ in range(200):
            a = server.request("POST", EVENTS, event, conn=conn)
            if a.status != 201:
                refused = a
                break
            made += 1
        conn.close()
    assert refused.status == 429 and refused.headers["Retry-After"] and "agent system:nacre:host:h1" in refused.json["message"]
    assert made >= 1000
    # Requests that change nothing are not counted.
    assert as_user(server, H1)("POST", EVENTS + "?dryRun=All", event).status == 201
    other = {**event, "source": {"host": "h2"}, "involvedObject": {**event["involvedObject"], "name": "b"}}
    assert as_user(server, H2)("POST", EVENTS, other).status == 201
    assert as_user(server, H1)("PATCH", f"{I}/a/status", {"status": {"phase": "Running"}}).status == 200


def test_big_events(server):
    cloud(server)
    ask = as_user(server, H1)
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "reason": "R",
             "involvedObject": {"kind": "Host", "name": "h1"}, "source": {"host": "h1"}}
    for more in ({"message": "x" * 1025}, {"related": {"name": BIG}}, {"unknown": BIG}, {"series": {"x": "y" * 10_000}},
                 {"source": {"host": "h1", "component": "x" * 10_000}}, {"metadata": {**event["metadata"], "annotations": {"a": "b"}}}):
        assert ask("POST", EVENTS, {**event, **more}).status in (403, 413, 422), json.dumps(more)[:100]
    assert ask("POST", EVENTS, event).status == 201
    for more in ({"related": {"name": "x" * 10_000}}, {"unknown": BIG[:10_000]}):
        a = ask("PATCH", f"{EVENTS}/e", more)
        assert a.status in (200, 403) and len(server.get(f"{EVENTS}/e").text) < 8192, a.text


def test_an_edge_has_one_endpoint(server):
    cloud(server)
    ask = as_user(server, E1)
    spec = {"host": "e1", "vtep": "fd00::3", "ip": "fd02::1", "mac": "02:00:00:00:00:03", "routes": [{"prefix": "::/0"}]}
    for name in ("edge-e2", "edge-h1", "out", "i-0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab"):
        assert ask("POST", f"{G}/endpoints", thing("Endpoint", name, spec)).status == 403
    assert ask("POST", f"{G}/endpoints", thing("Endpoint", "edge-e1", spec)).status == 201
    # The edge that owns the name can announce itself.
    assert as_user(server, ("system:nacre:edge:e2", E1[1]))("POST", f"{G}/endpoints", thing(
        "Endpoint", "edge-e2", {**spec, "host": "e2", "vtep": "fd00::4", "ip": "fd02::2"})).status == 201


def test_a_balancer_takes_no_traffic_of_others(server):
    """Its one Endpoint can attract packets for shared addresses, and those of nobody else."""
    cloud(server)
    server.create(thing("Host", "l1", {"role": "balancer", "vtep": "fd00::9"}))
    server.create(thing("AddressPool", "shared", {"use": "shared", "prefix": "198.51.100.0/24"}))
    server.create(thing("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.0/24"}))
    server.create(thing("AddressPool", "net", {"use": "instance", "prefix": "2001:db8::/40"}))
    ask = as_user(server, L1)
    spec = {"host": "l1", "vtep": "fd00::9", "ip": "fd02::9", "mac": "02:00:00:00:00:09"}

    def post(name, *routes):
        return ask("POST", f"{G}/endpoints", thing("Endpoint", name, {**spec, "routes": list(routes)})).status

    shared = {"prefix": "198.51.100.0/24"}
    for prefix in ("0.0.0.0/0", "::/0", "203.0.113.0/24", "203.0.113.7/32", "198.51.100.7/32", "2001:db8::/40", "2001:db8:1::/64"):
        assert post("lb-l1", shared, {"prefix": prefix}) == 403, prefix
    assert post("lb-l1", {"prefix": "198.51.100.7/32", "firstPort": 1024, "lastPort": 1535}) == 403
    for name in ("lb-l2", "edge-l1", "edge-e1", "out", "i-0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab"):
        assert post(name, shared) == 403, name
    assert post("lb-l1", shared) == 201
    for kind, path in (("instances", f"{I}/a"), ("edgepeers", f"{G}/edgepeers/p1"), ("pools", f"{G}/addresspools/shared")):
        assert ask("PATCH", f"{path}/status", {"status": {}}).status == 403, kind
    for path in (I, f"{G}/edgepeers", f"{G}/allocations", "/api/v1/namespaces/default/secrets"):
        assert ask("GET", path).status == 403, path
    for path in (f"{G}/endpoints", f"{G}/addresspools", f"{G}/hosts/l1"):
        assert ask("GET", path).status == 200, path
    assert ask("GET", f"{G}/hosts/h1").status == 403
