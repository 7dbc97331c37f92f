# SPDX-License-Identifier: Apache-2.0
"""
Measures an Instance from `create` to its first answered ping from the internet side, by stage; and, in turn with it, a
bare QEMU that boots the same kernel and initrd with the same devices to the same answer.
"""

import os
import select
import socket
import statistics
import struct
import sys
import threading
import time

from instances import first_ping, in_thread, ping_until_answered
from lib import IMAGES, Api, Bench, program, sh, wait

MAC = "02:4e:00:00:00:77"
MEMORY = 256


def eui64(prefix, mac):
    m = bytes.fromhex(mac.replace(":", ""))
    iid = bytes([m[0] ^ 2]) + m[1:3] + b"\xff\xfe" + m[3:]
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, prefix)[:8] + iid)


def advertise(stop, prefix):
    """Answers every router solicitation on tap0 at once, like nacre-vm."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    index = socket.if_nametoindex("tap0")
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    group = socket.inet_pton(socket.AF_INET6, "ff02::2") + struct.pack("@I", index)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 86400, 0) + socket.inet_pton(socket.AF_INET6, prefix)
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option
    while not stop.is_set():
        if select.select([s], [], [], 0.1)[0] and s.recv(2048)[0] == 133:
            s.sendto(message, ("ff02::1", 0, 0, index))


def bare(b, accel):
    ns = f"{b.prefix}-bare"
    sh("ip", "netns", "add", ns)
    stop = threading.Event()
    try:
        sh("ip", "-n", ns, "tuntap", "add", "tap0", "mode", "tap")
        sh("ip", "-n", ns, "addr", "add", "fe80::1/64", "dev", "tap0", "nodad")
        sh("ip", "-n", ns, "addr", "add", "2001:db8:77::1/64", "dev", "tap0", "nodad")
        sh("ip", "-n", ns, "link", "set", "tap0", "up")
        in_thread(ns, advertise, stop, "2001:db8:77::")
        th, result = in_thread(ns, ping_until_answered, lambda: eui64("2001:db8:77::", MAC), stop)
        with open(os.path.join(IMAGES, "cmdline")) as f:
            cmdline = f.read().strip()
        t0 = time.monotonic()
        qemu = b.start(
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
            *(("-accel", "kvm", "-cpu", "host") if accel == "kvm" else ("-accel", "tcg,thread=multi", "-cpu", "max")),
            "-smp", "1", "-m", str(MEMORY), "-kernel", f"{IMAGES}/vmlinuz", "-initrd", f"{IMAGES}/initrd",
            "-append", cmdline, "-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=n,mac={MAC},romfile=", "-object", "rng-random,id=r,filename=/dev/urandom",
            "-device", "virtio-rng-pci,rng=r", "-serial", "null", netns=ns,
        )  # fmt: skip
        th.join(120)
        took = result[0] - t0
        qemu.terminate()
        qemu.wait()
        return took
    finally:
        stop.set()
        sh("ip", "netns", "del", ns)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    lab = f"bb{os.getpid() % 100000}"
    with Bench("boot") as b:
        b.cleanups.append(lambda: sh(program("nacre"), "lab", "down", "--name", lab))
        sh(program("nacre"), "lab", "up", "--name", lab, "--hosts", "1", "--images", IMAGES)
        # The guest of `lab up` would take part of the processor.
        Api(f"/run/nacre-lab/{lab}/api.sock").request("DELETE", "/apis/nacre.dev/v1alpha1/namespaces/demo/instances/hello")
        wait("hello to go", lambda: not Api(f"/run/nacre-lab/{lab}/api.sock").json(
            "GET", "/apis/nacre.dev/v1alpha1/namespaces/demo/instances")["items"], 60)  # fmt: skip
        accel = "tcg"
        ours, theirs = [], []
        for i in range(rounds + 1):
            a, c = first_ping(lab, f"boot{i}"), bare(b, accel)
            if i:  # the first pair fills caches
                ours.append(a)
                theirs.append(c)
        med = lambda k: statistics.median(o[k] for o in ours if k in o)
        ratios = [o["answered"] / t for o, t in zip(ours, theirs)]
        print(f"{rounds} pairs in turn, guest under {accel.upper()}, 1 vCPU, {MEMORY} MiB; medians.\n")
        print("| stage | since create |")
        print("|---|---|")
        for key, what in (
            ("created", "the API answered"), ("addresses", "addresses allocated"), ("bound", "bound to a host"),
            ("running", "QEMU runs"), ("ready", "Ready"), ("answered", "first ping answered"),
        ):  # fmt: skip
            print(f"| {what} | {med(key) * 1000:,.0f} ms |")
        print(f"| bare QEMU: start to first ping answered | {statistics.median(theirs) * 1000:,.0f} ms |")
        print(f"\nRatio, pair by pair: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


main()
