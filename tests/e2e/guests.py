# SPDX-License-Identifier: Apache-2.0
"""Running guests with public IPv4, what tests do on their consoles, and servers for their connections."""

import contextlib
import subprocess
import time

from conftest import GAPS, Console, eventually, instance
from harness import MORTAL, run

# Servers at ADDRESS: TCP port 8000 answers with the client's address and port and the line that it sent, port 8001 holds
# connections open, 8002 takes all and answers with its length, 8003 sends 1,000,000 bytes; UDP port 53 knows no name.
SERVERS = """
import socket, socketserver, sys, threading
address = sys.argv[1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
class Tcp(socketserver.ThreadingTCPServer):
    address_family = family
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128
class Udp(socketserver.UDPServer):
    address_family = family
class Names(socketserver.DatagramRequestHandler):
    def handle(self):
        self.socket.sendto(self.packet[:2] + b"\\x81\\x83" + self.packet[4:], self.client_address)
class Who(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"%s %s %d\\n" % (self.rfile.readline().strip(), self.client_address[0].encode(), self.client_address[1]))
class Hold(socketserver.BaseRequestHandler):
    def handle(self):
        threading.Event().wait()
class Take(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"took %d\\n" % len(self.rfile.read()))
class Give(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"x" * 1000000)
for port, handler in enumerate((Who, Hold, Take, Give), 8000):
    threading.Thread(target=Tcp((address, port), handler).serve_forever, daemon=True).start()
names = Udp((address, 53), Names)
print("listening", flush=True)
names.serve_forever()
"""


@contextlib.contextmanager
def servers(inside, address):
    """INSIDE: what is put before a command that shall run in the servers' namespace."""
    process = subprocess.Popen([*MORTAL, *inside, "/usr/bin/python3", "-c", SERVERS, address], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Guests:
    """The instances' consoles, and what the tests do there."""

    def __init__(self, lab, names, stack):
        self.lab, self.consoles = lab, {}
        for name in names:
            self.consoles[name] = Console(lab, f"demo/{name}")
            stack.callback(self.consoles[name].close)
        for console in self.consoles.values():
            console.await_shell()

    def status(self, name):
        return self.lab.instance("demo", name)["status"]

    def begin(self, name, command):
        self.consoles[name].process.stdin.write(f"echo $((20+1))-begin; {command}; echo $((40+2))-over\n".encode())

    def end(self, name, seconds=30):
        """The lines that the command has printed."""
        out = self.consoles[name].run("", "42-over", seconds).replace("\r", "")
        lines = out.split("21-begin\n", 1)[1].split("42-over", 1)[0].splitlines()
        return [line for line in lines if line]

    def run(self, name, command, seconds=30):
        self.begin(name, command)
        return self.end(name, seconds)

    def ports(self, name):
        return {p for s in self.status(name)["portSlices"] for p in range(s["firstPort"], s["lastPort"] + 1)}

    def web(self, name):
        """Address and port of the guest's HTTP server, as others see it."""
        status = self.status(name)
        return status["publicIPv4"], next((f["port"] for f in status.get("forwards", []) if f["protocol"] == "tcp"), 80)


@contextlib.contextmanager
def running(lab, pool, **specs):
    """Instances `own`, which has a dedicated address, and others, which share the address of POOL. `three` is not on the
    host of the others. Lasts until each has a default route."""
    names, since = list(specs), time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(lab.kubectl, "label", "host", "host1", "host2", "e2e-")
        lab.kubectl("label", "host", "host1", "e2e=here")
        lab.kubectl("label", "host", "host2", "e2e=there")
        lab.apply(pool)
        stack.callback(lab.kubectl, "delete", "addresspool", pool["metadata"]["name"])
        lab.apply(*(instance(name, hostSelector={"e2e": "there" if name == "three" else "here"}, **spec)
                    for name, spec in specs.items()))
        stack.callback(lab.delete_instances, "demo", *names)
        lab.wait_ready("demo", *names)
        own = lab.instance("demo", "own")["status"]["publicIPv4"]
        eventually("the dedicated address answers", 60, lambda: run(
            *lab.exec_argv("internet", "ping", "-n", "-c", "1", "-W", "1", own), check=False).returncode == 0)
        GAPS.append(f"four guests are created at once: the first answer by IPv4 comes after {time.monotonic() - since:.1f} s")
        guests = Guests(lab, names, stack)
        for name in names:
            eventually(f"{name} has a default route", 60, lambda: any("default" in l for l in guests.run(name, "ip -4 route")))
        yield guests
