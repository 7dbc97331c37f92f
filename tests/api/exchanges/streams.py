# SPDX-License-Identifier: Apache-2.0
"""Edge cases of watches: objects that enter and leave selections, all kinds, versions, options."""

from apilib import image, instance


def topic(t):
    listed = t.get("$I")["metadata"]["resourceVersion"]
    t.watch("$I", "sel", labelSelector="a in (1,2),!b", resourceVersion=listed)
    t.watch("$I", "both", labelSelector="a", fieldSelector="status.host=h1", resourceVersion=listed)
    t.watch("$I", "not", fieldSelector="status.host!=h1,metadata.name!=z", resourceVersion=listed)
    t.watch("$G/instances", "all", fieldSelector=f"metadata.namespace={t.ns}", resourceVersion=listed)
    t.post("$I", instance("x", t.ns, {"a": "1"}))
    t.post("$I", instance("z", t.ns))
    t.merge("$I/x", {"metadata": {"labels": {"a": "2"}}})
    t.merge("$I/x", {"metadata": {"labels": {"b": "1"}}})
    t.merge("$I/x/status", {"status": {"host": "h1"}})
    t.merge("$I/x", {"metadata": {"labels": {"b": None}}})
    t.merge("$I/x/status", {"status": {"host": "h2"}})
    t.merge("$I/x", {"metadata": {"labels": {"a": "3"}}})
    t.merge("$I/z", {"metadata": {"labels": {"a": "1"}}})
    t.merge("$I/z/status", {"status": {"host": "h1"}})
    t.delete("$I/x")
    t.delete("$I/z")
    t.events(7, "sel")
    t.events(4, "both")
    t.events(7, "not")
    t.events(11, "all")

    # The existing objects of a selection, and the bookmark at their end.
    t.post("$I", instance("x", t.ns, {"a": "1"}))
    t.post("$I", instance("y", t.ns))
    for n, params in enumerate(({"labelSelector": "a"}, {"labelSelector": "none"}, {"fieldSelector": "metadata.name=y"},
                                {"labelSelector": "a", "resourceVersion": "0"}, {"limit": "1"}, {"timeoutSeconds": "0"})):
        t.watch("$I", f"init{n}", sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true", **params)
        t.events(1 if n == 1 else 3 if n > 3 else 2, f"init{n}")
    for n, params in enumerate(({"sendInitialEvents": "maybe"}, {"sendInitialEvents": "true", "resourceVersionMatch": "Never"},
                                {"sendInitialEvents": "false"}, {"resourceVersionMatch": "Exact", "resourceVersion": listed},
                                {"allowWatchBookmarks": "perhaps", "resourceVersion": listed}, {"limit": "x"},
                                {"labelSelector": "a,,b", "resourceVersion": listed}, {"continue": "x", "resourceVersion": listed})):
        t.watch("$I", f"odd{n}", **params)

    # Cluster-scoped kinds, and kinds of Kubernetes itself.
    v = t.get("$G/images")["metadata"]["resourceVersion"]
    t.watch("$G/images", "img", resourceVersion=v)
    t.post("$G/images", image("i"))
    t.merge("$G/images/i", {"metadata": {"labels": {"a": "b"}}})
    t.delete("$G/images/i")
    t.events(3, "img")
    v = t.get("$N/configmaps")["metadata"]["resourceVersion"]
    t.watch("$N/configmaps", "cm", resourceVersion=v, labelSelector="k=v")
    t.post("$N/configmaps", {"metadata": {"name": "c", "labels": {"k": "v"}}, "data": {"a": "1"}})
    t.strategic("$N/configmaps/c", {"data": {"a": "2"}})
    t.merge("$N/configmaps/c", {"metadata": {"labels": None}})
    t.put("$N/configmaps/c", {"metadata": {"name": "c", "labels": {"k": "v"}}})
    t.delete("$N/configmaps/c")
    t.events(5, "cm")
