# SPDX-License-Identifier: Apache-2.0
"""Kinds of Kubernetes itself: updates without a version, creation by update, nulls, times, generated names."""

from apilib import instance
from exchange import TABLE

LEASES = "/apis/coordination.k8s.io/v1/namespaces/$ns/leases"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/$ns"


def topic(t):
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    kinds = {"$N/configmaps": {"data": {"a": "1"}}, "$N/secrets": {"data": {"a": "eA=="}}, "$N/serviceaccounts": {},
             "$N/events": {"involvedObject": {"namespace": t.ns, "kind": "X", "name": "y"}},
             f"{RBAC}/roles": {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}, f"{RBAC}/rolebindings": {"roleRef": ref}, LEASES: {"spec": {"holderIdentity": "h"}}}
    for path, rest in kinds.items():
        t.send("DELETE", f"{path}/u").read()
        o = {"metadata": {"name": "u"}, **rest}
        event = "empty-members" if "events" in path else None
        t.put(f"{path}/u?dryRun=All", o, differs=event)
        blind = "events" in path or path == LEASES or RBAC in path
        t.put(f"{path}/u?dryRun=All", {**o, "metadata": {"name": "u", "uid": "x"}}, differs="uid" if blind else None)
        made = t.post(path, o, differs=event)
        t.put(f"{path}/u", {**o, "metadata": {"name": "u", "labels": {"a": "b"}}}, differs=event)
        t.put(f"{path}/u", {**o, "metadata": {"name": "u", "labels": {"a": "c"}, "resourceVersion": "1"}})
        meta = {"name": "u", "labels": {"a": None}, "annotations": {"n": None}, "uid": made["metadata"]["uid"]}
        t.put(f"{path}/u", {**o, "metadata": meta}, differs=event)
        t.merge(f"{path}/u", {"metadata": {"annotations": {"m": "1"}}}, differs=event)
        t.post(path, {**o, "metadata": {"name": "u", "generateName": "u-"}})
        t.delete(f"{path}/u", {"preconditions": {"uid": made["metadata"]["uid"]}}, only=lambda b: b.get("status"),
                 differs="deleted-account" if "accounts" in path else None)

    group = ref["apiGroup"]
    for n, subjects in enumerate((None, [{"kind": "User", "name": "ann", "apiGroup": group}, {"kind": "User", "name": "bob", "apiGroup": group},
                                       {"kind": "Group", "name": "g", "apiGroup": group}],
                                  [{"kind": "ServiceAccount", "name": "a", "namespace": "n"},
                                   {"kind": "ServiceAccount", "name": "b", "namespace": "m"}])):
        t.send("DELETE", f"{RBAC}/rolebindings/b{n}").read()
        t.post(f"{RBAC}/rolebindings", {"metadata": {"name": f"b{n}"}, "roleRef": ref, "subjects": subjects}, only=lambda b: b["roleRef"])
    t.get(f"{RBAC}/rolebindings", accept=TABLE)
    for n in range(3):
        t.delete(f"{RBAC}/rolebindings/b{n}", only=lambda b: b["status"])
    t.post(f"{LEASES}?dryRun=All", {"metadata": {"name": "l"}})
    t.post(f"{LEASES}?dryRun=All", {"metadata": {"name": "l"}, "spec": None})
    for time in ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-02-30T00:00:00.000000Z",
                 "2026-01-01T24:00:00.000000Z", "2026-01-01T00:00:60.000000Z", "2026-1-01T00:00:00.000000Z", "now", ""):
        t.post(f"{LEASES}?dryRun=All", {"metadata": {"name": "l"}, "spec": {"renewTime": time}},
               differs="reasons" if time != "2026-01-01T00:00:00.000000Z" else None)
    c = "$N/configmaps"
    t.post(f"{c}?dryRun=All", {"metadata": {"name": "c"}, "data": {"a": None, "b": "x"}})
    t.post(f"{c}?dryRun=All", {"metadata": {"name": "c", "labels": None, "annotations": {"a": None}}, "data": None})
    t.post("$I?dryRun=All", instance("c", t.ns, {"a": None}, hostSelector={"a": None, "b": "x"}))
    t.post("$I?dryRun=All", instance("c", t.ns, meta={"annotations": {"a": None}}, hostSelector={"a": None}))
    for prefix in ("g-", "g", "a" * 57, "a" * 58, "a" * 63, ""):
        t.post(f"{c}?dryRun=All", {"metadata": {"generateName": prefix}},
               only=lambda b: [b["metadata"]["name"][:-5], len(b["metadata"]["name"])])
    t.post("$I?dryRun=All", {**instance("", t.ns), "metadata": {"generateName": "b" * 70}},
           only=lambda b: [len(b["metadata"]["name"]), b["metadata"]["name"][:58]])
