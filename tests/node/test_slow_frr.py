# SPDX-License-Identifier: Apache-2.0
"""FRR can't be started for a while, and the host still renews its lease."""

import fcntl
import json
import os
import shutil
import signal
import time

from nodelib import GROUP, Renewals, UnixConnection, cloud, images, run, until  # noqa: F401 (two are fixtures)

LEASE_S = 3
HELD_S = 15
STARTS_S = 12


def test_the_lease_is_renewed_in_time(cloud):
    """Each attempt waits 5 s for the lock of a bgpd that seems to be starting (net/frr.c)."""
    cloud.restart_node(f"--lease-seconds={LEASE_S}")
    old, renewals = bgpd(cloud), Renewals(cloud)
    kill_bgpd(cloud)
    with open(f"{cloud.dir}/h1/frr-underlay.conf/bgpd.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        end = time.monotonic() + HELD_S
        until("the lock was held long enough", lambda: renewals.look() or time.monotonic() > end)
        assert bgpd(cloud) == old
    until("another runs", lambda: renewals.look() or bgpd(cloud) != old)
    renewals.check(LEASE_S)


def test_an_agent_starts_while_frr_takes_long(cloud):
    """It is killed in the middle of that, too, and the next one begins anew. What the kernel has is left alone."""
    cloud.restart_node(f"--lease-seconds={LEASE_S}")
    slow = slow_bgpd(cloud)
    before, had = bgpd(cloud), kernel(cloud)
    assert "overlay" in had
    for _ in range(2):
        cloud.kill("node")
        kill_bgpd(cloud)
        cloud.start_node(*slow)
        started, renewals = time.monotonic(), Renewals(cloud)
        until("the lease is renewed", lambda: renewals.look() or len(renewals.times) > 2)
        took = time.monotonic() - started
        end = started + STARTS_S / 2
        until("half of the time is over", lambda: renewals.look() or time.monotonic() > end)
        assert bgpd(cloud) == before and not cloud.is_ready(f"{cloud.dir}/node.sock")
        assert kernel(cloud) == had
    until("bgpd runs", lambda: renewals.look() or bgpd(cloud) != before)
    until("the agent is ready", lambda: renewals.look() or cloud.is_ready(f"{cloud.dir}/node.sock"))
    print(f"bgpd ran after {time.monotonic() - started:.1f} s; the lease had been renewed twice after {took:.1f} s")
    assert time.monotonic() - started >= STARTS_S and kernel(cloud) == had
    renewals.check(LEASE_S)


def test_a_lost_host_is_ready_only_when_its_agent_is(cloud):
    """Its heartbeat is back long before FRR runs, and nothing may be placed on it until then."""
    cloud.restart_node(f"--lease-seconds={LEASE_S}")
    slow = slow_bgpd(cloud)
    before = bgpd(cloud)
    cloud.kill("node")
    kill_bgpd(cloud)
    until("the host is lost", lambda: ready(host(cloud)) == ("Unknown", "HeartbeatLost"))
    since = host(cloud)["metadata"]["resourceVersion"]
    cloud.start_node(*slow)
    until("the heartbeat is back", lambda: ready(host(cloud))[0] != "Unknown")
    renewals = Renewals(cloud)
    until("the lease is renewed", lambda: renewals.look() or len(renewals.times) > 2)
    # The controller writes this if it finds the host lost and back before it has seen what the agent wrote.
    was = host(cloud)
    (condition,) = was["status"]["conditions"]
    condition.update(status="True", reason="HeartbeatResumed")
    status, _ = cloud.request("PUT", f"{GROUP}/hosts/h1/status", was)
    assert status == 200
    until("the agent has corrected it", lambda: renewals.look() or ready(host(cloud)) == ("False", "AgentStarting"))
    assert bgpd(cloud) == before
    until("the host is ready", lambda: renewals.look() or ready(host(cloud))[0] == "True")
    assert bgpd(cloud) != before
    assert [r for _, r in changes(cloud, since)] == ["AgentStarting", "HeartbeatResumed", "AgentStarting", "AgentReady"]
    renewals.check(LEASE_S)
    cloud.restart_node()


def host(cloud):
    return cloud.request("GET", f"{GROUP}/hosts/h1")[1]


def ready(obj):
    (c,) = obj["status"]["conditions"]
    return c["status"], c["reason"]


def changes(cloud, since):
    """What Ready of the Host has been since a resourceVersion, each state once."""
    c = UnixConnection(cloud.sock)
    c.request("GET", f"{GROUP}/hosts?watch=1&timeoutSeconds=1&resourceVersion={since}")
    states = [ready(json.loads(line)["object"]) for line in c.getresponse()]
    c.close()
    return [s for n, s in enumerate(states) if n == 0 or s != states[n - 1]]


def bgpd(cloud):
    with open(f"{cloud.dir}/h1/frr-underlay/bgpd.pid") as f:
        return int(f.read())


def kill_bgpd(cloud):
    pid = bgpd(cloud)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    until("it is gone", lambda: not os.path.exists(f"/proc/{pid}/fd") or not os.listdir(f"/proc/{pid}/fd"))


def slow_bgpd(cloud):
    """A command that runs another one for which bgpd takes long to start. Mounts of namespaces reach all others."""
    if not os.path.exists(f"{cloud.dir}/bgpd"):  # else it may run
        shutil.copy("/usr/lib/frr/bgpd", f"{cloud.dir}/bgpd")
    wrapper = f"{cloud.dir}/slow-bgpd"
    with open(wrapper, "w") as f:
        f.write(f'#!/bin/sh\nsleep {STARTS_S}\nexec {cloud.dir}/bgpd "$@"\n')
    os.chmod(wrapper, 0o755)
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
            f'mount --make-private / && mount --bind {wrapper} /usr/lib/frr/bgpd && exec "$@"', "sh"]


def kernel(cloud):
    """Devices, addresses and routes of `public`."""
    return "".join(run("ip", "-n", cloud.public, *argv) for argv in (
        ("-br", "link"), ("-br", "addr"), ("-6", "route"), ("-4", "route")))
