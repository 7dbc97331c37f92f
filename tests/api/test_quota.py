# SPDX-License-Identifier: Apache-2.0
"""TenantQuota: a request that exceeds it is refused with what is used and what was requested, also under
concurrency."""

import json
import threading

from apilib import G, MERGE, V, instance, namespace

Q = f"{G}/namespaces/default/tenantquotas"


def quota(name="q", ns="default", **spec):
    return {"apiVersion": V, "kind": "TenantQuota", "metadata": {"name": name, "namespace": ns}, "spec": spec}


def itype(name, vcpus, memory):
    return {"apiVersion": V, "kind": "InstanceType", "metadata": {"name": name},
            "spec": {"vcpus": vcpus, "memoryMiB": memory}}


def refused(server, obj, text, path=f"{G}/namespaces/default/instances"):
    a = server.post(path, obj)
    assert a.status == 403 and a.json["reason"] == "Forbidden", a.text
    assert a.json["message"] == f'instances.nacre.dev "{obj["metadata"]["name"]}" is forbidden: {text}', a.text


def test_refused(server):
    server.create(itype("small", 2, 1024))
    server.create(itype("big", 8, 1024))
    server.create(quota(instances=3, vcpus=8))
    server.create(instance("a"))
    refused(server, instance("b", type="big"), "exceeded quota: q, requested: vcpus=8, used: vcpus=2, limited: vcpus=8")
    assert server.post(f"{G}/namespaces/default/instances?dryRun=All", instance("b", type="big")).status == 403
    assert server.post(f"{G}/namespaces/default/instances?dryRun=All", instance("b")).status == 201
    server.create(instance("b"))
    server.create(instance("c"))
    refused(server, instance("d"), "exceeded quota: q, requested: instances=1, used: instances=3, limited: instances=3")
    refused(server, instance("d", type="big"), "exceeded quota: q, requested: instances=1,vcpus=8, "
                                               "used: instances=3,vcpus=6, limited: instances=3,vcpus=8")
    # Another tenant is not affected. Existing instances may be changed, and deleting makes room.
    server.create(namespace("other"))
    server.create(instance("a", ns="other"))
    assert server.patch(f"{G}/namespaces/default/instances/a", {"spec": {"running": False}}).status == 200
    server.delete(f"{G}/namespaces/default/instances/a")
    server.create(instance("d"))
    # A lower quota removes nothing.
    assert server.patch(f"{Q}/q", {"spec": {"instances": 1}}).status == 200
    refused(server, instance("e"), "exceeded quota: q, requested: instances=1, used: instances=3, limited: instances=1")
    assert server.patch(f"{G}/namespaces/default/instances/b", {"metadata": {"labels": {"x": "y"}}}).status == 200
    # If there are several, all apply.
    server.patch(f"{Q}/q", {"spec": {"instances": 10}})
    server.create(quota("r", memoryMiB=3072))
    refused(server, instance("e"), "exceeded quota: r, requested: memoryMiB=1024, used: memoryMiB=3072, "
                                   "limited: memoryMiB=3072")
    for name in ("q", "r"):
        server.delete(f"{Q}/{name}")
    server.create(instance("e"))
    a = server.post(Q, quota("bad", vcpus=-1))
    assert a.status == 422 and "spec.vcpus" in a.json["message"]



def test_dedicated_addresses(server):
    """An instance with an IPv4 address of its own takes one, whether its type exists or not; others take none."""
    server.create(quota(dedicatedIPv4=1))
    server.create(instance("a", ipv4="dedicated"))
    refused(server, instance("b", ipv4="dedicated"),
            "exceeded quota: q, requested: dedicatedIPv4=1, used: dedicatedIPv4=1, limited: dedicatedIPv4=1")
    server.create(instance("b"))
    server.create(instance("c", ipv4="none"))
    server.delete(f"{G}/namespaces/default/instances/a")
    server.create(instance("d", ipv4="dedicated"))

def test_default(server):
    """nacre-system/default applies to each namespace that has no quota, separately."""
    server.create(itype("small", 2, 1024))
    server.create(quota("default", "nacre-system", instances=1, vcpus=100))
    server.create(quota("other", "nacre-system", instances=0))  # only the name `default` counts
    server.create(namespace("red"))
    for ns in ("default", "red"):
        server.create(instance("a", ns=ns))
        refused(server, instance("b", ns=ns), "exceeded quota: nacre-system/default, requested: instances=1, used: instances=1, "
                                              "limited: instances=1", f"{G}/namespaces/{ns}/instances")
    # The namespace's own quota replaces the default; when it is deleted the default applies again.
    server.create(quota("own", "red", instances=2))
    server.create(instance("b", ns="red"))
    refused(server, instance("c", ns="red"), "exceeded quota: own, requested: instances=1, used: instances=2, limited: instances=2",
            f"{G}/namespaces/red/instances")
    server.delete(f"{G}/namespaces/red/tenantquotas/own")
    refused(server, instance("c", ns="red"), "exceeded quota: nacre-system/default, requested: instances=1, used: instances=2, "
                                             "limited: instances=1", f"{G}/namespaces/red/instances")
    assert server.delete(f"{G}/namespaces/nacre-system/tenantquotas/default").status == 200
    server.create(instance("c", ns="red"))


def test_what_counts(server):
    """The size with which an instance was placed counts, else its type's size; the same after a restart."""
    server.create(quota(vcpus=10))
    server.create(instance("a", type="later"))
    server.create(itype("later", 8, 64))
    server.create(itype("four", 4, 64))
    server.create(itype("eight", 8, 64))
    full = "exceeded quota: q, requested: vcpus=4, used: vcpus=8, limited: vcpus=10"
    refused(server, instance("b", type="four"), full)
    status = {"status": {"vcpus": 8, "memoryMiB": 64, "host": "h"}}
    assert server.patch(f"{G}/namespaces/default/instances/a/status", status, MERGE).status == 200
    refused(server, instance("b", type="four"), full)
    server.delete(f"{G}/instancetypes/later")
    refused(server, instance("b", type="four"), full)
    server.stop()
    server.start()
    refused(server, instance("b", type="four"), full)
    server.delete(f"{G}/namespaces/default/instances/a")
    server.create(instance("b", type="four"))
    # As in the controller, what the status of a placed instance doesn't say is 0: it was placed before there was such
    # an amount.
    assert server.patch(f"{Q}/q", {"spec": {"vcpus": 8}}).status == 200
    refused(server, instance("c", type="eight"), "exceeded quota: q, requested: vcpus=8, used: vcpus=4, limited: vcpus=8")
    status = {"status": {"memoryMiB": 64, "host": "h"}}
    assert server.patch(f"{G}/namespaces/default/instances/b/status", status, MERGE).status == 200
    server.create(instance("c", type="eight"))


def test_race(server):
    """50 concurrent clients, room for 10 instances, by vCPUs and by number; twice, the second time after deletions."""
    server.create(itype("small", 2, 1024))
    server.create(quota(vcpus=20))
    server.create(quota("n", instances=10))

    def one(n, start, results):
        conn = server.connection()
        conn.connect()
        start.wait()
        for k in range(4):
            results.append(server.post(f"{G}/namespaces/default/instances", instance(f"i{n}-{k}"), conn=conn).status)

    for _ in range(2):
        start, results = threading.Barrier(50), []
        threads = [threading.Thread(target=one, args=(n, start, results)) for n in range(50)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        there = server.list(f"{G}/instances")["items"]
        assert len(there) == 10, len(there)
        assert sorted(results) == [201] * 10 + [403] * 190, results
        for o in there:
            assert server.delete(f"{G}/namespaces/default/instances/{o['metadata']['name']}").status == 200


def test_a_failed_write_counts_nothing(server):
    """A write that was staged but not stored, or refused for another reason, uses no quota."""
    server.create(itype("small", 2, 1024))
    server.create(quota(instances=1))
    for _ in range(3):
        assert server.post(f"{G}/namespaces/default/instances", json.dumps(instance("A_b"))).status == 422
        assert server.post(f"{G}/namespaces/nowhere/instances", instance("a", ns="nowhere")).status == 404
    server.create(instance("a"))
    assert server.post(f"{G}/namespaces/default/instances", instance("a")).status == 409
