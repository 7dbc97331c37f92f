# SPDX-License-Identifier: Apache-2.0
"""Create: what the server fills in, names, what the server refuses."""

from apilib import V, image, instance, namespace, pool


def bare(name="a", **meta):
    return {"apiVersion": V, "kind": "InstanceType", "metadata": {"name": name, **meta}, "spec": {"vcpus": 1, "memoryMiB": 64}}


def topic(t):
    t.post("$I", instance("a", t.ns))
    t.post("$I", instance("a", t.ns))  # again
    t.get("$I/a")
    t.post("$I", instance("b", t.ns, {"x": "1"}, {
        "uid": "mine", "resourceVersion": "", "generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3, "selfLink": "/x",
        "annotations": {"n": "1", "o": ""}, "finalizers": ["nacre.dev/a"]}))
    t.post("$I", instance("c", t.ns, meta={"resourceVersion": "5"}), differs="bad-version")
    t.post("$I", {**instance("d", t.ns), "status": {"phase": "Running"}})
    no_namespace = instance("e")
    del no_namespace["metadata"]["namespace"]
    t.post("$I", no_namespace)
    t.post("$I", instance("e", "default"))
    t.post("$G/instances", instance("e", t.ns), differs="no-page")
    t.post("$G/namespaces/nowhere/instances", instance("e", "nowhere"))
    t.post("$I/a", instance("a", t.ns), differs="post-to-object")

    generated = {**instance("", t.ns), "metadata": {"generateName": "web-", "namespace": t.ns}}
    made = t.post("$I", generated)
    t.get(f"$I/{made['metadata']['name']}")
    t.post("$I", {**generated, "metadata": {"generateName": "web-", "name": "own"}})
    t.post("$I", {**generated, "metadata": {}})

    # Cluster-scoped kinds; defaults at depth.
    t.post("$G/images", image("i", spec=None))
    t.post("$G/images", image("disk", disk={"file": "a.qcow2", "format": "qcow2"}))
    t.post("$G/images", image("in-a-namespace", meta={"namespace": t.ns}))
    t.post("$G/instancetypes", bare())
    t.post("$G/addresspools", pool("p", "2001:db8::/40"))
    t.post("$G/hosts", {"apiVersion": V, "kind": "Host", "metadata": {"name": "h"}, "spec": {"vtep": "fd00::1"}})
    t.post("$G/endpoints", {"apiVersion": V, "kind": "Endpoint", "metadata": {"name": "ep"}, "spec": {
        "host": "h", "vtep": "fd00::1", "ip": "fd01::1", "mac": "02:00:00:00:00:01", "routes": [{"prefix": "2001:db8::/64"}],
        "owner": {"kind": "Instance", "namespace": "t", "name": "a", "uid": "u"}}})
    t.post("$G/edgepeers", {"apiVersion": V, "kind": "EdgePeer", "metadata": {"name": "e"}, "spec": {}})

    # The kind and version in the body.
    for change in ({"kind": "Image"}, {"kind": "image"}, {"apiVersion": "nacre.dev/v1"}, {"apiVersion": "v1"},
                   {"kind": ""}, {"apiVersion": ""}, {"kind": None}, {"apiVersion": None}, {"kind": 3}):
        wrong = change == {"apiVersion": "nacre.dev/v1"}
        t.post("$I", {**instance("k", t.ns), **change}, differs="wrong-version" if wrong else None)
    t.post("/api/v1/namespaces", namespace("Bad_Name"))
    t.post("/api/v1/namespaces", namespace(t.ns))
    t.post("/apis/nacre.dev/v2/images", image("x"), differs="no-page")
    t.post("$G/nothings", image("x"), differs="no-page")

    # Null means absent.
    t.post("$I", instance("nulls", t.ns, None, {"labels": None, "annotations": None, "finalizers": None}, running=None,
                          ingress=None, hostSelector=None))
    t.post("$I", instance("empty", t.ns, None, {"labels": {}, "annotations": {}, "finalizers": []}, ingress=[], hostSelector={}))
