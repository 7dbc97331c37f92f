# SPDX-License-Identifier: Apache-2.0
"""Strategic merge patches of kinds of Kubernetes itself: merge keys, sets, and every directive."""


def owner(o):
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}


def topic(t):
    c = "$N/configmaps"
    owners = [t.post(c, {"metadata": {"name": f"o{n}"}}) for n in range(4)]
    o1, o2, o3, o4 = [owner(o) for o in owners]
    u1, u2, u3 = o1["uid"], o2["uid"], o3["uid"]
    t.post(c, {"metadata": {"name": "c", "finalizers": ["a.b/1", "a.b/2"], "labels": {"x": "1", "y": "2"},
                            "ownerReferences": [o1, o2]}, "data": {"a": "1", "b": "2"}})
    t.strategic(f"{c}/c", {"data": {"a": None, "c": "3"}})
    t.strategic(f"{c}/c", {"data": {"c": "3"}})  # a no-op
    t.strategic(f"{c}/c", {"metadata": {"finalizers": ["a.b/3", "a.b/1"]}})
    t.strategic(f"{c}/c", {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/1", "a.b/9"]}})
    t.strategic(f"{c}/c", {"metadata": {"$setElementOrder/finalizers": ["a.b/3", "a.b/4", "a.b/2"], "finalizers": ["a.b/4"]}})
    t.strategic(f"{c}/c", {"metadata": {"$setElementOrder/finalizers": ["a.b/2", "a.b/3"]}})
    t.strategic(f"{c}/c", {"metadata": {"ownerReferences": [{**o2, "controller": True}, o3]}})
    t.strategic(f"{c}/c", {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": u1}]}})
    t.strategic(f"{c}/c", {"metadata": {"$setElementOrder/ownerReferences": [{"uid": u3}, {"uid": u2}],
                                        "ownerReferences": [{"uid": u3, "blockOwnerDeletion": True}]}})
    t.strategic(f"{c}/c", {"metadata": {"ownerReferences": [{"$patch": "replace"}, o4]}})
    t.strategic(f"{c}/c", {"data": {"$patch": "replace", "z": "26"}})
    t.strategic(f"{c}/c", {"data": {"$retainKeys": ["y"], "y": "25"}})
    t.strategic(f"{c}/c", {"data": {"$patch": "delete"}})
    t.strategic(f"{c}/c", {"metadata": {"labels": None, "annotations": {"n": "m"}}})
    t.strategic(f"{c}/c", {"data": {"$patch": "bogus"}})
    t.strategic(f"{c}/c", {"metadata": {"ownerReferences": [{"name": "no key"}]}})
    t.strategic(f"{c}/c", {"data": {"$retainKeys": ["y"], "w": "25"}})
    t.strategic(f"{c}/c", [1])
    t.strategic(f"{c}/none", {"data": {"w": "1"}})
    t.strategic(f"{c}/c?dryRun=All", {"data": {"w": "1"}})
    t.merge(f"{c}/c", {"metadata": {"finalizers": None, "ownerReferences": None}})
    t.delete(f"{c}/c")
    for o in owners:
        t.delete(f"{c}/{o['metadata']['name']}")
    a = "$N/serviceaccounts"
    t.post(a, {"metadata": {"name": "s"}, "secrets": [{"name": "a"}, {"name": "b"}], "imagePullSecrets": [{"name": "p"}]})
    t.strategic(f"{a}/s", {"secrets": [{"name": "c"}]})
    t.strategic(f"{a}/s", {"secrets": [{"$patch": "delete", "name": "a"}]})
    t.strategic(f"{a}/s", {"imagePullSecrets": [{"name": "q"}]})
    t.get(f"{a}/s")
    r = "/apis/rbac.authorization.k8s.io/v1/namespaces/$ns/roles"
    t.post(r, {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]})
    t.strategic(f"{r}/r", {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]})
    t.delete(f"{r}/r")
    t.post("$I", {"apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "a"},
                  "spec": {"type": "t", "image": "i"}})
    t.strategic("$I/a", {"spec": {"running": False}})  # not for custom resources
