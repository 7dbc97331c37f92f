# SPDX-License-Identifier: Apache-2.0
"""Watches: which events come, in which order, with which objects."""

from apilib import instance
from exchange import PARTIAL, TABLE


def topic(t):
    listed = t.get("$I")["metadata"]["resourceVersion"]
    t.watch("$I", resourceVersion=listed)
    first = t.post("$I", instance("a", t.ns))
    t.merge("$I/a", {"metadata": {"labels": {"on": "yes"}}})
    t.merge("$I/a", {"metadata": {"labels": {"on": "yes"}}})  # a no-op: no event
    t.merge("$I/a/status", {"status": {"phase": "Running", "host": "h1"}})
    t.delete("$I/a")
    t.events(4)

    # From a version: exactly the changes after it.
    t.watch("$I", "after", resourceVersion=first["metadata"]["resourceVersion"])
    t.events(3, "after")
    t.post("$I", instance("b", t.ns, {"on": "yes"}))
    t.events(1, "after")
    t.events(1)

    # Objects that enter and leave a selection.
    t.watch("$I", "on", labelSelector="on=yes", resourceVersion=listed)
    t.events(4, "on")
    t.merge("$I/b", {"metadata": {"labels": {"on": "no"}}})
    t.merge("$I/b", {"metadata": {"labels": {"more": "1"}}})
    t.merge("$I/b", {"metadata": {"labels": {"on": "yes"}}})
    t.events(2, "on")
    t.watch("$I", "host", fieldSelector="status.host=h1", resourceVersion=listed)
    t.merge("$I/b/status", {"status": {"host": "h1"}})
    t.merge("$I/b/status", {"status": {"host": "h2"}})
    t.events(4, "host")
    t.watch("$I", "name", fieldSelector="metadata.name=b")
    t.events(1, "name")
    t.watch("$I/b", "one", resourceVersion="0")
    t.events(1, "one")
    t.watch("$I", "gone", fieldSelector="metadata.name=c", resourceVersion=listed)

    # With finalizers: first marked, then deleted.
    o = t.post("$I", instance("f", t.ns, meta={"finalizers": ["a.b/c"]}))
    t.watch("$I", "f", resourceVersion=o["metadata"]["resourceVersion"])
    t.delete("$I/f")
    t.merge("$I/f", {"metadata": {"finalizers": None}})
    t.events(2, "f")

    # Synthetic initial events.
    t.post("$I", instance("c", t.ns))
    t.events(1, "gone")
    t.watch("$I", "start")
    t.events(2, "start")
    t.watch("$I", "zero", resourceVersion="0")
    t.events(2, "zero")
    t.watch("$I", "list", sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true")
    t.events(3, "list")
    t.watch("$I", "list0", sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true",
            resourceVersion="0", labelSelector="on=yes")
    t.events(2, "list0")
    t.watch("$I", "nolist", sendInitialEvents="false", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true",
            resourceVersion="0")
    t.post("$I", instance("d", t.ns))
    t.events(1, "nolist")
    t.events(1, "list")
    t.watch("$I", "nomarks", sendInitialEvents="true", resourceVersionMatch="NotOlderThan")
    t.events(3, "nomarks")

    # Refused.
    t.watch("$I", "r1", sendInitialEvents="true")
    t.watch("$I", "r2", sendInitialEvents="true", resourceVersionMatch="Exact")
    t.watch("$I", "r3", resourceVersionMatch="NotOlderThan", resourceVersion=listed)
    t.watch("$I", "r4", resourceVersion="x", differs="bad-version")
    t.watch("$I", "r5", labelSelector="x in")
    t.watch("$I", "r6", fieldSelector="nope=1")
    t.watch("$I", "r7", timeoutSeconds="x")
    t.watch("$G/nothings", "r8", differs="no-page")
    t.watch("$I/none", "r9", resourceVersion="0")
    t.watch("$I", "r10", resourceVersion=str(int(listed) + 1000000000), timeoutSeconds=1, differs="future")
    t.get("$I?sendInitialEvents=true&resourceVersionMatch=NotOlderThan")

    # The watch ends at its timeout.
    t.watch("$I", "short", resourceVersion=t.get("$I")["metadata"]["resourceVersion"], timeoutSeconds=1)
    t.events(None, "short", seconds=10)
    t.watch("$I", "table", accept=TABLE, fieldSelector="metadata.name=d")
    t.events(1, "table")
    t.post("$I", instance("e", t.ns))
    t.watch("$I", "partial", accept=PARTIAL, sendInitialEvents="true", resourceVersionMatch="NotOlderThan",
            allowWatchBookmarks="true", fieldSelector="metadata.name=e")
    t.events(2, "partial")
    t.merge("$I/e", {"metadata": {"labels": {"p": "q"}}})
    t.delete("$I/e")
    t.events(2, "partial")
    t.watch("/api/v1/namespaces", "ns", fieldSelector=f"metadata.name={t.ns}")
    t.events(1, "ns")
