# SPDX-License-Identifier: Apache-2.0
"""TenantQuota on a real kube-apiserver, which refuses nothing: the controller admits what fits, also under
concurrency."""

import json
import os
import subprocess
import threading

import oracle
import pytest
from conftest import BIN, GROUP, ROOT, eventually
from harness import MORTAL, patient

INSTANCES = f"{GROUP}/namespaces/default/instances"


@pytest.fixture
def kube(tmp_path):
    if oracle.missing():
        pytest.skip(oracle.missing())
    o = oracle.Oracle(str(tmp_path))
    try:
        o.start()
        crds = subprocess.run([os.path.join(BIN, "nacre"), "crds"], check=True, stdout=subprocess.PIPE, text=True).stdout
        o.kubectl("apply", "--server-side", "-f", "-", input=crds)
        o.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        o.kubectl("create", "namespace", "nacre-system")
        o.kubectl("apply", "--server-side", "-f", os.path.join(ROOT, "deploy", "rbac.yaml"))
        yield o
    finally:
        o.stop()


def ask(conn, method, path, body=None, ctype="application/json"):
    conn.request(method, path, json.dumps(body) if body else None, {"Content-Type": ctype})
    r = conn.getresponse()
    text = r.read()
    assert r.status < 300, (method, path, text)
    return json.loads(text)


def thing(kind, name, spec, **meta):
    return {"apiVersion": "nacre.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def inventory(conn, vcpus):
    """Pools, a type, and a ready host h1 with the given number of vCPUs."""
    for obj in (thing("AddressPool", "inst", {"use": "instance", "prefix": "2001:db8:1::/56"}),
                thing("AddressPool", "deleg", {"use": "delegated", "prefix": "2001:db8:1000::/40"}),
                thing("AddressPool", "ovl", {"use": "overlay", "prefix": "fd00:1::/64"}),
                thing("AddressPool", "mac", {"use": "mac", "macPrefix": "02:4e:01"}),
                thing("InstanceType", "small", {"vcpus": 2, "memoryMiB": 256}),
                thing("Host", "h1", {"vtep": "fd00:a::1"})):
        ask(conn, "POST", f"{GROUP}/{obj['kind'].lower()}s", obj)
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ask(conn, "PATCH", f"{GROUP}/hosts/h1/status", {"status": {
        "capacity": {"vcpus": vcpus, "memoryMiB": 1000000}, "conditions": [ready]}}, "application/merge-patch+json")
    ask(conn, "POST", "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases", {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "host-h1"},
        "spec": {"holderIdentity": "h1", "leaseDurationSeconds": 600}})


def test_race(kube, tmp_path):
    conn = kube.connect()
    inventory(conn, 1000)
    ask(conn, "POST", f"{GROUP}/namespaces/default/tenantquotas", thing("TenantQuota", "q", {"vcpus": 20}))
    with open(tmp_path / "controller.log", "w") as log:
        controller = subprocess.Popen([*MORTAL, os.path.join(BIN, "nacre-controller"), "--kubeconfig",
                                       kube.kubeconfig("system:nacre:controller", ()), "--identity", "c"], stderr=log)
    try:
        start = threading.Barrier(50)

        def create(n):
            c = kube.connect()
            c.connect()
            start.wait()
            ask(c, "POST", INSTANCES, thing("Instance", f"i{n}", {"type": "small", "image": "x"}))

        threads = [threading.Thread(target=create, args=(n,)) for n in range(50)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

        def split():
            items = ask(conn, "GET", INSTANCES)["items"]
            reasons = {i["metadata"]["name"]: next((c for c in i.get("status", {}).get("conditions", [])
                                                    if c["type"] == "Scheduled"), {}) for i in items}
            placed = [i["metadata"]["name"] for i in items if i.get("status", {}).get("host")]
            assert len(placed) <= 10, placed
            return placed, {n: c for n, c in reasons.items() if c.get("reason") == "QuotaExceeded"}

        eventually("ten are placed and forty wait", 120, lambda: [len(x) for x in split()] == [10, 40], 0.3)
        placed, waiting = split()
        assert {c["message"] for c in waiting.values()} <= {
            f"exceeded quota: q, requested: vcpus=2, used: vcpus={n}, limited: vcpus=20" for n in (19, 20)}
        eventually("usage", 20, lambda: ask(conn, "GET", f"{GROUP}/namespaces/default/tenantquotas/q")
                   .get("status", {}).get("used", {}).get("vcpus") == 20)
        ask(conn, "PATCH", f"{INSTANCES}/{placed[0]}/status", {"status": {"phase": "Removed"}},
            "application/merge-patch+json")
        ask(conn, "DELETE", f"{INSTANCES}/{placed[0]}")
        eventually("another takes its place", 60, lambda: [len(x) for x in split()] == [10, 39], 0.3)
    finally:
        controller.terminate()
        assert controller.wait(patient(20)) == 0, (tmp_path / "controller.log").read_text()[-2000:]
