# SPDX-License-Identifier: Apache-2.0
"""Server-side apply and the field managers that own fields."""

from apilib import V, instance

READY = {"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def config(name="a", meta=None, status=None, **spec):
    return {"apiVersion": V, "kind": "Instance", "metadata": {"name": name, **(meta or {})},
            **({"spec": spec} if spec else {}), **({"status": status} if status else {})}


BASE = {"type": "small", "image": "debian"}
PORT = [{"protocol": "tcp", "port": 1}]


def topic(t):
    def apply(name, manager, body, more="", **kw):
        return t.apply(f"$I/{name}?fieldManager={manager}{more}", body, **kw)

    # Ownership by updates, then by apply.
    t.post("$I", instance("a", t.ns, {"l": "1"}, ingress=PORT))
    apply("a", "x", config(running=False, **BASE))
    apply("a", "x", config(running=False, **BASE), "&force=true")
    apply("a", "x", config(running=False, **BASE))  # a no-op
    apply("a", "y", config(**BASE))  # another owner of the same value
    apply("a", "x", config(meta={"labels": {"m": "2"}}, running=False, ingress=PORT, **BASE))
    apply("a", "x", config(meta={"labels": {"n": "3"}}, running=False, **BASE))  # m is removed, n is added
    apply("a", "x", config(**BASE))  # running goes back to its default
    apply("a", "z", config(meta={"labels": {"l": "9"}, "annotations": {"q": "r"}}, ingress=[], **BASE))
    t.merge("$I/a?fieldManager=w", {"spec": {"ingress": None}, "metadata": {"labels": {"l": None, "k": "v"}}})
    t.put("$I/a", {**t.get("$I/a"), "metadata": {**t.get("$I/a")["metadata"], "annotations": {"put": "1"}}})
    # The status by itself.
    apply("a/status", "ctl", config(meta={"labels": {"no": "t"}}, status={"host": "h1", "conditions": [READY]}))
    apply("a/status", "two", config(status={"conditions": [{**READY, "type": "Other"}]}))
    apply("a/status", "two", config(status={"conditions": [{**READY, "status": "False"}]}))
    apply("a/status", "ctl", config(status={"host": "h1"}))
    apply("a/status", "ctl", config(status={"conditions": [READY, READY]}))
    t.merge("$I/a/status", {"status": {"phase": "Running"}})
    # Lists: a set, and one with keys.
    apply("a", "f", config(meta={"finalizers": ["a.b/1", "a.b/2"]}))
    apply("a", "g", config(meta={"finalizers": ["a.b/3", "a.b/1"]}))
    apply("a", "f", config(meta={"finalizers": ["a.b/2"]}))
    apply("a", "g", config(meta={"finalizers": []}))
    uid = t.post("$N/configmaps", {"metadata": {"name": "owner"}})["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    apply("a", "o", config(meta={"ownerReferences": [owner]}))
    apply("a", "p", config(meta={"ownerReferences": [{**owner, "controller": True}]}))
    apply("a", "o", config())
    apply("a", "f", config())
    t.delete("$N/configmaps/owner")
    # Invalid requests.
    t.apply("$I/a", config())
    apply("a", "m" * 129, config())
    t.merge("$I/a?force=true", {})
    apply("a", "x", {**config(), "kind": "Image"})
    apply("a", "x", {"metadata": {"name": "a"}})
    apply("a", "x", config("b", **BASE))
    apply("a", "x", config(meta={"managedFields": []}))
    apply("a", "x", config(meta={"resourceVersion": "1"}, **BASE))
    apply("a", "x", config(foo=1, **BASE))
    apply("a", "x", config(running="yes", **BASE))
    apply("a", "x", config(meta={"labels": ["a"]}, **BASE))
    apply("a", "x", config(type="other", image="debian"), "&force=true")  # immutable
    apply("a", "x", "a: [")
    apply("a", "x", "- 1")
    # Apply creates the object; YAML as people write it.
    apply("b", "x", "apiVersion: nacre.dev/v1alpha1\nkind: Instance\nmetadata:\n  name: b  # a name\n"
                    "spec: {type: small, image: &i debian, running: no}\n")
    apply("b", "x", config("b", type="small", image="debian"), "&dryRun=All")
    t.get("$I/b")
    apply("c", "x", {"apiVersion": V, "kind": "Instance", "spec": BASE})
    apply("c", "x", config("c", meta={"uid": "abc"}, **BASE))
    apply("c", "x", config("c", meta={"namespace": "default"}, **BASE))
    apply("c/status", "x", config("c", status={"host": "h"}))
    apply("c", "x", config("c", status={"host": "h"}, **BASE))
    # Clients send managedFields.
    t.jsonpatch("$I/c", [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])
    t.merge("$I/c?fieldManager=q", {"metadata": {"labels": {"untracked": "1"}}})
    apply("c", "q", config("c", meta={"labels": {"untracked": "2"}}))
    apply("c", "q", config("c", meta={"labels": {"untracked": "1"}}, **BASE))
    t.jsonpatch("$I/c", [{"op": "replace", "path": "/metadata/managedFields/0/operation", "value": "Bogus"}])
    t.jsonpatch("$I/c", [{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "renamed"}])
    # Entries of many updates are merged into one.
    for n in range(12):
        t.merge(f"$I/c?fieldManager=u{n:02}", {"metadata": {"annotations": {f"a{n}": "1"}}})
    # Kinds of Kubernetes itself.
    t.apply("$N/configmaps/m?fieldManager=x", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
                                               "data": {"a": "1", "b": "2"}})
    t.apply("$N/configmaps/m?fieldManager=y", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
                                               "data": {"a": "2"}})
    t.apply("$N/configmaps/m?fieldManager=x", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
                                               "data": {"b": "2"}})
    t.delete("$N/configmaps/m")
    r = "/apis/rbac.authorization.k8s.io/v1/namespaces/$ns/rolebindings"
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]}
    t.post(r, body)
    t.apply(f"{r}/b?fieldManager=x", body)
    t.delete(f"{r}/b")
    t.apply("$N?fieldManager=x", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": t.ns, "labels": {"a": "b"}}})
    t.apply("$N?fieldManager=x", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": t.ns}})
    lease = "/apis/coordination.k8s.io/v1/namespaces/$ns/leases"
    t.put(f"{lease}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "h"}})
    t.delete(f"{lease}/l")
