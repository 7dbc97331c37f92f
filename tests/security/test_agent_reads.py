# SPDX-License-Identifier: Apache-2.0
"""An agent sees what its host needs and nothing of other hosts, however it asks."""

import itertools

import pytest
from agents import E1, H1, H2, I, LEASES, as_user, cloud
from apilib import JSONPATCH, MERGE, G, V, instance

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
FORMS = ("application/json", TABLE, PARTIAL)
MINE = "fieldSelector=status.host=h1"


def refused(a):
    """The answer also reveals nothing about the object, not even its host."""
    assert a.status in (403, 404), a.text
    for word in ("of-b", "of-c", "small", "h2", "fd01::2", '"uid"', "64513"):
        assert word not in a.text, a.text


@pytest.fixture
def ask(server):
    return as_user(cloud(server), H1)


@pytest.mark.parametrize("accept", FORMS)
def test_no_path_leads_to_an_instance_of_another(ask, accept):
    """One parse of the path decides both what is authorized and what is served."""
    prefixes = (G, G.replace("/apis", "//apis"), G.replace("/v1", "/watch/v1"), G + "/watch", G.replace("nacre", "n%61cre"))
    paths = ("/namespaces/default/instances/b", "//namespaces/default//instances//b", "/namespaces/default/instances/b/",
             "/namespaces/default/instances/%62", "/namespaces/default/instances/b/status", "/namespaces%2fdefault/instances/b",
             "/namespaces/default/instances/a%2f..%2fb", "/instances/b")
    queries = ("", "?watch=true", f"?{MINE}", f"?watch=true&{MINE}", f"?watch=1&{MINE}&watch=0", f"?watch=false&watch=true&{MINE}",
               f"?watch=&{MINE}", f"?watch=true&fieldSelector=status.host=h2&{MINE}", f"?w%61tch=true&{MINE}")
    for prefix, path, query in itertools.product(prefixes, paths, queries):
        refused(ask("GET", prefix + path + query, headers={"Accept": accept}))


def test_no_selector_leads_to_an_instance_of_another(ask):
    for path, watch in itertools.product((f"{G}/instances", I, I + "/", I.replace("/instances", "//instances")), ("", "&watch=true", "&watch")):
        for selector in ("", "fieldSelector=status.host=h2", "fieldSelector=status.host!=h1", "fieldSelector=status.host=h1x",
                         "labelSelector=status.host=h1", "fieldSelector=metadata.name!=x%5C%2Cstatus.host=h1",
                         "fieldSelector=metadata.name!=x%5C,status.host%3Dh1", f"fieldSelector=&{MINE}",
                         f"fieldSelector=metadata.name=b&{MINE}", "fieldSelector=status.host%5C=h1", "fieldSelector=metadata.name=b"):
            a = ask("GET", f"{path}?{selector}{watch}")
            if a.status != 400:
                refused(a)
    # Both selectors must match: no Instance is on two hosts.
    assert ask("GET", f"{G}/instances?fieldSelector=status.host=h2,status.host=h1").json["items"] == []
    assert [o["metadata"]["name"] for o in ask("GET", f"{G}/instances?{MINE}").json["items"]] == ["a"]
    assert ask("GET", f"{I}/a").json["metadata"]["name"] == "a"
    # watch=true on a named object is a plain read, as on kube-apiserver.
    assert ask("GET", f"{I}/a?watch=true").json["metadata"]["name"] == "a"


APPLY = "application/apply-patch+yaml"


def answers(ask, of):
    """Answers to requests that change nothing; only their text could reveal something."""
    found = []
    for path, query in itertools.product((f"{I}/{of}/status", f"{I}/{of}"), ("", "?dryRun=All&fieldValidation=Strict")):
        for accept in FORMS:
            for type, body in ((MERGE, {}), (MERGE, {"status": {"phase": "Nonsense"}}), (JSONPATCH, []), (MERGE, {"metadata": {"name": "x"}}),
                               (JSONPATCH, [{"op": "test", "path": "/status/host", "value": "h1"}]), (MERGE, {"apiVersion": "v2"}),
                               (JSONPATCH, [{"op": "copy", "from": "/spec/type", "path": "/kind"}]),
                               (MERGE, {"metadata": {"resourceVersion": "1"}})):
                found.append(ask("PATCH", path + query, body, type, headers={"Accept": accept}))
            found.append(ask("PUT", path + query, {**instance(of), "status": {"host": "h1"}}, headers={"Accept": accept}))
        found.append(ask("PATCH", path + query + ("&" if query else "?") + "force=true", "{}", APPLY))
    found.append(ask("DELETE", f"{I}/{of}", {"preconditions": {"uid": "x"}}))
    for a in found:
        refused(a)
    return [a.text.replace(f'"{of}"', "").replace(f'\\"{of}\\"', "") for a in found]


def test_no_write_shows_an_instance_of_another(server, ask):
    before = server.get(f"{I}/b").json
    assert answers(ask, "b") == answers(ask, "c") == answers(ask, "nobody")
    assert server.get(f"{I}/b").json == before


def test_hosts_leases_and_peers_of_others(server):
    h1, e1 = as_user(cloud(server), H1), as_user(server, E1)
    for ask, own, other in ((h1, "h1", "h2"), (e1, "e1", "e2")):
        for path in (f"{G}/hosts/{other}", f"{G}/hosts/{other}/status", f"{LEASES}/host-{other}", f"{LEASES}/nacre-controller",
                     f"{G}/hosts/none", f"{LEASES.replace('nacre-system', 'default')}/host-{own}"):
            for accept, query in itertools.product(FORMS, ("", "?watch=true", f"?fieldSelector=metadata.name={own}", "?dryRun=All")):
                assert ask("GET", path + query, headers={"Accept": accept}).status == 403
                assert ask("PATCH", path + query, {}, headers={"Accept": accept}).status == 403
        for query in ("", "?watch=true", f"?fieldSelector=metadata.name={other}", f"?fieldSelector=metadata.name!={other}"):
            assert ask("GET", f"{G}/hosts{query}").status == 403
        assert len(ask("GET", f"{G}/hosts?fieldSelector=metadata.name={own}").json["items"]) == 1
        assert ask("GET", f"{LEASES}/host-{own}").status == ask("GET", f"{G}/hosts/{own}").status == 200
    for path in (f"{G}/edgepeers", f"{G}/edgepeers?fieldSelector=spec.edge=e2", f"{G}/edgepeers/p2", f"{G}/edgepeers/p2?watch=true",
                 f"{G}/edgepeers/none", f"{G}/edgepeers/p2/status"):
        refused(e1("GET", path))
    refused(e1("PATCH", f"{G}/edgepeers/p2/status", {}))
    assert [o["metadata"]["name"] for o in e1("GET", f"{G}/edgepeers?fieldSelector=spec.edge=e1").json["items"]] == ["p1"]
    assert e1("GET", f"{G}/edgepeers/p1").status == 200


def test_events_of_others(server):
    ask = as_user(cloud(server), H1)
    events = "/api/v1/namespaces/default/events"
    server.create({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "message": "of-b",
                   "involvedObject": {"kind": "Instance", "namespace": "default", "name": "b"}, "source": {"host": "h2"}})
    for query, type, body in itertools.product(("", "?dryRun=All"), (MERGE, JSONPATCH, APPLY), ({}, [])):
        a = ask("PATCH", f"{events}/e{query}", body, type)
        assert a.status in (400, 403, 415) and "of-b" not in a.text, a.text
    for path in (events, f"{events}/e", f"{events}?watch=true"):
        refused(ask("GET", path))


def test_nothing_else_however_much_a_role_gives(server):
    """An operator may have bound the agents' groups to a role such as view."""
    cloud(server)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    assert server.post(f"{rbac}/clusterrolebindings", {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": g, "apiGroup": "rbac.authorization.k8s.io"} for g in (H1[1], E1[1])]}).status == 201
    server.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "stringData": {"k": "of-b"}})
    for user in (H1, E1):
        ask = as_user(server, user)
        for plural in ("secrets", "configmaps", "serviceaccounts", "events"):
            for path in (f"/api/v1/{plural}", f"/api/v1/namespaces/default/{plural}", f"/api/v1/namespaces/default/{plural}/s",
                         f"/api/v1/namespaces/default/{plural}?watch=1", f"/api/v1/namespaces/default/{plural}/s?watch=1"):
                refused(ask("GET", path))
        for path in (f"{G}/allocations", f"{G}/clusters", f"{G}/tenantquotas", f"{rbac}/clusterroles", LEASES, f"{G}/instances",
                     f"{G}/hosts", "/api/v1/namespaces", f"{G}/addresspools" if user is H1 else f"{G}/instances/a"):
            refused(ask("GET", path))
        refused(ask("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", {}))
        refused(ask("PATCH", "/api/v1/namespaces/default/secrets/s", {}))
        refused(ask("POST", f"{G}/clusters", {"apiVersion": V}))


CONTROLLER = ("system:nacre:controller", "system:authenticated")
RBAC = "/apis/rbac.authorization.k8s.io/v1"
SECRETS = "/api/v1/namespaces/{}/secrets"


def grant(ask, ns, host, *names, **rule):
    """As the controller does; returns the answers."""
    def rbac(name):
        return {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name, "labels": {"nacre.dev/grant": "host-secrets"}}}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(names), "verbs": ["get"], **rule}]
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"nacre-host-{host}-r"}
    subjects = [{"kind": "User", "name": f"system:nacre:host:{host}", "apiGroup": "rbac.authorization.k8s.io"}]
    return (ask("POST", f"{RBAC}/namespaces/{ns}/roles", {**rbac(f"nacre-host-{host}-r"), "kind": "Role", "rules": rules}),
            ask("POST", f"{RBAC}/namespaces/{ns}/rolebindings", {**rbac(f"nacre-host-{host}"), "kind": "RoleBinding", "roleRef": ref, "subjects": subjects}))


def test_secrets_that_instances_name(server):
    """Exactly those that the controller grants, one by one, however much another role gives; none before and after."""
    cloud(server)
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    for ns, name in itertools.product(("default", "other"), ("named", "unnamed")):
        server.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": ns}, "stringData": {"k": "of-b"}})
    paths = [f"{SECRETS.format(ns)}/{name}" for ns, name in itertools.product(("default", "other"), ("named", "unnamed", "none"))]
    h1, h2, e1, controller = (as_user(server, user) for user in (H1, H2, E1, CONTROLLER))
    named = paths[0]

    def readable(ask):
        return [p for p in paths if ask("GET", p).status == 200]
    assert not readable(h1)
    assert [a.status for a in grant(controller, "default", "h1", "named")] == [201, 201]
    assert server.post(f"{RBAC}/clusterrolebindings", {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": g, "apiGroup": "rbac.authorization.k8s.io"} for g in (H1[1], E1[1])]}).status == 201
    assert readable(h1) == [named] and not readable(h2) and not readable(e1)
    # Neither a list nor a watch leads to it, and it can't be written.
    for query in ("", "?watch=1", "?fieldSelector=metadata.name=named", "?watch=1&fieldSelector=metadata.name=named"):
        for path in ("/api/v1/secrets", SECRETS.format("default")):
            refused(h1("GET", path + query))
    for method, body in (("PATCH", {}), ("PUT", {"metadata": {"name": "named"}}), ("DELETE", None)):
        refused(h1(method, named, body))
    # The answer is the same whether a Secret exists or not.
    assert h1("GET", paths[1]).text.replace("unnamed", "") == h1("GET", paths[2]).text.replace("none", "")
    for kind in ("roles", "rolebindings"):
        refused(h1("GET", f"{RBAC}/namespaces/default/{kind}/nacre-host-h1{'-r' if kind == 'roles' else ''}"))
    assert controller("DELETE", f"{RBAC}/namespaces/default/roles/nacre-host-h1-r").status == 200
    assert not readable(h1)


def test_a_role_of_a_tenant_gives_agents_no_more(server):
    """A tenant may grant what is his; other namespaces have nothing to do with that."""
    cloud(server)
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    for ns in ("default", "other"):
        server.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": ns}, "stringData": {"k": "of-b"}})
    assert server.post(f"{RBAC}/namespaces/default/rolebindings", {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "t"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "User", "name": "tenant", "apiGroup": "rbac.authorization.k8s.io"}]}).status == 201
    tenant, h1 = as_user(server, ("tenant", "system:authenticated")), as_user(server, H1)
    assert {a.status for a in grant(tenant, "other", "h1", "s")} == {403}
    assert [a.status for a in grant(tenant, "default", "h1", "s")] == [201, 201]
    assert h1("GET", f"{SECRETS.format('default')}/s").status == 200
    refused(h1("GET", f"{SECRETS.format('other')}/s"))


def test_the_controller_grants_only_that(server):
    """It may get Secrets, since nobody grants what he may not do, and so can grant nothing else of them."""
    cloud(server)
    controller = as_user(server, CONTROLLER)
    for more in ({"verbs": ["list"]}, {"verbs": ["get", "watch"]}, {"verbs": ["*"]}, {"resources": ["*"]}, {"apiGroups": ["*"]},
                 {"resources": ["configmaps"]}, {"verbs": ["update"]}):
        role, _ = grant(controller, "default", "h1", "s", **more)
        assert role.status == 403 and "attempting to grant RBAC permissions not currently held" in role.text, role.text
    for path in ("/api/v1/secrets", SECRETS.format("default")):
        for query in ("", "?watch=1"):
            assert controller("GET", path + query).status == 403
    assert controller("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "x"}}).status == 403
    assert controller("POST", f"{RBAC}/clusterrolebindings", {"metadata": {"name": "x"}}).status == 403
