# SPDX-License-Identifier: Apache-2.0
"""Storage of all instances of a host: no disk gets more room than there is, and UEFI variables can't grow."""

import contextlib
import os
import socket
import subprocess
import sys

import leftovers
import pytest
from harness import run
from nodelib import GROUP, cloud, images, until  # noqa: F401 (two are fixtures)

QEMU = "qemu-system-x86_64"
MIB = 1 << 20
VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"


@pytest.fixture(scope="module", autouse=True)
def idle(cloud):
    """Images with a boot sector that does nothing. A disk on one may have 17 MiB."""
    with open(f"{cloud.images}/idle", "wb") as f:
        f.write(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB - 512))
    for name, firmware in (("idle", "bios"), ("firmware", "uefi")):
        cloud.post(f"{GROUP}/images", "Image", name, {"disk": {"file": "idle", "format": "raw", "firmware": firmware}})


@pytest.fixture
def small(cloud):
    """The agent's disks are on a file system of 40 MiB."""
    state = f"{cloud.dir}/small"
    os.makedirs(state, exist_ok=True)
    leftovers.claim("mount", state)
    run("mount", "-t", "tmpfs", "-o", "size=40m,mode=755", "none", state)
    cloud.restart_node(f"--state-dir={state}")
    yield state
    for name in "abcd":
        cloud.delete(name)
    cloud.restart_node()
    leftovers.remove_mount(state)


def qemu(guest):
    (pid,) = until("QEMU runs", lambda: guest.pids(QEMU))
    return pid


def fill(path, mib):
    with open(path, "r+b") as f:
        f.seek(0, os.SEEK_END)
        f.write(b"x" * (mib * MIB))


def test_disks_share_the_room(cloud, small):
    def disk(guest):
        return f"{small}/instances/{guest.uid}/disk.qcow2"

    guests = []
    for name in "ab":
        cloud.create(name, "idle")
        guests.append(cloud.wait(name, "Running"))
    before = [qemu(g) for g in guests]
    cloud.create("c", "idle")
    c = cloud.wait("c", "StartFailed")
    message = cloud.ready("c")["message"]
    assert message.startswith(f"`{small}`: no room for a disk of at most 17 MiB: 39 MiB are free, of which other disks may "
                              "still take 33 MiB; add space, delete instances or disks in `removed`, or raise --disk-overcommit")
    assert cloud.instance("c")["status"]["phase"] == "Failed" and message in [m for r, m in cloud.events("c") if r == "StartFailed"]
    # Writes of a guest make no difference, and the agent stores nothing: it reads the files.
    fill(disk(guests[0]), 10)
    cloud.restart_node(f"--state-dir={small}")
    until("it was looked at", lambda: "29 MiB are free, of which other disks may still take 23 MiB" in cloud.ready("c")["message"])
    assert not os.path.exists(disk(c))
    # The instance starts by itself once there is room.
    cloud.delete("b")
    cloud.wait("c", "Running", 60)
    cloud.create("d", "idle")
    cloud.wait("d", "StartFailed")
    cloud.restart_node(f"--state-dir={small}", "--disk-overcommit=50")
    cloud.wait("d", "Running", 60)
    assert qemu(guests[0]) == before[0]


# A boot sector. Five times a second it writes itself to another 64 KiB of the disk, and a letter to the serial port: w,
# or E after an error. After an error it tries the same place again.
WRITER = bytes.fromhex("""
    31c08ed88ec08ed0bc007088d3be007d66c7041000010066c74404007c000066c744088000000066c7440c00000000
    b8004388dabe007dcd13b045720a6681440880000000b077baf803eeb80086b9030031d2cd15ebd8""")


def test_a_full_file_system_is_an_error_for_the_guest(cloud, small):
    """The machine doesn't end: the guest's writes succeed again when there is room."""
    with open(f"{cloud.images}/writer", "wb") as f:
        f.write((WRITER.ljust(510, b"\0") + b"\x55\xaa").ljust(20 * MIB, b"\0"))
    cloud.post(f"{GROUP}/images", "Image", "writer", {"disk": {"file": "writer", "format": "raw", "firmware": "bios"}})
    cloud.create("a", "writer")
    guest = cloud.wait("a", "Running")
    at = os.open(guest.dir, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(f"/proc/self/fd/{at}/console.sock")
        os.close(at)
        console.settimeout(120)

        def says(letter):
            while letter not in console.recv(4096):
                pass

        says(b"w")
        with contextlib.suppress(OSError), open(f"{small}/other", "wb", buffering=0) as f:
            while True:
                f.write(bytes(4096))
        says(b"E")
        assert cloud.ready("a")["reason"] == "Running"
        os.unlink(f"{small}/other")
        says(b"w")


def as_qemu(guest, code):
    """Runs Python as QEMU's user. D is a descriptor of its state folder; DISK and VARS are the files that it may
    write."""
    uid = os.stat(f"/proc/{qemu(guest)}").st_uid
    head = f"""
import os, sys
d = os.open({guest.state!r}, os.O_RDONLY | os.O_DIRECTORY)
os.setgroups([])
os.setresgid({uid}, {uid}, {uid})
os.setresuid({uid}, {uid}, {uid})
disk, vars = [os.open(name, os.O_RDWR, dir_fd=d) for name in ("disk.qcow2", "vars.fd")]
"""
    subprocess.run([sys.executable, "-c", head + code], check=True)


@pytest.fixture(scope="module")
def guest(cloud):
    cloud.create("uefi", "firmware")
    yield cloud.wait("uefi", "Running")
    cloud.delete("uefi")


def test_qemu_can_write_two_files_and_no_more(guest):
    assert sorted(os.listdir(guest.state)) == ["disk.max", "disk.qcow2", "vars.fd"]
    as_qemu(guest, """
left = []
for attempt in (lambda: os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=d), lambda: os.mkdir("new", dir_fd=d),
                lambda: os.symlink("disk.qcow2", "new", dir_fd=d), lambda: os.mkfifo("new", dir_fd=d),
                lambda: os.open(".", os.O_TMPFILE | os.O_RDWR, dir_fd=d), lambda: os.open("disk.max", os.O_RDWR, dir_fd=d),
                lambda: os.open("disk.max", os.O_RDONLY, dir_fd=d), lambda: os.unlink("disk.max", dir_fd=d),
                lambda: os.rename("vars.fd", "disk.max", src_dir_fd=d, dst_dir_fd=d), lambda: os.chmod(d, 0o777),
                lambda: os.link("vars.fd", "new", src_dir_fd=d, dst_dir_fd=d)):
    try:
        attempt()
        left.append(attempt)
    except PermissionError:
        pass
sys.exit(len(left))
""")
    assert sorted(os.listdir(guest.state)) == ["disk.max", "disk.qcow2", "vars.fd"]


GROW = "os.ftruncate(vars, 1 << 20)\nos.pwrite(vars, bytes(17 << 20), 0)"


@pytest.mark.parametrize("agent", ["runs", "restarts", "restarts without the API"])
def test_variables_that_grow_are_the_end(cloud, guest, agent):
    pid, before = qemu(guest), cloud.instance("uefi")["status"].get("restarts", 0)
    cloud.wait("uefi", "Running")
    told = len([r for r, _ in cloud.events("uefi") if r == "ForbiddenWrite"])
    if agent != "runs":
        cloud.kill("node")
    if agent == "restarts without the API":
        cloud.kill("api")
    as_qemu(guest, GROW)
    if agent != "runs":
        assert guest.pids(QEMU) == [pid]
        cloud.start_node()
    # The machine is ended before the agent knows to which instance it belongs.
    if agent == "restarts without the API":
        until("it is ended", lambda: not os.path.exists(f"/proc/{pid}"))
        cloud.start_api()
    until("it is counted", lambda: cloud.instance("uefi")["status"].get("restarts", 0) > before)
    messages = until("an event says so", lambda: [m for r, m in cloud.events("uefi") if r == "ForbiddenWrite"][told:])
    assert messages[0].startswith(f"`vars.fd` has {17 * MIB} bytes, where UEFI variables have at most")
    until("another QEMU runs", lambda: [p for p in guest.pids(QEMU) if p != pid])
    cloud.wait("uefi", "Running")
    assert not os.path.exists(f"/proc/{pid}")
    assert os.path.getsize(f"{guest.state}/vars.fd") == os.path.getsize(VARS)
    # The next end gets its own reason, and these variables are kept.
    inode = os.stat(f"{guest.state}/vars.fd").st_ino
    pid = qemu(guest)
    os.kill(pid, 9)
    until("it is told as another end", lambda: cloud.instance("uefi")["status"]["restarts"] > before + 1)
    until("another QEMU runs", lambda: [p for p in guest.pids(QEMU) if p != pid])
    cloud.wait("uefi", "Running")
    assert os.stat(f"{guest.state}/vars.fd").st_ino == inode
