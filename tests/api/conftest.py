# SPDX-License-Identifier: Apache-2.0
import pytest
from apilib import Server


@pytest.fixture
def server(tmp_path):
    """A fresh server, gone after the test."""
    s = Server(tmp_path)
    s.start()
    yield s
    s.stop()  # not killed: leaks are looked for at the end
    with open(s.log) as f:
        log = f.read()
    assert "Sanitizer" not in log and "runtime error" not in log, log
