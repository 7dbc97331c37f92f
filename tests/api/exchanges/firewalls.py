# SPDX-License-Identifier: Apache-2.0
"""Firewalls: rules about several fields, lists that are replaced as a whole, selectors, and their table."""

from apilib import V
from exchange import TABLE

APPLIED = {"type": "Applied", "status": "True", "reason": "Applied", "lastTransitionTime": "2026-01-01T00:00:00Z"}
SSH = {"name": "ssh", "protocol": "tcp", "port": 22, "prefixes": ["203.0.113.0/24", "2001:db8::/32"]}


def topic(t):
    F = "/apis/nacre.dev/v1alpha1/namespaces/" + t.ns + "/firewalls"

    def firewall(name, **spec):
        return {"apiVersion": V, "kind": "Firewall", "metadata": {"name": name, "namespace": t.ns},
                "spec": {"instances": {}, **spec}}
    t.post(F, firewall("a", ingress=[SSH, {"protocol": "icmpv6", "icmpType": 128}, {"peers": {}}]))
    t.get(F + "/a")
    t.get(F, accept=TABLE)
    t.merge(F + "/a/status", {"status": {"observedGeneration": 1, "instances": 2, "conditions": [APPLIED], "rules": [
        {"direction": "ingress", "rule": "ssh", "packets": 3, "bytes": 180}]}})
    t.get(F, accept=TABLE)
    t.merge(F + "/a", {"status": {"instances": 7}})
    t.merge(F + "/a", {"spec": {"ingress": [SSH]}})
    t.merge(F + "/a/status", {"status": {"rules": [{"direction": "both", "rule": "0"}]}})
    t.jsonpatch(F + "/a", [{"op": "add", "path": "/spec/ingress/-", "value": {"peers": {"matchLabels": {"app": "web"}}}}])
    t.apply(F + "/b?fieldManager=one", firewall("b", ingress=[SSH]))
    t.apply(F + "/b?fieldManager=two", firewall("b", ingress=[]))
    t.apply(F + "/b?fieldManager=two&force=true", firewall("b", ingress=[{}]))
    t.apply(F + "/b?fieldManager=two", firewall("b", ingress=[{}], defaultEgress="deny", egress=[
        {"protocol": "udp", "port": 53, "endPort": 53, "peers": {"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["dns", ""]}, {"key": "old", "operator": "DoesNotExist"}]}}]))
    for spec in ({"defaultEgress": "maybe"}, {"instances": None}, {"instances": {"matchLabels": {"a": "b c"}}},
                 {"instances": {"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]}},
                 {"ingress": [{"protocol": "tcp", "port": 0}]}, {"ingress": [{"protocol": "icmp", "icmpType": 256}]},
                 {"ingress": [{"name": "1a"}]}, {"ingress": [{"name": "A"}]}, {"ingress": [{"protocol": "sctp"}]}):
        t.post(F + "?dryRun=All", firewall("c", **spec))
    for spec in ({"egress": [{}]}, {"egress": [{}], "defaultEgress": "allow"},
                 {"instances": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
                 {"ingress": [{"port": 1}]}, {"ingress": [{"protocol": "any", "port": 1}]},
                 {"ingress": [{"protocol": "tcp", "endPort": 7}]}, {"ingress": [{"protocol": "udp", "port": 8, "endPort": 7}]},
                 {"ingress": [{"protocol": "tcp", "icmpType": 8}]},
                 {"ingress": [{"prefixes": ["192.0.2.1"]}]}, {"ingress": [{"prefixes": [""]}]},
                 {"ingress": [{"peers": {"matchExpressions": [{"key": "a", "operator": "NotIn"}]}}]}):
        t.post(F + "?dryRun=All", firewall("c", **spec), differs="reasons")
    t.post(F + "?fieldValidation=Strict", firewall("c", ingress=[{"from": "192.0.2.0/24"}]))
    t.delete(F + "/a")
    t.delete(F + "/b")
