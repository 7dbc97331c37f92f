# SPDX-License-Identifier: Apache-2.0
"""Create, read, update, patch, delete: the guarantees that Kubernetes gives for each."""

import contextlib
import sqlite3
import struct

import pytest
from apilib import G, JSONPATCH, eventually, image, instance, namespace, path_of, pool

A = f"{G}/namespaces/default/instances/a"


@pytest.mark.both
def test_server_sets_metadata(server):
    o = server.create(instance(meta={"uid": "mine", "generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z"}))
    m = o["metadata"]
    assert m["uid"] != "mine" and m["generation"] == 1 and not m["creationTimestamp"].startswith("2001")
    assert o["spec"]["running"] is True  # a default
    assert server.get(A).json == o
    assert list(o)[:3] == ["apiVersion", "kind", "metadata"]


@pytest.mark.both
def test_names(server):
    o = instance(meta={"generateName": "web-"})
    del o["metadata"]["name"]
    made = server.create(o)
    assert made["metadata"]["name"].startswith("web-") and len(made["metadata"]["name"]) == 9
    a = server.post(f"{G}/namespaces/default/instances", {**o, "metadata": {"namespace": "default"}})
    assert a.status == 422 and "name or generateName is required" in a.json["message"]
    server.create(instance())
    a = server.post(f"{G}/namespaces/default/instances", instance())
    assert (a.status, a.json["reason"]) == (409, "AlreadyExists")
    assert a.json["message"] == 'instances.nacre.dev "a" already exists'
    assert a.json["details"] == {"name": "a", "group": "nacre.dev", "kind": "instances"}


def test_not_found(server):
    a = server.get(A)
    assert a.status == 404 and a.json["kind"] == "Status" and a.json["reason"] == "NotFound" and a.json["code"] == 404
    assert a.json["message"] == 'instances.nacre.dev "a" not found'
    assert server.put(A, instance()).status == server.delete(A).status == 404
    assert server.patch(A, {}).status == 404
    a = server.post(f"{G}/namespaces/nowhere/instances", instance(ns="nowhere"))
    assert a.status == 404 and 'namespaces "nowhere" not found' in a.json["message"]
    for path in ("/x", "/apis/x", "/apis/nacre.dev/v1", f"{G}/pods", f"{G}/instances/a", "/api/v1/pods", "/api/v2"):
        assert server.get(path).status == 404, path
    assert server.request("PUT", f"{G}/images", image()).status == 400
    assert server.post(f"{G}/images/x", image()).status == 405


@pytest.mark.both
def test_update(server):
    o = server.create(instance())
    stale = dict(o)
    o["spec"]["running"] = False
    o["status"] = {"phase": "Running"}
    new = server.put(A, o).json
    assert new["metadata"]["generation"] == 2 and "status" not in new
    assert int(new["metadata"]["resourceVersion"]) > int(stale["metadata"]["resourceVersion"])
    a = server.put(A, stale)
    assert (a.status, a.json["reason"]) == (409, "Conflict") and "object has been modified" in a.json["message"]
    no_version = instance()
    a = server.put(A, no_version)
    assert a.status == 422 and "must be specified for an update" in a.json["message"]
    a = server.put(A, {**new, "metadata": {**new["metadata"], "name": "b"}})
    assert a.status == 400 and "does not match the name on the URL" in a.json["message"]
    a = server.put(A, {**new, "metadata": {**new["metadata"], "uid": "other"}})
    assert a.status == 409 and "UID in precondition" in a.json["message"]
    # A change of labels doesn't change the generation.
    new["metadata"]["labels"] = {"a": "b"}
    assert server.put(A, new).json["metadata"]["generation"] == 2


@pytest.mark.both
def test_no_op_changes_nothing(server):
    o = server.create(instance())
    w = server.watch(f"{G}/instances", resourceVersion=o["metadata"]["resourceVersion"])
    assert server.put(A, o).json == o
    assert server.patch(A, {"spec": {"running": True}}).json == o
    assert server.patch(A, [{"op": "replace", "path": "/spec/running", "value": True}], JSONPATCH).json == o
    assert server.patch(A + "/status", {}).json == o
    server.patch(A, {"spec": {"running": False}})
    assert w.wait(1) == [("MODIFIED", "a")]
    w.close()


@pytest.mark.both
def test_immutable_fields(server):
    server.create(instance())
    a = server.patch(A, {"spec": {"type": "large"}})
    assert a.status == 422 and "spec.type" in a.json["message"] and "immutable" in a.json["message"]
    assert a.json["details"]["causes"][0]["field"] == "spec.type"


@pytest.mark.both
def test_status_subresource(server):
    o = server.create({**instance(), "status": {"phase": "Running"}})
    assert "status" not in o
    a = server.patch(A + "/status", {"metadata": {"labels": {"x": "y"}, "finalizers": ["a.b/c"]},
                                     "spec": {"running": False}, "status": {"phase": "Running"}})
    assert a.status == 200 and a.json["status"] == {"phase": "Running"}
    assert a.json["spec"] == o["spec"] and a.json["metadata"]["generation"] == 1
    assert "labels" not in a.json["metadata"] and "finalizers" not in a.json["metadata"]
    assert "status" in server.patch(A, {"status": None, "spec": {"running": False}}).json
    assert server.get(A + "/status").json == server.get(A).json
    stale = {**o, "status": {"phase": "Failed"}}
    assert server.put(A + "/status", stale).status == 409
    assert server.patch(A + "/status", {"status": {"phase": "Bogus"}}).status == 422
    assert server.get(f"{G}/images/x/status").status == 404


@pytest.mark.both
def test_merge_patch(server):
    server.create(instance(labels={"a": "1", "b": "2"}))
    o = server.patch(A, {"metadata": {"labels": {"a": None, "c": "3"}}}).json
    assert o["metadata"]["labels"] == {"b": "2", "c": "3"}
    rv = o["metadata"]["resourceVersion"]
    assert server.patch(A, {"metadata": {"resourceVersion": rv, "labels": {"d": "4"}}}).status == 200
    assert server.patch(A, {"metadata": {"resourceVersion": rv, "labels": {"d": "5"}}}).status == 409
    assert server.patch(A, []).status == 400
    assert server.patch(A, {"metadata": {"name": "b"}}).status == 400
    assert server.patch(A, {"kind": "Image"}).status == 422


def test_json_patch(server):
    server.create(instance(ingress=[{"protocol": "tcp", "port": 1}]))
    o = server.patch(A, [{"op": "test", "path": "/spec/running", "value": True},
                         {"op": "add", "path": "/spec/ingress/-", "value": {"protocol": "udp", "port": 2}},
                         {"op": "add", "path": "/metadata/labels", "value": {"x/y": "1"}},
                         {"op": "copy", "from": "/spec/ingress/0", "path": "/spec/ingress/1"},
                         {"op": "remove", "path": "/spec/ingress/0"},
                         {"op": "replace", "path": "/metadata/labels/x~1y", "value": "2"}], JSONPATCH).json
    assert [g["port"] for g in o["spec"]["ingress"]] == [1, 2] and o["metadata"]["labels"] == {"x/y": "2"}
    assert server.patch(A, [{"op": "test", "path": "/spec/running", "value": False}], JSONPATCH).status == 422
    assert server.patch(A, [{"op": "remove", "path": "/spec/nope"}], JSONPATCH).status == 422
    assert server.patch(A, [{"op": "jump", "path": "/spec"}], JSONPATCH).status == 422
    assert server.patch(A, {"op": "add"}, JSONPATCH).status == 400
    assert server.get(A).json == o


def test_patch_types(server):
    server.create(instance())
    for t in ("application/strategic-merge-patch+json", "application/json", None):
        a = server.patch(A, {}, t)
        assert (a.status, a.json["reason"]) == (415, "UnsupportedMediaType"), t
    a = server.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"a": "b"}}},
                     "application/strategic-merge-patch+json")
    assert a.json["metadata"]["labels"]["a"] == "b"
    a = server.patch("/api/v1/namespaces/default", {"metadata": {"$patch": "bogus"}},
                     "application/strategic-merge-patch+json")
    assert a.status == 400


@pytest.mark.both
def test_delete(server):
    o = server.create(instance())
    a = server.delete(A, {"preconditions": {"uid": "other"}})
    assert (a.status, a.json["reason"]) == (409, "Conflict")
    assert server.delete(A, {"preconditions": {"resourceVersion": "1"}}).status == 409
    assert server.delete(A, {"propagationPolicy": "Sometimes"}).status == 422
    assert server.delete(A + "?dryRun=All").status == 200 and server.get(A).status == 200
    a = server.delete(A, {"preconditions": {"uid": o["metadata"]["uid"]}})
    assert a.json["status"] == "Success" and a.json["details"]["uid"] == o["metadata"]["uid"]
    assert server.get(A).status == 404 and server.delete(A).status == 404


@pytest.mark.both
def test_finalizers(server):
    server.create(instance(meta={"finalizers": ["nacre.dev/x", "nacre.dev/y"]}))
    o = server.delete(A).json
    assert o["metadata"]["deletionTimestamp"] and o["metadata"]["generation"] == 2
    assert server.delete(A).json == o  # the second delete changes nothing
    a = server.patch(A, {"metadata": {"finalizers": ["nacre.dev/x", "nacre.dev/z"]}})
    assert a.status == 422 and "no new finalizers can be added" in a.json["message"]
    o = server.patch(A, {"metadata": {"finalizers": ["nacre.dev/x"], "deletionTimestamp": None}}).json
    assert o["metadata"]["deletionTimestamp"]
    w = server.watch(f"{G}/instances", resourceVersion=o["metadata"]["resourceVersion"])
    assert server.patch(A, {"metadata": {"finalizers": None}}).status == 200
    assert server.get(A).status == 404
    assert w.wait(1) == [("DELETED", "a")]
    assert int(w.events[0]["object"]["metadata"]["resourceVersion"]) > int(o["metadata"]["resourceVersion"])
    w.close()


@pytest.mark.both
def test_delete_collection(server):
    for i in range(5):
        server.create(image(f"i{i}", {"n": str(i % 2)}))
    a = server.delete(f"{G}/images?labelSelector=n%3D0")
    assert a.status == 200 and a.json["kind"] == "ImageList"
    assert [o["metadata"]["name"] for o in server.list(f"{G}/images")["items"]] == ["i1", "i3"]
    assert server.delete("/api/v1/namespaces").status == 405


def test_dry_run(server):
    rv = server.list(f"{G}/images")["metadata"]["resourceVersion"]
    assert server.post(f"{G}/images?dryRun=All", image()).status == 201
    assert server.list(f"{G}/images") == {"kind": "ImageList", "apiVersion": "nacre.dev/v1alpha1",
                                          "metadata": {"resourceVersion": rv}, "items": []}
    assert server.post(f"{G}/images?dryRun=Some", image()).status == 422


def test_field_validation(server):
    bad = image(kernel={"kernel": "k", "colour": "red"})
    a = server.post(f"{G}/images?fieldValidation=Strict", bad)
    assert a.status == 400 and 'unknown field "spec.kernel.colour"' in a.json["message"] and '"img"' in a.json["message"]
    a = server.post(f"{G}/images", bad)
    assert a.status == 201 and "colour" not in a.text and 'unknown field' in a.headers["Warning"]
    a = server.post(f"{G}/images?fieldValidation=Ignore", {**bad, "metadata": {"name": "b"}})
    assert a.status == 201 and a.headers["Warning"] is None
    twice = '{"apiVersion":"nacre.dev/v1alpha1","kind":"Image","metadata":{"name":"c","name":"d"},"spec":{}}'
    a = server.post(f"{G}/images?fieldValidation=Strict", twice)
    assert a.status == 400 and "strict decoding error" in a.json["message"] and "name" in a.json["message"]


def test_namespaces(server):
    names = [o["metadata"]["name"] for o in server.list("/api/v1/namespaces")["items"]]
    assert names == ["default", "nacre-system"]
    assert server.delete("/api/v1/namespaces/default").status == 403
    o = server.create(namespace("tenant"))
    assert o["status"]["phase"] == "Active" and "generation" not in o["metadata"]
    server.create(instance("free", "tenant"))
    held = server.create(instance("held", "tenant", meta={"finalizers": ["nacre.dev/x"]}))
    assert server.delete("/api/v1/namespaces/tenant").json["status"]["phase"] == "Terminating"
    a = server.post(f"{G}/namespaces/tenant/instances", instance("late", "tenant"))
    assert (a.status, a.json["reason"]) == (403, "Forbidden") and "being terminated" in a.json["message"]
    eventually("the free one is gone", 5, lambda: server.get(path_of(instance("free", "tenant"))).status == 404)
    assert server.get("/api/v1/namespaces/tenant").status == 200
    assert server.get(path_of(held)).json["metadata"]["deletionTimestamp"]
    server.patch(path_of(held), {"metadata": {"finalizers": []}})
    eventually("the namespace is gone", 5, lambda: server.get("/api/v1/namespaces/tenant").status == 404)
    server.create({**namespace("held"), "metadata": {"name": "held", "finalizers": ["a.b/c"]}})
    server.delete("/api/v1/namespaces/held")
    assert server.get("/api/v1/namespaces/held").json["status"]["phase"] == "Terminating"
    assert server.patch("/api/v1/namespaces/held", {"metadata": {"finalizers": None}}).status == 200
    eventually("the namespace is gone", 5, lambda: server.get("/api/v1/namespaces/held").status == 404)


def owned_by(o):
    return {"ownerReferences": [{"apiVersion": o["apiVersion"], "kind": o["kind"], "name": o["metadata"]["name"],
                                 "uid": o["metadata"]["uid"], "blockOwnerDeletion": True}]}


def gone(server, o):
    return lambda: server.get(path_of(o)).status == 404


def test_owners(server):
    owner = server.create(image("owner"))
    children = [server.create(instance(f"c{i}", meta=owned_by(owner))) for i in range(3)]
    grand = server.create(instance("grand", meta=owned_by(children[0])))
    stranger = owned_by(owner)
    stranger["ownerReferences"][0]["uid"] = "00000000-0000-4000-8000-000000000000"
    orphan = server.create(instance("orphan", meta=stranger))
    eventually("one whose owner never was is gone", 5, gone(server, orphan))
    server.delete(path_of(owner))
    for o in [*children, grand]:
        eventually("a child is gone", 5, gone(server, o))


def test_owner_of_the_same_name(server):
    """The owner's uid counts, not its name."""
    old = server.create(image("owner"))
    held = server.create(instance("held", meta={**owned_by(old), "finalizers": ["nacre.dev/x"]}))
    server.delete(path_of(old))
    server.create(image("owner"))
    eventually("marked", 5, lambda: server.get(path_of(held)).json["metadata"].get("deletionTimestamp"))


def test_propagation(server):
    owner = server.create(image("owner"))
    child = server.create(instance("child", meta={**owned_by(owner), "finalizers": ["nacre.dev/x"]}))
    o = server.delete(path_of(owner), {"propagationPolicy": "Foreground"}).json
    assert o["metadata"]["finalizers"] == ["foregroundDeletion"]
    eventually("child marked", 5, lambda: server.get(path_of(child)).json["metadata"].get("deletionTimestamp"))
    assert server.get(path_of(owner)).status == 200
    server.patch(path_of(child), {"metadata": {"finalizers": None}})
    eventually("owner gone", 5, gone(server, owner))
    assert server.get(path_of(child)).status == 404
    owner = server.create(image("owner"))
    child = server.create(instance("child", meta=owned_by(owner)))
    server.delete(path_of(owner), {"propagationPolicy": "Orphan"})
    eventually("owner gone", 5, gone(server, owner))
    assert "ownerReferences" not in server.get(path_of(child)).json["metadata"]


def test_pools_do_not_overlap(server):
    server.create(pool("one", "2001:db8::/40"))
    a = server.post(f"{G}/addresspools", pool("two", "2001:db8:10::/44", "delegated"))
    assert a.status == 422 and "spec.prefix" in a.json["message"] and "one" in a.json["message"], a.text
    server.create(pool("two", "2001:db8:100::/44", "delegated"))
    assert server.patch(f"{G}/addresspools/two", {"metadata": {"labels": {"a": "b"}}}).status == 200


def test_lease_and_event(server):
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": "default"},
             "spec": {"holderIdentity": "x", "renewTime": "2026-01-01T00:00:00.000000Z", "strategy": "kept"}}
    o = server.create(lease)
    assert o["spec"]["strategy"] == "kept" and "generation" not in o["metadata"]
    o["spec"]["holderIdentity"] = "y"
    assert server.put(path_of(lease), o).status == 200
    assert server.put(path_of(lease), o).status == 409
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
             "involvedObject": {"kind": "Instance", "name": "a", "namespace": "default"}, "reason": "Started"}
    server.create(event)
    items = server.list("/api/v1/namespaces/default/events", fieldSelector="involvedObject.name=a")["items"]
    assert [e["reason"] for e in items] == ["Started"]
    assert not server.list("/api/v1/events", fieldSelector="involvedObject.name=b")["items"]


def test_events_expire(server):
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "old", "namespace": "default"},
             "involvedObject": {"kind": "Instance", "name": "a"}}
    server.create(event)
    server.create({**event, "metadata": {"name": "new", "namespace": "default"}})
    server.stop()
    with contextlib.closing(sqlite3.connect(server.database)) as db:
        rv, type, kind, ns, name, at, value = db.execute(
            "SELECT rv, type, kind, ns, name, at, value FROM log WHERE name = 'old'").fetchone()
        at -= 4000
        h = 0xcbf29ce484222325  # FNV-1a of the row, as the server writes it
        for b in struct.pack("=qqq", rv, at, type) + f"{kind}\0{ns}\0{name}\0".encode() + bytes(value):
            h = (h ^ b) * 0x100000001b3 % 2**64
        db.execute("UPDATE log SET at = ?, sum = ? WHERE rv = ?", (at, h - 2**64 if h >= 2**63 else h, rv))
        db.commit()
    server.start()
    eventually("the old event is gone", 10, lambda: server.get(path_of(event)).status == 404)
    assert len(server.list("/api/v1/events")["items"]) == 1


@pytest.mark.both
def test_selectors(server):
    for name, labels in {"a": {"x": "1", "y": "1"}, "b": {"x": "2"}, "c": {}, "d": {"n": "7"}}.items():
        server.create(image(name, labels))
    names = lambda **kw: "".join(o["metadata"]["name"] for o in server.list(f"{G}/images", **kw)["items"])
    for selector, want in {"x": "ab", "!x": "cd", "x=1": "a", "x==2": "b", "x!=1": "bcd", "x in (1,2)": "ab",
                           "x notin (1)": "bcd", "x,y": "a", "x,!y": "b", "n>6": "d", "n<7": "", "x in (2, 3),!y": "b",
                           "": "abcd"}.items():
        assert names(labelSelector=selector) == want, selector
    assert names(fieldSelector="metadata.name=b") == "b"
    assert names(fieldSelector="metadata.name!=b") == "acd"
    assert names(fieldSelector="metadata.name=b,metadata.name=c") == ""
    for bad in ("x in", "x in (", "=", "x=1=2", "x y", "a/b/c", "x>z", ",", "x,", "-x"):
        a = server.get(f"{G}/images?labelSelector={bad.replace(' ', '%20')}")
        assert a.status == 400 and "label" in a.json["message"] or a.status == 400, bad
    a = server.get(f"{G}/images?fieldSelector=spec.kernel=x")
    assert a.status == 400 and "field label not supported" in a.json["message"]


def test_pages(server):
    for i in range(7):
        server.create(instance(f"i{i}"))
    path, seen, params, version = f"{G}/instances", [], {"limit": 3}, None
    while True:
        page = server.list(path, **params)
        version = version or page["metadata"]["resourceVersion"]
        assert page["metadata"]["resourceVersion"] == version
        seen += [o["metadata"]["name"] for o in page["items"]]
        if "continue" not in page["metadata"]:
            break
        if len(seen) == 3:
            # Changes between two pages don't appear in the second.
            server.delete(path_of(instance("i4")))
            server.create(instance("i55"))
            server.patch(path_of(instance("i6")), {"spec": {"running": False}})
        params["continue"] = page["metadata"]["continue"]
    assert seen == [f"i{i}" for i in range(7)]
    assert page["items"][0]["spec"]["running"] is True
    assert server.get(f"{path}?limit=3&continue=junk").status == 400
    assert server.get(f"{path}?limit=x").status == 400


def test_long_lists(server):
    """Many more objects than the connection's memory holds, in one page and in several."""
    n = 2500
    conn = server.connection()
    for i in range(n):
        assert server.post(f"{G}/instancetypes", {
            "apiVersion": "nacre.dev/v1alpha1", "kind": "InstanceType",
            "metadata": {"name": f"t{i:04d}"}, "spec": {"vcpus": 1, "memoryMiB": 64},
        }, conn=conn).status == 201  # fmt: skip
    conn.close()
    names = [f"t{i:04d}" for i in range(n)]
    assert [o["metadata"]["name"] for o in server.get(f"{G}/instancetypes").json["items"]] == names
    page = server.get(f"{G}/instancetypes?limit=2000").json
    rest = server.get(f"{G}/instancetypes?limit=2000&continue={page['metadata']['continue']}").json
    assert [o["metadata"]["name"] for o in page["items"] + rest["items"]] == names
    assert not rest["metadata"].get("continue")
