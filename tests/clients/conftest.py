# SPDX-License-Identifier: Apache-2.0
import os
import sys

import oracle
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "api"))
from apilib import ADMIN, fresh_server, pki, real_server  # noqa: E402


@pytest.fixture(scope="session")
def kube(tmp_path_factory):
    """The real kube-apiserver. Skips the test, with the reason, if it isn't available."""
    with real_server(tmp_path_factory.mktemp("oracle")) as k:
        yield k


@pytest.fixture(params=["nacre", "kube"])
def server(request, tmp_path):
    """nacre-apiserver with a kubeconfig of `nacre pki`, and kube-apiserver with one of its own."""
    if request.param == "kube":
        k = request.getfixturevalue("kube")
        certificate, key = k.oracle.pki.sign(ADMIN[0], ADMIN[1:])
        # fabric8 reads EC keys in SEC1 form only.
        k.kubeconfig, sec1 = str(tmp_path / "kubeconfig"), str(tmp_path / "key")
        oracle.openssl("pkey", "-traditional", "-in", key, "-out", sec1)
        oracle.write_kubeconfig(k.kubeconfig, k.port, k.oracle.pki.ca, certificate, sec1)
        yield k
        k.clean()
        return
    (tmp_path / "server").mkdir()
    with fresh_server(tmp_path / "server") as s:
        s.kubeconfig = str(tmp_path / "kubeconfig")
        pki()("kubeconfig", pki().dir, f"--server=https://127.0.0.1:{s.port}", f"--user={ADMIN[0]}", f"--group={ADMIN[1]}",
              f"--out={s.kubeconfig}")
        yield s
