# SPDX-License-Identifier: Apache-2.0
"""Roles and bindings: what they allow, what is refused and in which words; secrets, config maps, service accounts."""

from apilib import instance

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLES, BINDINGS = f"{RBAC}/namespaces/$ns/roles", f"{RBAC}/namespaces/$ns/rolebindings"
AUTHZ = "/apis/authorization.k8s.io/v1"


def as_user(name, *groups):
    """With several groups the message names only the first."""
    return {"headers": {"Impersonate-User": name, **({"Impersonate-Group": groups[0]} if groups else {})}}


def rbac(kind, name, ns=None, **rest):
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, **({"namespace": ns} if ns else {})}, **rest}


def rule(verbs, groups, resources, **rest):
    return {"verbs": verbs, "apiGroups": groups, "resources": resources, **rest}


def binding(name, ns, ref, *subjects):
    kind = "RoleBinding" if ns else "ClusterRoleBinding"
    return rbac(kind, name, ns, subjects=list(subjects),
                roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": ref.split("/")[0], "name": ref.split("/")[1]})


USER = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "x-alice"}


def core(kind, name, ns, **rest):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": ns}, **rest}


def clean(t):
    for path in (f"{RBAC}/clusterroles/x-cluster", f"{RBAC}/clusterrolebindings/x-cluster", f"{ROLES}/own", f"{ROLES}/more",
                 f"{BINDINGS}/own", f"{BINDINGS}/a:b", "$N/secrets/s", "$N/configmaps/c", "$N/serviceaccounts/robot"):
        t.send("DELETE", path).read()


def validation(t):
    t.post(ROLES, rbac("Role", "bad", t.ns, rules=[{"verbs": []}]))
    t.post(ROLES, rbac("Role", "bad", t.ns, rules=[{"verbs": ["get"], "nonResourceURLs": ["/x"]}]))
    t.post(ROLES, rbac("Role", "bad", t.ns, rules=[rule(["get"], ["a"], ["b"], nonResourceURLs=["/x"])]))
    t.post(ROLES, rbac("Role", "a%b", t.ns, rules=[]))
    t.post(f"{RBAC}/clusterroles", rbac("ClusterRole", "bad", aggregationRule={"clusterRoleSelectors": []}))
    t.post(f"{RBAC}/clusterroles", rbac("ClusterRole", "bad", rules=[rule(["get"], [""], [])]))
    t.post(BINDINGS, binding("bad", t.ns, "Other/x", USER))
    t.post(BINDINGS, binding("bad", t.ns, "Role/", USER))
    t.post(BINDINGS, binding("bad", t.ns, "Role/x", {"kind": "User", "name": ""}))
    t.post(BINDINGS, binding("bad", t.ns, "Role/x", {"kind": "Robot", "name": "x"}))
    t.post(BINDINGS, binding("bad", t.ns, "Role/x", {"kind": "User", "name": "x", "apiGroup": "a.b"}))
    t.post(f"{RBAC}/clusterrolebindings", binding("bad", None, "Role/x", USER))
    t.post(f"{RBAC}/clusterrolebindings", binding("bad", None, "ClusterRole/x", {"kind": "ServiceAccount", "name": "x"}))
    t.post(BINDINGS, binding("a:b", t.ns, "Role/none", {"kind": "Group", "name": "x-nobody"}))
    t.merge(f"{BINDINGS}/a:b", {"roleRef": {"name": "other"}})
    t.merge(f"{BINDINGS}/a:b", {"subjects": None})
    t.delete(f"{BINDINGS}/a:b")


def refusals(t, **who):
    t.get("$I", **who)
    t.get("$I/a", **who)
    t.get("$I?watch=true", **who)
    t.get("$I?fieldSelector=metadata.name=a", **who)
    t.post("$I", instance("a", t.ns), **who)
    t.put("$I/a", instance("a", t.ns), **who)
    t.merge("$I/a/status", {"status": {}}, **who)
    t.delete("$I/a", **who)
    t.delete("$I", **who)
    t.get("$G/instances", **who)
    t.get("$G/hosts/h", **who)
    t.get("$G/nothings", **who)
    t.get("$N/secrets/s", **who)
    t.get("$N", **who)
    t.get("/api/v1/namespaces", **who)
    t.get("/metrics", **who)
    t.post("/metrics", {}, **who)


def topic(t):
    clean(t)
    validation(t)
    alice = as_user("x-alice")
    refusals(t, **alice)
    t.post(f"{AUTHZ}/selfsubjectaccessreviews", {}, **as_user("system:anonymous", "system:unauthenticated"))

    t.post(ROLES, rbac("Role", "own", t.ns, rules=[
        rule(["get", "list"], ["nacre.dev"], ["instances"]),
        rule(["get"], [""], ["secrets"], resourceNames=["s"]),
        rule(["*"], ["rbac.authorization.k8s.io"], ["roles", "rolebindings"])]), only=lambda v: v["rules"])
    t.post(BINDINGS, binding("own", t.ns, "Role/own", USER), only=lambda v: [v["subjects"], v["roleRef"]])
    t.send("POST", "$I", instance("a", t.ns)).read()
    refusals(t, **alice)
    # Nobody can grant rights that he doesn't have.
    t.post(ROLES, rbac("Role", "more", t.ns, rules=[rule(["get", "delete"], ["nacre.dev"], ["instances", "images"])]))
    t.delete(f"{ROLES}/more", only=lambda v: v["status"])
    t.post(ROLES, rbac("Role", "more", t.ns, rules=[rule(["get", "delete", "list"], ["nacre.dev"], ["instances", "images"])]),
           **alice)
    t.post(ROLES, rbac("Role", "more", t.ns, rules=[rule(["get"], [""], ["secrets"], resourceNames=["s", "r"])]), **alice)
    t.post(ROLES, rbac("Role", "more", t.ns, rules=[rule(["get"], [""], ["secrets"], resourceNames=["s"])]), **alice,
           only=lambda v: v["rules"])
    t.merge(f"{ROLES}/more", {"rules": [rule(["*"], ["*"], ["*"])]}, **alice)
    t.post(BINDINGS, binding("more", t.ns, "ClusterRole/cluster-admin", USER), **alice)
    t.post(BINDINGS, binding("more", t.ns, "ClusterRole/none", USER), **alice)
    t.post(BINDINGS, binding("more", t.ns, "Role/more", {**USER, "name": "x-bob"}), **alice, only=lambda v: v["subjects"])
    t.delete(f"{BINDINGS}/more", only=lambda v: v["status"])
    t.post(f"{RBAC}/clusterroles", rbac("ClusterRole", "x-cluster", rules=[]), **alice)
    # Impersonation needs a right too.
    t.get("$I", headers={"Impersonate-Group": "x"})

    review = {"resource": "instances", "group": "nacre.dev", "verb": "get", "namespace": t.ns}
    for user, attributes in (("x-alice", review), ("x-alice", {**review, "verb": "delete"}), ("x-bob", review),
                             ("x-alice", {**review, "namespace": ""}), ("x-alice", {**review, "subresource": "status"})):
        t.post(f"{AUTHZ}/subjectaccessreviews", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes}}, only=lambda v: [v["spec"], v["status"]])
    t.post(f"{AUTHZ}/subjectaccessreviews", {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                                             "spec": {"resourceAttributes": review}})
    t.post(f"{AUTHZ}/selfsubjectaccessreviews", {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                                                 "spec": {}}, **alice)
    t.post(f"{AUTHZ}/selfsubjectaccessreviews", {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/version", "verb": "get"}}}, **alice, only=lambda v: v["status"])
    t.post(f"{AUTHZ}/namespaces/$ns/localsubjectaccessreviews", {
        "apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview",
        "metadata": {"namespace": t.ns}, "spec": {"user": "x-alice", "resourceAttributes": review}}, only=lambda v: v["status"])
    t.get(f"{AUTHZ}/subjectaccessreviews")

    secrets(t)
    clean(t)


def secrets(t):
    shown = {"only": lambda v: {k: v.get(k) for k in ("data", "stringData", "binaryData", "type", "immutable")}}
    t.post("$N/secrets", core("Secret", "s", t.ns, stringData={"a": "hello", "b": ""}, data={"a": "eA==", "c": "aGk="}), **shown)
    t.merge("$N/secrets/s", {"type": "x"})
    t.merge("$N/secrets/s", {"data": {"a": "$$"}})
    t.merge("$N/secrets/s", {"data": {"a b": "eA=="}})
    t.merge("$N/secrets/s", {"stringData": {"a": "more"}}, **shown)
    t.merge("$N/secrets/s", {"immutable": True}, **shown)
    t.merge("$N/secrets/s", {"data": {"a": "eA=="}})
    t.merge("$N/secrets/s", {"immutable": False})
    t.merge("$N/secrets/s", {"metadata": {"labels": {"a": "b"}}}, **shown)
    t.post("$N/secrets", core("Secret", "tls", t.ns, type="kubernetes.io/tls"))
    t.post("$N/secrets", core("Secret", "auth", t.ns, type="kubernetes.io/basic-auth"))
    t.post("$N/secrets", core("Secret", "token", t.ns, type="kubernetes.io/service-account-token"))
    t.post("$N/configmaps", core("ConfigMap", "c", t.ns, data={"a": "1"}, binaryData={"b": "eA=="}), **shown)
    t.merge("$N/configmaps/c", {"binaryData": {"a": "eA=="}})
    t.merge("$N/configmaps/c", {"data": {"..a": "x"}})
    t.merge("$N/configmaps/c", {"immutable": True}, **shown)
    t.merge("$N/configmaps/c", {"data": {"a": "2"}, "binaryData": None})
    t.post("$N/serviceaccounts", core("ServiceAccount", "robot", t.ns, automountServiceAccountToken=False),
           only=lambda v: v["automountServiceAccountToken"])
