# SPDX-License-Identifier: Apache-2.0
"""The user namespace of an instance's container. The tests try everything with all capabilities in it, which no process
there has: nacre-vm keeps CAP_KILL, and QEMU none."""

import os
import signal
import socket
import subprocess

import pytest
from nodelib import GROUP, cloud, images, run, until  # noqa: F401 (two are fixtures)

QEMU = "qemu-system-x86_64"
NOBODY = "65534"


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return {k: v.strip() for k, _, v in (line.partition(":") for line in f)}


def read_map(pid, which):
    """The map of ids, from inside to outside."""
    with open(f"/proc/{pid}/{which}") as f:
        lines = [tuple(map(int, line.split())) for line in f]
    assert all(count == 1 for _, _, count in lines)
    return {inside: outside for inside, outside, _ in lines}


@pytest.fixture(scope="module")
def guests(cloud):
    """Two instances with disks: a boot sector that does nothing."""
    with open(f"{cloud.images}/idle", "wb") as f:
        f.write(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    cloud.post(f"{GROUP}/images", "Image", "idle", {"disk": {"file": "idle", "format": "raw", "firmware": "bios"}})
    for name in ("one", "two"):
        cloud.create(name, "idle")
    yield [cloud.wait(name, "Running") for name in ("one", "two")]
    for name in ("one", "two"):
        cloud.delete(name)


def processes(guest):
    (init,), (qemu,) = until("both run", lambda: guest.init() and guest.pids(QEMU) and (guest.init(), guest.pids(QEMU)))
    return init, qemu


def enter(guest, uid, script):
    """The output of SCRIPT as user UID of the container, in all its namespaces."""
    init, _ = processes(guest)
    return subprocess.run(["nsenter", f"--target={init}", "--user", "--mount", "--pid", "--net", "--uts", "--ipc",
                           f"--setuid={uid}", f"--setgid={uid}", "/bin/sh", "-c", script],
                          capture_output=True, text=True, timeout=120, check=True).stdout.split("\n")[:-1]


def test_two_users_and_nobody_else(guests):
    seen = set()
    for g in guests:
        init, qemu = processes(g)
        assert os.readlink(f"/proc/{init}/ns/user") == os.readlink(f"/proc/{qemu}/ns/user") != \
            os.readlink("/proc/self/ns/user")
        user = os.stat(g.state + "/disk.qcow2").st_uid
        for pid in (init, qemu):
            root = read_map(pid, "uid_map")[0]
            assert read_map(pid, "uid_map") == read_map(pid, "gid_map") == {0: root, user: user}
        # From the host's view: all four ids, and no other group.
        for pid, uid in ((init, root), (qemu, user)):
            s = status(pid)
            assert s["Uid"].split() == s["Gid"].split() == [str(uid)] * 4 and s["Groups"] == ""
        assert int(status(init)["CapBnd"], 16) == 1 << 5 | 1 << 6 | 1 << 7  # kill, setgid, setuid
        seen |= {root, user}
    # Each id belongs to one instance, and none to the host.
    assert len(seen) == 4 and min(seen) > 200000


def test_nothing_of_the_host_can_be_changed(guests):
    attempts = ["hostname other", "ip link set lo down", "ip link add x type dummy", "ip link del tap", "ip tuntap add y mode tap",
                "ip -6 route add default dev lo", "nft flush ruleset", "nft list ruleset", "ping -c1 ::1",
                "mount -t tmpfs none /tmp", "mount -o remount,rw /", "mount --bind /tmp /usr", "umount /state",
                "umount /proc", "mount -t proc none /tmp", "mknod /tmp/x c 1 3", "mknod /state/x c 1 3",
                "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding", "echo x >/config.json", "chmod 777 /config.json",
                "chmod 777 /state", "chown 0 /state", "chmod 666 /dev/kvm", "sysctl -w kernel.domainname=x"]
    script = "grep CapEff /proc/self/status; id -u; stat -c %u /usr\n" + "".join(
        f"({a}) >/dev/null 2>&1 && echo 'done: {a}'\n" for a in attempts) + "true"
    caps, uid, owner, *done = enter(guests[0], 0, script)
    # Root with all capabilities; the host's root is nobody to it.
    assert int(caps.split()[1], 16) >= (1 << 40) - 1 and uid == "0" and owner == NOBODY
    assert done == []
    init, _ = processes(guests[0])
    # The same commands succeed where they are allowed.
    assert subprocess.run(["nsenter", f"--target={init}", "--net", "ip", "link", "set", "lo", "down"],
                          check=False).returncode == 0
    for tool in {a.split()[0] for a in attempts} - {"echo"}:
        run("sh", "-c", f"command -v {tool}")


def test_no_file_can_be_made(guests):
    """No user of the container can create a file anywhere."""
    script = """
        echo folders
        for d in $(find / -path /usr -prune -o -path '/proc/[0-9]*' -prune -o -type d -print) /usr /usr/bin /proc/1; do
            [ $d = /state ] && echo state
            for make in touch mkdir mkfifo "ln -s x"; do $make $d/made 2>/dev/null && echo $make $d; done
        done
        true"""
    _, qemu = processes(guests[0])
    user = os.stat(f"/proc/{qemu}").st_uid
    for uid in (0, user):
        assert enter(guests[0], uid, script) == ["folders", "state"]
    # QEMU can write to its disk only.
    assert enter(guests[0], user, "find / -path /proc -prune -o -type f -writable -print 2>/dev/null; true") == ["/state/disk.qcow2"]
    assert enter(guests[0], user, "cat /config.json; echo")[0].startswith('{"name":"t/one"')


def test_proc_tells_of_its_own_processes_only(guests):
    """It shows nothing of the host's kernel, devices, interrupts and command line."""
    _, qemu = processes(guests[0])
    user = os.stat(f"/proc/{qemu}").st_uid
    for uid in (0, user):
        names = enter(guests[0], uid, "ls /proc")
        assert {n for n in names if not n.isdigit()} <= {"self", "thread-self"} and "1" in names


def test_its_last_word_is_its_own_to_spoil(cloud, guests):
    """If nacre-vm leaves an unreadable exit.json, the agent assumes that it was killed."""
    init, qemu = processes(guests[1])
    (fd,) = [fd for fd in os.listdir(f"/proc/{init}/fd")
             if os.readlink(f"/proc/{init}/fd/{fd}") == guests[1].dir + "/exit.json"]
    assert os.stat(f"/proc/{init}/fd/{fd}").st_size == 0
    with open(f"/proc/{init}/fd/{fd}", "w") as f:
        f.write('{"state":"ended","since":"2026-01-01T00:00:00.000000Z","reason":"Powe')
    os.kill(init, signal.SIGKILL)
    until("an event says so", lambda: ("Killed", "nacre-vm was killed; it is started again") in cloud.events("two"))
    until("another runs", lambda: guests[1].init() and guests[1].init() != [init] and guests[1].pids(QEMU))
    cloud.wait("two", "Running")
    assert os.stat(f"{guests[1].dir}/exit.json").st_size == 0


def test_an_agent_that_may_not_look_at_other_users_processes(cloud, guests):
    """The agent made the namespaces, so without CAP_SYS_PTRACE it can still start, adopt, end and remove instances."""
    before = [processes(g) for g in guests]
    cloud.kill("node")
    os.unlink(f"{guests[0].dir}/pid")
    try:
        cloud.start_node("setpriv", "--bounding-set=-sys_ptrace")
        cloud.wait_node()
        assert not int(status(cloud.daemons["node"].pid)["CapEff"], 16) & 1 << 19
        until("it is found", lambda: os.path.exists(f"{guests[0].dir}/pid"))
        assert [processes(g) for g in guests] == before
        os.kill(before[0][1], signal.SIGKILL)
        until("another QEMU", lambda: guests[0].pids(QEMU) and guests[0].pids(QEMU) != [before[0][1]])
        cloud.create("three", "idle")
        three = cloud.wait("three", "Running")
        init, _ = processes(three)
        cloud.delete("three")
        assert not os.path.exists(three.dir)
        until("nothing of it lingers", lambda: not os.path.exists(f"/proc/{init}"))
    finally:
        cloud.kill("node")
        cloud.start_node()
        cloud.wait_node()


def test_the_sockets_are_roots(guests):
    for name in ("control.sock", "console.sock", "exit.json", "log"):
        st = os.stat(f"{guests[0].dir}/{name}")
        assert st.st_uid == st.st_gid == 0 and not st.st_mode & 0o027, name
    assert os.stat(guests[0].dir).st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as s:
        at = os.open(guests[0].dir, os.O_PATH)
        s.connect(f"/proc/self/fd/{at}/control.sock")
        os.close(at)
        s.settimeout(60)
        assert b"running" in s.recv(4096)
