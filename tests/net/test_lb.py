# SPDX-License-Identifier: Apache-2.0
"""A balancer, and objects that another version wrote and that it can't read. After a restart of nacre-lb what may belong
to them is still in the table and announced; all else is added and changed."""

import os

import pytest
from harness import until
from lbrig import ONE, THREE, TWO, Balancer

MORE = {b'"ip":"2001:db8:9::2"': b'"ip":"z001:db8:9::2"'}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def balancer():
    b = Balancer()
    try:
        b.start()
        yield b
    finally:
        b.stop()


def test_endpoint(balancer):
    balancer.restart(MORE)
    until("an operator can learn of it", lambda: balancer.metric("nacre_overlay_endpoints_not_understood") == 1)
    balancer.look()
    assert balancer.metric("nacre_lb_slices") == 1 and balancer.table() == 3
    # What is known goes on.
    balancer.endpoint("new", 3, "198.51.100.9")
    until("a new slice is in the table", lambda: balancer.table() == 4)
    balancer.delete("endpoints/some")
    until("one that is gone isn't", lambda: balancer.table() == 3)
    balancer.heal("endpoints/more")
    until("it knows all", lambda: balancer.metric("nacre_lb_slices") == 3 == balancer.table())
    # It has been in the table since another process, and goes without being understood.
    balancer.restart(MORE)
    assert balancer.table() == 3
    balancer.delete("endpoints/more")
    until("what was kept for it is removed", lambda: balancer.table() == 1)


def test_pool(balancer):
    balancer.restart({b'"use":"shared","prefix":"203': b'"use":"shared","prefix":"z03'})
    until("an operator can learn of it", lambda: balancer.metric("nacre_lb_objects_not_understood") == 1)
    (line,) = [s for s in balancer.log().splitlines() if 'part="AddressPool two"' in s]
    assert "not understood" in line and "spec.prefix: " in line
    balancer.pool("three", THREE)
    until("a new pool is announced with those that are kept", lambda: balancer.announced() == sorted([ONE, TWO, THREE]))
    balancer.look()
    assert balancer.table() == 3 and balancer.announced() == sorted([ONE, TWO, THREE])
    balancer.heal("addresspools/two")
    assert 'msg="well again" part="AddressPool two"' in balancer.log()
    balancer.delete("addresspools/two")
    until("it is withdrawn", lambda: balancer.announced() == sorted([ONE, THREE]))
