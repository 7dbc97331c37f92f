# SPDX-License-Identifier: Apache-2.0
"""nacre export and nacre import move a cloud between servers of either kind, and nothing is lost."""

import itertools
import json
import os
import stat
import subprocess
import time

import pytest
from apilib import NACRE, ROOT, G, Server, eventually, fresh_server, image, instance, namespace, pool

I = f"{G}/namespaces/red/instances"
STATUS = {"host": "h1", "vcpus": 1, "memoryMiB": 256, "prefix": "2001:db8:1::/64", "address": "2001:db8:1::1",
          "overlayAddress": "fd00:1::7", "mac": "02:4e:01:00:00:07", "phase": "Running", "restarts": 2}
NOW = "2026-01-01T00:00:00Z"


def obj(kind, name, spec=None, ns=None, version="nacre.dev/v1alpha1", **more):
    meta = {"name": name, **({"namespace": ns} if ns else {}), **more.pop("meta", {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **({"spec": spec} if spec else {}), **more}


def put_status(server, path, status):
    a = server.patch(f"{path}/status", {"status": status})
    assert a.status == 200, a.text


def fill(server):
    """A small cloud with one of everything."""
    server.create(namespace("red"))
    server.patch("/api/v1/namespaces/red", {"metadata": {"labels": {"team": "a"}, "annotations": {"note": "x\ny"}}})
    server.create({**image("lab"), "metadata": {"name": "lab", "labels": {"a": "b"}}})
    server.create(obj("InstanceType", "small", {"vcpus": 1, "memoryMiB": 256}))
    server.create(pool("inst", "2001:db8:1::/56"))
    put_status(server, f"{G}/addresspools/inst", {"used": 1, "total": 256})
    host = server.create(obj("Host", "h1", {"vtep": "fd00:a::1", "role": "compute"}))
    put_status(server, f"{G}/hosts/h1", {"version": "1", "conditions": [
        {"type": "Ready", "status": "True", "reason": "AgentReady", "lastTransitionTime": NOW, "observedGeneration": 1}]})
    edge = server.create(obj("Host", "e1", {"vtep": "fd00:a::2", "role": "edge"}))
    server.create(obj("EdgePeer", "p", {"edge": "e1", "interface": "wan", "localASN": 64512, "remoteASN": 64513}))
    web = server.create(instance("web", "red", meta={"finalizers": ["nacre.dev/instance"]}, image="lab"))
    server.patch(f"{I}/web", {"spec": {"ingress": [{"protocol": "tcp", "port": 80}]}})  # generation 2
    conditions = [{"type": t, "status": "True", "reason": t, "message": "all is “well”", "lastTransitionTime": NOW,
                   "observedGeneration": g} for t, g in (("Ready", 2), ("Scheduled", 1))]
    uid = web["metadata"]["uid"]
    put_status(server, f"{I}/web", {**STATUS, "id": uid, "conditions": conditions})
    server.create(instance("new", "red", image="lab"))  # no controller has seen it yet
    going = instance("going", "red", meta={"finalizers": ["nacre.dev/instance"]}, image="lab")
    server.create(going)
    put_status(server, f"{I}/going", {"host": "h1"})
    assert server.delete(f"{I}/going").status == 200
    owner = {"kind": "Instance", "namespace": "red", "name": "web", "uid": uid}
    server.create(obj("Allocation", "ip6-2001-db8-1--64", {"pool": "inst", "value": "2001:db8:1::/64", "owner": owner}))
    server.create(obj("Allocation", "ip6-2001-db8-1-1--64", {"pool": "inst", "value": "2001:db8:1:1::/64", "owner": owner}))
    put_status(server, f"{G}/allocations/ip6-2001-db8-1-1--64", {"releasedAt": NOW})
    server.create(obj("Endpoint", f"i-{uid}", {"host": "h1", "vtep": "fd00:a::1", "ip": "fd00:1::7",
                                              "mac": "02:4e:01:00:00:07", "owner": owner}))
    server.create(obj("Endpoint", "e1", {"host": "e1", "vtep": "fd00:a::2", "ip": "fd00:1::8", "mac": "02:4e:01:00:00:08",
                                         "owner": {"kind": "Host", "name": "e1", "uid": edge["metadata"]["uid"]}}))
    server.create(obj("TenantQuota", "q", {"instances": 1}, "red"), expect=201)  # less than is in use
    config = server.create(obj("ConfigMap", "app", ns="red", version="v1", data={"a": "1", "b": "ü\u0001"},
                               binaryData={"x": "AAEC"}))
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "app", "uid": config["metadata"]["uid"]}
    secret = server.create(obj("Secret", "key", ns="red", version="v1", type="Opaque", data={"k": "c2VjcmV0"},
                               meta={"ownerReferences": [ref]}))
    # Their owners come later in the order of kinds.
    ref = {"apiVersion": "v1", "kind": "Secret", "name": "key", "uid": secret["metadata"]["uid"]}
    late = {"apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "name": "new",
            "uid": server.get(f"{I}/new").json["metadata"]["uid"], "blockOwnerDeletion": True}
    server.create(obj("ConfigMap", "of-both", ns="red", version="v1", meta={"ownerReferences": [ref, late]}, data={"y": "z"}))
    server.create(obj("ServiceAccount", "bot", ns="red", version="v1"))
    server.create(obj("Secret", "token", ns="red", version="v1", type="kubernetes.io/service-account-token",
                      meta={"annotations": {"kubernetes.io/service-account.name": "bot"}}))
    rbac = "rbac.authorization.k8s.io"
    server.create(obj("Role", "r", ns="red", version=f"{rbac}/v1",
                      rules=[{"apiGroups": ["nacre.dev"], "resources": ["instances"], "verbs": ["get"]}]))
    server.create(obj("RoleBinding", "rb", ns="red", version=f"{rbac}/v1",
                      roleRef={"apiGroup": rbac, "kind": "Role", "name": "r"},
                      subjects=[{"kind": "ServiceAccount", "name": "bot", "namespace": "red"}]))
    server.create(obj("ClusterRole", "mine", version=f"{rbac}/v1",
                      rules=[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]))
    return host


# Parts that each server sets itself.
OWN = {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp"}
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PLACES = [f"{G}/{k}" for k in ("images", "instancetypes", "hosts", "addresspools", "allocations", "edgepeers", "endpoints",
                               "instances", "tenantquotas")] + [
    "/api/v1/namespaces/red/configmaps", "/api/v1/namespaces/red/secrets", "/api/v1/namespaces/red/serviceaccounts",
    f"{RBAC}/namespaces/red/roles", f"{RBAC}/namespaces/red/rolebindings", f"{RBAC}/clusterroles/mine",
    "/api/v1/namespaces/red"]


def picture(server):
    """Everything that is moved, without what each server sets itself; owners by name."""
    found, names = {}, {}
    for path in PLACES:
        answer = server.get(path)
        for o in answer.json.get("items", [answer.json]) if answer.status == 200 else []:
            names[o["metadata"]["uid"]] = f"{path} {o['metadata']['name']}"
            found[f"{path} {o['metadata'].get('namespace', '')}/{o['metadata']['name']}"] = o
    ids = {}
    for key, o in found.items():
        status = o.get("status", {})
        if "instances" in key and "id" in status:
            ids[status["id"]] = key
    out = {}
    for key, o in found.items():
        if o.get("type") == "kubernetes.io/service-account-token" or key.endswith("/kube-root-ca.crt"):
            continue
        o = json.loads(json.dumps(o))
        deleted = "deletionTimestamp" in o["metadata"]
        meta = {k: v for k, v in o["metadata"].items() if k not in OWN and v}
        meta.pop("deletionGracePeriodSeconds", None)
        for ref in meta.get("ownerReferences", []):
            ref["uid"] = names[ref["uid"]]
        owner = o.get("spec", {}).get("owner")
        if owner:
            owner["uid"] = ids[owner["uid"]] if owner["kind"] == "Instance" else names[owner["uid"]]
        for c in o.get("status", {}).get("conditions", []):
            c.pop("observedGeneration", None)
        for drop in ("apiVersion", "kind"):
            o.pop(drop, None)
        if key.startswith("/api/v1/namespaces/red "):
            o.pop("status", None)
            o.pop("spec", None)
        if "serviceaccounts" in key:
            o.pop("secrets", None)
            if key.endswith("/default"):
                continue
        out[key] = (deleted, {**{k: v for k, v in o.items() if v}, "metadata": meta})
    return out


def access(server):
    return [f"--kubeconfig={server.oracle.kubeconfig()}"] if hasattr(server, "oracle") else [f"--api=unix:{server.dir}/sock"]


def nacre(*args, status=0, **kwargs):
    p = subprocess.run([NACRE, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
                       **kwargs)
    assert p.returncode == status, p.stdout
    return p.stdout


def export(server, to, *args, **kwargs):
    return nacre("export", *access(server), *args, str(to), **kwargs)


def bring(server, source, **kwargs):
    return nacre("import", *access(server), str(source), **kwargs)


def clean(server):
    """Deletes all that fill() has made, on a server that other tests use."""
    server.delete("/api/v1/namespaces/red/configmaps")
    server.delete("/api/v1/namespaces/red/secrets")
    server.delete(f"{RBAC}/clusterroles/mine")
    for place in ("roles/r", "rolebindings/rb"):
        server.delete(f"{RBAC}/namespaces/red/{place}")
    server.delete("/api/v1/namespaces/red/serviceaccounts/bot")
    if hasattr(server, "oracle"):
        server.clean()


@pytest.fixture
def other(request, tmp_path):
    """The destination: a new nacre-apiserver, or kube-apiserver."""
    if request.param == "kube":
        k = request.getfixturevalue("kube")
        yield k
        clean(k)
        return
    (tmp_path / "other").mkdir()
    with fresh_server(tmp_path / "other") as s:
        yield s


both = pytest.mark.parametrize("other", ["nacre", "kube"], indirect=True)
only_nacre = pytest.mark.parametrize("other", ["nacre"], indirect=True)


@both
def test_moved(server, other, tmp_path):
    fill(server)
    before, file = picture(server), tmp_path / "cloud"
    out = export(server, file)
    assert "is not on hold" in out
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600 and os.listdir(tmp_path).count("cloud.part") == 0
    assert "c2VjcmV0" in file.read_text() and "service-account-token" not in file.read_text()
    out = bring(other, file)
    after = picture(other)
    # The instance that no controller had seen has its id now.
    new = server.get(f"{I}/new").json["metadata"]["uid"]
    assert after[f"{G}/instances red/new"][1].pop("status") == {"id": new}
    going = after[f"{G}/instances red/going"][1]["status"]
    assert going.pop("id") == server.get(f"{I}/going").json["metadata"]["uid"]
    assert after == before
    # observedGeneration of conditions is the generation on the new server.
    web = other.get(f"{I}/web").json
    observed = {c["type"]: c.get("observedGeneration") for c in web["status"]["conditions"]}
    assert observed == {"Ready": 1, "Scheduled": None} and web["metadata"]["generation"] == 1
    # Import again: everything is there.
    assert ", of which 0 were missing" in bring(other, file)
    # And back.
    back = tmp_path / "back"
    back.mkdir()
    export(other, file)
    s = Server(back)
    s.start()
    bring(s, file)
    assert picture(s) == picture(other)
    s.stop()


@both
@pytest.mark.parametrize("seed", range(3))
def test_killed_midway_and_begun_anew(server, other, tmp_path, seed):
    fill(server)
    for n in range(40):
        server.create(obj("ConfigMap", f"c{n}", ns="red", version="v1", data={"n": str(n)}))
        server.create(obj("Image", f"i{n}", image()["spec"]))
    file, before = tmp_path / "cloud", picture(server)
    export(server, file)
    kills = 0
    while True:
        p = subprocess.Popen([NACRE, "import", *access(other), str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True)
        try:
            # The first import is killed at once, each later one after more time; the number of kills depends on the
            # machine.
            out, _ = p.communicate(timeout=(0.01 + 0.007 * seed) * kills)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            kills += 1
            continue
        assert p.returncode == 0, out
        break
    after = picture(other)
    for name in ("new", "going"):
        after[f"{G}/instances red/{name}"][1].get("status", {}).pop("id")
        if not after[f"{G}/instances red/{name}"][1]["status"]:
            after[f"{G}/instances red/{name}"][1].pop("status")
    assert after == before
    print(f"killed {kills} times")


@both
def test_what_is_there_already(server, other, tmp_path):
    """The import names the objects in the way and changes nothing."""
    fill(server)
    file = tmp_path / "cloud"
    export(server, file)
    other.create(namespace("red")) if other.get("/api/v1/namespaces/red").status == 404 else None
    other.create({**image("lab", {"a": "b", "more": "of-it"}), "spec": {"kernel": {"kernel": "another"}}})
    other.create(image("mine"))
    other.create(obj("ConfigMap", "app", ns="red", version="v1", data={"a": "2"}))
    other.create(obj("ConfigMap", "unrelated", ns="red", version="v1", data={"a": "2"}))
    before = picture(other)
    out = bring(other, file, status=1)
    for words in ("Image lab is there already, and spec.kernel", "Image mine is there already, but not in the file",
                  "ConfigMap red/app is there already, and data.a differs", "3 objects", "nothing was changed"):
        assert words in out, out
    assert "unrelated" not in out
    assert picture(other) == before
    # The object is in use: the server is newer than the file.
    for path in (f"{G}/images/lab", f"{G}/images/mine", "/api/v1/namespaces/red/configmaps/app"):
        assert other.delete(path).status == 200
    bring(other, file)
    put_status(other, f"{I}/web", {"restarts": 7})
    before = picture(other)
    out = bring(other, file, status=1)
    assert "Instance red/web is there already, and status.restarts differs" in out, out
    assert picture(other) == before


@only_nacre
def test_a_program_at_work_there(server, other, tmp_path):
    fill(server)
    file = tmp_path / "cloud"
    export(server, file)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    lease = obj("Lease", "nacre-controller", ns="nacre-system", version="coordination.k8s.io/v1",
                spec={"holderIdentity": "ctl-1", "leaseDurationSeconds": 3600, "renewTime": now})
    server_path = "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases"
    other.post(server_path, lease)
    out = bring(other, file, status=1)
    assert "ctl-1 is at work on this server (Lease nacre-system/nacre-controller)" in out, out
    assert other.get(f"{G}/images").json["items"] == []
    other.patch(f"{server_path}/nacre-controller", {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}})
    bring(other, file)


def lines(file):
    return file.read_text().splitlines(keepends=True)


@only_nacre
def test_bad_files(server, other, tmp_path):
    fill(server)
    file, bad = tmp_path / "cloud", tmp_path / "bad"
    export(server, file)
    whole, text = lines(file), file.read_text()
    web = next(i for i, l in enumerate(whole) if '"Instance"' in l and '"web"' in l)
    cases = {
        "": "is not a file of nacre export",
        "junk\n": "is not a file of nacre export",
        text.replace("v1alpha1", "v9", 1): "is not a file of nacre export",
        whole[0]: "is cut off",
        text[:len(text) // 2]: "is cut off",
        text[:-1]: "is cut off",
        "".join(whole[:-1]): "is cut off",
        "".join(whole[:5] + whole[6:]): "was changed or damaged",
        "".join(whole[:web] + [whole[web].replace("2001:db8", "2001:db9")] + whole[web + 1:]): "was changed or damaged",
        text + "\n": "is cut off",
        text.replace("\"web\"", "\"we\0\"", 1): "bytes that are not text",
    }
    for content, words in cases.items():
        bad.write_text(content)
        out = bring(other, bad, status=1)
        assert words in out and str(bad) in out, (content[:60], out)

    def signed(objects):
        import hashlib
        body = whole[0] + "".join(json.dumps(o) + "\n" for o in objects)
        return body + json.dumps({"objects": len(objects), "sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n"

    objects = [json.loads(l) for l in whole[1:-1]]
    o = objects[web - 1]

    def changed(**meta):
        return {**o, "metadata": {**o["metadata"], **meta}}

    for what, words in ((changed(name=None), "metadata.name"), (changed(uid=None), "uid"), (changed(namespace=None), "namespace"),
                        ({**o, "kind": "Pod"}, "apiVersion and kind"), ([], "apiVersion and kind"),
                        ({**o, "kind": "Event", "apiVersion": "v1"}, "apiVersion and kind"),
                        ({**o, "spec": {**o["spec"], "ingress": [{"protocol": "tcp", "port": 70000}]}},
                         "Instance red/web: spec.ingress[0].port"),
                        (changed(namespace="kube-system"), "every server makes this object for itself")):
        bad.write_text(signed(objects[:web - 1] + [what] + objects[web:]))
        out = bring(other, bad, status=1)
        assert words in out and (f"line {web + 1}" in out), out
    bad.write_text(signed(objects + [changed(uid="x")]))
    assert "Instance red/web and Instance red/web of the file have the same name" in bring(other, bad, status=1)
    bad.write_text(signed(objects + [changed(name="web2")]))
    assert "have the same uid" in bring(other, bad, status=1)
    # Two objects that own each other can't be created one after the other.
    refs = [{"apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "name": "web2", "uid": "x"}]
    back = [{"apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "name": "web", "uid": o["metadata"]["uid"]}]
    assert other.get(f"{G}/images").json["items"] == [], "nothing was changed by any of them"
    bad.write_text(signed(objects[:web - 1] + [changed(ownerReferences=refs)] + objects[web:] +
                          [changed(name="web2", uid="x", ownerReferences=back)]))
    assert "owned by another remaining one" in bring(other, bad, status=1)


def test_wrong_use(server, tmp_path):
    for command in ("export", "import"):
        out = nacre(command, "--help")
        assert out.startswith(f"Usage: nacre {command} [OPTIONS]") and "--kubeconfig" in out
        assert "give one file" in nacre(command, status=2)
        assert "give one file" in nacre(command, "a", "b", status=2)
        assert "--what" in nacre(command, "--what", "x", status=2)
        out = nacre(command, "--kubeconfig", str(tmp_path / "none"), str(tmp_path / "x"), status=1)
        assert str(tmp_path / "none") in out, out
    out = bring(server, tmp_path / "none", status=1)
    assert "No such file" in out and str(tmp_path / "none") in out
    out = export(server, tmp_path / "no" / "file", status=1)
    assert "No such file" in out
    server.stop()
    assert "no such socket" in nacre("export", f"--api=unix:{server.dir}/sock", str(tmp_path / "x"), status=1)
    assert not os.path.exists(tmp_path / "x") and not os.path.exists(tmp_path / "x.part")


def test_full_disk(server, tmp_path):
    for n in range(200):
        server.create(obj("ConfigMap", f"c{n}", ns="default", version="v1", data={"n": "x" * 20000}))
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(full)], check=False).returncode:
        pytest.skip("can't mount a file system here")
    try:
        (full / "cloud").write_text("the old one")
        out = export(server, full / "cloud", status=1)
        assert "No space left" in out and str(full / "cloud") in out, out
        assert (full / "cloud").read_text() == "the old one" and os.listdir(full) == ["cloud"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(full)], check=True)
        export(server, full / "cloud")
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_changed_meanwhile(server, tmp_path):
    """Without a hold the export fails and names what was changed, or nothing was written meanwhile."""
    for n in range(300):
        server.create(image(f"i{n}"))
    numbers = itertools.count()

    def attempt():
        """One export while Image i7 changes all the time. None: by chance nothing was written while it looked."""
        p = subprocess.Popen([NACRE, "export", *access(server), str(tmp_path / "x")], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        while p.poll() is None:
            server.patch(f"{G}/images/i7", {"metadata": {"labels": {"n": str(next(numbers))}}})
        out = p.communicate()[0]
        if p.returncode == 0:
            os.unlink(tmp_path / "x")
            return None
        return p.returncode, out

    status, out = eventually("an export sees a change", 30, attempt)
    assert status == 1 and "Image i7 changed while it was exported" in out and "hold" in out, out
    assert not os.path.exists(tmp_path / "x") and not os.path.exists(tmp_path / "x.part")


def test_namespaces(server, tmp_path):
    fill(server)
    server.create(namespace("blue"))
    server.create(obj("ConfigMap", "theirs", ns="blue", version="v1", data={"a": "b"}))
    export(server, tmp_path / "x", "--namespace", "red")
    text = (tmp_path / "x").read_text()
    assert "theirs" not in text and '"blue"' not in text and '"web"' in text and '"of-both"' in text
    out = export(server, tmp_path / "x", "--namespace", "blue", status=1)
    assert "red/" in out and "in none of the given namespaces" in out, out


def test_read_only(server, tmp_path):
    """--read-only, the hold of a nacre-apiserver."""
    fill(server)
    before = picture(server)
    version = server.get(f"{G}/images").json["metadata"]["resourceVersion"]
    server.stop()
    server.start(args=("--read-only",))
    for a in (server.post(f"{G}/images", image("x")), server.patch(f"{I}/web", {"spec": {"running": False}}),
              server.put(f"{I}/web", server.get(f"{I}/web").json), server.delete(f"{I}/web"),
              server.delete(f"{G}/images"), server.patch(f"{I}/web/status", {"status": {"phase": "Failed"}}),
              server.post("/api/v1/namespaces", namespace("x")), server.post(f"{G}/images?dryRun=All", image("x"))):
        assert a.status == 503 and "on hold (--read-only)" in a.json["message"], a.text
    assert picture(server) == before
    assert server.get(f"{G}/images").json["metadata"]["resourceVersion"] == version
    a = server.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                    {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                     "spec": {"resourceAttributes": {"verb": "get", "resource": "secrets"}}})
    assert a.status == 201 and a.json["status"]["allowed"]
    assert "hold" not in export(server, tmp_path / "x")
    server.stop()
    server.start()
    assert server.post(f"{G}/images", image("x")).status == 201


def test_hold_of_a_kube_apiserver(kube, tmp_path):
    kube.create(image("lab"))
    hold = os.path.join(ROOT, "deploy", "hold.yaml")
    kube.oracle.kubectl("apply", "--server-side", "-f", hold)
    try:
        eventually("it holds", 60, lambda: kube.patch(f"{G}/images/lab", {"metadata": {"labels": {"a": "b"}}}).status == 403)
        for a in (kube.post(f"{G}/images", image("x")), kube.delete(f"{G}/images/lab"),
                  kube.patch(f"{G}/images/lab", {"metadata": {"labels": {"a": "b"}}})):
            assert a.status == 403 and "on hold" in a.json["message"], a.text
        assert "not on hold" not in export(kube, tmp_path / "x")
    finally:
        kube.oracle.kubectl("delete", "-f", hold)
    eventually("it holds no more", 60,
               lambda: kube.patch(f"{G}/images/lab", {"metadata": {"labels": {"a": "c"}}}).status == 200)
    assert "not on hold" in export(kube, tmp_path / "x")
    kube.clean()
