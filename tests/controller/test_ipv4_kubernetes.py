# SPDX-License-Identifier: Apache-2.0
"""Public IPv4 on a real kube-apiserver, with the roles that the controller has there."""

import json
import os
import subprocess
import time

import pytest
from conftest import BIN, GROUP, ROOT, eventually
from harness import MORTAL, patient
from test_quota_kubernetes import INSTANCES, ask, inventory, kube, thing  # noqa: F401 (kube: a fixture)

MERGE = "application/merge-patch+json"


def test_addresses_slices_and_records(kube, tmp_path):  # noqa: F811
    conn = kube.connect()
    inventory(conn, 1000)
    for obj in (thing("AddressPool", "s", {"use": "shared", "prefix": "198.51.100.2/31"}),
                thing("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.0/30", "quarantineSeconds": 60})):
        ask(conn, "POST", f"{GROUP}/addresspools", obj)
    ask(conn, "POST", f"{GROUP}/namespaces/default/tenantquotas", thing("TenantQuota", "q", {"dedicatedIPv4": 1}))
    for name, ipv4 in (("a", "shared"), ("b", "dedicated"), ("c", "dedicated"), ("d", "none")):
        ask(conn, "POST", INSTANCES, thing("Instance", name, {
            "type": "small", "image": "i", "ipv4": ipv4,
            **({"forwards": [{"protocol": "tcp", "targetPort": 22}]} if ipv4 == "shared" else {})}, namespace="default"))

    def status(name):
        return ask(conn, "GET", f"{INSTANCES}/{name}").get("status", {})

    def conditions(name):
        return {c["type"]: c["reason"] for c in status(name).get("conditions", [])}

    def wants(n):
        ask(conn, "PATCH", f"{INSTANCES}/a/status", {"status": {"portSlicesWanted": n}}, MERGE)
        eventually(f"it has {n}", 20, lambda: len(status("a")["portSlices"]) == n)

    def announce():
        """As the agent: makes a's Endpoint what its status says."""
        st = status("a")
        name = "i-" + st["id"]
        routes = [{"prefix": s["address"] + "/32", "firstPort": s["firstPort"], "lastPort": s["lastPort"]}
                  for s in st["portSlices"]]
        if any(e["metadata"]["name"] == name for e in ask(conn, "GET", f"{GROUP}/endpoints")["items"]):
            ask(conn, "PATCH", f"{GROUP}/endpoints/{name}", {"spec": {"routes": routes}}, MERGE)
            return
        vtep = ask(conn, "GET", f"{GROUP}/hosts/{st['host']}")["spec"]["vtep"]
        ask(conn, "POST", f"{GROUP}/endpoints", thing("Endpoint", name, {
            "host": st["host"], "vtep": vtep, "ip": st["overlayAddress"], "mac": st["mac"], "routes": routes,
            "owner": {"kind": "Instance", "namespace": "default", "name": "a", "uid": st["id"]}}))

    def records():
        return {r["spec"]["value"]: r["spec"]["owner"]["name"] for r in ask(conn, "GET", f"{GROUP}/allocationrecords")["items"]}

    def whois(*words):
        return subprocess.run([os.path.join(BIN, "nacre"), "whois", "--kubeconfig", kube.kubeconfig("admin", ("system:masters",)),
                               *words], capture_output=True, text=True, timeout=60, check=False)
    with open(tmp_path / "controller.log", "w") as log:
        controller = subprocess.Popen([*MORTAL, os.path.join(BIN, "nacre-controller"), "--kubeconfig",
                                       kube.kubeconfig("system:nacre:controller", ()), "--identity", "c"], stderr=log)
    try:
        eventually("three are placed", 30, lambda: sum("host" in status(n) for n in "abcd") == 3)
        waits = "b" if "host" not in status("b") else "c"
        eventually("one exceeds the quota", 10, lambda: conditions(waits).get("Scheduled") == "QuotaExceeded")
        ip = status("a")["publicIPv4"]
        assert status("a")["forwards"] == [{"protocol": "tcp", "targetPort": 22, "address": ip, "port": 1024}]
        wants(2)
        announce()
        wants(1)
        announce()
        second = f"{ip}:1536-2047"
        eventually("the second is recorded", 10, lambda: second in records())
        assert "default/a  " in whois(ip, "1100").stdout
        had = {n: status(n)["publicIPv4"] for n in "bc" if n != waits}
        for n in ("a", *had):
            ask(conn, "DELETE", f"{INSTANCES}/{n}")
            ask(conn, "PATCH", f"{INSTANCES}/{n}/status", {"status": {"phase": "Removed"}}, MERGE)
        eventually("all is recorded", 20, lambda: {f"{ip}:1024-1535", second, *had.values()} <= set(records()))
        eventually("there is quota again", 20, lambda: "host" in status(waits))
        p = whois(ip, "1100")
        assert p.returncode == 3 and "default/a had it until" in p.stderr
    finally:
        controller.terminate()
        controller.wait(patient(15))


def test_balancers_announce_shared_pools_only(kube, tmp_path):  # noqa: F811
    """The policy refuses what no pool can be; the controller removes what no pool with use shared is."""
    conn = kube.connect()
    inventory(conn, 1000)
    kube.kubectl("apply", "--server-side", "-f", os.path.join(ROOT, "deploy", "admission.yaml"))
    for obj in (thing("Host", "l1", {"vtep": "fd00:a::9", "role": "balancer"}),
                thing("AddressPool", "s", {"use": "shared", "prefix": "198.51.100.0/24"}),
                thing("AddressPool", "own", {"use": "dedicated", "prefix": "203.0.113.0/24"})):
        ask(conn, "POST", f"{GROUP}/{obj['kind'].lower()}s", obj)

    ask(conn, "POST", "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases", {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "host-l1"},
        "spec": {"holderIdentity": "l1", "leaseDurationSeconds": 600}})

    def announce(*prefixes):
        p = kube.kubectl("apply", "--server-side", "-f", "-", check=False, user="system:nacre:balancer:l1", groups=("system:nacre:balancers",),
                         input=json.dumps(thing("Endpoint", "lb-l1", {
                             "host": "l1", "vtep": "fd00:a::9", "ip": "fd00:bbbb::1", "mac": "02:4e:01:00:99:01",
                             "routes": [{"prefix": p} for p in prefixes]})))
        return p.stderr

    def announced():
        return [[r["prefix"] for r in e["spec"]["routes"]] for e in ask(conn, "GET", f"{GROUP}/endpoints")["items"]]

    def said():
        return [e.get("message", "") for e in ask(conn, "GET", "/api/v1/events")["items"]]
    for prefix in ("0.0.0.0/0", "0.0.0.0/1", "192.0.0.0/9", "192.168.0.0/17", "2001:db8::/32"):
        eventually(f"{prefix} is refused", 30, lambda p=prefix: "may announce only" in announce("198.51.100.0/24", p))
    with open(tmp_path / "controller.log", "w") as log:
        controller = subprocess.Popen([*MORTAL, os.path.join(BIN, "nacre-controller"), "--kubeconfig",
                                       kube.kubeconfig("system:nacre:controller", ()), "--identity", "c"], stderr=log)
    try:
        for prefix in ("8.8.8.0/24", "203.0.113.0/24", "198.51.100.7/32"):
            assert not announce("198.51.100.0/24", prefix)
            eventually(f"{prefix} goes", 60, lambda: not announced())
            eventually("an Event says why", 10, lambda p=prefix: any(f"spec.routes has {p}, but " in s for s in said()))
        assert not announce("198.51.100.0/24")
        time.sleep(25)
        assert announced() == [["198.51.100.0/24"]]
    finally:
        controller.terminate()
        controller.wait(patient(15))


def test_overlapping_pools_of_the_same_second(kube, tmp_path):  # noqa: F811
    """Times of creation have whole seconds; the first by name counts as the older one, also after a restart."""
    conn = kube.connect()
    inventory(conn, 1000)
    pools = f"{GROUP}/addresspools"
    for _ in range(60):
        made = [ask(conn, "POST", pools, thing("AddressPool", name, {"use": use, "prefix": prefix}))["metadata"]
                for name, use, prefix in (("b", "dedicated", "203.0.113.0/24"), ("a", "shared", "203.0.113.64/26"))]
        if made[0]["creationTimestamp"] == made[1]["creationTimestamp"]:
            break
        for m in made:
            ask(conn, "DELETE", f"{pools}/{m['name']}")
    else:
        pytest.fail("two creates never fall into the same second")

    def start():
        with open(tmp_path / "controller.log", "a") as log:
            return subprocess.Popen([*MORTAL, os.path.join(BIN, "nacre-controller"), "--kubeconfig",
                                     kube.kubeconfig("system:nacre:controller", ()), "--identity", "c"], stderr=log)

    def ready(name):
        conditions = ask(conn, "GET", f"{pools}/{name}").get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready"), {})

    def stop():
        controller.terminate()
        controller.wait(patient(15))

    def answer():
        return ready("a").get("status"), ready("b").get("status"), ready("b").get("reason"), ready("b").get("message")
    expected = ("True", "False", "Overlap", "overlaps the older AddressPool `a`; nothing is allocated from it")
    controller = start()
    try:
        eventually("b loses", 30, lambda: answer() == expected)
        ask(conn, "POST", INSTANCES, thing("Instance", "i", {"type": "small", "image": "i", "ipv4": "dedicated"}, namespace="default"))
        versions = {n: ask(conn, "GET", f"{pools}/{n}")["metadata"]["resourceVersion"] for n in "ab"}
        stop()
        controller = start()
        eventually("it waits", 30, lambda: [c for c in ask(conn, "GET", f"{INSTANCES}/i").get("status", {}).get("conditions", [])
                                            if c["type"] == "Scheduled" and c["status"] == "False"])
        assert answer() == expected
        assert versions == {n: ask(conn, "GET", f"{pools}/{n}")["metadata"]["resourceVersion"] for n in "ab"}
        ask(conn, "DELETE", f"{pools}/a")
        eventually("b is used", 30, lambda: ready("b").get("status") == "True" and
                   "host" in ask(conn, "GET", f"{INSTANCES}/i").get("status", {}))
    finally:
        stop()
