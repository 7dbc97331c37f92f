# SPDX-License-Identifier: Apache-2.0
"""ownerReferences: validation; blocking, foreground and orphaning deletion, as far as they go without a collector."""

from apilib import instance


def topic(t):
    c = "$N/configmaps"
    o = t.post(c, {"metadata": {"name": "owner"}})
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": o["metadata"]["uid"]}
    for n, bad in enumerate(([{**ref, "apiVersion": ""}], [{**ref, "kind": ""}], [{**ref, "name": ""}], [{**ref, "uid": ""}],
                             [{k: v for k, v in ref.items() if k != "uid"}], [{**ref, "apiVersion": "a/b/c"}],
                             [{**ref, "controller": True}, {**ref, "uid": "2", "controller": True}],
                             [{**ref, "kind": "Event"}], [ref, ref], [ref, {**ref, "name": "x"}, ref], [{**ref, "colour": "red"}], [{}])):
        # The error names the list; empty and missing members are invalid.
        odd = "reasons" if n < 5 or bad == [{}] else None
        t.post("$I?dryRun=All", instance(f"bad{n}", t.ns, meta={"ownerReferences": bad}), differs=odd)
        t.post(f"{c}?dryRun=All", {"metadata": {"name": f"bad{n}", "ownerReferences": bad}}, differs=odd)
    t.post(c, {"metadata": {"name": "one", "ownerReferences": [ref]}})
    t.merge(f"{c}/one", {"metadata": {"ownerReferences": [{**ref, "controller": True, "blockOwnerDeletion": True}]}})
    t.merge(f"{c}/one", {"metadata": {"ownerReferences": [{**ref, "controller": False}]}})
    t.jsonpatch(f"{c}/one", [{"op": "add", "path": "/metadata/ownerReferences/-", "value": {**ref, "uid": "other", "name": "x"}}])
    t.jsonpatch(f"{c}/one", [{"op": "remove", "path": "/metadata/ownerReferences/1"}])
    t.merge(f"{c}/one", {"metadata": {"ownerReferences": []}})
    t.apply(f"{c}/one?fieldManager=a", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "ownerReferences": [ref]}})
    t.apply(f"{c}/one?fieldManager=b", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "one", "ownerReferences": [{**ref, "blockOwnerDeletion": True}]}})
    t.apply(f"{c}/one?fieldManager=a", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}})
    t.merge(f"{c}/one", {"metadata": {"ownerReferences": None}})
    # The collector removes its finalizers later. These objects also have a finalizer of their own.
    held = {"finalizers": ["a.b/c"]}
    for name, options in (("fg", {"propagationPolicy": "Foreground"}), ("or", {"propagationPolicy": "Orphan"}),
                          ("bg", {"propagationPolicy": "Background"}), ("no", {"orphanDependents": False}),
                          ("yes", {"orphanDependents": True}), ("plain", {})):
        t.post(c, {"metadata": {"name": name, **held}})
        t.delete(f"{c}/{name}", options, only=lambda b: [sorted(b["metadata"]["finalizers"]), "deletionTimestamp" in b["metadata"]])
        t.merge(f"{c}/{name}", {"metadata": {"finalizers": ["a.b/c", "a.b/new"]}})
        t.send("PATCH", f"{c}/{name}", {"metadata": {"finalizers": None}}, type="application/merge-patch+json").read()
        t.get(f"{c}/{name}")
    t.delete(f"{c}/none", {"orphanDependents": False})
    t.post(c, {"metadata": {"name": "no", **held}})
    t.delete(f"{c}/no?orphanDependents=false", only=lambda b: b["metadata"]["finalizers"])
    t.merge(f"{c}/no", {"metadata": {"finalizers": None}}, only=lambda b: b["metadata"]["name"])
    t.delete(f"{c}/one")
    t.delete(f"{c}/owner")
