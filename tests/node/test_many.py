# SPDX-License-Identifier: Apache-2.0
"""Many guests at once, and the host's lease is renewed. Sleeping programs stand in for nacre-vm, so that they cost
little."""

import os
import signal

from nodelib import GROUP, cloud, images, until  # noqa: F401 (two are fixtures)

GUESTS = 60


def test_all_of_them_end_at_once(cloud):
    """Starting all guests again takes longer than a lease; the lease is renewed meanwhile."""
    path = f"{cloud.dir}/sleeper"
    with open(path, "w") as f:
        f.write("#!/bin/sh\nexec sleep infinity\n")
    os.chmod(path, 0o755)
    cloud.wait_node()
    cloud.kill("node")
    cloud.node_options = (f"--vm-program={path}", "--lease-seconds=3", "--vcpus=500")
    cloud.start_node()
    cloud.wait_node()
    cloud.post(f"{GROUP}/instancetypes", "InstanceType", "tiny", {"vcpus": 1, "memoryMiB": 64})
    names = [f"s{n}" for n in range(GUESTS)]
    for name in names:
        cloud.post(f"{GROUP}/namespaces/t/instances", "Instance", name, {"type": "tiny", "image": "lab"})
    folder = f"{cloud.dir}/h1/instances"

    def pids():
        found = set()
        for uid in os.listdir(folder):
            try:
                with open(f"{folder}/{uid}/pid") as f:
                    found.add(int(f.read().split()[0]))
            except FileNotFoundError:
                pass
        return found

    def lost():
        with open(f"{cloud.dir}/controller.log") as f:
            return sum("host lost" in line for line in f)

    until("all run", lambda: len(pids()) == GUESTS, 240)
    before, old = lost(), pids()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    until("all run again", lambda: len(pids() - old) == GUESTS, 240)
    assert lost() == before
    for name in names:
        cloud.request("DELETE", f"{GROUP}/namespaces/t/instances/{name}")
    until("all are gone", lambda: not os.listdir(folder), 240)
