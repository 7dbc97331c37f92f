# SPDX-License-Identifier: Apache-2.0
"""Clusters on a real nacre-apiserver with simulated hosts: members created, placed all or none, repaired, deleted."""

import collections
import json
import signal
import time

from conftest import GROUP, UnixConnection, eventually


def cluster(cloud, name, replicas, **template):
    return cloud.create("Cluster", name, {"replicas": replicas, "template": {"type": "small", "image": "lab", **template}},
                        "default")


def scale(cloud, name, replicas):
    return cloud.request("PATCH", f"{GROUP}/namespaces/default/clusters/{name}/scale", {"spec": {"replicas": replicas}},
                         "application/merge-patch+json")


def members(cloud, name):
    """The hosts of the members by name; None if a member has no host."""
    return {i["metadata"]["name"]: i.get("status", {}).get("host") for i in cloud.list("instances", "default")
            if i["metadata"].get("labels", {}).get("nacre.dev/cluster") == name}


def placed(cloud, name, n):
    """All N members have hosts, and there are no other members."""
    def look():
        m = members(cloud, name)
        return sorted(m) == sorted(f"{name}-{k}" for k in range(n)) and all(m.values()) and m
    got = eventually(f"all {n} members of {name} are placed", 60, look)
    wait(cloud, name, "Scheduled", "True", "Scheduled")
    return got


def wait(cloud, name, kind, status, reason, text=""):
    def look():
        c = cloud.condition("clusters", name, kind, "default")
        return c.get("status") == status and c.get("reason") == reason and text in c.get("message", "") and c
    return eventually(f"{kind}={status} {reason} {text!r} of cluster {name}", 60, look)


def make_ready(cloud, *names):
    for n in names:
        cloud.patch("instances", n, {"status": {"phase": "Running", "conditions": [
            {**c, "status": "True", "reason": "Running"} if c["type"] == "Ready" else c
            for c in cloud.get("instances", n, "default")["status"]["conditions"]]}}, "default", "/status")


def gone(cloud, *names):
    """Plays the agent for members that are being deleted."""
    for n in names:
        eventually(f"{n} is being deleted", 60,
                   lambda n=n: "deletionTimestamp" in (cloud.get("instances", n, "default") or {"metadata": {}})["metadata"])
        cloud.removed(n)
        eventually(f"{n} is gone", 60, lambda n=n: cloud.get("instances", n, "default") is None)


def test_life(cloud):
    cloud.pools()
    for h in ("h1", "h2"):
        cloud.host(h, vcpus=4, memory=4096)
    uid = cluster(cloud, "c", 2)["metadata"]["uid"]
    assert sorted(placed(cloud, "c", 2).values()) == ["h1", "h2"]
    i = cloud.get("instances", "c-1", "default")
    assert i["metadata"]["labels"] == {"nacre.dev/cluster": "c"}
    assert i["metadata"]["ownerReferences"] == [
        {"apiVersion": "nacre.dev/v1alpha1", "kind": "Cluster", "name": "c", "uid": uid, "controller": True}]
    wait(cloud, "c", "Ready", "False", "MembersNotReady", "0 of 2 members are ready")
    make_ready(cloud, "c-0", "c-1")
    wait(cloud, "c", "Ready", "True", "Ready")
    status = cloud.get("clusters", "c", "default")["status"]
    assert (status["replicas"], status["readyReplicas"], status["selector"]) == (2, 2, "nacre.dev/cluster=c")
    assert cloud.request("GET", f"{GROUP}/namespaces/default/clusters/c/scale")["status"] == {
        "replicas": 2, "selector": "nacre.dev/cluster=c"}

    # Changes of mutable fields of the template are carried over to the members, in both directions.
    forwards = [{"protocol": "tcp", "targetPort": 22}]
    cloud.patch("clusters", "c", {"spec": {"template": {"running": False, "ingress": [{"protocol": "tcp", "port": 22}],
                                                        "forwards": forwards}}}, "default")
    for n in ("c-0", "c-1"):
        eventually("spec of " + n, 30, lambda n=n: (s := cloud.get("instances", n, "default")["spec"])["running"] is False
                   and s["ingress"] == [{"protocol": "tcp", "port": 22}] and s["forwards"] == forwards)
    cloud.patch("clusters", "c", {"spec": {"template": {"running": True, "ingress": None, "forwards": None}}}, "default")
    for n in ("c-0", "c-1"):
        eventually("spec of " + n, 30, lambda n=n: (s := cloud.get("instances", n, "default")["spec"])["running"] is True
                   and "ingress" not in s and "forwards" not in s)

    # A deleted member is made again once it is gone.
    old = cloud.get("instances", "c-0", "default")["metadata"]["uid"]
    cloud.delete("instances", "c-0", "default")
    wait(cloud, "c", "Scheduled", "False", "Gathering", "c-0 is being deleted")
    gone_and_back = lambda: (i := cloud.get("instances", "c-0", "default")) and i["metadata"]["uid"] != old  # noqa: E731
    cloud.removed("c-0")
    eventually("c-0 is made anew", 60, gone_and_back)
    placed(cloud, "c", 2)

    # Scale up; then down, from the highest number.
    scale(cloud, "c", 5)
    before = {n: cloud.get("instances", n, "default")["metadata"]["uid"] for n in placed(cloud, "c", 5)}
    scale(cloud, "c", 2)
    gone(cloud, "c-4", "c-3", "c-2")
    placed(cloud, "c", 2)
    assert all(cloud.get("instances", n, "default")["metadata"]["uid"] == before[n] for n in ("c-0", "c-1"))
    scale(cloud, "c", 0)
    gone(cloud, "c-0", "c-1")
    wait(cloud, "c", "Ready", "True", "Ready", "0 of 0")
    scale(cloud, "c", 1)
    placed(cloud, "c", 1)

    cloud.delete("clusters", "c", "default")
    gone(cloud, "c-0")
    eventually("the cluster is gone", 60, lambda: cloud.get("clusters", "c", "default") is None)
    eventually("allocations go", 60, lambda: not cloud.list("allocations"))


def test_all_or_none(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=3, memory=4096)
    cluster(cloud, "c", 4)
    text = "3 of 4 members fit, and are placed together or not at all: 0 of 1 host fits: 1 has too few vCPUs"
    wait(cloud, "c", "Scheduled", "False", "Unschedulable", text)
    for n in range(4):
        assert "members of Cluster c can" in cloud.wait_condition(f"c-{n}", "Scheduled", "False", "Gathering", 60)["message"]
    assert wait(cloud, "c", "Ready", "False", "Unschedulable", text)
    # The waiting members take no room from a single instance.
    alone = cloud.instance()
    cloud.wait_condition(alone, "Scheduled", "True", "Scheduled", 60)
    wait(cloud, "c", "Scheduled", "False", "Unschedulable", "2 of 4 members fit")
    assert not any(members(cloud, "c").values())
    cloud.host("h2", vcpus=2, memory=4096)
    placed(cloud, "c", 4)
    # New members are a gang of their own; placed members stay.
    scale(cloud, "c", 6)
    wait(cloud, "c", "Scheduled", "False", "Unschedulable", "0 of 2 members fit")
    cloud.host("h3", vcpus=1, memory=4096)
    wait(cloud, "c", "Scheduled", "False", "Unschedulable", "1 of 2 members fit")
    assert sum(map(bool, members(cloud, "c").values())) == 4
    scale(cloud, "c", 5)
    eventually("c-5 is gone", 60, lambda: cloud.get("instances", "c-5", "default") is None)
    assert placed(cloud, "c", 5)["c-4"] == "h3"
    # A selector that matches no host.
    cluster(cloud, "d", 2, hostSelector={"gpu": "h100"})
    wait(cloud, "d", "Scheduled", "False", "Unschedulable", "have not the labels of hostSelector")
    cluster(cloud, "e", 1, type="none")
    wait(cloud, "e", "Scheduled", "False", "InstanceTypeMissing")
    cloud.create("InstanceType", "none", {"vcpus": 1, "memoryMiB": 64})
    wait(cloud, "e", "Scheduled", "False", "Unschedulable")


def test_what_a_gang_waits_for_is_said_once(cloud):
    """When a Cluster gives another reason for its waiting, its members are neither looked at nor written."""
    n = 100
    cloud.pools()
    for h in ("h1", "h2"):
        cloud.host(h, vcpus=40, memory=40960, duration=600)
    cluster(cloud, "c", n)
    wait(cloud, "c", "Scheduled", "False", "Unschedulable", "80 of 100 members fit")
    for k in range(n):
        eventually(f"c-{k} says that it waits", 60, lambda k=k: cloud.of_instance(f"c-{k}", "Scheduled"))

    def looks(call):
        """How often the controller looks at something because of CALL, until the Cluster and later work are done."""
        before = cloud.metric("nacre_controller_reconciles_total")
        call()
        probe = cloud.instance(hostSelector={"no": "such"})
        cloud.wait_condition(probe, "Scheduled", "False", "Unschedulable")
        return cloud.metric("nacre_controller_reconciles_total") - before

    def cordon():
        cloud.patch("hosts", "h2", {"spec": {"unschedulable": True}})
        wait(cloud, "c", "Scheduled", "False", "Unschedulable", "40 of 100 members fit")
    looks(lambda: None)
    before = cloud.list("instances", "default")[:n]
    made = looks(cordon)
    assert made < n / 2, made
    assert cloud.list("instances", "default")[:n] == before


def one_gets_all(cloud, n, reason, says):
    """Of two clusters of size N one is placed as a whole; the other has no place and says why. Then the other way
    round."""
    cluster(cloud, "a", n)
    cluster(cloud, "b", n)

    def look():
        m = {c: members(cloud, c) for c in "ab"}
        done = [c for c in "ab" if len(m[c]) == n and all(m[c].values())]
        none = [c for c in "ab" if not any(m[c].values())]
        return len(done) == len(none) == 1 and (done[0], none[0])
    first, second = eventually(f"one of the two has all: {members(cloud, 'a')} {members(cloud, 'b')}", 60, look)
    wait(cloud, first, "Scheduled", "True", "Scheduled")
    # While the first is being placed the second may report another reason.
    wait(cloud, second, "Scheduled", "False", reason, says)
    assert not any(members(cloud, second).values())
    cloud.delete("clusters", first, "default")
    gone(cloud, *(f"{first}-{k}" for k in range(n)))
    placed(cloud, second, n)


def test_two_gangs_and_room_for_one(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=5, memory=4096)
    one_gets_all(cloud, 3, "Unschedulable", "2 of 3 members fit")


def test_two_gangs_and_a_quota_for_one(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=50, memory=40960)
    cloud.create("TenantQuota", "q", {"instances": 5}, "default")
    one_gets_all(cloud, 3, "QuotaExceeded",
                 "3 members need hosts: exceeded quota: q, requested: instances=3, used: instances=3, limited: instances=5")


def test_two_gangs_and_addresses_for_one(cloud):
    cloud.pools("2001:db8:1::/61")
    cloud.host("h1", vcpus=50, memory=40960)
    cluster(cloud, "z", 1)
    placed(cloud, "z", 1)
    one_gets_all(cloud, 5, "PoolExhausted", "2 of 5 members can have addresses")
    assert {a["spec"]["owner"]["name"][0] for a in cloud.list("allocations")} < {"a", "b", "z"}
    assert len(cloud.list("allocations")) == 6 * 4, "a gang that waits has no values"


def test_quota(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=50, memory=40960)
    cloud.create("TenantQuota", "q", {"vcpus": 2}, "default")
    cluster(cloud, "c", 3)
    wait(cloud, "c", "Scheduled", "False", "QuotaExceeded", "requested: vcpus=3, used: vcpus=0, limited: vcpus=2")
    assert not members(cloud, "c"), "what is refused is not made"
    # The quota is still available to others.
    alone = [cloud.instance(), cloud.instance()]
    for n in alone:
        cloud.wait_condition(n, "Scheduled", "True", "Scheduled", 60)
    wait(cloud, "c", "Scheduled", "False", "QuotaExceeded", "used: vcpus=2")
    cloud.patch("tenantquotas", "q", {"spec": {"vcpus": 5}}, "default")
    placed(cloud, "c", 3)
    # Growth that is refused doesn't affect existing members.
    scale(cloud, "c", 4)
    wait(cloud, "c", "Scheduled", "False", "QuotaExceeded", "requested: vcpus=1")
    assert sorted(members(cloud, "c")) == ["c-0", "c-1", "c-2"]
    eventually("usage", 30, lambda: cloud.get("tenantquotas", "q", "default")["status"]["used"]["vcpus"] == 5)
    scale(cloud, "c", 3)
    wait(cloud, "c", "Scheduled", "True", "Scheduled")


def test_the_server_refuses(cloud):
    """The server counts an instance of unknown size, which the controller doesn't. Members made before the refusal are
    deleted."""
    cloud.pools()
    cloud.host("h1", vcpus=50, memory=40960)
    cloud.create("TenantQuota", "q", {"instances": 3}, "default")
    ghost = cloud.instance(type="ghost")
    cluster(cloud, "c", 3)
    wait(cloud, "c", "Scheduled", "False", "QuotaExceeded", "exceeded quota: q, requested: instances=1, used: instances=3")
    eventually("nothing of it is left", 60, lambda: not members(cloud, "c"))
    # The instance with the missing type has no addresses either.
    eventually("nor addresses", 30, lambda: not cloud.list("allocations"))
    # The controller doesn't try again and again meanwhile.
    made = cloud.log("controller").count('object=default/c error=')
    assert made < 10, made
    cloud.delete("instances", ghost, "default")
    placed(cloud, "c", 3)


def test_members_may_be_kept(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=50, memory=40960)
    cluster(cloud, "c", 2)
    before = {n: cloud.get("instances", n, "default")["metadata"]["uid"] for n in placed(cloud, "c", 2)}
    cloud.request("DELETE", f"{GROUP}/namespaces/default/clusters/c", {"propagationPolicy": "Orphan"})
    eventually("the cluster is gone", 60, lambda: cloud.get("clusters", "c", "default") is None)
    for n, uid in before.items():
        meta = cloud.get("instances", n, "default")["metadata"]
        assert meta["uid"] == uid and "deletionTimestamp" not in meta and not meta.get("ownerReferences")
    # The instances have no owner now.
    cluster(cloud, "c", 2)
    wait(cloud, "c", "Scheduled", "False", "NameTaken", "c-0")


def test_an_instance_that_a_tenant_gives_to_a_cluster(cloud):
    """It is not like the template, so it can't use what is kept for a member."""
    cloud.pools()
    cloud.host("h1", duration=600)
    cloud.create("InstanceType", "big", {"vcpus": 2, "memoryMiB": 256})
    cloud.instance("c-0", type="big", hostSelector={"no": "such"})
    uid = cluster(cloud, "c", 1)["metadata"]["uid"]
    wait(cloud, "c", "Scheduled", "False", "NameTaken")
    cloud.patch("instances", "c-0", {"metadata": {"ownerReferences": [
        {"apiVersion": "nacre.dev/v1alpha1", "kind": "Cluster", "name": "c", "uid": uid, "controller": True}]}}, "default")
    cloud.wait_condition("c-0", "Scheduled", "False", "Gathering")
    before = cloud.metric("nacre_controller_reconciles_total")
    time.sleep(1)  # thousands of looks would come now
    assert cloud.metric("nacre_controller_reconciles_total") - before < 50
    wait(cloud, "c", "Scheduled", "False", "NameTaken")
    cloud.delete("clusters", "c", "default")
    eventually("both are gone", 60, lambda: not cloud.list("clusters", "default") and not cloud.list("instances", "default"))


def test_a_name_that_is_taken(cloud):
    cloud.pools()
    cloud.host("h1", vcpus=50, memory=40960)
    cloud.instance("c-1")
    cloud.wait_condition("c-1", "Scheduled", "True", "Scheduled", 60)
    before = cloud.get("instances", "c-1", "default")
    cluster(cloud, "c", 2)
    wait(cloud, "c", "Scheduled", "False", "NameTaken", "Instance c-1 exists and is not a member of this Cluster")
    assert not members(cloud, "c")
    assert cloud.get("instances", "c-1", "default") == before
    # Deleting the cluster doesn't touch it either.
    cloud.delete("clusters", "c", "default")
    eventually("the cluster is gone", 60, lambda: cloud.get("clusters", "c", "default") is None)
    assert cloud.get("instances", "c-1", "default") == before
    cluster(cloud, "c", 2)
    wait(cloud, "c", "Scheduled", "False", "NameTaken")
    cloud.delete("instances", "c-1", "default")
    cloud.removed("c-1")
    placed(cloud, "c", 2)


def test_the_rest_of_a_gang_comes_first(cloud):
    """The state after a controller was killed while it bound a gang: some members have a host, some don't."""
    cloud.pools()
    cloud.host("h1", vcpus=4, memory=4096, duration=600)
    cluster(cloud, "c", 4)
    placed(cloud, "c", 4)
    cloud.stop("controller", signal.SIGKILL)
    for n in ("c-1", "c-3"):
        cloud.patch("instances", n, {"status": {"host": None, "vcpus": None, "memoryMiB": None}}, "default", "/status")
    # All of these need the same room. Older instances and lower names don't come first.
    older = [cloud.instance(f"a{n}") for n in range(3)]
    cluster(cloud, "aa", 2)
    cloud.start_controller("controller", "--no-leader-election")
    placed(cloud, "c", 4)
    for n in older:
        cloud.wait_condition(n, "Scheduled", "False", "Unschedulable", 60)
    wait(cloud, "aa", "Scheduled", "False", "Unschedulable", "0 of 2 members fit")


def test_killed_while_it_binds(bare):
    n = 200
    bare.pools("2001:db8:1::/48")
    for k in range(4):
        bare.host(f"h{k}", vcpus=60, memory=40960, duration=600)
    bare.start_controller("controller", "--no-leader-election")
    cluster(bare, "c", n)
    seen = []
    for target in (1, 50, 120):
        # When so many have a host, most of the other writes are under way.
        conn = UnixConnection(bare.sock)
        conn.request("GET", f"{GROUP}/namespaces/default/instances?watch=true")
        events, bound = conn.getresponse(), set()
        while len(bound) < target:
            i = json.loads(events.readline())["object"]
            if i.get("status", {}).get("host"):
                bound.add(i["metadata"]["name"])
        bare.stop("controller", signal.SIGKILL)
        conn.close()
        seen.append(sum(map(bool, members(bare, "c").values())))
        bare.start_controller("controller", "--no-leader-election")
    m = placed(bare, "c", n)
    assert min(seen) < n, "not once was it killed midway"
    assert max(collections.Counter(m.values()).values()) <= 60
    bare.delete("clusters", "c", "default")
    eventually("all are being deleted", 60, lambda: all("deletionTimestamp" in i["metadata"]
                                                        for i in bare.list("instances", "default")))
    for k in range(n):
        bare.removed(f"c-{k}")
    eventually("nothing is left", 60, lambda: not any(
        bare.list(*w) for w in (("instances", "default"), ("clusters", "default"), ("allocations",))))
