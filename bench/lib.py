# SPDX-License-Identifier: Apache-2.0
"""Shared by the benchmarks: a run directory, an API server, requests over its socket, namespaces, statistics."""

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

BUILD = os.environ.get("NACRE_BUILD", "build")
IMAGES = os.environ.get("NACRE_IMAGES", "/var/cache/nacre/images")


def program(name):
    return os.path.join(BUILD, "src", "cmd", name)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


class Api:
    """Requests to an API server on a UNIX socket, with one connection for each thread."""

    def __init__(self, path):
        self.path = path
        self.conn = UnixConnection(path)

    def request(self, method, url, body=None, ctype="application/json"):
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        self.conn.request(method, url, data, {"Content-Type": ctype} if data is not None else {})
        r = self.conn.getresponse()
        text = r.read()
        if r.status >= 300:
            raise RuntimeError(f"{method} {url}: {r.status} {text[:300]!r}")
        return text

    def json(self, *a, **kw):
        return json.loads(self.request(*a, **kw))


def wait(what, fn, timeout=60.0, interval=0.02):
    """Waits for a true value of FN and returns it. Fails with a message that names WHAT."""
    end = time.monotonic() + timeout
    while True:
        try:
            v = fn()
        except (OSError, RuntimeError, ValueError):
            v = None
        if v:
            return v
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(interval)


def metrics(path):
    """The metrics of a daemon that listens on a UNIX socket, by name (with labels)."""
    text = Api(path).request("GET", "/metrics").decode()
    return {k: float(v) for k, v in (l.rsplit(" ", 1) for l in text.splitlines() if l and l[0] != "#")}


def percentile(values, p):
    v = sorted(values)
    return v[min(len(v) - 1, int(len(v) * p / 100))]


def in_netns(name):
    """Moves this thread into a network namespace, permanently."""
    with open(f"/run/netns/{name}") as f:
        if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), 0x40000000) < 0:
            raise OSError(ctypes.get_errno(), f"setns {name}")


def sh(*argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, **kw).stdout


class Bench:
    """Processes and namespaces of one benchmark; leaves nothing behind, even if it fails."""

    def __init__(self, name):
        self.prefix = f"nb{os.getpid()}"
        self.dir = tempfile.mkdtemp(prefix=f"nacre-bench-{name}-")
        os.chmod(self.dir, 0o755)
        self.procs = []
        self.cleanups = []

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(143)))
        return self

    def __exit__(self, *exc):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
        for p in reversed(self.procs):
            p.terminate()
        for p in reversed(self.procs):
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        for fn in reversed(self.cleanups):
            fn()
        for ns in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
            if ns.startswith(self.prefix):
                for pid in sh("ip", "netns", "pids", ns).split():
                    os.kill(int(pid), signal.SIGKILL)
                subprocess.run(["ip", "netns", "del", ns], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, *argv, netns=None):
        log = open(self.path(os.path.basename(argv[0]) + ".log"), "ab")
        if netns:
            # Not `ip netns exec`: namespaces that agents make would exist only in its mount namespace.
            argv = ("nsenter", f"--net=/run/netns/{netns}") + argv
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.procs.append(p)
        return p

    def apiserver(self):
        sock = self.path("api.sock")
        p = self.start(program("nacre-apiserver"), "--listen", f"unix:{sock}", "--database", self.path("nacre.db"))
        wait("nacre-apiserver to answer", lambda: Api(sock).request("GET", "/readyz"))
        return sock, p
