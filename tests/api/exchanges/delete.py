# SPDX-License-Identifier: Apache-2.0
"""Delete: preconditions, finalizers, propagation, collections. There is no garbage collector in these exchanges."""

from apilib import image, instance


def topic(t):
    o = t.post("$I", instance("a", t.ns))
    uid, version = o["metadata"]["uid"], o["metadata"]["resourceVersion"]
    t.delete("$I/a", {"preconditions": {"uid": "other"}})
    t.delete("$I/a", {"preconditions": {"resourceVersion": "1"}})
    t.delete("$I/a", {"propagationPolicy": "Sometimes"})
    t.delete("$I/a?propagationPolicy=Sometimes")
    t.delete("$I/a", {"propagationPolicy": "Orphan", "orphanDependents": True})
    t.delete("$I/a", {"gracePeriodSeconds": -1})
    t.delete("$I/a", {"dryRun": ["Some"]})
    t.delete("$I/a?dryRun=All")
    t.delete("$I/a", {"dryRun": ["All"]})
    t.delete("$I/a", {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid, "resourceVersion": version}})
    t.get("$I/a")
    t.delete("$I/a")
    t.delete("$I/a", {"preconditions": {"uid": uid}})

    for body in ("{", "[]", "null", '{"preconditions": []}', '{"unknown": 1}', '{"kind": "Instance", "apiVersion": "v1"}'):
        t.post("$I", instance("b", t.ns))
        t.delete("$I/b", body)
    t.delete("$I/b", {}, type="text/plain")
    t.delete("$I/b", {}, type=None)
    t.post("$I", instance("b", t.ns))
    t.delete("$I/b", {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
    t.post("$I", instance("b", t.ns))
    t.delete("$I/b?gracePeriodSeconds=30&propagationPolicy=Background")
    t.delete("$I/c", {"gracePeriodSeconds": "x"})

    # Finalizers keep the object.
    t.post("$I", instance("f", t.ns, meta={"finalizers": ["nacre.dev/x", "nacre.dev/y"]}))
    o = t.delete("$I/f")
    t.delete("$I/f")
    t.delete("$I/f?dryRun=All")
    t.get("$I/f")
    t.post("$I", instance("f", t.ns))
    t.merge("$I/f", {"metadata": {"finalizers": ["nacre.dev/x", "nacre.dev/z"]}})
    t.merge("$I/f", {"metadata": {"deletionTimestamp": None}})
    t.merge("$I/f", {"metadata": {"labels": {"still": "changes"}}})
    t.merge("$I/f", {"spec": {"running": False}})
    t.merge("$I/f/status", {"status": {"phase": "Removed"}})
    o = t.merge("$I/f", {"metadata": {"finalizers": ["nacre.dev/y"]}})
    t.merge("$I/f?dryRun=All", {"metadata": {"finalizers": None}})
    t.put("$I/f", {**o, "metadata": {**o["metadata"], "finalizers": []}})
    t.get("$I/f")

    # Owners: background leaves dependents to the collector; foreground and orphan set a finalizer.
    t.post("$G/images", image("fore"))
    t.delete("$G/images/fore", {"propagationPolicy": "Foreground"})
    t.post("$G/images", image("orphan"))
    t.delete("$G/images/orphan", {"propagationPolicy": "Orphan"})
    t.post("$G/images", image("orphan2"))
    t.delete("$G/images/orphan2", {"orphanDependents": True})

    for n in range(4):
        t.post("$I", instance(f"i{n}", t.ns, {"n": str(n % 2)}))
    t.delete("$I?labelSelector=n%3D0")
    t.delete("$I?labelSelector=n%20in")
    t.delete("$I?fieldSelector=metadata.name%3Di1&dryRun=All")
    t.get("$I", only=lambda b: [o["metadata"]["name"] for o in b["items"]])
    t.delete("$I?fieldSelector=metadata.name%3Di1", {"propagationPolicy": "Background"})
    t.delete("$I")
    t.delete("$I")
    t.delete("$G/instances", differs="no-page")
    t.delete("/api/v1/namespaces")
    t.delete("/api/v1/namespaces/none")
    t.delete("/api/v1/namespaces/default")
    t.delete("$I?resourceVersion=x")
