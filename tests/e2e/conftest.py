# SPDX-License-Identifier: Apache-2.0
"""One lab for all tests of this folder, and the tests' operations on it. With NACRE_E2E_API=kubernetes the lab uses a
kube-apiserver, whose programs are in NACRE_ORACLE (tests/oracle/build)."""

import base64
import contextlib
import functools
import http.client
import json
import os
import re
import select
import shutil
import ssl
import subprocess
import tempfile
import time

import capture
import harness
import leftovers
import pings
import pytest
import yaml
from harness import BIN, IMAGES, MORTAL, patient, run

NACRE = os.path.join(BIN, "nacre")
API = os.environ.get("NACRE_E2E_API") or "nacre"
ORACLE = os.environ.get("NACRE_ORACLE", "/var/cache/nacre/oracle")
KUBERNETES = API == "kubernetes"
KUBECTL = os.path.join(ORACLE, "kubectl") if KUBERNETES else shutil.which("kubectl")


def eventually(what, seconds, condition, interval=0.1):
    return harness.eventually(what, seconds, condition, interval, (subprocess.SubprocessError, AssertionError, OSError))


class Snapshot:
    """The parts of a machine's state that a lab could leave behind."""

    WATCHED = ("nacre", "zebra", "bgpd", "qemu", "ping", "tcpdump", "etcd", "kube-apiserver")

    def __init__(self):
        self.netns = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
        self.links = {l["ifname"] for l in json.loads(run("ip", "-j", "link").stdout)}
        self.files = {os.path.join(d, f) for top in ("/run/nacre-lab", "/run/frr", "/run/nacre", "/var/run/frr")
                      for d, dirs, files in os.walk(top) for f in dirs + files}
        self.cgroups = set(leftovers.cgroups(""))
        self.frr_traces = set(os.listdir("/var/tmp/frr")) if os.path.isdir("/var/tmp/frr") else set()
        with open("/proc/self/mounts") as f:
            self.mounts = {line.split()[1] for line in f}
        self.processes = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as f:
                cmdline = f.read().replace("\0", " ")
                if any(w in cmdline.split(" ")[0] for w in self.WATCHED):
                    self.processes.add((int(pid), cmdline))

    def left_behind(self, before, mark):
        """What exists now, did not exist before, and has the mark of this run in its name."""
        found = {}
        for what in ("netns", "links", "files", "cgroups", "mounts", "processes"):
            extra = {x for x in getattr(self, what) - getattr(before, what) if mark in str(x)}
            if extra:
                found[what] = sorted(map(str, extra))
        return found


class Ping(pings.Ping):
    def __init__(self, lab, place, address, interval=0.01):
        super().__init__(lab.exec_argv(place), address, "-6", interval=interval)

    def note_gap(self, what):
        GAPS.append(f"{what}: longest gap {self.gap * 1000:.0f} ms, {len(self.lost)} of {self.sent} pings lost")


# Measurements; printed at the end of the run.
GAPS = []


def pytest_terminal_summary(terminalreporter):
    if GAPS:
        terminalreporter.section("what pings every 10 ms saw")
        for line in GAPS:
            terminalreporter.write_line(line)


class Lab:
    """PROGRAM: the `nacre` to call; the other programs are taken from its directory."""

    def __init__(self, name, hosts=3, program=NACRE):
        self.name, self.hosts, self.program = name, hosts, program
        self.dir = f"/run/nacre-lab/{name}"
        leftovers.claim("lab", name)

    def nacre(self, *argv, **kwargs):
        return run(self.program, *argv, **kwargs)

    def up(self, *options, timeout=240):
        return self.nacre("lab", "up", "--name", self.name, "--hosts", str(self.hosts), "--images", IMAGES, "--api", API,
                          "--oracle-dir", ORACLE, *options, timeout=timeout)

    def down(self):
        return self.nacre("lab", "down", "--name", self.name, timeout=120)

    def exec_argv(self, place, *argv):
        return [self.program, "lab", "exec", "--name", self.name, place, "--", *argv]

    def exec(self, place, *argv, **kwargs):
        return run(*self.exec_argv(place, *argv), **kwargs).stdout

    def restart(self, *daemons):
        return self.nacre("lab", "restart", "--name", self.name, *daemons)

    def pid(self, daemon):
        with open(f"{self.dir}/{daemon}.pid") as f:
            return int(f.read().split()[0])

    def log(self, daemon):
        with open(f"{self.dir}/{daemon}.log") as f:
            return f.read()

    def kubectl(self, *argv, input=None, check=True, timeout=60, who=None):
        """kubectl as the operator, or as a tenant (WHO)."""
        kubeconfig = f"{self.dir}/{who}.kubeconfig" if who else f"{self.dir}/kubeconfig"
        return run(KUBECTL, "--kubeconfig", kubeconfig, *argv, input=input, check=check, timeout=timeout)

    def connect(self):
        """Connects to the API by HTTPS as the operator. Returns an http.client connection, its TLS context and the
        address."""
        with open(f"{self.dir}/kubeconfig") as f:
            config = yaml.safe_load(f)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]

        def pem(text):
            return base64.b64decode(text).decode()

        context = ssl.create_default_context(cadata=pem(cluster["certificate-authority-data"]))
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(pem(user["client-certificate-data"]) + pem(user["client-key-data"]))
            f.flush()
            context.load_cert_chain(f.name)
        host, port = re.fullmatch(r"https://\[([0-9a-f:]+)\]:(\d+)", cluster["server"]).groups()
        return http.client.HTTPSConnection(host, int(port), timeout=240, context=context), context, (host, int(port))

    def apply(self, *objects, check=True):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.kubectl("apply", "-f", "-", input=text, check=check)

    def get(self, *argv):
        return json.loads(self.kubectl("get", "-o", "json", *argv).stdout)

    def items(self, *argv):
        return self.get(*argv)["items"]

    def delete_instances(self, ns, *names, timeout=60):
        self.kubectl("-n", ns, "delete", "instance", *names, f"--timeout={patient(timeout):.0f}s", timeout=timeout + 10)

    def wait_ready(self, ns, *names, timeout=120):
        self.kubectl("-n", ns, "wait", "--for=condition=Ready", f"--timeout={patient(timeout):.0f}s",
                     *(f"instance/{n}" for n in names), timeout=timeout + 10)

    def instance(self, ns, name):
        return self.get("-n", ns, "instance", name)

    def answers(self, place, address):
        return run(*self.exec_argv(place, "ping", "-6", "-n", "-c", "1", "-W", "2", address),
                   check=False).returncode == 0

    def await_answer(self, place, address, seconds=60):
        try:
            eventually(f"{address} answers {place}", seconds, lambda: self.answers(place, address))
        except AssertionError:
            self.describe_guest(address)
            raise

    def describe_guest(self, address):
        """Prints the observable state of the instance with ADDRESS; pytest shows it if the test fails."""
        found = [i for i in self.items("-A", "instances.nacre.dev") if i.get("status", {}).get("address") == address]
        for obj in found:
            ns, name, host = obj["metadata"]["namespace"], obj["metadata"]["name"], obj["status"].get("host", "")
            print(json.dumps(obj["status"], indent=1))
            print(self.kubectl("-n", ns, "events", "--for", f"instance/{name}", check=False).stdout)
            for argv in (["ip", "-6", "neigh", "show", "nud", "all"], ["ip", "-s", "link"], ["ip", "-6", "route"],
                         ["nft", "list", "ruleset"]):
                print(f"$ {' '.join(argv)}\n{self.exec(f'{ns}/{name}', *argv, check=False)}")
            print(self.log(host)[-3000:] if host else "")
            console = Console(self, f"{ns}/{name}")
            try:
                print(console.run("ip addr; ip -6 route; dmesg | tail -n 40; echo end-$((1+1))", "end-2"))
            except AssertionError as e:
                print(e)
            finally:
                console.close()

    def page(self, address):
        """The answer of the guest's HTTP server, fetched from the internet. The server starts after the network."""
        return eventually(f"http://[{address}]/ answers", 30, lambda: self.exec(
            "internet", "curl", "-s", "-m", "20", f"http://[{address}]/"))

    def capture(self, place, interface, expression="ip6"):
        """Captures packets; the list is filled at the end."""
        return capture.capture(functools.partial(self.exec_argv, place), interface, expression)


class Console:
    """The serial console of an instance, by `nacre console`."""

    def __init__(self, lab, name):
        self.process = subprocess.Popen([*MORTAL, lab.program, "console", "--name", lab.name, name], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, bufsize=0)

    def await_shell(self):
        """Waits for a shell; input before it runs is lost."""
        deadline = time.monotonic() + patient(60)
        while True:
            try:
                return self.run("echo shell-$((1+1))", "shell-2", 2, stretch=False)
            except AssertionError:
                assert time.monotonic() < deadline, "there is no shell on the console"

    def run(self, command, until, seconds=30, stretch=True):
        """Types a command; returns the output up to UNTIL (which must not be in the command itself)."""
        self.process.stdin.write(command.encode() + b"\n")
        out, deadline = b"", time.monotonic() + (patient(seconds) if stretch else seconds)
        while until.encode() not in out:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no `{until}` on the console: {out[-1000:]!r}"
            chunk = self.process.stdout.read(4096)
            assert chunk, "the console ended"
            out += chunk
        return out.decode("utf-8", "replace")

    def close(self):
        """Ends its input; it then prints what the console has said until then, and ends."""
        self.process.communicate(timeout=patient(10))


def instance(name, ns="demo", **spec):
    spec = {"type": "small", "image": "lab", "ingress": [{"protocol": "icmp"}, {"protocol": "tcp", "port": 80}], **spec}
    return {"apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "metadata": {"name": name, "namespace": ns},
            "spec": spec}


def condition(obj, type):
    for c in obj.get("status", {}).get("conditions", []):
        if c["type"] == type:
            return c
    return {"status": "Missing", "reason": "", "message": ""}


bare_kubernetes = pytest.mark.skipif(KUBERNETES, reason="needs what kube-controller-manager does")

requirements = pytest.mark.skipif(
    os.geteuid() != 0 or not KUBECTL or not os.path.exists(NACRE) or not os.path.exists("/usr/lib/frr/bgpd"),
    reason="needs root, kubectl, frr and a build (NACRE_BUILD)")


def pytest_collection_modifyitems(items):
    here = os.path.dirname(os.path.abspath(__file__))
    for item in items:
        if str(item.fspath).startswith(here):
            item.add_marker(requirements)


@pytest.fixture(scope="session")
def snapshot_before():
    return Snapshot()


@pytest.fixture(scope="session")
def lab(snapshot_before):
    lab = Lab(f"e{os.getpid()}")
    result = lab.up()
    lab.shown = result.stdout
    yield lab
    lab.down()


@pytest.fixture
def hello(lab):
    """The first instance, which `lab up` makes."""
    return lab.instance("demo", "hello")


@pytest.fixture
def cleanup(lab):
    """Names of instances in tenant demo that are deleted at the end of the test."""
    names = []
    yield names
    if names:
        lab.kubectl("-n", "demo", "delete", "instance", "--ignore-not-found", "--timeout=240s", *names, timeout=90)
