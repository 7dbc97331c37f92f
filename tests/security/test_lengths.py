# SPDX-License-Identifier: Apache-2.0
"""Lists that are too long are refused before anything else is done with them, in the words of kube-apiserver.
test_cost.py counts what that costs."""

import json

import pytest
from apilib import JSONPATCH, MERGE, V, instance
from tenant import CONFIGMAPS, OF_RED, RBAC, ask, make, refused

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
N = 1_900


def owners(n):
    return [{"apiVersion": V, "kind": "Image", "name": f"o{i}", "uid": f"{i}"} for i in range(n)]


def managers(n):
    return [{"manager": f"m{i}", "operation": "Update", "apiVersion": V, "fieldsType": "FieldsV1",
             "fieldsV1": {"f:spec": {"f:type": {}}}} for i in range(n)]


LISTS = {  # lists of metadata: too many elements, and the limit
    "ownerReferences": (owners(N), 64),
    "finalizers": ([f"nacre.dev/f{i}" for i in range(N)], 64),
    "labels": ({f"l{i}": "x" for i in range(N)}, 256),
    "annotations": ({f"l{i}": "x" for i in range(N)}, 256),
}


@pytest.fixture
def red(server):
    make(server)
    assert ask(server, "POST", OF_RED, instance("a", "red")).status == 201
    assert ask(server, "POST", CONFIGMAPS, {"metadata": {"name": "a"}}).status == 201
    return server


def test_metadata(red):
    for field, (value, limit) in LISTS.items():
        want = f"metadata.{field}: Too many: {N}: must have at most {limit} items"
        obj = instance("b", "red", meta={field: value})
        refused(red, ask(red, "POST", OF_RED, obj), want, "FieldValueTooMany")
        refused(red, ask(red, "PATCH", OF_RED + "/b?fieldManager=m", obj, APPLY), want)
        was = ask(red, "GET", OF_RED + "/a").json
        refused(red, ask(red, "PUT", OF_RED + "/a", {**was, "metadata": {**was["metadata"], field: value}}), want)
        refused(red, ask(red, "PATCH", OF_RED + "/a", {"metadata": {field: value}}, MERGE), want)
        refused(red, ask(red, "PATCH", OF_RED + "/a", [{"op": "add", "path": f"/metadata/{field}", "value": value}], JSONPATCH),
                want)
        for key in (field, f"$setElementOrder/{field}", f"$deleteFromPrimitiveList/{field}"):
            if isinstance(value, list) or key == field:
                a = ask(red, "PATCH", CONFIGMAPS + "/a", {"metadata": {key: value}}, STRATEGIC)
                refused(red, a, f"Too many: {N}: must have at most {limit} items", field)


def test_managed_fields(red):
    was = ask(red, "GET", OF_RED + "/a").json
    many = {**was, "metadata": {**was["metadata"], "managedFields": managers(1_000)}}
    want = "metadata.managedFields: Too many: 1000: must have at most 128 items"
    refused(red, ask(red, "PUT", OF_RED + "/a", many), want)
    refused(red, ask(red, "POST", OF_RED, instance("b", "red", meta={"managedFields": managers(1_000)})), want)
    # Entries of apply are never merged, as in Kubernetes: a user's 101st is refused.
    for i in range(130):
        a = ask(red, "PATCH", f"{OF_RED}/a?fieldManager=m{i}",
                {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "labels": {"x": "y"}}}, APPLY)
        if a.status != 200:
            break
    refused(red, a, "metadata.managedFields: Too many: 101: must have at most 100 items")


def test_spec_and_roles(red):
    obj = instance("b", "red", ingress=[{"protocol": "tcp"}] * N)
    refused(red, ask(red, "POST", OF_RED, obj), f"spec.ingress: Too many: {N}: must have at most 64 items")
    role = {"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["events"] * N}]}
    refused(red, ask(red, "POST", f"{RBAC}/namespaces/red/roles", role),
            f"rules.resources: Too many: {N}: must have at most 256 items")


def test_values(red):
    """A body of many small values takes a hundred times its size as a tree."""
    for value in ("{}", "[]", "0", '""'):
        body = json.dumps(instance("b", "red", x=0)).replace('"x": 0', '"x": [' + f"{value}," * 600_000 + "0]")
        refused(red, ask(red, "POST", OF_RED, body), "more than 20000 values")
        few = body.replace(f"{value}," * 600_000, f"{value}," * 12_000)
        refused(red, ask(red, "POST", OF_RED, few), "more than 10000 values besides metadata.managedFields")
        refused(red, ask(red, "PATCH", OF_RED + "/a", few, MERGE), "more than 10000 values")


def test_retain_keys(red):
    keys = [f"k{i}" for i in range(4_900)]
    a = ask(red, "PATCH", CONFIGMAPS + "/a", {"data": {"$retainKeys": keys, **{k: "" for k in keys}}}, STRATEGIC)
    refused(red, a, "data: Too many: 4900: must have at most 4096 items")
