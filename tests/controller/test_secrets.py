# SPDX-License-Identifier: Apache-2.0
"""Which Secrets the agents of hosts may read, on nacre-apiserver and on a real kube-apiserver; and the DNS that
instances are told."""

import json
import os
import re
import subprocess

import pytest
from conftest import BIN, GROUP, ApiError, eventually
from harness import MORTAL, patient
from test_quota_kubernetes import inventory, kube, thing  # noqa: F401 (kube: a fixture)

RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE = "application/merge-patch+json"
LABEL = {"nacre.dev/grant": "host-secrets"}


BINDING = f"{RBAC}/namespaces/default/rolebindings/nacre-host-h1"


def user_subject(name):
    return {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}


class Api:
    """The same questions to either server. ASK(method, path, body, content type) returns the object; it fails if the
    server refuses."""

    def __init__(self, ask):
        self.ask = ask
        for ns in ("default", "other"):
            if ns == "other":
                ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}})
            for name in ("keys", "data", "more"):
                ask("POST", f"/api/v1/namespaces/{ns}/secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})

    def may(self, host, ns, name, verb="get", user=None):
        user = ({"user": user, "groups": ["system:authenticated"]} if user else
                {"user": f"system:nacre:host:{host}", "groups": ["system:nacre:hosts", "system:authenticated"]})
        what = {"verb": verb, "version": "v1", "resource": "secrets", "namespace": ns, "name": name}
        return self.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {**user, "resourceAttributes": what}})["status"]["allowed"]

    def readable(self, host="h1"):
        return {f"{ns}/{name}" for ns in ("default", "other") for name in ("keys", "data", "more") if self.may(host, ns, name)}

    def wait(self, *names, host="h1"):
        eventually(f"{host} may read {names}, not {self.readable(host)}", 20, lambda: self.readable(host) == set(names))

    def grants(self, kinds=("roles", "rolebindings")):
        """Without the random end of the names of Roles."""
        return {(kind, o["metadata"]["namespace"], re.sub("-[0-9a-f]{32}$", "-", o["metadata"]["name"])) for kind in kinds
                for o in self.ask("GET", f"{RBAC}/{kind}")["items"] if o["metadata"]["name"].startswith("nacre-host-")}

    def role(self):
        """The path of the Role that the RoleBinding names."""
        return f"{RBAC}/namespaces/default/roles/{self.ask('GET', BINDING)['roleRef']['name']}"

    def post(self, kind, name, **more):
        return self.ask("POST", f"{RBAC}/namespaces/default/{kind.lower()}s", {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, **more, "metadata": {"name": name, **more.get("metadata", {})}})

    def bind(self, name, role, user, **metadata):
        self.post("RoleBinding", name, metadata=metadata, subjects=[user_subject(user)],
                  roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role})

    def create(self, name, ns="default", **spec):
        self.ask("POST", f"{GROUP}/namespaces/{ns}/instances", thing("Instance", name, {
            "type": "small", "image": "i", "ipv4": "none", **spec}, namespace=ns))
        eventually(f"{name} is placed", 20, lambda: self.instance(name, ns).get("status", {}).get("host"))

    def instance(self, name, ns="default"):
        return self.ask("GET", f"{GROUP}/namespaces/{ns}/instances/{name}")

    def patch(self, path, body):
        return self.ask("PATCH", path, body, MERGE)

    def delete(self, name, ns="default"):
        self.ask("DELETE", f"{GROUP}/namespaces/{ns}/instances/{name}")


def keys_from(secret):
    return {"sshKeysFrom": {"secret": secret}}


def data_from(secret):
    return {"userDataFrom": {"secret": secret}}


def on_nacre(cloud, method, path, body=None, ctype="application/json"):
    return cloud.request(method, path, body, ctype)


def on_kubernetes(conn, method, path, body=None, ctype="application/json"):
    conn.request(method, path, json.dumps(body) if body else None, {"Content-Type": ctype})
    r = conn.getresponse()
    text = r.read().decode()
    if r.status >= 300:
        raise ApiError(r.status, text)
    return json.loads(text)


@pytest.fixture
def nacre(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=100, memory=100000, duration=600)
    return Api(lambda *args: on_nacre(cloud, *args))


@pytest.fixture
def kubernetes(kube, tmp_path):  # noqa: F811
    conn = kube.connect()
    inventory(conn, 1000)
    with open(tmp_path / "controller.log", "w") as log:
        controller = subprocess.Popen([*MORTAL, os.path.join(BIN, "nacre-controller"), "--kubeconfig",
                                       kube.kubeconfig("system:nacre:controller", ()), "--identity", "c"], stderr=log)
    try:
        yield Api(lambda *args: on_kubernetes(conn, *args))
    finally:
        controller.terminate()
        controller.wait(patient(15))
        print((tmp_path / "controller.log").read_text()[-3000:])


@pytest.fixture(params=["nacre", "kubernetes"])
def api(request):
    return request.getfixturevalue(request.param)


def test_agents_may_get_what_instances_of_their_host_name(api):
    api.create("a")
    api.create("b", **keys_from("keys"))
    api.wait("default/keys")
    assert not any(api.may("h1", "default", "keys", verb) for verb in ("list", "watch", "update", "patch", "delete"))
    assert not api.readable("h2") and not api.may("h1", "default", "none")
    # The Secrets of all instances add up, each once; a namespace says nothing about another.
    api.create("c", **keys_from("keys"), **data_from("data"))
    api.wait("default/keys", "default/data")
    assert api.ask("GET", api.role())["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["data", "keys"], "verbs": ["get"]}]
    api.create("o", "other", **data_from("more"))
    api.wait("default/keys", "default/data", "other/more")
    # An instance names another Secret, is deleted, is the last one.
    api.patch(f"{GROUP}/namespaces/default/instances/c", {"spec": data_from("more")})
    api.wait("default/keys", "default/more", "other/more")
    api.delete("c")
    api.wait("default/keys", "other/more")
    api.patch(f"{GROUP}/namespaces/default/instances/b", {"spec": {"sshKeysFrom": None}})
    api.delete("o", "other")
    api.wait()
    eventually("nothing is left", 20, lambda: not api.grants())


def test_an_instance_on_another_host(api):
    api.create("a", **keys_from("keys"))
    api.wait("default/keys")
    api.patch(f"{GROUP}/namespaces/default/instances/a/status", {"status": {"host": "h2"}})
    api.wait("default/keys", host="h2")
    api.wait()
    assert api.grants() == {("roles", "default", "nacre-host-h2-"), ("rolebindings", "default", "nacre-host-h2")}


def test_what_somebody_changes_is_put_back(api):
    api.create("a", **keys_from("keys"))
    api.wait("default/keys")
    rules = api.ask("GET", api.role())["rules"]

    def mended():
        """One Role, one RoleBinding that names it, and both as they were."""
        try:
            binding, role = api.ask("GET", BINDING), api.ask("GET", api.role())
        except ApiError as e:
            assert e.code == 404
            return False
        return (role.get("rules") == rules and binding.get("subjects") == [user_subject("system:nacre:host:h1")] and len(api.grants(["roles"])) == 1 and
                all(o["metadata"].get("labels") == LABEL for o in (role, binding)))
    eventually("it is there", 20, mended)
    for change in ({"rules": None}, {"rules": [{**rules[0], "resourceNames": ["more"]}]}, {"rules": [{**rules[0], "resourceNames": None}]}):
        path = api.role()
        api.patch(path, change)
        # The name isn't used again: somebody may have bound it.
        eventually(f"{change} is replaced", 20, lambda p=path: mended() and api.role() != p)
        with pytest.raises(ApiError):
            api.ask("GET", path)
    for change in ({"metadata": {"labels": None}}, {"subjects": None}, {"subjects": [user_subject("mallory")]}):
        before = api.ask("GET", BINDING)["metadata"]["resourceVersion"]
        api.patch(BINDING, change)
        eventually(f"{change} is put back", 20, lambda b=before: mended() and api.ask("GET", BINDING)["metadata"]["resourceVersion"] != b)
    for path in (api.role(), BINDING):
        uid = api.ask("GET", path)["metadata"]["uid"]
        api.ask("DELETE", path)
        eventually(f"{path} is there again", 20, lambda u=uid: mended() and u not in [api.ask("GET", p)["metadata"]["uid"] for p in (BINDING, api.role())])
    api.wait("default/keys")


def test_roles_and_bindings_of_a_tenant_with_such_names(api):
    """Whoever binds a Role before the controller needs its name, or one that the controller has made, gets nothing."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    for host in ("h1", "h9"):
        api.post("Role", f"nacre-host-{host}", rules=rules)
    # One looks like the controller's own.
    api.post("Role", "nacre-host-h1-0", rules=rules, metadata={"labels": LABEL, "annotations": {"nacre.dev/host": "h1"}})
    for name in ("nacre-host-h1", "nacre-host-h1-0"):
        api.bind(f"evil-{name}", name, "mallory")
    api.bind("nacre-host-h1", "nacre-host-h9", "mallory")
    api.create("a", **keys_from("keys"))
    api.wait("default/keys")
    # Now it is bound with what it has; what is added isn't added to it.
    seen = api.role()
    api.bind("evil-role", seen.rsplit("/", 1)[1], "knows-keys")
    api.create("b", **data_from("data"))
    api.wait("default/keys", "default/data")
    assert api.role() != seen
    assert not any(api.may(None, "default", name, user=user) for user in ("mallory", "knows-keys") for name in ("keys", "data"))
    api.delete("a")
    api.delete("b")
    api.wait()
    eventually("only the tenant's are left", 20, lambda: api.grants() == {("roles", "default", f"nacre-host-{h}") for h in ("h1", "h9")})


def test_a_finalizer_that_keeps_a_binding(cloud, nacre):
    """The instance says what is in the way."""
    nacre.post("Role", "r", rules=[])
    nacre.bind("nacre-host-h1", "r", "mallory", finalizers=["example.com/mine"])
    nacre.create("a", **keys_from("keys"))

    def said():
        return [e["message"] for e in nacre.ask("GET", "/api/v1/namespaces/default/events")["items"]
                if e["reason"] == "SecretForbidden" and e["involvedObject"]["name"] == "a"]
    eventually("an event says so", 20, said)
    assert "RoleBinding `nacre-host-h1`" in said()[0] and "finalizer" in said()[0]
    nacre.patch(BINDING, {"metadata": {"finalizers": None}})
    nacre.wait("default/keys")


def test_after_the_controller_was_away(cloud, nacre):
    """What changed meanwhile is found: grants that are missing, changed, and needed no more."""
    nacre.create("a", **keys_from("keys"))
    nacre.create("o", "other", **keys_from("keys"))
    nacre.wait("default/keys", "other/keys")
    cloud.stop("controller")
    nacre.ask("DELETE", nacre.role())
    nacre.ask("DELETE", BINDING)
    nacre.patch(f"{GROUP}/namespaces/other/instances/o", {"spec": {"sshKeysFrom": None}})
    cloud.start_controller()
    nacre.wait("default/keys")
    eventually("nothing else is left", 10, lambda: {g[1] for g in nacre.grants()} == {"default"})


def test_more_secrets_than_a_rule_holds(cloud, nacre):
    for n in range(150):
        nacre.ask("POST", f"{GROUP}/namespaces/default/instances", thing("Instance", f"i{n}", {
            "type": "small", "image": "i", "ipv4": "none", **keys_from(f"k{n}"), **data_from(f"d{n}")}))
        if n == 99:  # the host has room for 100
            cloud.host("h2", vcpus=100, memory=100000, duration=600)
    names = {f"{k}{n}" for k in "kd" for n in range(150)}

    def granted():
        rules = [r for o in nacre.ask("GET", f"{RBAC}/namespaces/default/roles")["items"] for r in o["rules"]]
        assert all(len(r["resourceNames"]) <= 256 for r in rules)
        return {n for r in rules for n in r["resourceNames"]} == names
    eventually("all are granted", 60, granted)


KEY, OTHER = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{c * 43}" for c in "AB")


def test_a_cluster_gives_its_members_what_the_template_says(cloud, nacre):
    def are(**want):
        fields = ("sshKeys", "sshKeysFrom", "userData", "userDataFrom")
        specs = [{k: v for k, v in i["spec"].items() if k in fields} for i in cloud.list("instances", "default")]
        return specs == [want] * 3
    cloud.create("Cluster", "c", {"replicas": 3, "template": {"type": "small", "image": "i", "sshKeys": [KEY], "userDataFrom": {"secret": "data"}}}, "default")
    eventually("all have it", 20, lambda: are(sshKeys=[KEY], userDataFrom={"secret": "data", "key": "user-data"}))
    nacre.wait("default/data")
    for change, want in (({"userDataFrom": None, "userData": "x", "sshKeys": [KEY, OTHER], "sshKeysFrom": {"secret": "keys", "key": "k"}},
                          {"userData": "x", "sshKeys": [KEY, OTHER], "sshKeysFrom": {"secret": "keys", "key": "k"}}),
                         ({"userData": None, "sshKeys": None, "sshKeysFrom": None}, {})):
        cloud.patch("clusters", "c", {"spec": {"template": change}}, "default")
        eventually(f"all have {want}", 20, lambda w=want: are(**w))
    cloud.patch("instances", "c-1", {"spec": {"userData": "mine"}}, "default")
    eventually("it is undone", 20, lambda: are())


BAD = {"-----BEGIN OPENSSH PRIVATE KEY-----\nswordfish": "is a private key, which must stay where it was made",
       "-----BEGIN RSA PRIVATE KEY----- swordfish": "is a private key, which must stay where it was made",
       "no-pty ssh-ed25519 AAAA": "must be a public key of OpenSSH", "ssh-ed25519 AAAA x\ny": "must be a public key of OpenSSH",
       "ssh-ed25519 AAAA J\u00fcrgen": "must be a public key of OpenSSH", "ssh-ed25519 AAAA\tx": "must be a public key of OpenSSH", "ssh-ed25519 AAAAA": "must be a public key of OpenSSH"}


def test_what_is_no_public_key_is_refused(api):
    """By either server, in Instances and Clusters, with the same words, which don't show it."""
    def refused(spec, text):
        for kind, whole in (("Instance", spec), ("Cluster", {"template": spec})):
            with pytest.raises(ApiError) as e:
                api.ask("POST", f"{GROUP}/namespaces/default/{kind.lower()}s", thing(kind, "a", whole))
            assert text in str(e.value) and "swordfish" not in str(e.value)
    for key, text in BAD.items():
        refused({"type": "t", "image": "i", "sshKeys": [KEY, key]}, text)
    refused({"type": "t", "image": "i", "userData": "x", "userDataFrom": {"secret": "s"}}, "only one of userData and userDataFrom may be set")
    api.ask("POST", f"{GROUP}/namespaces/default/instances", thing("Instance", "a", {
        "type": "t", "image": "i", "sshKeys": [f"{KEY} Juergen (work) <a@b>", "sk-ssh-ed25519@openssh.com AAAA"], "userData": "#cloud-config\n"}))


def dns(cloud, name):
    status = cloud.get("instances", name, "default")["status"]
    return status.get("dnsServers"), status.get("dnsSearch")


def test_dns_of_the_pool(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=100, memory=100000, duration=600)
    cloud.patch("addresspools", "inst", {"spec": {"dnsServers": ["192.0.2.53", "2001:db8::53"], "dnsSearch": ["a.example", "b.example"]}})
    for name in "ab":
        cloud.instance(name)
        eventually(f"{name} is placed", 20, lambda n=name: "host" in cloud.get("instances", n, "default").get("status", {}))
        assert dns(cloud, name) == (["192.0.2.53", "2001:db8::53"], ["a.example", "b.example"])
    cloud.patch("addresspools", "inst", {"spec": {"dnsServers": ["2001:db8::54"], "dnsSearch": None}})
    eventually("both are told", 20, lambda: dns(cloud, "a") == dns(cloud, "b") == (["2001:db8::54"], None))
    # No other change of the pool costs a look at its instances.
    before = cloud.metric("nacre_controller_reconciles_total")
    for n in range(5):
        cloud.patch("addresspools", "inst", {"spec": {"quarantineSeconds": n}})
    cloud.patch("addresspools", "inst", {"spec": {"dnsServers": None}})
    eventually("both are told", 20, lambda: dns(cloud, "a") == dns(cloud, "b") == (None, None))
    assert json.dumps(cloud.list("instances", "default")).count("2001:db8::54") == 0
    assert cloud.metric("nacre_controller_reconciles_total") - before < 60
