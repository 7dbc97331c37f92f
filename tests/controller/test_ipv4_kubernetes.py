# SPDX-License-Identifier: Apache-2.0
"""Public IPv4 on a real kube-apiserver, with the roles that the controller has there."""

import os
import subprocess

from conftest import BIN, GROUP, eventually
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
        wants(1)
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
