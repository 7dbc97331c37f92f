# SPDX-License-Identifier: Apache-2.0
"""Nothing is left after the deletion of an instance, a tenant or the whole lab."""

import contextlib
import json
import os

from conftest import Snapshot, bare_kubernetes, eventually, instance
from harness import patient


def routes(lab):
    """The routes of all machines, without the kernel's own."""
    found = {}
    for place in [f"{m}{i}/public" for m in ("edge", "lb") for i in (1, 2)] + [f"host{i}/public" for i in range(1, lab.hosts + 1)]:
        found[place] = sorted(l for l in lab.exec(place, "ip", "-6", "route").splitlines() if "proto kernel" not in l)
    return found


def nexthops(lab):
    return {f"host{i}": len(lab.exec(f"host{i}/public", "ip", "nexthop").splitlines())
            for i in range(1, lab.hosts + 1)}


def state(lab):
    mine = Snapshot()
    return {
        "netns": sorted(n for n in mine.netns if f"nl-{lab.name}-" in n),
        "qemu": sorted(c for p, c in mine.processes if "qemu" in c and lab.name in c),
        "cgroups": sorted(c for c in mine.cgroups if f"nl-{lab.name}-" in c),
        "files": sorted(f for f in mine.files if f"/{lab.name}/" in f and "/instances/" in f),
        "routes": routes(lab),
        "nexthops": nexthops(lab),
        "allocations": sorted(a["metadata"]["name"] for a in lab.items("allocations")),
        "endpoints": sorted(e["metadata"]["name"] for e in lab.items("endpoints.nacre.dev")),
    }


def open_files(lab):
    """The number of open files of each daemon. Sockets are not counted for the two daemons that keep connections
    open."""
    found = {}
    for daemon in ["apiserver", "controller", "edge1", "edge2", "lb1", "lb2"] + [f"host{i}" for i in range(1, lab.hosts + 1)]:
        directory = f"/proc/{lab.pid(daemon)}/fd"
        links = []
        for fd in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                links.append(os.readlink(os.path.join(directory, fd)))
        if daemon in ("apiserver", "controller"):
            assert len(links) < 256, (daemon, links)
            links = [l for l in links if not l.startswith("socket:")]
        found[daemon] = len(links)
    return found


def assert_same(lab, before, seconds=30):
    def same():
        now = state(lab)
        assert now == before, {k: (before[k], now[k]) for k in now if now[k] != before[k]}
        return True

    eventually("all is as before", seconds, same, interval=0.5)


def test_delete_instance(lab):
    before = state(lab)
    lab.apply(instance("gone"))
    lab.wait_ready("demo", "gone")
    assert state(lab) != before
    lab.delete_instances("demo", "gone")
    assert_same(lab, before)


@bare_kubernetes
def test_delete_namespace(lab):
    before = state(lab)
    lab.kubectl("create", "-f", "-", input='{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"tenant2"}}')
    lab.apply(instance("a", ns="tenant2"), instance("b", ns="tenant2"))
    lab.wait_ready("tenant2", "a", "b")
    lab.kubectl("delete", "namespace", "tenant2", "--timeout=360s", timeout=100)
    assert_same(lab, before)


def test_cluster(lab):
    """A tenant's gang: placed together, scaled up and down by kubectl, deleted."""
    before = state(lab)
    ns, name = "red", "gang"

    def kubectl(*argv, **kw):
        return lab.kubectl("-n", ns, *argv, who="red", **kw)

    def members():
        return {i["metadata"]["name"]: i["status"].get("address") for i in
                lab.items("-n", ns, "instances.nacre.dev", "-l", f"nacre.dev/cluster={name}")}

    def ready(n):
        eventually(f"{n} members are ready", 180, lambda: (s := lab.get("-n", ns, "cluster", name).get("status", {})).get(
            "readyReplicas") == s.get("replicas") == n, interval=0.5)
        kubectl("wait", "--for=condition=Ready", f"cluster/{name}", f"--timeout={patient(60):.0f}s", timeout=90)
        assert sorted(members()) == [f"{name}-{k}" for k in range(n)]
        for member, address in members().items():
            lab.await_answer("internet", address)
            assert f"hello from {ns}/{member}" in lab.page(address)

    kubectl("apply", "-f", "-", input=json.dumps({
        "apiVersion": "nacre.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
        "spec": {"replicas": 2, "template": instance("")["spec"]}}))
    ready(2)
    kubectl("scale", "cluster", name, "--replicas=3", "--current-replicas=2")
    ready(3)
    first = members()[f"{name}-0"]
    kubectl("scale", "cluster", name, "--replicas=1")
    ready(1)
    assert members() == {f"{name}-0": first}
    kubectl("delete", "cluster", name, f"--timeout={patient(60):.0f}s", timeout=90)
    assert not members()
    assert_same(lab, before)


def test_twenty_instances_three_times(lab):
    before = state(lab)
    lab.apply({"apiVersion": "nacre.dev/v1alpha1", "kind": "InstanceType", "metadata": {"name": "mini"},
               "spec": {"vcpus": 1, "memoryMiB": 64}})
    names = [f"many{i}" for i in range(20)]
    for round in range(3):
        lab.apply(*(instance(n, type="mini") for n in names))
        eventually("all are placed and started", 120, lambda: all(
            i.get("status", {}).get("phase") in ("Starting", "Running") for i in lab.items("-n", "demo", "instances.nacre.dev")
            if i["metadata"]["name"] in names), interval=1)
        lab.delete_instances("demo", *names, timeout=120)
        assert_same(lab, before, 60)
        # The first round opens connections that stay open.
        if round == 0:
            files = open_files(lab)
    now = open_files(lab)
    assert all(now[d] <= files[d] + 5 for d in files), (files, now)


def test_lab_down_leaves_nothing(lab, snapshot_before):
    """The last test, since it removes the lab (a second `down` is harmless)."""
    frr = {int(open(os.path.join(d, f)).read()) for d, _, files in os.walk(lab.dir) for f in files
           if f in ("zebra.pid", "bgpd.pid")}
    assert len(frr) == 2 * (3 + lab.hosts + 2 + 2 + 2)  # edges have two, balancers one
    lab.down()
    # Files that a killed FRR leaves there have no name of ours in them, only FRR's pids.
    for d in Snapshot().frr_traces - snapshot_before.frr_traces:
        with contextlib.suppress(FileNotFoundError):
            files = os.listdir(os.path.join("/var/tmp/frr", d))
            assert not frr & {int(f.split(".")[1]) for f in files if f.startswith("logbuf.")}, d
    assert Snapshot().left_behind(snapshot_before, lab.name) == {}
    assert "There was no lab" in lab.down().stderr
