# SPDX-License-Identifier: Apache-2.0
"""nacre-controller against a real nacre-apiserver."""

import collections
import os
import random
import re
import signal
import subprocess
import threading
import time

from conftest import eventually

# Two addresses with the same router MAC: the low 40 bits of their FNV-1a hash are equal.
SAME_MAC = ("fd00:a::bf1b:1162:8c70:ae0e", "fd00:a::d87a:77bc:92ab:647")
USES = ("prefix", "delegatedPrefix", "overlayAddress", "mac")


def placed(cloud, name):
    return cloud.get("instances", name, "default").get("status", {}).get("host")


def addressed(cloud):
    return [i for i in cloud.list("instances", "default") if "address" in i.get("status", {})]


def settle(cloud, n):
    """All N instances have their addresses, and each has exactly four Allocations."""
    eventually(f"{n} instances with addresses", 60, lambda: len(addressed(cloud)) == n, 0.2)
    eventually("surplus allocations go", 20, lambda: len(cloud.list("allocations")) == 4 * n, 0.2)
    values = collections.Counter(i["status"][u] for i in addressed(cloud) for u in USES)
    assert max(values.values()) == 1 and len(values) == 4 * n
    owned = {(a["spec"]["owner"]["uid"], a["spec"]["value"]) for a in cloud.list("allocations")}
    assert owned == {(i["metadata"]["uid"], i["status"][u]) for i in addressed(cloud) for u in USES}


def test_two_controllers_never_give_a_value_twice(bare):
    bare.pools()
    for host in ("h1", "h2"):
        bare.host(host, vcpus=100, memory=100000)
    bare.start_controller("one", "--no-leader-election")
    bare.start_controller("two", "--no-leader-election")
    threads = [threading.Thread(target=lambda k=k: [bare.instance(f"t{k}-{n}") for n in range(15)]) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    names = [i["metadata"]["name"] for i in bare.list("instances", "default")]
    settle(bare, len(names))
    # Nor did both place the same instance: only one controller logged it, and the instance is on the host in that log
    # line.
    eventually("all are placed", 10, lambda: all(placed(bare, n) for n in names))
    said = r'msg="instance placed" instance=default/(\S+) host=(\S+)'
    said = eventually("so it was logged", 10, lambda: len(
        found := re.findall(said, bare.log("one") + bare.log("two"))) >= len(names) and found)
    assert sorted(said) == sorted((n, placed(bare, n)) for n in names)
    pair = r'\w+=(?:[^\s"=]+|"[^"]*")'
    for line in (bare.log("one") + bare.log("two")).splitlines():
        assert "instance placed" not in line or re.fullmatch(f"{pair}(?: {pair})*", line), line
    for name in names:
        bare.delete("instances", name, "default")
        bare.removed(name)
    eventually("instances go", 30, lambda: not bare.list("instances", "default"))
    eventually("allocations go", 30, lambda: not bare.list("allocations"))
    eventually("usage is counted back", 10,
               lambda: all(p["status"]["used"] == 0 for p in bare.list("addresspools")))


def test_killed_while_allocating(bare):
    bare.pools()
    bare.host("h1", vcpus=30, memory=100000, duration=600)
    bare.start_controller("controller", "--no-leader-election")
    for n in range(30):
        bare.instance()
        if n % 6 == 3:
            bare.stop("controller", signal.SIGKILL)
            bare.start_controller("controller", "--no-leader-election")
    settle(bare, 30)


def test_addresses_are_taken_with_a_place(cloud):
    """One that has no place takes nothing from others who have."""
    cloud.pools("2001:db8:1::/61")
    cloud.host("h1", vcpus=8, memory=100000)
    names = [cloud.instance()]
    eventually("the pools are ready", 10, lambda: placed(cloud, names[0]))
    names += [cloud.instance() for _ in range(59)]
    eventually("as many are placed as have room", 30, lambda: len(addressed(cloud)) == 8)
    settle(cloud, 8)
    waiting = [n for n in names if not placed(cloud, n)]
    for n in waiting:
        cloud.wait_condition(n, "Scheduled", "False", "Unschedulable")
        assert not set(USES) & set(cloud.get("instances", n, "default")["status"])
        assert not cloud.of_instance(n, "AddressesAllocated")
    # With more room there are too few values, and the rest takes no room: one that has its own needs all that is left.
    own = {"prefix": "2001:db8:7:7::/64", "delegatedPrefix": "2001:db8:7070::/60", "overlayAddress": "fd00:7::7",
           "mac": "02:4e:07:00:00:07"}
    cloud.host("h2", vcpus=3, memory=100000)
    for n in waiting:
        assert "`inst` (8 of 8 used) is full" in cloud.wait_condition(n, "Scheduled", "False", "PoolExhausted", 20)["message"]
    cloud.create("InstanceType", "large", {"vcpus": 3, "memoryMiB": 256})
    cloud.stop("controller", signal.SIGKILL)
    older = cloud.instance("a", type="large")
    cloud.patch("instances", older, {"status": own}, "default", "/status")
    cloud.start_controller("controller", "--no-leader-election")
    eventually("it has its room", 20, lambda: placed(cloud, older) == "h2")
    status = cloud.get("instances", older, "default")["status"]
    assert {k: status[k] for k in own} == own
    for n in waiting:
        cloud.wait_condition(n, "Scheduled", "False", "Unschedulable", 20)
        assert cloud.of_instance(n, "AddressesAllocated")["reason"] == "NotPlaced"
    # Who goes makes way for one.
    gone = next(n for n in names if n not in waiting)
    cloud.delete("instances", gone, "default")
    cloud.removed(gone)
    eventually("another has place and addresses", 20, lambda: sum(bool(placed(cloud, n)) for n in waiting) == 1)
    assert len(cloud.list("allocations")) == 8 * 4


def test_killed_at_any_step(bare):
    """Whatever it was doing: nothing is held that nobody has, and what was taken is used."""
    rng = random.Random(8)
    bare.pools()
    bare.host("h1", vcpus=40, memory=100000, duration=600)
    for k in range(12):
        bare.start_controller("controller", "--no-leader-election")
        for _ in range(3):
            bare.instance()
        bare.create("Cluster", f"c{k}", {"replicas": 2, "template": {"type": "small", "image": "lab"}}, "default")
        time.sleep(rng.random() * 0.1)
        bare.stop("controller", signal.SIGKILL)
    bare.start_controller("controller", "--no-leader-election")
    # 60 want a place.
    eventually("40 have one", 60, lambda: sum("host" in i.get("status", {}) for i in bare.list("instances", "default")) == 40)

    def in_use():
        """Those that have a place own what they say, and no more. What others own was being taken when it was killed."""
        owned = collections.defaultdict(set)
        for a in bare.list("allocations"):
            owned[a["spec"]["owner"]["uid"]].add(a["spec"]["value"])
        has = {i["metadata"]["uid"]: i.get("status", {}) for i in bare.list("instances", "default")}
        return set(owned) <= set(has) and all(owned[uid] == {st[u] for u in USES} for uid, st in has.items() if "host" in st)
    eventually("all that is taken is used", 20, in_use)
    everything = lambda: bare.list("instances", "default")  # noqa: E731
    bare.stop("controller", signal.SIGKILL)
    for c in bare.list("clusters", "default"):
        bare.delete("clusters", c["metadata"]["name"], "default")
    for i in everything():
        bare.delete("instances", i["metadata"]["name"], "default")
    bare.start_controller("controller", "--no-leader-election")

    def remove():
        for i in everything():
            if i.get("status", {}).get("host") and i["status"].get("phase") != "Removed":
                bare.removed(i["metadata"]["name"])
        return not everything()
    eventually("all are gone", 60, remove, 0.3)
    eventually("allocations go", 20, lambda: not bare.list("allocations"))
    eventually("usage is counted back", 10, lambda: all(p["status"]["used"] == 0 for p in bare.list("addresspools")))


def test_pool_full_and_room_again(cloud):
    cloud.pools("2001:db8:1::/62")
    cloud.host("h1", vcpus=100, memory=100000)
    names = [cloud.instance() for _ in range(6)]
    full = eventually("two are without", 15, lambda: (w := [
        n for n in names if cloud.of_instance(n, "AddressesAllocated").get("reason") == "PoolExhausted"])
        and len(w) == 2 and w)
    c = cloud.of_instance(full[0], "AddressesAllocated")
    assert c["status"] == "False" and "`inst` (4 of 4 used) is full" in c["message"]
    assert cloud.of_instance(full[0], "Ready")["reason"] == "PoolExhausted"
    assert cloud.of_instance(full[0], "Scheduled")["reason"] == "PoolExhausted"
    eventually("usage", 5, lambda: cloud.get("addresspools", "inst")["status"].get("used") == 4)
    eventually("an event says so", 10, lambda: [
        e for e in cloud.list("events", "default") if e["involvedObject"]["name"] == full[0]
        and e["reason"] == "FailedAllocation" and "`inst`" in e["message"]])

    lucky = next(n for n in names if n not in full)
    cloud.delete("instances", lucky, "default")
    cloud.removed(lucky)
    eventually("one of the two", 10, lambda: [
        n for n in full if cloud.of_instance(n, "AddressesAllocated").get("status") == "True"])
    cloud.create("AddressPool", "inst2", {"use": "instance", "prefix": "2001:db8:2::/63"})
    for n in full:
        cloud.wait_condition(n, "AddressesAllocated", "True", "Allocated")


NO_MEMORY = r"""
#include <stdlib.h>
#include <string.h>
char *strdup(const char *s) {
	static int done;
	char *copy;
	if (!done && !strcmp(s, "2001:db8:1::/64") && ++done)
		return NULL;
	copy = malloc(strlen(s) + 1);
	return copy ? strcpy(copy, s) : NULL;
}
"""


def test_no_memory_for_an_allocation(bare, tmp_path, monkeypatch):
    """A value stays free if there was no memory for the request that takes it: there is one for each instance."""
    (tmp_path / "strdup.c").write_text(NO_MEMORY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "strdup.so", tmp_path / "strdup.c"], check=True)
    bare.pools("2001:db8:1::/63")
    bare.host("h1", duration=600)
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "strdup.so"))
    bare.start_controller("controller", "--no-leader-election")
    monkeypatch.delenv("LD_PRELOAD")
    for name in (bare.instance(), bare.instance()):
        eventually("it is placed", 10, lambda name=name: placed(bare, name) == "h1")
    if "asan" not in os.environ.get("NACRE_BUILD", ""):
        assert "out of memory" in bare.log("controller")


def test_pool_missing_and_type_missing(cloud):
    cloud.create("InstanceType", "tiny", {"vcpus": 1, "memoryMiB": 256})
    cloud.host("h1")
    name = cloud.instance(type="tiny")
    c = cloud.wait_condition(name, "AddressesAllocated", "False", "PoolMissing")
    assert "there is no AddressPool with use instance" in c["message"]
    cloud.pools()
    cloud.wait_condition(name, "AddressesAllocated", "True", "Allocated")
    eventually("placed", 10, lambda: placed(cloud, name) == "h1")
    other = cloud.instance(type="huge")
    c = cloud.wait_condition(other, "Scheduled", "False", "InstanceTypeMissing")
    assert c["message"] == "InstanceType `huge` does not exist"
    assert cloud.of_instance(other, "Ready")["reason"] == "InstanceTypeMissing"
    # Nothing was allocated for it: all Allocations belong to the first instance.
    assert {a["spec"]["owner"]["name"] for a in cloud.list("allocations")} == {name}
    assert not {"prefix", "mac"} & set(cloud.get("instances", other, "default")["status"])
    cloud.create("InstanceType", "huge", {"vcpus": 2, "memoryMiB": 512, "dedicatedIPv4": 0})
    cloud.wait_condition(other, "Scheduled", "True", "Scheduled")


def test_quarantine(cloud):
    cloud.pools("2001:db8:1::/64", quarantineSeconds=10)
    cloud.host("h1")
    first = cloud.instance()
    cloud.wait_condition(first, "AddressesAllocated", "True", "Allocated")
    cloud.delete("instances", first, "default")
    cloud.removed(first)
    eventually("it goes", 10, lambda: cloud.get("instances", first, "default") is None)
    assert cloud.get("allocations", "ip6-2001-db8-1--64")["status"]["releasedAt"]
    second = cloud.instance()
    cloud.wait_condition(second, "AddressesAllocated", "False", "PoolExhausted")
    cloud.wait_condition(second, "AddressesAllocated", "True", "Allocated")


def test_pool_stays_while_it_is_used(cloud):
    cloud.pools()
    cloud.host("h1")
    name = cloud.instance()
    cloud.wait_condition(name, "AddressesAllocated", "True", "Allocated")
    cloud.delete("addresspools", "inst")
    assert cloud.get("addresspools", "inst")["metadata"]["deletionTimestamp"]
    other = cloud.instance()
    cloud.wait_condition(other, "AddressesAllocated", "False", "PoolMissing")
    cloud.delete("instances", name, "default")
    cloud.removed(name)
    cloud.delete("instances", other, "default")
    eventually("the pool goes", 10, lambda: cloud.get("addresspools", "inst") is None)


def test_placement(cloud):
    cloud.pools()
    lone = cloud.instance()
    c = cloud.wait_condition(lone, "Scheduled", "False", "Unschedulable")
    assert c["message"] == "there are no hosts of role compute"
    cloud.host("edge1", role="edge")
    cloud.host("h1", memory=512)
    cloud.host("h2", memory=512)
    cloud.host("h3", unschedulable=True)
    cloud.host("h4", ready="False")
    cloud.patch("hosts", "h4", {"metadata": {"labels": {"disk": "nvme"}}})
    # Instances are spread over the hosts and fill them up to the last MiB.
    names = [lone] + [cloud.instance() for _ in range(3)]
    for n in names:
        cloud.wait_condition(n, "Scheduled", "True", "Scheduled")
    assert collections.Counter(placed(cloud, n) for n in names) == {"h1": 2, "h2": 2}
    status = cloud.get("instances", lone, "default")["status"]
    assert status["vcpus"] == 1 and status["memoryMiB"] == 256
    extra = cloud.instance()
    c = cloud.wait_condition(extra, "Scheduled", "False", "Unschedulable")
    assert c["message"] == ("0 of 4 hosts fit: 1 is not ready, 1 is unschedulable, "
                            "2 have too little memory (free 0 MiB at most, asked 256)")
    assert cloud.of_instance(extra, "Ready")["reason"] == "Unschedulable"
    picky = cloud.instance(hostSelector={"disk": "nvme"})
    cloud.wait_condition(picky, "Scheduled", "False", "Unschedulable")
    cloud.patch("hosts", "h4", {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Good",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}, sub="/status")
    for n in (extra, picky):
        cloud.wait_condition(n, "Scheduled", "True", "Scheduled")
        assert placed(cloud, n) == "h4"
    # A placed instance is deleted only when its agent says so; then there is room.
    cloud.delete("instances", lone, "default")
    last = cloud.instance(hostSelector={"disk": "nvme"})
    cloud.wait_condition(last, "Scheduled", "True", "Scheduled")
    assert cloud.get("instances", lone, "default")["metadata"]["finalizers"] == ["nacre.dev/instance"]
    cloud.removed(lone)
    eventually("it goes", 10, lambda: cloud.get("instances", lone, "default") is None)


def lost(cloud, host):
    c = cloud.condition("hosts", host, "Ready")
    return c.get("status") == "Unknown" and c["reason"] == "HeartbeatLost"


def test_room_wakes_who_can_use_it(cloud):
    """A free place goes to the oldest instance that fits; instances that don't fit are not even looked at."""
    cloud.pools("2001:db8:1::/48")
    cloud.create("InstanceType", "large", {"vcpus": 2, "memoryMiB": 256})
    cloud.host("h1", vcpus=2)
    for name in ("a", "b"):
        cloud.instance(name)
        cloud.wait_condition(name, "Scheduled", "True", "Scheduled")
    waiting = [cloud.instance(f"w{n:03}", type="small" if n % 2 else "large") for n in range(400)]
    for name in waiting:
        cloud.wait_condition(name, "Scheduled", "False", "Unschedulable")
    time.sleep(3)  # usage of pools is written with a delay

    def looks(call):
        """The number of reconciles caused by the call, in the call and 2 s after it."""
        before, since = cloud.metric("nacre_controller_reconciles_total"), time.monotonic()
        call()
        time.sleep(2)
        after = cloud.metric("nacre_controller_reconciles_total")
        return after - before - 21 * (time.monotonic() - since + 1)  # minus the regular ones of each second

    def go(name):
        cloud.removed(name)
        cloud.delete("instances", name, "default")

    assert looks(lambda: go("a")) < 100
    cloud.wait_condition("w001", "Scheduled", "True", "Scheduled")
    assert [i["metadata"]["name"] for i in cloud.list("instances", "default") if "host" in i["status"]] == ["b", "w001"]
    # Two places on one host: room for the oldest instance, which is large.
    cloud.patch("hosts", "h1", {"spec": {"unschedulable": True}})
    go("b")
    go("w001")
    eventually("both are gone", 10, lambda: not cloud.get("instances", "b", "default")
               and not cloud.get("instances", "w001", "default"))
    cloud.patch("hosts", "h1", {"spec": {"unschedulable": False}})
    cloud.wait_condition("w000", "Scheduled", "True", "Scheduled")
    # The deletion of a waiting instance leaves nothing behind; the deletion and creation of a type is seen by all
    # waiting instances.
    cloud.delete("instances", "w003", "default")
    cloud.delete("instancetypes", "small")
    cloud.wait_condition("w005", "Scheduled", "False", "InstanceTypeMissing")
    go("w000")
    cloud.wait_condition("w002", "Scheduled", "True", "Scheduled")
    cloud.create("InstanceType", "small", {"vcpus": 1, "memoryMiB": 256})
    for name in waiting[5::2]:
        cloud.wait_condition(name, "Scheduled", "False", "Unschedulable")
    cloud.host("h2", vcpus=1)
    cloud.wait_condition("w005", "Scheduled", "True", "Scheduled")


def test_writes_that_fail_wake_nobody(cloud):
    """A free place whose binding can't be written is not offered to one waiting instance after the other without
    pause."""
    cloud.pools("2001:db8:1::/48")
    cloud.host("h1", vcpus=1)
    cloud.patch("hosts", "h1", {"spec": {"unschedulable": True}})
    names = [cloud.instance() for _ in range(200)]
    for name in names:
        cloud.wait_condition(name, "Scheduled", "False", "Unschedulable")
    # The change is on its way to the controller when the API server ends.
    cloud.kill("controller", signal.SIGSTOP)
    cloud.patch("hosts", "h1", {"spec": {"unschedulable": False}})
    cloud.stop("api", signal.SIGKILL)
    cloud.kill("controller", signal.SIGCONT)
    before = cloud.metric("nacre_controller_reconciles_total")
    time.sleep(3)
    assert cloud.metric("nacre_controller_reconciles_total") - before < 300
    cloud.start_api()
    eventually("one of them is placed", 60, lambda: any("host" in i["status"] for i in cloud.list("instances", "default")))


def test_why_it_waits_is_kept_up_to_date(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=2)
    name = cloud.instance(hostSelector={"disk": "nvme"})
    c = cloud.wait_condition(name, "Scheduled", "False", "Unschedulable")
    assert "1 has not the labels of hostSelector" in c["message"]
    cloud.patch("hosts", "h1", {"spec": {"unschedulable": True}})
    eventually("the reason is the new one", 10,
               lambda: "1 is unschedulable" in cloud.of_instance(name, "Scheduled")["message"])


def test_host_lost_and_back(cloud):
    cloud.pools()
    cloud.host("h1")
    name = cloud.instance()
    eventually("placed", 10, lambda: placed(cloud, name) == "h1")
    cloud.host("h2")
    cloud.endpoint("e1", "h1")
    cloud.endpoint("e2", "h2")
    uid = cloud.get("instances", name, "default")["metadata"]["uid"]
    cloud.endpoint(f"i-{uid}", "h1", {"kind": "Instance", "namespace": "default", "name": name, "uid": uid})
    cloud.silence("h1")
    eventually("h1 lost", 10, lambda: lost(cloud, "h1"))
    eventually("its endpoint withdrawn", 5, lambda: cloud.get("endpoints", "e1") is None)
    c = cloud.wait_condition(name, "Ready", "Unknown", "HostLost")
    assert "h1" in c["message"]
    assert cloud.get("endpoints", "e2") and not lost(cloud, "h2")
    eventually("metric", 5, lambda: cloud.metric("nacre_controller_hosts_lost") == 1)
    # A restarted controller continues with this state.
    cloud.stop("controller", signal.SIGKILL)
    cloud.start_controller("controller", "--no-leader-election")
    cloud.endpoint("e3", "h1")
    eventually("endpoint of a lost host", 10, lambda: cloud.get("endpoints", "e3") is None)
    # No other host could serve the instance's prefixes: its Endpoint stays as long as the instance exists.
    assert cloud.get("endpoints", f"i-{uid}")
    cloud.beat("h1")
    eventually("h1 back", 10, lambda: cloud.condition("hosts", "h1", "Ready")["status"] == "True")
    cloud.endpoint("e1", "h1")
    time.sleep(1)
    assert cloud.get("endpoints", "e1")
    # An instance of a lost host is deleted without an agent.
    cloud.silence("h1")
    cloud.delete("instances", name, "default")
    eventually("it goes", 15, lambda: cloud.get("instances", name, "default") is None)
    eventually("its endpoint goes", 10, lambda: cloud.get("endpoints", f"i-{uid}") is None)


def test_a_host_that_is_not_lost_is_deleted(cloud):
    """Its instances are looked at at once, and don't wait for its agent."""
    cloud.pools()
    cloud.host("h1", duration=600)
    stays, goes = cloud.instance(), cloud.instance()
    for n in (stays, goes):
        eventually("placed", 10, lambda n=n: placed(cloud, n) == "h1")
    cloud.delete("instances", goes, "default")
    cloud.silence("h1")
    cloud.delete("hosts", "h1")
    c = cloud.wait_condition(stays, "Ready", "Unknown", "HostLost")
    assert c["message"] == "host h1 does not exist any more"
    eventually("the other goes", 10, lambda: cloud.get("instances", goes, "default") is None)
    cloud.delete("instances", stays, "default")
    eventually("it goes", 10, lambda: cloud.get("instances", stays, "default") is None)
    eventually("allocations go", 10, lambda: not cloud.list("allocations"))


def test_api_away_is_no_ones_death(cloud):
    cloud.pools()
    cloud.host("h1")
    cloud.endpoint("e1", "h1")
    time.sleep(1)
    # The API is away, and afterwards the host can't renew for longer than its lease.
    cloud.stop("api", signal.SIGKILL)
    time.sleep(9)
    cloud.silence("h1")
    cloud.start_api()
    time.sleep(1)
    assert not lost(cloud, "h1") and cloud.get("endpoints", "e1")
    cloud.beat("h1")
    time.sleep(3)
    assert not lost(cloud, "h1") and cloud.get("endpoints", "e1")
    # The API server is stopped, so no connection breaks.
    cloud.kill("api", signal.SIGSTOP)
    time.sleep(9)
    cloud.kill("api", signal.SIGCONT)
    time.sleep(3)
    assert not lost(cloud, "h1") and cloud.get("endpoints", "e1")
    assert "host lost" not in cloud.log("controller")
    # A lease that the host itself lets expire still counts.
    cloud.silence("h1")
    eventually("h1 lost", 15, lambda: lost(cloud, "h1"))


def test_the_return_of_the_api_wakes_nobody(cloud):
    """Only what has failed meanwhile is looked at when the API answers again, not everything that waits."""
    cloud.pools()
    cloud.host("h1", duration=600)
    names = [cloud.instance(hostSelector={"no": "such"}) for _ in range(300)]
    for n in names:
        cloud.wait_condition(n, "Scheduled", "False", "Unschedulable", 30)
    cloud.silence("h1")
    looks = cloud.metric("nacre_controller_reconciles_total")
    for n in range(3):
        cloud.stop("api", signal.SIGKILL)
        eventually("the controller notices", 10, lambda n=n: cloud.log("controller").count("API away") > n)
        cloud.start_api()
        name = cloud.instance()
        eventually("the controller acts", 40, lambda name=name: placed(cloud, name) == "h1")
    assert cloud.metric("nacre_controller_reconciles_total") - looks < 300


def test_orphans_are_collected(cloud):
    cloud.pools()
    cloud.host("h1")
    name = cloud.instance()
    cloud.wait_condition(name, "AddressesAllocated", "True", "Allocated")
    uid = cloud.get("instances", name, "default")["metadata"]["uid"]
    ref = {"kind": "Instance", "namespace": "default", "name": name}
    cloud.create("Allocation", "ip6-2001-db8-1-77--64",
                 {"pool": "inst", "value": "2001:db8:1:77::/64", "owner": {**ref, "uid": "other"}})
    cloud.endpoint(f"i-{uid}", "h1", {**ref, "uid": uid})
    cloud.endpoint("old", "h1", {**ref, "uid": "other"})
    cloud.endpoint("gone", "h1", {**ref, "name": "nobody", "uid": "x"})
    cloud.endpoint("unknown", "h1", {"kind": "Widget", "name": "nobody", "uid": "x"})
    eventually("orphans go", 10, lambda: sorted(e["metadata"]["name"] for e in cloud.list("endpoints"))
               == [f"i-{uid}", "unknown"])
    eventually("the allocation goes", 10, lambda: cloud.get("allocations", "ip6-2001-db8-1-77--64") is None)
    assert len(cloud.list("allocations")) == 4


def claims(cloud):
    """Two hosts, an edge, and an instance on h1 with its Endpoint."""
    cloud.pools()
    for host, role in (("h1", "compute"), ("h2", "compute"), ("e1", "edge")):
        cloud.host(host, role=role)
    name = cloud.instance(hostSelector={"here": "yes"})
    cloud.patch("hosts", "h1", {"metadata": {"labels": {"here": "yes"}}})
    cloud.wait_condition(name, "Scheduled", "True", "Scheduled")
    uid = cloud.get("instances", name, "default")["metadata"]["uid"]
    ref = {"kind": "Instance", "namespace": "default", "name": name, "uid": uid}
    cloud.endpoint(f"i-{uid}", "h1", ref)
    cloud.endpoint("edge-e1", "e1", ip="fd00:e::1", routes=[{"prefix": "::/0"}, {"prefix": "0.0.0.0/0"}])
    return name, ref


def test_endpoints_that_claim_what_is_not_theirs(cloud):
    """As on a kube-apiserver, where only the controller can compare an Endpoint with its Host and Instance."""
    name, ref = claims(cloud)
    good = f"i-{ref['uid']}"
    given = cloud.get("instances", name, "default")["status"]
    cloud.endpoint("elsewhere", "h2", ref)
    cloud.endpoint("vtep", "h1", ref, vtep="fd00:a::77")
    cloud.endpoint("ip", "h1", ref, ip="fd00:1::7777")
    cloud.endpoint("mac", "h1", ref, mac="02:4e:01:77:77:77")
    cloud.endpoint("route", "h1", ref, routes=[{"prefix": given["prefix"]}, {"prefix": "2001:db8:1:66::/64"}])
    cloud.endpoint("edge", "e1", ip=given["overlayAddress"], routes=[{"prefix": "::/0"}])
    names = lambda: sorted(e["metadata"]["name"] for e in cloud.list("endpoints"))
    eventually("what is wrong goes", 60, lambda: names() == ["edge-e1", good])
    events = [e["message"] for e in cloud.list("events") if e["reason"] == "EndpointRemoved"]
    for word in ("spec.vtep fd00:a::77", "spec.ip fd00:1::7777", "spec.mac", "2001:db8:1:66::/64", "is on host h1"):
        eventually(f"an Event says {word}", 60, lambda: any(word in e["message"] for e in cloud.list("events")))
    assert len(events) <= 6
    # A correct Endpoint becomes wrong, and one becomes wrong because its Host changes.
    cloud.patch("endpoints", good, {"spec": {"routes": [{"prefix": "::/0"}]}})
    eventually("it goes", 60, lambda: names() == ["edge-e1"])
    cloud.endpoint(good, "h1", ref)
    cloud.patch("hosts", "h1", {"spec": {"vtep": "fd00:a::99"}})
    eventually("it goes", 60, lambda: names() == ["edge-e1"])


def looked_at(cloud, host):
    """Waits until the controller has looked at all Endpoints that are there: it deletes a wrong one that comes later."""
    name = f"wrong-{next(cloud.numbers)}"
    cloud.endpoint(name, host, vtep="fd00:a::77")
    eventually("the wrong one goes", 60, lambda: cloud.get("endpoints", name) is None)


def test_endpoints_of_balancers(cloud):
    """A policy can't look up AddressPools; and a lost balancer's Endpoint goes, as an edge's does."""
    claims(cloud)
    cloud.create("AddressPool", "shared4", {"use": "shared", "prefix": "198.51.100.0/24"})
    cloud.create("AddressPool", "public4", {"use": "dedicated", "prefix": "203.0.113.0/24"})
    for host in ("l1", "l2"):
        cloud.host(host, role="balancer")
        cloud.endpoint(f"lb-{host}", host, ip=f"fd00:e::{host[1]}1", routes=[{"prefix": "198.51.100.0/24"}])
    names = lambda: sorted(e["metadata"]["name"] for e in cloud.list("endpoints") if e["metadata"]["name"].startswith("lb-"))
    cloud.patch("endpoints", "lb-l2", {"spec": {"routes": [{"prefix": "198.51.100.0/24"}, {"prefix": "203.0.113.7/32"}]}})
    eventually("what is wrong goes", 60, lambda: names() == ["lb-l1"])
    eventually("an Event says why", 60, lambda: any("203.0.113.7/32, but the use of AddressPool public4 is dedicated" in e["message"]
                                                    for e in cloud.list("events")))
    # A prefix of no pool may be that of a pool which the controller doesn't know yet, but only for 20 s. The Endpoints of
    # three balancers are in doubt during the same 20 s, and the first balancer is lost meanwhile.
    balancers = {"l2": "192.0.2.0/25", "l3": "192.0.2.128/25", "l4": "192.0.3.0/24"}
    cloud.host("l3", role="balancer")
    cloud.host("l4", role="balancer")
    # The pool of l3 comes while l3 is in doubt, and stays.
    cloud.endpoint("lb-l3", "l3", ip="fd00:e::31", routes=[{"prefix": balancers["l3"]}])
    # The pool of l4 goes.
    cloud.create("AddressPool", "gone4", {"use": "shared", "prefix": balancers["l4"]})
    cloud.endpoint("lb-l4", "l4", ip="fd00:e::41", routes=[{"prefix": balancers["l4"]}])
    looked_at(cloud, "l3")
    cloud.create("AddressPool", "late4", {"use": "shared", "prefix": balancers["l3"]})
    began = time.monotonic()
    cloud.delete("addresspools", "gone4")
    cloud.endpoint("lb-l2", "l2", ip="fd00:e::21", routes=[{"prefix": balancers["l2"]}])
    cloud.silence("l1")
    went = {}

    def note():
        left = names()
        for name in {"lb-l1", "lb-l2", "lb-l4"} - set(left):
            went.setdefault(name, time.monotonic() - began)
        return left == ["lb-l3"]
    eventually("the others go", 60, note)
    assert went["lb-l2"] >= 20, went  # the controller may have seen lb-l4 before its pool
    for name in ("l2", "l4"):
        eventually("an Event says why", 60, lambda: any(
            f"{balancers[name]}, but no AddressPool with use shared has that prefix" in e["message"] for e in cloud.list("events")))
    # The Endpoint of l3 is right however long ago its doubt began: the controller looks at it once more.
    cloud.patch("endpoints", "lb-l3", {"metadata": {"labels": {"look": "again"}}})
    looked_at(cloud, "l3")
    assert names() == ["lb-l3"]


def test_endpoints_whose_name_is_for_another(cloud):
    """An Endpoint with another owner's name would keep that owner from announcing itself."""
    name, ref = claims(cloud)
    good = f"i-{ref['uid']}"
    cloud.endpoint("edge-e2", "e1", ip="fd00:e::2")
    cloud.endpoint("edge-h1", "e1", ip="fd00:e::3")
    cloud.endpoint("i-0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab", "h2", ip="fd00:e::4")
    cloud.endpoint("lb-h1", "e1", ip="fd00:e::6")
    cloud.endpoint("lb-h2", "h2", {"kind": "Host", "name": "h2", "uid": "x"}, ip="fd00:e::7")
    cloud.endpoint("i-other", "h1", ref)
    cloud.endpoint("second", "h1", ref)
    cloud.endpoint("by-hand", "h2", ip="fd00:e::5")
    names = lambda: sorted(e["metadata"]["name"] for e in cloud.list("endpoints"))
    eventually("they go", 60, lambda: names() == ["by-hand", "edge-e1", good])
    for word in ("its name is for another owner", f"its name must be {good}"):
        eventually(f"an Event says {word}", 60, lambda: any(word in e["message"] for e in cloud.list("events")))


def test_good_endpoints_stay(cloud):
    """Whatever is missing or late, no Endpoint is deleted that may be right."""
    name, ref = claims(cloud)
    given = cloud.get("instances", name, "default")["status"]
    waits = cloud.instance(hostSelector={"no": "where"})
    cloud.wait_condition(waits, "Scheduled", "False", "Unschedulable")
    uid = cloud.get("instances", waits, "default")["metadata"]["uid"]
    # An instance that has no host yet: when a cloud is moved, the status is written after the object.
    cloud.endpoint("early", "h2", {"kind": "Instance", "namespace": "default", "name": waits, "uid": uid}, ip="fd00:1::42")
    for n in range(3):
        cloud.stop("controller", signal.SIGKILL)
        cloud.start_controller("controller")
        probe = f"probe{n}"
        # A wrong Endpoint is deleted, so all have been looked at.
        cloud.endpoint(probe, "h1", ref, ip="fd00:1::7777")
        eventually("the wrong one goes", 60, lambda: cloud.get("endpoints", probe) is None)
        assert sorted(e["metadata"]["name"] for e in cloud.list("endpoints")) == sorted(["early", "edge-e1", f"i-{ref['uid']}"])
    assert cloud.get("endpoints", f"i-{ref['uid']}")["spec"]["ip"] == given["overlayAddress"]


def test_limits_of_a_host(cloud):
    """Capacity that an agent reports above the operator's limits is not used, and an Event says so."""
    cloud.pools()
    cloud.host("h1", vcpus=65536, memory=1 << 20, limits={"vcpus": 2, "memoryMiB": 1024})
    names = [cloud.instance() for _ in range(3)]
    where = lambda: sorted(placed(cloud, n) or "" for n in names)
    eventually("two have room", 60, lambda: where() == ["", "h1", "h1"])
    waits = next(n for n in names if not placed(cloud, n))
    c = cloud.wait_condition(waits, "Scheduled", "False", "Unschedulable")
    assert "1 has too few vCPUs (free 0 at most" in c["message"], c
    told = eventually("an Event", 60, lambda: [e for e in cloud.list("events") if e["reason"] == "CapacityLimited"])
    assert told[0]["involvedObject"]["name"] == "h1" and told[0]["message"] == (
        "the agent reports memoryMiB=1048576,vcpus=65536; within spec.limits instances may have memoryMiB=1024,vcpus=2"), told
    # Room that the operator adds is used at once; the same for memory.
    cloud.patch("hosts", "h1", {"spec": {"limits": {"vcpus": 64, "memoryMiB": 512}}})
    eventually("memory is what lacks now", 60, lambda: "too little memory" in cloud.of_instance(waits, "Scheduled")["message"])
    cloud.patch("hosts", "h1", {"spec": {"limits": None}})
    eventually("all have room", 60, lambda: where() == ["h1"] * 3)


def test_one_vtep_one_host(cloud):
    """The older of two Hosts keeps the VTEP, and also the MAC that follows from it."""
    cloud.pools()
    cloud.host("old", vtep="fd00:a::aa")
    cloud.host("young", vtep="fd00:a::aa")
    ready = lambda h: cloud.condition("hosts", h, "Ready")
    eventually("the younger is not ready", 60, lambda: ready("young").get("reason") == "VTEPConflict")
    assert ready("young")["status"] == "False" and "Host old" in ready("young")["message"] and "fd00:a::aa" in ready("young")["message"]
    assert ready("old")["status"] == "True"
    name = cloud.instance()
    cloud.wait_condition(name, "Scheduled", "True", "Scheduled")
    assert cloud.get("instances", name, "default")["status"]["host"] == "old"
    # Another address with the same router MAC.
    cloud.patch("hosts", "young", {"spec": {"vtep": SAME_MAC[1]}})
    eventually("it has one of its own", 60, lambda: ready("young").get("status") == "True")
    cloud.host("zebra", vtep=SAME_MAC[0])
    eventually("the same MAC is found", 60, lambda: ready("zebra").get("reason") == "VTEPConflict")
    assert "router MAC" in ready("zebra")["message"] and "Host young" in ready("zebra")["message"]
    cloud.delete("hosts", "young")
    eventually("it is free", 60, lambda: ready("zebra").get("status") == "True")


def test_leader_election(bare):
    bare.pools()
    bare.host("h1", duration=600)
    bare.start_controller("one")
    eventually("one leads", 5, lambda: "msg=\"acting\"" in bare.log("one"))
    bare.start_controller("two")
    first = bare.instance()
    bare.wait_condition(first, "AddressesAllocated", "True", "Allocated")
    assert "acting" not in bare.log("two")
    # A killed leader: the other takes over when the lease has expired.
    bare.stop("one", signal.SIGKILL)
    second = bare.instance()
    bare.wait_condition(second, "AddressesAllocated", "True", "Allocated", 10)
    assert "acting" in bare.log("two")
    # A leader that ends in order: the other takes over at once.
    bare.start_controller("three")
    eventually("three is ready", 5, lambda: "connected" in bare.log("three"))
    assert bare.stop("two") == 0
    assert bare.get("leases", "nacre-controller", "nacre-system")["spec"].get("holderIdentity") in (None, "", "three")
    eventually("three leads", 5, lambda: "acting" in bare.log("three"))
    settle(bare, 2)
    # A leader that was stopped past its lease doesn't act on old state.
    bare.kill("three", signal.SIGSTOP)
    bare.start_controller("four")
    eventually("four leads", 10, lambda: "acting" in bare.log("four"))
    bare.kill("three", signal.SIGCONT)
    eventually("three stands by", 5, lambda: "standing by" in bare.log("three"))
    bare.instance()
    settle(bare, 3)


def test_odd_objects_do_not_kill(cloud):
    """All that the server accepts: long names, strange owners, a pool of the largest size."""
    def long(letter):
        return ".".join([letter * 60] * 4)

    cloud.pools()
    cloud.create("AddressPool", "all", {"use": "overlay", "prefix": "fd80::/10"})
    cloud.create("AddressPool", long("x"), {"use": "instance", "prefix": "3fff::/20"})
    cloud.create("Allocation", "strange", {"pool": "no-such-pool", "value": "not an address",
                 "owner": {"kind": "Instance", "name": "nobody", "uid": "u"}})
    cloud.create("Allocation", long("y"), {"pool": "inst", "value": "2001:db8:1::/63",
                 "owner": {"kind": "Thing", "name": long("z"), "uid": "u" * 63}})
    cloud.host(long("h"), beat=False)
    name = cloud.instance(long("n"), hostSelector={"a": "b"})
    cloud.wait_condition(name, "Scheduled", "False", "Unschedulable")
    eventually("the strange one goes", 10, lambda: cloud.get("allocations", "strange") is None)


def test_known_by_its_id(bare):
    """An instance from another API server, where it had another uid, keeps its addresses and frees them in the end."""
    bare.pools()
    bare.host("h1")
    name, old = bare.instance(), "0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab"
    values = {"inst": "2001:db8:1:7::/64", "deleg": "2001:db8:1070::/60", "ovl": "fd00:1::7", "mac": "02:4e:01:00:00:07"}
    ref = {"kind": "Instance", "namespace": "default", "name": name, "uid": old}
    for pool, value in values.items():
        allocation = ("mac-" if pool == "mac" else "ip6-") + value.replace("::/", "--").replace("::", "--").replace(":", "-")
        bare.create("Allocation", allocation, {"pool": pool, "value": value, "owner": ref})
    status = {"id": old, "host": "h1", "vcpus": 1, "memoryMiB": 256, "prefix": values["inst"], "mac": values["mac"],
              "delegatedPrefix": values["deleg"], "overlayAddress": values["ovl"], "phase": "Running"}
    bare.patch("instances", name, {"status": status}, "default", "/status")
    bare.endpoint(f"i-{old}", "h1", ref)
    bare.start_controller("controller", "--no-leader-election")
    bare.wait_condition(name, "AddressesAllocated", "True", "Allocated")
    # A new instance gets its uid as id, and none of the other's addresses.
    new = bare.instance()
    bare.wait_condition(new, "Scheduled", "True", "Scheduled")
    obj = bare.get("instances", new, "default")
    assert obj["status"]["id"] == obj["metadata"]["uid"]
    assert bare.get("instances", name, "default")["status"]["id"] == old
    assert bare.get("endpoints", f"i-{old}")
    owned = [a["spec"]["value"] for a in bare.list("allocations") if a["spec"]["owner"]["uid"] == old]
    assert sorted(owned) == sorted(values.values())
    bare.delete("instances", name, "default")
    bare.removed(name)
    eventually("it goes", 10, lambda: bare.get("instances", name, "default") is None)
    assert {a["spec"]["owner"]["uid"] for a in bare.list("allocations")} == {obj["metadata"]["uid"]}


def test_endpoint_of_no_host(cloud):
    cloud.endpoint("e1", "nowhere")
    eventually("it goes", 10, lambda: cloud.get("endpoints", "e1") is None)


def test_lease_of_no_host(cloud):
    """The Lease of a deleted Host is deleted."""
    cloud.host("h1", duration=1)
    cloud.host("h2")
    cloud.create("Lease", "host-never", {"holderIdentity": "never", "leaseDurationSeconds": 1}, "nacre-system")
    cloud.create("Lease", "other", {"holderIdentity": "x", "leaseDurationSeconds": 1}, "nacre-system")
    cloud.silence("h1")
    cloud.delete("hosts", "h1")
    left = lambda: sorted(o["metadata"]["name"] for o in cloud.list("leases", "nacre-system"))  # noqa: E731
    eventually("those without a Host are gone", 15, lambda: left() == ["host-h2", "other"])
    # The deletion of each of the two was requested once.
    assert cloud.log("controller").count("lease of a host that is gone deleted") == 2
    # A Host that is created again has a whole lease duration.
    cloud.host("h1", duration=6)
    eventually("h1 is well", 10, lambda: cloud.condition("hosts", "h1", "Ready").get("status") == "True")
    assert not lost(cloud, "h2")


def test_another_store(cloud):
    """The API server comes back with an empty database, whose versions start again."""
    cloud.pools()
    cloud.host("h1", vcpus=10, memory=10000, beat=False)
    for _ in range(5):
        cloud.wait_condition(cloud.instance(), "AddressesAllocated", "True", "Allocated")
    cloud.stop("api")
    for name in os.listdir(cloud.dir):
        if name.startswith("db"):
            os.remove(os.path.join(cloud.dir, name))
    cloud.start_api()
    cloud.pools()
    cloud.host("h1", vcpus=10, memory=10000, beat=False)
    name = cloud.instance()
    cloud.wait_condition(name, "AddressesAllocated", "True", "Allocated", 20)
    settle(cloud, 1)


def test_quota(cloud):
    """Instances that are older than the quota stand in for a server that doesn't refuse them."""
    cloud.pools()
    cloud.host("h1", vcpus=100, memory=100000)
    cloud.stop("controller")
    names = [cloud.instance() for _ in range(5)]
    cloud.create("TenantQuota", "q", {"instances": 4, "vcpus": 2}, "default")
    cloud.start_controller("controller", "--no-leader-election")
    eventually("two are placed", 10, lambda: sum(bool(placed(cloud, n)) for n in names) == 2)
    waiting = eventually("the others wait", 10, lambda: (w := [n for n in names if cloud.of_instance(
        n, "Scheduled").get("reason") == "QuotaExceeded"]) and len(w) == 3 and w)
    c = cloud.of_instance(waiting[0], "Scheduled")
    assert c["status"] == "False"
    assert c["message"] == "exceeded quota: q, requested: vcpus=1, used: vcpus=2, limited: vcpus=2"
    assert cloud.of_instance(waiting[0], "Ready")["reason"] == "QuotaExceeded"
    assert len(cloud.list("allocations")) == 2 * 4, "who exceeds a quota takes no addresses"
    eventually("usage", 5, lambda: cloud.get("tenantquotas", "q", "default").get("status", {}).get("used") == {
        "instances": 2, "vcpus": 2, "memoryMiB": 512, "dedicatedIPv4": 0})

    lucky = next(n for n in names if n not in waiting)
    cloud.delete("instances", lucky, "default")
    cloud.removed(lucky)
    eventually("another one follows", 10, lambda: sum(bool(placed(cloud, n)) for n in waiting) == 1)
    cloud.patch("tenantquotas", "q", {"spec": {"vcpus": 1}}, "default")
    eventually("it is said to be exceeded", 10, lambda: cloud.condition(
        "tenantquotas", "q", "WithinLimits", "default").get("reason") == "Exceeded")
    assert sum(bool(placed(cloud, n)) for n in names if n != lucky) == 2, "nothing is taken away"
    cloud.patch("tenantquotas", "q", {"spec": {"vcpus": 100}}, "default")
    eventually("all are placed", 10, lambda: all(placed(cloud, n) for n in names if n != lucky))
    cloud.delete("tenantquotas", "q", "default")


def test_default_quota(cloud):
    """The default applies to each namespace without a quota, separately. A missing type doesn't exempt an instance."""
    cloud.pools()
    cloud.host("h1", vcpus=100, memory=100000)
    cloud.stop("controller")
    names = [cloud.instance() for _ in range(3)] + [cloud.instance(type="huge")]
    cloud.create("TenantQuota", "default", {"vcpus": 2}, "nacre-system")
    cloud.start_controller("controller", "--no-leader-election")
    eventually("two are placed", 10, lambda: sum(bool(placed(cloud, n)) for n in names[:3]) == 2)
    cloud.create("InstanceType", "huge", {"vcpus": 50, "memoryMiB": 512})
    cloud.wait_condition(names[3], "Scheduled", "False", "QuotaExceeded")
    waiting = eventually("the third waits", 10, lambda: [n for n in names if cloud.of_instance(
        n, "Scheduled").get("reason") == "QuotaExceeded"])
    assert len(waiting) == 2 and len(cloud.list("allocations")) == 2 * 4
    assert "exceeded quota: nacre-system/default, requested: vcpus=50, used: vcpus=2, limited: vcpus=2" in \
        cloud.of_instance(names[3], "Scheduled")["message"]
    # The namespace's own quota replaces the default.
    cloud.create("TenantQuota", "own", {"vcpus": 100}, "default")
    cloud.patch("tenantquotas", "default", {"spec": {"vcpus": 1}}, "nacre-system")
    eventually("all are placed", 10, lambda: all(placed(cloud, n) for n in names))


def test_quota_after_a_restart(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=100, memory=100000)
    cloud.create("TenantQuota", "q", {"vcpus": 3}, "default")
    names = [cloud.instance() for _ in range(3)]
    eventually("all are placed", 10, lambda: all(placed(cloud, n) for n in names))
    cloud.stop("controller", signal.SIGKILL)
    cloud.start_controller("controller", "--no-leader-election")
    cloud.create("InstanceType", "big", {"vcpus": 2, "memoryMiB": 256})
    cloud.patch("tenantquotas", "q", {"spec": {"vcpus": 4}}, "default")
    name = cloud.instance()
    eventually("the fourth", 10, lambda: placed(cloud, name))
    eventually("usage", 5, lambda: cloud.get("tenantquotas", "q", "default")["status"].get("used") == {
        "instances": 4, "vcpus": 4, "memoryMiB": 1024, "dedicatedIPv4": 0})
