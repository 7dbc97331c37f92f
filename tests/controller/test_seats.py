# SPDX-License-Identifier: Apache-2.0
"""What happens between the choice of a place and the binding to it: requests that are slow, refused or lost."""

import json
import os
import signal
import threading
import time

import pytest
from conftest import ApiError, eventually
from proxy import LOSE, Proxy, refusal
from test_cluster import cluster, members, scale, wait


def host_of(cloud, name):
    return (cloud.get("instances", name, "default") or {}).get("status", {}).get("host")


def is_alloc(method, path):
    return method == "POST" and path.split("?")[0].endswith("/allocations")


def is_bind(method, path, body, name):
    return method == "PATCH" and f"/instances/{name}" in path and b'"host"' in body


@pytest.fixture
def through(bare):
    """Starts a controller whose requests go by RULE."""
    proxies = []

    def start(rule, election=False):
        sock = os.path.join(bare.dir, "proxy.sock")
        proxies.append(Proxy(sock, bare.sock, rule))
        more = [] if election else ["--no-leader-election"]
        bare.start_controller("controller", "--api", "unix:" + sock, *more)
        eventually("the controller acts", 10, lambda: "acting" in bare.log("controller"))
        return proxies[0]
    yield start
    for p in proxies:
        p.close()


def hold_allocations(go, begun):
    """A rule for the proxy: what creates an Allocation is noted in BEGUN and waits for GO."""
    def rule(method, path, _):
        if is_alloc(method, path) and not go.is_set():
            begun.append(path)
            return go
        return None
    return rule


def make_type_anew(cloud, vcpus):
    """The type gets another size, and the controller has seen that."""
    cloud.delete("instancetypes", "small")
    cloud.create("InstanceType", "small", {"vcpus": vcpus, "memoryMiB": 256})
    probe = cloud.instance()
    eventually("the new size is seen", 10,
               lambda: f"asked {vcpus}" in cloud.of_instance(probe, "Scheduled").get("message", ""))
    cloud.delete("instances", probe, "default")


def test_a_type_made_anew_larger(bare, through):
    """A seat is of no use for another size than it was kept for."""
    go, begun = threading.Event(), []
    bare.pools()
    bare.host("h1", vcpus=3, duration=600)
    through(hold_allocations(go, begun))
    try:
        bare.instance("a")
        cluster(bare, "c", 2)
        eventually("all take addresses", 10, lambda: len(begun) >= 12)
        make_type_anew(bare, 4)
    finally:
        go.set()
    bare.wait_condition("a", "Scheduled", "False", "Unschedulable")
    wait(bare, "c", "Scheduled", "False", "Unschedulable", "0 of 2 members fit")
    assert host_of(bare, "a") is None and not any(members(bare, "c").values())
    eventually("nothing that waits keeps values from others", 10, lambda: not bare.list("allocations"))


def test_who_waits_after_a_restart_gives_back_what_was_taken(bare, through):
    """A patch of the former controller that is still under way can't bind the instance to these values."""
    binds, never = [], threading.Event()

    def rule(method, path, body):
        if is_bind(method, path, body, "a"):
            binds.append(body)
            return never
    bare.pools()
    bare.host("h1", duration=600, unschedulable=True)
    through(rule)
    try:
        bare.instance("a")
        bare.wait_condition("a", "Scheduled", "False", "Unschedulable")
        bare.patch("hosts", "h1", {"spec": {"unschedulable": False}})
        eventually("it is being bound", 10, lambda: binds)
        assert len(bare.list("allocations")) == 4
        bare.stop("controller", signal.SIGKILL)
        bare.patch("hosts", "h1", {"spec": {"unschedulable": True}})
        bare.start_controller("controller", "--no-leader-election")
        eventually("nobody has Allocations", 10, lambda: not bare.list("allocations"))
        with pytest.raises(ApiError) as e:
            bare.patch("instances", "a", json.loads(binds[0]), "default", "/status")
        assert e.value.code == 409
    finally:
        never.set()
    eventually("its status says so", 10, lambda: "takes addresses when" in
               bare.of_instance("a", "AddressesAllocated").get("message", ""))
    bare.patch("hosts", "h1", {"spec": {"unschedulable": False}})
    eventually("it is placed", 10, lambda: host_of(bare, "a") == "h1")
    status = bare.get("instances", "a", "default")["status"]
    assert {x["spec"]["value"] for x in bare.list("allocations")} == {
        status[k] for k in ("prefix", "delegatedPrefix", "overlayAddress", "mac")}


def test_a_host_cordoned_while_a_seat_is_kept_on_it(bare, through):
    go, begun = threading.Event(), []
    bare.pools()
    bare.host("h1", duration=600)
    through(hold_allocations(go, begun))
    try:
        bare.instance("a")
        eventually("it takes addresses", 10, lambda: len(begun) >= 4)
        bare.patch("hosts", "h1", {"spec": {"unschedulable": True}})
        probe = bare.instance()
        bare.wait_condition(probe, "Scheduled", "False", "Unschedulable")
    finally:
        go.set()
    bare.wait_condition("a", "Scheduled", "False", "Unschedulable")
    assert host_of(bare, "a") is None


def test_a_gang_that_loses_seats_gives_its_room_to_others(bare, through):
    """Another gang that can use the room is woken at once, although it asks for as many places as the first gang
    lacks."""
    go, begun = threading.Event(), []
    bare.pools()
    for h in ("h1", "h2"):
        bare.host(h, vcpus=2, duration=600)
    through(hold_allocations(go, begun))
    try:
        cluster(bare, "a", 4)
        eventually("the members of a take addresses", 10, lambda: len(begun) >= 16)
        # The regular looks at what waits come to each only once in 50 ms times their number.
        others = [bare.instance(f"w{n}", hostSelector={"no": "such"}) for n in range(800)]
        cluster(bare, "b", 2)
        wait(bare, "b", "Scheduled", "False", "Unschedulable")
        bare.wait_condition(others[-1], "Scheduled", "False", "Unschedulable")
        bare.silence("h2")
        bare.delete("hosts", "h2")
        probe = bare.instance(hostSelector={"no": "such"})
        bare.wait_condition(probe, "Scheduled", "False", "Unschedulable")
        assert "0 of 1 host " in bare.of_instance(probe, "Scheduled")["message"]
        begun.clear()
        bare.patch("clusters", "a", {"metadata": {"annotations": {"look": "again"}}}, "default")
        since = time.monotonic()
        eventually("the members of b take addresses", 10, lambda: len(begun) >= 8)
        assert time.monotonic() - since < 30  # 40 s with the regular looks only
        assert not any(members(bare, "a").values())
    finally:
        go.set()
    eventually("b is placed", 10, lambda: all(members(bare, "b").values()))


def test_a_seat_given_back_while_its_binding_is_under_way(bare, through):
    """A place that may be taken already goes to nobody else."""
    go, seen = threading.Event(), set()

    def rule(method, path, body):
        if is_bind(method, path, body, "c-"):
            seen.add(b"h1" if b'"host":"h1"' in body else b"h2")
            return go if b'"host":"h1"' in body else refusal(403, "Forbidden")
    bare.pools()
    for h in ("h1", "h2"):
        bare.host(h, vcpus=1, duration=600)
    through(rule)
    try:
        cluster(bare, "c", 2)
        eventually("both are being bound", 10, lambda: len(seen) == 2)
        bare.instance("y")
        bare.wait_condition("y", "Scheduled", "False", "Unschedulable")
        bare.silence("h2")
        bare.delete("hosts", "h2")
        eventually("the seats are given back", 30, lambda: host_of(bare, "y") or "may have been bound" in
                   bare.condition("clusters", "c", "Scheduled", "default")["message"])
    finally:
        go.set()
    eventually("the slow binding has arrived", 10, lambda: any(members(bare, "c").values()))
    wait(bare, "c", "Scheduled", "False", "Unschedulable", "0 of 1 members fit")
    assert host_of(bare, "y") is None


def test_a_binding_whose_answer_is_lost(bare, through):
    """The server is asked what has become of it, and is not sent the same again and again."""
    binds = []

    def rule(method, path, body):
        if not is_bind(method, path, body, "a"):
            return None
        if not binds:
            proxy.flow.clear()
        binds.append(path)
        return LOSE if len(binds) == 1 else None
    bare.pools()
    bare.host("h1", vcpus=1, duration=600)
    proxy = through(rule)
    bare.instance("a")
    eventually("it is bound", 10, lambda: host_of(bare, "a"))
    time.sleep(2)  # repeated bindings would come now
    assert len(binds) <= 2  # the client itself repeats a request on a new connection
    proxy.flow.set()
    bare.instance("b")
    bare.wait_condition("b", "Scheduled", "False", "Unschedulable")


def test_a_binding_that_arrives_after_it_was_asked_for(bare, through):
    """The answer that an instance is not bound would be of no use if it could be bound after that."""
    binds = []

    def rule(method, path, body):
        if is_bind(method, path, body, "a"):
            binds.append(json.loads(body))
            raise ConnectionResetError
    bare.pools()
    bare.host("h1", vcpus=1, duration=600)
    bare.patch("hosts", "h1", {"metadata": {"labels": {"only": "h1"}}})
    proxy = through(rule)
    bare.instance("a")
    eventually("a is being bound", 10, lambda: binds)
    bare.host("h2", vcpus=8, memory=100000, duration=600)
    bare.instance("b", hostSelector={"only": "h1"})
    eventually("a has another place now", 30, lambda: binds[-1]["status"]["host"] == "h2")
    eventually("b has the place that a had", 10, lambda: host_of(bare, "b") == "h1")
    with pytest.raises(ApiError) as e:
        bare.patch("instances", "a", binds[0], "default", "/status")
    assert e.value.code == 409
    proxy.rule = lambda *_: None
    eventually("a is bound", 30, lambda: host_of(bare, "a") == "h2")


@pytest.mark.parametrize("code", [403, 500])
def test_bindings_that_always_fail_keep_nobody_waiting(bare, through, code):
    bare.pools("2001:db8:1::/48")
    bare.host("h1", vcpus=1000, memory=1000000, duration=600)
    bare.host("h2", vcpus=1, duration=600)
    bare.patch("hosts", "h2", {"metadata": {"labels": {"special": "1"}}})
    through(lambda method, path, body: refusal(code, "X") if is_bind(method, path, body, "bad") else None)
    special = {"hostSelector": {"special": "1"}}
    bare.instance("v", **special)
    bare.wait_condition("v", "Scheduled", "True", "Scheduled")
    bare.instance("w", **special)
    bare.wait_condition("w", "Scheduled", "False", "Unschedulable")
    bad = 0
    while not host_of(bare, "w") and bad < 100:
        bare.instance(f"bad{bad}")
        bad += 1
        if bad == 10:
            bare.removed("v")
            bare.delete("instances", "v", "default")
        time.sleep(0.2)
    assert bad < 100


def test_scaled_down_while_it_is_being_bound(bare, through):
    """A member that is not wanted any more is not bound while it waits for its deletion."""
    go, go_delete, begun, deletes = threading.Event(), threading.Event(), [], []

    hold = hold_allocations(go, begun)

    def rule(method, path, body):
        if method == "DELETE" and "/instances/" in path:
            deletes.append(path)
            return go_delete
        return hold(method, path, body)
    bare.pools()
    bare.host("h1", vcpus=12, memory=100000, duration=600)
    through(rule)
    try:
        cluster(bare, "c", 12)
        eventually("all take addresses", 10, lambda: len(begun) >= 48)
        scale(bare, "c", 1)
        eventually("deletions have begun", 10, lambda: deletes)
        go.set()
        eventually("the first member is bound", 10, lambda: host_of(bare, "c-0"))
        time.sleep(1)  # the others would be bound now
        assert [n for n, h in members(bare, "c").items() if h] == ["c-0"]
    finally:
        go.set()
        go_delete.set()
    eventually("one is left", 30, lambda: list(members(bare, "c")) == ["c-0"])


def test_what_was_admitted_before_another_leader_came(bare):
    """A controller that stops leading forgets what it has admitted but not placed."""
    bare.pools()
    bare.start_controller("one")
    eventually("one acts", 10, lambda: "acting" in bare.log("one"))
    bare.instance("z")
    bare.wait_condition("z", "Scheduled", "False", "Unschedulable")
    for name in ("a", "b"):
        bare.instance(name, type="of-" + name)
        bare.wait_condition(name, "Scheduled", "False", "InstanceTypeMissing")
    bare.create("TenantQuota", "q", {"instances": 1}, "default")
    bare.start_controller("two")
    eventually("two is ready", 10, lambda: "connected" in bare.log("two"))
    bare.kill("one", signal.SIGSTOP)
    eventually("two acts", 15, lambda: "acting" in bare.log("two"))
    bare.delete("instancetypes", "small")
    bare.wait_condition("z", "Scheduled", "False", "InstanceTypeMissing")
    bare.host("h1", duration=600)
    bare.create("InstanceType", "of-a", {"vcpus": 1, "memoryMiB": 256})
    bare.wait_condition("a", "Scheduled", "True", "Scheduled")
    bare.create("InstanceType", "small", {"vcpus": 1, "memoryMiB": 256})
    bare.wait_condition("z", "Scheduled", "False", "QuotaExceeded")
    bare.kill("one", signal.SIGCONT)
    eventually("one stands by", 10, lambda: "standing by" in bare.log("one"))
    bare.stop("two")
    eventually("one acts again", 15, lambda: bare.log("one").count('msg="acting"') == 2)
    bare.create("InstanceType", "of-b", {"vcpus": 1, "memoryMiB": 256})
    bare.wait_condition("b", "Scheduled", "False", "QuotaExceeded")
    time.sleep(1)  # z would be placed now
    assert bare.of_instance("z", "Scheduled")["reason"] == "QuotaExceeded" and host_of(bare, "z") is None


class Leaderless:
    """A rule for the proxy. While `lost` is set the controller can't renew its lease. Bindings of instances whose names
    begin with NAME are noted in `binds` and wait for `go`; then they pass, or `answer` is the answer. What is written
    of a Cluster meanwhile waits, too."""

    def __init__(self, name, answer=None):
        self.name, self.answer, self.binds = name, answer, []
        self.lost, self.go = threading.Event(), threading.Event()

    def __call__(self, method, path, body):
        if method != "GET" and "/leases/nacre-controller" in path and self.lost.is_set():
            return refusal(503, "ServiceUnavailable")
        if is_bind(method, path, body, self.name) and not self.go.is_set():
            self.binds.append(path)
            self.go.wait()
            return self.answer
        return self.go if b"they are being bound" in body else None

    def lose(self, cloud):
        """The controller stands by, and then acts again."""
        self.lost.set()
        eventually("it stands by", 20, lambda: 'msg="standing by"' in cloud.log("controller"))
        self.lost.clear()
        eventually("it acts again", 20, lambda: cloud.log("controller").count('msg="acting"') == 2)


def test_the_lease_is_lost_while_a_place_is_being_taken(bare, through):
    rule = Leaderless("a")
    bare.pools()
    bare.host("h1", vcpus=1, duration=600)
    through(rule, election=True)
    try:
        bare.instance("a")
        eventually("a is being bound", 10, lambda: rule.binds)
        rule.lose(bare)
        bare.instance("b")
        bare.wait_condition("b", "Scheduled", "False", "Unschedulable")
    finally:
        rule.go.set()
    eventually("the slow binding has arrived", 10, lambda: host_of(bare, "a"))
    assert host_of(bare, "b") is None


@pytest.mark.parametrize("gang", [False, True])
def test_the_lease_is_lost_while_quota_is_being_used(bare, through, gang):
    rule = Leaderless("a")
    names = ["a-0", "a-1"] if gang else ["a"]
    bare.pools()
    bare.host("h1", vcpus=10, memory=100000, duration=600)
    through(rule, election=True)
    try:
        if gang:
            cluster(bare, "a", 2)
        else:
            bare.instance("a")
        eventually("all are being bound", 10, lambda: len(rule.binds) == len(names))
        bare.instance("b", type="later")
        bare.create("TenantQuota", "q", {"instances": len(names)}, "default")
        rule.lose(bare)
        bare.create("InstanceType", "later", {"vcpus": 1, "memoryMiB": 256})
        bare.wait_condition("b", "Scheduled", "False", "QuotaExceeded")
    finally:
        rule.go.set()
    eventually("the slow bindings have arrived", 10, lambda: all(host_of(bare, n) for n in names))
    assert host_of(bare, "b") is None


def test_quota_that_another_leader_has_given_away(bare, through):
    """What the controller admitted before it lost its lease is admitted anew when its binding has failed."""
    rule = Leaderless("a", answer=refusal(403, "Forbidden"))
    bare.pools()
    bare.host("h1", vcpus=10, memory=100000, duration=600)
    through(rule, election=True)
    try:
        bare.instance("a")
        eventually("a is being bound", 10, lambda: rule.binds)
        bare.instance("b", type="later")
        bare.create("TenantQuota", "q", {"instances": 1}, "default")
        bare.wait_condition("b", "Scheduled", "False", "InstanceTypeMissing")
        rule.lose(bare)
        bare.patch("instances", "b", {"status": {"host": "h1"}}, "default", "/status")
        eventually("both are charged", 10, lambda: (bare.get("tenantquotas", "q", "default").get("status") or {})
                   .get("used", {}).get("instances") == 2)
    finally:
        rule.go.set()
    bare.wait_condition("a", "Scheduled", "False", "QuotaExceeded")
    assert host_of(bare, "a") is None


def test_a_member_that_is_refused_when_its_cluster_is_gone(bare, through):
    """The refusal says nothing about a later Cluster of the same name."""
    go, begun, refused = threading.Event(), [], []

    def rule(method, path, body):
        if method == "POST" and path.split("?")[0].endswith("/instances") and not go.is_set():
            begun.append(path)
            go.wait()
            return refusal(403, "Forbidden")
        if b'"Refused"' in body:
            refused.append(path)
        return None
    bare.pools()
    bare.host("h1", duration=600)
    through(rule)
    try:
        cluster(bare, "c", 1)
        eventually("its member is being created", 10, lambda: begun)
        bare.patch("clusters", "c", {"metadata": {"finalizers": None}}, "default")
        bare.delete("clusters", "c", "default")
        cluster(bare, "later", 0)
        wait(bare, "later", "Scheduled", "True", "Scheduled")
        assert bare.get("clusters", "c", "default") is None
    finally:
        go.set()
    eventually("the refusal has arrived", 10, lambda: "queue=clusters object=default/c " in bare.log("controller"))
    cluster(bare, "c", 1)
    wait(bare, "c", "Scheduled", "True", "Scheduled")
    assert not refused


def test_an_instance_with_quota_of_its_own_that_is_given_to_a_cluster(bare, through):
    """When it is bound the gang's charge stays as it is."""
    go, never, slow, begun, writes = threading.Event(), threading.Event(), threading.Event(), [], []
    hold = hold_allocations(go, begun)

    def rule(method, path, body):
        if slow.is_set() and not go.is_set() and path.split("?")[0].endswith("/clusters/c/status"):
            writes.append(path)
            return never
        return hold(method, path, body)
    bare.pools()
    bare.create("InstanceType", "big", {"vcpus": 16, "memoryMiB": 256})
    bare.host("h1", duration=600)
    through(rule)
    try:
        uid = cluster(bare, "c", 2, type="big")["metadata"]["uid"]
        wait(bare, "c", "Scheduled", "False", "Unschedulable", "0 of 2 members fit")
        bare.instance("x")
        eventually("x takes addresses", 10, lambda: len(begun) == 4)
        bare.instance("y", type="later")
        bare.wait_condition("y", "Scheduled", "False", "InstanceTypeMissing")
        bare.create("TenantQuota", "q", {"instances": 3}, "default")
        bare.patch("instances", "x", {"metadata": {"ownerReferences": [
            {"apiVersion": "nacre.dev/v1alpha1", "kind": "Cluster", "name": "c", "uid": uid, "controller": True}]}}, "default")
        # The Cluster isn't looked at meanwhile: a look corrects its charge.
        slow.set()
        bare.host("h2", duration=600, unschedulable=True)
        bare.patch("clusters", "c", {"metadata": {"annotations": {"look": "again"}}}, "default")
        eventually("the Cluster is being written", 10, lambda: writes)
        bare.create("InstanceType", "later", {"vcpus": 1, "memoryMiB": 256})
        bare.wait_condition("y", "Scheduled", "False", "QuotaExceeded")
        go.set()
        eventually("x is bound", 10, lambda: host_of(bare, "x"))
        time.sleep(1)  # y would be placed now
        assert host_of(bare, "y") is None
    finally:
        go.set()
        never.set()
