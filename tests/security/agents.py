# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of agents: users, objects, and requests as a user."""

from apilib import G, MERGE, V, instance

H1 = ("system:nacre:host:h1", "system:nacre:hosts")
H2 = ("system:nacre:host:h2", "system:nacre:hosts")
E1 = ("system:nacre:edge:e1", "system:nacre:edges")
E2 = ("system:nacre:edge:e2", "system:nacre:edges")
L1 = ("system:nacre:balancer:l1", "system:nacre:balancers")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases"
I = f"{G}/namespaces/default/instances"


def thing(kind, name, spec, **meta):
    version = "coordination.k8s.io/v1" if kind == "Lease" else V
    ns = {"namespace": "nacre-system"} if kind == "Lease" else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **ns, **meta}, "spec": spec}


def peer(name, edge):
    return thing("EdgePeer", name, {"edge": edge, "localASN": 64512, "remoteASN": 64513, "interface": "up0"})


def as_user(server, user):
    def ask(method, path, body=None, type=MERGE, headers=None):
        type = type if method == "PATCH" else "application/json"
        return server.request(method, path, body, type, headers=headers, conn=server.connection(user, timeout=30))
    return ask


def cloud(server):
    """Hosts h1, h2, edges e1, e2 with Leases and an EdgePeer each; Instance a on h1, b on h2, c nowhere."""
    for n, (name, role) in enumerate((("h1", "compute"), ("h2", "compute"), ("e1", "edge"), ("e2", "edge")), 1):
        server.create(thing("Host", name, {"role": role, "vtep": f"fd00::{n}"}))
        server.create(thing("Lease", f"host-{name}", {"holderIdentity": name}))
    for name, edge in (("p1", "e1"), ("p2", "e2")):
        server.create(peer(name, edge))
    for n, (name, host) in enumerate((("a", "h1"), ("b", "h2"), ("c", None)), 1):
        server.create(instance(name, meta={"annotations": {"secret": f"of-{name}"}}))
        if host:
            given = {"host": host, "overlayAddress": f"fd01::{n}", "mac": f"02:00:00:00:00:0{n}", "prefix": f"2001:db8:{n}::/64"}
            assert server.patch(f"{I}/{name}/status", {"status": given}).status == 200
    return server
