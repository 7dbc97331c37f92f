# SPDX-License-Identifier: Apache-2.0
"""Common clients, each from its package registry: the whole life of an Instance. docs/clients.md shows parts of them. A
client creates an Instance, finds it in a list, powers it off by a patch, waits until it is ready and deletes it, while
it watches all of this. The test plays the agent that makes the Instance ready."""

import json
import os
import re
import shutil
import subprocess

import build
import pytest
from apilib import ROOT, instance, path_of
from harness import eventually, patient

long = pytest.mark.skipif(not os.environ.get("NACRE_TEST_ALL"), reason="builds clients for minutes: ./dev test --all")
READY = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Test", "lastTransitionTime":
                                    "2026-01-01T00:00:00Z"}]}}


def built(client):
    if build.missing(client):
        pytest.skip(build.missing(client))
    return build.build(client)


def live(server, client, argv, tmp_path):
    """Runs a client and makes its Instance ready. Returns the client's output."""
    path = path_of(instance(client))

    def off():
        """The patch has arrived, or the client has ended; its output below says why."""
        o = server.get(path)
        return p.poll() is not None or (o.status == 200 and o.json["spec"].get("running") is False)

    with open(tmp_path / "out", "w+") as out:
        p = subprocess.Popen([*argv, server.kubeconfig, "default", client], stdout=out, stderr=subprocess.STDOUT)
        try:
            eventually(f"{client} patches its Instance", 120, off)
            if p.poll() is None:
                assert server.patch(f"{path}/status", READY).status == 200
            p.wait(patient(120))
        finally:
            p.kill()
            p.wait()
        out.seek(0)
        said = out.read()
    assert p.returncode == 0, said
    assert server.get(path).status == 404
    return said


@long
@pytest.mark.parametrize("client", [c for c in build.CLIENTS if c != "helm"])
def test_life(server, client, tmp_path):
    said = live(server, client, built(client), tmp_path)
    events = [line.split()[1] for line in said.splitlines() if line.startswith("event ")]
    assert events == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"] and said.splitlines()[-1] == "done", said


def test_kubectl(server, tmp_path):
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    said = live(server, "kubectl", [os.path.join(build.HERE, "kubectl", "life.sh")], tmp_path)
    for words in ("created", "patched", "condition met", "Test", "Destination port", "deleted"):
        assert words in said, said


def test_examples_are_what_runs():
    """Each example in docs/clients.md consists of lines of the file that it names."""
    with open(os.path.join(ROOT, "docs", "clients.md")) as f:
        examples = re.findall(r"\]\(\.\./(tests/clients/[^)]+)\):\n\n```[a-z]*\n(.*?)```", f.read(), re.S)
    assert len(examples) == 8
    for path, text in examples:
        with open(os.path.join(ROOT, path)) as f:
            lines = [line.strip() for line in f]
        at = 0
        for line in (line.strip() for line in text.splitlines()):
            if line and line != "…":
                assert line in lines[at:], f"{path} has not, or not in this place: {line}"
                at = lines.index(line, at) + 1


@long
def test_helm(server, tmp_path):
    helm, = built("helm")
    chart = os.path.join(build.HERE, "helm")
    env = {**os.environ, **{f"HELM_{d}_HOME": str(tmp_path / d) for d in ("CACHE", "CONFIG", "DATA")}}

    def run(*args):
        p = subprocess.run([helm, "--kubeconfig", server.kubeconfig, "--namespace", "default", *args], env=env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=patient(240))
        assert p.returncode == 0, p.stderr
        return p.stdout

    def instances():
        items = server.list(path_of(instance(), named=False), labelSelector="app.kubernetes.io/instance=web")["items"]
        return {o["metadata"]["name"]: o["spec"]["running"] for o in items}

    assert "STATUS: deployed" in run("install", "web", chart, "--wait", "--timeout", "4m")
    assert instances() == {"web-0": True, "web-1": True}
    run("upgrade", "web", chart, "--set", "count=3", "--set", "running=false", "--wait", "--timeout", "4m")
    assert instances() == {"web-0": False, "web-1": False, "web-2": False}
    assert "running: false" in run("get", "manifest", "web")
    run("rollback", "web", "1", "--wait", "--timeout", "4m")
    assert instances() == {"web-0": True, "web-1": True}
    assert [r["revision"] for r in json.loads(run("history", "web", "-o", "json"))] == [1, 2, 3]
    run("uninstall", "web", "--wait", "--timeout", "4m")
    assert instances() == {}
    assert server.get(path_of(instance("web-0"))).status == 404
