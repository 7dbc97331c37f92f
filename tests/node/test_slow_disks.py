# SPDX-License-Identifier: Apache-2.0
"""A host on which each disk takes long to make still renews its lease. Sleeping programs stand in for nacre-vm, so that
they cost little."""

import os
import time

from nodelib import GROUP, Renewals, cloud, images, until  # noqa: F401 (two are fixtures)

ALL = bool(os.environ.get("NACRE_TEST_ALL"))
GUESTS = 200 if ALL else 24
SLOTS = 16  # starts that are under way at once
STEP_S = 10
LEASE_S = 15 if ALL else 6


def test_the_lease_is_renewed_in_time(cloud):
    """The lease is also renewed while instances are deleted whose disks are being made."""
    sleeper, slow = f"{cloud.dir}/sleeper", f"{cloud.dir}/bin"
    os.mkdir(slow)
    for path, text in ((sleeper, "exec sleep infinity"), (f"{slow}/qemu-img", f'sleep {STEP_S}; exec /usr/bin/qemu-img "$@"')):
        with open(path, "w") as f:
            f.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)
    with open(f"{cloud.images}/idle", "wb") as f:
        f.write(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    cloud.post(f"{GROUP}/images", "Image", "idle", {"disk": {"file": "idle", "format": "raw", "firmware": "bios"}})
    cloud.wait_node()
    cloud.kill("node")
    cloud.node_options = (f"--vm-program={sleeper}", f"--lease-seconds={LEASE_S}", "--vcpus=500", "--disk-overcommit=10000")
    cloud.start_node("env", f"PATH={slow}:{os.environ['PATH']}")
    cloud.wait_node()
    cloud.post(f"{GROUP}/instancetypes", "InstanceType", "tiny", {"vcpus": 1, "memoryMiB": 64})
    cloud.post(f"{GROUP}/namespaces/t/instances", "Instance", "quick", {"type": "tiny", "image": "lab"})
    folder = f"{cloud.dir}/h1/instances"
    quick = until("one without a disk runs", lambda: [u for u in os.listdir(folder) if os.path.exists(f"{folder}/{u}/pid")])[0]
    names = [f"s{n}" for n in range(GUESTS)]
    for name in names:
        cloud.post(f"{GROUP}/namespaces/t/instances", "Instance", name, {"type": "tiny", "image": "idle"})
    renewals = Renewals(cloud)

    def running():
        renewals.look()
        return sum(os.path.exists(f"{folder}/{uid}/pid") for uid in os.listdir(folder))

    begin = time.monotonic()
    until("disks are being made at every place", lambda: renewals.look() or sum(
        os.path.exists(f"{cloud.dir}/state/instances/{uid}/disk.max") for uid in os.listdir(folder)) >= SLOTS)
    # They don't delay other work.
    asked = time.monotonic()
    cloud.request("DELETE", f"{GROUP}/namespaces/t/instances/quick")
    until("another is removed", lambda: renewals.look() or not os.path.exists(f"{folder}/{quick}"))
    assert time.monotonic() - asked < STEP_S / 2
    # A start under way doesn't delay the removal.
    uid = cloud.instance("s0")["metadata"]["uid"]
    cloud.request("DELETE", f"{GROUP}/namespaces/t/instances/s0")
    until("all others run", lambda: running() >= GUESTS - 1 and cloud.instance("s0") is None, 600)
    print(f"{GUESTS} guests whose disks take {STEP_S} s run after {time.monotonic() - begin:.0f} s")
    renewals.check(LEASE_S)
    assert not os.path.exists(f"{folder}/{uid}")
    for name in names[1:]:
        cloud.request("DELETE", f"{GROUP}/namespaces/t/instances/{name}")
    until("all are gone", lambda: not os.listdir(folder), 600)
