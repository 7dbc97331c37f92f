# SPDX-License-Identifier: Apache-2.0
"""Nacre's finalizers stay until Nacre removes them, however a tenant writes the object. On both servers."""

import json

import pytest
from apilib import G, JSONPATCH, MERGE, Kube, eventually, instance

I = f"{G}/namespaces/default/instances"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
OURS, FOREIGN = "nacre.dev/instance", "example.com/x"
TENANT, CONTROLLER = ("tina",), ("system:nacre:controller",)
APPLY = "application/apply-patch+yaml"

pytestmark = pytest.mark.both


@pytest.fixture
def ask(server):
    """Requests as a user. User tina may edit everything of Nacre in the namespace."""
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "tina"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nacre:edit"},
               "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tina"}]}
    bindings = f"{RBAC}/namespaces/default/rolebindings"
    assert server.post(bindings, binding).status == 201

    def request(user, method, path, body=None, type="application/json"):
        conn = server.connection(user)
        try:
            return server.request(method, path, body, type, conn=conn)
        finally:
            conn.close()
    eventually("tina may", 10, lambda: request(TENANT, "GET", I).status == 200)
    yield request
    server.delete(f"{bindings}/tina")


def held(server, ask, name="a"):
    """An Instance with the controller's finalizer."""
    return server.create(instance(name, meta={"finalizers": [FOREIGN, OURS]}))


def refused(a):
    assert a.status == 403 and OURS.split("/")[0] in a.json["message"], a.text
    for words in ("metadata.finalizers", "may not be removed", "tina may not update instances/finalizers"):
        assert words in a.json["message"], a.text


def kept_or_refused(server, a, others=()):
    """After a PUT without the finalizer: nacre-apiserver keeps it; kube-apiserver's policies can only refuse."""
    if isinstance(server, Kube):
        return refused(a)
    assert a.status == 200 and a.json["metadata"]["finalizers"] == [*others, OURS], a.text


def test_a_tenant_cannot_take_it_away(server, ask):
    o = held(server, ask)
    path = f"{I}/a"
    # Like kubectl replace with a file of the tenant's: kubectl adds only the version.
    kept_or_refused(server, ask(TENANT, "PUT", path, {**o, "metadata": {k: v for k, v in o["metadata"].items()
                                                                        if k != "finalizers"}}))
    o = server.patch(path, {"metadata": {"finalizers": [FOREIGN, OURS]}}).json
    for meta in ({}, {"finalizers": []}, {"finalizers": ["example.com/y"]}):
        o = server.get(path).json
        a = ask(TENANT, "PUT", path, instance("a", meta={"resourceVersion": o["metadata"]["resourceVersion"], **meta},
                                              running=len(meta) > 0))
        kept_or_refused(server, a, meta.get("finalizers", []))
    assert server.patch(path, {"metadata": {"finalizers": [FOREIGN, OURS]}}).status == 200
    for body, type in (({"metadata": {"finalizers": None}}, MERGE), ({"metadata": {"finalizers": []}}, MERGE),
                       ({"metadata": {"finalizers": [FOREIGN]}}, MERGE),
                       ([{"op": "remove", "path": "/metadata/finalizers"}], JSONPATCH),
                       ([{"op": "replace", "path": "/metadata/finalizers/1", "value": "nacre.dev/other"}], JSONPATCH)):
        refused(ask(TENANT, "PATCH", path, body, type))
    # The tenant may remove his own finalizer and change everything else, also while the object is being deleted.
    a = ask(TENANT, "PATCH", path, {"metadata": {"finalizers": [OURS], "labels": {"x": "y"}}}, MERGE)
    assert a.status == 200 and a.json["metadata"]["finalizers"] == [OURS], a.text
    assert ask(TENANT, "DELETE", path).status == 200
    kept_or_refused(server, ask(TENANT, "PUT", path, instance("a", meta={"resourceVersion": server.get(path).json["metadata"][
        "resourceVersion"]})))
    refused(ask(TENANT, "PATCH", path, {"metadata": {"finalizers": None}}, MERGE))
    assert server.get(path).json["metadata"]["finalizers"] == [OURS]
    # The controller may remove the finalizer; then the object is gone.
    assert ask(CONTROLLER, "PATCH", path, {"metadata": {"finalizers": None}}, MERGE).status == 200
    assert server.get(path).status == 404


def test_apply_keeps_it(server, ask):
    """An apply without the finalizer doesn't own it: the finalizer stays, and the apply succeeds."""
    body = json.dumps(instance("b"))
    at = f"{I}/b?fieldManager=tina"
    assert ask(TENANT, "PATCH", at, body, APPLY).status == 201
    a = ask(CONTROLLER, "PATCH", f"{I}/b", {"metadata": {"finalizers": [OURS]}}, MERGE)
    assert a.status == 200, a.text
    a = ask(TENANT, "PATCH", at, json.dumps(instance("b", running=False)), APPLY)
    assert a.status == 200 and a.json["metadata"]["finalizers"] == [OURS], a.text
    # If the tenant alone applied the finalizer and then omits it, the apply would remove it: refused.
    assert ask(TENANT, "PATCH", f"{I}/c?fieldManager=tina", json.dumps(instance("c", meta={"finalizers": [OURS]})),
               APPLY).status == 201
    refused(ask(TENANT, "PATCH", f"{I}/c?fieldManager=tina", json.dumps(instance("c")), APPLY))


def test_operators_may(server, ask):
    held(server, ask, "d")
    assert server.patch(f"{I}/d", {"metadata": {"finalizers": None}}).status == 200
    assert server.delete(f"{I}/d").status == 200
