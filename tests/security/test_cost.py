# SPDX-License-Identifier: Apache-2.0
"""No request holds the API server's loop for more than 50 ms. valgrind's callgrind counts the instructions of the most
expensive requests, so that the result doesn't depend on time. The limit is what a slow core does in 50 ms, at 3 GHz and
one instruction a cycle. The rows of a handler are the largest accepted inputs, and refused ones."""

import collections
import itertools
import json
import os
import shutil
import subprocess

import pytest
from apilib import JSONPATCH, MERGE, V, cluster, instance
from harness import BIN, MORTAL, patient
from tenant import CONFIGMAPS, EVENTS, OF_RED, RBAC

BOUND = 150_000_000
ALL = bool(os.environ.get("NACRE_TEST_ALL"))
APPLY, YAML = "application/apply-patch+yaml", "application/yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MIB = 1 << 20
LEASES = "/apis/coordination.k8s.io/v1/namespaces/red/leases"
BODY_MAX, OBJECT_MAX = 3 * MIB, 3 * MIB // 2
DRIVER = os.path.join(os.path.dirname(BIN), "apiserver", "apiserver-cost")


def event(name, **more):
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "red"},
            "involvedObject": {"kind": "Instance", "name": "a", "namespace": "red"}, **more}


def configmap(name, data, **meta):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "red", **meta}, "data": data}


def owners(n):
    return [{"apiVersion": V, "kind": "Image", "name": "o", "uid": f"{i}"} for i in range(n)]


def fill(text, item, size=BODY_MAX):
    """TEXT with @ replaced by as many ITEMs as fit into SIZE bytes."""
    return text.replace("@", item * ((size - len(text)) // len(item)))


def tree(n):
    """N values in nested objects; no schema declares them."""
    return {f"k{i}": {f"m{j}": j for j in range(99)} for i in range(n // 100)}


def role(name, rules, verbs):
    return {"metadata": {"name": name}, "rules": [
        {"verbs": [f"v{i}-{j}" for j in range(verbs)], "apiGroups": [""], "resources": [f"r{i}-{j}" for j in range(verbs)]}
        for i in range(rules)]}


def owned_by(names):
    """Owner references to ConfigMaps; the driver fills in their uids."""
    return {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": n, "uid": f"@uid:{n}"} for n in names]}


FULL = {f"l{i:03}": f"v{i}" for i in range(256)}
DATA = {f"k{i:04}": "x" * 240 for i in range(4096)}  # about all that a ConfigMap may hold
LINES = {"a": "\n" * (OBJECT_MAX // 2 - 500)}         # about the largest object; each byte of it takes two in JSON
# Of objects whose handling is divided over turns: by far more than one turn may cost, see DIVIDED.
LARGE, DEPENDENTS = (12, 350) if ALL else (6, 90)
VALUES = 9_800                                      # about all that a body may hold
WIDE = event("wide", **tree(VALUES))
# Undivided each of these would be too expensive, so that the limit shows that they are divided.
DIVIDED = ("table of ConfigMaps", "watch a table of ConfigMaps", "delete wide Events", "orphan large objects", "delete owners of many",
           "delete the namespace")
# Similar to other rows: counted only with NACRE_TEST_ALL.
SLOW = ("apply it by another", "one text of control characters", "YAML text", "YAML comments", "YAML list", "YAML block",
        "one text of 1 MiB", "strategic merge $retainKeys", "merge ConfigMap", "strategic merge ConfigMap", "patch ConfigMap",
        "label it", "apply to it", "update it", "merge it", "create Secret", "JSON that is bad at its end, as YAML")


def rows():
    """(name or None, user, method, path, type (for GET: Accept), body). Rows without a name only prepare."""
    json_type = "application/json"
    yield None, "", "POST", "/api/v1/namespaces", json_type, {"metadata": {"name": "red"}}
    yield None, "", "POST", f"{RBAC}/namespaces/red/rolebindings", json_type, {
        "metadata": {"name": "admin"}, "roleRef": {"apiGroup": RBAC[6:-3], "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"apiGroup": RBAC[6:-3], "kind": "User", "name": "red"}]}
    for path, obj in ((OF_RED, instance("a", "red")), (EVENTS, event("a")), (CONFIGMAPS, configmap("a", {"a": "b"}))):
        yield None, "red", "POST", path, json_type, obj

    # Refused: lists, values, depth.
    yield ("1,900 owner references", "red", "POST", OF_RED, json_type,
           instance("b", "red", meta={"ownerReferences": owners(1_900)}))
    yield ("finalizers by apply", "red", "PATCH", OF_RED + "/b?fieldManager=m", APPLY,
           instance("b", "red", meta={"finalizers": [f"nacre.dev/f{i}" for i in range(9_000)]}))
    yield ("3 MiB of owner references", "red", "POST", OF_RED, json_type,
           fill('{"metadata":{"name":"b","ownerReferences":[@{}]}}', '{"uid":"u","name":"n","kind":"k","apiVersion":"v"},'))
    for item in ("{},", "[],", "0,", '"",', '{"a":0},'):
        yield (f"3 MiB of {item}", "red", "POST", EVENTS, json_type, fill('{"x":[@0]}', item))
    yield ("3 MiB of brackets", "red", "POST", EVENTS, json_type, "[" * BODY_MAX)
    yield ("labels", "red", "POST", OF_RED, json_type, instance("b", "red", {f"l{i}": "x" for i in range(9_000)}))
    yield ("managed fields", "red", "POST", OF_RED, json_type, instance("b", "red", meta={"managedFields": [
        {"manager": f"m{i}", "operation": "Update", "apiVersion": V, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}
        for i in range(1_200)]}))
    yield ("duplicate members", "red", "POST", EVENTS, json_type, fill('{"x":{@"a":0}}', '"a":0,', 60_000))

    # JSON patches.
    deep = [{"op": "add", "path": "/x", "value": json.loads('{"a":' * 50 + "0" + "}" * 50)}]
    for i in range(13):
        deep.append({"op": "copy", "from": "/x", "path": "/x" + "/a" * (50 << i)})
    yield "copy into itself", "red", "PATCH", EVENTS + "/a", JSONPATCH, deep
    head = [{"op": "add", "path": "/x", "value": [0] * 8_000}]
    yield ("400 inserts at the head", "red", "PATCH", EVENTS + "/a", JSONPATCH,
           head + [{"op": "add", "path": "/x/0", "value": 0}] * 400)
    yield ("490 moves of a list", "red", "PATCH", EVENTS + "/a", JSONPATCH,
           head + [{"op": "move", "from": f"/{'xy'[i % 2]}", "path": f"/{'yx'[i % 2]}"} for i in range(490)])
    yield ("290 tests of a list", "red", "PATCH", EVENTS + "/a", JSONPATCH,
           head + [{"op": "test", "path": "/x", "value": [0, 0]}] * 290)

    # YAML.
    yield ("YAML list", "red", "PUT", EVENTS + "/a", YAML, fill("x: [@0]\n", "0, ", MIB))
    yield ("YAML block", "red", "PUT", EVENTS + "/a", YAML, fill("@", "a: b\n", MIB))
    yield ("YAML text", "red", "PUT", EVENTS + "/a", YAML, fill("a: |\n@", "  some text of a line that goes on for a while\n", MIB))
    yield ("YAML comments", "red", "PUT", EVENTS + "/a", YAML, fill("@a: b\n", "#\n", MIB))
    yield ("YAML of 3 MiB", "red", "PUT", EVENTS + "/a", YAML, fill("@", "a: b\n"))
    yield ("JSON that is bad at its end, as YAML", "red", "PATCH", EVENTS + "/a?fieldManager=m", APPLY,
           fill('{"a":"@"', "\\n", MIB))
    yield ("YAML brackets", "red", "PUT", EVENTS + "/a", YAML, "[" * MIB)
    yield ("YAML anchors", "red", "PUT", EVENTS + "/a", YAML,
           "".join("  " * i + f"a: &a{i}\n" for i in range(60)) + "  " * 60 + "[" + "1," * 9_000 + "1]\n")

    # Large objects, created, read and changed by each way.
    yield "create ConfigMap", "red", "POST", CONFIGMAPS, json_type, configmap("big", DATA)
    yield "apply ConfigMap", "red", "PATCH", CONFIGMAPS + "/big?fieldManager=m&force=true", APPLY, configmap("big", DATA)
    yield "merge ConfigMap", "red", "PATCH", CONFIGMAPS + "/big", MERGE, {"data": {"k0000": "y"}}
    yield "strategic merge ConfigMap", "red", "PATCH", CONFIGMAPS + "/big", STRATEGIC, {"data": {"k0000": "z"}}
    yield ("strategic merge $retainKeys", "red", "PATCH", CONFIGMAPS + "/big", STRATEGIC,
           {"data": {"$retainKeys": list(DATA), **DATA}})
    yield "patch ConfigMap", "red", "PATCH", CONFIGMAPS + "/big", JSONPATCH, [{"op": "add", "path": "/data/k0001", "value": "1"}]
    yield "one text of 1 MiB", "red", "POST", CONFIGMAPS, json_type, configmap("text", {"a": "\n" * (MIB - 100)})
    yield ("one text of control characters", "red", "POST", CONFIGMAPS, json_type,
           configmap("controls", {"a": "\u0001" * (BODY_MAX // 6 - 100)}))
    yield "a text that is stored", "red", "POST", CONFIGMAPS, json_type, configmap("lines", LINES)
    yield "label it", "red", "PATCH", CONFIGMAPS + "/lines", MERGE, {"metadata": {"labels": {"a": "b"}}}
    yield "apply to it", "red", "PATCH", CONFIGMAPS + "/lines?fieldManager=m&force=true", APPLY, configmap("lines", {"b": "c"})
    yield "patch it", "red", "PATCH", CONFIGMAPS + "/lines", JSONPATCH, [{"op": "copy", "from": "/data/b", "path": "/data/c"}]
    yield "create Secret", "red", "POST", CONFIGMAPS.replace("configmaps", "secrets"), json_type, {
        "metadata": {"name": "s"}, "stringData": {"a": "x" * (MIB * 3 // 4 - 100)}}
    yield "labels and annotations", "red", "POST", OF_RED, json_type, instance("full", "red", FULL, {
        "annotations": {f"a{i}": "x" * 1000 for i in range(256)}, "ownerReferences": owners(64),
        "finalizers": [f"nacre.dev/f{i}" for i in range(64)]}, ingress=[{"protocol": "tcp", "port": i + 1} for i in range(64)])
    yield "create Event of 9,800 values", "red", "POST", EVENTS, json_type, WIDE
    yield "update it", "red", "PUT", EVENTS + "/wide", json_type, {**WIDE, "k0": {}}
    yield "apply it", "red", "PATCH", EVENTS + "/wide?fieldManager=m&force=true", APPLY, WIDE
    yield "apply it by another", "red", "PATCH", EVENTS + "/wide?fieldManager=n&force=true", APPLY, {**WIDE, "k1": {}}
    yield "it conflicts", "red", "PATCH", EVENTS + "/wide?fieldManager=o", APPLY, event("wide", **{
        k: {m: "other" for m in v} for k, v in tree(VALUES).items()})
    yield "merge it", "red", "PATCH", EVENTS + "/wide", MERGE, {"reason": "R"}
    yield "get it", "red", "GET", EVENTS + "/wide", None, None
    yield "list", "red", "GET", EVENTS, None, None
    yield "delete it", "red", "DELETE", EVENTS + "/wide", json_type, {"propagationPolicy": "Foreground"}

    # Many objects with many labels: one pass over them is long, and is divided over turns of the loop.
    for i in range(80):
        yield None, "red", "POST", LEASES, json_type, {"metadata": {"name": f"l{i}", "labels": {f"l{j:03}": "" for j in range(256)}}}
    none = "labelSelector=" + ",".join(f"!a{i}" for i in range(63)) + ",b"
    yield "list by labels", "red", "GET", f"{LEASES}?{none}", None, None
    yield "watch by labels", "red", "GET", f"{LEASES}?watch=1&timeoutSeconds=1&{none}", None, None
    yield "delete by labels", "red", "DELETE", f"{LEASES}?{none}", None, None
    for i in range(7):
        yield None, "red", "POST", EVENTS, json_type, event(f"wide{i}", **tree(VALUES))
    yield ("list by fields", "red", "GET", f"{EVENTS}?fieldSelector=" + ",".join(["reason!=x"] * 63), None, None)

    # Objects that are shown in part are printed while they are sent.
    yield None, "red", "POST", CONFIGMAPS, json_type, configmap("o", {})
    for i in range(LARGE):
        yield None, "red", "POST", CONFIGMAPS, json_type, configmap(f"large{i}", LINES, **owned_by(["o"]))
    for i in range(150):
        yield None, "red", "POST", CONFIGMAPS, json_type, configmap(f"c{i}", {"a": "b"})
    table = "application/json;as=Table;g=meta.k8s.io;v=v1"
    for name, accept in (("table", table), ("metadata", table.replace("Table", "PartialObjectMetadataList"))):
        yield f"{name} of ConfigMaps", "red", "GET", CONFIGMAPS + "?includeObject=None", accept, None
        yield f"{name} of Events", "red", "GET", EVENTS + "?includeObject=None", accept, None
    yield "watch a table of ConfigMaps", "red", "GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds=1", table, None

    # Roles, reviews.
    yield "create a role", "", "POST", f"{RBAC}/namespaces/red/roles", json_type, role("r", 32, 100)
    yield "give what one has not", "red", "POST", f"{RBAC}/namespaces/red/roles", json_type, role("s", 32, 100)
    yield "subjects", "", "POST", f"{RBAC}/namespaces/red/rolebindings", json_type, {
        "metadata": {"name": "many"}, "roleRef": {"apiGroup": RBAC[6:-3], "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": RBAC[6:-3], "kind": "User", "name": f"u{i}"} for i in range(1023)]
        + [{"apiGroup": RBAC[6:-3], "kind": "User", "name": "red"}]}
    yield "what may I do", "red", "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json_type, {
        "spec": {"namespace": "red"}}
    # A repeated subject is one grant, and a role in many bindings is visited once.
    for i in range(40):
        yield None, "", "POST", f"{RBAC}/namespaces/red/rolebindings", json_type, {
            "metadata": {"name": f"again{i}"}, "roleRef": {"apiGroup": RBAC[6:-3], "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"apiGroup": RBAC[6:-3], "kind": "User", "name": "red"}] * 1024}
    yield "what many bindings don't allow", "red", "GET", f"{CONFIGMAPS[:-10]}pods", None, None
    # The comparisons for one request are bounded.
    yield None, "", "POST", f"{RBAC}/namespaces/red/roles", json_type, {"metadata": {"name": "wide"}, "rules": [
        {"verbs": [f"v{i}-{j}" for j in range(190)], "apiGroups": [""], "resources": ["events"]} for i in range(50)]}
    yield None, "", "POST", f"{RBAC}/namespaces/red/rolebindings", json_type, {
        "metadata": {"name": "wide"}, "roleRef": {"apiGroup": RBAC[6:-3], "kind": "Role", "name": "wide"},
        "subjects": [{"apiGroup": RBAC[6:-3], "kind": "Group", "name": f"wide{i}"} for i in range(256)]}
    yield ("roles of 255 groups", "", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", json_type, {
        "spec": {"user": "u", "groups": [f"wide{i}" for i in range(255)],
                 "resourceAttributes": {"verb": "get", "resource": "events", "namespace": "red"}}})
    yield "groups", "", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", json_type, {
        "spec": {"user": "u", "groups": [f"g{i}" for i in range(9_000)],
                 "resourceAttributes": {"verb": "get", "resource": "events", "namespace": "red"}}}

    # The scale subresource of an object with many field managers.
    clusters = OF_RED.replace("instances", "clusters")
    yield None, "red", "POST", clusters, json_type, cluster("c", "red", meta={
        "labels": FULL, "annotations": {f"a{i}": "x" * 1000 for i in range(256)}, "ownerReferences": owners(64)})
    for i in range(25):
        yield (None, "red", "PATCH", f"{clusters}/c?fieldManager=m{i}&force=true", APPLY,
               cluster("c", "red", replicas=i, meta={"labels": FULL}))
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "c", "namespace": "red"}, "spec": {"replicas": 5}}
    yield "get scale", "red", "GET", f"{clusters}/c/scale", None, None
    yield "update scale", "red", "PUT", f"{clusters}/c/scale", json_type, {**scale, **tree(VALUES)}
    yield "merge scale", "red", "PATCH", f"{clusters}/c/scale", MERGE, {"spec": {"replicas": 6}, **tree(VALUES)}
    yield "patch scale", "red", "PATCH", f"{clusters}/c/scale", JSONPATCH, head + [{"op": "add", "path": "/x/0", "value": 0}] * 400

    # Deletions of many objects, and the collector's work, are divided over turns too.
    yield "delete wide Events", "red", "DELETE", EVENTS, json_type, None
    yield "orphan large objects", "red", "DELETE", CONFIGMAPS + "/o", json_type, {"propagationPolicy": "Orphan"}
    # Whether an owner lives is known without reading it.
    heavy = {"annotations": {f"a{i}": "x" * 230_000 for i in range(6)}, "finalizers": ["nacre.dev/x"]}
    for i in range(20):
        yield None, "red", "POST", CONFIGMAPS, json_type, configmap(f"heavy{i}", {}, **heavy)
    for i in range(20):
        yield ("create what large ones own" if i == 0 else None, "red", "POST", CONFIGMAPS, json_type,
               configmap(f"owned{i}", {}, **owned_by([f"heavy{i}" for i in range(20)])))
    yield "an owner begins to go", "red", "DELETE", CONFIGMAPS + "/heavy1", json_type, {"propagationPolicy": "Foreground"}
    several = [f"owner{i}" for i in range(64)]
    for n in several:
        yield None, "red", "POST", CONFIGMAPS, json_type, configmap(n, {}, labels={"owner": ""})
    for i in range(DEPENDENTS):
        yield None, "red", "POST", CONFIGMAPS, json_type, configmap(f"dependent{i}", {}, **owned_by(several))
    yield "delete owners of many", "red", "DELETE", CONFIGMAPS + "?labelSelector=owner", None, None
    yield "delete the namespace", "", "DELETE", "/api/v1/namespaces/red", None, None
    yield "an object of it goes", "", "PATCH", CONFIGMAPS + "/heavy2", MERGE, {"metadata": {"finalizers": None}}


def counted(directory, chosen):
    """{row: (status, the beginning of the answer, instructions of the most expensive turn of the loop, those of all turns)}"""
    lines = []
    for i, (row, user, method, target, type, body) in enumerate(chosen):
        line = {"row": row or "", "user": user, "method": method, "target": target, "type": type or ""}
        if method == "GET":
            line["accept"] = line.pop("type")
        if body is not None:
            line["body"] = f"{directory}/body{i}"
            with open(line["body"], "w") as f:
                f.write(body if isinstance(body, str) else json.dumps(body, separators=(",", ":")))
        lines.append(json.dumps(line))
    p = subprocess.run([*MORTAL, "valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={directory}/out",
                        DRIVER], input="\n".join(lines), capture_output=True, text=True, timeout=patient(300))
    assert p.returncode == 0, p.stderr[-3000:]
    counts = collections.defaultdict(list)
    for name in os.listdir(directory):
        if name.startswith("out"):
            with open(f"{directory}/{name}") as f:
                head = dict(x.rstrip().split(": ", 1) for x in itertools.islice(f, 30) if ": " in x and "cache" not in x)
            row = head["desc"].partition("Client Request: ")[2]
            counts[row].append(int(head["summary"]))
    said = (x.split("\t", 2) for x in p.stdout.splitlines() if x.count("\t") > 1 and x[0] != "\t")
    return {row: (int(code), text, max(counts[row]), sum(counts[row])) for row, code, text in said}


@pytest.mark.skipif(not os.path.exists(DRIVER) or not shutil.which("valgrind"), reason="no valgrind")
def test_cost(tmp_path):
    got = counted(str(tmp_path), [(None if x[0] in SLOW and not ALL else x[0], *x[1:]) for x in rows()])
    table = "\n".join(f"{n / 1e6:7.1f} M  {code}  {row:32} {text[90:220]}" for row, (code, text, n, _) in
                      sorted(got.items(), key=lambda x: -x[1][2]))
    print(table)
    dear = [row for row, (_, _, n, _) in got.items() if n > BOUND]
    assert not dear, f"more than {BOUND} instructions:\n{table}"
    assert all(code < 500 for code, *_ in got.values()), table
    small = {row: total for row in DIVIDED if (total := got[row][3]) <= BOUND}
    assert not small, f"make these larger, they would be in the limit undivided: {small}"
