# SPDX-License-Identifier: Apache-2.0
"""The cloud goes to a kube-apiserver and back, as docs/MOVING.md says, while its guest is pinged 100 times a second."""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile

import netns
import pytest
from conftest import KUBERNETES, NACRE, ORACLE, Ping, condition, eventually, instance
from harness import ROOT, run

PORT, OTHER_PORT = 6443, 6444
NS, GANG = "demo", "gang"

pytestmark = [
    pytest.mark.skipif(KUBERNETES, reason="begins on nacre-apiserver"),
    pytest.mark.skipif(not all(os.access(os.path.join(ORACLE, p), os.X_OK) for p in ("kube-apiserver", "etcd", "kubectl")),
                       reason="needs a kube-apiserver (tests/oracle/build)"),
]


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=60)


class Kubernetes:
    """A kube-apiserver beside the lab's API server, with the same certificate authority, on another port."""

    def __init__(self, lab):
        self.lab, self.dir, self.processes = lab, tempfile.mkdtemp(prefix=f"e2e-{lab.name}-kube-"), []
        self.kubeconfig = f"{self.dir}/kubeconfig"

    def _start(self, *argv):
        with open(f"{self.dir}/{os.path.basename(argv[0])}.log", "a") as log:
            self.processes.append(subprocess.Popen(
                self.lab.exec_argv("mgmt", "setpriv", "--pdeathsig", "KILL", *argv), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log))

    def start(self, address):
        pki, etcd = f"{self.lab.dir}/pki", "http://127.0.0.1:3379"
        sa = f"{self.dir}/sa.key"
        run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", sa)
        self._start(f"{ORACLE}/etcd", "--data-dir", f"{self.dir}/etcd", "--listen-client-urls", etcd,
                    "--advertise-client-urls", etcd, "--listen-peer-urls", "http://127.0.0.1:3380",
                    "--initial-advertise-peer-urls", "http://127.0.0.1:3380",
                    "--initial-cluster", "default=http://127.0.0.1:3380", "--log-level", "warn")
        self._start(f"{ORACLE}/kube-apiserver", f"--etcd-servers={etcd}", f"--bind-address={address}",
                    f"--advertise-address={address}", f"--secure-port={OTHER_PORT}", f"--tls-cert-file={pki}/server.crt",
                    f"--tls-private-key-file={pki}/server.key", f"--client-ca-file={pki}/ca.crt",
                    "--service-account-issuer=https://e2e", f"--service-account-key-file={sa}",
                    f"--service-account-signing-key-file={sa}", "--service-cluster-ip-range=fd4e:5e::/112",
                    "--endpoint-reconciler-type=none", "--authorization-mode=RBAC")
        with open(f"{self.lab.dir}/kubeconfig") as f, open(self.kubeconfig, "w") as to:
            to.write(f.read().replace(f":{PORT}", f":{OTHER_PORT}"))
        eventually("kube-apiserver is ready", 180, lambda: self.kubectl("get", "--raw", "/readyz").stdout == "ok", interval=1)
        everything = run(NACRE, "crds").stdout + "---\n" + run(NACRE, "rbac").stdout + "---\n"
        with open(f"{ROOT}/deploy/admission.yaml") as f:
            everything += f.read()
        self.kubectl("apply", "--server-side", "-f", "-", input=everything)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s", timeout=150)

    def kubectl(self, *argv, timeout=60, **kwargs):
        return run(f"{ORACLE}/kubectl", f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.dir}/cache", *argv,
                   timeout=timeout, **kwargs)

    def stop(self):
        while self.processes:
            end(self.processes.pop())

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def qemu(lab, obj):
    """The QEMU processes of an instance: pids and start times."""
    found = []
    container = f"nl-{lab.name}-{obj['status']['host']}-i-{obj['status']['id'].replace('-', '')[:12]}"
    for pid in run("ip", "netns", "pids", container).stdout.split():
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm") as f:
                comm = f.read()
            with open(f"/proc/{pid}/stat") as f:
                began = f.read().rpartition(")")[2].split()[19]
            if comm.startswith("qemu-system"):
                found.append((pid, began))
    return found


def stop_daemon(lab, name):
    pid = lab.pid(name)
    os.kill(pid, signal.SIGTERM)
    eventually(f"{name} has ended", 60, lambda: not os.path.exists(f"/proc/{pid}"))


def point(lab, old, new):
    """Lets all programs' kubeconfigs, and the operator's, name another server."""
    for path in [*glob.glob(f"{lab.dir}/pki/*.kubeconfig"), *glob.glob(f"{lab.dir}/*kubeconfig")]:
        with open(path) as f:
            text = f.read()
        assert f":{old}" in text
        with open(path + ".new", "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(text.replace(f":{old}", f":{new}"))
        os.rename(path + ".new", path)


def agents(lab):
    return [f"host{i}" for i in range(1, lab.hosts + 1)] + ["edge1", "edge2", "lb1", "lb2"]


def await_agents(lab):
    """Waits until all agents renew their Leases on the server of the operator's kubeconfig."""
    def renewed():
        return {l["metadata"]["name"]: l["spec"]["renewTime"] for l in lab.items("-n", "nacre-system", "leases")
                if l["metadata"]["name"].startswith("host-")}

    eventually("every agent is at the new server", 90, lambda: len(renewed()) == len(agents(lab)), interval=0.5)
    first = renewed()
    eventually("they go on", 90, lambda: all(renewed().get(k) != v for k, v in first.items()), interval=0.5)


def picture(lab):
    """The state that must be the same on both servers."""
    instances = {i["metadata"]["name"]: i for i in lab.items("-n", NS, "instances")}
    return {
        "instances": {n: {k: i["status"].get(k) for k in ("id", "host", "address", "prefix", "delegatedPrefix", "mac",
                                                          "overlayAddress", "restarts", "phase")}
                      for n, i in instances.items()},
        "ready": {n: condition(i, "Ready")["lastTransitionTime"] for n, i in instances.items()},
        "hosts": {h["metadata"]["name"]: condition(h, "Ready")["lastTransitionTime"] for h in lab.items("hosts")},
        "allocations": {a["metadata"]["name"]: a["spec"] for a in lab.items("allocations")},
        "endpoints": {e["metadata"]["name"]: {**e["spec"], "owner": e["spec"].get("owner", {}).get("name")}
                      for e in lab.items("endpoints.nacre.dev")},
        "clusters": {c["metadata"]["name"]: (c["spec"]["replicas"], c["status"]["readyReplicas"],
                                             condition(c, "Ready")["lastTransitionTime"])
                     for c in lab.items("-n", NS, "clusters")},
        "pools": {p["metadata"]["name"]: p["spec"] for p in lab.items("addresspools")},
        "bindings": sorted(b["metadata"]["name"] for b in lab.items("-n", "red", "rolebindings")),
    }


def uids(lab):
    return {i["metadata"]["name"]: i["metadata"]["uid"] for i in lab.items("-n", NS, "instances")}


def owner(lab, name):
    """The uid in the owner reference of an instance."""
    return lab.instance(NS, name)["metadata"]["ownerReferences"][0]["uid"]


def check_works(lab, name):
    """A new instance can be created and reached, and leaves nothing; a Cluster still has its member."""
    assert owner(lab, f"{GANG}-0") == lab.get("-n", NS, "cluster", GANG)["metadata"]["uid"]
    before = picture(lab)
    lab.apply(instance(name))
    lab.wait_ready(NS, name)
    lab.await_answer("internet", lab.instance(NS, name)["status"]["address"], seconds=120)
    lab.delete_instances(NS, name, timeout=120)

    def same():
        now = picture(lab)
        assert now == before, {k: (before[k], now[k]) for k in now if now[k] != before[k]}
        return True

    eventually("nothing of it is left", 60, same, interval=0.5)


@contextlib.contextmanager
def read_only(lab):
    """The lab's nacre-apiserver, restarted with --read-only; stopped at the end."""
    with open(f"/proc/{lab.pid('apiserver')}/cmdline") as f:
        argv = f.read().rstrip("\0").split("\0")
    stop_daemon(lab, "apiserver")
    with open(f"{lab.dir}/apiserver.log", "a") as log:
        p = subprocess.Popen(lab.exec_argv("mgmt", "setpriv", "--pdeathsig", "KILL", *argv, "--read-only"),
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually("it answers", 60, lambda: lab.items("hosts"))
        yield
    finally:
        end(p)


def test_there_and_back(lab):
    name = "mover"
    lab.apply(instance(name))
    lab.apply({"apiVersion": "nacre.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": GANG, "namespace": NS},
               "spec": {"replicas": 1, "template": instance(name)["spec"]}})
    lab.wait_ready(NS, name)
    eventually("the Cluster is ready", 120, lambda: condition(lab.get("-n", NS, "cluster", GANG), "Ready")["status"] == "True",
               interval=0.5)
    mover = lab.instance(NS, name)
    address, before, old_uids = mover["status"]["address"], picture(lab), uids(lab)
    lab.await_answer("internet", address, seconds=120)
    machine = qemu(lab, mover)
    assert len(machine) == 1
    kube, file = Kubernetes(lab), f"{lab.dir}/cloud.export"
    api = lab.connect()[2][0]
    ping = Ping(lab, "internet", address)
    try:
        kube.start(api)
        # To the kube-apiserver.
        stop_daemon(lab, "controller")
        with read_only(lab):
            refused = lab.kubectl("-n", NS, "annotate", "instance", name, "a=b", check=False)
            assert refused.returncode and "on hold" in refused.stderr, refused.stderr
            out = lab.nacre("export", "--kubeconfig", f"{lab.dir}/kubeconfig", file)
            assert "hold" not in out.stderr, out.stderr
            lab.nacre("import", "--kubeconfig", kube.kubeconfig, file)
            point(lab, PORT, OTHER_PORT)
            await_agents(lab)
        lab.restart("controller")
        eventually("the controller leads", 60, lambda: "leading" in lab.log("controller").rpartition("started")[2])
        now = picture(lab)
        assert now == before, {k: (before[k], now[k]) for k in now if now[k] != before[k]}
        assert all(uids(lab)[n] != uid for n, uid in old_uids.items())
        check_works(lab, "on-kubernetes")
        assert qemu(lab, lab.instance(NS, name)) == machine
        # And back, to a nacre-apiserver with an empty database.
        stop_daemon(lab, "controller")
        kube.kubectl("apply", "--server-side", "-f", f"{ROOT}/deploy/hold.yaml")
        eventually("it holds", 60, lambda: "on hold" in lab.kubectl(
            "-n", NS, "annotate", "--overwrite", "instance", name, "a=b", check=False).stderr)
        for database in glob.glob(f"{lab.dir}/api.db*"):
            os.unlink(database)
        out = lab.nacre("export", "--kubeconfig", kube.kubeconfig, file)
        assert "hold" not in out.stderr, out.stderr
        with open(f"{lab.dir}/kubeconfig") as f, open(f"{kube.dir}/back", "w") as to:
            to.write(f.read().replace(f":{OTHER_PORT}", f":{PORT}"))
        lab.restart("apiserver")
        eventually("the new one answers", 60, lambda: run("kubectl", f"--kubeconfig={kube.dir}/back", "get", "--raw", "/readyz"))
        lab.nacre("import", "--kubeconfig", f"{kube.dir}/back", file)
        point(lab, OTHER_PORT, PORT)
        await_agents(lab)
        kube.stop()
        lab.restart("controller")
        now = picture(lab)
        assert now == before, {k: (before[k], now[k]) for k in now if now[k] != before[k]}
        check_works(lab, "home-again")
        assert qemu(lab, lab.instance(NS, name)) == machine
        assert condition(lab.instance(NS, name), "Ready")["status"] == "True"
    finally:
        ping.stop()
        kube.close()
    ping.note_gap("moved to a kube-apiserver and back")
    assert ping.sent > 1000
    assert ping.lost == [], f"lost {len(ping.lost)} of {ping.sent}, longest gap {ping.gap:.3f} s"
    # The addresses of the deleted instance are free again.
    lab.delete_instances(NS, name, timeout=120)
    left = picture(lab)
    id = mover["status"]["id"]
    assert not [a for a in left["allocations"].values() if a["owner"]["uid"] == id]
    assert len(left["allocations"]) == len(before["allocations"]) - 4
    assert f"i-{id}" not in left["endpoints"]
    assert qemu_gone(lab, mover)
    lab.kubectl("-n", NS, "delete", "cluster", GANG, "--timeout=120s", timeout=150)
    assert f"{GANG}-0" not in uids(lab)


def qemu_gone(lab, obj):
    """The namespace is gone, and so are all its processes."""
    return netns.is_gone(f"nl-{lab.name}-{obj['status']['host']}-i-{obj['status']['id'].replace('-', '')[:12]}")
