# SPDX-License-Identifier: Apache-2.0
"""fieldValidation of every kind of body: unknown and duplicate fields, in lists, in metadata, in parts that aren't
stored."""

import json

from apilib import JSONPATCH, MERGE, V, instance
from exchange import APPLY, STRATEGIC


def topic(t):
    o = t.post("$I", instance("a", t.ns, ingress=[{"protocol": "tcp", "port": 1}]))
    c = t.post("$N/configmaps", {"metadata": {"name": "c"}, "data": {"a": "1"}})
    text = json.dumps({**o, "spec": {**o["spec"], "running": False}})
    bodies = {
        "list": text.replace('"port": 1', '"port": 1, "port": 2'),
        "list, unknown": text.replace('"port": 1', '"port": 1, "speed": 2, "size": 3'),
        "labels": text.replace('"name": "a"', '"name": "a", "labels": {"x": "1", "x": "2"}'),
        "status": text.replace('"spec":', '"status": {"nope": 1, "phase": "Running", "phase": "Stopped"}, "spec":'),
        "top": text.replace('"spec":', '"nope": 1, "kind": "Instance", "spec":'),
        "thrice": text.replace('"image":', '"image": "x", "image": "y", "image":'),
    }
    for body in bodies.values():
        for how in ("Ignore", "Warn", "Strict"):
            t.put(f"$I/a?dryRun=All&fieldValidation={how}", body, only=lambda b: [b["metadata"].get("labels"), b["spec"], b.get("status")])
    for how in ("Ignore", "Warn", "Strict"):
        q = f"?dryRun=All&fieldValidation={how}"
        odd = "patch-decoding" if how == "Strict" else None
        for patch in ('{"spec": {"ingress": [{"protocol": "icmp", "speed": 1}]}}', '{"spec": {"running": false, "running": true}}',
                      '{"metadata": {"nope": 1}}', '{"nope": {"a": 1}}'):
            t.do("PATCH", f"$I/a{q}", patch, type=MERGE, differs=odd, only=lambda b: b["spec"])
        t.do("PATCH", f"$I/a{q}", '[{"op": "add", "path": "/spec/nope", "value": 1}]', type=JSONPATCH, differs=odd,
             only=lambda b: b["spec"])
        t.do("PATCH", f"$I/a{q}", '[{"op": "add", "path": "/spec/running", "value": false, "colour": 1}]', type=JSONPATCH,
             differs="patch-decoding" if how != "Ignore" else None, only=lambda b: b["spec"])
        t.do("PATCH", f"$N/configmaps/c{q}", '{"nope": 1, "data": {"b": "1", "b": "2"}}', type=STRATEGIC, differs=odd,
             only=lambda b: b["data"])
        t.do("PATCH", f"$I/a{q}&fieldManager=m", json.dumps({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"},
             "spec": {"nope": 1}}), type=APPLY)
        t.put(f"$N/configmaps/c{q}", json.dumps(c).replace('"a": "1"', '"a": "1", "a": "2"').replace('"data"', '"nope": 1, "data"'),
              only=lambda b: b["data"])
        t.post(f"$N/configmaps{q}", '{"metadata": {"name": "d", "name": "d"}, "date": {}, "data": {}}', only=lambda b: b["metadata"]["name"])
        t.put(f"$I/a/status{q}", bodies["status"], only=lambda b: b["status"])
    t.delete("$N/configmaps/c")
