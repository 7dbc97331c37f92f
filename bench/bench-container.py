# SPDX-License-Identifier: Apache-2.0
"""
What the container of an instance with a shared address costs a packet of a known connection: its translation and a
firewall of 100 rules, over bare forwarding by a namespace with the same hops. The container is a real one, as
src/node/test-instnet-host makes it; in place of the guest's tap there is a veth.

    guest (eth0) -- tap :container: uplink -- i-ID :public: far0 -- near0 :far

To say where the time goes, other containers of the same kind lack one part of the rules each.
"""

import ctypes
import json
import os
import socket
import statistics
import struct
import subprocess
import time

from instances import in_thread
from lib import BUILD, Bench, sh, wait

ID, MAC = "0b5ac4a84b0e", "02:4e:01:00:00:05"
GATEWAY, GATEWAY_MAC = "169.254.0.1", "00:00:5e:00:02:01"
SHARED, PRIVATE, FAR = "198.51.100.3", "192.0.0.2", "192.0.2.1"
GUEST6, FAR6, NEXT6 = "2001:db8:1:1::5", "2001:db8:f:1::1", "fe80::4eff:fe01:5"
SPEC = {"mac": MAC, "ip": "fd10::5", "net": "2001:db8:1:1::/64", "address4": PRIVATE, "ipv4": "shared",
        "slices": [{"address": SHARED, "first": 1024, "last": 1535}]}
RULES = [{"protocol": "udp", "port": 53}] + [
    {"protocol": "tcp", "port": i, "prefixes": [f"2001:db8:{0x1000 + i:x}::/48", f"10.0.{i}.0/24"]} for i in range(1, 100)]
BATCH, BATCHES, ROUNDS = 64, 100, 101
SO_MEMINFO, SK_MEMINFO_DROPS = 55, 8

# The kernel's own connection tracking and translation.
SNAT = f"""
table inet t {{ chain forward {{ type filter hook forward priority 0; ct state invalid drop; }}; }}
table ip n {{ chain postrouting {{ type nat hook postrouting priority 100;
oifname "uplink" meta l4proto {{ 6, 17 }} snat to {SHARED}:1024-1535; }}; }}"""

# What the container's rules are without, one at a time. FIREWALL is the firewall's table.
PARTS = {
    "`antispoof`": "delete chain inet nacre antispoof",
    "the firewall, and the check that it was asked": "delete table inet FIREWALL; flush chain inet nacre forward; "
                                                     "add rule inet nacre forward accept",
    "`forward`": "delete chain inet nacre forward",
    "`never`, which `forward` goes to": "flush chain inet nacre never; add rule inet nacre never accept",
    "`egress`": "delete chain ip nacre egress",
}


class Message(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_size_t), ("len", ctypes.c_size_t)]


LIBC = ctypes.CDLL(None, use_errno=True)
PAYLOAD = ctypes.create_string_buffer(b"x" * 64, 64)
IOV = (ctypes.c_size_t * 2)(ctypes.addressof(PAYLOAD), 64)
MESSAGES = (Message * BATCH)(*[Message(None, 0, ctypes.addressof(IOV), 1, None, 0, 0, 0)] * BATCH)


class Rig:
    """One container between a guest and the internet. RULES: an nftables ruleset instead of the container's own. CHANGE: what
    nft does to that."""

    def __init__(self, bench, name, rules=None, change=None):
        self.prefix = f"{bench.prefix}{name}-"
        self.public, self.container, self.guest, self.far = (
            self.prefix + end for end in ("public", f"i-{ID}", "guest", "far"))
        for netns in (self.public, self.container, self.guest, self.far):
            sh("ip", "netns", "add", netns)
            sh("ip", "-n", netns, "link", "set", "lo", "up")
        self.links()
        host = subprocess.Popen([os.path.join(BUILD, "src", "node", "test-instnet-host"), self.prefix],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in ("firewall " + json.dumps({"metadata": {"name": "a", "namespace": "t", "uid": "a", "generation": 1},
                                               "spec": {"instances": {}, "ingress": RULES}}), f"0 {json.dumps(SPEC)}"):
            host.stdin.write(line + "\n")
            host.stdin.flush()
            answer = host.stdout.readline().strip()
            if answer not in ("ok", "changed"):
                raise RuntimeError(answer)
        host.stdin.close()
        host.wait()
        self.routes()
        if rules is not None:
            self.nft("flush ruleset\n" + rules)
        if change is not None:
            tables = sh("ip", "netns", "exec", self.container, "nft", "list", "tables").split()
            self.nft(change.replace("FIREWALL", next(t for t in tables if t.startswith("nacre_firewall"))))
        self.flows = {way: self.flow(*way) for way in (("out", 4), ("in", 4), ("out", 6), ("in", 6))}

    @staticmethod
    def ip(netns, line):
        sh("ip", "-n", netns, *line.split())

    def nft(self, text):
        subprocess.run(["ip", "netns", "exec", self.container, "nft", "-f", "-"], input=text, text=True, check=True)

    def links(self):
        self.ip(self.container, f"link add tap type veth peer name eth0 netns {self.guest}")
        self.ip(self.guest, f"link set eth0 address {MAC} up addrgenmode none")
        self.ip(self.public, f"link add far0 type veth peer name near0 netns {self.far}")
        sh("ip", "netns", "exec", self.public, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
           "net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.all.forwarding=1")
        for netns, device, own, own6 in ((self.public, "far0", "100.64.0.0", "fd00:9::"), (self.far, "near0", "100.64.0.1", "fd00:9::1")):
            self.ip(netns, f"link set {device} up")
            self.ip(netns, f"addr add {own}/31 dev {device}")
            self.ip(netns, f"addr add {own6}/127 dev {device} nodad")
        self.ip(self.far, f"addr add {FAR}/32 dev lo")
        self.ip(self.far, f"addr add {FAR6}/128 dev lo nodad")
        self.ip(self.far, "route add default via 100.64.0.0")
        self.ip(self.far, "-6 route add default via fd00:9::")
        self.ip(self.public, f"route add {FAR}/32 via 100.64.0.1")
        self.ip(self.public, f"-6 route add {FAR6}/128 via fd00:9::1")

    def routes(self):
        self.ip(self.guest, f"addr add {PRIVATE}/32 dev eth0")
        self.ip(self.guest, f"addr add {GUEST6}/128 dev eth0 nodad")
        self.ip(self.guest, f"neigh add {GATEWAY} lladdr {GATEWAY_MAC} dev eth0")
        self.ip(self.guest, f"neigh add fe80::1 lladdr {GATEWAY_MAC} dev eth0")
        self.ip(self.guest, f"route add default via {GATEWAY} dev eth0 onlink")
        self.ip(self.guest, "-6 route add default via fe80::1 dev eth0")
        self.ip(self.public, f"neigh replace {NEXT6} lladdr {MAC} dev i-{ID}")
        for address in (SHARED, PRIVATE):
            self.ip(self.public, f"route add {address}/32 via inet6 {NEXT6} dev i-{ID}")
        self.ip(self.public, f"-6 route add 2001:db8:1:1::/64 via {NEXT6} dev i-{ID}")

    def socket(self, netns, family, address, port):
        def made():
            s = socket.socket(family, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least there is
            s.bind((address, port))
            return s
        thread, result = in_thread(netns, made)
        thread.join()
        return result[0]

    def flow(self, way, version):
        """The two sockets of a connection that the guest opened, or one that came in; both ends have sent."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        guest = self.socket(self.guest, family, PRIVATE if version == 4 else GUEST6, 5000 if way == "out" else 5001)
        far = self.socket(self.far, family, FAR if version == 4 else FAR6, 6000 if way == "out" else 6001)
        guest.connect(far.getsockname()[:2])

        def opened():
            guest.send(b"x")
            far.settimeout(0.2)
            return far.recvfrom(10)[1][:2]
        far.connect(wait("packets from the guest", opened))

        def answered():
            far.send(b"x")
            guest.settimeout(0.2)
            return guest.recv(10)
        wait("packets to the guest", answered)
        for s in (guest, far):
            s.settimeout(None)
        return (guest, far) if way == "out" else (far, guest)


def drops(s):
    return struct.unpack("9I", s.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[SK_MEMINFO_DROPS]


def measure(sender, receiver):
    """
    Nanoseconds a packet. The kernel takes each through all namespaces before the call that sends it returns, and drops it
    at the receiver's full buffer.
    """
    before, fd = drops(receiver), sender.fileno()
    began = time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)
    for _ in range(BATCHES):
        left = BATCH
        while left:
            sent = LIBC.sendmmsg(fd, MESSAGES, left, 0)
            if sent < 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            left -= sent
    took = time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID) - began
    arrived = drops(receiver) - before
    if arrived < BATCH * BATCHES - 10:
        raise RuntimeError(f"{arrived} of {BATCH * BATCHES} packets arrived")
    return took / (BATCH * BATCHES)


def compare(rigs, way):
    """For each rig the median of its nanoseconds, and that of its ratios to the first one, round by round."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        rows = []
        for i in range(ROUNDS + 1):
            order = rigs if i % 2 else rigs[::-1]
            got = {rig: measure(*rig.flows[way]) for rig in order}
            rows.append([got[rig] for rig in rigs])
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    rows = rows[1:]  # the first round fills caches
    return [(statistics.median(row[i] for row in rows), statistics.median(row[i] / row[0] for row in rows))
            for i in range(len(rigs))]


def main():
    with Bench("container") as b:
        bare, snat, whole = Rig(b, "b", rules=""), Rig(b, "s", rules=SNAT), Rig(b, "w")
        print(f"The whole path of a packet, medians of {ROUNDS} rounds of {BATCH * BATCHES} packets, in turn; ratios round by "
              f"round. Load {os.getloadavg()[0]:.0f}.\n\n"
              "| packets | bare forwarding | the kernel's tracking and SNAT | container | SNAT / bare | container / bare |\n"
              "|---|---|---|---|---|---|", flush=True)
        for way in whole.flows:
            (bare_ns, _), (snat_ns, snat_ratio), (whole_ns, ratio) = compare([bare, snat, whole], way)
            what = f"IPv{way[1]} {way[0]}, UDP{', translated' if way[1] == 4 else ''}"
            print(f"| {what} | {bare_ns:.0f} ns | {snat_ns:.0f} ns | {whole_ns:.0f} ns | {snat_ratio:.2f} | {ratio:.2f} |", flush=True)
        parts = [Rig(b, f"p{i}", change=change) for i, change in enumerate(PARTS.values())]
        (_, _), (_, whole_ratio), *ratios = compare([bare, whole, *parts], ("out", 4))
        print("\n| IPv4 out, without | container / bare | less |\n|---|---|---|")
        for name, (_, ratio) in zip(PARTS, ratios):
            print(f"| {name} | {ratio:.2f} | {whole_ratio - ratio:.2f} |")


main()
