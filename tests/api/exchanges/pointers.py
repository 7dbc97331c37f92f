# SPDX-License-Identifier: Apache-2.0
"""JSON patches: edge cases of pointers and operations."""

from apilib import instance


def topic(t):
    t.post("$I", instance("a", t.ns, {"a/b": "1", "a.b": "2"}, ingress=[{"protocol": "tcp", "port": n} for n in (1, 2, 3)]))

    def op(op, path, **kw):
        return {"op": op, "path": path, **kw}

    i = "/spec/ingress"
    one = {"protocol": "udp", "port": 9}
    both = lambda b: [b["metadata"].get("labels"), b["spec"]]  # noqa: E731
    for patch in (
            [op("add", f"{i}/1", value=one)], [op("add", f"{i}/3", value=one)], [op("add", f"{i}/-", value=one)],
            [op("add", f"{i}/4", value=one)], [op("add", f"{i}/01", value=one)], [op("add", f"{i}/1e0", value=one)],
            [op("add", f"{i}/+1", value=one)], [op("add", f"{i}/x", value=one)], [op("add", f"{i}/", value=one)],
            [op("remove", f"{i}/2")], [op("remove", f"{i}/3")], [op("remove", f"{i}/-")],
            [op("replace", f"{i}/0/port", value=7)], [op("replace", i, value=[])],
            [op("test", f"{i}/0", value={"port": 1, "protocol": "tcp"})], [op("test", f"{i}/0/port", value=1.0)],
            [op("test", f"{i}/0/port", value="1")], [op("test", f"{i}/0", value={"port": 1})], [op("test", "", value={})],
            [op("move", f"{i}/0", **{"from": f"{i}/2"})], [op("move", f"{i}/0/x", **{"from": f"{i}/0"})],
            [op("copy", f"{i}/-", **{"from": f"{i}/0"})], [op("move", i, **{"from": i})],
            [op("remove", "/metadata/labels/a~1b"), op("test", "/metadata/labels/a.b", value="2")],
            [op("test", "/metadata/labels/a~1b", value="1")], [op("add", "/metadata/labels/t~0x", value="1")],
            [op("add", "/metadata/annotations", value={}), op("add", "/metadata/annotations/n", value="1")],
            [op("add", "/spec/running", value=False), op("test", "/spec/running", value=True)],
            [op("add", "/spec/running", value=False), op("remove", "/spec/running")],
            [op("remove", "/spec")], [op("remove", "/metadata")], [op("remove", "/metadata/name")], [op("remove", "/kind")],
            [op("remove", "/metadata/uid")], [op("remove", "/metadata/resourceVersion")],
            [op("replace", "/metadata/resourceVersion", value="1")], [op("replace", "/metadata/name", value="b")],
            [op("replace", "/metadata/namespace", value="b")], [op("add", "/status", value={"phase": "Running"})],
            [{"op": "add", "path": "/spec/running"}], [{"op": "add", "value": 1}], [{"path": "/spec", "value": 1}], [1], [[]], [None],
            {"op": "add"}, "x", None):
        path = patch[0].get("path") if isinstance(patch, list) and isinstance(patch[0], dict) else None
        odd = {f"{i}/01": "json-patch", f"{i}/+1": "json-patch", f"{i}/0/x": "json-patch", "/metadata/labels/t~0x": "label-names",
               "/kind": "patch-decoding"}.get(path, "reasons" if patch == [None] else None)
        t.jsonpatch("$I/a?dryRun=All", patch, only=both, differs="json-patch" if patch == [op("add", "/spec/running")] else odd)
