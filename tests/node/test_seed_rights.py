# SPDX-License-Identifier: Apache-2.0
"""An agent and a controller with their own rights only: the agent gets the Secrets of its instances, once the controller
has granted them."""

import os
import subprocess

import pytest
from nodelib import GROUP, Cloud, images, run, until  # noqa: F401 (images: a fixture)
from harness import BIN
from test_seed import becomes, drop, secret

RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/t"


class StrictCloud(Cloud):
    """The API is on loopback of the host's namespace, too, where the agent and the controller have client certificates."""

    def pki(self, *args):
        subprocess.run([f"{BIN}/nacre", "pki", *args], check=True, stdout=subprocess.DEVNULL)

    def inside_host(self, *argv):
        return ["nsenter", f"--net=/run/netns/{self.host}", *argv]

    def start_api(self):
        pki = f"{self.dir}/pki"
        run("ip", "-n", self.host, "link", "set", "lo", "up")
        self.pki("init", pki)
        self.pki("server", pki, "--name=localhost", "--address=127.0.0.1", f"--out={pki}/server")
        for name, user, groups in (("node", "system:nacre:host:h1", ["system:nacre:hosts"]), ("controller", "system:nacre:controller", [])):
            self.pki("kubeconfig", pki, f"--user={user}", *(f"--group={g}" for g in groups), "--server=https://127.0.0.1:6443",
                     f"--out={pki}/{name}.conf")
        self.spawn("api", *self.inside_host(
            f"{BIN}/nacre-apiserver", f"--database={self.dir}/db", f"--listen=unix:{self.sock}", "--listen=127.0.0.1:6443",
            f"--tls-cert={pki}/server.crt", f"--tls-key={pki}/server.key", f"--client-ca={pki}/ca.crt"))
        until("the API is ready", lambda: self.is_ready(self.sock))

    def start_controller(self):
        self.spawn("controller", *self.inside_host(f"{BIN}/nacre-controller", f"--kubeconfig={self.dir}/pki/controller.conf",
                                                   "--no-leader-election"))

    def start(self):
        self.node_options = (f"--kubeconfig={self.dir}/pki/node.conf",)
        super().start()

    def node_argv(self):
        return [a for a in super().node_argv() if not a.startswith("--api=")]


@pytest.fixture
def strict(images):  # noqa: F811
    if os.geteuid() != 0:
        pytest.skip("needs root")
    c = StrictCloud(images)
    try:
        c.start()
        c.post(f"{GROUP}/images", "Image", "lab", {"kernel": {"kernel": "vmlinuz", "initrd": "initrd", "cmdline": "console=ttyS0 quiet"}})
        yield c
    finally:
        c.stop()


def test_the_agent_gets_what_the_controller_grants(strict):
    secret(strict, "s", user_data=b"first")
    strict.wait_node()
    strict.create("a", "lab", userDataFrom={"secret": "s"})
    guest = strict.wait("a", "Running", 60)
    becomes(guest, user_data=b"first")
    assert not [e for e in strict.events("a") if e[0].startswith("Secret")]
    # Without the controller there is no grant, and the condition says so.
    strict.kill("controller")
    assert strict.request("DELETE", f"{RBAC}/rolebindings/nacre-host-h1")[0] == 200
    secret(strict, "s", user_data=b"second")
    strict.restart_node(*strict.node_options)
    until("an event says so", lambda: "SecretForbidden" in [e[0] for e in strict.events("a")], 30)
    becomes(guest, user_data=b"first")
    assert strict.ready("a")["reason"] == "Running"
    strict.start_controller()
    becomes(guest, user_data=b"second")
    strict.delete("a")
    until("nothing is granted", lambda: all(not strict.request("GET", f"{RBAC}/{kind}")[1]["items"] for kind in ("roles", "rolebindings")))
    drop(strict, "s")
