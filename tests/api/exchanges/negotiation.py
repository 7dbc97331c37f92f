# SPDX-License-Identifier: Apache-2.0
"""Media types that a client accepts and sends: Accept with weights, pretty, methods, paths below existing ones."""

import json

from apilib import JSONPATCH, MERGE, instance
from exchange import APPLY, STRATEGIC


def topic(t):
    t.post("$I", instance("a", t.ns))
    for accept in ("application/json;q=0.1,text/html", "application/json;q=0", "text/*", "*/*;q=0.1", "application/json;stream=watch",
                   "application/json; charset=utf-8", "application/json;as=Table;g=meta.k8s.io;v=v1,*/*;q=0.1",
                   "application/json;as=Nothing;g=meta.k8s.io;v=v1", "application/json;as=Table;g=other;v=v1,application/json",
                   "application/xml,application/json", "application/json,application/xml", "application/cbor", "nonsense", ",", "/",
                   "application/yaml,application/json;q=0.9"):
        yaml_first = accept.startswith("application/yaml")
        t.get("$I/a", accept=accept, only=lambda b: b.get("kind") if isinstance(b, dict) else "text",
              differs="yaml-answers" if yaml_first else None)
    good = json.dumps(instance("b", t.ns))
    for media in ("application/json;charset=utf-16", "application/json;", "application/*", "*/*", "application/cbor", JSONPATCH, "text/json"):
        t.post("$I?dryRun=All", good, type=media, only=lambda b: b["metadata"]["name"])
        t.put("$I/a?dryRun=All", good, type=media)
    for media in (MERGE, JSONPATCH, STRATEGIC, APPLY, "application/merge-patch+json; charset=utf-8", "application/yaml", "json"):
        t.do("PATCH", "$I/a?dryRun=All", [] if "json-patch" in media else {}, type=media, only=lambda b: b["metadata"]["name"])
    for media in ("application/json", "application/yaml", "text/plain"):
        t.delete("$I/none", {}, type=media)
    for path in ("$I/a/log", "$N/a", "$N/status/x", "/api/v1/namespaces/$ns/x/y/z",
                 "/apis/nacre.dev/v1alpha1/x", "/apis/nacre.dev/v1alpha1/namespaces", "/apis/", "/api/v1/"):
        t.get(path, only=lambda b: b["kind"], differs="no-page" if path.startswith("/apis/nacre") else None)
    for method, path in (("PUT", "$N/configmaps"), ("PATCH", "$I"), ("PATCH", "$N/configmaps"),
                         ("DELETE", "/api/v1")):
        t.do(method, path, {}, type=MERGE if method == "PATCH" else "application/json")
    t.get("$I/a?pretty=1", only=lambda b: b["metadata"]["name"])
    t.get("$I/a?pretty=maybe", only=lambda b: b["metadata"]["name"])
    t.get("$I/a?resourceVersion=0", only=lambda b: b["metadata"]["name"])
    t.get("$I/a?resourceVersion=x", differs="bad-version")
    t.get("$I/a?unknown=parameter", only=lambda b: b["metadata"]["name"])
    t.get("$I/a?resourceVersion=1", only=lambda b: b["metadata"]["name"])
    t.get("$I/a?resourceVersion=999999999999")
