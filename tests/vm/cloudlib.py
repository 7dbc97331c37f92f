# SPDX-License-Identifier: Apache-2.0
"""A guest of the Debian cloud image under software emulation, its metadata by HTTP, and a network of IPv6 only."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import leftovers
import sshclient
from harness import IMAGES, MORTAL, Failed, eventually, patient, run
from scapy.layers.dhcp6 import (DHCP6_Advertise, DHCP6_Reply, DHCP6_Request, DHCP6_Solicit, DHCP6OptClientId, DHCP6OptIA_NA,
                                DHCP6OptIAAddress, DHCP6OptRapidCommit, DHCP6OptServerId, DUID_LL)
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptRDNSS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether
from vmlib import GATEWAY_MAC, MAC, open_packet

NAME = f"{IMAGES}/debian-12"
ADDRESS6, METADATA6, DNS6 = "2001:db8::5", "fd00:ec2::254", "2001:db8:53::53"


class Metadata(http.server.ThreadingHTTPServer):
    """A NoCloud seed. Records the paths that were asked for."""

    daemon_threads = True

    def __init__(self, address, files):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.files, self.asked = files, []
        super().__init__((address, 0), MetadataRequest)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, host):
        return f"http://{host}:{self.server_address[1]}/"


class MetadataRequest(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *args):
        pass


class Guest:
    """A machine with a disk of 4 GiB on the image. ENTER is put before programs that reach it, NETDEV is QEMU's."""

    def __init__(self, directory, enter, netdev, address, port=22):
        self.dir, self.enter, self.netdev, self.process = directory, list(enter), netdev, None
        self.public_key = sshclient.make_key(f"{directory}/key")
        self.ssh = [*self.enter, *sshclient.argv(f"{directory}/key", port)]
        self.address = address

    def seed(self):
        """What the metadata server answers."""
        return {"/meta-data": f"instance-id: i-1\nlocal-hostname: web\npublic-keys: ['{self.public_key}']\n",
                "/user-data": "#cloud-config\nruncmd: [[touch, /run/user-data-ran]]\n", "/vendor-data": ""}

    def start(self, boot, url, saved=None):
        """SAVED: the state from which the machine goes on; start() must have had the same BOOT and URL before."""
        if not saved:
            run("qemu-img", "create", "-q", "-f", "qcow2", "-b", f"{NAME}.qcow2", "-F", "qcow2", f"{self.dir}/disk.qcow2", "4G")
        argv = ["qemu-system-x86_64", "-machine", "q35", "-cpu", "max", "-accel", "tcg", "-m", "1024", "-nodefaults", "-display", "none",
                "-serial", f"file:{self.dir}/console", "-netdev", self.netdev, "-device", f"virtio-net-pci,netdev=net,mac={MAC},romfile=",
                "-drive", f"file={self.dir}/disk.qcow2,if=virtio", "-device", "virtio-rng-pci",
                "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
                # cloud-init 22.4 takes `ds=nocloud` alone for a seed on a disk and never uses what it reads by HTTP.
                "-smbios", f"type=1,serial=ds=nocloud;dsmode=net;s={url}"]
        if boot == "kernel":
            with open(f"{NAME}.cmdline") as f:
                argv += ["-kernel", f"{NAME}.vmlinuz", "-initrd", f"{NAME}.initrd", "-append", f.read().strip()]
        if boot == "uefi":
            argv += ["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd"]
        if saved:
            argv += ["-incoming", f"exec:cat {saved}"]
        self.started = time.monotonic()
        self.process = subprocess.Popen([*MORTAL, *self.enter, *argv])

    def qmp(self, *commands):
        """The answers of QEMU's monitor to commands, each a name and its arguments."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.dir}/qmp")
            s.settimeout(patient(60))
            lines, answers = s.makefile("rw"), []
            for name, arguments in (("qmp_capabilities", {}), *commands):
                json.dump({"execute": name, "arguments": arguments}, lines)
                lines.flush()
                answer = next(a for a in map(json.loads, lines) if "return" in a or "error" in a)
                assert "return" in answer, (name, answer)
                answers.append(answer["return"])
            return answers[1:]

    def save(self, path):
        """Stops the machine and writes its state to a file. Its disk stays as it is; QEMU ends."""
        self.qmp(("stop", {}), ("migrate-set-parameters", {"max-bandwidth": 1 << 40}), ("migrate", {"uri": f"exec:cat >{path}"}))

        def saved():
            (answer,) = self.qmp(("query-migrate", {}))
            assert answer["status"] != "failed", answer
            return answer["status"] == "completed"

        eventually("the state is saved", 60, saved)
        self.qmp(("quit", {}))
        self.process.wait(patient(20))

    def console(self):
        with open(f"{self.dir}/console", errors="replace") as f:
            return f.read()

    def do(self, *argv, user="debian"):
        return run(*self.ssh, f"{user}@{self.address}", *argv, timeout=120).stdout.strip()

    def await_ssh(self):
        """Prints what it took until the key was accepted."""
        def answers():
            assert self.process.poll() is None, "QEMU has ended"
            return self.do("true") == ""

        eventually("the guest accepts the key", 180, answers, interval=1, catch=(Failed, subprocess.TimeoutExpired))
        with open(f"/proc/{self.process.pid}/stat") as f:
            ticks = f.read().rsplit(")", 1)[1].split()[11:13]
        print(f"ssh after {time.monotonic() - self.started:.0f} s, {sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK'):.0f} s of CPU")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()


class Network6:
    """A namespace with a tap and a router behind it that offers IPv6 only: a default route, a DNS server and no prefix
    by router advertisements (M=1), an address by DHCPv6."""

    def __init__(self):
        self.prefix = f"vm{os.getpid()}-"
        self.netns = self.prefix + "six"
        self.enter = ["nsenter", f"--net=/run/netns/{self.netns}"]
        self.duid, self.leases, self.ended = DUID_LL(lladdr=GATEWAY_MAC), 0, False
        leftovers.claim("netns", self.prefix)

    def start(self):
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "tuntap", "add", "tap", "mode", "tap")
        run("ip", "-n", self.netns, "link", "set", "tap", "address", GATEWAY_MAC)
        run(*self.enter, "sysctl", "-qw", "net.ipv6.conf.tap.accept_dad=0", "net.ipv6.conf.tap.addr_gen_mode=1")
        for device in ("lo", "tap"):
            run("ip", "-n", self.netns, "link", "set", device, "up")
        run("ip", "-n", self.netns, "addr", "add", "fe80::1/64", "dev", "tap", "nodad")
        run("ip", "-n", self.netns, "addr", "add", f"{METADATA6}/128", "dev", "lo")
        run("ip", "-n", self.netns, "route", "add", f"{ADDRESS6}/128", "dev", "tap")
        self.wire = open_packet(self.netns, "tap")
        self.wire.setblocking(True)
        self.wire.settimeout(0.2)
        self.thread = threading.Thread(target=self.answer, daemon=True)
        self.thread.start()

    def stop(self):
        self.ended = True
        if hasattr(self, "thread"):
            self.thread.join()
            self.wire.close()
        leftovers.remove_namespaces(self.prefix)

    def answer(self):
        while not self.ended:
            try:
                frame = Ether(self.wire.recv(65536))
            except (TimeoutError, OSError):
                continue
            if frame.src != GATEWAY_MAC and IPv6 in frame and (reply := self.advertisement(frame) or self.dhcp6(frame)):
                self.wire.send(bytes(Ether(src=GATEWAY_MAC, dst=frame.src) / IPv6(src="fe80::1", dst=frame[IPv6].src, hlim=255) / reply))

    def advertisement(self, frame):
        return ICMPv6ND_RS in frame and (ICMPv6ND_RA(M=1, O=1, routerlifetime=1800) / ICMPv6NDOptSrcLLAddr(lladdr=GATEWAY_MAC)
                                         / ICMPv6NDOptRDNSS(dns=[DNS6], lifetime=1800))

    def dhcp6(self, frame):
        asked = next((frame[kind] for kind in (DHCP6_Solicit, DHCP6_Request) if kind in frame), None)
        if asked is None or DHCP6OptIA_NA not in frame:
            return None
        rapid = DHCP6OptRapidCommit in frame
        kind = DHCP6_Advertise if DHCP6_Solicit in frame and not rapid else DHCP6_Reply
        self.leases += kind is DHCP6_Reply
        given = DHCP6OptIAAddress(addr=ADDRESS6, preflft=3600, validlft=7200)
        reply = (kind(trid=asked.trid) / DHCP6OptClientId(duid=frame[DHCP6OptClientId].duid) / DHCP6OptServerId(duid=self.duid)
                 / DHCP6OptIA_NA(iaid=frame[DHCP6OptIA_NA].iaid, T1=1800, T2=2880, ianaopts=[given]))
        return UDP(sport=547, dport=546) / (reply / DHCP6OptRapidCommit() if rapid else reply)


def directory():
    made = tempfile.mkdtemp(prefix="nacre-test-")
    leftovers.claim("dir", made)
    return made


def remove(made):
    shutil.rmtree(made)
