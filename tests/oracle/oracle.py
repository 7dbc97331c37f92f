#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kube-apiserver on etcd, on loopback, with certificates made on the spot and RBAC. Its processes end with the process
that started them, for whatever reason. Durable as in production: etcd syncs every write. As a program, oracle.py DIR
starts it there, prints the kubeconfig of an administrator and waits until it is ended."""

import contextlib
import functools
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BINARIES = os.environ.get("NACRE_ORACLE", "/var/cache/nacre/oracle")


def missing():
    """The reason why kube-apiserver isn't available here, or None."""
    for name in ("kube-apiserver", "etcd", "kubectl", "informer"):
        if not os.access(os.path.join(BINARIES, name), os.X_OK):
            return f"no {name} in {BINARIES}: tests/oracle/build makes it, and needs Go"
    return None


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Pki:
    """A certificate authority in a folder, and the certificates that it signs."""

    def __init__(self, directory):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        self.ca = self.path("ca.crt")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", "/CN=oracle", "-keyout", self.path("ca.key"), "-out", self.ca)

    def path(self, name):
        return os.path.join(self.dir, name)

    @functools.lru_cache(None)  # noqa: B019 — one a test run
    def sign(self, name, groups=(), san=""):
        """(certificate, key) of a user, or of a server if there is a subjectAltName."""
        base = self.path(name.replace(":", "-").replace("/", "-"))
        subject = "".join(f"/O={g}" for g in groups) + f"/CN={name}"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
                "-keyout", base + ".key", "-out", base + ".csr")
        with open(base + ".ext", "w") as f:
            f.write(f"extendedKeyUsage={'serverAuth' if san else 'clientAuth'}\n")
            f.write(f"subjectAltName={san}\n" if san else "")
        openssl("x509", "-req", "-in", base + ".csr", "-CA", self.ca, "-CAkey", self.path("ca.key"), "-CAcreateserial",
                "-days", "2", "-extfile", base + ".ext", "-out", base + ".crt")
        return base + ".crt", base + ".key"


def write_kubeconfig(path, port, ca, cert, key):
    with open(path, "w") as f:
        f.write(f"""apiVersion: v1
kind: Config
clusters:
- name: it
  cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: "{ca}"}}
users:
- name: me
  user: {{client-certificate: "{cert}", client-key: "{key}"}}
contexts:
- name: it
  context: {{cluster: it, user: me}}
current-context: it
""")


class Oracle:
    def __init__(self, directory):
        self.dir = os.path.abspath(directory)
        self.pki = Pki(os.path.join(self.dir, "pki"))
        self.port, self.etcd_port, self.peer_port = free_ports(3)
        self.processes = []

    def _start(self, name, *args):
        with open(os.path.join(self.dir, name + ".log"), "a") as log:
            p = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", os.path.join(BINARIES, name), *args],
                                 stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(p)
        return p

    def start(self, seconds=600):
        etcd, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.peer_port}"
        self._start("etcd", "--data-dir", os.path.join(self.dir, "etcd"), "--listen-client-urls", etcd,
                    "--advertise-client-urls", etcd, "--listen-peer-urls", peer,
                    "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}", "--log-level", "warn")
        cert, key = self.pki.sign("kube-apiserver", san="IP:127.0.0.1,DNS:localhost")
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.pki.path("sa.key"))
        self.server = self._start(
            "kube-apiserver", "--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", str(self.port),
            "--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none",  # no Service of its own
            "--tls-cert-file", cert, "--tls-private-key-file", key, "--client-ca-file", self.pki.ca,
            "--authorization-mode", "RBAC", "--service-cluster-ip-range", "192.0.2.0/24",
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-signing-key-file", self.pki.path("sa.key"),
            "--service-account-key-file", self.pki.path("sa.key"))
        deadline = time.monotonic() + seconds
        while not self._ready():
            for p in self.processes:
                if p.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"kube-apiserver did not come up; see the logs in {self.dir}")
            time.sleep(0.1)
        return self

    def _ready(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            conn = self.connect()
            conn.request("GET", "/readyz")
            return conn.getresponse().status == 200

    @functools.lru_cache(None)  # noqa: B019
    def tls(self, user, groups):
        context = ssl.create_default_context(cafile=self.pki.ca)
        if user:
            context.load_cert_chain(*self.pki.sign(user, groups))
        return context

    def connect(self, user="system:admin", groups=("system:masters",), timeout=240):
        """A connection with the certificate of a user; without a certificate if user is None."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls(user, tuple(groups)))

    def kubeconfig(self, user="system:admin", groups=("system:masters",)):
        """Path of a kubeconfig for a user."""
        cert, key = self.pki.sign(user, tuple(groups))
        path = cert[:-4] + ".kubeconfig"
        write_kubeconfig(path, self.port, self.pki.ca, cert, key)
        return path

    def kubectl(self, *args, input=None, check=True, user="system:admin", groups=("system:masters",)):
        p = subprocess.run([os.path.join(BINARIES, "kubectl"), "--kubeconfig", self.kubeconfig(user, groups),
                            "--cache-dir", os.path.join(self.dir, "cache"), *args], input=input, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=480)
        assert not check or p.returncode == 0, p.stderr
        return p

    def stop(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.kill()  # its data is not kept
            p.wait()
        self.processes = []


if __name__ == "__main__":
    if len(sys.argv) != 2 or missing():
        sys.exit(missing() or "usage: oracle.py DIR")
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: sys.exit(0))
    os.makedirs(sys.argv[1], exist_ok=True)
    oracle = Oracle(sys.argv[1])
    try:
        print(oracle.start().kubeconfig(), flush=True)
        signal.pause()
    finally:
        oracle.stop()
