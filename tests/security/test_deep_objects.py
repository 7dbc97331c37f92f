# SPDX-License-Identifier: Apache-2.0
"""Objects that an earlier version stored although they are nested too deeply can be deleted, and delay nothing."""

import json

import pytest
from apilib import MERGE, eventually, instance
from database import rewrite
from tenant import EVENTS, OF_RED, ask, make

DAYS_AGO = 4 * 86400


def event(name):
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "red"},
            "involvedObject": {"kind": "Instance", "name": "a", "namespace": "red"}}


def deep(n):
    return b'{"a":' * n + b"1" + b"}" * n


@pytest.fixture
def red(server):
    make(server)
    return server


def deepen(server, n=100, age=0, prefix="deep"):
    def change(name, text):
        return text[:-1] + b',"x":' + deep(n) + b"}" if name.startswith(prefix) else text
    server.stop()
    rewrite(server, change, age)
    server.start()


def test_delete(red):
    for name in ("deep-a", "deep-b", "deep-c", "flat"):
        assert ask(red, "POST", EVENTS, event(name)).status == 201
    deepen(red)
    uid = ask(red, "GET", EVENTS + "/deep-a").json["metadata"]["uid"]
    w = red.watch(EVENTS, resourceVersion=red.list(EVENTS)["metadata"]["resourceVersion"])
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    assert len(red.get(EVENTS, headers=table).json["rows"]) == 4
    a = ask(red, "PATCH", EVENTS + "/deep-a", {"reason": "R"}, MERGE)
    assert a.status == 500 and "nested more than 64 levels deep; delete it" in a.json["message"], a.text
    assert ask(red, "DELETE", EVENTS + "/deep-a", {"preconditions": {"uid": "other"}}).status == 409
    assert ask(red, "DELETE", EVENTS + "/deep-a", dry=True).status == 200
    a = ask(red, "DELETE", EVENTS + "/deep-a", {"preconditions": {"uid": uid}})
    assert a.status == 200 and a.json["details"]["uid"] == uid, a.text
    assert ask(red, "GET", EVENTS + "/deep-a").status == 404
    w.wait(1)
    gone = w.events[0]
    assert gone["type"] == "DELETED" and gone["object"]["metadata"]["uid"] == uid
    assert int(gone["object"]["metadata"]["resourceVersion"]) == int(red.list(EVENTS)["metadata"]["resourceVersion"])
    w.close()
    a = ask(red, "DELETE", EVENTS)
    assert a.status == 200 and len(a.json["items"]) == 3, a.text[:300]
    assert ask(red, "GET", EVENTS).json["items"] == []


def test_namespace_ends(red):
    assert ask(red, "POST", EVENTS, event("deep")).status == 201
    deepen(red)
    assert red.delete("/api/v1/namespaces/red").status == 200
    eventually("the namespace is gone", 10, lambda: red.get("/api/v1/namespaces/red").status == 404)


def test_expiry(red):
    """300 of them, more than the collector looks at in one batch."""
    for i in range(300):
        assert ask(red, "POST", EVENTS, event(f"deep-{i}")).status == 201
    deepen(red, age=DAYS_AGO)
    eventually("they have expired", 20, lambda: red.list(EVENTS)["items"] == [])


def test_managed_fields_of_an_instance(red):
    """managedFields that are too deep are dropped; finalizers are kept, and the object can be written."""
    obj = instance("deep", "red", meta={"finalizers": ["a.b/c"]})
    assert ask(red, "POST", OF_RED, obj).status == 201

    def change(name, text):
        if name != "deep":
            return text
        o = json.loads(text)
        o["metadata"]["managedFields"][0]["fieldsV1"] = json.loads(deep(200).replace(b"1", b"{}").replace(b'"a"', b'"f:a"'))
        return json.dumps(o, separators=(",", ":")).encode()
    red.stop()
    rewrite(red, change)
    red.start()
    a = ask(red, "PATCH", OF_RED + "/deep", {"metadata": {"labels": {"x": "y"}}}, MERGE)
    assert a.status == 200 and a.json["metadata"]["finalizers"] == ["a.b/c"], a.text
    assert ask(red, "DELETE", OF_RED + "/deep").status == 200
    assert ask(red, "GET", OF_RED + "/deep").json["metadata"]["deletionTimestamp"]
    assert ask(red, "PATCH", OF_RED + "/deep", {"metadata": {"finalizers": None}}, MERGE).status == 200
    assert ask(red, "GET", OF_RED + "/deep").status == 404
