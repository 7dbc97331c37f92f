# SPDX-License-Identifier: Apache-2.0
"""A nacre-apiserver for one test, and a client that shows what is on the wire."""

import atexit
import contextlib
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.parse

import oracle
import pytest
from harness import BIN, MORTAL, ROOT, eventually, patient

NACRE = os.path.join(BIN, "nacre")
SERVER = os.path.join(BIN, "nacre-apiserver")
V = "nacre.dev/v1alpha1"
G = "/apis/nacre.dev/v1alpha1"
MERGE = "application/merge-patch+json"
JSONPATCH = "application/json-patch+json"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Pki:
    """A certificate authority and the certificates that it issues, in a directory of their own."""

    def __init__(self, directory=None):
        self.dir = directory or tempfile.mkdtemp(prefix="nacre-test-pki-")
        if not directory:
            atexit.register(shutil.rmtree, self.dir, ignore_errors=True)
        self.ca = f"{self.dir}/ca.crt"
        self("init", self.dir)

    def __call__(self, *args):
        subprocess.run([NACRE, "pki", *args], check=True, timeout=patient(30))

    def server(self, out=None):
        out = out or f"{self.dir}/server"
        self("server", self.dir, "--name=localhost", "--address=127.0.0.1", f"--out={out}")
        return f"{out}.crt", f"{out}.key"

    @functools.lru_cache(maxsize=None)
    def client(self, user, *groups):
        """Paths of the certificate and the key of USER."""
        out = f"{self.dir}/" + "-".join([user, *groups]).replace(":", "-").replace("/", "-")
        self("client", self.dir, f"--user={user}", *(f"--group={g}" for g in groups), f"--out={out}")
        return f"{out}.crt", f"{out}.key"

    def context(self, user=None, *groups):
        """TLS context of a client, with the certificate of USER or without one."""
        context = ssl.create_default_context(cafile=self.ca)
        if user:
            context.load_cert_chain(*self.client(user, *groups))
        return context


@functools.lru_cache(maxsize=None)
def pki():
    """The certificate authority of this run of tests. All servers of the run have the same certificate."""
    p = Pki()
    p.server()
    return p


@functools.lru_cache(maxsize=None)
def context(user=None, *groups):
    return pki().context(user, *groups)


ADMIN = ("system:admin", "system:masters")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.text = status, headers, body

    @property
    def json(self):
        return json.loads(self.text)


class Watch:
    """The events of a watch, read by a thread as they come."""

    def __init__(self, server, path, headers=None):
        self.events, self.closed = [], False
        self.conn = server.connection(timeout=600)
        self.conn.request("GET", path, headers=headers or {})
        self.response = self.conn.getresponse()
        self.status = self.response.status
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            while True:
                line = self.response.readline()
                if not line:
                    break
                self.events.append(json.loads(line))
        self.closed = True

    def wait(self, n, seconds=10):
        eventually(f"{n} events", seconds, lambda: len(self.events) >= n)
        return self.short()

    def short(self):
        return [(e["type"], e["object"]["metadata"].get("name")) for e in self.events]

    def close(self):
        with contextlib.suppress(OSError):
            self.conn.sock and self.conn.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(60)
        self.conn.close()


class Client:
    """Requests to a server; subclasses define connection()."""

    def request(self, method, path, body=None, type="application/json", headers=None, conn=None):
        own = conn is None
        conn = conn or self.connection()
        h = dict(headers or {})
        if body is not None:
            body = body if isinstance(body, (bytes, str)) else json.dumps(body)
            if type:
                h["Content-Type"] = type
        conn.request(method, path, body, h)
        r = conn.getresponse()
        answer = Answer(r.status, r.headers, r.read().decode("utf-8", "replace"))
        if own:
            conn.close()
        return answer

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body, **kw):
        return self.request("POST", path, body, **kw)

    def put(self, path, body, **kw):
        return self.request("PUT", path, body, **kw)

    def patch(self, path, body, type=MERGE, **kw):
        return self.request("PATCH", path, body, type, **kw)

    def delete(self, path, body=None, **kw):
        return self.request("DELETE", path, body, **kw)

    def watch(self, path, **params):
        headers = params.pop("headers", None)
        return Watch(self, f"{path}?" + urllib.parse.urlencode({"watch": "true", **params}), headers)

    def list(self, path, **params):
        return self.get(path + ("?" + urllib.parse.urlencode(params) if params else "")).json

    def create(self, obj, expect=201, **params):
        a = self.post(path_of(obj, named=False) + ("?" + urllib.parse.urlencode(params) if params else ""), obj)
        assert a.status == expect, a.text
        return a.json


class Server(Client):
    def __init__(self, directory):
        self.dir, self.port, self.process = str(directory), free_port(), None
        self.database = os.path.join(self.dir, "state", "api.db")  # the server creates the directory
        self.log = os.path.join(self.dir, "log")

    def start(self, wait=True, prefix=(), args=(), **kwargs):
        log = open(self.log, "a")
        self.process = subprocess.Popen(
            [*MORTAL, *prefix, SERVER, "--database", self.database, "--listen", f"127.0.0.1:{self.port}",
             "--listen", f"unix:{self.dir}/sock", "--tls-cert", f"{pki().dir}/server.crt",
             "--tls-key", f"{pki().dir}/server.key", "--client-ca", pki().ca, *args], stderr=log, **kwargs)
        log.close()
        if wait:
            eventually("the server answers", 20, self._answers)
        return self

    def _answers(self):
        assert self.process.poll() is None, open(self.log).read()
        with contextlib.suppress(OSError):
            return self.get("/readyz").status == 200

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        return self.process.wait(patient(30))

    def stop(self):
        if self.process and self.process.poll() is None:
            assert self.kill(signal.SIGTERM) == 0

    def connection(self, user=ADMIN, timeout=240):
        """USER: a user's name and groups; () for no certificate."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context(*user))

    def socket(self, user=ADMIN, timeout=None):
        """A connection after the TLS handshake, before any request."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context(*user).wrap_socket(s, server_hostname="localhost")


@contextlib.contextmanager
def fresh_server(directory, *args):
    """Starts a nacre-apiserver with ARGS in DIRECTORY. It is stopped at the end, not killed, so that leaks are
    detected."""
    s = Server(directory)
    s.start(args=args)
    yield s
    s.stop()
    with open(s.log) as f:
        log = f.read()
    assert "Sanitizer" not in log and "runtime error" not in log, log


@contextlib.contextmanager
def real_server(directory):
    """The real kube-apiserver. The test is skipped if it isn't available."""
    if oracle.missing():
        pytest.skip("no oracle: " + oracle.missing())
    o = oracle.Oracle(str(directory))
    try:
        yield Kube(o.start())
    finally:
        o.stop()


class Kube(Client):
    """The real kube-apiserver with Nacre's CRDs, roles and policies. Tests share it and must leave nothing on it."""

    def __init__(self, oracle):
        self.oracle, self.port = oracle, oracle.port
        for f in ("crds", "rbac", "admission"):
            oracle.kubectl("apply", "--server-side", "-f", os.path.join(ROOT, "deploy", f + ".yaml"))
        oracle.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        for kind in KINDS:  # the storage of a kind is made at the first request for it
            eventually(f"{kind} are served", 30, lambda: self.get(f"{G}/{kind}").status == 200)

    def connection(self, user=ADMIN, timeout=240):
        return self.oracle.connect(user[0] if user else None, user[1:], timeout)

    def clean(self):
        for kind in KINDS:
            for o in self.list(f"{G}/{kind}")["items"]:
                if o["metadata"].get("finalizers"):
                    self.patch(path_of(o), {"metadata": {"finalizers": None}})
                self.delete(path_of(o), {"propagationPolicy": "Background"})


KINDS = ("instances", "clusters", "instancetypes", "images", "hosts", "endpoints", "addresspools", "allocations",
         "allocationrecords", "edgepeers", "tenantquotas", "firewalls")
PLURALS = {"Namespace": "namespaces", "Event": "events", "Lease": "leases"}


def path_of(obj, named=True):
    kind, meta = obj["kind"], obj["metadata"]
    group = "/api/v1" if obj["apiVersion"] == "v1" else "/apis/" + obj["apiVersion"]
    ns = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    path = f"{group}{ns}/{PLURALS.get(kind, kind.lower() + 's')}"
    return f"{path}/{meta['name']}" if named else path


def instance(name="a", ns="default", labels=None, meta=None, **spec):
    return {"apiVersion": V, "kind": "Instance",
            "metadata": {"name": name, "namespace": ns, **({"labels": labels} if labels else {}), **(meta or {})},
            "spec": {"type": "small", "image": "debian", **spec}}


def cluster(name="c", ns="default", replicas=2, meta=None, **template):
    return {"apiVersion": V, "kind": "Cluster", "metadata": {"name": name, "namespace": ns, **(meta or {})},
            "spec": {**({} if replicas is None else {"replicas": replicas}),
                     "template": {"type": "small", "image": "debian", **template}}}


def image(name="img", labels=None, meta=None, **spec):
    return {"apiVersion": V, "kind": "Image",
            "metadata": {"name": name, **({"labels": labels} if labels else {}), **(meta or {})},
            "spec": spec or {"kernel": {"kernel": "vmlinuz"}}}


def pool(name, prefix, use="instance"):
    return {"apiVersion": V, "kind": "AddressPool", "metadata": {"name": name}, "spec": {"use": use, "prefix": prefix}}


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
