# SPDX-License-Identifier: Apache-2.0
"""Tables, which kubectl prints."""

from apilib import V, image, instance, pool
from exchange import PARTIAL, TABLE

PARTIALS = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
READY = {"type": "Ready", "status": "True", "reason": "Running", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def topic(t):
    t.get("$I", accept=TABLE)
    t.post("$I", instance("a", t.ns, {"x": "1"}))
    t.post("$I", instance("b", t.ns))
    t.merge("$I/a/status", {"status": {"phase": "Running", "host": "h1", "address": "2001:db8::1", "conditions": [READY]}})
    t.get("$I", accept=TABLE)
    t.get("$I/a", accept=TABLE)
    t.get("$I?includeObject=None", accept=TABLE)
    t.get("$I?includeObject=Object", accept=TABLE)
    t.get("$I?includeObject=Metadata", accept=TABLE)
    t.get("$I?includeObject=Nothing", accept=TABLE)
    t.get("$I?limit=1", accept=TABLE)
    t.get("$I?labelSelector=x", accept=TABLE)
    t.get("$I/none", accept=TABLE)
    t.get("$I", accept="application/json;as=Table;v=v1beta1;g=meta.k8s.io", differs="table-version")
    t.get("$I/a", accept=PARTIAL + ",application/json")
    t.get("$I/a", accept=PARTIAL)
    t.get("$I", accept=PARTIALS)
    t.get("$I?limit=1", accept=PARTIALS)
    t.get("$I?labelSelector=none", accept=PARTIALS)
    t.get("$I", accept=PARTIAL)
    t.get("$I/none", accept=PARTIAL)
    t.get("$N", accept=PARTIAL)
    t.get("$I/a", accept="application/json;as=PartialObjectMetadata;v=v9;g=meta.k8s.io")
    t.get("$I/a", accept="application/json;as=PartialObjectMetadata;v=v9;g=meta.k8s.io,application/json")
    t.merge("$I/a", {"metadata": {"labels": {"x": "2"}}}, accept=PARTIAL)
    t.merge("$I/a/status", {"status": {"phase": "Stopped"}}, accept=PARTIAL)
    t.merge("$I/a", {"metadata": {"finalizers": ["a.b/c"]}}, accept=PARTIAL)
    t.delete("$I/a", accept=PARTIAL)
    t.merge("$I/a", {"metadata": {"finalizers": None}}, accept=PARTIAL)
    t.post("$I", instance("a", t.ns, {"x": "1"}), accept=PARTIAL)
    t.merge("$I/none", {"metadata": {}}, accept=PARTIAL)
    t.get("$I", accept="application/json;as=Table;v=v9;g=meta.k8s.io")
    t.get("$I", accept="application/json;as=Table;v=v9;g=meta.k8s.io,*/*")
    t.get("$I/a", accept="text/html")
    t.get("$I/a", accept="text/html,application/json;q=0.5")
    t.get("$I/a", accept="*/*")
    t.get("$I/a", accept="application/*")
    t.post("$G/images", image("i"))
    t.post("$G/instancetypes", {"apiVersion": V, "kind": "InstanceType", "metadata": {"name": "t"}, "spec": {"vcpus": 2, "memoryMiB": 64}})
    t.post("$G/addresspools", pool("p", "2001:db8::/40"))
    t.post("$G/hosts", {"apiVersion": V, "kind": "Host", "metadata": {"name": "h"}, "spec": {"vtep": "fd00::1"}})
    t.post("$G/endpoints", {"apiVersion": V, "kind": "Endpoint", "metadata": {"name": "ep"}, "spec": {
        "host": "h", "vtep": "fd00::1", "ip": "fd01::1", "mac": "02:00:00:00:00:01", "routes": [{"prefix": "2001:db8::/64"}]}})
    for kind in ("images", "instancetypes", "addresspools", "hosts", "endpoints", "allocations", "edgepeers"):
        t.get(f"$G/{kind}", accept=TABLE)
    t.get("$N", accept=TABLE)
    t.post("$I", instance("made", t.ns), accept=TABLE, differs="table-of-write")
    t.delete("$I/made", accept=TABLE)
