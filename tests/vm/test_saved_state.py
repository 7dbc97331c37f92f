# SPDX-License-Identifier: Apache-2.0
"""A guest of the Debian cloud image in the network that the agent makes for an instance, with nacre-vm's responders:
booted, and later restored from a saved state into a new container with new responders, as after a move to another host.
Nacre saves no guests itself; here QEMU does. A boot takes minutes under software emulation, so only with --all."""

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import time

import leftovers
import pytest
from cloudlib import NAME, Guest, directory, remove
from harness import BIN, MORTAL, eventually, patient, run
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, IPv6
from scapy.layers.l2 import Ether
from vmlib import MAC, PROGRAM, kind, open_packet

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.skipif(not os.environ.get("NACRE_TEST_ALL"), reason="only with --all"),
              pytest.mark.skipif(not os.path.exists(f"{NAME}.qcow2"), reason=f"no {NAME}.qcow2; make it: ./dev image debian")]

ID, UUID = "0b5ac4a84b0e", "0b5ac4a8-4b0e-4c35-9c3d-000000000001"
LINK_LOCAL = "fe80::4e:1ff:fe00:5"  # made of the MAC
PREFIX, DELEGATED, PRIVATE, SHARED = "2001:db8:1:1::/64", "2001:db8:2::/60", "192.0.0.2", "198.51.100.3"
OWN, OUTSIDE = "2001:db8:1:1::2", "2001:db8:9::1"
NETWORK = {"mac": MAC, "ip": "fd10::5", "net": PREFIX, "delegated": DELEGATED, "address4": PRIVATE, "ipv4": "shared",
           "slices": [{"address": SHARED, "first": 1024, "last": 1535}], "ingress": [{"proto": "tcp", "port": 22}, {"proto": "icmp"}]}
LEASE_S = 60
CONFIG = {"name": "t/web", "uuid": UUID, "kernel": "/none", "mac": MAC, "tap": "tap", "prefix": PREFIX, "delegated": DELEGATED,
          "ipv4": PRIVATE, "ipv4Router": "169.254.0.1", "public4": SHARED, "leaseSeconds": LEASE_S, "hostname": "web",
          "dns": [{"address": "2001:db8:53::53"}]}
RENEW, REBIND, REPLY = 5, 6, 7


class Container:
    """The container of the instance, and `public`, from where its guest is reached."""

    def __init__(self, directory, number):
        self.dir, self.prefix = directory, f"vm{os.getpid()}-{number}-"
        leftovers.claim("netns", self.prefix)
        self.public, self.netns = f"{self.prefix}public", f"{self.prefix}i-{ID}"
        self.enter = ["nsenter", f"--net=/run/netns/{self.netns}"]
        self.host = self.responders = self.wire = None
        self.seen = []

    def start(self):
        for name in (self.public, self.netns):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        self.host = subprocess.Popen([*MORTAL, os.path.join(BIN, "../node/test-instnet-host"), self.prefix],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.host.stdin.write(f"0 {json.dumps(NETWORK)}\n")
        self.host.stdin.flush()
        assert self.host.stdout.readline().strip() == "changed"
        run("ip", "-n", self.public, "neigh", "replace", LINK_LOCAL, "lladdr", MAC, "nud", "permanent", "dev", f"i-{ID}")
        run("ip", "-n", self.public, "route", "add", PREFIX, "via", LINK_LOCAL, "dev", f"i-{ID}")
        run("ip", "-n", self.public, "addr", "add", f"{OUTSIDE}/128", "dev", "lo", "nodad")
        self.wire = open_packet(self.netns, "tap")
        self.responders = subprocess.Popen([*MORTAL, *self.enter, PROGRAM, f"--config={self.dir}/config.json"], stdout=subprocess.PIPE)
        assert self.responders.stdout.readline() == b"ready\n"

    def outside(self, *argv):
        return ["nsenter", f"--net=/run/netns/{self.public}", *argv]

    def frames(self):
        """All frames of the guest's port so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.seen.append(Ether(self.wire.recv(65536)))
        return self.seen

    def renewals4(self):
        """Requests for the address that the guest has, which were acknowledged with it. The first after a boot is none."""
        messages = [f for f in self.frames() if DHCP in f]
        asked = {f[BOOTP].xid for f in messages if kind(f) == 3 and f[BOOTP].ciaddr == f[IP].src == PRIVATE}
        return [f for f in messages if kind(f) == 5 and f[BOOTP].xid in asked and f[BOOTP].yiaddr == PRIVATE]

    def messages6(self):
        return [bytes(f[UDP].payload) for f in self.frames() if IPv6 in f and UDP in f and {f[UDP].sport, f[UDP].dport} == {546, 547}]

    def renewals6(self):
        """The same of DHCPv6, with address and prefix."""
        messages = self.messages6()
        asked = {m[1:4] for m in messages if m[0] in (RENEW, REBIND)}
        given = ipaddress.ip_address(OWN).packed, bytes([60]) + ipaddress.ip_network(DELEGATED)[0].packed
        return [m for m in messages if m[0] == REPLY and m[1:4] in asked and all(g in m for g in given)]

    def kinds(self):
        """What the guest has asked by DHCPv4 and DHCPv6."""
        return {kind(f) for f in self.frames() if DHCP in f and f.src == MAC}, {m[0] for m in self.messages6() if m[0] != REPLY}

    def await_renewals(self):
        eventually("both leases are renewed", 2 * LEASE_S, lambda: self.renewals4() and self.renewals6(), 1)

    def stop(self):
        try:
            if self.responders:
                self.responders.send_signal(signal.SIGTERM)
                assert self.responders.wait(patient(20)) == 0
                self.responders.stdout.close()
            if self.host:
                self.host.stdin.close()
                self.host.wait(patient(20))
                self.host.stdout.close()
        finally:
            if self.wire:
                self.wire.close()
            leftovers.remove_namespaces(self.prefix)


ASK = "curl -sgf --max-time 60"
TOKEN = f"{ASK} -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 21600'"
WHO = "latest/meta-data/instance-id"
SOLICIT = """sudo python3 -c 'import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
for index, name in socket.if_nameindex():
    if name != "lo":
        s.sendto(bytes([133]) + bytes(7), ("ff02::2", 0, 0, index))'"""
METADATA = ["169.254.169.254", "[fd00:ec2::254]"]


def facts(guest, *more):
    """What the guest knows of its network and of itself, in one login. MORE are commands that print a line each."""
    commands = ["ip -4 -o addr show scope global | awk '{print $4}'",
                "ip -6 -o addr show scope global | awk '{print $4}' | sort | xargs",
                "ip route show default | cut -d' ' -f1-3", "ip -6 route show default | grep -o 'default.*via [^ ]*' | sort -u",
                f"ip -6 route show {DELEGATED} table all | grep -c unreachable", "resolvectl dns | grep -o '2001:db8:.*'", "hostname",
                *(f"{ASK} -H \"X-aws-ec2-metadata-token: $({TOKEN} http://{at}/latest/api/token)\" http://{at}/{WHO}" for at in METADATA),
                *more]
    return guest.do("\n".join(f"echo $( ({command}) 2>&1)" for command in commands)).splitlines()


def test_saved_state():
    made, containers = directory(), []
    try:
        os.chmod(made, 0o755)
        os.mkdir(f"{made}/seed")
        with open(f"{made}/config.json", "w") as f:
            json.dump({**CONFIG, "seed": f"{made}/seed"}, f)
        containers.append(Container(made, 1))
        check(made, containers)
    finally:
        for c in containers:
            c.stop()
        remove(made)


def check(made, containers):
    first, url = containers[0], f"http://{METADATA[0]}/nocloud/"
    first.start()
    guest = Guest(made, first.enter, "tap,id=net,ifname=tap,script=no,downscript=no,vnet_hdr=on", OWN)
    with open(f"{made}/seed/ssh-keys", "w") as f:
        f.write(guest.public_key)
    try:
        guest.start("kernel", url)
        guest.ssh = first.outside(*guest.ssh[len(guest.enter):])
        guest.await_ssh()
        assert guest.do("cloud-init status --wait | tail -n 1") == "status: done"
        # A token that ends when nacre-vm does, long before its time.
        before = facts(guest, f"{TOKEN} http://{METADATA[0]}/latest/api/token | tee /run/user/$(id -u)/token | wc -c")
        print(before)
        assert before[0] == f"{PRIVATE}/32" and f"{OWN}/128" in before[1].split() and len(before[1].split()) == 2
        assert before[2:] == ["default via 169.254.0.1", "default via fe80::1", "1", "2001:db8:53::53", "web", UUID, UUID, "80"]
        first.await_renewals()
        guest.save(f"{made}/state")
        first.stop()

        containers.append(second := Container(made, 2))
        second.start()
        guest.enter = second.enter
        guest.start("kernel", url, saved=f"{made}/state")
        guest.ssh = second.outside(*guest.ssh[len(first.outside()):])
        eventually("the state is loaded", 60, lambda: guest.qmp(("query-status", {}))[0]["status"] == "paused", catch=(OSError,))
        guest.qmp(("cont", {}))
        began = time.monotonic()
        eventually("the guest answers", 30, lambda: run(*second.outside("ping", "-c1", "-W1", OWN), check=False).returncode == 0)
        print(f"first answered ping {time.monotonic() - began:.1f} s after the restore")
        # The old token is refused, the default route lasts longer than the time between two advertisements (ten minutes),
        # and all else is as before.
        after = facts(guest, f"{ASK} -o /dev/null -w '%{{http_code}}' -H \"X-aws-ec2-metadata-token: $(cat /run/user/$(id -u)/token)\" "
                      f"http://{METADATA[0]}/{WHO}", "ip -6 route show default | grep -o 'expires [0-9]*' | cut -d' ' -f2 | sort -n | head -n 1")
        assert (after[:-2], after[-2]) == (before[:-1], "401") and int(after[-1]) > 600, after
        second.await_renewals()
        # It has not begun anew, but renewed (DHCPv4: request) or rebound what it had.
        four, six = second.kinds()
        assert four == {3} and six <= {RENEW, REBIND}, (four, six)
        guest.do(SOLICIT)
        eventually("the router is advertised", 20, lambda: [
            f for f in second.frames() if ICMPv6ND_RA in f and f[ICMPv6ND_RA].routerlifetime == 1800])
        assert facts(guest) == before[:-1]
    finally:
        guest.stop()
