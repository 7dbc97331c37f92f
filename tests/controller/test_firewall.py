# SPDX-License-Identifier: Apache-2.0
"""Firewalls: the groups of instances in the status of their Endpoints, and the status of Firewalls."""

import hashlib
import json
import os
import time

import pytest
from conftest import eventually
from proxy import Proxy

WEB = {"matchLabels": {"app": "web"}}
DB = {"matchLabels": {"app": "db"}}


def group(text, ns="default"):
    return hashlib.sha256(f"{ns}\n{text}".encode()).hexdigest()[:32]


IS_WEB, IS_DB = group("app in (web)"), group("app in (db)")


def firewall(cloud, name, instances=None, ns="default", **spec):
    cloud.create("Firewall", name, {"instances": instances or {}, **spec}, ns)


def peers(*selectors):
    return {"ingress": [{"peers": s} for s in selectors]}


def status(cloud, name):
    return (cloud.get("firewalls", name, "default") or {}).get("status", {})


def applied(cloud, name):
    return cloud.condition("firewalls", name, "Applied", "default")


def bare_instance(cloud, name, labels=None):
    """An instance that the agent of h1 has announced, without the help of the controller."""
    made = cloud.create("Instance", name, {"type": "small", "image": "lab"}, "default", labels=labels or {})
    uid = made["metadata"]["uid"]
    cloud.patch("instances", name, {"status": {"id": uid, "host": "h1"}}, "default", "/status")
    announce(cloud, name)
    return uid


def announce(cloud, name):
    uid = cloud.get("instances", name, "default")["metadata"]["uid"]
    cloud.endpoint("i-" + uid, "h1", {"kind": "Instance", "namespace": "default", "name": name, "uid": uid}, routes=[])


def endpoint(cloud, name):
    uid = cloud.get("instances", name, "default")["metadata"]["uid"]
    return cloud.get("endpoints", "i-" + uid)


def groups(cloud, name):
    return (endpoint(cloud, name) or {}).get("status", {}).get("groups", [])


def label(cloud, name, **labels):
    cloud.patch("instances", name, {"metadata": {"labels": labels}}, "default")


def has(cloud, name, *ids, seconds=10):
    eventually(f"{name} is in {len(ids)} groups: {groups(cloud, name)}", seconds, lambda: groups(cloud, name) == sorted(ids))


@pytest.fixture
def h1(bare):
    """The API server and a Host; whoever needs a controller starts it, which places nothing."""
    bare.host("h1", duration=600)
    return bare


def start(cloud, *more):
    cloud.start_controller("controller", "--no-leader-election", *more)


def test_groups_follow(h1):
    bare_instance(h1, "a", {"app": "web"})
    bare_instance(h1, "b")
    start(h1)
    firewall(h1, "f", **peers(WEB, DB))
    has(h1, "a", IS_WEB)
    assert groups(h1, "b") == []
    label(h1, "b", app="db")
    has(h1, "b", IS_DB)
    label(h1, "a", app="db")
    has(h1, "a", IS_DB)
    # The same peers in another form are the same group.
    firewall(h1, "g", **peers({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "db"]}]}, {}))
    has(h1, "a", IS_DB, group(""))
    h1.delete("firewalls", "f", "default")
    eventually("g is looked at", 10, lambda: applied(h1, "g").get("status") == "True")
    has(h1, "a", IS_DB, group(""))
    h1.patch("firewalls", "g", {"spec": peers(WEB)}, "default")
    has(h1, "a")
    label(h1, "b", app="web", other="x")
    has(h1, "b", IS_WEB)
    h1.delete("firewalls", "g", "default")
    has(h1, "b")


def test_egress_rules_have_groups(h1):
    bare_instance(h1, "a", {"app": "web"})
    start(h1)
    firewall(h1, "f", egress=[{"peers": WEB}], defaultEgress="deny")
    has(h1, "a", IS_WEB)


def test_other_namespaces(h1):
    bare_instance(h1, "a", {"app": "web"})
    start(h1)
    h1.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    firewall(h1, "f", ns="other", **peers(WEB))
    firewall(h1, "g", **peers(DB))
    eventually("both are looked at", 10, lambda: applied(h1, "g"))
    assert groups(h1, "a") == []


def test_endpoints_that_come_later(h1):
    uid = bare_instance(h1, "a", {"app": "web"})
    firewall(h1, "f", **peers(WEB))
    start(h1)
    has(h1, "a", IS_WEB)
    h1.delete("endpoints", "i-" + uid)
    announce(h1, "a")
    has(h1, "a", IS_WEB)
    # Somebody who may has taken the status away.
    h1.patch("endpoints", "i-" + uid, {"status": {"groups": [group("x")]}}, sub="/status")
    has(h1, "a", IS_WEB)


def test_only_the_instance_on_its_host(h1):
    """On a kube-apiserver another agent may announce an Endpoint with the name of the instance's, for a moment."""
    h1.host("h2", duration=600)
    uid = bare_instance(h1, "a", {"app": "web"})
    firewall(h1, "f", **peers(WEB))
    start(h1)
    has(h1, "a", IS_WEB)
    h1.patch("instances", "a", {"status": {"host": "h2"}}, "default", "/status")
    eventually("it is in none", 10, lambda: not (h1.get("endpoints", "i-" + uid) or {}).get("status", {}).get("groups"))


def test_none_for_a_false_claim(h1):
    """On a kube-apiserver an agent may announce what its instance wasn't given, until the controller removes it."""
    made = h1.create("Instance", "a", {"type": "small", "image": "lab"}, "default", labels={"app": "web"})
    h1.patch("instances", "a", {"status": {"id": made["metadata"]["uid"], "host": "h1", "overlayAddress": "fd00:1::7777",
                                           "mac": "02:4e:01:77:77:77", "prefix": "2001:db8:1:77::/64"}}, "default", "/status")
    uid = made["metadata"]["uid"]
    h1.endpoint(f"i-{uid}", "h1", {"kind": "Instance", "namespace": "default", "name": "a", "uid": uid},
                routes=[{"prefix": "2001:db8:1:77::/64"}, {"prefix": "2001:db8:1:66::/64"}])
    firewall(h1, "f", **peers(WEB))
    writes = []
    proxy = Proxy(os.path.join(h1.dir, "proxy.sock"), h1.sock, lambda method, path, body: writes.append(
        (method, path)) if "/endpoints/" in path else None)
    try:
        start(h1, "--api", "unix:" + os.path.join(h1.dir, "proxy.sock"))
        eventually("it goes", 60, lambda: endpoint(h1, "a") is None)
    finally:
        proxy.close()
    assert {method for method, _ in writes} & {"PUT", "PATCH"} == set(), writes


def test_status(h1):
    for name in ("a", "b"):
        bare_instance(h1, name, {"app": "web"})
    start(h1)
    firewall(h1, "f", instances=WEB)
    eventually("it selects both", 10, lambda: status(h1, "f").get("instances") == 2)
    c = applied(h1, "f")
    assert (c["status"], c["reason"], c.get("message", ""), c["observedGeneration"]) == ("True", "Applied", "", 1)
    assert status(h1, "f")["observedGeneration"] == 1
    label(h1, "b", app="db")
    eventually("it selects one", 20, lambda: status(h1, "f")["instances"] == 1)
    h1.delete("instances", "a", "default")
    h1.removed("a")
    eventually("it selects none", 20, lambda: status(h1, "f")["instances"] == 0)
    h1.patch("firewalls", "f", {"spec": {"instances": DB}}, "default")
    eventually("it selects the other", 20, lambda: (s := status(h1, "f"))["instances"] == 1 and s["observedGeneration"] == 2)


def prefixes(n, rules=20):
    return [{"prefixes": [f"10.{k >> 8}.{k & 255}.{i}/32" for k in range(n // rules)]} for i in range(rules)]


def test_limit_of_elements(h1):
    for name in ("a", "b"):
        bare_instance(h1, name, {"app": "web"})
    start(h1)
    # The more rules the more time between two writes of a status, so the Firewall whose status is read again is the small one.
    firewall(h1, "f", ingress=prefixes(19900))
    firewall(h1, "g", instances=WEB, ingress=prefixes(120))
    eventually("it exceeds the limit", 20, lambda: applied(h1, "g").get("reason") == "LimitExceeded")
    assert applied(h1, "g")["message"] == (
        "instance a: with it and the Firewalls before it in order of name it has 20020 prefixes and peers in ingress rules "
        "(some ranges of ports count several times), and the limit is 20000; merge rules, or select fewer instances (and 1 other instances)")
    eventually("f is applied", 60, lambda: applied(h1, "f").get("status") == "True")
    label(h1, "a", app="db")
    eventually("the next instance is named", 60, lambda: applied(h1, "g")["message"].startswith("instance b: "))
    h1.patch("firewalls", "f", {"spec": {"ingress": prefixes(19880)}}, "default")
    eventually("both are applied", 60, lambda: applied(h1, "g")["status"] == "True")


def test_limit_of_firewalls(h1):
    bare_instance(h1, "a")
    start(h1)
    for n in range(34):
        firewall(h1, f"f{n:02}", ingress=[{}])
    eventually("the last ones exceed it", 20, lambda: [
        n for n in range(34) if "34 Firewalls select it" in applied(h1, f"f{n:02}").get("message", "")] == [32, 33])
    h1.delete("firewalls", "f00", "default")
    eventually("one moves up", 20, lambda: applied(h1, "f32").get("status") == "True")
    assert applied(h1, "f33")["status"] == "False"


def test_limit_of_groups_of_an_instance(h1):
    """An instance that matches more than 64 peers is in those of the first Firewalls; the others say so."""
    bare_instance(h1, "a", {"app": "web"})
    start(h1)

    def others(n):
        return [{"matchExpressions": [{"key": f"k{n}-{i}", "operator": "DoesNotExist"}]} for i in range(30)]
    for n in (3, 2, 1):
        firewall(h1, f"f{n}", instances={"matchLabels": {"none": "x"}}, **peers(*others(n)))
    want = [group(f"!k{n}-{i}") for n in (1, 2) for i in range(30)]
    eventually("it is full", 20, lambda: len(groups(h1, "a")) == 64 and set(want) <= set(groups(h1, "a")))
    eventually("the last one says so", 20, lambda: applied(h1, "f3").get("reason") == "LimitExceeded")
    assert applied(h1, "f3")["message"].startswith("instance a is one of the peers of a rule, but ")
    assert applied(h1, "f2")["status"] == "True"
    h1.delete("firewalls", "f1", "default")
    eventually("there is room", 20, lambda: set(groups(h1, "a")) == {group(f"!k{n}-{i}") for n in (2, 3) for i in range(30)})
    eventually("all is well", 20, lambda: applied(h1, "f3").get("status") == "True")


def test_too_many_peers_in_one_firewall(h1):
    bare_instance(h1, "a", {"app": "web"})
    start(h1)
    firewall(h1, "f", **peers(WEB, *({"matchLabels": {"n": str(n)}} for n in range(32))))
    eventually("it says so", 10, lambda: applied(h1, "f").get("reason") == "LimitExceeded")
    assert "33 different peers" in applied(h1, "f")["message"] and groups(h1, "a") == []


def test_what_the_agent_refuses(h1):
    bare_instance(h1, "a", {"app": "web"})
    bare_instance(h1, "b", {"app": "db"})
    start(h1)
    firewall(h1, "f", instances=WEB)
    firewall(h1, "g", instances=DB)

    def says(**condition):
        h1.patch("instances", "a", {"status": {"conditions": [{
            "type": "FirewallApplied", "lastTransitionTime": "2026-01-01T00:00:00Z", **condition}]}}, "default", "/status")
    says(status="False", reason="Refused", message="the kernel says: no")
    eventually("f says so", 20, lambda: applied(h1, "f").get("reason") == "Refused")
    assert applied(h1, "f")["message"] == "instance a: the kernel says: no"
    assert applied(h1, "g")["status"] == "True"
    says(status="True", reason="Applied")
    eventually("all is well", 20, lambda: applied(h1, "f").get("status") == "True")


def counted(cloud, name, *rows):
    cloud.patch("instances", name, {"status": {"firewall": {"rules": [
        {"firewall": f, "direction": "ingress", "rule": r, "packets": p, "bytes": 10 * p} for f, r, p in rows]}}},
        "default", "/status")


def test_counters(h1):
    for name in ("a", "b"):
        bare_instance(h1, name)
    counted(h1, "a", ("f", "ssh", 5), ("f", "0", 7), ("other", "0", 100))
    counted(h1, "b", ("f", "ssh", 6))
    writes = []
    proxy = Proxy(os.path.join(h1.dir, "proxy.sock"), h1.sock, lambda method, path, body: writes.append(
        json.loads(body)) if method == "PATCH" and "/firewalls/" in path else None)
    try:
        start(h1, "--api", "unix:" + os.path.join(h1.dir, "proxy.sock"))
        firewall(h1, "f", ingress=[{}, {"name": "ssh"}])
        eventually("they are summed", 10, lambda: status(h1, "f").get("rules") == [
            {"direction": "ingress", "rule": "ssh", "packets": 11, "bytes": 110},
            {"direction": "ingress", "rule": "0", "packets": 7, "bytes": 70}])
        for n in range(20):
            counted(h1, "b", ("f", "ssh", 100 + n))
        h1.patch("firewalls", "f", {"spec": {"ingress": [{}]}}, "default")
        eventually("the status is of the new rules", 20, lambda: status(h1, "f")["observedGeneration"] == 2)
        assert status(h1, "f")["rules"][0]["packets"] == 11  # the minute is not over
        assert len(writes) == 2
    finally:
        proxy.close()


def test_a_restart_writes_nothing(h1):
    for n in range(20):
        bare_instance(h1, f"i{n}", {"app": "web"})
    counted(h1, "i3", ("f", "0", 7))
    firewall(h1, "f", **peers(WEB, {}))
    firewall(h1, "g", instances=WEB, **peers(*({"matchLabels": {"n": str(n)}} for n in range(33))))
    start(h1)
    eventually("all is written", 20, lambda: applied(h1, "f") and applied(h1, "g") and all(
        len(groups(h1, f"i{n}")) == 2 for n in range(20)))

    def versions():
        return {o["metadata"]["name"]: o["metadata"]["resourceVersion"]
                for kind in ("firewalls", "endpoints") for o in h1.list(kind)}
    before = versions()
    h1.stop("controller")
    start(h1)
    eventually("it has looked at all", 10, lambda: h1.log("controller").count("acting") == 2)
    label(h1, "i0", app="db")
    has(h1, "i0", group(""))
    time.sleep(1)
    after = versions()
    changed = {name for name in after if before[name] != after[name]}
    assert changed <= {endpoint(h1, "i0")["metadata"]["name"], "g"}


def test_a_label_that_changes_all_the_time(h1):
    """Its Endpoint, which every host watches, is written at most once a second; others aren't delayed."""
    bare_instance(h1, "a")
    bare_instance(h1, "b")
    firewall(h1, "f", **peers(WEB))
    writes = []
    proxy = Proxy(os.path.join(h1.dir, "proxy.sock"), h1.sock, lambda method, path, body: writes.append(
        path) if method == "PATCH" and "/endpoints/" in path else None)
    try:
        start(h1, "--api", "unix:" + os.path.join(h1.dir, "proxy.sock"))
        eventually("it acts", 10, lambda: applied(h1, "f"))
        began = time.monotonic()
        for n in range(100):
            label(h1, "a", app="web" if n % 2 == 0 else "db")
        label(h1, "b", app="web")
        label(h1, "a", app="web")
        has(h1, "b", IS_WEB)
        has(h1, "a", IS_WEB)
        took = time.monotonic() - began
    finally:
        proxy.close()
    assert sum(endpoint(h1, "a")["metadata"]["name"] in p for p in writes) <= took + 2
