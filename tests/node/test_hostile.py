# SPDX-License-Identifier: Apache-2.0
"""A hostile or hanging nacre-vm: what the agent believes of it. Other programs take the place of nacre-vm."""

import os
import signal
import time

import pytest
from nodelib import GROUP, cloud, images, until  # noqa: F401 (two are fixtures)

QEMU = "qemu-system-x86_64"

# Reports to each client, without end, that the machine runs and that it is paused.
FICKLE = """#!/usr/bin/python3
import socket, time
listening = socket.socket(fileno=3)
listening.setblocking(True)
while True:
    connection, _ = listening.accept()
    connection.setblocking(True)
    while True:
        for state in "running", "paused":
            connection.sendall(b'{"state":"%s","since":"2026-01-01T00:00:00.000000Z"}\\n' % state.encode())
            time.sleep(0.01)
"""

# Reports that it was stopped on request, which nobody made, with escape sequences in the message.
QUITTER = r"""#!/usr/bin/python3
import os
os.write(5, rb'{"state":"ended","since":"2026-01-01T00:00:00.000000Z","reason":"Stopped","message":"\u001b[2Jgone\n\u009b2J"}')
"""


@pytest.fixture
def program(cloud, request):
    """The agent starts this program instead of nacre-vm."""
    path = f"{cloud.dir}/program"
    with open(path, "w") as f:
        f.write(request.param)
    os.chmod(path, 0o755)
    cloud.restart_node(f"--vm-program={path}")
    yield
    cloud.delete("one")
    cloud.restart_node()


@pytest.mark.parametrize("program", [FICKLE], indirect=True, ids=["fickle"])
def test_states_that_change_without_end(cloud, program):
    cloud.create("one", "lab")
    cloud.wait("one", "Paused")
    seen, end = set(), time.monotonic() + 10
    while time.monotonic() < end:
        seen.add(cloud.instance("one")["metadata"]["resourceVersion"])
    # Ten states in ten seconds, and the controller's writes.
    assert len(seen) <= 25


@pytest.mark.parametrize("program", [QUITTER], indirect=True, ids=["quitter"])
def test_ends_that_nobody_asked_for(cloud, program):
    cloud.create("one", "lab")
    until("it is told", lambda: [m for r, m in cloud.events("one") if r == "Stopped"])
    # The first end is believed; after that the machine is started with delays, like any that ends by itself.
    until("it waits", lambda: "?[2Jgone???2J; it is started again in 2 s" in cloud.ready("one").get("message", ""))
    assert ("Stopped", "?[2Jgone???2J") in cloud.events("one")
    assert all(m.isascii() and m.isprintable() for r, m in cloud.events("one") if r == "Stopped")


@pytest.fixture
def impatient(cloud):
    cloud.restart_node("--stop-seconds=3")
    yield
    cloud.restart_node()


def test_one_that_hangs_is_stopped(cloud, impatient):
    cloud.create("hangs", "lab")
    guest = cloud.wait("hangs", "Running")
    (init,), (qemu,) = guest.init(), until("QEMU runs", lambda: guest.pids(QEMU))
    os.kill(init, signal.SIGSTOP)
    cloud.patch("hangs", {"running": False})
    cloud.wait("hangs", "Stopped", 120)
    assert not os.path.exists(f"/proc/{qemu}") and "StopForced" in [r for r, _ in cloud.events("hangs")]
    # The machine can be started again.
    cloud.patch("hangs", {"running": True})
    cloud.wait("hangs", "Running", 60)
    cloud.delete("hangs")
