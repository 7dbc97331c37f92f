# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "api"))
from apilib import Server  # noqa: E402


@pytest.fixture
def server(tmp_path):
    """A fresh nacre-apiserver, gone after the test."""
    s = Server(tmp_path)
    s.start()
    yield s
    s.stop()
    with open(s.log) as f:
        log = f.read()
    assert "Sanitizer" not in log and "runtime error" not in log, log
