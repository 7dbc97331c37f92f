# SPDX-License-Identifier: Apache-2.0
"""dryRun of each verb: it answers like the write and changes nothing; several values; errors."""

from apilib import V, image, instance


def names(body):
    return [o["metadata"]["name"] for o in body["items"]]


def topic(t):
    listed = t.get("$I", only=lambda b: None)["metadata"]["resourceVersion"]
    t.post("$I?dryRun=All", instance("a", t.ns))
    t.post("$I?dryRun=All&dryRun=All", instance("a", t.ns))
    t.post("$I?dryRun=all", instance("a", t.ns))
    t.post("$I?dryRun=All", {**instance("", t.ns), "metadata": {"generateName": "g-"}}, only=lambda b: b["metadata"]["generateName"])
    t.apply("$I/a?dryRun=All&fieldManager=m", {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"},
                                               "spec": {"type": "t", "image": "i"}})
    t.get("$I", only=names)
    o = t.post("$I", instance("a", t.ns, meta={"finalizers": ["a.b/c"]}))
    t.watch("$I", resourceVersion=listed)
    t.put("$I/a?dryRun=All", {**o, "spec": {**o["spec"], "running": False}})
    t.put("$I/a?dryRun=All", {**o, "spec": {**o["spec"], "type": "other"}})
    t.put("$I/a?dryRun=All", {**o, "metadata": {**o["metadata"], "resourceVersion": "1"}})
    t.put("$I/a/status?dryRun=All", {**o, "status": {"phase": "Running"}})
    t.merge("$I/a?dryRun=All", {"spec": {"running": False}})
    t.merge("$I/a?dryRun=All", {"spec": {"running": True}})
    t.jsonpatch("$I/a?dryRun=All", [{"op": "replace", "path": "/spec/running", "value": False}])
    t.apply("$I/a?dryRun=All&fieldManager=m", {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"}, "spec": {"running": False}})
    t.apply("$I/a?dryRun=All&fieldManager=m&force=true", {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"},
                                                          "spec": {"running": False}})
    t.delete("$I/a?dryRun=All")
    t.delete("$I/a", {"dryRun": ["All"], "propagationPolicy": "Foreground"})
    t.delete("$I/a", {"dryRun": []}, only=lambda b: b["metadata"]["finalizers"])
    t.delete("$I/a?dryRun=All")
    t.merge("$I/a?dryRun=All", {"metadata": {"finalizers": None}})
    t.get("$I", only=names)
    t.delete("$I?dryRun=All", only=names)
    t.merge("$I/a", {"metadata": {"finalizers": None}})
    t.post("$I", instance("end", t.ns))
    t.events(4)
    c = "$N/configmaps"
    t.post(f"{c}?dryRun=All", {"metadata": {"name": "c"}, "data": {"a": "1"}})
    t.get(f"{c}/c")
    t.post(c, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    t.post(f"{c}?dryRun=All", {"metadata": {"name": "c"}})
    t.strategic(f"{c}/c?dryRun=All", {"data": {"b": "2"}})
    t.put(f"{c}/c?dryRun=All", {"metadata": {"name": "c"}, "data": {"z": "26"}})
    t.delete(f"{c}/c?dryRun=All")
    t.delete(f"{c}?dryRun=All&labelSelector=none", only=names)
    t.get(f"{c}/c", only=lambda b: b["data"])
    t.delete(f"{c}/c")
    t.post("/api/v1/namespaces?dryRun=All", {"metadata": {"name": "x-rehearsed"}}, only=lambda b: b["status"])
    t.delete("$N?dryRun=All", only=lambda b: b["status"])
    t.get("$N", only=lambda b: b["status"])
    t.post("$G/images?dryRun=All", image("i", meta={"finalizers": ["a.b/c"]}))
