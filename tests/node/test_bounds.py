# SPDX-License-Identifier: Apache-2.0
"""The resources that an instance can take from its host. The end of the agent's own group must end no instance."""

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys

import leftovers
import pytest
from nodelib import GROUP, UnixConnection, cloud, images, until  # noqa: F401 (two are fixtures)

QEMU = "qemu-system-x86_64"
MIB = 1 << 20
TYPE = {"vcpus": 1, "memoryMiB": 256}  # "small" of nodelib


def read(path):
    with open(path) as f:
        return f.read().strip()


def find(cgroups, file):
    """The content of the file in the one hierarchy that has it."""
    found = [read(f"{d}/{file}") for d in cgroups if os.path.exists(f"{d}/{file}")]
    return found[0] if found else None


def copy_cpuset(group):
    """A new group of version 1 has no processors and no memory nodes, so copies the parent's."""
    for f in ("cpuset.cpus", "cpuset.mems"):
        if os.path.exists(f"{group}/{f}"):
            with open(f"{group}/{f}", "w") as to:
                to.write(read(f"{os.path.dirname(group)}/{f}"))


def join(groups):
    """Moves this process into the groups."""
    for d in groups:
        with open(f"{d}/cgroup.procs", "w") as f:
            f.write("0")


@pytest.fixture(scope="module")
def guest(cloud):
    """An instance with a disk: a boot sector that does nothing."""
    with open(f"{cloud.images}/idle", "wb") as f:
        f.write(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB - 512))
    cloud.post(f"{GROUP}/images", "Image", "idle", {"disk": {"file": "idle", "format": "raw", "firmware": "bios"}})
    cloud.create("idle", "idle")
    yield cloud.wait("idle", "Running")
    cloud.delete("idle")


def qemu(guest):
    (pid,) = until("QEMU runs", lambda: guest.pids(QEMU))
    return pid


def uid_of(pid):
    return os.stat(f"/proc/{pid}").st_uid


def groups_of(guest, *files):
    """The instance's control groups. Skips the test if no hierarchy has one of FILES."""
    groups = leftovers.cgroups(guest.netns)
    if not groups or (files and not any(find(groups, f) for f in files)):
        pytest.skip(f"this machine has no control groups with {' or '.join(files) or 'anything'}")
    return groups


def uses_tcg(guest):
    argv = read(f"/proc/{qemu(guest)}/cmdline").split("\0")
    return argv[argv.index("-accel") + 1].startswith("tcg")


def test_limits(guest):
    groups = groups_of(guest)
    pids = {qemu(guest), *guest.init()}
    assert len(pids) == 2
    for d in groups:
        assert {int(p) for p in read(f"{d}/cgroup.procs").split()} == pids, d
    memory = str((256 + 4 + 4 + 256 + (256 if uses_tcg(guest) else 0)) * MIB)
    # None: the machine lacks this controller, so there is no limit.
    assert (find(groups, "memory.max") or find(groups, "memory.limit_in_bytes")) in (memory, None)
    assert (find(groups, "cpu.max") or find(groups, "cpu.cfs_quota_us") or "150000").split()[0] == "150000"
    assert find(groups, "pids.max") in ("129", None)
    weights = [find(groups, f) for f in ("io.weight", "io.bfq.weight", "blkio.bfq.weight")]
    assert set(filter(None, weights)) <= {"100", "default 100"}
    assert {read(f"/proc/{p}/oom_score_adj") for p in pids} == {"500"}
    # With a limit of 1 byte no core is written, and none is piped into a program of the host.
    assert all(re.search(r"^Max core file size +1 +1 ", read(f"/proc/{p}/limits"), re.M) for p in pids)


def test_memory_has_an_end(cloud, guest):
    """Code in place of QEMU takes all memory it can get: it is killed, the machine starts again, and an event says
    why."""
    pid, before = qemu(guest), cloud.instance("idle")["status"].get("restarts", 0)
    uid, groups = uid_of(pid), groups_of(guest, "memory.max", "memory.limit_in_bytes")

    def join_as_qemu():
        join(groups)
        os.setresuid(uid, uid, uid)

    def take(mib):
        code = f"b = b'x' * ({mib} << 20)\nprint(flush=True)\nwhile True: b += b'x' * (1 << 20) if {mib} > 500 else b''"
        return subprocess.Popen([sys.executable, "-c", code], preexec_fn=join_as_qemu, stdout=subprocess.PIPE)

    hogs = [take(600)]
    try:
        assert hogs[0].wait(120) == -signal.SIGKILL
        # Each is smaller than QEMU is with its oom_score_adj, so that QEMU is killed first.
        hogs = [take(250) for _ in range(4)]
        until("an event says so", lambda: [m for r, m in cloud.events("idle") if r == "OutOfMemory"])
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    until("it is counted", lambda: cloud.instance("idle")["status"].get("restarts", 0) > before)
    until("another QEMU runs", lambda: [p for p in guest.pids(QEMU) if p != pid])
    cloud.wait("idle", "Running")
    # The next end gets its own reason.
    os.kill(qemu(guest), signal.SIGKILL)
    until("an event says so", lambda: [m for r, m in cloud.events("idle") if r == "Killed"])
    cloud.wait("idle", "Running")


def test_a_disk_has_an_end(guest):
    pid = qemu(guest)
    limit = MIB + MIB // 1024 + 16 * MIB
    assert [l.split()[3:5] for l in read(f"/proc/{pid}/limits").splitlines() if l.startswith("Max file size")] == \
        [[str(limit)] * 2]
    # QEMU's user may write to its disk, up to the limit.
    code = f"""
import os, resource, sys
fd = os.open({guest.state + "/disk.qcow2"!r}, os.O_RDWR)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
os.setresgid(*[{uid_of(pid)}] * 3)
os.setresuid(*[{uid_of(pid)}] * 3)
try:
    os.pwrite(fd, b"x", {limit})
except OSError as e:
    sys.exit(e.errno)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == errno.EFBIG
    # Past the limit the guest gets an error, and the process no signal: SIGXFSZ is ignored.
    (init,) = guest.init()
    for p in (pid, init):
        (ignored,) = [l.split()[1] for l in read(f"/proc/{p}/status").splitlines() if l.startswith("SigIgn:")]
        assert int(ignored, 16) & 1 << (signal.SIGXFSZ - 1)
    assert [l.split()[3:5] for l in read(f"/proc/{init}/limits").splitlines() if l.startswith("Max file size")] == \
        [[str(MIB)] * 2]
    # QEMU can make no other file.
    st = os.stat(guest.state)
    assert st.st_uid == 0 and st.st_mode & 0o777 == 0o750


def test_descriptors(cloud, guest):
    """Processes have the descriptors that a machine needs, and none of the agent's, close-on-exec or not."""
    secret = f"{cloud.dir}/secret"
    with open(secret, "w"):
        pass
    cloud.kill("node")
    cloud.start_node("sh", "-c", "exec 9<$0; exec \"$@\"", secret)
    cloud.wait_node()
    assert os.readlink(f"/proc/{cloud.daemons['node'].pid}/fd/9") == secret
    cloud.create("poor", "idle")
    poor = cloud.wait("poor", "Running")
    (init,) = poor.init()
    for pid, own in ((qemu(poor), r"/state/disk\.qcow2|/image/disk|/dev/(net/tun|urandom|kvm)"), (init, re.escape(poor.dir) + r"/(log|exit\.json)|/seed")):
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [l for l in links if not re.fullmatch(rf"({own}|/dev/null|pipe:.*|socket:.*|anon_inode:.*)", l)]
        # QEMU: monitor and serial port. nacre-vm: also its listening sockets, two for metadata among them, router
        # advertisements, DHCPv4, DHCPv6 and the agent.
        assert len([l for l in links if l.startswith("socket:")]) <= (2 if pid != init else 11), links
    cloud.delete("poor")


def test_the_end_of_the_agents_group_ends_no_guest(cloud, guest):
    """Kills all processes in the agent's groups, as the kubelet does when a Pod ends."""
    groups_of(guest)
    pods = [f"{os.path.dirname(os.path.dirname(d))}/{cloud.prefix}pod" for d in leftovers.cgroups(guest.netns)]
    cloud.kill("node")
    try:
        for pod in pods:
            os.mkdir(pod)
            copy_cpuset(pod)
        enter = "for d; do [ \"$d\" = -- ] && break; shift; echo $$ >$d/cgroup.procs || exit; done; shift; exec \"$@\""
        cloud.start_node("sh", "-c", enter, "sh", *pods, "--")
        cloud.wait_node()
        agent = cloud.daemons["node"].pid
        assert all(str(agent) in read(f"{pod}/cgroup.procs").split() for pod in pods)
        cloud.create("born", "idle")
        born = cloud.wait("born", "Running")
        machines = [(g, qemu(g)) for g in (guest, born)]

        def kill_pod():
            pids = {p for pod in pods for p in read(f"{pod}/cgroup.procs").split()}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            return not pids - {str(agent)}

        kill_pod()
        cloud.daemons.pop("node").wait()
        until("all of the agent's group is dead", kill_pod)
        assert [(g, qemu(g)) for g in (guest, born)] == machines
        cloud.start_node()
        cloud.wait_node()
        cloud.wait("born", "Running")
        assert [(g, qemu(g)) for g in (guest, born)] == machines
        cloud.delete("born")
        assert leftovers.cgroups(born.netns) == [] and not os.path.exists(born.state)
    finally:
        for pod in filter(os.path.exists, pods):
            until("its group is empty", lambda pod=pod: not read(f"{pod}/cgroup.procs"))
            os.rmdir(pod)
        if "node" not in cloud.daemons:
            cloud.start_node()


def test_nothing_is_left(cloud, guest):
    """Groups and disks of instances that are gone, which a killed agent left."""
    groups_of(guest)
    cloud.create("gone", "idle")
    gone = cloud.wait("gone", "Running")
    assert leftovers.cgroups(gone.netns) and os.path.exists(gone.state)
    cloud.kill("node")
    cloud.request("DELETE", f"{GROUP}/namespaces/t/instances/gone")
    stray = [os.path.dirname(d) + f"/{cloud.host}-i-0123456789ab" for d in leftovers.cgroups(guest.netns)]
    disk = f"{os.path.dirname(guest.state)}/01234567-89ab-4000-8000-000000000000"
    for d in [*stray, disk]:
        os.mkdir(d)
    # A group of another agent that has its own mount namespace, and so its own lock and its own names of namespaces.
    foreign = [d[:-1] + "c" for d in stray]
    for d in foreign:
        os.mkdir(d)
        copy_cpuset(d)
    other = subprocess.Popen(["sleep", "600"], preexec_fn=lambda: join(foreign))
    try:
        cloud.start_node()
        until("the instance is gone", lambda: cloud.instance("gone") is None)
        assert leftovers.cgroups(gone.netns) == [] and not os.path.exists(gone.state) and not os.path.exists(gone.dir)
        until("what nobody knows is gone", lambda: not [d for d in [*stray, disk] if os.path.exists(d)])
        assert os.path.isdir(disk.replace("/instances/", "/removed/"))
        assert leftovers.cgroups(guest.netns) and qemu(guest)
        assert other.poll() is None and all(str(other.pid) in read(f"{d}/cgroup.procs").split() for d in foreign)
    finally:
        other.kill()
        other.wait()
        leftovers.remove_cgroups(os.path.basename(foreign[0]))


def metric(cloud, name):
    c = UnixConnection(f"{cloud.dir}/node.sock")
    c.request("GET", "/metrics")
    lines = c.getresponse().read().decode().splitlines()
    c.close()
    return [float(l.split()[1]) for l in lines if l.startswith(name + " ")]


def test_it_says_what_is_missing(cloud, guest):
    groups_of(guest, "memory.max", "memory.limit_in_bytes")
    cloud.wait_node()
    (missing,) = metric(cloud, "nacre_node_cgroup_controllers_missing")
    assert ("missing_controllers=" in cloud.node_log()) == bool(missing)
    cloud.kill("node")
    (memory,) = [os.path.dirname(os.path.dirname(d)) for d in leftovers.cgroups(guest.netns)
                 if os.path.exists(f"{d}/memory.max") or os.path.exists(f"{d}/memory.limit_in_bytes")]
    # A mount namespace without the host's control groups, as in a Pod.
    cloud.start_node("unshare", "--mount", "sh", "-c", "umount $0; exec \"$@\"", memory)
    cloud.wait_node()
    assert 'missing_controllers="memory' in cloud.node_log()
    assert metric(cloud, "nacre_node_cgroup_controllers_missing") > [missing]
    cloud.kill("node")

    def start():
        p = subprocess.run(["unshare", "--mount", "sh", "-c", "umount $0; exec \"$@\"", memory, *cloud.node_argv(),
                            "--require-cgroups"], capture_output=True, text=True, timeout=120, check=False)
        # A worker that was being forked may hold the socket of the killed agent for a moment longer.
        return None if "another process listens" in p.stderr else p
    required = until("it ends for another reason", start)
    assert required.returncode == 1 and "no control groups for memory" in required.stderr
    cloud.start_node()
    cloud.wait_node()
    assert qemu(guest)


def test_it_says_how_many_connections_a_guest_can_have(cloud):
    """All of them are in the host's memory (src/node/conntrack.h)."""
    cloud.wait_node()
    limit = int(read("/proc/sys/net/netfilter/nf_conntrack_max"))
    until("a metric says so", lambda: metric(cloud, "nacre_node_connections_max") == [limit])
