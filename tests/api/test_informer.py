# SPDX-License-Identifier: Apache-2.0
"""A client-go program with an informer and a leader election: many changes, cut connections, a killed server."""

import json
import os
import subprocess
import time

import oracle
import pytest
from apilib import ADMIN, G, pki
from harness import MORTAL

INFORMER = os.path.join(oracle.BINARIES, "informer")
SECONDS = int(os.environ.get("NACRE_TEST_CHURN", 60 if os.environ.get("NACRE_TEST_ALL") else 24))


@pytest.mark.both
def test_informer(request, server, tmp_path):
    if oracle.missing():
        pytest.skip("no oracle: " + oracle.missing())
    kube = request.node.callspec.params["server"] == "kube"
    config = str(tmp_path / "kubeconfig")
    if kube:
        config = server.oracle.kubeconfig()
    else:
        oracle.write_kubeconfig(config, server.port, pki().ca, *pki().client(*ADMIN))
    p = subprocess.Popen([*MORTAL, INFORMER, "--kubeconfig", config, "--churn", f"{SECONDS}s",
                          "--cut", "3s", "--pause", "20ms"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        kills, end = 0, time.monotonic() + SECONDS
        while not kube and time.monotonic() < end - 5 and p.poll() is None:
            # With enough time between: each time the informer's watch continues where it was.
            time.sleep(4)
            server.kill()
            server.start()
            kills += 1
        out, err = p.communicate(timeout=SECONDS + 600)
    finally:
        p.kill()
        p.wait()
    assert p.returncode == 0, err
    report = json.loads(out)
    listed = {o["metadata"]["name"]: o["metadata"]["resourceVersion"]
              for o in server.list(f"{G}/namespaces/default/instances")["items"]}
    print({**report, "cache": len(report["cache"]), "kills": kills})
    assert report["Equal"] and report["cache"] == listed and listed
    assert report["OutOfOrder"] == 0 and report["Overlaps"] == 0
    assert set(report["Leaders"]) == {"candidate-0", "candidate-1"}, report["Leaders"]
    assert report["Writes"] > SECONDS and report["Added"] + report["Updated"] > SECONDS / 2
    assert report["Cuts"] > 0 and (kube or kills > 0)
