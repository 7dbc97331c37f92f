# SPDX-License-Identifier: Apache-2.0
"""Bodies that can't be parsed, media types, methods, paths, sizes."""

import json

from apilib import MERGE, image, instance


def topic(t):
    good = json.dumps(instance("a", t.ns))
    bodies = {"empty": "", "not JSON": "hello", "cut": good[:30], "trailing": good + "x", "list": "[]", "string": '"x"', "null": "null",
              "bad UTF-8": good.encode().replace(b"debian", b"deb\xff\xfean"),
              "surrogate": good.replace("debian", r"\ud800"), "single quotes": good.replace('"', "'"),
              "comment": "// x\n" + good, "no kind": json.dumps({"metadata": {"name": "x"}, "spec": {}})}
    for what, body in bodies.items():
        t.post("$I?dryRun=All", body, differs="unicode" if what in ("bad UTF-8", "surrogate") else None)
        if what not in ("bad UTF-8", "surrogate", "no kind"):
            t.put("$I/a?dryRun=All", body)
    for media in ("text/plain", "application/xml", "application/json; charset=utf-8", "", "nonsense", MERGE):
        t.post("$I?dryRun=All", good, type=media)
    t.post("$I", good)
    for media in ("application/json", "text/plain", "application/strategic-merge-patch+json", ""):
        t.do("PATCH", "$I/a", {}, type=media)
    t.do("PATCH", "$N", {"metadata": {"labels": {}}}, type="text/plain")
    for method in ("HEAD", "OPTIONS", "TRACE", "FOO"):
        t.do(method, "$I/a", only=lambda b: None)
    for path in ("/apis/x", "/apis/nacre.dev/v1", "$G/instances/a", "/api/v1/nothings", "/api/v2", "/nope"):
        t.get(path, differs=None if path.startswith("/api/") else "no-page")
    for method, path in (("PUT", "$G/images"), ("POST", "$N"), ("PUT", "/api/v1/namespaces"),
                         ("POST", "$I/a/status"), ("DELETE", "$I/a/status")):
        t.do(method, path, image("x") if method != "DELETE" else None)
    t.get("$I/a?pretty=true")
    t.get("$I//a", differs="slashes")
    t.get("$I/a/")
    t.get("$G/namespaces//instances", differs="slashes")
    t.get("$I/%zz", differs="no-page")
    t.get("$I/A_B")
    t.get("$I/" + "a" * 300)
    t.post("$I", instance("big", t.ns, meta={"annotations": {"x": "y" * 300_000}}), differs="label-names")
    t.post("$I", instance("big", t.ns, meta={"annotations": {"x": "y" * 3_200_000}}))
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    t.post("$I", deep)
    t.merge("$I/a", {"metadata": {"annotations": {"x": "y" * 300_000}}}, differs="label-names")
    t.get("$I/a")
