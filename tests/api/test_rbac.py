# SPDX-License-Identifier: Apache-2.0
"""Each forbidden request, sent by a user to whom it is forbidden: a tenant against another, a host's agent against
another host's, an edge, a user without rights, an unauthenticated client. Users have client certificates."""

import http.client
import json

import pytest
from apilib import G, V, cluster, eventually, instance, namespace

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ALICE, BOB, EVE = ("alice",), ("bob",), ("eve",)
H1, H2 = (("system:nacre:host:h1", "system:nacre:hosts"), ("system:nacre:host:h2", "system:nacre:hosts"))
EDGE = ("system:nacre:edge:e1", "system:nacre:edges")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases"


def binding(name, ns, role, user):
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": ns},
            "subjects": [{"kind": "User", "name": user}],
            "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}}


GIVEN = {"ip": "fd01::1", "mac": "02:00:00:00:00:01"}


def host(name, role=None):
    return {"apiVersion": V, "kind": "Host", "metadata": {"name": name},
            "spec": {"vtep": "fd00::1", **({"role": role} if role else {})}}


def endpoint(name, on, vtep="fd00::1", owner=None):
    """An Endpoint of an Instance, or without owner."""
    owner = owner and {"kind": "Instance", **{k: owner["metadata"][k] for k in ("namespace", "name", "uid")}}
    return {"apiVersion": V, "kind": "Endpoint", "metadata": {"name": name},
            "spec": {"host": on, "vtep": vtep, **GIVEN, **({"owner": owner} if owner else {})}}


def lease(name):
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "nacre-system"},
            "spec": {"holderIdentity": "x"}}


def event(name, ns, on, kind="Instance", about="a"):
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": ns},
            "involvedObject": {"kind": kind, "namespace": ns, "name": about}, "source": {"host": on}}


def path_of(ns, plural, name=""):
    group = "/api/v1" if plural in ("secrets", "configmaps", "serviceaccounts", "events") else \
        RBAC if plural.startswith("role") else G
    return f"{group}/namespaces/{ns}/{plural}" + (f"/{name}" if name else "")


class As:
    """The server with the rights of one user."""

    def __init__(self, server, user):
        self.server, self.user = server, user

    def __call__(self, method, path, body=None, **kw):
        conn = self.server.connection(self.user)
        try:
            return self.server.request(method, path, body, conn=conn, **kw)
        finally:
            conn.close()

    def may(self, method, path, body=None, **kw):
        a = self(method, path, body, **kw)
        assert a.status < 300, f"{self.user[0]} {method} {path}: {a.text}"
        return a.json

    def may_not(self, method, path, body=None, says="", **kw):
        a = self(method, path, body, **kw)
        assert a.status == 403 and a.json["reason"] == "Forbidden", f"{self.user[0]} {method} {path}: {a.status} {a.text}"
        assert says in a.json["message"], a.json["message"]


@pytest.fixture
def cloud(server):
    """Two tenants; alice and bob have one each. t1/a is on host h1, t2/a on h2."""
    for ns, user in (("t1", "alice"), ("t2", "bob")):
        server.create(namespace(ns))
        assert server.post(path_of(ns, "rolebindings"), binding("own", ns, "admin", user)).status == 201
        server.create(instance("a", ns))
        on = {"t1": "h1", "t2": "h2"}[ns]
        assert server.patch(f"{G}/namespaces/{ns}/instances/a/status", {"status": {
            "host": on, "vcpus": 1, "overlayAddress": GIVEN["ip"], "mac": GIVEN["mac"]}}).status == 200
        assert server.post(path_of(ns, "secrets"), {"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "b"},
                                                    "metadata": {"name": "s", "namespace": ns}}).status == 201
    return server


MERGE = {"type": "application/merge-patch+json"}


def test_tenants(cloud):
    alice = As(cloud, ALICE)
    own = path_of("t1", "instances")
    assert [i["metadata"]["name"] for i in alice.may("GET", own)["items"]] == ["a"]
    alice.may("POST", own, instance("b", "t1"))
    alice.may("PATCH", own + "/b", {"spec": {"running": False}}, **MERGE)
    alice.may("DELETE", own + "/b")
    alice.may("POST", path_of("t1", "clusters"), cluster("c", "t1"))
    alice.may("GET", path_of("t1", "clusters", "c") + "/scale")
    alice.may("PATCH", path_of("t1", "clusters", "c") + "/scale", {"spec": {"replicas": 3}}, **MERGE)
    alice.may("DELETE", path_of("t1", "clusters", "c"))
    alice.may("GET", path_of("t1", "secrets", "s"))
    alice.may("GET", "/api/v1/namespaces/t1")
    alice.may("GET", f"{G}/instancetypes")
    alice.may("GET", f"{G}/images")
    for method in ("GET", "PUT", "PATCH"):
        alice.may_not(method, path_of("t2", "clusters", "c") + "/scale", None if method == "GET" else {},
                      says='resource "clusters/scale"')
    for plural in ("instances", "clusters", "secrets", "configmaps", "serviceaccounts", "events", "roles", "rolebindings", "tenantquotas"):
        other = path_of("t2", plural)
        for method, path in (("GET", other), ("GET", other + "/a"), ("GET", other + "?watch=true"), ("DELETE", other),
                             ("DELETE", other + "/a"), ("POST", other), ("PUT", other + "/a"), ("PATCH", other + "/a")):
            alice.may_not(method, path, None if method in ("GET", "DELETE") else {}, says='User "alice" cannot ')
    alice.may_not("PATCH", own + "/a/status", {"status": {"host": "h2"}}, **MERGE)
    for path in (f"{G}/instances", f"{G}/hosts", f"{G}/endpoints", f"{G}/addresspools", f"{G}/allocations", f"{G}/edgepeers",
                 "/api/v1/namespaces", "/api/v1/secrets", f"{RBAC}/clusterroles", LEASES, "/metrics"):
        alice.may_not("GET", path)
    alice.may_not("GET", f"{G}/instances?fieldSelector=metadata.namespace=t1", says="at the cluster scope")
    alice.may_not("POST", path_of("t1", "tenantquotas"), {})
    alice.may_not("DELETE", "/api/v1/namespaces/t1")
    alice.may_not("POST", "/api/v1/namespaces", namespace("t3"))
    # The answer for a missing object is the same as for a forbidden one.
    alice.may_not("GET", f"{G}/namespaces/none/instances")
    alice.may_not("GET", "/apis/other.example/v1/things")


def test_rights_are_not_made(cloud):
    alice, bob = As(cloud, ALICE), As(cloud, BOB)
    alice.may("POST", path_of("t1", "rolebindings"), binding("help", "t1", "view", "bob"))
    bob.may("GET", path_of("t1", "instances"))
    bob.may_not("DELETE", path_of("t1", "instances", "a"))
    bob.may_not("GET", path_of("t1", "secrets"))
    alice.may_not("POST", path_of("t1", "rolebindings"), binding("more", "t1", "cluster-admin", "alice"),
                  says="is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"]")
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "t1"},
            "rules": [{"apiGroups": ["nacre.dev"], "resources": ["instances/status"], "verbs": ["get", "patch"]}]}
    alice.may_not("POST", path_of("t1", "roles"), role, says='Resources:["instances/status"], Verbs:["patch"]}')
    role["rules"][0]["verbs"] = ["get"]
    alice.may("POST", path_of("t1", "roles"), role)
    alice.may_not("PATCH", path_of("t1", "roles", "r"), {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]},
                  **MERGE)
    # Creating by a patch needs the right to create.
    role["rules"] = [{"apiGroups": ["nacre.dev"], "resources": ["instances"], "verbs": ["get", "patch"]}]
    assert cloud.put(path_of("t1", "roles", "r"), {**role, "metadata": {**role["metadata"], "resourceVersion": cloud.get(
        path_of("t1", "roles", "r")).json["metadata"]["resourceVersion"]}}).status == 200
    given = binding("only-patch", "t1", "r", "bob")
    alice.may("POST", path_of("t1", "rolebindings"), {**given, "roleRef": {**given["roleRef"], "kind": "Role"}})
    apply = {"type": "application/apply-patch+yaml"}
    bob.may("PATCH", path_of("t1", "instances", "a") + "?fieldManager=x&force=true", instance("a", "t1"), **apply)
    bob.may_not("PATCH", path_of("t1", "instances", "new") + "?fieldManager=x", instance("new", "t1"), **apply,
                says='User "bob" cannot create resource "instances"')
    alice.may("DELETE", path_of("t1", "rolebindings", "only-patch"))
    # A removed binding takes effect at once.
    alice.may("DELETE", path_of("t1", "rolebindings", "help"))
    bob.may_not("GET", path_of("t1", "instances"))
    # Impersonating another user needs a right; a ServiceAccount of one's own tenant may be impersonated.
    alice.may_not("GET", path_of("t1", "instances"), headers={"Impersonate-User": "bob"}, says="cannot impersonate")
    alice.may_not("GET", path_of("t1", "instances"), headers={"Impersonate-User": "alice", "Impersonate-Group": "system:masters"})
    alice.may_not("GET", path_of("t1", "instances"), headers={"Impersonate-User": "system:serviceaccount:t2:default"})
    alice.may_not("GET", path_of("t1", "instances"), headers={"Impersonate-User": "system:serviceaccount:t1:default"},
                  says='User "system:serviceaccount:t1:default" cannot list')


def test_nobody(cloud):
    eve = As(cloud, EVE)
    for path in ("/api", "/apis", "/version", G):
        eve.may("GET", path)
    eve.may("GET", f"{G}/instancetypes")
    for path in (path_of("t1", "instances"), f"{G}/hosts", "/api/v1/namespaces/t1", "/metrics"):
        eve.may_not("GET", path)
    nobody = As(cloud, ())
    try:
        for path in (path_of("t1", "instances"), f"{G}/instancetypes", "/apis"):
            assert nobody("GET", path).status in (401, 403)
    except (OSError, http.client.HTTPException):
        pass  # a client without a certificate may be refused at the handshake


def test_hosts(cloud):
    h1, h2 = As(cloud, H1), As(cloud, H2)
    mine, other = f"{G}/namespaces/t1/instances/a", f"{G}/namespaces/t2/instances/a"
    h1.may("POST", f"{G}/hosts", host("h1"))
    h2.may("POST", f"{G}/hosts", host("h2"))
    h1.may_not("PATCH", f"{G}/hosts/h1", {"spec": {"vtep": "fd00::2"}}, **MERGE, says="may not change the spec of its Host")
    assert cloud.patch(f"{G}/hosts/h1", {"spec": {"vtep": "fd00::2"}}).status == 200
    h1.may("PATCH", f"{G}/hosts/h1/status", {"status": {"version": "1"}}, **MERGE)
    h1.may_not("POST", f"{G}/hosts", host("h3"), says="host h1 may write no Host but its own")
    for sub in ("", "/status"):
        h1.may_not("PATCH", f"{G}/hosts/h2{sub}", {"spec": {"vtep": "fd00::3"}, "status": {"version": "1"}}, **MERGE)
    h1.may_not("DELETE", f"{G}/hosts/h1")
    h1.may_not("PATCH", f"{G}/hosts/h1", {"spec": {"role": "edge"}}, **MERGE)

    h1.may("POST", LEASES, lease("host-h1"))
    h1.may("PATCH", LEASES + "/host-h1", {"spec": {"leaseDurationSeconds": 4}}, **MERGE)
    h1.may_not("POST", LEASES, lease("host-h2"), says="no Lease but nacre-system/host-h1")
    h1.may_not("POST", LEASES, lease("nacre-controller"))
    h1.may_not("POST", LEASES.replace("nacre-system", "t1"), {})

    of = {"h1": cloud.get(mine).json, "h2": cloud.get(other).json}
    own = {h: f"i-{i['metadata']['uid']}" for h, i in of.items()}
    h1.may("POST", f"{G}/endpoints", endpoint(own["h1"], "h1", "fd00::2", of["h1"]))
    h1.may_not("POST", f"{G}/endpoints", endpoint(own["h1"], "h1", "fd00::1", of["h1"]), says="spec.vtep of Host h1 is fd00::2")
    h1.may_not("POST", f"{G}/endpoints", endpoint(own["h2"], "h1", "fd00::2", of["h2"]), says="is not on host h1")
    h2.may("POST", f"{G}/endpoints", endpoint(own["h2"], "h2", "fd00::1", of["h2"]))
    assert len(h1.may("GET", f"{G}/endpoints")["items"]) == 2, "everybody's: they are where packets go"
    h1.may_not("POST", f"{G}/endpoints", endpoint("e3", "h2"), says="its spec.host is not h1: host h1 may not write it")
    h1.may_not("PATCH", f"{G}/endpoints/{own['h2']}", {"spec": {"vtep": "fd00::9"}}, **MERGE)
    h1.may_not("PATCH", f"{G}/endpoints/{own['h2']}", {"spec": {"host": "h1"}}, **MERGE)
    h1.may_not("PATCH", f"{G}/endpoints/{own['h1']}", {"spec": {"host": "h2"}}, **MERGE, says="may not change its spec.host from h1 to h2")
    h1.may_not("DELETE", f"{G}/endpoints/{own['h2']}")
    h1.may_not("DELETE", f"{G}/endpoints")
    h1.may("DELETE", f"{G}/endpoints/{own['h1']}")

    assert len(h1.may("GET", f"{G}/instances?fieldSelector=status.host=h1")["items"]) == 1
    h1.may("GET", mine)
    for query in ("", "?fieldSelector=status.host=h2", "?fieldSelector=status.host!=h1", "?watch=true",
                  "?fieldSelector=status.host=h11", "?labelSelector=status.host=h1"):
        h1.may_not("GET", f"{G}/instances{query}", says="its own Instances only, by fieldSelector=status.host=h1")
    h1.may_not("GET", other)
    h1.may("PATCH", mine + "/status", {"status": {"phase": "Running", "restarts": 1}}, **MERGE)
    h1.may_not("PATCH", other + "/status", {"status": {"phase": "Running"}}, **MERGE, says="its status.host is not h1: host h1 may not see or write it")
    h1.may_not("PATCH", mine + "/status", {"status": {"host": "h2"}}, **MERGE)
    h1.may_not("PATCH", mine + "/status", {"status": {"host": None}}, **MERGE)
    h1.may_not("PATCH", other + "/status", {"status": {"host": "h1"}}, **MERGE)
    h1.may_not("PATCH", mine + "/status", {"status": {"mac": "02:00:00:00:00:02"}}, **MERGE, says="only phase, restarts, portSlicesWanted, firewall and")
    for method, path in (("PATCH", mine), ("DELETE", mine), ("PUT", mine), ("POST", path_of("t1", "instances"))):
        h1.may_not(method, path, None if method == "DELETE" else {}, **({} if method == "DELETE" else MERGE))

    events = path_of("t1", "events")
    h1.may("POST", events, event("e", "t1", "h1"))
    h1.may("PATCH", events + "/e", {"count": 2}, **MERGE)
    h1.may_not("POST", events, event("f", "t1", "h2"))
    h2.may_not("POST", events, event("f", "t1", "h2"), says="only about its own objects that exist")
    h2.may_not("PATCH", events + "/e", {"count": 3}, **MERGE)
    h1.may_not("POST", events, event("f", "t1", "h1", "Secret", "s"))
    for path in (path_of("t1", "secrets"), path_of("t1", "configmaps"), f"{G}/allocations", f"{G}/addresspools"):
        h1.may_not("GET", path)
    # In the group, but its name has no host: nothing is allowed.
    fake = As(cloud, ("somebody", "system:nacre:hosts"))
    fake.may_not("POST", f"{G}/hosts", host("somebody"), says="its name says no host")
    fake.may_not("GET", f"{G}/instances?fieldSelector=status.host=h1")


def test_edges(cloud):
    edge = As(cloud, EDGE)
    peer = {"apiVersion": V, "kind": "EdgePeer", "metadata": {"name": "p"},
            "spec": {"edge": "e1", "interface": "eth0", "localASN": 1, "remoteASN": 2}}
    cloud.create(peer)
    cloud.create({**peer, "metadata": {"name": "q"}, "spec": {**peer["spec"], "edge": "e2"}})
    edge.may("POST", f"{G}/hosts", host("e1", "edge"))
    edge.may_not("POST", f"{G}/hosts", host("e2", "edge"))
    edge.may_not("PATCH", f"{G}/hosts/e1", {"spec": {"role": "compute"}}, **MERGE)
    edge.may("POST", LEASES, lease("host-e1"))
    edge.may("POST", f"{G}/endpoints", endpoint("edge-e1", "e1"))
    edge.may_not("POST", f"{G}/endpoints", endpoint("y", "h1"), says="edge e1 may not write it")
    edge.may("PATCH", f"{G}/edgepeers/p/status", {"status": {"state": "Idle"}}, **MERGE)
    edge.may_not("PATCH", f"{G}/edgepeers/q/status", {"status": {"state": "Idle"}}, **MERGE)
    edge.may_not("PATCH", f"{G}/edgepeers/p", {"spec": {"remoteASN": 3}}, **MERGE)
    edge.may("GET", f"{G}/addresspools")
    edge.may_not("GET", f"{G}/instances?fieldSelector=status.host=e1")
    edge.may_not("PATCH", f"{G}/namespaces/t1/instances/a/status", {"status": {"phase": "Failed"}}, **MERGE)


def test_controller(cloud):
    c = As(cloud, ("system:nacre:controller",))
    for plural in ("instances", "clusters", "hosts", "addresspools", "allocations", "endpoints", "instancetypes", "tenantquotas"):
        c.may("GET", f"{G}/{plural}")
    c.may("PATCH", f"{G}/namespaces/t1/instances/a", {"metadata": {"finalizers": ["nacre.dev/x"]}}, **MERGE)
    c.may("PATCH", f"{G}/namespaces/t1/instances/a/status", {"status": {"host": "h2"}}, **MERGE)
    c.may("POST", LEASES, lease("nacre-controller"))
    for path in ("/api/v1/secrets", f"{RBAC}/clusterroles", "/api/v1/namespaces"):
        c.may_not("GET", path)
    c.may("POST", f"{G}/namespaces/t1/instances", instance("c-0", "t1"))  # a member of a Cluster
    c.may("DELETE", f"{G}/namespaces/t1/instances/c-0")
    c.may_not("PATCH", f"{G}/namespaces/t1/clusters/c/scale", {"spec": {"replicas": 3}}, **MERGE)
    c.may_not("POST", LEASES.replace("nacre-system", "t1"), {})


def test_aggregation_and_restart(cloud):
    alice = As(cloud, ALICE)
    path = f"{RBAC}/clusterroles"
    alice.may_not("GET", f"{G}/hosts/x")
    cloud.post(path, {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                      "metadata": {"name": "quotas", "labels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}},
                      "rules": [{"apiGroups": ["nacre.dev"], "resources": ["tenantquotas"], "verbs": ["delete"]}]})
    tried = lambda: alice("DELETE", path_of("t1", "tenantquotas", "q")).status  # noqa: E731
    eventually("the right is there", 10, lambda: tried() == 404)
    # A changed default role keeps its additions and gets back missing rules, unless its annotation forbids this.
    cloud.patch(f"{path}/nacre:view", {"rules": [{"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]}]})
    cloud.patch(f"{path}/nacre:catalog", {"rules": [], "metadata": {
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}})
    cloud.delete(f"{path}/nacre:edit")
    # As another version may have said it: the same rights in other rules are not given again.
    hosts = cloud.get(f"{path}/system:nacre:hosts").json["rules"]
    split = [{**r, "resources": [x], "verbs": [v]} for r in hosts for x in r["resources"] for v in r["verbs"]]
    assert cloud.patch(f"{path}/system:nacre:hosts", {"rules": split[:-1]}).status == 200
    cloud.stop()
    cloud.start()
    assert cloud.get(f"{path}/system:nacre:hosts").json["rules"] == split[:-1] + hosts[-1:]
    groups = [r["apiGroups"] for r in cloud.get(f"{path}/nacre:view").json["rules"]]
    assert groups == [["x"], ["nacre.dev"]]
    assert cloud.get(f"{path}/nacre:edit").status == 200
    alice.may_not("GET", f"{G}/images")
    alice.may("GET", path_of("t1", "instances"))
    cloud.delete(f"{path}/quotas")
    eventually("the right is gone", 10, lambda: tried() == 403)
    # A namespace's ServiceAccount `default` is created with it, and created again after a deletion.
    account = "/api/v1/namespaces/t1/serviceaccounts/default"
    uid = cloud.get(account).json["metadata"]["uid"]
    cloud.delete(account)
    eventually("it is back", 10, lambda: cloud.get(account).status == 200 and cloud.get(account).json["metadata"]["uid"] != uid)


def test_many_bindings(cloud):
    """The time of a request doesn't depend on the bindings of other users."""
    alice = As(cloud, ALICE)
    conn = cloud.connection()
    for n in range(2000):
        b = binding(f"b{n}", "t2", "view", f"user{n}")
        assert cloud.post(path_of("t2", "rolebindings"), json.dumps(b), conn=conn).status == 201
    conn.close()
    As(cloud, ("user1999",)).may("GET", path_of("t2", "instances"))
    alice.may_not("GET", path_of("t2", "instances"))
