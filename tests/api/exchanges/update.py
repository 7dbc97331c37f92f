# SPDX-License-Identifier: Apache-2.0
"""Updates by PUT: versions, generations, immutable fields, no-ops."""

import copy

from apilib import image, instance, namespace


def topic(t):
    first = t.post("$I", instance("a", t.ns, {"k": "v"}))
    second = t.put("$I/a", {**first, "spec": {**first["spec"], "running": False}})
    t.put("$I/a", first)  # stale
    t.put("$I/a", second)  # a no-op
    t.get("$I/a")

    def changed(**meta):
        o = copy.deepcopy(second)
        o["metadata"].update(meta)
        return o

    t.put("$I/a", changed(resourceVersion=""))
    t.put("$I/a", changed(resourceVersion=None))
    t.put("$I/a", changed(resourceVersion="x"), differs="bad-version")
    t.put("$I/a", changed(resourceVersion="1"))
    t.put("$I/a", changed(name="b"))
    t.put("$I/a", changed(namespace="default"))
    t.put("$I/a", changed(uid="other"), differs="uid")
    t.put("$I/a", changed(uid=""))
    third = t.put("$I/a", changed(labels={"k": "w"}, annotations={"x": "y"}))
    second = third
    t.put("$I/a", changed(generation=99, creationTimestamp="2001-01-01T00:00:00Z", selfLink="/x"))
    t.put("$I/a", changed(creationTimestamp=None))
    t.put("$I/a", changed(deletionTimestamp="2001-01-01T00:00:00Z"), differs="deletion-time")
    t.put("$I/a", {**second, "status": {"phase": "Running"}})
    t.put("$I/a", {**second, "spec": {**second["spec"], "type": "large"}})  # immutable
    t.put("$I/a", {**second, "spec": {**second["spec"], "type": "large", "image": "other"}})
    t.put("$I/a", {**second, "spec": {**second["spec"], "hostSelector": {"rack": "1"}}}, differs="optional-immutable")  # immutable: it was absent
    spec = dict(second["spec"])
    del spec["running"]
    third = t.put("$I/a", {**second, "spec": spec})  # the default again
    t.put("$I/a", {k: v for k, v in third.items() if k != "spec"})
    t.put("$I/a", {**third, "kind": "Image"})
    t.put("$I/a", {**third, "apiVersion": "nacre.dev/v9"}, differs="wrong-version")
    t.put("$I/none", instance("none", t.ns))
    t.put("$I/none", {**third, "metadata": {**third["metadata"], "name": "none"}})
    t.put("$I", third)
    t.put("$I/a?dryRun=All", {**third, "spec": {**third["spec"], "running": False}})
    t.get("$I/a")

    # Lists keep their order, also when they are replaced.
    ports = [{"protocol": "tcp", "port": p} for p in (3, 1, 2)]
    o = t.put("$I/a", {**third, "spec": {**third["spec"], "ingress": ports}})
    o = t.put("$I/a", {**o, "spec": {**o["spec"], "ingress": ports[::-1]}})
    t.put("$I/a", {**o, "spec": {**o["spec"], "ingress": []}})
    img = t.post("$G/images", image("i"))
    t.put("$G/images/i", {**img, "spec": {"disk": {"file": "d", "format": "raw"}}})
    ns = t.get("$N")
    t.put("$N", {**ns, "metadata": {**ns["metadata"], "labels": {**ns["metadata"]["labels"], "a": "b"}}})
    t.put("$N", ns)
    t.put("$N", {**namespace(t.ns), "metadata": {"name": t.ns}})  # core kinds need no version
