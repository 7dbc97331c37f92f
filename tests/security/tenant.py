# SPDX-License-Identifier: Apache-2.0
"""A tenant's requests to the API server, on a connection of the tenant's own."""

from apilib import ADMIN, G, namespace

RED = ("red",)
OF_RED = f"{G}/namespaces/red/instances"
CONFIGMAPS = "/api/v1/namespaces/red/configmaps"
EVENTS = "/api/v1/namespaces/red/events"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def make(server, role="admin"):
    """Namespace red, where user red is an admin."""
    server.create(namespace("red"))
    a = server.post(f"{RBAC}/namespaces/red/rolebindings", {
        "apiVersion": RBAC[6:], "kind": "RoleBinding", "metadata": {"name": "admin"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "red"}]})
    assert a.status == 201, a.text


def ask(server, method, path, body=None, type="application/json", user=RED, dry=False):
    if dry:
        path += ("&" if "?" in path else "?") + "dryRun=All"
    return server.request(method, path, body, type, conn=server.connection(user))


def refused(server, answer, *words):
    """ANSWER is a Status with these words, and the server still answers others."""
    assert answer.status in (400, 413, 422), answer.text[:500]
    assert answer.json["kind"] == "Status" and all(w in answer.text for w in words), answer.text[:500]
    assert server.process.poll() is None
    assert ask(server, "GET", f"{G}/hosts", user=ADMIN).status == 200
