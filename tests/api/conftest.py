# SPDX-License-Identifier: Apache-2.0
import oracle
import pytest
from apilib import Kube, Server


def pytest_configure(config):
    config.addinivalue_line("markers", "both: runs on nacre-apiserver and on the real kube-apiserver")


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("both"):
        metafunc.parametrize("server", ["nacre", "kube"], indirect=True)


@pytest.fixture(scope="session")
def kube(tmp_path_factory):
    """The real one, or the reason why there is none here."""
    if oracle.missing():
        pytest.skip("no oracle: " + oracle.missing())
    o = oracle.Oracle(str(tmp_path_factory.mktemp("oracle")))
    try:
        yield Kube(o.start())
    finally:
        o.stop()


@pytest.fixture
def server(request, tmp_path):
    """A fresh server, gone after the test."""
    if getattr(request, "param", "nacre") == "kube":
        k = request.getfixturevalue("kube")
        yield k
        k.clean()
        return
    s = Server(tmp_path)
    s.start()
    yield s
    s.stop()  # not killed: leaks are looked for at the end
    with open(s.log) as f:
        log = f.read()
    assert "Sanitizer" not in log and "runtime error" not in log, log
