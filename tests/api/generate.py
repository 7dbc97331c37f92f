# SPDX-License-Identifier: Apache-2.0
"""Random requests for two servers: the same seed sends the same requests to each; test_random.py compares the
answers."""

import copy
import json
import random
import urllib.parse

from apilib import JSONPATCH, MERGE, V
from exchange import APPLY, STRATEGIC

READY = {"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}
VALUES = [None, True, False, 0, 1, -1, 7, 1.5, 2**40, "", "x", "small", "a b", "Running", [], {}, [1], ["x"], [None], {"a": "b"},
          {"a": 1}, {"a": None}, "a" * 300]

# Values of the parts of an object. Most are valid, so that sequences get somewhere.
COMMON = {
    "metadata": [{}, None],
    "metadata.labels": [{}, {"x": "1"}, {"x": "2", "y": ""}, None],
    "metadata.labels.x": ["1", "2", None, "not ok!"],
    "metadata.labels.y": ["", "on", None],
    "metadata.annotations": [{"n": "some text"}, {}, None],
    "metadata.annotations.n": ["", "text", "{\"a\":\"b\\\\\"}", None],
    "metadata.annotations.example,com~1m": ["1", None],
    "metadata.finalizers": [["a.b/1"], ["a.b/1", "a.b/2"], [], None],
    "metadata.ownerReferences": ["OWNER", [], None],
    "metadata.generateName": ["g-"],
    "metadata.creationTimestamp": [None, "2001-01-01T00:00:00Z"],
}
PARTS = {
    "instances": {
        **COMMON,
        "metadata.generation": [9],
        "spec": [{"type": "small", "image": "debian"}],
        "spec.running": [True, False, None, "no"],
        "spec.type": ["small", "large", None, 3],
        "spec.hostSelector": [{"rack": "1"}, None],
        "spec.ingress": [[{"protocol": "tcp", "port": 1}], [{"protocol": "icmp"}], [{"protocol": "udp", "port": 53},
                         {"protocol": "tcp", "port": 80, "from": "2001:db8::/32"}], [], None, [{}], [{"protocol": "tcp", "port": 70000}]],
        "spec.ingress.0": [{"protocol": "tcp", "port": 5}, None],
        "spec.ingress.0.port": [1, 65535, 0, None],
        "spec.ingress.-": [{"protocol": "udp", "port": 9}],
        "spec.colour": ["red"],
        "status": [{"phase": "Running"}, {}, None],
        "status.phase": ["Running", "Stopped", "Failed", None, "Bogus"],
        "status.host": ["h1", "h2", "", None],
        "status.restarts": [0, 3, None],
        "status.conditions": [[READY], [{**READY, "status": "False"}], [], None, [READY, {**READY, "type": "Other"}], [READY, READY]],
        "status.conditions.0.reason": ["Other", "", None],
    },
    "images": {
        **COMMON,
        "spec.kernel": [{"kernel": "k"}, {"kernel": "k", "initrd": "i", "cmdline": "c"}, None],
        "spec.kernel.kernel": ["k", "l", None],
        "spec.kernel.cmdline": ["a b", "", None],
        "spec.disk": [{"file": "d", "format": "raw"}, {"file": "d"}, None],
        "spec.disk.format": ["raw", "qcow2", "vhd"],
    },
    "configmaps": {
        **COMMON,
        "data": [{"a": "1"}, {}, None],
        "data.a": ["1", "2", "", None, 5],
        "data.b": ["x", None],
        "binaryData": [{"c": "eA=="}, None, {"a": "eA=="}],
        "binaryData.c": ["eA==", "", "%", None],
        "immutable": [True, False, None, None],
        "colour": ["red"],
    },
    "leases": {
        **COMMON,
        "spec": [{"holderIdentity": "h"}, {}, None],
        "spec.holderIdentity": ["h", "i", None, ""],
        "spec.leaseDurationSeconds": [15, 1, 0, None, "x"],
        "spec.leaseTransitions": [0, 1, None, -1],
        "spec.renewTime": ["2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.5Z", None, "now"],
    },
}
KINDS = {
    "instances": (V, "Instance", "$I", lambda: {"spec": {"type": "small", "image": "debian"}}),
    "images": (V, "Image", "$G/images", lambda: {"spec": {"kernel": {"kernel": "k"}}}),
    "configmaps": ("v1", "ConfigMap", "$N/configmaps", lambda: {"data": {"a": "1"}}),
    "leases": ("coordination.k8s.io/v1", "Lease", "/apis/coordination.k8s.io/v1/namespaces/$ns/leases",
               lambda: {"spec": {"holderIdentity": "h"}}),
}


def put(obj, path, value):
    """Sets the member at a path (a comma stands for a dot in a key), replacing values that are in the way."""
    at, keys = obj, path.split(".")
    for key in keys[:-1]:
        if key == "0" or isinstance(at, list):  # only existing elements
            at = at[0] if at and isinstance(at, list) and isinstance(at[0], dict) else {}
        else:
            if not isinstance(at.get(key), (dict, list)):
                at[key] = {}
            at = at[key]
    if isinstance(at, dict) and keys[-1] not in ("0", "-"):
        at[keys[-1].replace("~1", "/").replace(",", ".")] = value


class Generator:
    """Sends random requests by a Script. All choices depend on the seed and on what both servers must answer alike."""

    def __init__(self, script, seed):
        self.t, self.r, self.seed = script, random.Random(seed), seed
        self.known = {}  # the last state of each object that an answer showed
        self.names = [f"r{seed}-a", f"r{seed}-b"]

    def owner(self):
        o = self.owner_object
        return [{"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"],
                 **self.r.choice([{}, {}, {"controller": True}, {"blockOwnerDeletion": True}])}]

    def part(self, kind):
        path, values = self.r.choice(list(PARTS[kind].items()))
        # For wrong types in metadata the servers differ by design.
        odd = self.r.random() < 0.08 and not path.startswith("metadata.")
        value = self.r.choice(VALUES if odd else values)
        if value == "OWNER" and kind == "images":
            value = []  # a cluster-scoped object can't be owned by a namespaced one
        return path, self.owner() if value == "OWNER" else copy.deepcopy(value)

    def patch_of(self, kind, n=None):
        patch = {}
        for _ in range(n or self.r.randint(1, 3)):
            path, value = self.part(kind)
            if ".0" not in path and not path.endswith(".-"):
                put(patch, path, value)
        return patch

    def body(self, kind, name):
        version, word, _, rest = KINDS[kind]
        body = {"apiVersion": version, "kind": word, "metadata": {"name": name}, **rest()}
        for _ in range(self.r.choice([0, 0, 1, 1, 2, 3])):
            path, value = self.part(kind)
            if path not in ("metadata", "spec"):
                put(body, path, value)
        if body.get("metadata"):
            body["metadata"]["name"] = name
        return body

    def query(self, **more):
        q = dict(more)
        if self.r.random() < 0.1:
            q["dryRun"] = "All"
        if self.r.random() < 0.3:
            q["fieldManager"] = self.r.choice(["m1", "m2", "m3"])
        if self.r.random() < 0.2:
            q["fieldValidation"] = self.r.choice(["Strict", "Warn", "Ignore"])
        return "?" + urllib.parse.urlencode(q) if q else ""

    def operations(self, kind):
        ops = []
        for _ in range(self.r.randint(1, 3)):
            path, value = self.part(kind)
            # The servers distinguish elements without a uid differently, and ignore wrong types of fields that the
            # server sets.
            if path in ("metadata.ownerReferences", "metadata.generation", "metadata.creationTimestamp"):
                continue
            pointer = "/" + path.replace(".", "/").replace(",", ".")
            # For a replace of a missing member and a test for null the servers differ by design.
            op = self.r.choice(["add", "add", "add", "remove", "test", "copy", "move"])
            one = {"op": op, "path": pointer}
            if op in ("add", "test"):
                one["value"] = value if op == "add" or value is not None else "x"
            elif op in ("copy", "move"):
                one["from"] = "/" + self.part(kind)[0].replace(".", "/").replace(",", ".")
            ops.append(one)
        return ops

    def write(self):
        kind = self.r.choice(["instances", "instances", "instances", "images", "configmaps", "leases"])
        path, name = KINDS[kind][2], self.r.choice(self.names)
        at = f"{path}/{name}"
        status = "/status" if kind == "instances" and self.r.random() < 0.25 else ""
        what = self.r.choice(["create", "create", "put", "put", "merge", "merge", "merge", "json", "strategic", "apply", "apply",
                              "apply", "delete", "get", "list"])
        if what == "create":
            o = self.t.post(path + self.query(), self.body(kind, name))
        elif what == "put":
            o = self.put(kind, at, status, name)
        elif what == "merge":
            o = self.t.do("PATCH", at + status + self.query(), self.patch_of(kind), type=MERGE)
        elif what == "json":
            o = self.t.do("PATCH", at + status + self.query(), self.operations(kind), type=JSONPATCH)
        elif what == "strategic":
            o = self.t.do("PATCH", at + status + self.query(), self.patch_of(kind), type=STRATEGIC)
        elif what == "apply":
            o = self.apply(kind, at, status, name)
        elif what == "delete":
            self.delete(at, kind, name)
            return
        elif what == "get":
            o = self.t.get(at)
        else:
            self.list(path)
            return
        if isinstance(o, dict) and o.get("kind") == KINDS[kind][1]:
            self.known[kind, name] = o

    def put(self, kind, at, status, name):
        """PUT of the last known state with changes, or of a new object."""
        o = self.known.get((kind, name))
        if o is None or self.r.random() < 0.15:
            return self.t.put(at + status + self.query(), self.body(kind, name))
        o = json.loads(json.dumps(o))
        if self.r.random() < 0.3:
            fresh = self.t.get(at)
            o = fresh if fresh.get("kind") == o["kind"] else o
        for _ in range(self.r.randint(0, 2)):
            path, value = self.part(kind)
            if path not in ("metadata", "spec"):
                put(o, path, value)
        if self.r.random() < 0.1 and isinstance(o.get("metadata"), dict):
            o["metadata"].pop(self.r.choice(["resourceVersion", "uid", "managedFields", "creationTimestamp"]), None)
        return self.t.put(at + status + self.query(), o)

    def apply(self, kind, at, status, name):
        version, word, _, rest = KINDS[kind]
        body = {"apiVersion": version, "kind": word, "metadata": {"name": name}}
        if not status and self.r.random() < 0.7:
            body.update(rest())
        for _ in range(self.r.randint(0, 2)):
            path, value = self.part(kind)
            # For nulls in an applied configuration the servers differ by design.
            if value is not None and not (isinstance(value, (dict, list)) and "null" in json.dumps(value)):
                put(body, path, value)
        body["metadata"] = body.get("metadata") if isinstance(body.get("metadata"), dict) else {}
        for key in ("generateName", "selfLink", "creationTimestamp", "generation"):
            body["metadata"].pop(key, None)
        body["metadata"]["name"] = name
        query = {"fieldManager": self.r.choice(["m1", "m2", "m3"]), **({"force": "true"} if self.r.random() < 0.4 else {})}
        if self.r.random() < 0.1:
            query["dryRun"] = "All"
        return self.t.do("PATCH", f"{at}{status}?{urllib.parse.urlencode(query)}", body, type=APPLY)

    def delete(self, at, kind, name):
        meta = {"uid": "none", "resourceVersion": "1", **self.known.get((kind, name), {"metadata": {}})["metadata"]}
        options = self.r.choice([
            None, None, {}, {"propagationPolicy": "Background"}, {"gracePeriodSeconds": 0}, {"gracePeriodSeconds": 5},
            {"dryRun": ["All"]}, {"preconditions": {"uid": meta["uid"]}},
            {"preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}},
            {"preconditions": {"resourceVersion": "1"}}, {"propagationPolicy": "Foreground", "dryRun": ["All"]},
            {"propagationPolicy": "Orphan", "dryRun": ["All"]}, {"propagationPolicy": "Bogus"}, {"orphanDependents": False}])
        self.t.delete(at, options)
        if self.r.random() < 0.5:  # removes finalizers, which may keep the object
            self.t.merge(at, {"metadata": {"finalizers": None}})

    def list(self, path):
        q = {}
        if self.r.random() < 0.6:
            q["labelSelector"] = self.r.choice(["x", "!x", "x=1", "x!=1", "x in (1,2)", "x notin (1)", "x=1,y", "x=1,!y", "y=",
                                                "x==2", "x>1", "x<2", "x in ()", "x in (1,)", "=", "x=1,,y", "x = 1", "x in(2)"])
        if self.r.random() < 0.3:
            q["fieldSelector"] = self.r.choice([f"metadata.name={self.names[0]}", f"metadata.name!={self.names[0]}", "status.host=h1",
                                                f"metadata.namespace={self.t.ns}", "spec.nope=1"])
        if self.r.random() < 0.4:
            # With a selector, kube-apiserver may not know whether more items follow.
            q["limit"] = self.r.choice([0, 500, *([] if q else [1, 2])])
        # The objects of earlier seeds are gone on kube-apiserver too, so the whole lists can be compared.
        answer = self.t.get(f"{path}?{urllib.parse.urlencode(q)}")
        token = (answer.get("metadata") or {}).get("continue") if isinstance(answer, dict) else None
        if token:
            self.t.get(f"{path}?{urllib.parse.urlencode({**q, 'continue': token})}")

    def clean(self):
        for path in [k[2] for k in KINDS.values()]:
            for o in json.loads(self.t.send("GET", path).read()).get("items", []):
                name = o["metadata"]["name"]
                if name.startswith("r") and name[1:2].isdigit():
                    if o["metadata"].get("finalizers"):
                        self.t.send("PATCH", f"{path}/{name}", {"metadata": {"finalizers": None}}, type=MERGE).read()
                    self.t.send("DELETE", f"{path}/{name}", {"propagationPolicy": "Background"}).read()

    def run(self, steps):
        self.owner_object = self.t.post("$N/configmaps", {"metadata": {"name": f"r{self.seed}-owner"}})
        version = self.t.get("$I", only=lambda b: None)["metadata"]["resourceVersion"]
        self.t.watch("$I", "all", resourceVersion=version)
        self.t.watch("$I", "x", resourceVersion=version, labelSelector="x=1")
        self.t.watch("$I", "h1", resourceVersion=version, fieldSelector="status.host=h1")
        for _ in range(steps):
            self.write()
