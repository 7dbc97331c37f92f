# SPDX-License-Identifier: Apache-2.0
"""Firewalls on a real kube-apiserver, with the policies and roles there."""

import json
import os
import subprocess

from conftest import BIN, GROUP, ROOT, eventually
from harness import MORTAL, patient
from test_firewall import IS_WEB, WEB, peers
from test_quota_kubernetes import INSTANCES, ask, inventory, kube, thing  # noqa: F401 (kube: a fixture)

MERGE = "application/merge-patch+json"

FIREWALLS = f"{GROUP}/namespaces/default/firewalls"
REFUSED = (
    ({"egress": [{}]}, "without it the rules would have no effect"),
    ({"ingress": [{"port": 1}]}, "port must only be set for protocol tcp and udp"),
    ({"ingress": [{"protocol": "tcp", "port": 2, "endPort": 1}]}, "endPort must"),
    ({"ingress": [{"protocol": "tcp", "icmpType": 1}]}, "icmpType must"),
    ({"ingress": [{"name": "1"}]}, "spec.ingress[0].name"),
    ({"ingress": [{"prefixes": ["192.0.2.1"]}]}, "spec.ingress[0].prefixes[0]"),
    ({"ingress": [{"prefixes": ["192.0.2.1/24"]}]}, "with host bits 0"),
    ({"egress": [{"prefixes": ["2001:DB8::/32"]}], "defaultEgress": "deny"}, "canonical form"),
    ({"ingress": [{"protocol": "icmp", "prefixes": ["2001:db8::/32"]}]}, "icmp must have IPv4 prefixes"),
    ({"ingress": [{"protocol": "icmpv6", "prefixes": ["192.0.2.0/24"]}]}, "icmpv6 IPv6 prefixes"),
    ({"ingress": [{"peers": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}, "values are required"),
    ({"instances": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}, "values are required"),
)


def firewall(name, **spec):
    return thing("Firewall", name, {"instances": {}, **spec}, namespace="default")


def test_schema_and_policy(kube):  # noqa: F811
    """What nacre-apiserver refuses is refused, and the largest Firewall passes."""
    conn = kube.connect()
    kube.kubectl("apply", "--server-side", "-f", os.path.join(ROOT, "deploy", "admission.yaml"))

    def said(**spec):
        p = kube.kubectl("create", "--dry-run=server", "-f", "-", check=False, input=json.dumps(firewall("x", **spec)))
        return p.stderr if p.returncode else ""
    eventually("the policy is there", 30, lambda: said(ingress=[{"prefixes": ["192.0.2.1/24"]}]))
    for spec, words in REFUSED:
        assert words in said(**spec), (spec, said(**spec))
    ask(conn, "POST", FIREWALLS, firewall("small", ingress=[
        {"name": "ssh", "protocol": "tcp", "port": 22, "endPort": 23, "prefixes": ["192.0.2.0/24", "2001:db8::/32"],
         "peers": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["", "b"]}]}},
        {"protocol": "icmpv6", "icmpType": 128, "prefixes": ["2001:db8::/32"]}, {}]))
    ask(conn, "POST", FIREWALLS, firewall("large", ingress=[
        {"protocol": "tcp", "port": 1 + n, "prefixes": [f"2001:db8:{n + 1:x}::/48", f"10.{n >> 8}.{n & 255}.0/24"]}
        for n in range(10000)]))
    assert len(ask(conn, "GET", f"{FIREWALLS}/large")["spec"]["ingress"]) == 10000


def test_groups_and_status(kube, tmp_path):  # noqa: F811
    """With the role that the controller has there; agents can't put anybody into a group."""
    conn = kube.connect()
    inventory(conn, 1000)
    kube.kubectl("apply", "--server-side", "-f", os.path.join(ROOT, "deploy", "admission.yaml"))
    ask(conn, "POST", INSTANCES, thing("Instance", "a", {"type": "small", "image": "i", "ipv4": "none"}, namespace="default",
                                       labels={"app": "web"}))
    ask(conn, "POST", FIREWALLS, firewall("f", **peers(WEB)))
    with open(tmp_path / "controller.log", "w") as log:
        controller = subprocess.Popen([*MORTAL, os.path.join(BIN, "nacre-controller"), "--kubeconfig",
                                       kube.kubeconfig("system:nacre:controller", ()), "--identity", "c"], stderr=log)
    try:
        eventually("it is placed", 30, lambda: "host" in ask(conn, "GET", f"{INSTANCES}/a").get("status", {}))
        st = ask(conn, "GET", f"{INSTANCES}/a")["status"]
        name = "i-" + st["id"]
        announced = thing("Endpoint", name, {
            "host": st["host"], "vtep": "fd00:a::1", "ip": st["overlayAddress"], "mac": st["mac"], "routes": [{"prefix": st["prefix"]}],
            "owner": {"kind": "Instance", "namespace": "default", "name": "a", "uid": st["id"]}})
        agent = {"user": "system:nacre:host:" + st["host"], "groups": ("system:nacre:hosts",)}
        p = kube.kubectl("apply", "--server-side", "-f", "-", check=False, input=json.dumps(announced), **agent)
        assert p.returncode == 0, p.stderr

        def groups():
            return ask(conn, "GET", f"{GROUP}/endpoints/{name}").get("status", {}).get("groups", [])

        def status():
            return ask(conn, "GET", f"{FIREWALLS}/f").get("status", {})
        eventually("it is in the group", 20, lambda: groups() == [IS_WEB])
        eventually("the status says so", 20, lambda: status().get("instances") == 1)
        p = kube.kubectl("patch", "endpoint", name, "--subresource=status", "--type=merge", "-p",
                         json.dumps({"status": {"groups": ["0" * 32]}}), check=False, **agent)
        assert p.returncode and "orbidden" in p.stderr, p.stderr
        ask(conn, "PATCH", f"{INSTANCES}/a", {"metadata": {"labels": {"app": "db"}}}, MERGE)
        eventually("it has left", 20, lambda: groups() == [])
        assert "INSTANCES   EGRESS   APPLIED   AGE" in kube.kubectl("get", "firewalls").stdout
    finally:
        controller.terminate()
        controller.wait(patient(15))
