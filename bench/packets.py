# SPDX-License-Identifier: Apache-2.0
"""
Sends packets between the internet router of a lab and the tap of an Instance, by way of edge, leaf, host and the
instance's container. The guest is powered off, which keeps its network, and this program uses its tap.
"""

import fcntl
import json
import os
import socket
import struct
import time

from instances import in_thread
from lib import Api, sh, wait

INSTANCE = "/apis/nacre.dev/v1alpha1/namespaces/demo/instances/hello"
PORT = 80
BATCH = 20000
IPV6_FREEBIND = 78
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000
SO_MEMINFO, SK_MEMINFO_DROPS = 55, 8


def udp_frame(dst_mac, src_mac, src, dst, sport, dport, payload):
    def mac(text):
        return bytes.fromhex(text.replace(":", ""))

    addresses = socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
    length = 8 + len(payload)
    pseudo = addresses + struct.pack("!II", length, socket.IPPROTO_UDP)
    words = pseudo + struct.pack("!HHHH", sport, dport, length, 0) + payload + b"\0" * (len(payload) % 2)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    ethernet = mac(dst_mac) + mac(src_mac) + b"\x86\xdd"
    ip = struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_UDP, 64) + addresses
    return ethernet + ip + struct.pack("!HHHH", sport, dport, length, ~total & 0xFFFF or 0xFFFF) + payload


class Conversation:
    """
    A UDP flow that the guest began, so that the container accepts packets from outside as answers, whatever the Instance's
    `ingress` says. Nobody reads. When the queues at both ends are full, each packet that arrives is counted as dropped.
    """

    def __init__(self, lab):
        api = Api(f"/run/nacre-lab/{lab}/api.sock")
        status = wait("hello", lambda: api.json("GET", INSTANCE)["status"])
        self.inside = f"nl-{lab}-host1-i-" + status["id"].replace("-", "")[:12]
        api.request("PATCH", INSTANCE, {"spec": {"running": False}}, "application/merge-patch+json")
        wait("hello to be powered off", lambda: api.json("GET", INSTANCE)["status"]["phase"] == "Stopped")
        self.address, self.public = status["address"], f"nl-{lab}-host1-public"
        self.outside = self.inside_netns(f"nl-{lab}-internet", self.open_socket)
        self.tap = self.inside_netns(self.inside, self.open_tap)
        gateway, guest = (self.link(device)["address"] for device in ("tap", "uplink"))  # the uplink has the guest's MAC
        router, port = self.outside.getsockname()[:2]
        self.frame = udp_frame(gateway, guest, self.address, router, PORT, port, b"x" * 64)
        wait("packets from the tap", self.from_guest)
        wait("packets to the tap", self.to_guest)

    @staticmethod
    def inside_netns(name, fn, *args):
        thread, result = in_thread(name, fn, *args)
        thread.join()
        return result[0]

    def open_socket(self, source=None):
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least there is
        if source:
            # `public` has link-local addresses only, and what comes from one is not forwarded.
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            s.bind(source)
        s.connect((self.address, PORT))
        return s

    @staticmethod
    def open_tap():
        tap = open("/dev/net/tun", "r+b", buffering=0)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"tap", IFF_TAP | IFF_NO_PI))
        return tap

    def link(self, device):
        return json.loads(sh("ip", "-n", self.inside, "-s", "-j", "link", "show", "dev", device))[0]

    def at_tap(self):
        return self.link("tap")["stats64"]["tx"]["dropped"]

    def at_socket(self):
        return struct.unpack("9I", self.outside.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[SK_MEMINFO_DROPS]

    @staticmethod
    def measure(send, data, count):
        """
        Nanoseconds for each packet that arrived. The kernel forwards a packet through all namespaces before `send` returns,
        and no other program gets this processor meanwhile.
        """
        before = count()
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        began = time.monotonic()
        for _ in range(BATCH):
            try:
                send(data)
            except OSError:
                pass
        took = time.monotonic() - began
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        arrived = count() - before
        if arrived < BATCH / 2:
            raise RuntimeError(f"{arrived} of {BATCH} packets arrived")
        return took * 1e9 / arrived

    def to_guest(self):
        return self.measure(self.outside.send, b"x" * 64, self.at_tap)

    def from_host(self):
        """
        From the host's `public`, with the internet router's address. The socket exists only meanwhile: the kernel would
        deliver the guest's packets to it (early demux) and not forward them.
        """
        with self.inside_netns(self.public, self.open_socket, self.outside.getsockname()) as near:
            return self.measure(near.send, b"x" * 64, self.at_tap)

    def from_guest(self):
        return self.measure(self.tap.write, self.frame, self.at_socket)
