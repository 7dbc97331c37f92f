# SPDX-License-Identifier: Apache-2.0
"""JSON patches (RFC 6902)."""

from apilib import instance


def topic(t):
    t.post("$I", instance("a", t.ns, ingress=[{"protocol": "tcp", "port": 1}]))

    def op(op, path, **kw):
        return {"op": op, "path": path, **kw}

    t.jsonpatch("$I/a", [])
    t.jsonpatch("$I/a", [op("test", "/spec/running", value=True),
                         op("add", "/spec/ingress/-", value={"protocol": "udp", "port": 2}),
                         op("add", "/metadata/labels", value={"x/y": "1"}),
                         op("copy", "/spec/ingress/1", **{"from": "/spec/ingress/0"}),
                         op("remove", "/spec/ingress/0"),
                         op("replace", "/metadata/labels/x~1y", value="2")])
    t.jsonpatch("$I/a", [op("add", "/spec/ingress/0", value={"protocol": "icmp"})])
    t.jsonpatch("$I/a", [op("move", "/spec/ingress/2", **{"from": "/spec/ingress/0"})])
    t.jsonpatch("$I/a", [op("add", "/spec/running", value=False)])
    t.jsonpatch("$I/a", [op("replace", "/spec/running", value=False)])  # a no-op
    t.jsonpatch("$I/a", [op("test", "/spec/running", value=True)])
    t.jsonpatch("$I/a", [op("test", "/spec/none", value=None)], differs="json-patch")
    t.jsonpatch("$I/a", [op("remove", "/spec/nope")])
    t.jsonpatch("$I/a", [op("replace", "/spec/nope", value=1)], differs="json-patch")
    t.jsonpatch("$I/a", [op("add", "/spec/deep/er", value=1)])
    t.jsonpatch("$I/a", [op("add", "/spec/ingress/99", value={})])
    t.jsonpatch("$I/a", [op("add", "/spec/ingress/x", value={})])
    t.jsonpatch("$I/a", [op("remove", "/spec/ingress/9")])
    t.jsonpatch("$I/a", [op("jump", "/spec")])
    t.jsonpatch("$I/a", [{"op": "add", "value": 1}])
    t.jsonpatch("$I/a", [{"path": "/spec", "value": 1}])
    t.jsonpatch("$I/a?dryRun=All", [op("add", "/spec/running")], differs="json-patch")
    t.jsonpatch("$I/a", {"op": "add"})
    t.jsonpatch("$I/a", "")
    t.jsonpatch("$I/a", "[")
    t.jsonpatch("$I/a", "[1]")
    t.jsonpatch("$I/a", [op("replace", "/metadata/name", value="b")])
    t.jsonpatch("$I/a", [op("replace", "/spec/type", value="large")])
    t.jsonpatch("$I/a", [op("replace", "/spec/running", value="maybe")])
    t.jsonpatch("$I/a", [op("add", "/spec/colour", value="red")])
    t.jsonpatch("$I/a", [op("test", "/metadata/resourceVersion", value="1"), op("add", "/spec/running", value=True)])
    t.jsonpatch("$I/a?dryRun=All", [op("add", "/metadata/annotations", value={"a": "b"})])
    t.jsonpatch("$I/a", [op("add", "/status", value={"phase": "Running"})])
    t.jsonpatch("$I/a/status", [op("add", "/status", value={"phase": "Running"})])
    t.jsonpatch("$I/none", [op("add", "/spec/running", value=True)])
    t.get("$I/a")
