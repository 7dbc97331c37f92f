# SPDX-License-Identifier: Apache-2.0
"""Public IPv4: dedicated addresses, slices of the ports of shared ones, forwards, and who had them (nacre whois)."""

import collections
import datetime
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from conftest import BIN, ApiError, eventually
from proxy import LOSE, Proxy

SHARED = {"use": "shared", "prefix": "198.51.100.2/31", "quarantineSeconds": 0}
SSH = [{"protocol": "tcp", "targetPort": 22}]


def status(cloud, name):
    return (cloud.get("instances", name, "default") or {}).get("status", {})


def placed(cloud, name):
    return status(cloud, name).get("host")


def text(s):
    return f"{s['address']}:{s['firstPort']}-{s['lastPort']}"


def slices(cloud, name):
    return [text(s) for s in status(cloud, name).get("portSlices", [])]


def forwards(cloud, name):
    return {(f["protocol"], f["targetPort"]): f"{f['address']}:{f['port']}" for f in status(cloud, name).get("forwards", [])}


def values(cloud, *words):
    """The values of IPv4 Allocations that are not released."""
    return {a["spec"]["value"]: a["spec"]["owner"]["name"] for a in cloud.list("allocations")
            if a["metadata"]["name"].startswith(words or ("ip4-", "port-")) and "releasedAt" not in a.get("status", {})}


def make(cloud, *names, hosts=1, **spec):
    for n in range(hosts):
        cloud.host(f"h{n + 1}", vcpus=1000, memory=1000000, duration=600)
    for name in names:
        cloud.instance(name, **spec)


def wants(cloud, name, n):
    """As the agent: asks for slices."""
    cloud.patch("instances", name, {"status": {"portSlicesWanted": n}}, "default", "/status")


def announce(cloud, name):
    """As the agent: makes the Endpoint what the status says."""
    i = cloud.get("instances", name, "default")
    st, id = i["status"], i["metadata"]["uid"]
    routes = [{"prefix": st["prefix"]}, {"prefix": st["delegatedPrefix"]}]
    routes += [{"prefix": s["address"] + "/32", "firstPort": s["firstPort"], "lastPort": s["lastPort"]}
               for s in st.get("portSlices", [])]
    if i["spec"]["ipv4"] == "dedicated":
        routes.append({"prefix": st["publicIPv4"] + "/32"})
    if cloud.get("endpoints", "i-" + id):
        cloud.patch("endpoints", "i-" + id, {"spec": {"routes": routes}})
    else:
        cloud.endpoint("i-" + id, st["host"], {"kind": "Instance", "namespace": "default", "name": name, "uid": id},
                       routes=routes)


def go(cloud, name):
    if cloud.get("instances", name, "default"):
        cloud.delete("instances", name, "default")
        if placed(cloud, name):
            cloud.removed(name)
    eventually(f"{name} goes", 10, lambda: cloud.get("instances", name, "default") is None)


def whois(cloud, *words):
    p = subprocess.run([os.path.join(BIN, "nacre"), "whois", "--api", "unix:" + cloud.sock, *map(str, words)],
                       capture_output=True, text=True, timeout=60, check=False)
    rows = [line.split() for line in p.stdout.splitlines()[1:]]
    return p.returncode, rows if p.returncode == 0 else p.stderr


def at(seconds=0):
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_dedicated(cloud):
    cloud.pools()
    make(cloud, "a", ipv4="dedicated", hosts=1)
    eventually("it says what is missing", 10,
               lambda: cloud.of_instance("a", "Scheduled").get("message") == "there is no AddressPool with use dedicated")
    assert cloud.of_instance("a", "Scheduled")["reason"] == "PoolMissing" and not placed(cloud, "a")
    cloud.create("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.6/31", "quarantineSeconds": 0})
    eventually("a is placed", 10, lambda: placed(cloud, "a"))
    for name in ("b", "c"):
        cloud.instance(name, ipv4="dedicated")
    eventually("b is placed", 10, lambda: placed(cloud, "b"))
    assert sorted(status(cloud, n)["publicIPv4"] for n in "ab") == ["203.0.113.6", "203.0.113.7"]
    assert all(set(values(cloud)) == {"203.0.113.6", "203.0.113.7"} and not slices(cloud, n) for n in "ab")
    c = cloud.wait_condition("c", "Scheduled", "False", "PoolExhausted")
    assert c["message"] == ("AddressPool `own` (2 of 2 used) is full; add a pool with use dedicated, or delete instances")
    cloud.instance("d", ipv4="none")
    cloud.instance("e")
    eventually("those that need none are placed", 10, lambda: placed(cloud, "d") and placed(cloud, "e"))
    assert "publicIPv4" not in status(cloud, "d") and "publicIPv4" not in status(cloud, "e")
    had = status(cloud, "a")["publicIPv4"]
    go(cloud, "a")
    eventually("c is placed", 10, lambda: placed(cloud, "c"))
    assert status(cloud, "c")["publicIPv4"] == had


def test_one_write_binds_with_everything(bare):
    binds = []

    def rule(method, path, body):
        if method == "PATCH" and "/instances/" in path and b'"host"' in body:
            binds.append(body)
    bare.pools()
    bare.create("AddressPool", "s", SHARED)
    proxy = Proxy(os.path.join(bare.dir, "proxy.sock"), bare.sock, rule)
    try:
        bare.start_controller("controller", "--no-leader-election", "--api", "unix:" + os.path.join(bare.dir, "proxy.sock"))
        make(bare, "a", "b", forwards=SSH)
        eventually("both are placed", 10, lambda: placed(bare, "a") and placed(bare, "b"))
    finally:
        proxy.close()
    assert len(binds) == 2
    assert all(word in b for b in binds for word in (b'"publicIPv4"', b'"portSlices"', b'"forwards"', b'"ForwardsReady"'))
    # They spread over the addresses.
    assert {status(bare, n)["publicIPv4"] for n in "ab"} == {"198.51.100.2", "198.51.100.3"}
    for n in "ab":
        address = status(bare, n)["publicIPv4"]
        assert slices(bare, n) == [f"{address}:1024-1535"] and forwards(bare, n) == {("tcp", 22): f"{address}:1024"}
    assert values(bare) == {f"{status(bare, n)['publicIPv4']}:1024-1535": n for n in "ab"}


def test_a_pool_that_comes_later(cloud):
    """Instances without IPv4, such as those of earlier versions, run on and get a slice when there are some."""
    cloud.pools("2001:db8:1::/48")
    names = [f"i{n}" for n in range(6)]
    make(cloud, *names)
    cloud.instance("fwd", forwards=SSH)
    names.append("fwd")
    eventually("all are placed", 10, lambda: all(placed(cloud, n) for n in names))
    c = cloud.wait_condition("fwd", "ForwardsReady", "False", "NoPort")
    assert c["message"] == "the instance has no slice of ports, which spec.forwards needs"
    versions = {n: cloud.get("instances", n, "default")["metadata"]["resourceVersion"] for n in names}
    time.sleep(1)
    assert versions == {n: cloud.get("instances", n, "default")["metadata"]["resourceVersion"] for n in names}
    was = {n: {k: status(cloud, n)[k] for k in ("host", "prefix", "mac", "overlayAddress")} for n in names}
    # Five slices for seven.
    cloud.create("AddressPool", "s", {"use": "shared", "prefix": "198.51.100.0/32", "firstPort": 2048, "lastPort": 4607})
    eventually("five have slices", 10, lambda: sum(bool(slices(cloud, n)) for n in names) == 5)
    without = [n for n in names if not slices(cloud, n)]
    for n in without:
        c = cloud.wait_condition(n, "PortSlicesReady", "False", "PoolExhausted")
        assert c["message"] == ("has 0 and asks for 1: AddressPool `s` (5 of 5 used) is full; add a pool with use shared, "
                                "or delete instances")
    # One that is new waits for its place.
    cloud.instance("new")
    cloud.wait_condition("new", "Scheduled", "False", "PoolExhausted")
    cloud.create("AddressPool", "t", {"use": "shared", "prefix": "198.51.100.9/32"})
    eventually("all have slices", 10, lambda: all(slices(cloud, n) for n in [*names, "new"]))
    for n in without:
        cloud.wait_condition(n, "PortSlicesReady", "True", "Sufficient")
    cloud.wait_condition("fwd", "ForwardsReady", "True", "Ready")
    assert {n: {k: status(cloud, n)[k] for k in was[n]} for n in names} == was
    assert len(values(cloud)) == 8


def test_full_shared_pool(cloud):
    """Who has no slice yet comes before who asks for another one, whatever their age."""
    cloud.pools()
    cloud.create("AddressPool", "s", {**SHARED, "lastPort": 1535})
    make(cloud, "a", "b")
    eventually("both are placed", 10, lambda: placed(cloud, "a") and placed(cloud, "b"))
    wants(cloud, "a", 2)
    c = cloud.wait_condition("a", "PortSlicesReady", "False", "PoolExhausted")
    assert "has 1 and asks for 2: AddressPool `s` (2 of 2 used) is full" in c["message"]
    eventually("an event says so", 10, lambda: [e for e in cloud.list("events", "default") if e["reason"] == "PoolExhausted"
                                                and e["involvedObject"]["name"] == "a"])
    time.sleep(1)  # ages are in seconds
    cloud.instance("c")
    c = cloud.wait_condition("c", "Scheduled", "False", "PoolExhausted")
    assert c["message"] == "AddressPool `s` (2 of 2 used) is full; add a pool with use shared, or delete instances"
    go(cloud, "b")
    eventually("c is placed", 10, lambda: placed(cloud, "c"))
    assert len(slices(cloud, "a")) == 1
    go(cloud, "c")
    eventually("now a has two", 10, lambda: len(slices(cloud, "a")) == 2)
    cloud.wait_condition("a", "PortSlicesReady", "True", "Sufficient")
    with pytest.raises(ApiError, match="immutable"):
        cloud.patch("addresspools", "s", {"spec": {"slicePorts": 64}})
    # The pool stays while slices are out.
    cloud.delete("addresspools", "s")
    time.sleep(1)
    assert cloud.get("addresspools", "s")
    # There is none for new ones, which therefore do without.
    cloud.instance("d")
    eventually("d is placed", 10, lambda: placed(cloud, "d"))
    assert not slices(cloud, "d")
    go(cloud, "a")
    eventually("the pool goes", 10, lambda: cloud.get("addresspools", "s") is None)


def test_too_small_a_first_pool(cloud):
    """An instance that has run without IPv4 so far comes after those that can't run without."""
    cloud.pools()
    old = [f"old{n}" for n in range(4)]
    make(cloud, *old)
    eventually("they run without IPv4", 10, lambda: all(placed(cloud, n) for n in old))
    cloud.create("AddressPool", "s", {**SHARED, "prefix": "198.51.100.2/32", "lastPort": 2047})
    eventually("two have a slice", 10, lambda: sum(bool(slices(cloud, n)) for n in old) == 2)
    cloud.instance("new")
    cloud.create("Cluster", "c", {"replicas": 1, "template": {"type": "small", "image": "lab"}}, "default")
    eventually("it waits", 10, lambda: cloud.of_instance("new", "Scheduled").get("reason") == "PoolExhausted")
    eventually("it waits", 10, lambda: cloud.condition("clusters", "c", "Scheduled", "default").get("reason") == "PoolExhausted")
    cloud.create("AddressPool", "t", {**SHARED, "prefix": "198.51.100.9/32", "lastPort": 2047})
    eventually("it is placed", 10, lambda: placed(cloud, "new"))
    eventually("it is placed", 10, lambda: placed(cloud, "c-0"))
    assert sum(bool(slices(cloud, n)) for n in old) == 2
    cloud.create("AddressPool", "u", {**SHARED, "prefix": "198.51.100.10/32", "lastPort": 2047})
    eventually("all have one", 10, lambda: all(slices(cloud, n) for n in old))


def test_further_slices(cloud):
    cloud.pools()
    cloud.create("AddressPool", "s", {**SHARED, "slicesPerInstance": 3})
    make(cloud, "a", "b")
    eventually("both are placed", 10, lambda: placed(cloud, "a") and placed(cloud, "b"))
    first = slices(cloud, "a")[0]
    address = first.split(":")[0]
    announce(cloud, "a")
    wants(cloud, "a", 3)
    eventually("it has three", 10, lambda: len(slices(cloud, "a")) == 3)
    assert slices(cloud, "a") == [first, f"{address}:1536-2047", f"{address}:2048-2559"]
    assert not cloud.of_instance("a", "PortSlicesReady")
    announce(cloud, "a")
    # More than it may have. The InstanceType goes before the pool.
    wants(cloud, "a", 5)
    c = cloud.wait_condition("a", "PortSlicesReady", "False", "LimitReached")
    assert c["message"] == ("has 3 and asks for 5, but slicesPerInstance of AddressPool `s` is 3; raise that, or create the "
                            "instance anew with ipv4 dedicated")
    cloud.patch("instancetypes", "small", {"spec": {"portSlices": 4}})
    eventually("it has four", 10, lambda: len(slices(cloud, "a")) == 4)
    eventually("it says why no more", 10, lambda: "portSlices of InstanceType `small` is 4" in
               cloud.of_instance("a", "PortSlicesReady")["message"])
    announce(cloud, "a")
    # Fewer: out of the status, then out of the Endpoint, and only then free.
    wants(cloud, "a", 2)
    eventually("two are left", 10, lambda: slices(cloud, "a") == [first, f"{address}:1536-2047"])
    cloud.wait_condition("a", "PortSlicesReady", "True", "Sufficient")
    id = cloud.get("instances", "a", "default")["metadata"]["uid"]
    cloud.patch("endpoints", "i-" + id, {"metadata": {"labels": {"look": "again"}}})
    time.sleep(1)
    assert sum(owner == "a" for owner in values(cloud).values()) == 4 and cloud.get("endpoints", "i-" + id)
    announce(cloud, "a")
    eventually("they are released", 10, lambda: sum(owner == "a" for owner in values(cloud).values()) == 2)
    # Asked for again while it is still announced: it has it back when it was withdrawn.
    wants(cloud, "a", 1)
    eventually("one is left", 10, lambda: slices(cloud, "a") == [first])
    wants(cloud, "a", 2)
    time.sleep(1)
    assert slices(cloud, "a") == [first]
    announce(cloud, "a")
    eventually("there are two again", 10, lambda: slices(cloud, "a") == [first, f"{address}:1536-2047"])
    announce(cloud, "a")
    # The first one is never given back, nor one with a port that a forward names.
    cloud.patch("instances", "a", {"spec": {"forwards": [{"protocol": "tcp", "targetPort": 80, "port": 1700}]}}, "default")
    cloud.wait_condition("a", "ForwardsReady", "True", "Ready")
    wants(cloud, "a", 0)
    time.sleep(1)
    assert slices(cloud, "a") == [first, f"{address}:1536-2047"]
    # Nor if it names the port no more and keeps it.
    cloud.patch("instances", "a", {"spec": {"forwards": [{"protocol": "tcp", "targetPort": 80}]}}, "default")
    time.sleep(1)
    assert slices(cloud, "a") == [first, f"{address}:1536-2047"] and forwards(cloud, "a") == {("tcp", 80): f"{address}:1700"}
    cloud.patch("instances", "a", {"spec": {"forwards": None}}, "default")
    eventually("one is left", 10, lambda: slices(cloud, "a") == [first] and not forwards(cloud, "a"))
    go(cloud, "a")
    assert set(values(cloud).values()) == {"b"}


def test_type_is_deleted(cloud):
    """An instance keeps its slices without the InstanceType that allows them."""
    cloud.pools()
    cloud.create("AddressPool", "s", SHARED)
    cloud.create("InstanceType", "big", {"vcpus": 1, "memoryMiB": 256, "portSlices": 4})
    make(cloud, "a", type="big")
    eventually("it is placed", 10, lambda: placed(cloud, "a"))
    announce(cloud, "a")
    wants(cloud, "a", 4)
    eventually("it has four", 10, lambda: len(slices(cloud, "a")) == 4)
    announce(cloud, "a")
    cloud.delete("instancetypes", "big")
    time.sleep(1)
    assert len(slices(cloud, "a")) == 4
    cloud.create("InstanceType", "big", {"vcpus": 1, "memoryMiB": 256, "portSlices": 3})
    eventually("it has three", 10, lambda: len(slices(cloud, "a")) == 3)


def test_slice_that_was_never_announced(cloud):
    """The agent may use a slice before it announces it."""
    cloud.pools()
    cloud.create("AddressPool", "s", SHARED)
    make(cloud, "a")
    eventually("it is placed", 10, lambda: placed(cloud, "a"))
    wants(cloud, "a", 2)
    eventually("it has two", 10, lambda: len(slices(cloud, "a")) == 2)
    had = slices(cloud, "a")
    wants(cloud, "a", 1)
    time.sleep(1)
    assert slices(cloud, "a") == had and set(values(cloud)) == set(had)
    announce(cloud, "a")
    eventually("it has one", 10, lambda: slices(cloud, "a") == had[:1])
    # The Endpoint is gone, but the slice may be in use.
    cloud.delete("endpoints", "i-" + cloud.get("instances", "a", "default")["metadata"]["uid"])
    time.sleep(1)
    assert set(values(cloud)) == set(had)
    announce(cloud, "a")
    eventually("it is released", 10, lambda: set(values(cloud)) == set(had[:1]))


def test_host_is_lost(bare):
    """Nothing of an instance is released before its Endpoint is gone."""
    rule, event, seen = hold(lambda method, path, _: method == "DELETE" and "/endpoints/i-" in path)
    sock = os.path.join(bare.dir, "proxy.sock")
    bare.pools()
    bare.create("AddressPool", "s", SHARED)
    make(bare, "a")
    proxy = Proxy(sock, bare.sock, rule)
    try:
        bare.start_controller("controller", "--no-leader-election", "--api", "unix:" + sock)
        eventually("it is placed", 10, lambda: placed(bare, "a"))
        announce(bare, "a")
        had = set(slices(bare, "a"))
        bare.delete("hosts", "h1")
        bare.delete("instances", "a", "default")
        eventually("the deletion is on its way", 10, lambda: seen)
        time.sleep(1)
        assert set(values(bare)) == had
        event.set()
        eventually("a is gone", 10, lambda: not bare.get("instances", "a", "default") and not bare.list("allocations"))
    finally:
        event.set()
        proxy.close()


def test_forwards(cloud):
    cloud.pools()
    cloud.create("AddressPool", "s", {**SHARED, "slicePorts": 64})
    both = [{"protocol": "tcp", "targetPort": 22}, {"protocol": "udp", "targetPort": 22}, {"protocol": "tcp", "targetPort": 80}]
    make(cloud, "a", forwards=both)
    eventually("it is placed", 10, lambda: placed(cloud, "a"))
    ip = status(cloud, "a")["publicIPv4"]
    assert forwards(cloud, "a") == {("tcp", 22): f"{ip}:1024", ("udp", 22): f"{ip}:1024", ("tcp", 80): f"{ip}:1025"}

    def change(*spec):
        cloud.patch("instances", "a", {"spec": {"forwards": [
            dict(zip(("protocol", "targetPort", "port"), f, strict=False)) for f in spec]}}, "default")
        generation = cloud.get("instances", "a", "default")["metadata"]["generation"]
        return eventually("it is seen", 10, lambda: (c := cloud.of_instance("a", "ForwardsReady")).get(
            "observedGeneration") == generation and c)
    # What is kept keeps its port, whatever comes before it.
    assert change(("tcp", 443), ("tcp", 80))["status"] == "True"
    assert forwards(cloud, "a") == {("tcp", 443): f"{ip}:1024", ("tcp", 80): f"{ip}:1025"}
    # A named port takes it from one that has chosen it.
    assert change(("tcp", 443), ("tcp", 80), ("tcp", 8080, 1024))["status"] == "True"
    assert forwards(cloud, "a") == {("tcp", 443): f"{ip}:1026", ("tcp", 80): f"{ip}:1025", ("tcp", 8080): f"{ip}:1024"}
    c = change(("tcp", 443), ("tcp", 22, 80))
    assert c["status"] == "False" and c["reason"] == "NoPort"
    assert c["message"] == (f"spec.forwards[1].port 80 is in no slice of ports of the instance; it has {ip}:1024-1087. "
                            "Choose a port of these, or leave port out")
    assert forwards(cloud, "a") == {("tcp", 443): f"{ip}:1026"}
    eventually("an event says so", 10, lambda: [e for e in cloud.list("events", "default") if e["reason"] == "NoPort"])
    # As many as there may be.
    assert change(*(("tcp", 1000 + n) for n in range(32)))["status"] == "True"
    assert len(set(forwards(cloud, "a").values())) == 32
    assert change()["status"] == "True" and not forwards(cloud, "a")


def test_quarantine(cloud):
    cloud.pools()
    for name, more in (("s", {**SHARED, "prefix": "198.51.100.2/32", "lastPort": 2047}),
                       ("own", {"use": "dedicated", "prefix": "203.0.113.7/32"})):
        cloud.create("AddressPool", name, {**more, "quarantineSeconds": 6})
    make(cloud, "a", "b")
    cloud.instance("own", ipv4="dedicated")
    eventually("all are placed", 10, lambda: all(placed(cloud, n) for n in ("a", "b", "own")))
    for name in ("a", "own"):
        go(cloud, name)
    released = [a for a in cloud.list("allocations") if a.get("status", {}).get("releasedAt")]
    assert len(released) == 2
    wants(cloud, "b", 2)
    cloud.instance("own2", ipv4="dedicated")
    cloud.wait_condition("b", "PortSlicesReady", "False", "PoolExhausted")
    cloud.wait_condition("own2", "Scheduled", "False", "PoolExhausted")
    eventually("they rest", 15, lambda: len(slices(cloud, "b")) == 2 and placed(cloud, "own2"))
    # A slice that was given back rests, too.
    announce(cloud, "b")
    wants(cloud, "b", 1)
    eventually("one is left", 10, lambda: len(slices(cloud, "b")) == 1)
    announce(cloud, "b")
    eventually("it rests", 10, lambda: [a for a in cloud.list("allocations") if a["metadata"]["name"].startswith("port-")
                                        and a.get("status", {}).get("releasedAt")])
    wants(cloud, "b", 2)
    cloud.wait_condition("b", "PortSlicesReady", "False", "PoolExhausted")
    eventually("it has it again", 15, lambda: len(slices(cloud, "b")) == 2)


def test_default_quarantine(cloud):
    """Values of public pools rest unless the pool says otherwise."""
    cloud.pools()
    spec = cloud.create("AddressPool", "s", {"use": "shared", "prefix": "198.51.100.2/32"})["spec"]
    assert "quarantineSeconds" not in spec
    cloud.create("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.7/32"})
    make(cloud, "a")
    cloud.instance("b", ipv4="dedicated")
    eventually("both are placed", 10, lambda: all(placed(cloud, n) for n in "ab"))
    had = set(values(cloud))
    for name in "ab":
        go(cloud, name)
    resting = lambda: {a["spec"]["value"] for a in cloud.list("allocations")}
    eventually("all is given back", 10, lambda: not values(cloud))
    assert resting() == had and len(had) == 2
    for pool in ("s", "own"):
        cloud.patch("addresspools", pool, {"spec": {"quarantineSeconds": 0}})
    eventually("0 is kept, and for what rests already", 10, lambda: not resting())


def test_overlaps(cloud):
    cloud.pools()
    cloud.create("AddressPool", "s", SHARED)
    for use, prefix in (("dedicated", "198.51.100.0/30"), ("shared", "198.51.100.3/32")):
        with pytest.raises(ApiError, match="overlaps AddressPool s"):
            cloud.create("AddressPool", "own", {"use": use, "prefix": prefix})


def test_pools_that_balancers_cannot_hold(cloud):
    """Nothing is allocated from them; what balancers hold is for the oldest pools."""
    cloud.pools()
    with pytest.raises(ApiError, match="larger than a /18"):
        cloud.create("AddressPool", "huge", {"use": "shared", "prefix": "10.0.0.0/17"})
    ready = lambda name: eventually("it is judged", 10, lambda: cloud.condition("addresspools", name, "Ready"))
    # 1,024 groups of ports for each address: 2,048 addresses at most.
    cloud.create("AddressPool", "fine", {"use": "shared", "prefix": "10.0.0.0/20", "slicePorts": 64})
    assert ready("fine")["reason"] == "BalancersFull"
    assert "2097152 groups of ports" in ready("fine")["message"] and "this one has 4096 and 4194304" in ready("fine")["message"]
    make(cloud, "a")
    eventually("it waits", 10, lambda: cloud.of_instance("a", "Scheduled").get("reason") == "PoolMissing")
    cloud.create("AddressPool", "half", {"use": "shared", "prefix": "10.1.0.0/19", "quarantineSeconds": 0})
    assert ready("half")["reason"] == "Ready"
    time.sleep(1.1)
    cloud.create("AddressPool", "more", {"use": "shared", "prefix": "10.2.0.0/18"})
    assert ready("more")["reason"] == "BalancersFull" and "16384 addresses" in ready("more")["message"]
    eventually("it is placed", 10, lambda: placed(cloud, "a"))
    assert slices(cloud, "a") == ["10.1.0.0:1024-1535"]
    go(cloud, "a")
    cloud.delete("addresspools", "half")
    eventually("there is room for it", 20, lambda: ready("more")["reason"] == "Ready")


def test_claims(cloud):
    """An Endpoint may announce only the IPv4 that its Instance has."""
    cloud.pools()
    cloud.create("AddressPool", "s", SHARED)
    cloud.create("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.0/24"})
    make(cloud, "a", "b")
    cloud.instance("c", ipv4="dedicated")
    eventually("all are placed", 10, lambda: all(placed(cloud, n) for n in "abc"))
    ids = {n: cloud.get("instances", n, "default")["metadata"]["uid"] for n in "abc"}
    for n in "abc":
        announce(cloud, n)

    def route(name, prefix, first=None, last=None):
        """Announces one route more for the instance."""
        announce(cloud, name)
        ports = {} if first is None else {"firstPort": first, "lastPort": last}
        had = cloud.get("endpoints", "i-" + ids[name])["spec"]["routes"]
        cloud.patch("endpoints", "i-" + ids[name], {"spec": {"routes": [*had, {"prefix": prefix, **ports}]}})
        return eventually(f"{name} is refused", 10, lambda: not cloud.get("endpoints", "i-" + ids[name]))
    b = status(cloud, "b")["publicIPv4"]
    route("a", b + "/32", 1024, 1535)
    route("a", status(cloud, "a")["publicIPv4"] + "/32", 1024, 2047)
    route("a", status(cloud, "a")["publicIPv4"] + "/32")
    route("c", b + "/32", 1024, 1535)
    route("c", "203.0.113.200/32")
    for n in "abc":
        announce(cloud, n)
    time.sleep(1)
    assert len(cloud.list("endpoints")) == 3


def test_gangs(cloud):
    """All members get their IPv4 or none."""
    cloud.pools()
    cloud.create("AddressPool", "s", {**SHARED, "lastPort": 1535})
    cloud.host("h1", vcpus=100, memory=100000)
    cloud.create("Cluster", "c", {"replicas": 3, "template": {"type": "small", "image": "lab", "forwards": SSH}}, "default")
    names = [f"c-{n}" for n in range(3)]
    # It may wait for the other pools first.
    eventually("it waits", 10, lambda: cloud.condition("clusters", "c", "Scheduled", "default").get(
        "message") == "2 of 3 members can have addresses: AddressPools with use shared are short of them")
    assert cloud.condition("clusters", "c", "Scheduled", "default")["reason"] == "PoolExhausted" and not values(cloud)
    cloud.create("AddressPool", "t", {"use": "shared", "prefix": "198.51.100.9/32"})
    eventually("all are placed", 10, lambda: all(placed(cloud, n) for n in names))
    assert all(len(slices(cloud, n)) == 1 and forwards(cloud, n) for n in names)


def test_quota(bare):
    """The controller itself counts dedicated addresses, for a server that doesn't; also those of gangs."""
    bare.pools()
    bare.create("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.0/24"})
    make(bare, "a", ipv4="dedicated")
    bare.instance("b")
    bare.create("Cluster", "c", {"replicas": 2, "template": {"type": "small", "image": "lab", "ipv4": "dedicated"}}, "default")
    bare.create("TenantQuota", "q", {"dedicatedIPv4": 2}, "default")
    bare.start_controller("controller", "--no-leader-election")
    eventually("all but one are placed", 10, lambda: placed(bare, "b") and bool(placed(bare, "a")) != bool(placed(bare, "c-1")))
    # One of both has used up the quota, or left too little for the other.
    waits = bare.condition("clusters", "c", "Scheduled", "default") if placed(bare, "a") else bare.of_instance("a", "Scheduled")
    assert waits["reason"] == "QuotaExceeded" and "requested: dedicatedIPv4=" in waits["message"]
    used = 1 if placed(bare, "a") else 2
    eventually("it is counted", 10, lambda: bare.get("tenantquotas", "q", "default")["status"]["used"]["dedicatedIPv4"] == used)
    bare.patch("tenantquotas", "q", {"spec": {"dedicatedIPv4": 3}}, "default")
    eventually("all are placed", 10, lambda: all(placed(bare, n) for n in ("a", "c-0", "c-1")))


def sound(cloud):
    """Nobody has what another has, and all have Allocations of what they have."""
    has, owned = collections.Counter(), collections.defaultdict(set)

    def look():
        for value, owner in values(cloud).items():
            owned[owner].add(value)
    look()
    instances = cloud.list("instances", "default")
    look()  # something may have come meanwhile
    for i in instances:
        st, name = i.get("status", {}), i["metadata"]["name"]
        mine = {text(s) for s in st.get("portSlices", [])} or ({st["publicIPv4"]} if "publicIPv4" in st else set())
        if "deletionTimestamp" in i["metadata"] and st.get("phase") == "Removed":
            continue
        has.update(mine)
        assert mine <= owned[name] and len(mine) == len(st.get("portSlices", mine)) <= 4, (name, mine, owned[name])
    assert not has or max(has.values()) == 1
    return owned, has


def exact(cloud):
    owned, has = sound(cloud)
    return sorted(v for vs in owned.values() for v in vs) == sorted(has)


def churn(cloud, rng, names):
    """A random thing that tenants and agents do."""
    name = rng.choice(names)
    i = cloud.get("instances", name, "default")
    try:
        if not i:
            cloud.instance(name, ipv4=rng.choice(["shared", "shared", "shared", "dedicated"]))
        elif i["metadata"].get("deletionTimestamp"):
            cloud.removed(name)
        elif rng.random() < 0.1:
            cloud.delete("instances", name, "default")
        elif i.get("status", {}).get("host") and i["spec"]["ipv4"] == "shared":
            wants(cloud, name, rng.randrange(1, 4))
            announce(cloud, name)
    except ApiError as e:
        if e.code not in (404, 409):
            raise


def settle_down(cloud, names):
    def each(act, act_on_deleted):
        for n in names:
            i = cloud.get("instances", n, "default")
            try:
                if i and i["metadata"].get("deletionTimestamp"):
                    act_on_deleted(n)
                elif i and i.get("status", {}).get("host"):
                    act(n)
            except ApiError as e:
                # One that is deleted may go at any moment.
                if e.code != 404 or not i["metadata"].get("deletionTimestamp"):
                    raise

    each(lambda n: wants(cloud, n, 2), lambda n: None)

    def calm():
        each(lambda n: announce(cloud, n), cloud.removed)
        return exact(cloud)
    eventually("status and Allocations are the same", 60, calm, 0.5)


@pytest.mark.parametrize("controllers", [1, 2])
def test_killed_at_any_step(bare, controllers):
    """Whatever it was doing: no value is lost, none is with two, and what was given back is free."""
    rng = random.Random(9 + controllers)
    bare.pools("2001:db8:1::/48")
    bare.create("AddressPool", "s", {**SHARED, "lastPort": 2559, "slicesPerInstance": 3})
    bare.create("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.0/30", "quarantineSeconds": 1})
    make(bare)
    names = [f"i{n}" for n in range(6)]
    numbers = [f"controller{n}" for n in range(controllers)]
    acted = lambda: sum(bare.log(c).count('msg="acting"') for c in numbers)  # noqa: E731
    for _ in range(12 // controllers ** 2):
        before = acted() if os.path.exists(os.path.join(bare.dir, numbers[-1] + ".log")) else 0
        for c in numbers:
            bare.start_controller(c, *(["--no-leader-election"] if controllers == 1 else []))
        eventually("one acts", 20, lambda n=before: acted() > n)
        end = time.monotonic() + 0.3 + rng.random()
        while time.monotonic() < end:
            churn(bare, rng, names)
            sound(bare)
        for c in numbers:
            bare.stop(c, signal.SIGKILL)
    for c in numbers:
        bare.start_controller(c, *(["--no-leader-election"] if controllers == 1 else []))
    settle_down(bare, names)
    for n in names:
        go(bare, n)
    eventually("all is free", 20, lambda: not bare.list("allocations"))
    eventually("usage is counted back", 10, lambda: all(p["status"]["used"] == 0 for p in bare.list("addresspools")))
    # Each time that somebody had something is recorded once.
    records = bare.list("allocationrecords")
    assert len({r["metadata"]["name"] for r in records}) == len(records) > 0
    assert {r["spec"]["pool"] for r in records} == {"s", "own", "inst", "deleg"}


@pytest.mark.parametrize("arrives", [True, False], ids=["after", "before"])
def test_killed_at_each_write(bare, arrives):
    """kill -9 at the 1st, 2nd, … write of an instance's life, right after or right before the server has it."""
    sock, count = os.path.join(bare.dir, "proxy.sock"), {"left": -1}

    def rule(method, path, _):
        if method == "GET" or not any(k in path for k in ("/instances/", "/allocation")):
            return None
        count["left"] -= 1
        if count["left"]:
            return None
        bare.kill("controller", signal.SIGKILL)
        return LOSE if arrives else b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"

    def until(what, done):
        def attempt():
            if bare.procs["controller"].poll() is not None:
                bare.stop("controller")
                bare.start_controller("controller", "--no-leader-election", "--api", "unix:" + sock)
            return done()
        eventually(what, 30, attempt, 0.05)

    def live(name):
        bare.instance(name, forwards=SSH)
        until("it is placed", lambda: placed(bare, name) and exact(bare))
        announce(bare, name)
        wants(bare, name, 2)
        until("it has two", lambda: len(slices(bare, name)) == 2)
        announce(bare, name)
        wants(bare, name, 1)
        until("it has one", lambda: len(slices(bare, name)) == 1)
        assert len(values(bare)) >= 2
        announce(bare, name)
        until("the other is free", lambda: exact(bare) and len(values(bare)) == 1)
        assert forwards(bare, name) == {("tcp", 22): slices(bare, name)[0].split("-")[0]}
        bare.delete("instances", name, "default")
        bare.removed(name)
        until("it is gone", lambda: not bare.get("instances", name, "default") and not bare.list("allocations"))

    bare.pools()
    bare.create("AddressPool", "s", {**SHARED, "prefix": "198.51.100.2/32", "lastPort": 2559})
    make(bare)
    proxy = Proxy(sock, bare.sock, rule)
    try:
        bare.start_controller("controller", "--no-leader-election", "--api", "unix:" + sock)
        live("first")
        writes = -1 - count["left"]
        assert 15 <= writes <= 40, writes
        for n in range(1, writes + 1):
            count["left"] = n
            live(f"i{n}")
        count["left"] = -1
        assert bare.log("controller").count('msg="acting"') >= writes // 2
        # In each life two slices, a /64 and a /60 were had and are recorded once.
        recorded = collections.Counter((r["spec"]["owner"]["name"], r["spec"]["value"]) for r in bare.list("allocationrecords"))
        assert max(recorded.values()) == 1 and {len([k for k in recorded if k[0] == f"i{n}"])
                                                for n in range(1, writes + 1)} == {4}
        until("nothing is left", lambda: not bare.list("allocations"))
    finally:
        proxy.close()


def test_had_again_after_it_was_recorded(bare):
    """A controller dies when it has recorded the end of a slice, which the instance then has again."""
    sock, dies = os.path.join(bare.dir, "proxy.sock"), []

    def rule(method, path, _):
        if method != "POST" or "/allocationrecords" not in path or dies:
            return None
        dies.append(path)
        bare.kill("controller", signal.SIGKILL)
        return LOSE
    bare.pools()
    bare.create("AddressPool", "s", {**SHARED, "prefix": "198.51.100.2/32", "lastPort": 2047})
    make(bare, "a")
    proxy = Proxy(sock, bare.sock, rule)
    try:
        bare.start_controller("controller", "--no-leader-election", "--api", "unix:" + sock)
        eventually("it is placed", 10, lambda: placed(bare, "a"))
        wants(bare, "a", 2)
        eventually("it has two", 10, lambda: len(slices(bare, "a")) == 2)
        had = slices(bare, "a")
        announce(bare, "a")
        back_to_one(bare)
        eventually("the end is recorded", 10, lambda: bare.list("allocationrecords"))
        bare.stop("controller")
        wants(bare, "a", 2)
        bare.start_controller("controller", "--no-leader-election")
        eventually("it has it again", 10, lambda: slices(bare, "a") == had)
    finally:
        proxy.close()
    assert not bare.list("allocationrecords")
    time.sleep(1.1)
    end = at()
    go(bare, "a")
    records = {r["spec"]["value"]: r["spec"]["until"] for r in bare.list("allocationrecords")}
    assert all(records[v] >= end for v in had)


def hold(when):
    """A rule of a Proxy that delays the first request of which WHEN(method, path, body); the event that lets it pass; and
    what it has seen."""
    event, seen = threading.Event(), []

    def rule(method, path, body):
        if seen or not when(method, path, body):
            return None
        seen.append(path)
        return event
    return rule, event, seen


def two_slices(cloud):
    eventually("a is placed", 10, lambda: placed(cloud, "a"))
    announce(cloud, "a")
    wants(cloud, "a", 2)
    eventually("a has two", 10, lambda: len(slices(cloud, "a")) == 2)
    announce(cloud, "a")


def back_to_one(cloud):
    wants(cloud, "a", 1)
    eventually("a has one", 10, lambda: len(slices(cloud, "a")) == 1)
    announce(cloud, "a")


TWO = {**SHARED, "prefix": "198.51.100.2/32", "lastPort": 2047}


@pytest.mark.parametrize("more", [{}, {"historyRecords": 0}, {"quarantineSeconds": 2}], ids=["delete", "no-history", "rest"])
def test_late_release(bare, more):
    """A controller dies when it releases a slice, which the instance gets again; then the server gets the release."""
    rule, event, seen = hold(lambda method, path, body: "/allocations/port-" in path and (
        method == "DELETE" or method == "PATCH" and b'"releasedAt"' in body))
    sock = os.path.join(bare.dir, "proxy.sock")
    bare.pools()
    bare.create("AddressPool", "s", {**TWO, **more})
    make(bare, "a")
    proxy = Proxy(sock, bare.sock, rule)
    try:
        bare.start_controller("one", "--no-leader-election", "--api", "unix:" + sock)
        two_slices(bare)
        back_to_one(bare)
        eventually("the release is on its way", 10, lambda: seen)
        bare.stop("one", signal.SIGKILL)
        wants(bare, "a", 2)
        bare.start_controller("two", "--no-leader-election")
        eventually("a has two again", 10, lambda: len(slices(bare, "a")) == 2)
        announce(bare, "a")
        event.set()
        time.sleep(1)
        assert set(values(bare)) == set(slices(bare, "a"))
        bare.instance("b")
        bare.wait_condition("b", "Scheduled", "False", "PoolExhausted")
        sound(bare)
    finally:
        event.set()
        proxy.close()


def test_late_slice(bare):
    """The limit drops, and rises and drops, while the write that adds a slice is on its way."""
    rule, event, seen = hold(lambda method, path, body: method == "PATCH" and path.endswith("/instances/a/status")
                             and b'"portSlices"' in body and b"1536" in body)
    sock = os.path.join(bare.dir, "proxy.sock")
    bare.pools()
    bare.create("AddressPool", "s", {**TWO, "slicesPerInstance": 1})
    make(bare, "a")
    proxy = Proxy(sock, bare.sock, rule)
    try:
        bare.start_controller("one", "--no-leader-election", "--api", "unix:" + sock)
        eventually("a is placed", 10, lambda: placed(bare, "a"))
        announce(bare, "a")
        wants(bare, "a", 2)
        bare.wait_condition("a", "PortSlicesReady", "False", "LimitReached")
        bare.patch("addresspools", "s", {"spec": {"slicesPerInstance": 2}})
        eventually("the write is on its way", 10, lambda: seen)
        bare.patch("addresspools", "s", {"spec": {"slicesPerInstance": 1}})
        bare.stop("one", signal.SIGKILL)
        bare.start_controller("two", "--no-leader-election")
        eventually("the slice is released", 10, lambda: len(values(bare)) == 1)
        event.set()
        time.sleep(1)
        assert len(slices(bare, "a")) == 1
        bare.wait_condition("a", "PortSlicesReady", "False", "LimitReached")
        bare.instance("b")
        eventually("b is placed", 10, lambda: placed(bare, "b"))
        sound(bare)
    finally:
        event.set()
        proxy.close()


def test_allocation_is_lost(cloud):
    cloud.pools()
    cloud.create("AddressPool", "s", TWO)
    make(cloud, "a")
    two_slices(cloud)
    had = set(slices(cloud, "a"))
    for a in cloud.list("allocations"):
        if a["metadata"]["name"].startswith("port-"):
            cloud.delete("allocations", a["metadata"]["name"])
    eventually("they are made anew", 10, lambda: set(values(cloud)) == had and set(values(cloud).values()) == {"a"})
    assert set(slices(cloud, "a")) == had


def test_two_controllers_act(bare):
    """Two controllers that both act give nothing twice, and what is over is released."""
    bare.pools("2001:db8:1::/48")
    bare.create("AddressPool", "s", {**SHARED, "slicesPerInstance": 4})
    make(bare)
    for c in ("one", "two"):
        bare.start_controller(c, "--no-leader-election")
    names = [bare.instance() for _ in range(20)]
    eventually("all are placed", 30, lambda: all(placed(bare, n) for n in names))
    for n in names:
        announce(bare, n)
        wants(bare, n, 4)
    eventually("all have four", 60, lambda: all(len(slices(bare, n)) == 4 for n in names), 0.5)
    for n in names:
        announce(bare, n)
    eventually("what is over is released", 30, lambda: exact(bare) and len(values(bare)) == 80, 0.5)


def test_whois(cloud):
    cloud.pools()
    cloud.create("AddressPool", "s", SHARED)
    cloud.create("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.7/32", "quarantineSeconds": 5})
    make(cloud, "a")
    cloud.instance("b", ipv4="dedicated")
    eventually("both are placed", 10, lambda: placed(cloud, "a") and placed(cloud, "b"))
    a, b = status(cloud, "a"), status(cloud, "b")
    ids = {n: cloud.get("instances", n, "default")["metadata"]["uid"] for n in "ab"}
    code, rows = whois(cloud, a["publicIPv4"], 1100)
    assert code == 0 and rows[0][:4] == ["default/a", ids["a"], f"{a['publicIPv4']}:1024-1535", "s"] and rows[0][5] == "now"
    assert whois(cloud, a["publicIPv4"], 1100, at(3600))[1][0][0] == "default/a"
    assert whois(cloud, b["publicIPv4"])[1][0][:4] == ["default/b", ids["b"], "203.0.113.7", "own"]
    assert whois(cloud, b["publicIPv4"], 443)[1][0][0] == "default/b"
    assert whois(cloud, a["address"])[1][0][:4] == ["default/a", ids["a"], a["prefix"], "inst"]
    assert whois(cloud, a["delegatedPrefix"].split("/")[0] + "77")[1][0][:4] == [
        "default/a", ids["a"], a["delegatedPrefix"], "deleg"]
    assert whois(cloud, a["publicIPv4"]) == (2, (
        "nacre whois: the address is shared by slices of its ports: give the PORT\nTry `nacre whois --help`.\n"))
    code, says = whois(cloud, a["publicIPv4"], 1100, at(-3600))
    assert code == 3 and "nobody had" in says and "as far back as AllocationRecords are kept" in says
    assert whois(cloud, a["publicIPv4"], 5000)[0] == 3 and whois(cloud, "192.0.2.1", 80)[0] == 3
    for bad in (["x"], ["192.0.2.1", "70000"], ["192.0.2.1", "1", "yesterday-"], []):
        assert whois(cloud, *bad)[0] == 2
    # In the past: the record. b's address is in quarantine.
    go(cloud, "a")
    go(cloud, "b")
    then = at()
    time.sleep(2)
    cloud.instance("c")
    eventually("c is placed", 10, lambda: placed(cloud, "c"))
    for ip, p, name in ((a["publicIPv4"], 1100, "a"), (b["publicIPv4"], 1, "b"), (a["address"], 1, "a")):
        code, rows = whois(cloud, ip, p, then)
        assert code == 0 and len(rows) == 1 and rows[0][:2] == ["default/" + name, ids[name]] and rows[0][5] != "now", rows
    code, says = whois(cloud, b["publicIPv4"])
    assert code == 3 and "nobody has 203.0.113.7 now; default/b had it until" in says
    # Records have no second of a release that is begun again, and say who had what.
    records = cloud.list("allocationrecords")
    assert sorted(r["spec"]["value"] for r in records) == sorted(
        [a["prefix"], a["delegatedPrefix"], b["prefix"], b["delegatedPrefix"], b["publicIPv4"], f"{a['publicIPv4']}:1024-1535"])
    assert all(r["spec"]["from"] <= r["spec"]["until"] for r in records)
    # In one second the slice may have been with two.
    spec = next(r["spec"] for r in records if r["spec"]["pool"] == "s")
    cloud.create("AllocationRecord", "other", {**spec, "owner": {**spec["owner"], "name": "z"}, "from": spec["until"]})
    assert sorted(r[0] for r in whois(cloud, a["publicIPv4"], 1100, spec["until"])[1]) == ["default/a", "default/z"]


def test_whois_with_a_wrong_clock(cloud):
    """Who has an address now doesn't depend on the clock of the machine that asks."""
    cloud.pools()
    cloud.create("AddressPool", "s", SHARED)
    make(cloud, "a")
    eventually("it is placed", 10, lambda: placed(cloud, "a"))
    ip = status(cloud, "a")["publicIPv4"]

    def ask(shift):
        return subprocess.run(["faketime", "-f", shift, os.path.join(BIN, "nacre"), "whois", "--api", "unix:" + cloud.sock, ip, "1100"],
                              capture_output=True, text=True, timeout=60, check=False)
    for shift in ("-60s", "+60s"):
        assert "default/a" in ask(shift).stdout
    go(cloud, "a")
    for shift in ("-60s", "+60s"):
        eventually("it had it", 10, lambda: "nobody has" in ask(shift).stderr and "default/a had it until" in ask(shift).stderr)


def add_record(cloud, name, days, pool="s", ns="default"):
    when = at(-days * 86400)
    cloud.create("AllocationRecord", name, {
        "pool": pool, "value": "198.51.100.2:1024-1535", "address": "198.51.100.2", "from": when, "until": when,
        "owner": {"kind": "Instance", "namespace": ns, "name": "a", "uid": "u"}})


def test_history_is_bounded(cloud):
    cloud.pools()

    def add(*words):
        add_record(cloud, *words)

    def left(pool="s"):
        return sorted(r["metadata"]["name"] for r in cloud.list("allocationrecords") if r["spec"]["pool"] == pool)
    cloud.create("AddressPool", "s", {**SHARED, "historyDays": 10, "historyRecords": 30})
    for n in range(40):
        add(f"r{n:02}", 9 - n / 10)
    eventually("the newest thirty are left", 20, lambda: left() == [f"r{n:02}" for n in range(10, 40)])
    add("old", 11)
    eventually("what is too old goes", 20, lambda: "old" not in left())
    cloud.patch("addresspools", "s", {"spec": {"historyDays": 7}})
    eventually("it goes by age", 20, lambda: left() == [f"r{n:02}" for n in range(21, 40)])
    # Of a pool that is gone, by the defaults.
    add("gone-old", 181, "gone")
    add("gone-new", 179, "gone")
    eventually("the old one goes", 20, lambda: left("gone") == ["gone-new"])
    # No history at all.
    cloud.patch("addresspools", "s", {"spec": {"historyRecords": 0}})
    eventually("none is left", 20, lambda: not left())
    make(cloud, "a")
    eventually("it is placed", 10, lambda: placed(cloud, "a"))
    go(cloud, "a")
    eventually("it is free", 10, lambda: not cloud.list("allocations"))
    assert not left()


def test_history_of_others_stays(cloud):
    """Who makes most records loses the oldest of its own."""
    cloud.create("AddressPool", "s", {**SHARED, "historyRecords": 30})
    for n in range(5):
        add_record(cloud, f"few{n}", 100 + n, ns="few")
    for n in range(60):
        add_record(cloud, f"many{n:02}", 60 - n, ns="many")
    left = lambda: sorted(r["metadata"]["name"] for r in cloud.list("allocationrecords"))
    want = [f"few{n}" for n in range(5)] + [f"many{n:02}" for n in range(35, 60)]
    eventually("its newest and those of others are left", 20, lambda: left() == want)
    for n in range(40):
        add_record(cloud, f"new{n:02}", 50, ns=f"ns{n % 4}")
    eventually("all have their share", 20, lambda: len(left()) == 30)
    shares = collections.Counter(r["spec"]["owner"]["namespace"] for r in cloud.list("allocationrecords"))
    assert shares["few"] == 5 and all(4 <= n <= 6 for n in shares.values()), shares


def test_deletion_of_a_record_fails(bare):
    """It is tried again."""
    sock, failed = os.path.join(bare.dir, "proxy.sock"), []

    def rule(method, path, _):
        if method == "DELETE" and "/allocationrecords/" in path and len(failed) < 5:
            failed.append(path)
            return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
        return None
    bare.create("AddressPool", "s", {**SHARED, "historyRecords": 5})
    proxy = Proxy(sock, bare.sock, rule)
    try:
        bare.start_controller("controller", "--no-leader-election", "--api", "unix:" + sock)
        for n in range(10):
            add_record(bare, f"r{n}", 10 - n)
        eventually("they go", 90, lambda: sorted(r["metadata"]["name"] for r in bare.list("allocationrecords"))
                   == [f"r{n}" for n in range(5, 10)])
        assert len(failed) == 5
    finally:
        proxy.close()
