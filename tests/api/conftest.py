# SPDX-License-Identifier: Apache-2.0
import pytest
from apilib import fresh_server, real_server


def pytest_configure(config):
    config.addinivalue_line("markers", "both: runs on nacre-apiserver and on the real kube-apiserver")


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("both"):
        metafunc.parametrize("server", ["nacre", "kube"], indirect=True)


@pytest.fixture(scope="session")
def kube(tmp_path_factory):
    """The real kube-apiserver. Skips the test, with the reason, if it isn't available."""
    with real_server(tmp_path_factory.mktemp("oracle")) as k:
        yield k


@pytest.fixture
def server(request, tmp_path):
    """A new server, which is removed after the test."""
    if getattr(request, "param", "nacre") == "kube":
        k = request.getfixturevalue("kube")
        yield k
        k.clean()
        return
    with fresh_server(tmp_path) as s:
        yield s
