# SPDX-License-Identifier: Apache-2.0
"""Settings for the tests of all folders."""

import load


def pytest_sessionstart(session):
    load.start()


def pytest_sessionfinish(session, exitstatus):
    load.stop()
