# SPDX-License-Identifier: Apache-2.0
"""Lists: pages, versions, selectors of labels and fields."""

import urllib.parse

from apilib import instance


def names(body):
    return {**body, "items": [o["metadata"]["name"] for o in body["items"]]}


def topic(t):
    def ask(differs=None, only=names, path="$I", **params):
        return t.get(f"{path}?{urllib.parse.urlencode(params)}", only=only, differs=differs)

    empty = t.get("$I")
    made = {}
    for name, labels in {"a": {"x": "1", "y": "1"}, "b": {"x": "2"}, "c": {}, "d": {"n": "7"}, "e": {"x": "1"}}.items():
        made[name] = t.post("$I", instance(name, t.ns, labels))
    t.get("$I")
    t.get("$G/instances", only=names)
    version = ask()["metadata"]["resourceVersion"]
    ask(resourceVersion="0")
    ask(resourceVersion=version)
    ask(resourceVersion=version, resourceVersionMatch="NotOlderThan")
    ask(resourceVersion=version, resourceVersionMatch="Exact")
    ask(resourceVersion=made["b"]["metadata"]["resourceVersion"], resourceVersionMatch="Exact")
    ask(resourceVersion=empty["metadata"]["resourceVersion"], resourceVersionMatch="Exact")
    ask(resourceVersion="0", resourceVersionMatch="Exact")
    ask(resourceVersionMatch="Exact")
    ask(resourceVersion=version, resourceVersionMatch="Sometimes")
    ask(resourceVersion="x")
    ask(resourceVersion="-1")
    ask(resourceVersion=str(int(version) + 1000000))
    ask(resourceVersion=str(int(version) + 1000000), resourceVersionMatch="Exact")

    page = ask(limit=2)
    token = page["metadata"]["continue"]
    t.delete("$I/d")
    t.post("$I", instance("bb", t.ns))
    page = ask(**{"limit": 2, "continue": token})
    ask(**{"limit": 2, "continue": page["metadata"]["continue"]})
    ask(**{"continue": token})
    ask(limit=5)
    ask(limit=500)
    ask(limit=0)
    ask(limit=-1)
    ask(limit="x")
    ask(**{"limit": 2, "continue": "junk"})
    ask(**{"limit": 2, "continue": token, "resourceVersion": version})
    ask(**{"limit": 2, "continue": token, "resourceVersion": "0"}, differs="limit")
    ask(**{"limit": 2, "continue": token, "resourceVersion": version, "resourceVersionMatch": "Exact"})
    ask(limit=2, labelSelector="x")
    ask(limit=1, resourceVersion="0", differs="limit")
    ask(limit=1, resourceVersion=version, resourceVersionMatch="Exact")

    for selector in ("x", "!x", "x=1", "x==2", "x!=1", "x in (1,2)", "x notin (1)", "x,y", "x,!y", "n>6", "n<7",
                     "x in (2, 3),!y", "", " x = 1 ", "x in ()", "x=", "nacre.dev/x", "x in (1),x in (2)", "x,", ","):
        ask(labelSelector=selector)
    for selector in ("x in", "x in (", "=", "x=1=2", "x y", "a/b/c", "x>z", "-x", "x=a b", "x in (a", "!", "x=" + "v" * 64,
                     "l" * 64, "UPPER.case/x", "x~1"):
        ask(labelSelector=selector)
    for selector in ("metadata.name=b", "metadata.name!=b", "metadata.name=b,metadata.name=c", "metadata.name=b,metadata.name=b",
                     f"metadata.namespace={t.ns}", "metadata.namespace=default", "status.host=h1", "status.host=",
                     "metadata.name", "metadata.name=", "spec.type=small", "nope=1", "=", "metadata.name=a=b",
                     "metadata.name in (a)", ",", "metadata.name==b", "metadata.name=\\,"):
        ask(fieldSelector=selector, differs="empty-field" if selector in ("=", ",") else None)
    t.merge("$I/a/status", {"status": {"host": "h1"}})
    ask(fieldSelector="status.host=h1")
    ask(fieldSelector="status.host!=h1")
    ask(fieldSelector="status.host=h1,metadata.name=a", labelSelector="x=1")
    ask(path="$I/a")
    ask(path="$G/namespaces/nowhere/instances")
    ask(path="$G/nothings")
    ask(pretty="true")
    ask(timeoutSeconds="x")
    ask(watch="maybe")
    ask(path="/api/v1/namespaces", fieldSelector=f"metadata.name={t.ns}")
    ask(path="/api/v1/namespaces", fieldSelector="status.phase=Active", only=lambda b: b["kind"])
    ask(path="/api/v1/namespaces", fieldSelector="spec.x=1")
