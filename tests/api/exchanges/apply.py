# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: field managers, conflicts, lists by key, removal of fields that no manager owns any more."""

from apilib import V, instance

READY = {"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def topic(t):
    def conf(**spec):
        return {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"}, "spec": spec}

    def say(body, manager="one", path="$I/a", differs=None, **params):
        query = "&".join(f"{k}={v}" for k, v in {"fieldManager": manager, **params}.items())
        return t.apply(f"{path}?{query}", body, differs=differs)

    say(conf(type="small", image="debian"))
    say(conf(type="small", image="debian"))  # a no-op
    say(conf(type="small", image="debian", running=False))
    say(conf(running=True), "two")  # a conflict
    say(conf(running=False), "two")  # agrees: both managers own it
    say(conf(running=True), "two", force="true")
    say(conf(type="small", image="debian"))  # gives up running, which manager two still owns
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "labels": {"x": "1"}}}, "three")
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"}}, "three")  # the label is removed
    t.merge("$I/a?fieldManager=patcher", {"metadata": {"labels": {"y": "1"}}})
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "labels": {"y": "2"}}}, "three")
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "labels": {"y": "2"}}}, "three", force="true")
    say(conf(ingress=[{"protocol": "tcp", "port": 1}]), "two", force="true")
    say(conf(ingress=[{"protocol": "tcp", "port": 2}]), "four")

    # Conditions are a list by type.
    def conditions(*types, **kw):
        return {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"},
                "status": {"conditions": [{**READY, "type": x, **kw} for x in types]}}

    say(conditions("A", "B"), "s1", "$I/a/status")
    say(conditions("C"), "s2", "$I/a/status")
    say(conditions("A"), "s1", "$I/a/status")
    say(conditions("C", reason="Other"), "s1", "$I/a/status")
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"}}, "s2", "$I/a/status")
    t.get("$I/a")

    # Refused.
    t.apply("$I/a", conf(running=True))  # no manager
    say(conf(type="large"), "one", force="true")
    say({"kind": "Instance", "metadata": {"name": "a"}})
    say({"apiVersion": V, "kind": "Image", "metadata": {"name": "a"}})
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "b"}})
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "managedFields": [{}]}})
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "resourceVersion": "1"}})
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "uid": "x"}}, differs="reasons")
    say("{")
    say("[]")
    say(conf(type="small", image="debian"), "m" * 129)
    t.merge("$I/a?force=true", {})
    say(conf(type="small"), path="$I/incomplete")
    say(conf(type="small", image="debian", running=False), dryRun="All", force="true")
    say("apiVersion: nacre.dev/v1alpha1\nkind: Instance\nmetadata:\n  name: a\n  labels:\n    yaml: 'yes'\n", "yaml")
    t.get("$I/a")
    o = t.get("$I/a")
    t.put("$I/a?fieldManager=putter", {**o, "metadata": {**o["metadata"], "managedFields": []}}, differs="managed-reset")
    t.post("$I?fieldManager=creator", instance("b", t.ns))
    t.jsonpatch("$I/b", [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])
    t.apply("$N?fieldManager=one", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": t.ns, "labels": {"a": "b"}}})
    t.apply("$N?fieldManager=one", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": t.ns}})
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "u"},
         "spec": {"type": "t", "image": "i", "ingress": [{"protocol": "icmp"}, {"protocol": "icmp", "speed": 1}]}}, path="$I/u")
    say({"apiVersion": V, "kind": "Instance", "metadata": {"name": "u"},
         "spec": {"type": "t", "image": "i", "ingress": [{"protocol": 5}]}}, path="$I/u")
