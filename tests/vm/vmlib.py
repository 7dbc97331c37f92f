# SPDX-License-Identifier: Apache-2.0
"""The port of a guest without a machine: two namespaces, joined by a veth. In one, src/vm/test-responders answers behind
the rules that an instance's container has; in the other the test is the guest, or runs a real client."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile

import guestclients
import leftovers
import pytest
from harness import BIN, MORTAL, run, until
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

PROGRAM = os.path.join(BIN, "../vm/test-responders")
MAC, GATEWAY_MAC = "02:4e:01:00:00:05", "00:00:5e:00:02:01"
ADDRESS, ROUTER = "192.0.0.2", "169.254.0.1"

CONFIG = {"name": "t/web", "uuid": "0b5ac4a8-4b0e-4c35-9c3d-000000000001", "kernel": "/none", "mac": MAC, "tap": "tap",
          "mtu": 1400, "ipv4": ADDRESS, "ipv4Router": ROUTER, "hostname": "web", "domain": "a.example",
          "search": [{"domain": "a.example"}, {"domain": "b.example"}],
          "dns": [{"address": "9.9.9.9"}, {"address": "2620:fe::fe"}, {"address": "149.112.112.112"}]}

# For a guest that has IPv6, too
PREFIX, DELEGATED = "2001:db8:1:2::/64", "2001:db8:2::/60"
IPV6 = {"prefix": PREFIX, "delegated": DELEGATED}

# Of the rules of a container, those for DHCPv4 and IPv6's neighbours. Processes may send nothing else. All of DHCPv6 may
# pass, so that the responder has to choose itself.
RULES = f"""table inet nacre {{
    chain antispoof {{
        type filter hook prerouting priority -450; policy accept;
        iifname "tap" jump guest
    }}
    chain guest {{
        ether saddr != {MAC} drop
        ip saddr {{ 0.0.0.0, {ADDRESS} }} ip daddr {{ {ROUTER}, 255.255.255.255 }} udp sport 68 udp dport 67 accept
        ip6 saddr {{ ::, fe80::/64 }} ip6 daddr {{ fe80::1, ff02::/16 }} accept
        meta nfproto ipv6 udp dport 547 accept
        drop
    }}
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname "tap" ip daddr {{ {ROUTER}, 255.255.255.255 }} udp sport 68 udp dport 67 accept
        iifname "tap" icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
        iifname "tap" meta nfproto ipv6 udp dport 547 accept
    }}
    chain output {{
        type filter hook output priority filter; policy drop;
        oifname "tap" ip saddr {ROUTER} ip daddr {{ {ADDRESS}, 255.255.255.255 }} udp sport 67 udp dport 68 accept
        oifname "tap" icmpv6 type nd-router-advert accept
        oifname "tap" meta nfproto ipv6 udp sport 547 accept
        meta skuid != 4294967295 drop
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    }}
}}"""

SLOW = pytest.mark.skipif(not os.environ.get("NACRE_TEST_ALL"), reason="waits for half a minute; only with --all")

libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def enter_netns(netns):
    """The thread is in the namespace. A socket stays in the namespace in which it was made."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{netns}") as away:
        assert libc.setns(away.fileno(), 0x40000000) == 0
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), 0x40000000) == 0


def open_packet(netns, device):
    with enter_netns(netns):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    s.bind((device, 0))
    s.setblocking(False)
    return s


class Port:
    def __init__(self, **config):
        self.prefix = f"vm{os.getpid()}-"
        self.router, self.guest = self.prefix + "router", self.prefix + "guest"
        self.dir = tempfile.mkdtemp(prefix="nacre-test-")
        leftovers.claim("dir", self.dir)
        leftovers.claim("netns", self.prefix)
        self.config = {**CONFIG, **config}
        self.responders, self.wire = None, None

    def start(self):
        for netns in (self.router, self.guest):
            run("ip", "netns", "add", netns)
        run("ip", "-n", self.router, "link", "add", "tap", "address", GATEWAY_MAC, "type", "veth",
            "peer", "name", "eth0", "address", MAC, "netns", self.guest)
        run("nsenter", f"--net=/run/netns/{self.router}", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1",
            "net.ipv4.conf.tap.rp_filter=1", "net.ipv6.conf.tap.accept_dad=0")
        run("ip", "netns", "exec", self.router, "nft", "-f", "-", input=RULES)
        run("ip", "-n", self.guest, "link", "set", "lo", "up")
        run("ip", "-n", self.guest, "link", "set", "eth0", "up")
        run("ip", "-n", self.router, "link", "set", "tap", "up")
        run("ip", "-n", self.router, "addr", "add", "fe80::1/64", "dev", "tap", "nodad")
        run("ip", "-n", self.router, "addr", "add", f"{ROUTER}/32", "dev", "tap", "scope", "link")
        run("ip", "-n", self.router, "neigh", "add", "fe80::2", "lladdr", MAC, "dev", "tap", "nud", "permanent")
        run("ip", "-n", self.router, "route", "add", f"{ADDRESS}/32", "via", "inet6", "fe80::2", "dev", "tap")
        run("ip", "-n", self.router, "route", "add", PREFIX, "via", "fe80::2", "dev", "tap")
        self.wire = open_packet(self.guest, "eth0")
        self.start_responders()

    def start_responders(self):
        with open(f"{self.dir}/config.json", "w") as f:
            json.dump(self.config, f)
        self.responders = subprocess.Popen([*MORTAL, "nsenter", f"--net=/run/netns/{self.router}", PROGRAM,
                                            f"--config={self.dir}/config.json"], stdout=subprocess.PIPE)
        assert self.responders.stdout.readline() == b"ready\n"

    def stop_responders(self):
        self.responders.send_signal(signal.SIGTERM)
        status = self.responders.wait()
        self.responders.stdout.close()
        self.responders = None
        assert status == 0

    def stop(self):
        try:
            if self.responders:
                self.stop_responders()
        finally:
            if self.wire:
                self.wire.close()
            leftovers.remove_namespaces(self.prefix)
            shutil.rmtree(self.dir)

    def frames(self):
        """What was on the wire since the last call."""
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(Ether(self.wire.recv(65536)))
        return got

    def messages(self):
        """DHCPv4 messages that were on the wire since the last call."""
        return [f for f in self.frames() if DHCP in f and UDP in f]

    def messages6(self):
        """DHCPv6 messages since the last call: frames, whose UDP payload the caller reads."""
        return [f for f in self.frames() if IPv6 in f and UDP in f and 547 in (f[UDP].sport, f[UDP].dport)]

    def lose(self, match):
        """What the guest sends and MATCH fits gets lost from now on."""
        run("ip", "netns", "exec", self.router, "nft", "-f", "-", input=f"""table inet lost {{
            chain lost {{
                type filter hook prerouting priority -460
                iifname "tap" {match} drop
            }}
        }}""")

    def restart_responders(self):
        self.stop_responders()
        self.start_responders()

    def client(self, *argv, files=()):
        return guestclients.running(self.guest, self.dir, *argv, files=files)


def kind(frame):
    return dict(o for o in frame[DHCP].options if isinstance(o, tuple) and len(o) == 2)["message-type"]


def renewals(frames):
    """Requests by unicast that were acknowledged by unicast."""
    asked = [f for f in frames if kind(f) == 3 and f[BOOTP].ciaddr == ADDRESS and f.payload.dst == ROUTER]
    return [(a, f) for a in asked for f in frames if kind(f) == 5 and f[BOOTP].xid == a[BOOTP].xid and f.payload.dst == ADDRESS]


def await_renewal(port):
    frames = []

    def renewed():
        frames.extend(port.messages())
        return renewals(frames)

    until("the client has renewed its lease", renewed, 40)
