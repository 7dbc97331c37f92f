# SPDX-License-Identifier: Apache-2.0
"""Field validation, dry runs, schemas: which fields are pruned, filled in, warned of and refused."""

import json

from apilib import V, image, instance, pool


def topic(t):
    unknown = instance("u", t.ns, colour="red")
    unknown["extra"] = 1
    unknown["metadata"]["nope"] = "x"
    for how in ("", "Ignore", "Warn", "Strict", "Sometimes"):
        t.post(f"$I?dryRun=All&fieldValidation={how}", unknown)
    t.post("$I?dryRun=All", unknown)
    deep = instance("u", t.ns, ingress=[{"protocol": "tcp", "port": 1, "speed": 3}])
    for how in ("Warn", "Strict"):
        t.post(f"$I?dryRun=All&fieldValidation={how}", deep)

    twice = json.dumps(instance("d", t.ns)).replace('"type": "small"', '"type": "small", "type": "big"')
    twice_meta = json.dumps(instance("d", t.ns)).replace('"name": "d"', '"name": "e", "name": "d"')
    for how in ("Ignore", "Warn", "Strict"):
        t.post(f"$I?dryRun=All&fieldValidation={how}", twice)
        t.post(f"$I?dryRun=All&fieldValidation={how}", twice_meta)
    both = twice.replace('"image"', '"colour": 1, "image"')
    for how in ("Warn", "Strict"):
        t.post(f"$I?dryRun=All&fieldValidation={how}", both)

    t.post("$I?dryRun=All", instance("a", t.ns))
    t.get("$I/a")
    t.post("$I?dryRun=Some", instance("a", t.ns))
    t.post("$I?dryRun=", instance("a", t.ns))
    o = t.post("$I", instance("a", t.ns))
    t.put("$I/a?fieldValidation=Strict", {**o, "spec": {**o["spec"], "colour": "red"}})
    t.put("$I/a?fieldValidation=Warn", {**o, "spec": {**o["spec"], "colour": "red"}})
    t.put("$I/a?dryRun=Some", o)
    t.merge("$I/a?dryRun=Some", {})
    t.delete("$I/a?dryRun=Some")

    # Values that a schema refuses.
    for spec in ({"running": "yes"}, {"running": 1}, {"type": 5}, {"type": ""}, {"type": "Bad Name"}, {"type": "x" * 254},
                 {"ingress": {}}, {"ingress": [1]}, {"ingress": [{}]}, {"ingress": [{"protocol": "tcp"}]},
                 {"ingress": [{"protocol": "sctp", "port": 1}]}, {"ingress": [{"protocol": "tcp", "port": 0}]},
                 {"ingress": [{"protocol": "tcp", "port": 65536}]}, {"ingress": [{"protocol": "tcp", "port": 1.5}]},
                 {"ingress": [{"protocol": "tcp", "port": "1"}]}, {"ingress": [{"protocol": "icmp", "port": 1}]},
                 {"ingress": [{"protocol": "tcp", "port": 1, "from": "2001:db8::/129"}]},
                 {"ingress": [{"protocol": "tcp", "port": 1, "from": "192.0.2.0/24"}]},
                 {"ingress": [{"protocol": "icmp"}] * 65}, {"hostSelector": []}, {"hostSelector": {"a": 1}},
                 {"hostSelector": {f"k{n}": "v" for n in range(17)}}):
        # `reasons`: both refuse the same, with a different reason or a more exact field here.
        odd = spec in ({"type": ""}, {"ingress": [{"protocol": "tcp"}]}, {"ingress": [{"protocol": "icmp", "port": 1}]},
                       {"ingress": [{"protocol": "tcp", "port": 1, "from": "2001:db8::/129"}]})
        t.post("$I?dryRun=All", instance("a2", t.ns, **spec), differs="reasons" if odd else None)
    for spec in (None, [], "x", {}, {"type": "a"}):
        t.post("$I?dryRun=All", {**instance("a2", t.ns), "spec": spec})
    t.post("$I?dryRun=All", {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a2"}})
    for meta in ({"labels": {"bad key!": "x"}}, {"labels": {"x": "bad value!"}}, {"labels": {"x": "v" * 64}}, {"labels": []},
                 {"annotations": {"Bad Key": "x"}}, {"finalizers": ["not a name"]}, {"finalizers": ["plain"]},
                 {"finalizers": ["a.b/c", "a.b/c"]},
                 {"ownerReferences": [{"apiVersion": V, "kind": "Image", "name": "x"}]},
                 {"ownerReferences": [{"apiVersion": V, "kind": "Image", "name": "x", "uid": "u", "controller": True},
                                      {"apiVersion": V, "kind": "Image", "name": "y", "uid": "w", "controller": True}]},
                 {"name": "x" * 254}, {"name": "."}, {"name": "a/b"}, {"name": "a..b"}, {"name": 5}, {"generation": "x"},
                 {"creationTimestamp": "yesterday"}, {"managedFields": 3}):
        key = None
        if "finalizers" in meta:
            key = "finalizers"
        elif meta.get("name") == 5 or {"generation", "creationTimestamp", "managedFields"} & set(meta) or meta.get("labels") == []:
            key = "meta-types"
        elif "ownerReferences" in meta and len(meta["ownerReferences"]) == 1:
            key = "reasons"
        elif meta.get("labels") or "annotations" in meta:
            key = "label-names"
        t.post("$I?dryRun=All", instance("a2", t.ns, meta=meta), differs=key)
    t.post("$I?dryRun=All", {**instance("a2", t.ns), "metadata": []}, differs="meta-types")
    t.post("$I?dryRun=All", {**instance("a2", t.ns), "metadata": None}, differs="meta-types")

    # Rules that involve several fields (CEL in kube-apiserver).
    t.post("$G/images?dryRun=All", image("i", kernel={"kernel": "k"}, disk={"file": "f", "format": "raw"}))
    t.post("$G/images?dryRun=All", {**image("i"), "spec": {}})
    t.post("$G/images?dryRun=All", image("i", kernel={"kernel": "../k"}))
    t.post("$G/images?dryRun=All", image("i", disk={"file": "f", "format": "vmdk"}))
    for prefix in ("2001:db8::1/40", "192.0.2.0/24", "x", "2001:0db8::/40", "2001:DB8::/40", "::/0", "2001:db8::/65"):
        key = "reasons" if prefix in ("192.0.2.0/24", "x", "2001:db8::/65") else None
        t.post("$G/addresspools?dryRun=All", pool("p", prefix), differs=key)
    for use in ("delegated", "overlay", "mac", "nothing"):
        t.post("$G/addresspools?dryRun=All", pool("p", "2001:db8::/40", use), differs="reasons" if use == "mac" else None)
    t.post("$G/addresspools?dryRun=All", {"apiVersion": V, "kind": "AddressPool", "metadata": {"name": "m"},
                                          "spec": {"use": "mac", "macPrefix": "02:4e:01"}})
    t.post("$G/addresspools?dryRun=All", {"apiVersion": V, "kind": "AddressPool", "metadata": {"name": "m"},
                                          "spec": {"use": "mac", "macPrefix": "03:4e:01"}})
    for vtep in ("fd00::1", "fd00:0::1", "192.0.2.1", "::", "ff02::1", "fe80::1", "fd00::1%eth0"):
        t.post("$G/hosts?dryRun=All", {"apiVersion": V, "kind": "Host", "metadata": {"name": "h"}, "spec": {"vtep": vtep}},
               differs="reasons" if vtep in ("192.0.2.1", "fd00::1%eth0") else None)
    for mac in ("02:00:00:00:00:01", "01:00:00:00:00:01", "02:00:00:00:00", "02:00:00:00:00:0G", "02:AA:00:00:00:01"):
        t.post("$G/endpoints?dryRun=All", {"apiVersion": V, "kind": "Endpoint", "metadata": {"name": "ep"}, "spec": {
            "host": "h", "vtep": "fd00::1", "ip": "fd01::1", "mac": mac}})

    # Immutable fields.
    t.post("$G/addresspools", pool("p", "2001:db8::/40"))
    t.merge("$G/addresspools/p", {"spec": {"use": "overlay"}})
    t.merge("$G/addresspools/p", {"spec": {"prefix": "2001:db8::/44"}})
    t.merge("$G/addresspools/p", {"spec": {"prefix": None, "macPrefix": "02:4e:01"}}, differs="optional-immutable")
    t.merge("$G/addresspools/p", {"spec": {"quarantineSeconds": 5}})
    t.merge("$G/addresspools/p", {"spec": {"quarantineSeconds": None}})
    t.merge("$G/addresspools/p", {"spec": {"quarantineSeconds": 86401}})
