# SPDX-License-Identifier: Apache-2.0
"""The status subresource: each side writes only its own half."""

from apilib import instance

READY = {"type": "Ready", "status": "True", "reason": "Running", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def topic(t):
    o = t.post("$I", {**instance("a", t.ns), "status": {"phase": "Running"}})
    t.get("$I/a/status")
    s = t.merge("$I/a/status", {"metadata": {"labels": {"x": "y"}, "annotations": {"x": "y"}, "finalizers": ["a.b/c"]},
                                "spec": {"running": False}, "status": {"phase": "Running"}})
    t.merge("$I/a/status", {"status": {"phase": "Running"}})  # a no-op
    t.put("$I/a/status", {**o, "status": {"phase": "Failed"}})  # stale
    s = t.put("$I/a/status", {**s, "metadata": {**s["metadata"], "labels": {"l": "1"}}, "spec": {**s["spec"], "running": False},
                              "status": {"phase": "Running", "host": "h1", "conditions": [READY]}})
    t.put("$I/a/status", s)
    t.put("$I/a", {**s, "status": {"phase": "Failed"}})
    t.put("$I/a", {k: v for k, v in s.items() if k != "status"})
    t.merge("$I/a", {"status": None})
    t.merge("$I/a", {"status": None, "spec": {"running": False}})
    t.merge("$I/a/status", {"status": {"phase": "Bogus"}})
    t.merge("$I/a/status", {"status": {"conditions": [READY, READY]}})
    t.merge("$I/a/status", {"status": {"conditions": [{"type": "Ready"}]}})
    t.merge("$I/a/status", {"status": {"conditions": []}})
    t.merge("$I/a/status", {"status": None})
    t.merge("$I/a/status?dryRun=All", {"status": {"phase": "Stopped"}})
    t.merge("$I/a/status?fieldValidation=Strict", {"status": {"nope": 1}}, differs="patch-decoding")
    t.merge("$I/a/status", {"status": {"nope": 1}})
    t.merge("$I/none/status", {"status": {}})
    t.post("$I/a/status", o)
    t.delete("$I/a/status")
    t.get("$I/a/nothing")
    t.get("$G/instancetypes/x/status")
    t.put("$I/a/status", {**s, "metadata": {**s["metadata"], "resourceVersion": None}})
    t.get("$I/a")
