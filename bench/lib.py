# SPDX-License-Identifier: Apache-2.0
"""Shared by the benchmarks: a run directory, an API server, requests over its socket, namespaces, statistics."""

import ctypes
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque

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


def _answer(sock):
    """The status of the next response on a connection, and its text if it is an error."""
    data = bytearray()
    while (head := data.find(b"\r\n\r\n")) < 0:
        if not (more := sock.recv(1 << 16)):
            raise ConnectionError("the API server has closed a connection")
        data += more
    length = int(data[:head].lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    while len(data) < head + 4 + length:
        data += sock.recv(1 << 16)
    return int(data[9:12]), bytes(data[head + 4:])


def _bulk_part(path, requests, connections=64):
    free, sent = [], deque()
    for _ in range(connections):
        free.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        free[-1].connect(path)

    def collect():
        sock, what = sent.popleft()
        code, text = _answer(sock)
        if code >= 300:
            raise RuntimeError(f"{what}: {code} {text[:300]!r}")
        free.append(sock)

    for method, url, body in requests:
        if not free:
            collect()
        sock = free.pop()
        ctype = b"application/merge-patch+json" if method == "PATCH" else b"application/json"
        data = json.dumps(body).encode()
        sock.sendall(b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
                     % (method.encode(), url.encode(), ctype, len(data), data))
        sent.append((sock, f"{method} {url}"))
    while sent:
        collect()


def bulk(path, requests_of, n, processes=2):
    """
    Makes many requests as fast as the server takes them: REQUESTS_OF(numbers) yields (method, URL, body) for each of the
    numbers, which are those below N. Returns how long it took.
    """
    began = time.monotonic()
    parts = [multiprocessing.Process(target=_bulk_part, args=(path, requests_of(range(k, n, processes))))
             for k in range(processes)]
    for p in parts:
        p.start()
    for p in parts:
        p.join()
        if p.exitcode:
            raise RuntimeError("a request failed")
    return time.monotonic() - began


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

    def stop(self, p):
        p.terminate()
        p.wait(60)
        self.procs.remove(p)

    def apiserver(self, database=None):
        sock = self.path("api.sock")
        p = self.start(program("nacre-apiserver"), "--listen", f"unix:{sock}", "--database", database or self.path("nacre.db"))
        wait("nacre-apiserver to answer", lambda: Api(sock).request("GET", "/readyz"))
        return sock, p
