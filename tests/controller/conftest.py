# SPDX-License-Identifier: Apache-2.0
"""An API server and controllers in a directory of the test's own, with simulated hosts."""

import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
from harness import BIN, MORTAL, ROOT, eventually, patient  # noqa: F401 (ROOT, eventually: for the tests)

GROUP = "/apis/nacre.dev/v1alpha1"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class ApiError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class Cloud:
    """The programs under test."""

    def __init__(self, directory):
        self.dir = str(directory)
        self.sock = os.path.join(self.dir, "api.sock")
        self.procs = {}
        self.numbers = itertools.count(1)
        self.beating = {}

    # ---- processes ----

    def start(self, name, *argv):
        log = open(os.path.join(self.dir, name + ".log"), "ab")
        self.procs[name] = subprocess.Popen(MORTAL + list(argv), stderr=log, stdout=log)

    def start_api(self):
        self.start("api", os.path.join(BIN, "nacre-apiserver"), "--database", os.path.join(self.dir, "db"),
                   "--listen", "unix:" + self.sock)
        eventually("the API answers", 10, lambda: self.up())

    def up(self):
        try:
            return self.request("GET", "/readyz") is not None
        except (OSError, ApiError, http.client.HTTPException):
            return False

    def start_controller(self, name="controller", *args):
        self.start(name, os.path.join(BIN, "nacre-controller"), "--api", "unix:" + self.sock, "--identity", name,
                   "--log-level", "debug", "--lease-ms", "6000", "--lease-deadline-ms", "4500", "--lease-retry-ms",
                   "500", "--metrics", f"unix:{self.dir}/{name}.sock", *args)

    def kill(self, name, number):
        self.procs[name].send_signal(number)

    def stop(self, name, number=signal.SIGTERM):
        p = self.procs.pop(name)
        p.send_signal(number)
        return p.wait(patient(15))

    def log(self, name):
        with open(os.path.join(self.dir, name + ".log"), encoding="utf-8") as f:
            return f.read()

    def close(self):
        for host in list(self.beating):
            self.silence(host)
        for p in self.procs.values():
            p.send_signal(signal.SIGCONT)
            p.kill()
        for p in self.procs.values():
            p.wait()

    # ---- the API ----

    def request(self, method, path, body=None, content_type="application/json"):
        c = UnixConnection(self.sock)
        try:
            c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": content_type})
            r = c.getresponse()
            text = r.read().decode()
        finally:
            c.close()
        if r.status >= 300:
            raise ApiError(r.status, text)
        return json.loads(text) if text.startswith("{") else text

    @staticmethod
    def path(plural, name=None, ns=None):
        group = "/apis/coordination.k8s.io/v1" if plural == "leases" else "/api/v1" if plural == "events" else GROUP
        return group + (f"/namespaces/{ns}" if ns else "") + "/" + plural + (f"/{name}" if name else "")

    def get(self, plural, name, ns=None):
        try:
            return self.request("GET", self.path(plural, name, ns))
        except ApiError as e:
            if e.code == 404:
                return None
            raise

    def list(self, plural, ns=None):
        return self.request("GET", self.path(plural, None, ns))["items"]

    def create(self, kind, name, spec, ns=None, **meta):
        plural = kind.lower() + "s"
        version = "coordination.k8s.io/v1" if kind == "Lease" else "nacre.dev/v1alpha1"
        return self.request("POST", self.path(plural, None, ns),
                            {"apiVersion": version, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec})

    def patch(self, plural, name, body, ns=None, sub=""):
        return self.request("PATCH", self.path(plural, name, ns) + sub, body, "application/merge-patch+json")

    def delete(self, plural, name, ns=None):
        return self.request("DELETE", self.path(plural, name, ns))

    # ---- objects of a cloud ----

    def pools(self, prefix="2001:db8:1::/56", **more):
        self.create("AddressPool", "inst", {"use": "instance", "prefix": prefix, **more})
        self.create("AddressPool", "deleg", {"use": "delegated", "prefix": "2001:db8:1000::/40"})
        self.create("AddressPool", "ovl", {"use": "overlay", "prefix": "fd00:1::/64"})
        self.create("AddressPool", "mac", {"use": "mac", "macPrefix": "02:4e:01"})
        self.create("InstanceType", "small", {"vcpus": 1, "memoryMiB": 256})

    def instance(self, name=None, **spec):
        name = name or f"i{next(self.numbers)}"
        self.create("Instance", name, {"type": "small", "image": "lab", **spec}, "default")
        return name

    def condition(self, plural, name, kind, ns=None):
        obj = self.get(plural, name, ns) or {}
        found = [c for c in obj.get("status", {}).get("conditions", []) if c["type"] == kind]
        return found[0] if found else {}

    def of_instance(self, name, kind):
        return self.condition("instances", name, kind, "default")

    def wait_condition(self, name, kind, status, reason, seconds=10):
        return eventually(f"{kind}={status} {reason} of {name}: {self.of_instance(name, kind)}", seconds,
                          lambda: (c := self.of_instance(name, kind)).get("status") == status
                          and c.get("reason") == reason and c)

    def removed(self, name):
        """Reports, as the agent, that nothing of the instance is left."""
        self.patch("instances", name, {"status": {"phase": "Removed"}}, "default", "/status")

    # ---- simulated hosts ----

    def host(self, name, vcpus=4, memory=1024, beat=True, duration=6, ready="True", **spec):
        n = next(self.numbers)
        self.create("Host", name, {"vtep": f"fd00:a::{n}", **spec})
        now = "2026-01-01T00:00:00Z"
        self.patch("hosts", name, {"status": {
            "capacity": {"vcpus": vcpus, "memoryMiB": memory},
            "conditions": [{"type": "Ready", "status": ready, "reason": "Ready", "message": "",
                            "lastTransitionTime": now}]}}, sub="/status")
        if beat:
            self.create("Lease", "host-" + name, {"holderIdentity": name, "leaseDurationSeconds": duration},
                        "nacre-system")
            self.beat(name)

    def beat(self, name):
        stop = threading.Event()

        def renew():
            n = 0
            while not stop.wait(0.3):
                n += 1
                try:
                    self.patch("leases", "host-" + name, {"spec": {"renewTime":
                               f"2026-01-01T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000000Z"}},
                               "nacre-system")
                except (OSError, ApiError, http.client.HTTPException):
                    pass  # like an agent: try again next time

        thread = threading.Thread(target=renew)
        thread.start()
        self.beating[name] = (stop, thread)

    def silence(self, name):
        stop, thread = self.beating.pop(name)
        stop.set()
        thread.join()

    def endpoint(self, name, host, owner=None, **more):
        """An Endpoint as the agent of HOST makes it: with the VTEP of its Host and what OWNER was given."""
        at = self.get("hosts", host) or {"spec": {"vtep": "fd00:a::1"}}
        of = self.get("instances", owner["name"], owner["namespace"]) if owner and owner["kind"] == "Instance" else None
        given = (of or {}).get("status", {})
        spec = {"host": host, "vtep": at["spec"]["vtep"], "mac": given.get("mac", "02:4e:01:00:99:01"),
                "ip": given.get("overlayAddress", f"fd00:1::{next(self.numbers) + 4096:x}"),
                "routes": [{"prefix": given[k]} for k in ("prefix", "delegatedPrefix") if k in given], **more}
        if owner:
            spec["owner"] = owner
        self.create("Endpoint", name, spec)

    def metric(self, name, controller="controller"):
        c = UnixConnection(f"{self.dir}/{controller}.sock")
        c.request("GET", "/metrics")
        text = c.getresponse().read().decode()
        c.close()
        return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))


@pytest.fixture
def bare(tmp_path):
    """The API server alone."""
    cloud = Cloud(tmp_path)
    try:
        cloud.start_api()
        yield cloud
        for name in cloud.procs:
            assert cloud.procs[name].poll() is None, f"{name} died: {cloud.log(name)[-2000:]}"
    finally:
        cloud.close()


@pytest.fixture
def cloud(bare):
    """The API server and one controller without leader election."""
    bare.start_controller("controller", "--no-leader-election")
    return bare
