# SPDX-License-Identifier: Apache-2.0
"""Deletions of many objects are done in batches, and delete no object that another owner still owns. The order follows
kubernetes' garbage collector (pkg/controller/garbagecollector, attemptToDeleteItem)."""

import json

import pytest
from apilib import MERGE, image, instance, namespace, path_of
from harness import eventually
from tenant import CONFIGMAPS, ask, make

N = 1500


def owned_by(*owners, **more):
    return {"ownerReferences": [{"apiVersion": o["apiVersion"], "kind": o["kind"], "name": o["metadata"]["name"],
                                 "uid": o["metadata"]["uid"]} for o in owners], **more}


def meta(server, obj):
    a = server.get(path_of(obj))
    return a.json["metadata"] if a.status == 200 else None


def uids(server, obj):
    return [r["uid"] for r in (meta(server, obj) or {}).get("ownerReferences", [])]


def fill(server, n, path=CONFIGMAPS, size=0, **more):
    conn = server.connection()
    for i in range(n):
        a = server.post(path, {"metadata": {"name": f"c{i:05d}", **more}, "data": {"a": "x" * size}}, conn=conn)
        assert a.status == 201, a.text
    conn.close()


def test_deletecollection(server):
    """More objects than one batch. (src/apiserver/test-server.c tests that others have turns in between.)"""
    make(server)
    fill(server, N)
    assert server.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "other"}}).status == 201
    a = ask(server, "DELETE", CONFIGMAPS)
    assert a.status == 200 and a.json["kind"] == "ConfigMapList"
    assert [o["metadata"]["name"] for o in a.json["items"]] == [f"c{i:05d}" for i in range(N)]
    assert server.list(CONFIGMAPS)["items"] == []
    assert [o["metadata"]["name"] for o in server.list("/api/v1/configmaps")["items"]] == ["other"]


def test_deletecollection_dry(server):
    make(server)
    fill(server, 600)
    rv = server.list(CONFIGMAPS)["metadata"]["resourceVersion"]
    for query, body in (("?dryRun=All", None), ("", {"dryRun": ["All"]})):
        a = ask(server, "DELETE", CONFIGMAPS + query, body)
        assert a.status == 200 and len(a.json["items"]) == 600
    assert server.list(CONFIGMAPS)["metadata"]["resourceVersion"] == rv


def test_deletecollection_marks(server):
    """Objects with finalizers are marked. The second time nothing is to be done, in all batches."""
    make(server)
    fill(server, 700, finalizers=["nacre.dev/x"])
    for _ in range(2):
        a = ask(server, "DELETE", CONFIGMAPS, {"propagationPolicy": "Foreground"})
        assert a.status == 200 and len(a.json["items"]) == 700
        items = server.list(CONFIGMAPS)["items"]
        assert len(items) == 700 and all("deletionTimestamp" in o["metadata"] for o in items)


def test_large_objects(server):
    """A batch is also bounded in bytes."""
    make(server)
    fill(server, 12, size=1 << 20)
    assert len(ask(server, "DELETE", CONFIGMAPS).json["items"]) == 12
    assert server.list(CONFIGMAPS)["items"] == []


@pytest.mark.parametrize("policy", ["Foreground", "Background"])
def test_another_living_owner(server, policy):
    one, two = server.create(image("one")), server.create(image("two"))
    both = server.create(instance("both", meta=owned_by(one, two)))
    only = server.create(instance("only", meta=owned_by(one)))
    server.delete(path_of(one), {"propagationPolicy": policy})
    eventually("the owner is gone", 10, lambda: meta(server, one) is None)
    eventually("what it alone owned is gone", 10, lambda: meta(server, only) is None)
    eventually("the other lost the reference", 10, lambda: uids(server, both) == [two["metadata"]["uid"]])
    assert "deletionTimestamp" not in meta(server, both)
    server.delete(path_of(two), {"propagationPolicy": policy})
    eventually("now it goes", 10, lambda: meta(server, both) is None)


def test_restart(server):
    """A reference that was never valid stays beside a living owner until the server is restarted: by then it may be one
    whose owner was deleted when there was no time left to remove it. Nothing else is written at a start."""
    one, two = server.create(image("one")), server.create(image("two"))
    refs = owned_by(one, two)
    refs["ownerReferences"][1]["uid"] = "00000000-0000-4000-8000-000000000000"
    both, good = server.create(instance("both", meta=refs)), server.create(instance("good", meta=owned_by(one, two)))

    def look(n):
        """The objects after the collector has worked off its queue."""
        other = server.create(image(f"other{n}"))
        only = server.create(instance(f"only{n}", meta=owned_by(other)))
        server.delete(path_of(other), {"propagationPolicy": "Orphan"})
        eventually("it let go", 10, lambda: uids(server, only) == [])
        return [server.get(path_of(o)).json for o in (both, good)]

    states = []
    for n in range(3):
        states.append(look(n))
        server.stop()
        server.start()
    assert [states[0], states[2]] == [[both, good], states[1]] and states[1][1] == good
    assert [r["uid"] for r in states[1][0]["metadata"]["ownerReferences"]] == [one["metadata"]["uid"]]


def test_crash_in_a_collection(server):
    """References that a killed server left to deleted owners are removed after the next start."""
    make(server)
    one, two = server.create(image("one")), server.create(image("two"))
    conn = server.connection()
    for i in range(N):
        obj = {"metadata": {"name": f"c{i}", **owned_by(*([one, two] if i % 2 else [one]))}}
        assert server.post(CONFIGMAPS, obj, conn=conn).status == 201
    conn.close()
    server.delete(path_of(one))
    server.kill()
    server.start()

    def left():
        return [[r["uid"] for r in o["metadata"]["ownerReferences"]] for o in server.list(CONFIGMAPS)["items"]]

    eventually("only what lives is named", 30, lambda: left() == [[two["metadata"]["uid"]]] * (N // 2))


def test_owner_of_an_unknown_kind(server):
    """An owner that can't be looked up may exist."""
    one = server.create(image("one"))
    refs = owned_by(one)
    refs["ownerReferences"].append({"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "u"})
    both = server.create(instance("both", meta=refs))
    server.delete(path_of(one), {"propagationPolicy": "Foreground"})
    eventually("the owner is gone", 10, lambda: meta(server, one) is None)
    assert uids(server, both) == ["u"]


def test_owners_deleted_together(server):
    """Both owners wait for the object: neither counts as a living owner."""
    one, two = server.create(image("one")), server.create(image("two"))
    both = server.create(instance("both", meta=owned_by(one, two, finalizers=["nacre.dev/x"])))
    server.delete(path_of(one), {"propagationPolicy": "Foreground"})
    eventually("one reference left", 10, lambda: len(uids(server, both)) == 1)
    server.patch(path_of(both), {"metadata": owned_by(two)}, MERGE)
    server.delete(path_of(two), {"propagationPolicy": "Foreground"})
    eventually("marked", 10, lambda: "deletionTimestamp" in meta(server, both))
    assert meta(server, two), "it waits"
    server.patch(path_of(both), {"metadata": {"finalizers": None}})
    eventually("all gone", 10, lambda: not meta(server, both) and not meta(server, two))


def test_circle(server):
    """Two objects that own each other don't wait for each other for ever."""
    a = server.create(instance("a"))
    b = server.create(instance("b", meta=owned_by(a)))
    assert server.patch(path_of(a), {"metadata": owned_by(b)}, MERGE).status == 200
    server.delete(path_of(a), {"propagationPolicy": "Foreground"})
    eventually("both are gone", 10, lambda: not meta(server, a) and not meta(server, b))


def test_chain_in_the_foreground(server):
    """The last object goes first: each waits for its dependents."""
    chain = [server.create(image("top"))]
    for i in range(3):
        chain.append(server.create(instance(f"i{i}", meta=owned_by(chain[-1]))))
    server.patch(path_of(chain[-1]), {"metadata": {"finalizers": ["nacre.dev/x"]}})
    server.delete(path_of(chain[0]), {"propagationPolicy": "Foreground"})
    eventually("all are marked", 10, lambda: all("deletionTimestamp" in meta(server, o) for o in chain))
    server.patch(path_of(chain[-1]), {"metadata": {"finalizers": None}})
    eventually("all are gone", 10, lambda: not any(meta(server, o) for o in chain))


def test_many_dependents(server):
    """More dependents than one batch, half of them with another owner."""
    make(server)
    one, two = server.create(namespace("one")), server.create(image("two"))
    server.delete(path_of(one))
    one = server.create(image("one"))
    conn = server.connection()
    for i in range(700):
        obj = {"metadata": {"name": f"c{i}", **owned_by(*([one, two] if i % 2 else [one]))}}
        assert server.post(CONFIGMAPS, obj, conn=conn).status == 201
    conn.close()
    server.delete(path_of(one), {"propagationPolicy": "Foreground"})
    eventually("the owner is gone", 30, lambda: meta(server, one) is None)
    left = server.list(CONFIGMAPS)["items"]
    assert len(left) == 350 and all(json.dumps(o).count('"uid"') == 2 for o in left)
    server.delete(path_of(two), {"propagationPolicy": "Orphan"})
    eventually("the owner is gone", 30, lambda: meta(server, two) is None)
    assert not any("ownerReferences" in o["metadata"] for o in server.list(CONFIGMAPS)["items"])
