# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI documents. Version 2 must be what kube-apiserver makes of our CRDs, in JSON and in protobuf."""

import json

from apilib import V

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def references(v):
    if isinstance(v, dict):
        yield from (v["$ref"],) if isinstance(v.get("$ref"), str) else ()
    for child in v.values() if isinstance(v, dict) else v if isinstance(v, list) else ():
        yield from references(child)


def described(definition):
    """The description of a kind's own fields. Fields that all kinds have are described differently by
    kube-apiserver."""
    properties = {k: v for k, v in definition["properties"].items() if k not in ("apiVersion", "kind", "metadata", "items")}
    return {**{k: v for k, v in definition.items() if k != "x-kubernetes-selectable-fields"}, "properties": properties}


def test_definitions_are_those_of_kube_apiserver(server, kube):
    ours, theirs = (s.get("/openapi/v2").json["definitions"] for s in (server, kube))
    names = {n for n in theirs if n.startswith("dev.nacre.")}
    assert names == {n for n in ours if n.startswith("dev.nacre.")}
    for name in names:
        a, b = described(ours[name]), described(theirs[name])
        if name.endswith("List"):
            a["description"] = b["description"]
        assert a == b, name
        assert ours[name]["properties"]["metadata"]["$ref"] == theirs[name]["properties"]["metadata"]["$ref"]
    for name in ("ObjectMeta", "ListMeta"):
        a, b = (set(d[META + name]["properties"]) for d in (ours, theirs))
        assert a == b - {"selfLink"}
    for name, kind in ours.items():
        if name.startswith("io.k8s.api.") and not name.endswith("List"):
            assert kind["x-kubernetes-group-version-kind"] == theirs[name]["x-kubernetes-group-version-kind"]
            assert set(kind["properties"]) <= set(theirs[name]["properties"]), name
    for meta in (d[META + "ObjectMeta"]["properties"] for d in (ours, theirs)):
        assert meta["ownerReferences"]["x-kubernetes-patch-merge-key"] == "uid"
        assert meta["finalizers"]["x-kubernetes-patch-strategy"] == "merge"


def test_operations_are_those_of_kube_apiserver(server, kube):
    def operations(s):
        paths = {p: v for p, v in s.get("/openapi/v2").json["paths"].items() if p.startswith(f"/apis/{V}/") and "/watch/" not in p}
        return {(p, m): (o["operationId"], o["x-kubernetes-action"], o["x-kubernetes-group-version-kind"])
                for p, v in paths.items() for m, o in v.items() if m != "parameters"}
    ours, theirs = operations(server), operations(kube)
    assert ours == theirs


def test_document_is_whole(server):
    doc = server.get("/openapi/v2").json
    assert doc["swagger"] == "2.0"
    for ref in references(doc):
        assert ref.startswith("#/definitions/") and ref[len("#/definitions/"):] in doc["definitions"]
    ids = [o["operationId"] for p in doc["paths"].values() for m, o in p.items() if m != "parameters"]
    assert len(ids) == len(set(ids)) > 150
    instance = doc["paths"][f"/apis/{V}/namespaces/{{namespace}}/instances/{{name}}"]
    assert instance["patch"]["consumes"] == ["application/json-patch+json", "application/merge-patch+json",
                                             "application/apply-patch+yaml"]
    assert {"dryRun", "fieldManager", "fieldValidation", "force", "body"} == {p["name"] for p in instance["patch"]["parameters"]}


def fields(data):
    """The fields of a protobuf message, as (number, value)."""
    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value
    at = 0
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 in (1, 2)
            n = varint() if key & 7 == 2 else 8
            assert at + n <= len(data)
            yield key >> 3, data[at:at + n]
            at += n


def one(data, number):
    return next(v for n, v in fields(data) if n == number)


def names(data):
    return {one(entry, 1).decode(): one(entry, 2) for _, entry in fields(data)}


def raw(server, **headers):
    conn = server.connection()
    conn.request("GET", "/openapi/v2", headers=headers)
    r = conn.getresponse()
    body = r.read()
    conn.close()
    return r, body


def test_protobuf(server):
    """The protobuf form has the same content; in test_kubectl.py gnostic itself reads it."""
    doc = server.get("/openapi/v2").json
    r, body = raw(server, Accept=PROTOBUF)
    assert r.headers["Content-Type"] == PROTOBUF.replace("@", ".") and r.headers["Vary"] == "Accept"
    definitions = names(one(body, 9))
    assert set(definitions) == set(doc["definitions"])
    kind = definitions["dev.nacre.v1alpha1.Instance"]
    extensions = {one(v, 1).decode(): json.loads(one(one(v, 2), 2)) for n, v in fields(kind) if n == 31}
    said = doc["definitions"]["dev.nacre.v1alpha1.Instance"]
    assert extensions == {k: v for k, v in said.items() if k.startswith("x-")}
    assert set(names(one(kind, 25))) == set(said["properties"])
    paths = {one(entry, 1).decode() for n, entry in fields(one(body, 8)) if n == 2}
    assert paths == set(doc["paths"])


def test_etag(server):
    """Each form has its own ETag."""
    tags = set()
    for accept in (PROTOBUF, "application/json"):
        r, body = raw(server, Accept=accept)
        assert r.status == 200 and body
        tags.add(r.headers["ETag"])
        r, body = raw(server, **{"Accept": accept, "If-None-Match": r.headers["ETag"]})
        assert r.status == 304 and not body and r.headers["ETag"] in tags
        r, body = raw(server, **{"Accept": accept, "If-None-Match": '"other"'})
        assert r.status == 200 and body
    assert len(tags) == 2
    index = server.get("/openapi/v3").json["paths"]
    for page in index.values():
        conn = server.connection()
        conn.request("GET", page["serverRelativeURL"])
        r = conn.getresponse()
        assert r.status == 200 and json.loads(r.read())["openapi"] == "3.0.0"
        assert r.headers["ETag"].strip('"') in page["serverRelativeURL"]
        conn.close()


def test_custom_resource_definitions(server):
    """Terraform and `kubectl get crd` read these. Authenticated users may read them; nobody may write them."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    listed = server.get(path, conn=server.connection(("alice",))).json
    names = {c["metadata"]["name"] for c in listed["items"]}
    assert listed["kind"] == "CustomResourceDefinitionList" and f"instances.{V.split('/')[0]}" in names and len(names) == 12
    for name in names:
        crd = server.get(f"{path}/{name}").json
        assert crd in listed["items"] and crd["status"]["conditions"][0]["type"] == "Established"
    one = server.list(path, fieldSelector="metadata.name=hosts.nacre.dev")["items"]
    assert [c["metadata"]["name"] for c in one] == ["hosts.nacre.dev"]
    assert server.get(path + "?fieldSelector=spec.group=x").status == 400
    assert server.get(path + "?watch=true").status == 405
    assert server.get(path, conn=server.connection(())).status == 403
    assert server.post(path, listed["items"][0]).status == 405
    assert server.delete(f"{path}/instances.nacre.dev").status == 405
    assert server.post(path, listed["items"][0], conn=server.connection(("alice",))).status == 403
