# SPDX-License-Identifier: Apache-2.0
"""Who may say what is let through: tenants write Firewalls, the controller their status and the groups of Endpoints."""

import pytest
import tenant
from agents import E1, H1, H2, I, L1, as_user, cloud, thing
from apilib import MERGE, G


GROUP = "0123456789abcdef0123456789abcdef"
CONTROLLER = ("system:nacre:controller",)
OF_RED = f"{G}/namespaces/red/firewalls"


def firewall(name, ns="default", **spec):
    return thing("Firewall", name, {"instances": {}, **spec}, namespace=ns)


def groups(server, name):
    return server.get(f"{G}/endpoints/{name}").json.get("status", {}).get("groups", [])


def test_agents_put_nobody_into_a_group(server):
    cloud(server)
    of = server.get(f"{I}/a").json
    name = f"i-{of['metadata']['uid']}"
    spec = {"host": "h1", "vtep": "fd00::1", "ip": "fd01::1", "mac": "02:00:00:00:00:01",
            "owner": {"kind": "Instance", "namespace": "default", "name": "a", "uid": of["metadata"]["uid"]}}
    mine, ask, said = f"{G}/endpoints/{name}", as_user(server, H1), {"status": {"groups": [GROUP]}}
    assert ask("POST", f"{G}/endpoints", {**thing("Endpoint", name, spec), **said}).status == 201
    assert groups(server, name) == []
    for user in (H1, H2, E1, L1):
        for method in ("PATCH", "PUT"):
            assert as_user(server, user)(method, mine + "/status", {**thing("Endpoint", name, spec), **said}).status == 403
    assert ask("PATCH", mine, said).status == 200 and groups(server, name) == []
    assert as_user(server, CONTROLLER)("PATCH", mine + "/status", said).status == 200
    assert groups(server, name) == [GROUP]
    # What the agent announces anew keeps them.
    assert ask("PATCH", mine, {"status": None, "spec": {"routes": [{"prefix": "2001:db8:1::/64"}]}}).status in (200, 403)
    assert groups(server, name) == [GROUP]


@pytest.mark.parametrize("user,reads", ((H1, True), (E1, False), (L1, False)))
def test_agents_and_firewalls(server, user, reads):
    cloud(server)
    server.create(firewall("f"))
    F, ask = f"{G}/namespaces/default/firewalls", as_user(server, user)
    for path in (F, F + "/f", f"{G}/firewalls", f"{F}?watch=true&timeoutSeconds=1"):
        assert ask("GET", path).status == (200 if reads else 403)
    assert ask("POST", F, firewall("g")).status == 403
    for path in (F + "/f", F + "/f/status"):
        assert ask("PATCH", path, {"spec": {"ingress": [{}]}}).status == 403
    assert ask("DELETE", F + "/f").status == 403


def test_agents_count_for_their_own_instances(server):
    cloud(server)
    rows = {"status": {"firewall": {"droppedIn": 1, "rules": [
        {"firewall": "f", "direction": "ingress", "rule": "0", "packets": 1, "bytes": 64}]}}}
    assert as_user(server, H1)("PATCH", f"{I}/a/status", rows).status == 200
    assert as_user(server, H2)("PATCH", f"{I}/a/status", rows).status == 403


def test_a_tenant_writes_no_status(server):
    tenant.make(server, "nacre:edit")
    a = tenant.ask(server, "POST", OF_RED, {**firewall("f", "red", ingress=[{}]), "status": {"instances": 7}})
    assert a.status == 201 and "status" not in a.json
    for method in ("PATCH", "PUT"):
        assert tenant.ask(server, method, OF_RED + "/f/status", {**firewall("f", "red"), "status": {"instances": 7}},
                          MERGE if method == "PATCH" else "application/json").status == 403
    assert tenant.ask(server, "PATCH", OF_RED + "/f", {"status": {"instances": 7}}, MERGE).status == 200
    assert "status" not in tenant.ask(server, "GET", OF_RED + "/f").json
    assert tenant.ask(server, "POST", f"{G}/namespaces/default/firewalls", firewall("f")).status == 403


def test_the_largest_firewall(server):
    """10,000 rules, which have more values than other kinds may have, and not more of them."""
    tenant.make(server, "nacre:edit")
    rules = [{"name": f"r{n}", "protocol": "tcp", "port": 1 + n, "prefixes": [f"10.{n >> 8}.{n & 255}.0/24"]} for n in range(10000)]
    assert tenant.ask(server, "POST", OF_RED, firewall("f", "red", ingress=rules)).status == 201
    was = tenant.ask(server, "GET", OF_RED + "/f").json
    assert len(was["spec"]["ingress"]) == 10000
    assert tenant.ask(server, "PUT", OF_RED + "/f", was).status == 200
    assert tenant.ask(server, "PATCH", OF_RED + "/f", {"spec": {"ingress": rules[:9999]}}, MERGE).status == 200
    # Nacre's programs read it.
    assert as_user(server, H1)("GET", f"{G}/firewalls").json["items"][0]["spec"]["ingress"][0]["name"] == "r0"
    tenant.refused(server, tenant.ask(server, "POST", OF_RED, firewall("g", "red", ingress=[{}] * 10001)),
                   "spec.ingress: Too many: 10001: must have at most 10000 items")
    tenant.refused(server, tenant.ask(server, "POST", OF_RED, firewall("g", "red", x=[0] * 100_000)),
                   "more than 100000 values besides metadata.managedFields")
    tenant.refused(server, tenant.ask(server, "POST", OF_RED, firewall("g", "red", x=[0] * 110_001)), "more than 110000 values")
