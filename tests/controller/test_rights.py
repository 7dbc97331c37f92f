# SPDX-License-Identifier: Apache-2.0
"""A controller whose token gives it fewer rights than its role."""

import json
import os
import socket

import pytest
from conftest import BIN, Cloud, UnixConnection, eventually
from harness import run

RBAC, ACCOUNTS = "/apis/rbac.authorization.k8s.io/v1", "/api/v1/namespaces/nacre-system/serviceaccounts"
ROLE, POOR = "system:nacre:controller", {"kind": "ServiceAccount", "name": "poor", "namespace": "nacre-system"}


class TokenCloud(Cloud):
    """The controller is ServiceAccount `poor`, which is bound to ClusterRole `fewer` and may use the Leases."""

    def start(self, name, *argv):
        if name == "api":
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                self.port = s.getsockname()[1]
            self.pki, nacre = f"{self.dir}/pki", os.path.join(BIN, "nacre")
            run(nacre, "pki", "init", self.pki)
            run(nacre, "pki", "server", self.pki, "--name=localhost", "--address=127.0.0.1", f"--out={self.pki}/server")
            argv = [*argv, f"--listen=127.0.0.1:{self.port}", f"--tls-cert={self.pki}/server.crt",
                    f"--tls-key={self.pki}/server.key", f"--client-ca={self.pki}/ca.crt"]
        super().start(name, *argv)

    def bind(self, where, kind, role):
        self.request("POST", f"{RBAC}{where}/{kind.lower()}bindings", {
            "metadata": {"name": "poor"}, "subjects": [POOR],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}})

    def make_account(self, rules):
        self.request("POST", ACCOUNTS, {"metadata": {"name": "poor"}})
        self.request("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "fewer"}, "rules": rules})
        self.bind("", "ClusterRole", "fewer")
        self.bind("/namespaces/nacre-system", "Role", ROLE)
        token = self.request("POST", f"{ACCOUNTS}/poor/token", {"spec": {}})["status"]["token"]
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": f"{self.pki}/ca.crt"}
        with open(f"{self.dir}/kubeconfig", "w") as f:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [{"name": "c", "cluster": cluster}],
                       "users": [{"name": "c", "user": {"token": token}}],
                       "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}, f)

    def start_controller(self):
        self.start("controller", os.path.join(BIN, "nacre-controller"), f"--kubeconfig={self.dir}/kubeconfig", "--no-leader-election",
                   f"--metrics=unix:{self.dir}/controller.sock")

    def ready(self):
        c = UnixConnection(f"{self.dir}/controller.sock")
        try:
            c.request("GET", "/readyz")
            return c.getresponse().status == 200
        finally:
            c.close()

    def refusals(self):
        """What the controller's log says about kinds that it can't follow."""
        return [line for line in self.log("controller").splitlines() if "this kind can't be followed" in line]


@pytest.fixture
def cloud(tmp_path):
    cloud = TokenCloud(tmp_path)
    try:
        cloud.start_api()
        yield cloud
    finally:
        print(cloud.log("controller")[-3000:])
        cloud.close()


@pytest.mark.parametrize("verb, result, done", [("list", "so nothing is done", False),
                                                ("watch", "so its changes are seen late or not at all", True)])
def test_a_kind_that_may_not_be_followed(cloud, verb, result, done):
    """The log names the kind, the right, what follows and the remedy. Nothing is done before the kind was listed once."""
    rules = cloud.request("GET", f"{RBAC}/clusterroles/{ROLE}")["rules"]
    (rule,) = [r for r in rules if "firewalls" in r["resources"]]
    cloud.make_account([r for r in rules if r is not rule] + [
        {**rule, "resources": [r for r in rule["resources"] if r != "firewalls"]},
        {**rule, "resources": ["firewalls"], "verbs": [v for v in rule["verbs"] if v != verb]}])
    cloud.pools()
    cloud.host("h1", beat=False)
    cloud.create("Lease", "host-h1", {"holderIdentity": "h1", "leaseDurationSeconds": 600}, "nacre-system")
    cloud.instance("a")

    def host():
        return cloud.get("instances", "a", "default").get("status", {}).get("host")

    cloud.start_controller()
    line = eventually("the log names the kind", 20, cloud.refusals)[0]
    assert f"level=error prog=nacre-controller msg=\"this kind can't be followed, {result}\" kind=Firewall error=" in line, line
    assert f'cannot {verb} resource "firewalls" in API group' in line, line
    assert line.endswith('remedy="apply `nacre crds` and `nacre rbac` of this version"'), line
    if done:
        eventually("the instance is placed", 20, host)
    assert bool(host()) == cloud.ready() == done
    cloud.request("PATCH", f"{RBAC}/clusterroles/fewer", {"rules": rules}, "application/merge-patch+json")
    eventually("the instance is placed", 20, host)
    assert cloud.ready()
    assert all(" kind=Firewall " in line for line in cloud.refusals())
