# SPDX-License-Identifier: Apache-2.0
"""However full a tenant makes an object, Nacre's programs can still write their part of it."""

import pytest
from agents import H1, I, as_user, cloud

APPLY = "application/apply-patch+yaml"
CONTROLLER = ("system:nacre:controller",)


def applies(manager, **labels):
    return {"apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "a", "labels": labels}}


def fill_with_managers(server, user, path):
    """Adds field managers until one is refused. Returns the refusal."""
    own = as_user(server, user)
    for i in range(130):
        a = own("PATCH", f"{path}?fieldManager=m{i}", applies(f"m{i}", x="y"), APPLY) if user else server.patch(
            f"{path}?fieldManager=m{i}", applies(f"m{i}", x="y"), APPLY)
        if a.status != 200:
            return a
    raise AssertionError("nothing was refused")


def test_managers(server):
    """Once possible: 126 managers by the tenant, after which the agent's first status was refused for ever."""
    cloud(server)
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "tina"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
               "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tina"}]}
    assert server.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding).status == 201
    tina = as_user(server, ("tina",))
    a = fill_with_managers(server, ("tina",), f"{I}/a")
    assert a.status == 422 and "metadata.managedFields: Too many: 101: must have at most 100 items" in a.text, a.text
    # An administrator may add more, up to another limit; Nacre's programs can still write.
    a = fill_with_managers(server, None, f"{I}/a")
    assert a.status == 422 and "Too many: 129: must have at most 128 items" in a.text, a.text
    agent = as_user(server, H1)
    for i, manager in enumerate(("nacre-node", "other")):
        a = agent("PATCH", f"{I}/a/status?fieldManager={manager}", {"status": {"phase": ("Running", "Failed")[i]}})
        assert a.status == 200, a.text
    controller = as_user(server, CONTROLLER)
    a = controller("PATCH", f"{I}/a", {"metadata": {"finalizers": ["nacre.dev/instance"]}})
    assert a.status == 200 and len(a.json["metadata"]["managedFields"]) > 128, a.text
    # The tenant can write too, in each way, as long as it adds no entry.
    assert tina("PATCH", f"{I}/a?fieldManager=new", {"metadata": {"labels": {"new": "y"}}}).status == 422, "of a new manager"
    assert tina("PATCH", f"{I}/a?fieldManager=m1", applies("m1"), APPLY).status == 200
    now = tina("GET", f"{I}/a").json
    kept = [e for e in now["metadata"]["managedFields"] if e["operation"] == "Update"]
    a = tina("PUT", f"{I}/a", {**now, "metadata": {**now["metadata"], "managedFields": kept}})
    assert a.status == 200 and len(a.json["metadata"]["managedFields"]) < 10, a.text


@pytest.mark.parametrize("fill", ["values", "bytes"])
def test_values_and_bytes(server, fill):
    """Managers that own all labels: 20,000 values, or 1.5 MiB."""
    cloud(server)
    prefix, n = (".".join(["x" * 50] * 4) + "/" + "y" * 60, 100) if fill == "bytes" else ("l", 250)
    labels = {f"{prefix}{i}": "z" for i in range(n)}
    for i in range(100):
        a = server.patch(f"{I}/a?fieldManager={i}", applies("", **labels), APPLY)
        if a.status != 200:
            break
    assert a.status == (413 if fill == "bytes" else 422), a.text[:300]
    agent = as_user(server, H1)
    # Fill it up to the last byte and the last value.
    for n in (100_000, 10_000, 1_000, 100, 10, 1):
        at = 0
        while server.patch(f"{I}/a", {"metadata": {"annotations": {f"n{n}": "x" * n, f"{n}.{at}": ""}}}).status == 200 and at < 300:
            at += 1
    for phase in ("Running", "Failed"):
        a = agent("PATCH", f"{I}/a/status", {"status": {"phase": phase, "restarts": 3}})
        assert a.status == 200, a.text[:300]
    # The tenant may make the object smaller, and delete it.
    a = server.patch(f"{I}/a", {"metadata": {"labels": None, "annotations": None}})
    assert a.status == 200, a.text[:300]
    assert server.delete(f"{I}/a").status == 200
