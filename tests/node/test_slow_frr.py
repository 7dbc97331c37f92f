# SPDX-License-Identifier: Apache-2.0
"""FRR can't be started for a while, and the host still renews its lease."""

import fcntl
import os
import signal
import time

from nodelib import Renewals, cloud, images, until  # noqa: F401 (two are fixtures)

LEASE_S = 3
HELD_S = 15


def test_the_lease_is_renewed_in_time(cloud):
    """Each attempt waits 5 s for the lock of a bgpd that seems to be starting (net/frr.c)."""
    cloud.restart_node(f"--lease-seconds={LEASE_S}")
    frr = f"{cloud.dir}/h1/frr-underlay"

    def bgpd():
        with open(f"{frr}/bgpd.pid") as f:
            return int(f.read())

    old, renewals = bgpd(), Renewals(cloud)
    os.kill(old, signal.SIGKILL)
    until("it is gone", lambda: not os.path.exists(f"/proc/{old}/fd") or not os.listdir(f"/proc/{old}/fd"))
    with open(f"{frr}.conf/bgpd.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        end = time.monotonic() + HELD_S
        until("the lock was held long enough", lambda: renewals.look() or time.monotonic() > end)
        assert bgpd() == old
    until("another runs", lambda: renewals.look() or bgpd() != old)
    renewals.check(LEASE_S)
