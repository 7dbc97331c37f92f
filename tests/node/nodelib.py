# SPDX-License-Identifier: Apache-2.0
"""A cloud with one compute host: a real API server, controller and agent, in namespaces of the run's own. Not a
conftest.py, since the files of other folders import theirs by that name."""

import contextlib
import ctypes
import fcntl
import http.client
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

import leftovers
import pytest
import renewals
from harness import BIN, IMAGES, MORTAL, output as run, until
from rewriter import Rewriter
from unixhttp import UnixConnection

GROUP = "/apis/nacre.dev/v1alpha1"

libc = ctypes.CDLL(None, use_errno=True)


def inside(netns, function):
    """Calls function() in a network namespace. Sockets stay in the namespace in which they were made."""
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{netns}") as away:
        assert libc.setns(away.fileno(), 0) == 0
        try:
            return function()
        finally:
            assert libc.setns(home.fileno(), 0) == 0


def open_tap(name):
    """The guest's end of a tap. Each frame has a virtio-net header of 10 bytes in front."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000 | 0x4000))
    return fd


def open_packet(device):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    s.bind((device, 0))
    return s


class Guest:
    """An instance and its traces on the host."""

    def __init__(self, cloud, obj):
        self.cloud, self.name, self.uid = cloud, obj["metadata"]["name"], obj["metadata"]["uid"]
        self.id = self.uid.replace("-", "")[:12]
        self.netns, self.device = f"{cloud.prefix}h1-i-{self.id}", f"i-{self.id}"
        self.dir = f"{cloud.dir}/h1/instances/{self.uid}"
        self.state = f"{cloud.dir}/state/instances/{self.uid}"
        status = obj["status"]
        self.mac, self.address = status["mac"], status["address"]
        self.net, self.delegated = (ipaddress.ip_network(status[k]) for k in ("prefix", "delegatedPrefix"))

    def pids(self, comm):
        found = []
        for pid in run("ip", "netns", "pids", self.netns).split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/comm") as f:
                if f.read().strip() == comm[:15]:
                    found.append(int(pid))
        return found

    def init(self):
        """Pids of nacre-vm, which has the name of its file before it runs."""
        return self.pids("nacre-vm") or self.pids("init")


class Cloud:
    def __init__(self, images):
        self.prefix = f"nv{os.getpid()}-"
        self.dir = tempfile.mkdtemp(prefix="nacre-test-")
        os.chmod(self.dir, 0o755)  # FRR's user must reach it
        leftovers.claim("dir", self.dir)
        leftovers.claim("netns", self.prefix)
        self.images, self.daemons, self.node_options = self.dir + "/images", {}, ()
        os.mkdir(self.images)
        for name in os.listdir(images):
            os.symlink(f"{images}/{name}", f"{self.images}/{name}")
        self.host, self.leaf, self.public = self.prefix + "h1", self.prefix + "leaf", self.prefix + "h1-public"
        self.sock = self.dir + "/api.sock"

    def spawn(self, name, *argv):
        with open(f"{self.dir}/{name}.log", "ab") as log:
            self.daemons[name] = subprocess.Popen([*MORTAL, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def node_argv(self):
        # Not `ip netns exec`: it has a mount namespace of its own, in which the names of the agent's namespaces would
        # be.
        return ["nsenter", f"--net=/run/netns/{self.host}", f"{BIN}/nacre-node", f"--api=unix:{self.sock}",
                "--host=h1", "--vtep=fd5c::1", "--asn=4200000001", "--nic=eth0", f"--netns-prefix={self.host}-",
                f"--run-dir={self.dir}/h1", f"--state-dir={self.dir}/state", f"--images={self.images}", "--vcpus=64",
                f"--metrics=unix:{self.dir}/node.sock", *self.node_options]

    def start_node(self, *before):
        """BEFORE: a command that runs the agent."""
        self.spawn("node", *before, *self.node_argv())

    def start_node_behind(self, rewriter):
        """The agent hears the API through REWRITER; all others hear the API itself."""
        direct, self.sock = self.sock, rewriter.path
        self.start_node()
        self.sock = direct

    def node_log(self):
        with open(f"{self.dir}/node.log") as f:
            return f.read()

    def not_understood(self):
        """How many objects the agent can't read."""
        c = UnixConnection(f"{self.dir}/node.sock")
        c.request("GET", "/metrics")
        text = c.getresponse().read().decode()
        c.close()
        (line,) = [s for s in text.splitlines() if s.startswith("nacre_node_objects_not_understood ")]
        return int(line.split()[1])

    def start_api(self):
        self.spawn("api", f"{BIN}/nacre-apiserver", f"--database={self.dir}/db", f"--listen=unix:{self.sock}")
        until("the API is ready", lambda: self.is_ready(self.sock))

    def is_ready(self, sock):
        try:
            c = UnixConnection(sock)
            c.request("GET", "/readyz")
            status = c.getresponse().status
            c.close()
            return status == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_node(self):
        until("the agent is ready", lambda: self.is_ready(f"{self.dir}/node.sock"))

    def restart_node(self, *options):
        """Kills the agent and starts another with OPTIONS in addition to its usual options."""
        self.wait_node()
        self.kill("node")
        self.node_options = options
        self.start_node()
        self.wait_node()

    def start_controller(self):
        self.spawn("controller", f"{BIN}/nacre-controller", f"--api=unix:{self.sock}", "--no-leader-election")

    def kill(self, name, sig=signal.SIGKILL):
        p = self.daemons.pop(name)
        p.send_signal(sig)
        p.wait()

    def start(self):
        run("ip", "netns", "add", self.host)
        run("ip", "netns", "add", self.leaf)
        run("ip", "-n", self.host, "link", "add", "eth0", "type", "veth", "peer", "name", "h1", "netns", self.leaf)
        self.start_api()
        self.start_controller()
        self.start_node()
        self.post("/api/v1/namespaces", "Namespace", "t", version="v1")
        for name, spec in {"net": {"use": "instance", "prefix": "2001:db8:1000::/40"},
                           "delegated": {"use": "delegated", "prefix": "2001:db8:2000::/40"},
                           "overlay": {"use": "overlay", "prefix": "fd10::/64"},
                           "mac": {"use": "mac", "macPrefix": "02:4e:01"}}.items():
            self.post(f"{GROUP}/addresspools", "AddressPool", name, spec)
        self.post(f"{GROUP}/instancetypes", "InstanceType", "small", {"vcpus": 1, "memoryMiB": 256})

    def logs(self):
        for name in ("api", "controller", "node"):
            with open(f"{self.dir}/{name}.log") as f:
                print(f"--- {name}\n" + "".join(f.readlines()[-20:]))

    def stop(self):
        self.logs()  # pytest shows the logs if a test fails
        node = self.daemons.get("node")
        for name in list(self.daemons):
            self.kill(name, signal.SIGTERM)
        leftovers.remove_namespaces(self.prefix)
        log = self.node_log()
        shutil.rmtree(self.dir)
        assert node is None or node.returncode == 0, log

    def request(self, method, path, body=None, content="application/json"):
        c = UnixConnection(self.sock)
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": content})
        r = c.getresponse()
        data = json.loads(r.read())
        c.close()
        return r.status, data

    def post(self, path, kind, name, spec=None, version="nacre.dev/v1alpha1"):
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
        if spec is not None:
            body["spec"] = spec
        status, data = self.request("POST", path, body)
        assert status == 201, data
        return data

    def instance(self, name):
        status, data = self.request("GET", f"{GROUP}/namespaces/t/instances/{name}")
        return data if status == 200 else None

    def ready(self, name):
        obj = self.instance(name) or {}
        for c in obj.get("status", {}).get("conditions", []):
            if c["type"] == "Ready":
                return c
        return {}

    def create(self, name, image, **spec):
        self.post(f"{GROUP}/namespaces/t/instances", "Instance", name, {"type": "small", "image": image, **spec})

    def wait(self, name, reason, seconds=30):
        until(f"{name} is {reason} ({self.ready(name)})", lambda: self.ready(name).get("reason") == reason, seconds)
        return Guest(self, self.instance(name))

    def patch(self, name, spec):
        status, data = self.request("PATCH", f"{GROUP}/namespaces/t/instances/{name}", {"spec": spec},
                                    "application/merge-patch+json")
        assert status == 200, data

    def delete(self, name):
        self.request("DELETE", f"{GROUP}/namespaces/t/instances/{name}")
        until(f"{name} is gone", lambda: self.instance(name) is None)

    def events(self, name):
        _, data = self.request("GET", "/api/v1/namespaces/t/events")
        return [(e["reason"], e["message"]) for e in data["items"] if e["involvedObject"]["name"] == name]


class Renewals(renewals.Renewals):
    """Of the host's lease."""

    def __init__(self, cloud):
        super().__init__(self.renewed)
        self.cloud = cloud
        self.lost_before = self.lost()

    def renewed(self):
        _, lease = self.cloud.request("GET", "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases/host-h1")
        return lease["spec"]["renewTime"]

    def lost(self):
        with open(f"{self.cloud.dir}/controller.log") as f:
            return sum("host lost" in line for line in f)

    def check(self, lease_s):
        super().check(lease_s)
        assert self.lost() == self.lost_before


@pytest.fixture(scope="module")
def images():
    for name in ("vmlinuz", "initrd"):
        if not os.path.exists(f"{IMAGES}/{name}"):
            pytest.skip(f"no guest image in {IMAGES}; scripts/guest-image.sh makes it")
    return IMAGES


@pytest.fixture(scope="module")
def cloud(images):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    c = Cloud(images)
    try:
        c.start()
        c.post(f"{GROUP}/images", "Image", "lab", {"kernel": {"kernel": "vmlinuz", "initrd": "initrd",
                                                             "cmdline": "console=ttyS0 quiet"}})
        yield c
    finally:
        c.stop()


@pytest.fixture
def rewriter(cloud):
    """For cloud.start_node_behind(). After the test the agent hears the API itself again, and there is a controller."""
    r = Rewriter(f"{cloud.dir}/rewrite.sock", cloud.sock)
    cloud.wait_node()
    yield r
    cloud.kill("node")
    r.close()
    os.unlink(r.path)
    cloud.start_node()
    cloud.wait_node()
    if "controller" not in cloud.daemons:
        cloud.start_controller()
