# SPDX-License-Identifier: Apache-2.0
"""The scale subresource of a custom resource: an object of another group with one writable number."""

from apilib import cluster
from exchange import PARTIAL, TABLE

SCALE = {"apiVersion": "autoscaling/v1", "kind": "Scale"}


def topic(t):
    o = t.post("$C", cluster("a", t.ns))
    s = t.get("$C/a/scale")
    t.get("$C/a/scale", accept=TABLE)
    t.get("$C/none/scale")
    t.get("$I/none/scale")
    t.get("$G/instancetypes/x/scale")
    t.get("$C/a/scale?watch=true")
    t.post("$C/a/scale", s)
    t.delete("$C/a/scale")
    # Replace the scale.
    owners = lambda name="a": t.get(f"$C/{name}", only=lambda o: o["metadata"]["managedFields"])  # noqa: E731
    s = t.put("$C/a/scale", s)  # a no-op, except for the owner of the number
    owners()
    s = t.put("$C/a/scale", {**s, "spec": {"replicas": 3}})
    owners()
    t.put("$C/a/scale", s)  # a no-op
    t.put("$C/a/scale", {**s, "spec": {"replicas": 4}}, type=None)
    t.put("$C/a/scale", {**s, "spec": {"replicas": 5}})  # stale
    m = {k: v for k, v in s["metadata"].items() if k in ("name", "namespace")}
    t.put("$C/a/scale", {**SCALE, "metadata": m, "spec": {"replicas": 6}})
    t.put("$C/a/scale", {"metadata": m, "spec": {"replicas": 5}})
    t.put("$C/a/scale", {**SCALE, "metadata": {"name": "a"}, "spec": {"replicas": 4}})
    t.put("$C/a/scale", {**SCALE, "metadata": {"name": "b"}, "spec": {"replicas": 4}})
    t.put("$C/a/scale", {**SCALE, "metadata": {}, "spec": {"replicas": 4}})
    t.put("$C/a/scale", {**SCALE, "metadata": {"name": "a", "namespace": "other"}, "spec": {"replicas": 4}})
    t.put("$C/a/scale", {**SCALE, "metadata": {**m, "uid": "0"}, "spec": {"replicas": 4}}, differs="uid")
    t.put("$C/a/scale", {**SCALE, "metadata": {**m, "resourceVersion": "x"}, "spec": {"replicas": 4}}, differs="bad-version")
    t.put("$C/none/scale", {**SCALE, "metadata": {"name": "none"}, "spec": {"replicas": 4}})
    t.put("$C/a/scale", {**SCALE, "kind": "Other", "metadata": m, "spec": {"replicas": 4}})
    t.put("$C/a/scale", o)
    t.put("$C/a/scale", {**SCALE, "metadata": m})
    t.get("$C/a")
    t.put("$C/a/scale", {**SCALE, "metadata": m, "spec": {"replicas": 3}, "status": {"replicas": 7, "selector": "x"}})
    t.put("$C/a/scale", {**SCALE, "metadata": {**m, "labels": {"x": "y"}, "finalizers": ["a.b/c"]}, "spec": {"replicas": 3}})
    t.put("$C/a/scale", {**SCALE, "metadata": m, "spec": {"replicas": 3, "nope": 1}})
    t.put("$C/a/scale?fieldValidation=Strict", {**SCALE, "metadata": m, "spec": {"replicas": 3, "nope": 1}})
    # Invalid requests.
    for n in (-1, 1025, 2147483648, "3", 1.5, None):
        negative = "scale-negative" if n == -1 else None
        t.put("$C/a/scale", {**SCALE, "metadata": m, "spec": {"replicas": n}}, differs=negative)
        t.merge("$C/a/scale", {"spec": {"replicas": n}},
                differs="patch-decoding" if n in (2147483648, "3", 1.5) else negative)
    t.put("$C/a/scale", "nonsense")
    t.put("$C/a/scale", {**SCALE, "metadata": m, "spec": 3})
    t.put("$C/a/scale?dryRun=All", {**SCALE, "metadata": m, "spec": {"replicas": 9}})
    t.put("$C/a/scale?dryRun=Some", {**SCALE, "metadata": m, "spec": {"replicas": 9}})
    # Patches.
    s = t.merge("$C/a/scale?fieldManager=kubectl", {"spec": {"replicas": 2}})
    t.merge("$C/a/scale", {"spec": {"replicas": 2}})
    t.merge("$C/a/scale", {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 3}})
    t.merge("$C/a/scale", {"metadata": {"resourceVersion": s["metadata"]["resourceVersion"]}, "spec": {"replicas": 3}})
    t.merge("$C/a/scale", {"metadata": {"uid": "0"}, "spec": {"replicas": 3}})
    t.merge("$C/a/scale", {"metadata": {"name": "b"}, "spec": {"replicas": 3}})
    t.merge("$C/a/scale", {"kind": "Cluster", "spec": {"replicas": 3}}, differs="patch-decoding")
    t.merge("$C/a/scale", {"spec": None})
    t.merge("$C/a/scale", {"status": {"replicas": 3}})
    t.merge("$C/a/scale?fieldValidation=Strict", {"spec": {"nope": 3}}, differs="patch-decoding")
    t.merge("$C/a/scale?dryRun=All", {"spec": {"replicas": 12}})
    t.merge("$C/none/scale", {"spec": {"replicas": 12}})
    t.jsonpatch("$C/a/scale", [{"op": "add", "path": "/spec/replicas", "value": 5}])
    t.jsonpatch("$C/a/scale", [{"op": "replace", "path": "/spec/replicas", "value": 6}])
    t.jsonpatch("$C/a/scale", [{"op": "test", "path": "/spec/replicas", "value": 4}])
    t.jsonpatch("$C/a/scale", [{"op": "remove", "path": "/spec/replicas"}])
    t.strategic("$C/a/scale", {"spec": {"replicas": 2}})
    owners()
    # Who owns the number.
    mine = {**SCALE, "metadata": m, "spec": {"replicas": 2}}
    t.apply("$C/a/scale?fieldManager=hpa", mine, differs="scale-apply")
    t.apply("$C/a/scale", mine)
    t.apply("$C/a/scale?fieldManager=hpa", o, differs="scale-apply")
    t.apply("$C/none/scale?fieldManager=hpa", {**SCALE, "metadata": {"name": "none"}, "spec": {"replicas": 2}})
    t.apply("$C/a?fieldManager=owner", cluster("a", t.ns, 4))
    t.merge("$C/a/scale?fieldManager=kubectl", {"spec": {"replicas": 4}})  # a no-op: the other manager keeps it
    owners()
    t.merge("$C/a/scale?fieldManager=kubectl", {"spec": {"replicas": 1}})
    owners()
    t.apply("$C/a?fieldManager=owner", cluster("a", t.ns, 4))
    t.apply("$C/a?fieldManager=owner&force=true", cluster("a", t.ns, 4))
    owners()
    t.merge("$C/a/scale?fieldManager=kubectl", {"spec": {"replicas": 1}})
    t.merge("$C/a/scale?fieldManager=other", {"spec": {"replicas": 3}})
    t.merge("$C/a?fieldManager=patcher", {"spec": {"replicas": 2}})
    owners()
    t.merge("$C/a/scale", {"metadata": {"managedFields": [{}]}, "spec": {"replicas": 2}})
    owners()
    t.get("$C/a/scale", accept=PARTIAL)
    t.merge("$C/a/scale", {"spec": {"replicas": 3}}, accept=PARTIAL)
    t.get("$C/a/scale")
    # Validation of the object itself.
    t.merge("$C/a", {"spec": {"template": {"running": False, "ingress": [{"protocol": "icmp"}]}}})
    t.merge("$C/a", {"spec": {"template": {"type": "large"}}})
    t.merge("$C/a", {"spec": {"template": {"hostSelector": {"a": "b"}}}}, differs="optional-immutable")
    t.merge("$C/a", {"spec": {"template": {"ingress": [{"protocol": "tcp"}]}}}, differs="reasons")
    t.post("$C", cluster("n" * 63, t.ns, 0), only=lambda o: o["metadata"]["name"])
    t.post("$C", cluster("n" * 64, t.ns, 0), differs="reasons")
    # An object without the number.
    t.post("$C", cluster("b", t.ns, None))
    t.get("$C/b/scale")
    t.merge("$C/b/scale", {"spec": {"replicas": 0}})
    t.get("$C/b/scale")
    t.get("$C/b/scale", accept=TABLE)
    owners("b")
    t.merge("$C/b/scale", {"spec": {"replicas": 1}})
    owners("b")
    # The status, and the events of a watch of the object.
    t.merge("$C/a/status", {"status": {"replicas": 1, "readyReplicas": 0, "selector": "nacre.dev/cluster=a"}})
    s = t.get("$C/a/scale")
    t.watch("$C", resourceVersion=s["metadata"]["resourceVersion"])
    t.merge("$C/a/scale", {"spec": {"replicas": 7}})
    t.merge("$C/a/scale", {"spec": {"replicas": 7}})
    t.delete("$C/b")
    t.events(2)
    t.close()
    t.send("PATCH", "$C/a", {"metadata": {"finalizers": ["a.b/c"]}}, type="application/merge-patch+json").read()
    t.delete("$C/a", only=lambda o: o["metadata"]["name"])
    t.merge("$C/a/scale", {"spec": {"replicas": 3}})
