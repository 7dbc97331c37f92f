# SPDX-License-Identifier: Apache-2.0
"""Captures packets on a device. At the end it sends a packet and waits until it is captured, so that none is
missing."""

import contextlib
import os
import signal
import subprocess
import tempfile

from harness import MORTAL, eventually, patient

PORT = 51966
SEND = """
import socket, struct, sys
device, payload = sys.argv[1], sys.argv[2].encode()
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((device, 0))
udp = struct.pack("!HHHH", 9, {port}, 8 + len(payload), 0) + payload
ip = struct.pack("!IHBB", 6 << 28, len(udp), 17, 1) + bytes(15) + b"\\1" + bytes(15) + b"\\1"
s.send(bytes(12) + b"\\x86\\xdd" + ip + udp)
""".format(port=PORT)


@contextlib.contextmanager
def capture(inside, interface, expression="ip6"):
    """INSIDE(command) returns the command that runs in the device's namespace. The list is filled at the end. INTERFACE
    may be "any"."""
    from scapy.layers.inet import UDP
    from scapy.utils import rdpcap

    # "any" has two link types; scapy knows only this one.
    link_type = ["-y", "LINUX_SLL"] if interface == "any" else []
    packets, marker = [], f"end of capture {os.urandom(8).hex()}"
    with tempfile.TemporaryDirectory(prefix="nacre-capture-") as directory:
        path = f"{directory}/pcap"
        process = subprocess.Popen(
            MORTAL + inside("tcpdump", "-Z", "root", "-U", "--immediate-mode", "-i", interface, *link_type, "-w", path,
                            f"({expression}) or (ip6 and udp dst port {PORT})"), stderr=subprocess.PIPE, text=True)

        def is_over():
            subprocess.run(inside("/usr/bin/python3", "-c", SEND, "lo" if interface == "any" else interface, marker),
                           check=True, timeout=patient(20))
            with open(path, "rb") as f:
                return marker.encode() in f.read()

        try:
            for line in process.stderr:
                if "listening on" in line:
                    break
            yield packets
            eventually("the capture has seen its end", 20, is_over, 0.2)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=patient(10))
        packets.extend(p for p in rdpcap(path) if not (UDP in p and p[UDP].dport == PORT))
