# SPDX-License-Identifier: Apache-2.0
"""JSON merge patches (RFC 7396)."""

from apilib import instance


def topic(t):
    first = t.post("$I", instance("a", t.ns, {"a": "1", "b": "2"}))
    version = first["metadata"]["resourceVersion"]
    t.merge("$I/a", {})
    t.merge("$I/a", {"spec": {"running": True}})  # a no-op
    t.merge("$I/a", {"metadata": {"labels": {"a": None, "c": "3", "never": None}}})
    t.merge("$I/a", {"metadata": {"resourceVersion": version, "labels": {"d": "4"}}})
    t.merge("$I/a", {"metadata": {"uid": "other", "labels": {"d": "4"}}})
    o = t.merge("$I/a", {"spec": {"running": False}})
    t.merge("$I/a", {"metadata": {"resourceVersion": o["metadata"]["resourceVersion"], "uid": o["metadata"]["uid"]},
                     "spec": {"running": True}})
    t.merge("$I/a", {"spec": {"running": None}})
    t.merge("$I/a", {"spec": {"ingress": [{"protocol": "tcp", "port": 1}, {"protocol": "icmp"}]}})
    t.merge("$I/a", {"spec": {"ingress": [{"protocol": "udp", "port": 2, "from": None}]}})
    t.merge("$I/a", {"spec": {"ingress": None}})
    t.merge("$I/a", {"spec": None})
    t.merge("$I/a", {"metadata": None})
    t.merge("$I/a", {"metadata": {"name": "b"}})
    t.merge("$I/a", {"metadata": {"namespace": "default"}})
    t.merge("$I/a", {"metadata": {"generation": 50, "creationTimestamp": "2001-01-01T00:00:00Z"}})
    t.merge("$I/a", {"metadata": {"labels": None}})
    t.merge("$I/a", {"metadata": {"labels": {"bad label": "x"}}}, differs="label-names")
    t.merge("$I/a", {"metadata": {"labels": {"x": 1}}}, differs="patch-decoding")
    t.merge("$I/a", {"metadata": {"labels": "x"}}, differs="patch-decoding")
    t.merge("$I/a", {"kind": "Image"})
    t.merge("$I/a", {"apiVersion": "nacre.dev/v9"}, differs="wrong-version")
    t.merge("$I/a", {"kind": None}, differs="patch-decoding")
    t.merge("$I/a", {"status": {"phase": "Running"}})
    t.merge("$I/a", {"spec": {"type": "large"}})
    t.merge("$I/a", {"spec": {"colour": "red"}})
    t.merge("$I/a?fieldValidation=Strict", {"spec": {"colour": "red"}}, differs="patch-decoding")
    t.merge("$I/a?dryRun=All", {"metadata": {"labels": {"z": "1"}}})
    t.merge("$I/none", {})
    t.merge("$I/none", {"spec": {}})
    t.merge("$I", {})
    for body in ([], "x", 3, None, True):
        t.merge("$I/a", "null" if body is None else body if isinstance(body, list) else f"{body}")
    t.merge("$I/a", "")
    t.merge("$I/a", "{")
    t.merge("$I/a", '{"metadata": {"labels": {"t": "1", "t": "2"}}}')
    t.get("$I/a")
