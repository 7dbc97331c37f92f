# SPDX-License-Identifier: Apache-2.0
"""Clusters on a real kube-apiserver, which refuses nothing for a quota and has no garbage collector here."""

import contextlib
import os
import subprocess

import pytest
from conftest import BIN, GROUP, eventually
from harness import MORTAL, patient
from test_quota_kubernetes import ask, inventory, kube, thing  # noqa: F401 (kube: a fixture)

CLUSTERS = f"{GROUP}/namespaces/default/clusters"
INSTANCES = f"{GROUP}/namespaces/default/instances"
MERGE = "application/merge-patch+json"


@pytest.fixture
def cloud(kube, tmp_path):  # noqa: F811
    conn = kube.connect()
    inventory(conn, 12)
    with open(tmp_path / "controller.log", "w") as log:
        controller = subprocess.Popen([*MORTAL, os.path.join(BIN, "nacre-controller"), "--kubeconfig",
                                       kube.kubeconfig("system:nacre:controller", ()), "--identity", "c"], stderr=log)
    try:
        yield kube
    finally:
        controller.terminate()
        assert controller.wait(patient(20)) == 0, (tmp_path / "controller.log").read_text()[-2000:]


def test_life(cloud):
    conn = cloud.connect()

    def members(name):
        return {i["metadata"]["name"]: i for i in ask(conn, "GET", f"{INSTANCES}?labelSelector=nacre.dev/cluster={name}")["items"]}

    def scheduled(name):
        conditions = ask(conn, "GET", f"{CLUSTERS}/{name}").get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Scheduled"), {})

    def placed(name, n):
        eventually(f"all {n} members of {name} are placed: {scheduled(name)}", 120, lambda: len(m := members(name)) == n and all(
            i.get("status", {}).get("host") for i in m.values()) and scheduled(name).get("status") == "True", 0.2)

    def leave(*names):
        """Plays the agent of the members' host."""
        for n in names:
            eventually(f"{n} is being deleted", 60,
                       lambda n=n: "deletionTimestamp" in ask(conn, "GET", f"{INSTANCES}/{n}")["metadata"], 0.2)
            ask(conn, "PATCH", f"{INSTANCES}/{n}/status", {"status": {"phase": "Removed"}}, MERGE)

    cluster = lambda name, n: thing("Cluster", name, {"replicas": n, "template": {"type": "small", "image": "x"}})  # noqa: E731
    quota = f"{GROUP}/namespaces/default/tenantquotas"
    ask(conn, "POST", quota, thing("TenantQuota", "q", {"vcpus": 4}))
    ask(conn, "POST", CLUSTERS, cluster("c", 3))
    eventually("the quota is told", 60, lambda: scheduled("c").get("reason") == "QuotaExceeded", 0.2)
    assert "requested: vcpus=6, used: vcpus=0, limited: vcpus=4" in scheduled("c")["message"]
    assert not any(i.get("status", {}).get("host") for i in members("c").values())
    ask(conn, "PATCH", f"{quota}/q", {"spec": {"vcpus": 8}}, MERGE)
    placed("c", 3)

    # A second cluster waits for quota for all its members, until kubectl scales the first one down.
    ask(conn, "POST", CLUSTERS, cluster("d", 2))
    eventually("the second one waits", 60, lambda: scheduled("d").get("reason") == "QuotaExceeded", 0.2)
    assert not members("d")
    cloud.kubectl("scale", "cluster", "c", "--replicas=2", "--current-replicas=3")
    leave("c-2")
    placed("d", 2)
    placed("c", 2)

    # There is no garbage collector here: the finalizer deletes the members.
    cloud.kubectl("delete", "cluster", "d", "--wait=false")
    leave("d-0", "d-1")
    eventually("the cluster is gone", 60, lambda: not any(
        c["metadata"]["name"] == "d" for c in ask(conn, "GET", CLUSTERS)["items"]) and not members("d"), 0.2)
    # Members of a cluster that was deleted without the finalizer are deleted too.
    ask(conn, "PATCH", f"{CLUSTERS}/c", {"metadata": {"finalizers": None}}, MERGE)
    cloud.kubectl("delete", "cluster", "c", "--wait=false")
    for _ in range(100):  # the finalizer may have been added again before the deletion
        if not ask(conn, "GET", CLUSTERS)["items"]:
            break
        with contextlib.suppress(AssertionError):
            ask(conn, "PATCH", f"{CLUSTERS}/c", {"metadata": {"finalizers": None}}, MERGE)
    leave("c-0", "c-1")
    eventually("nothing is left", 60, lambda: not ask(conn, "GET", INSTANCES)["items"], 0.2)
