# SPDX-License-Identifier: Apache-2.0
"""Stock kubectl in every available version: the one in PATH, other versions beside it, and Debian's."""

import glob
import json
import os
import re
import shutil
import subprocess
import time

import oracle
import pytest
import yaml
from apilib import ADMIN, G, V, cluster, eventually, image, instance, path_of, pki

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", "/var/cache"), "nacre", "kubectl-debian")


def debian_kubectl():
    """Debian's kubernetes-client, unpacked in its own folder: it can't be installed beside another kubectl."""
    path = os.path.join(CACHE, "usr", "bin", "kubectl")
    if os.path.exists(path):
        return path
    try:
        os.makedirs(CACHE, exist_ok=True)
        subprocess.run(["apt-get", "download", "kubernetes-client"], cwd=CACHE, check=True, timeout=120,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for deb in glob.glob(os.path.join(CACHE, "*.deb")):
            subprocess.run(["dpkg-deb", "-x", deb, CACHE], check=True, timeout=240)
            os.unlink(deb)
        return path
    except (OSError, subprocess.SubprocessError):
        return None


def kubectls():
    found = {}
    here = shutil.which("kubectl")
    near = glob.glob(os.path.join(os.path.dirname(os.path.realpath(here)), "kubectl.*")) if here else []
    for path in [here, *sorted(near), os.path.join(oracle.BINARIES, "kubectl"), debian_kubectl()]:
        if not path or not os.access(path, os.X_OK):
            continue
        p = subprocess.run([path, "version", "--client", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           timeout=240)
        if p.returncode == 0:
            v = json.loads(p.stdout)["clientVersion"]["gitVersion"]
            found.setdefault(re.match(r"v\d+\.\d+", v)[0], path)
    versions = sorted(found, key=lambda v: int(v.split(".")[1]))
    if not os.environ.get("NACRE_TEST_ALL") and len(versions) > 3:
        versions = [versions[0], versions[len(versions) // 2], versions[-1]]
    return [pytest.param(found[v], id=v) for v in versions]


class Kubectl:
    def __init__(self, path, server, home):
        self.argv = [path, "--kubeconfig", f"{home}/kubeconfig", "--cache-dir", f"{home}/cache"]
        pki()("kubeconfig", pki().dir, f"--server=https://127.0.0.1:{server.port}", f"--user={ADMIN[0]}", f"--group={ADMIN[1]}",
              f"--out={home}/kubeconfig")
        self.env = {**os.environ, "HOME": str(home), "KUBECONFIG": f"{home}/none"}
        version = subprocess.run([path, "version", "--client", "-o", "json"], stdout=subprocess.PIPE, check=True).stdout
        self.minor = int(json.loads(version)["clientVersion"]["gitVersion"].split(".")[1])

    def run(self, *args, input=None, check=True, env=None, timeout=240):
        p = subprocess.run([*self.argv, *args], input=input, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env={**self.env, **(env or {})}, timeout=timeout)
        assert not check or p.returncode == 0, p.stderr
        return p

    def __call__(self, *args, **kw):
        return self.run(*args, **kw).stdout

    def apply(self, *objs, **kw):
        return self.run("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objs)}), **kw)

    def start(self, *args):
        return subprocess.Popen([*self.argv, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env)


@pytest.fixture(params=kubectls())
def kubectl(request, server, tmp_path):
    return Kubectl(request.param, server, tmp_path)


def test_api_resources_and_versions(kubectl):
    out = kubectl("api-resources")
    for words in (["instances", "inst", "true", "Instance"], ["addresspools", "pool", "false"], ["events", "ev", "true"]):
        assert any(all(w in line.split() for w in words) for line in out.splitlines()), out
    assert V in kubectl("api-versions").split()
    assert "v1.35.0-nacre" in kubectl("version")
    assert "instances.nacre.dev" in kubectl("api-resources", "--api-group", "nacre.dev", "-o", "name")
    assert "hosts.nacre.dev" in kubectl("get", "crd")
    kubectl("wait", "--for=condition=Established", "crd/instances.nacre.dev", "--timeout=60s")


def test_explain(kubectl):
    out = kubectl("explain", "instance.spec.ingress")
    assert "protocol" in out and "-required-" in out and "Destination port" in out
    assert "spec" in kubectl("explain", "inst")
    assert "ownerReferences" in kubectl("explain", "inst.metadata")
    assert "use" in kubectl("explain", "addresspools.spec")
    out = kubectl("explain", "firewall.spec")
    assert "defaultEgress" in out and "add up" in out
    assert "endPort" in kubectl("explain", "firewall.spec.ingress")
    assert "resourceNames" in kubectl("explain", "role.rules")
    if kubectl.minor >= 27:
        old = kubectl("explain", "instance.spec.ingress", "--output=plaintext-openapiv2")
        assert "RESOURCE: ingress <[]Object>" in old and "Destination port" in old and "-required-" in old


def test_get(kubectl, server):
    server.create(instance(labels={"a": "b"}))
    server.patch(path_of(instance()) + "/status", {"status": {
        "host": "h1", "address": "2001:db8::1", "conditions": [
            {"type": "Ready", "status": "True", "reason": "Running", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    out = kubectl("get", "inst").splitlines()
    assert out[0].split() == ["NAME", "READY", "REASON", "HOST", "ADDRESS", "AGE"]
    assert out[1].split()[:5] == ["a", "True", "Running", "h1", "2001:db8::1"]
    assert "TYPE" in kubectl("get", "instances", "-o", "wide")
    assert "a=b" in kubectl("get", "instances.nacre.dev", "a", "--show-labels")
    assert kubectl("get", "inst", "-A").split()[0] == "NAMESPACE"
    assert kubectl("get", "inst", "-l", "a=b", "-o", "name") == "instance.nacre.dev/a\n"
    assert "No resources found" in kubectl.run("get", "inst", "-l", "a=c").stderr
    assert yaml.safe_load(kubectl("get", "inst", "a", "-o", "yaml"))["status"]["host"] == "h1"
    assert kubectl("get", "inst", "a", "-o", "jsonpath={.spec.type}") == "small"
    assert kubectl("get", "inst", "--sort-by", ".metadata.name", "-o", "custom-columns=N:.metadata.name").split() == ["N", "a"]
    p = kubectl.run("get", "inst", "nope", check=False)
    assert p.returncode == 1 and 'Error from server (NotFound): instances.nacre.dev "nope" not found' in p.stderr
    assert "default" in kubectl("get", "ns") and "Active" in kubectl("get", "namespaces")
    for kind in ("instances,images", "nacre", "all"):
        kubectl("get", kind, "-A")


def test_scale(kubectl, server):
    """kubectl patches the scale subresource; with --current-replicas it sends a PUT without a Content-Type."""
    server.create(cluster("c", replicas=2))
    replicas = lambda: server.get(path_of(cluster("c"))).json["spec"]["replicas"]  # noqa: E731
    assert "scaled" in kubectl("scale", "cluster", "c", "--replicas=3") and replicas() == 3
    assert "scaled" in kubectl("scale", "ncl/c", "--replicas=5", "--current-replicas=3") and replicas() == 5
    p = kubectl.run("scale", "clusters.nacre.dev/c", "--replicas=6", "--current-replicas=3", check=False)
    assert p.returncode == 1 and "xpected replicas to be 3, was 5" in p.stderr and replicas() == 5
    owners = server.get(path_of(cluster("c"))).json["metadata"]["managedFields"]
    assert [e["subresource"] for e in owners if "f:replicas" in e["fieldsV1"].get("f:spec", {})] == ["scale"]
    assert "scaled" in kubectl("scale", "clusters", "--all", "--replicas=0") and replicas() == 0
    assert "scaled" in kubectl("scale", "cluster", "c", "--replicas=1") and replicas() == 1
    for n, word in ((1025, "1024"), (-1, "0")):
        p = kubectl.run("scale", "cluster", "c", f"--replicas={n}", check=False)
        assert p.returncode == 1 and word in p.stderr and replicas() == 1, p.stderr
    server.create(instance("i"))
    p = kubectl.run("scale", "instance", "i", "--replicas=2", check=False)
    assert p.returncode == 1 and "NotFound" in p.stderr, p.stderr
    if kubectl.minor >= 24:
        assert kubectl("get", "ncl", "c", "--subresource=scale").splitlines()[0].split() == ["NAME", "DESIRED", "AVAILABLE", "AGE"]


def test_rights(kubectl, server):
    """All versions of kubectl send these only as protobuf."""
    kubectl("create", "namespace", "t")
    kubectl("create", "role", "r", "-n", "t", "--verb=get,list", "--resource=instances.nacre.dev,secrets", "--resource-name=x")
    kubectl("create", "role", "all", "-n", "t", "--verb=get,list", "--resource=instances.nacre.dev")
    kubectl("create", "rolebinding", "b", "-n", "t", "--role=all", "--user=alice", "--serviceaccount=t:robot")
    kubectl("create", "clusterrole", "c", "--verb=get", "--non-resource-url=/metrics")
    kubectl("create", "clusterrolebinding", "c", "--clusterrole=c", "--group=g")
    rules = server.get("/apis/rbac.authorization.k8s.io/v1/namespaces/t/roles/r").json["rules"]
    assert {"apiGroups": ["nacre.dev"], "resources": ["instances"], "resourceNames": ["x"], "verbs": ["get", "list"]} in rules
    assert {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"], "verbs": ["get", "list"]} in rules
    kubectl("create", "secret", "generic", "s", "-n", "t", "--from-literal=a=hello")
    kubectl("create", "configmap", "m", "-n", "t", "--from-literal=a=hello")
    kubectl("create", "serviceaccount", "robot", "-n", "t")
    assert kubectl("get", "secret", "s", "-n", "t", "-o", "jsonpath={.data.a}") == "aGVsbG8="
    assert kubectl("get", "cm", "m", "-n", "t", "-o", "jsonpath={.data.a}") == "hello"
    assert kubectl("get", "sa", "-n", "t", "-o", "name").split() == ["serviceaccount/default", "serviceaccount/robot"]
    p = kubectl.run("create", "quota", "q", "-n", "t", "--hard=pods=1", check=False)
    assert p.returncode == 1 and "TenantQuota of nacre.dev" in p.stderr
    for who, may, may_not in (("alice", ["get", "instances"], ["delete", "instances"]),
                              ("system:serviceaccount:t:robot", ["list", "instances"], ["get", "secrets"])):
        assert kubectl("auth", "can-i", *may, "-n", "t", "--as", who) == "yes\n"
        assert kubectl.run("auth", "can-i", *may_not, "-n", "t", "--as", who, check=False).stdout.startswith("no")
    assert kubectl("auth", "can-i", "get", "/metrics", "--as", "x", "--as-group", "g") == "yes\n"
    out = kubectl("auth", "can-i", "--list", "-n", "t", "--as", "alice")
    assert any(line.split()[0] == "instances.nacre.dev" and line.endswith("[get list]") for line in out.splitlines()), out
    p = kubectl.run("get", "hosts", "--as", "alice", check=False)
    assert 'hosts.nacre.dev is forbidden: User "alice" cannot list resource "hosts" in API group "nacre.dev" at the ' \
        "cluster scope" in p.stderr
    assert "get" in kubectl("describe", "role", "all", "-n", "t") and "alice" in kubectl("describe", "rolebinding", "b", "-n", "t")


def test_get_many(kubectl, server):
    for n in range(23):
        server.create(image(f"i{n:02}"))
    assert kubectl("get", "images", "--chunk-size", "5", "-o", "name").split() == \
        [f"image.nacre.dev/i{n:02}" for n in range(23)]
    assert len(kubectl("get", "images", "--chunk-size", "5").splitlines()) == 24


def test_watch(kubectl, server):
    server.create(image("first"))
    p = kubectl.start("get", "images", "-w")
    try:
        seen = []
        for want in ("NAME", "first"):
            seen.append(p.stdout.readline())
            assert want in seen[-1], (seen, p.poll())
        server.create(image("second"))
        assert "second" in p.stdout.readline()
        server.delete(f"{G}/images/first")
        assert "first" in p.stdout.readline()
    finally:
        p.kill()
        p.communicate()


def test_apply(kubectl, server):
    assert "created" in kubectl.apply(image(), instance()).stdout
    before = server.get(path_of(instance())).json
    assert kubectl.apply(image(), instance()).stdout.count("unchanged") == 2
    assert server.get(path_of(instance())).json == before
    out = kubectl.apply(instance(running=False, ingress=[{"protocol": "icmp"}])).stdout
    assert "configured" in out
    assert server.get(path_of(instance())).json["spec"]["ingress"] == [{"protocol": "icmp"}]
    assert "configured" in kubectl.apply(instance(running=False)).stdout
    assert "ingress" not in server.get(path_of(instance())).json["spec"]
    p = kubectl.apply(instance("bad", colour="red"), check=False)
    assert p.returncode and "colour" in p.stderr, p.stderr
    p = kubectl.apply(instance("bad", running="yes"), check=False)
    assert p.returncode == 1 and "running" in p.stderr
    assert server.get(path_of(instance("bad"))).status == 404
    assert "deleted" in kubectl("delete", "-f", "-", input=json.dumps(image()))


def test_apply_server_side(kubectl, server):
    def apply(*args, check=True, **spec):
        return kubectl.run("apply", "--server-side", "-f", "-", *args, input=json.dumps(instance(**spec)), check=check)

    def stored():
        return server.get(path_of(instance())).json

    assert "serverside-applied" in apply(running=True, ingress=[{"protocol": "icmp"}]).stdout
    before = stored()
    apply(running=True, ingress=[{"protocol": "icmp"}])
    assert stored() == before
    p = apply("--field-manager=other", running=False, check=False)
    assert p.returncode == 1 and "conflict" in p.stderr and ".spec.running" in p.stderr, p.stderr
    assert stored() == before
    apply("--field-manager=other", "--force-conflicts", running=False)
    assert stored()["spec"]["running"] is False
    apply()
    assert "ingress" not in stored()["spec"] and stored()["spec"]["running"] is False
    owners = {m["manager"]: m["operation"] for m in stored()["metadata"]["managedFields"]}
    assert owners == {"kubectl": "Apply", "other": "Apply"}


def test_apply_server_side_after_client_side(kubectl, server):
    kubectl.apply(instance(ingress=[{"protocol": "icmp"}]))
    p = kubectl.run("apply", "--server-side", "-f", "-", input=json.dumps(instance()), check=False)
    if kubectl.minor < 26:
        pytest.skip("leaves what was applied by the client with its other manager")
    assert p.returncode == 0, p.stderr
    o = server.get(path_of(instance())).json
    assert "ingress" not in o["spec"]
    owners = {m["manager"]: m["operation"] for m in o["metadata"]["managedFields"]}
    assert owners == {"kubectl": "Apply", "kubectl-last-applied": "Apply"}


def test_diff_and_dry_run(kubectl, server):
    assert "created" in kubectl.apply(image(), check=True).stdout
    p = kubectl.run("diff", "-f", "-", input=json.dumps(image(kernel={"kernel": "other"})), check=False)
    assert p.returncode == 1 and "+    kernel: other" in p.stdout, p.stderr
    for how in ("server", "client"):
        assert "created" in kubectl("apply", f"--dry-run={how}", "-f", "-", input=json.dumps(image("dry")))
        p = kubectl.run("apply", f"--dry-run={how}", "-f", "-", input=json.dumps(image("dry", colour="red")), check=False)
        if how == "server" or kubectl.minor < 25:  # later versions leave the check to the server
            assert p.returncode == 1 and "colour" in p.stderr, p.stderr
    assert server.get(f"{G}/images/dry").status == 404


def test_edit(kubectl, server):
    server.create(instance())
    kubectl("edit", "inst", "a", env={"EDITOR": "sed -i s/running:.true/running:\\ false/", "KUBE_EDITOR": ""})
    o = server.get(path_of(instance())).json
    assert o["spec"]["running"] is False and o["metadata"]["generation"] == 2


def test_patch_label_annotate(kubectl, server):
    server.create(instance())
    kubectl("patch", "inst", "a", "--type=merge", "-p", '{"spec":{"running":false}}')
    kubectl("patch", "inst", "a", "--type=json", "-p", '[{"op":"add","path":"/spec/hostSelector","value":{}}]')
    p = kubectl.run("patch", "inst", "a", "-p", '{"spec":{"running":true}}', check=False)
    assert p.returncode and ("strategic-merge-patch+json is not supported" in p.stderr or kubectl.minor < 21)
    kubectl("label", "inst", "a", "x=1")
    assert kubectl.run("label", "inst", "a", "x=2", check=False).returncode == 1
    kubectl("label", "inst", "a", "x=2", "--overwrite")
    kubectl("annotate", "inst", "a", "n=some text")
    m = server.get(path_of(instance())).json["metadata"]
    assert m["labels"] == {"x": "2"} and m["annotations"] == {"n": "some text"}
    kubectl("label", "ns", "default", "team=blue")
    assert server.get("/api/v1/namespaces/default").json["metadata"]["labels"]["team"] == "blue"
    if kubectl.minor >= 24:
        kubectl("patch", "inst", "a", "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Running"}}')
        assert server.get(path_of(instance())).json["status"]["phase"] == "Running"


def test_create_replace_delete(kubectl, server):
    kubectl("create", "-f", "-", input=json.dumps(image()))
    p = kubectl.run("create", "-f", "-", input=json.dumps(image()), check=False)
    assert p.returncode == 1 and "AlreadyExists" in p.stderr
    kubectl("replace", "-f", "-", input=json.dumps(image(kernel={"kernel": "new"})))
    assert server.get(f"{G}/images/img").json["spec"]["kernel"]["kernel"] == "new"
    assert "created" in kubectl("create", "namespace", "tenant")
    server.create(instance("a", "tenant"))
    assert "deleted" in kubectl("delete", "ns", "tenant", "--timeout=240s")
    assert server.get("/api/v1/namespaces/tenant").status == 404
    assert "deleted" in kubectl("delete", "images", "--all")
    assert kubectl.run("delete", "image", "img", check=False).returncode == 1
    assert kubectl("delete", "image", "img", "--ignore-not-found") == ""
    for policy in ("background", "foreground", "orphan"):
        server.create(image())
        if kubectl.minor >= 21:
            kubectl("delete", "image", "img", f"--cascade={policy}", "--timeout=240s")
        else:
            kubectl("delete", "image", "img")
        eventually("deleted", 5, lambda: server.get(f"{G}/images/img").status == 404)


def watches(server):
    return int(re.search(r"^nacre_apiserver_watches (\d+)", server.get("/metrics").text, re.M)[1])


def test_wait(kubectl, server):
    def start(*args):
        """Starts kubectl wait; returns when it has seen the object and watches it."""
        p = kubectl.start("wait", "inst/a", "--timeout=240s", *args)
        eventually("kubectl watches", 20, lambda: watches(server) > 0)
        return p

    server.create(instance())
    p = start("--for=condition=Ready")
    condition = {"type": "Ready", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    server.patch(path_of(instance()) + "/status", {"status": {"conditions": [{**condition, "status": "False"}]}})
    server.patch(path_of(instance()) + "/status", {"status": {"conditions": [{**condition, "status": "True"}]}})
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0 and "condition met" in out, err
    p = kubectl.run("wait", "--for=condition=Nope", "inst/a", "--timeout=3s", check=False)
    assert p.returncode == 1 and "timed out" in p.stderr
    eventually("the watches before have ended", 20, lambda: watches(server) == 0)
    p = start("--for=delete")
    server.delete(path_of(instance()))
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err


def test_describe_and_events(kubectl, server):
    o = server.create(instance())
    server.create({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
                   "involvedObject": {"kind": "Instance", "name": "a", "namespace": "default",
                                      "uid": o["metadata"]["uid"], "apiVersion": V},
                   "reason": "Started", "message": "It runs.", "type": "Normal", "count": 3,
                   "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
                   "source": {"component": "test"}})
    out = kubectl("describe", "inst", "a")
    assert "Name:" in out and "Started" in out and "It runs." in out
    out = kubectl("get", "events")
    assert out.splitlines()[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "instance/a" in out.split() and "Started" in out and "It runs." in out
    if kubectl.minor >= 26:
        # --for accepts a name with its group only since 1.28.
        assert "Started" in kubectl("events", "--for", "instance.nacre.dev/a" if kubectl.minor >= 28 else "instance/a")
