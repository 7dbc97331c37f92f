# SPDX-License-Identifier: Apache-2.0
"""Real clients at the port of a running instance: the test takes the tap from QEMU and puts a namespace in its place, so
agent, container, rules and nacre-vm are the real ones."""

import ctypes
import fcntl
import ipaddress
import os
import select
import signal
import struct
import threading

import guestclients
import pytest
from nodelib import GROUP, cloud, images, inside, open_tap, run, until  # noqa: F401 (two are fixtures)

QEMU = "qemu-system-x86_64"
SYS_PIDFD_GETFD = 438
TUNGETVNETHDRSZ, TUNSETVNETHDRSZ = 0x800454D7, 0x400454D8

libc = ctypes.CDLL(None, use_errno=True)


def take_tap(qemu):
    """A descriptor of the tap that the process QEMU has open."""
    (fd,) = [int(n) for n in os.listdir(f"/proc/{qemu}/fd") if os.readlink(f"/proc/{qemu}/fd/{n}") == "/dev/net/tun"]
    process = os.pidfd_open(qemu)
    try:
        taken = libc.syscall(SYS_PIDFD_GETFD, process, fd, 0)
        assert taken >= 0, os.strerror(ctypes.get_errno())
        return taken
    finally:
        os.close(process)


class Port:
    """A namespace in the place of a guest, whose QEMU is stopped. Its eth0 is a tap with the guest's MAC."""

    def __init__(self, cloud, guest):
        self.cloud, self.guest, self.netns = cloud, guest, f"{cloud.prefix}guest"
        (self.qemu,) = until("QEMU runs", lambda: guest.pids(QEMU))
        os.kill(self.qemu, signal.SIGSTOP)
        self.outer = take_tap(self.qemu)
        run("ip", "netns", "add", self.netns)
        self.inner = inside(self.netns, lambda: open_tap("eth0"))
        size = fcntl.ioctl(self.outer, TUNGETVNETHDRSZ, struct.pack("i", 0))
        fcntl.ioctl(self.inner, TUNSETVNETHDRSZ, size)
        run("ip", "-n", self.netns, "link", "set", "eth0", "address", guest.mac, "up")
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.carry)
        self.thread.start()

    def carry(self):
        other = {self.outer: self.inner, self.inner: self.outer}
        while not self.ended.is_set():
            for fd in select.select(list(other), [], [], 0.1)[0]:
                try:
                    os.write(other[fd], os.read(fd, 65536 + 12))
                except (BlockingIOError, OSError):  # taken by QEMU before it stopped, or the interface is down
                    continue

    def client(self, *argv, files=()):
        return guestclients.running(self.netns, self.cloud.dir, *argv, files=files)

    def close(self):
        self.ended.set()
        self.thread.join()
        os.close(self.inner)
        os.close(self.outer)
        os.kill(self.qemu, signal.SIGCONT)
        run("ip", "netns", "del", self.netns)


ADDRESS, GATEWAY = "203.0.113.7", "169.254.0.1"
NOCLOUD = "http://169.254.169.254/nocloud/"


@pytest.fixture
def port(cloud):
    if cloud.request("GET", f"{GROUP}/addresspools/own")[0] == 404:
        cloud.post(f"{GROUP}/addresspools", "AddressPool", "own", {"use": "dedicated", "prefix": f"{ADDRESS}/32", "quarantineSeconds": 0})
    cloud.create("port", "lab", ipv4="dedicated")
    p = Port(cloud, cloud.wait("port", "Running"))
    try:
        yield p
    finally:
        p.close()
        cloud.delete("port")


NETWORK = """[Match]
Name=eth0
[Network]
DHCP=yes
IPv6AcceptRA=yes
"""

# A network behind the guest, which gets a /64 of its delegated prefix
LAN = """[Match]
Name=lan
[Network]
DHCPPrefixDelegation=yes
IPv6AcceptRA=no
[DHCPPrefixDelegation]
UplinkInterface=eth0
SubnetId=1
Token=::7
"""


def has_address(c, guest):
    """The one that DHCPv6 gives."""
    until("it has the address", lambda: str(guest.net[2]) in [a for a, _ in c.addresses("-6")])


def test_networkd(port):
    run("ip", "-n", port.netns, "link", "add", "lan", "type", "veth", "peer", "name", "lan-peer")
    run("ip", "-n", port.netns, "link", "set", "lan-peer", "up")
    with port.client("/lib/systemd/systemd-networkd", files=[("/run/systemd/network/eth0.network", NETWORK),
                                                             ("/run/systemd/network/lan.network", LAN)]) as c:
        until("it has a default route", lambda: ("default", "fe80::1") in c.routes("-6"))
        until("it has an address of the prefix", lambda: any(ipaddress.ip_address(a) in port.guest.net for a, _ in c.addresses("-6")))
        until("it has a default route", lambda: ("default", GATEWAY) in c.routes())
        assert c.addresses() == [(ADDRESS, 32)]
        has_address(c, port.guest)
        lan = str(port.guest.delegated[(1 << 64) + 7])
        until("the network behind it has its /64", lambda: lan in str(c.ip("-6", "addr", "show", "dev", "lan")))


def test_dhclient6_from_another_link_local_address(port):
    """Guests need not make their link-local address from the MAC."""
    for change in (["down"], ["addrgenmode", "random"], ["up"]):
        run("ip", "-n", port.netns, "link", "set", "eth0", *change)
    until("it has a link-local address", lambda: "fe80::" in run(
        "ip", "-n", port.netns, "-6", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"))
    with port.client("dhclient", "-6", "-N", "-P", "-d", "-lf", "/run/leases", "-pf", "/run/pid", "eth0") as c:
        (link_local,) = [a for a, _ in c.addresses("-6") if a.startswith("fe80::")]
        assert "ff:fe" not in link_local
        has_address(c, port.guest)
        until("it has the prefix", lambda: f"iaprefix {port.guest.delegated}" in c.read("/run/leases"))


def has_network(c):
    until("it has a default route", lambda: ("default", GATEWAY) in c.routes())
    assert c.addresses() == [(ADDRESS, 32)] and c.mtu() == 1500
    run("nsenter", f"--net=/run/netns/{c.netns}", "ping", "-c1", "-W20", GATEWAY)


def test_dhclient(port):
    with port.client("dhclient", "-4", "-d", "-lf", "/run/leases", "-pf", "/run/pid", "eth0") as c:
        has_network(c)
        until("it has set the host name", lambda: c.hostname() == "port")


def test_udhcpc(port):
    with port.client("udhcpc", "-f", "-i", "eth0", "-O", "mtu", "-s", "/etc/udhcpc/default.script") as c:
        has_network(c)


def test_metadata(port):
    """What the agent writes into the instance's seed, while the guest runs, is told by the machine that SMBIOS names."""
    with open(f"/proc/{port.qemu}/cmdline") as f:
        argv = f.read().split("\0")
    (smbios,) = [b for a, b in zip(argv, argv[1:]) if a == "-smbios"]
    assert smbios.endswith(f"serial=ds=nocloud;dsmode=net;s={NOCLOUD}")
    with port.client("dhclient", "-4", "-d", "-lf", "/run/leases", "-pf", "/run/pid", "eth0") as c:
        has_network(c)
        curl = ("nsenter", f"--net=/run/netns/{c.netns}", "curl", "-sf", "--max-time", "60")
        assert run(*curl, f"{NOCLOUD}user-data") == ""
        with open(f"{port.guest.dir}/seed/user-data", "w") as f:
            f.write("#!/bin/sh\n")
        assert run(*curl, f"{NOCLOUD}user-data") == "#!/bin/sh\n"
        token = run(*curl, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", "http://169.254.169.254/latest/api/token")
        got = {name: run(*curl, "-H", f"X-aws-ec2-metadata-token: {token}", f"http://169.254.169.254/latest/meta-data/{name}")
               for name in ("instance-id", "ami-id", "hostname", "mac", "local-ipv4", "public-ipv4", "ipv6")}
    g = port.guest
    assert got == {"instance-id": g.uid, "ami-id": "lab", "hostname": "port", "mac": g.mac, "local-ipv4": ADDRESS,
                   "public-ipv4": ADDRESS, "ipv6": g.address}


def test_slice_that_comes_later(cloud):
    """The cloud had no pool of shared addresses when the machine started. Once there is a slice, its guest gets its
    address without a restart."""
    cloud.create("late", "lab", ipv4="shared")
    p = Port(cloud, cloud.wait("late", "Running"))
    try:
        with p.client("udhcpc", "-f", "-i", "eth0", "-t", "2", "-T", "1", "-A", "1", "-s", "/etc/udhcpc/default.script") as c:
            until("it asks", lambda: "broadcasting discover" in open(f"{cloud.dir}/client.log").read())
            assert c.addresses() == []
            part = {"address": "198.51.100.3", "firstPort": 1024, "lastPort": 1535}
            status, data = cloud.request("PATCH", f"{GROUP}/namespaces/t/instances/late/status",
                                         {"status": {"publicIPv4": part["address"], "portSlices": [part]}},
                                         "application/merge-patch+json")
            assert status == 200, data
            until("it has a default route", lambda: ("default", GATEWAY) in c.routes())
            assert c.addresses() == [("192.0.0.2", 32)]
    finally:
        p.close()
        cloud.delete("late")
