# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "api"))
from apilib import fresh_server  # noqa: E402


@pytest.fixture
def server(tmp_path):
    """A new nacre-apiserver, which is removed after the test."""
    with fresh_server(tmp_path) as s:
        yield s


# A small share of processor time, so that refusals can be provoked on a slow machine too.
SMALL_SHARE = ("--processor-share", "4")


@pytest.fixture
def strict_server(tmp_path):
    with fresh_server(tmp_path, *SMALL_SHARE) as s:
        yield s
