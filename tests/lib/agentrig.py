# SPDX-License-Identifier: Apache-2.0
"""An API server and one agent of a machine in namespaces of the test, for tests of a single agent."""

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time

import leftovers
from harness import BIN, MORTAL, output as run, until
from unixhttp import UnixConnection

FRR = os.path.join(BIN, "../net/test-host")
GROUP = "/apis/nacre.dev/v1alpha1"


class AgentRig:
    """AGENT is the daemon's name here: of its log and of the socket of its metrics, AGENT.log and AGENT.sock."""

    def __init__(self, prefix, agent):
        self.prefix, self.agent = f"{prefix}{os.getpid()}-", agent
        self.dir = tempfile.mkdtemp(prefix="nacre-test-")
        os.chmod(self.dir, 0o755)  # FRR's user must reach it
        leftovers.claim("dir", self.dir)
        leftovers.claim("netns", self.prefix)
        self.sock, self.metrics, self.daemons = f"{self.dir}/api.sock", f"{self.dir}/{agent}.sock", {}

    def spawn(self, name, *argv):
        with open(f"{self.dir}/{name}.log", "ab") as log:
            self.daemons[name] = subprocess.Popen([*MORTAL, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, name):
        p = self.daemons.pop(name)
        p.kill()
        p.wait()

    def start_api(self):
        self.spawn("api", f"{BIN}/nacre-apiserver", f"--database={self.dir}/db", f"--listen=unix:{self.sock}")
        until("the API is ready", lambda: self.is_ready(self.sock))

    def clean(self, frr):
        """Ends the daemons, after showing their logs, and FRR, given as namespace and folder; removes all else."""
        for name in list(self.daemons):
            with open(f"{self.dir}/{name}.log") as f:
                print(f"--- {name}\n" + "".join(f.readlines()[-30:]))
            self.kill(name)
        for netns, d in frr.items():
            run(FRR, "frr-stop", netns, d)
        leftovers.remove_namespaces(self.prefix)
        shutil.rmtree(self.dir)

    def http(self, sock, method, path, body=None, content="application/json"):
        c = UnixConnection(sock)
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": content})
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        return r.status, text

    def is_ready(self, sock):
        try:
            return self.http(sock, "GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def post(self, path, kind, name, spec):
        status, text = self.http(self.sock, "POST", f"{GROUP}/{path}", {
            "apiVersion": "nacre.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        assert status == 201, text

    def delete(self, path):
        status, text = self.http(self.sock, "DELETE", f"{GROUP}/{path}")
        assert status == 200, text

    def touch(self, path):
        status, text = self.http(self.sock, "PATCH", f"{GROUP}/{path}", {
            "metadata": {"annotations": {"touched": str(time.time())}}}, "application/merge-patch+json")
        assert status == 200, text

    def log(self):
        with open(f"{self.dir}/{self.agent}.log") as f:
            return f.read()

    def metric(self, name):
        text = self.http(self.metrics, "GET", "/metrics")[1]
        (line,) = [s for s in text.splitlines() if s.startswith(f"{name} ")]
        return int(line.split()[1])
