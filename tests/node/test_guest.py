# SPDX-License-Identifier: Apache-2.0
"""Real guests on one host: start, end, restart of the agent, bad images, removal."""

import json
import os
import shutil
import signal
import socket
import time

import leftovers
import netns
import pytest
from harness import patient
from nodelib import GROUP, cloud, images, run, until  # noqa: F401 (two are fixtures)
from pings import Ping

OUTSIDE, ROUTER = "2001:db8:9::1", "2001:db8:9::ff"
PING_AND_WEB = [{"protocol": "icmp"}, {"protocol": "tcp", "port": 80}]


@pytest.fixture(scope="module")
def outside(cloud):
    """A namespace behind `public`, to ping from."""
    netns.await_usable(cloud.public)
    place = cloud.prefix + "outside"
    run("ip", "netns", "add", place)
    run("ip", "-n", place, "link", "add", "eth0", "type", "veth", "peer", "name", "test", "netns", cloud.public)
    for where, device, address in ((cloud.public, "test", ROUTER), (place, "eth0", OUTSIDE)):
        run("ip", "-n", where, "addr", "add", f"{address}/64", "dev", device, "nodad")
        run("ip", "-n", where, "link", "set", device, "up")
    run("ip", "-n", place, "route", "add", "default", "via", ROUTER)
    return place


@pytest.fixture(scope="module")
def guest(cloud, outside):
    cloud.create("web", "lab", ingress=PING_AND_WEB)
    g = cloud.wait("web", "Running")
    answers(outside, g)
    yield g
    cloud.delete("web")
    assert netns.is_gone(g.netns)
    assert not os.path.exists(g.dir)
    assert leftovers.cgroups(g.netns) == []
    assert cloud.request("GET", f"{GROUP}/endpoints")[1]["items"] == []
    assert g.device not in run("ip", "-n", cloud.public, "-br", "link")


def answers(place, guest, seconds=60):
    until("the guest answers", lambda: " 0% packet loss" in run(
        "ip", "netns", "exec", place, "ping", "-q", "-c1", "-W2", guest.address, check=False), seconds)


def web(place, address, path="cgi-bin/info"):
    """The answer of the guest's HTTP server, which starts after the network."""
    return until(f"http://[{address}] answers", lambda: run(
        "ip", "netns", "exec", place, "curl", "-s", "-g", "-m", "20", f"http://[{address}]/{path}", check=False))


def say_on_console(guest, text, expect):
    s = socket.socket(socket.AF_UNIX)
    fd = os.open(guest.dir, os.O_PATH)
    s.connect(f"/proc/self/fd/{fd}/console.sock")
    os.close(fd)
    s.settimeout(10)
    heard, deadline = b"", time.monotonic() + patient(30)
    s.sendall(text.encode())
    while expect.encode() not in heard:
        try:
            data = s.recv(4096)
            assert data, heard
            heard += data
        except TimeoutError:
            assert time.monotonic() < deadline, heard
            s.sendall(text.encode())  # nobody was connected yet
    s.close()
    return heard.decode("utf-8", "replace")


def test_it_answers_at_both_prefixes(guest, outside):
    assert guest.address in web(outside, guest.address)
    assert f"{guest.delegated[1]}" in web(outside, str(guest.delegated[1]))
    assert "hello from t/web" in web(outside, guest.address, "")


def test_qemu_has_no_privileges(guest):
    (pid,) = guest.pids("qemu-system-x86_64")
    with open(f"/proc/{pid}/status") as f:
        s = {k: v.strip() for k, _, v in (line.partition(":") for line in f)}
    assert all(int(u) > 200000 for u in s["Uid"].split() + s["Gid"].split())
    assert int(s["CapEff"], 16) == int(s["CapPrm"], 16) == 0
    assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
    host = {n: os.readlink(f"/proc/self/ns/{n}") for n in ("user", "mnt", "pid", "ipc", "uts", "net")}
    assert not [n for n in host if os.readlink(f"/proc/{pid}/ns/{n}") == host[n]]
    # All that it can see. tests/node/test_users.py tests where it can write.
    assert sorted(os.listdir(f"/proc/{pid}/root")) == ["bin", "config.json", "dev", "image", "init", "lib", "lib64", "proc",
                                                       "sbin", "seed", "state", "tmp", "usr"]


def test_console(guest):
    assert "42 from web" in say_on_console(guest, "echo $((6*7)) from $(hostname)\n", "42 from web")


def test_killed_qemu_comes_back(cloud, guest, outside):
    def restarts():
        return cloud.instance("web")["status"].get("restarts", 0)

    before = restarts()
    (pid,) = guest.pids("qemu-system-x86_64")
    os.kill(pid, signal.SIGKILL)
    until("another QEMU", lambda: [p for p in guest.pids("qemu-system-x86_64") if p != pid])
    answers(outside, guest)
    assert ("Killed", "QEMU was killed by signal 9 (Killed); it is started again") in until(
        "an event says why", lambda: [e for e in cloud.events("web") if e[0] == "Killed"])
    until("the restart is counted", lambda: restarts() == before + 1)
    # The same for nacre-vm.
    (pid,) = guest.init()
    os.kill(pid, signal.SIGKILL)
    until("the restart is counted", lambda: restarts() == before + 2)
    answers(outside, guest)


def test_restart_of_the_agent_disturbs_nothing(cloud, guest, outside):
    answers(outside, guest)
    before = guest.pids("qemu-system-x86_64")
    pings = Ping(["ip", "netns", "exec", outside], guest.address)
    for _ in range(3):
        cloud.kill("node")
        cloud.start_node()
        cloud.wait_node()
    assert pings.stop().lost == []
    assert guest.pids("qemu-system-x86_64") == before


def test_what_happened_while_the_agent_was_away(cloud, guest, outside):
    cloud.kill("node")
    (pid,) = guest.pids("qemu-system-x86_64")
    os.kill(pid, signal.SIGKILL)
    until("all of it ended", lambda: not guest.pids("qemu-system-x86_64"))
    run("ip", "-n", cloud.public, "link", "del", guest.device)
    run("ip", "netns", "add", f"{cloud.host}-i-0123456789ab")
    cloud.start_node()
    until("it runs again", lambda: guest.pids("qemu-system-x86_64"))
    answers(outside, guest)
    until("what nobody asked for is removed", lambda: netns.is_gone(f"{cloud.host}-i-0123456789ab"))


@pytest.mark.parametrize("change", [["link", "del"], ["link", "set", "down"]])
def test_what_is_changed_behind_its_back_is_repaired(cloud, guest, outside, change):
    run("ip", "-n", cloud.public, *change[:2], guest.device, *change[2:])
    answers(outside, guest)


def test_power(cloud, guest, outside):
    cloud.patch("web", {"running": False})
    cloud.wait("web", "Stopped")
    assert guest.pids("qemu-system-x86_64") == []
    assert "as asked" in cloud.ready("web")["message"]
    cloud.patch("web", {"running": True})
    cloud.wait("web", "Running")
    answers(outside, guest)
    # A guest that powers itself off is started again, since it shall run.
    say_on_console(guest, "poweroff\n", "poweroff")
    until("an event says so", lambda: [e for e in cloud.events("web") if e[0] == "PoweredOff"])
    answers(outside, guest)


def test_removed_while_nobody_was_there(cloud, outside):
    """The instance was deleted without waiting for its finalizer: the agent removes what is left when it comes back."""
    cloud.create("orphan", "lab")
    g = cloud.wait("orphan", "Running")
    cloud.kill("controller")
    cloud.kill("node")
    path = f"{GROUP}/namespaces/t/instances/orphan"
    cloud.request("DELETE", path)
    cloud.request("PATCH", path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    assert cloud.instance("orphan") is None
    assert g.pids("qemu-system-x86_64")
    cloud.start_node()
    until("it is gone", lambda: not os.path.exists(g.dir) and netns.is_gone(g.netns))
    until("its endpoint is gone", lambda: g.uid not in json.dumps(cloud.request("GET", f"{GROUP}/endpoints")[1]))
    cloud.start_controller()


def test_an_object_with_another_uid_is_the_same_guest(cloud, guest, outside):
    """The state after a move to another API server: the guest is known by status.id."""
    before = guest.pids("qemu-system-x86_64")
    path = f"{GROUP}/namespaces/t/instances/web"
    old = cloud.instance("web")
    cloud.kill("controller")
    cloud.kill("node")
    cloud.request("DELETE", path)
    cloud.request("PATCH", path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    meta = {"name": "web", "finalizers": old["metadata"]["finalizers"]}
    status, new = cloud.request("POST", path.rpartition("/")[0], {**old, "metadata": meta})
    assert status == 201 and new["metadata"]["uid"] != old["metadata"]["uid"], new
    status, new = cloud.request("PATCH", f"{path}/status", {"status": old["status"]}, "application/merge-patch+json")
    assert status == 200 and new["status"]["id"] == old["metadata"]["uid"], new
    pings = Ping(["ip", "netns", "exec", outside], guest.address)
    cloud.start_controller()
    cloud.start_node()
    cloud.wait_node()
    assert pings.stop().lost == []
    answers(outside, guest)
    assert guest.pids("qemu-system-x86_64") == before


def test_nothing_is_removed_while_the_api_is_away(cloud, guest, outside):
    before = guest.pids("qemu-system-x86_64")
    cloud.kill("api")
    cloud.kill("node")
    cloud.start_node()
    pings = Ping(["ip", "netns", "exec", outside], guest.address)
    pings.await_answers(300)
    cloud.start_api()
    cloud.wait_node()
    assert pings.stop().lost == []
    assert cloud.ready("web")["reason"] == "Running"
    answers(outside, guest)
    assert guest.pids("qemu-system-x86_64") == before


def test_uefi_disk(cloud, outside, images):
    if not os.path.exists(f"{images}/disk.qcow2"):
        pytest.skip("no disk.qcow2; scripts/guest-image.sh OUTDIR --disk makes it")
    before = os.stat(f"{images}/disk.qcow2")
    cloud.post(f"{GROUP}/images", "Image", "disk", {"disk": {"file": "disk.qcow2", "format": "qcow2", "firmware": "uefi"}})
    cloud.create("uefi", "disk", ingress=PING_AND_WEB)
    g = cloud.wait("uefi", "Running")
    answers(outside, g, 90)
    assert "hello from guest" in web(outside, g.address, "")
    assert {"disk.qcow2", "disk.max", "vars.fd"} == set(os.listdir(g.state))
    # The guest runs from memory.
    say_on_console(g, "/bin/busybox blkdiscard /dev/vda && echo dis''carded\n", "discarded")
    answers(outside, g)
    cloud.delete("uefi")
    after = os.stat(f"{images}/disk.qcow2")
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


def test_bios_disk(cloud):
    """A boot sector that prints a text on the serial port."""
    code = bytes.fromhex("31c08ed8be167cbaf803fcac84c07403eeebf8f4ebfd") + b"booted by the BIOS\0"
    with open(f"{cloud.images}/sector", "wb") as f:
        f.write(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    cloud.post(f"{GROUP}/images", "Image", "bios", {"disk": {"file": "sector", "format": "raw", "firmware": "bios"}})
    cloud.create("bios", "bios")
    g = cloud.wait("bios", "Running")
    say_on_console(g, "", "booted by the BIOS")
    # It is deleted while its host boots: nothing but its disk is left of it.
    cloud.patch("bios", {"running": False})
    cloud.wait("bios", "Stopped")
    cloud.kill("node")
    shutil.rmtree(g.dir)
    cloud.request("DELETE", f"{GROUP}/namespaces/t/instances/bios")
    cloud.start_node()
    until("it is gone", lambda: cloud.instance("bios") is None)
    assert not os.path.exists(g.state)
    until("its disk is deleted", lambda: not os.path.exists(f"{cloud.dir}/state/removed/{g.uid}"))


@pytest.mark.parametrize("name, spec, field, says", [
    ("missing", {"kernel": {"kernel": "no-such-file"}}, "kernel.kernel", "no-such-file`: No such file"),
    ("not-a-kernel", {"kernel": {"kernel": "cmdline"}}, "kernel.kernel", "is not a Linux kernel"),
    ("no-initrd", {"kernel": {"kernel": "vmlinuz", "initrd": "none"}}, "kernel.initrd", "none`: No such file"),
    ("not-a-disk", {"disk": {"file": "vmlinuz", "format": "qcow2"}}, "disk.file", "is not a qcow2 image"),
    ("odd-disk", {"disk": {"file": "cmdline", "format": "raw", "firmware": "bios"}}, "disk.file", "size of a disk"),
])
def test_bad_images(cloud, name, spec, field, says):
    cloud.post(f"{GROUP}/images", "Image", name, spec)
    cloud.create(name, name)
    g = cloud.wait(name, "ImageUnavailable")
    message = cloud.ready(name)["message"]
    assert message.startswith(f"Image `{name}`, spec.{field}: ") and says in message
    assert g.pids("qemu-system-x86_64") == []
    cloud.delete(name)


@pytest.mark.parametrize("name, cmdline", [("newline", "quiet\nrm"), ("unicode", "quiet init=/bin/\u00fc\u4e2d"),
                                           ("commas", "a,b,,c 'x' \"y\" \\"), ("long", "x" * 1500)])
def test_odd_command_lines(cloud, name, cmdline):
    """Command lines that the API accepts don't harm the agent and have no special meaning to QEMU."""
    cloud.post(f"{GROUP}/images", "Image", name, {"kernel": {"kernel": "vmlinuz", "cmdline": cmdline}})
    cloud.create(name, name)
    if name == "newline":
        cloud.wait(name, "StartFailed")
        assert "cmdline: control characters are not allowed" in cloud.ready(name)["message"]
        assert "Started" not in [reason for reason, _ in cloud.events(name)], "it is refused before it is started"
    else:
        g = cloud.wait(name, "Running")
        (pid,) = g.pids("qemu-system-x86_64")
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            argv = f.read().split(b"\0")
        assert argv[argv.index(b"-append") + 1].decode().startswith(cmdline + " no_timer_check nacre.name=t/")
    cloud.delete(name)
    assert cloud.daemons["node"].poll() is None


def test_no_such_image(cloud):
    cloud.create("none", "nothing")
    cloud.wait("none", "ImageNotFound")
    assert "Image `nothing` does not exist" in cloud.ready("none")["message"]
    # The instance recovers by itself.
    cloud.post(f"{GROUP}/images", "Image", "nothing", {"kernel": {"kernel": "vmlinuz", "initrd": "initrd"}})
    cloud.wait("none", "Running")
    cloud.delete("none")


def test_control_socket_survives_rubbish(guest):
    fd = os.open(guest.dir, os.O_PATH)
    for data in (b"\0" * 100 + b"\n", b"x" * 10000, b'{"command":"dance"}\n', b'{"command":7}\n', b"[" * 3000 + b"\n"):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        s.connect(f"/proc/self/fd/{fd}/control.sock")
        assert json.loads(s.recv(4096))["state"] == "running"
        try:
            s.sendall(data)
            s.recv(4096)
        except OSError:
            pass
        s.close()
    os.close(fd)
    assert guest.pids("qemu-system-x86_64")
