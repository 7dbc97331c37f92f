# SPDX-License-Identifier: Apache-2.0
"""An agent is restricted to its own host: by nacre-apiserver itself, on kube-apiserver by RBAC and
deploy/admission.yaml."""

import pytest
from apilib import G, V, instance

HOST = ("system:nacre:host:h1", "system:nacre:hosts")
OTHER = ("system:nacre:host:h2", "system:nacre:hosts")
EDGE = ("system:nacre:edge:e1", "system:nacre:edges")
BALANCER = ("system:nacre:balancer:l1", "system:nacre:balancers")
STRANGERS = [("h1", "system:nacre:hosts"), ("system:nacre:edge:h1", "system:nacre:hosts"), ("system:nacre:host:h1",), ()]
LEASES = "/apis/coordination.k8s.io/v1/namespaces/nacre-system/leases"
EVENTS = "/api/v1/namespaces/default/events"
I = f"{G}/namespaces/default/instances"

# In both groups: the name says what it is.
HOST_OF_BOTH = ("system:nacre:host:h1", "system:nacre:hosts", "system:nacre:edges")
EDGE_OF_BOTH = ("system:nacre:edge:e1", "system:nacre:hosts", "system:nacre:edges")

pytestmark = pytest.mark.both


def host(name, role="compute", vtep="fd00::1"):
    return {"apiVersion": V, "kind": "Host", "metadata": {"name": name}, "spec": {"role": role, "vtep": vtep}}


def own_name(on, owner):
    return f"i-{owner['metadata']['uid']}" if owner else f"edge-{on}"


def endpoint(on, owner=None, name=None, **spec):
    """An Endpoint as the agent of host ON makes it for Instance OWNER; without OWNER, as an edge makes it."""
    return {"apiVersion": V, "kind": "Endpoint", "metadata": {"name": name or own_name(on, owner)},
            "spec": {"host": on, "vtep": "fd00::1", "ip": "fd01::1", "mac": "02:00:00:00:00:01",
                     "routes": [{"prefix": p} for p in (("2001:db8:1::/64", "2001:db8:2::/60") if owner else ("::/0", "0.0.0.0/0"))],
                     **({"owner": {"kind": "Instance", "namespace": "default", "name": owner["metadata"]["name"],
                                   "uid": owner["metadata"]["uid"]}} if owner else {}), **spec}}


def lease(name, ns="nacre-system"):
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": ns},
            "spec": {"holderIdentity": "x"}}


def event(on, kind="Host", name="h1", ns="default"):
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "e", "namespace": ns}, "source": {"host": on},
            "involvedObject": {"kind": kind, "name": name, **({} if kind == "Host" else {"namespace": ns})}, "reason": "R",
            "type": "Normal", "message": "m"}


def as_user(server, user):
    def ask(method, path, body=None, type="application/merge-patch+json"):
        return server.request(method, path, body, type if method == "PATCH" else "application/json",
                              conn=server.connection(user))
    return ask


def allowed(a):
    assert a.status in (200, 201), a.text


def refused(a):
    assert (a.status, a.json["reason"]) in ((401, "Unauthorized"), (403, "Forbidden"), (422, "Invalid"),
                                            (413, "RequestEntityTooLarge")), a.text


@pytest.fixture
def placed(server):
    """Instances a on h1, b on h2, c on no host. Leases of earlier tests are deleted."""
    for name, on in (("a", "h1"), ("b", "h2"), ("c", None)):
        server.create(instance(name))
        if on:
            assert server.patch(f"{I}/{name}/status", {"status": {"host": on, "address": "2001:db8::1"}}).status == 200
    for name in ("host-h1", "host-h2", "host-e1"):
        server.delete(f"{LEASES}/{name}")
    return server


METADATA = ({"labels": {"rack": "1"}}, {"annotations": {"a": "b"}}, {"finalizers": ["a.b/c"]},
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "x"}]})


def test_host(placed):
    ask = as_user(placed, HOST)
    allowed(ask("POST", f"{G}/hosts", host("h1")))
    refused(ask("POST", f"{G}/hosts", host("h2")))
    placed.create(host("h2", vtep="fd00::2"))
    # Of two Hosts with one VTEP the older has it: this request would take the VTEP of h2.
    refused(ask("PATCH", f"{G}/hosts/h1", {"spec": {"vtep": "fd00::2"}}))
    refused(ask("PATCH", f"{G}/hosts/h2", {"spec": {"vtep": "fd00::11"}}))
    allowed(ask("PATCH", f"{G}/hosts/h1", {"spec": {"vtep": "fd00::1"}}))  # no change
    allowed(ask("PATCH", f"{G}/hosts/h1/status", {"status": {"version": "1"}}))
    refused(ask("PATCH", f"{G}/hosts/h2/status", {"status": {"version": "1"}}))
    refused(ask("PATCH", f"{G}/hosts/h1", {"spec": {"role": "edge"}}))
    refused(ask("DELETE", f"{G}/hosts/h1"))
    allowed(ask("GET", f"{G}/hosts/h1"))


def test_what_places_workloads_is_the_operators(placed):
    ask, H = as_user(placed, HOST), f"{G}/hosts/h1"
    limits = {"vcpus": 8, "memoryMiB": 4096}
    for spec in ({"limits": limits}, {"unschedulable": False}, {"unschedulable": True}):
        refused(ask("POST", f"{G}/hosts", {**host("h1"), "spec": {"vtep": "fd00::1", **spec}}))
    for meta in METADATA:
        refused(ask("POST", f"{G}/hosts", {**host("h1"), "metadata": {"name": "h1", **meta}}))
    # A Host that the operator made beforehand.
    made = host("h1")
    made["metadata"].update(labels={"rack": "2"}, annotations={"c": "d"})
    made["spec"].update(limits=limits, unschedulable=True)
    placed.create(made)
    allowed(ask("PATCH", f"{H}/status", {"status": {"capacity": {"vcpus": 65536, "memoryMiB": 1048576}}}))
    for meta in (*METADATA, {"labels": None}, {"labels": {"rack": None, "x": "y"}}, {"annotations": None}):
        refused(ask("PATCH", H, {"metadata": meta}))
        a = ask("PATCH", f"{H}/status", {"metadata": meta, "status": {"version": "2"}})  # only the status is taken
        assert a.status == 200 or a.status in (403, 422), a.text
    for spec in ({"limits": None}, {"limits": {"vcpus": 9}}, {"limits": {"vcpus": None}}, {"unschedulable": None}, {"unschedulable": False}):
        refused(ask("PATCH", H, {"spec": spec}))
    now = placed.get(H).json
    assert now["metadata"]["labels"] == {"rack": "2"} and now["metadata"]["annotations"] == {"c": "d"}
    assert now["spec"] == {"role": "compute", "vtep": "fd00::1", "limits": limits, "unschedulable": True}
    assert "finalizers" not in now["metadata"] and "ownerReferences" not in now["metadata"]


def test_metadata_of_what_agents_make(addressed):
    """Annotations have room for anything, and owner references and finalizers decide how long an object lives."""
    server, a, _ = addressed
    ask = as_user(server, HOST)
    for path, make in ((f"{G}/endpoints", lambda: endpoint("h1", a)), (LEASES, lambda: lease("host-h1")), (EVENTS, lambda: event("h1"))):
        for meta in METADATA:
            new = make()
            new["metadata"].update(meta)
            refused(ask("POST", path, new))
        made = ask("POST", path, make())
        allowed(made)
        for meta in METADATA:
            refused(ask("PATCH", f"{path}/{made.json['metadata']['name']}", {"metadata": meta}))
        now = server.get(f"{path}/{made.json['metadata']['name']}").json["metadata"]
        assert not set(now) & {"labels", "annotations", "finalizers", "ownerReferences"}


def test_what_agents_make_is_small(addressed):
    server, a, _ = addressed
    ask, E = as_user(server, HOST), f"{G}/endpoints/{own_name('h1', a)}"
    big = "x" * 100000
    allowed(ask("POST", f"{G}/endpoints", endpoint("h1", a)))
    allowed(ask("POST", LEASES, lease("host-h1")))
    made = ask("POST", EVENTS, event("h1"))
    allowed(made)
    mine = f"{EVENTS}/{made.json['metadata']['name']}"
    for path, patch in ((E, {"spec": {"owner": {"name": big}}}), (f"{LEASES}/host-h1", {"spec": {"holderIdentity": big}}),
                        (mine, {"message": big}), (mine, {"reason": big}), (mine, {"related": {"kind": "X", "name": big}}),
                        (mine, {"involvedObject": {"fieldPath": big}}), (mine, {"reportingComponent": big}),
                        (f"{G}/hosts/h1/status", {"status": {"version": big}})):
        refused(ask("PATCH", path, patch))
    # Each name that applies something gets an entry in managedFields.
    for path in (E, f"{I}/a/status", f"{G}/hosts/h1/status", f"{LEASES}/host-h1"):
        of = path.removesuffix("/status")
        obj = server.get(of).json
        mine = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": {"name": obj["metadata"]["name"]},
                **({"status": {"phase": "Running"}} if "instances" in path else {"status": {"version": "1"}} if "hosts" in path
                   else {"spec": obj["spec"]})}
        answers = [ask("PATCH", f"{path}?fieldManager=m{n}&force=true", mine, "application/apply-patch+yaml") for n in range(20)]
        refused(answers[-1])
        assert len(server.get(of).json["metadata"]["managedFields"]) <= 16


def test_lease(placed):
    ask = as_user(placed, HOST)
    allowed(ask("POST", LEASES, lease("host-h1")))
    allowed(ask("PATCH", f"{LEASES}/host-h1", {"spec": {"leaseDurationSeconds": 5}}))
    refused(ask("POST", LEASES, lease("host-h2")))
    refused(ask("POST", LEASES, lease("nacre-controller")))
    for character in "xé😀":
        n = 253 // len(character.encode())
        allowed(ask("PATCH", f"{LEASES}/host-h1", {"spec": {"holderIdentity": character * n}}))
        refused(ask("PATCH", f"{LEASES}/host-h1", {"spec": {"holderIdentity": character * (n + 1)}}))
    a = ask("PATCH", f"{LEASES}/host-h1", {"spec": {"preferredHolder": "x" * 254}})
    assert a.status == 403 or (a.status == 200 and "xxx" not in a.text), a.text  # a kube-apiserver drops this field
    refused(ask("DELETE", f"{LEASES}/host-h1"))
    refused(ask("POST", LEASES.replace("nacre-system", "default"), lease("host-h1", "default")))


GIVEN = {"overlayAddress": "fd01::1", "mac": "02:00:00:00:00:01", "prefix": "2001:db8:1::/64",
         "delegatedPrefix": "2001:db8:2::/60"}


@pytest.fixture
def addressed(placed):
    """Hosts h1, h2 and e1, and what Instances a (on h1) and b (on h2) were given."""
    placed.create(host("h1"))
    placed.create(host("h2", vtep="fd00::2"))
    placed.create(host("e1", "edge", vtep="fd00::3"))
    other = {"overlayAddress": "fd01::2", "mac": "02:00:00:00:00:02", "prefix": "2001:db8:1:1::/64",
             "delegatedPrefix": "2001:db8:2:10::/60"}
    for name, status in (("a", GIVEN), ("b", other)):
        assert placed.patch(f"{I}/{name}/status", {"status": status}).status == 200
    return placed, placed.get(f"{I}/a").json, placed.get(f"{I}/b").json


def test_endpoints(addressed):
    server, a, b = addressed
    ask, E = as_user(server, HOST), f"{G}/endpoints"
    mine, theirs = f"{E}/{own_name('h1', a)}", f"{E}/{own_name('h2', b)}"
    allowed(ask("POST", E, endpoint("h1", a)))
    refused(ask("POST", E, endpoint("h2", b)))
    server.create(endpoint("h2", b, vtep="fd00::2"))
    refused(ask("PATCH", mine, {"spec": {"host": "h2"}}))
    refused(ask("PATCH", theirs, {"spec": {"host": "h1"}}))
    refused(ask("PATCH", theirs, {"metadata": {"labels": {"x": "y"}}}))
    refused(ask("DELETE", theirs))
    refused(ask("DELETE", E))
    # Addresses that a host must not announce, whoever owns them.
    for routes in (["::/0"], ["0.0.0.0/0"], ["2001:db8:1::/64", "::/0"], ["2001:db8:1::/64", "2001:db8:3::/64"],
                   ["2000::/3"], ["192.0.2.0/24"], ["2001:db8:1::/64"] * 2):
        refused(ask("PATCH", mine, {"spec": {"routes": [{"prefix": p} for p in routes]}}))
    allowed(ask("PATCH", mine, {"spec": {"routes": [{"prefix": "2001:db8:1::/64"}]}}))
    allowed(ask("DELETE", mine))
    refused(ask("POST", E, endpoint("h1", a, routes=[{"prefix": f"2001:db8:1:{n:x}::/64"} for n in range(3)])))
    refused(ask("POST", E, endpoint("h1")))
    allowed(ask("POST", E, endpoint("h1", a)))
    refused(ask("PATCH", mine, {"spec": {"owner": None}}))


def test_slices_of_endpoints(server):
    """Whoever writes it, an Endpoint has only slices as AddressPools hand them out."""
    def post(first, last):
        ports = {k: v for k, v in (("firstPort", first), ("lastPort", last)) if v is not None}
        route = {"prefix": "198.51.100.7/32", **ports}
        return server.request("POST", f"{G}/endpoints?dryRun=All", endpoint("h1", routes=[route], name="slices"))
    for first, last in ((1024, 1535), (0, 32767), (32768, 65535), (65535, 65535), (0, 0)):
        allowed(post(first, last))
    for first, last in ((0, 65535), (1024, 1534), (1100, 1611), (1280, 1791), (1024, 33791), (1535, 1024), (1024, None), (None, 1535)):
        a = post(first, last)
        assert (a.status, a.json["reason"]) == (422, "Invalid"), a.text


def test_edge_endpoints(addressed):
    server, a, _ = addressed
    ask, E = as_user(server, EDGE), f"{G}/endpoints"
    out = f"{E}/edge-e1"
    allowed(ask("POST", E, endpoint("e1", vtep="fd00::3")))
    allowed(ask("PATCH", out, {"spec": {"routes": [{"prefix": "::/0"}]}}))
    refused(ask("PATCH", out, {"spec": {"routes": [{"prefix": "2001:db8:1::/64"}]}}))
    refused(ask("PATCH", out, {"spec": {"routes": [{"prefix": "::/0"}, {"prefix": "2000::/3"}]}}))
    for routes in (["::/0"] * 2, ["::/0", "0.0.0.0/0", "::/0"]):
        refused(ask("PATCH", out, {"spec": {"routes": [{"prefix": p} for p in routes]}}))
    refused(ask("POST", E, endpoint("h1")))
    refused(ask("POST", E, endpoint("e1", a, vtep="fd00::3")))
    allowed(ask("DELETE", out))


def test_names_belong_to_owners(addressed):
    """An Endpoint with another owner's name would keep that owner from announcing itself. So no agent can take one."""
    server, a, b = addressed
    E, host, edge = f"{G}/endpoints", as_user(server, HOST), as_user(server, EDGE)
    for name in ("mine", "edge-e1", "edge-h1", own_name("h2", b), "i-0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab"):
        refused(host("POST", E, endpoint("h1", a, name)))
    for name in ("out", "edge-e2", own_name("h1", a), own_name("h2", b)):
        refused(edge("POST", E, endpoint("e1", name=name, vtep="fd00::3")))
    generated = endpoint("h1", a)
    generated["metadata"] = {"generateName": own_name("h1", a)}
    refused(host("POST", E, generated))
    # Nor by naming another owner, once the Endpoint exists.
    allowed(host("POST", E, endpoint("h1", a)))
    refused(host("PATCH", f"{E}/{own_name('h1', a)}", {"spec": {"owner": {"uid": b["metadata"]["uid"], "name": "b"}}}))
    assert len(server.list(E)["items"]) == 1


def test_what_agents_make_is_small(addressed):
    """All hosts hold all Endpoints, so each may have 8 KiB at most."""
    server, a, _ = addressed
    host, edge = as_user(server, HOST), as_user(server, EDGE)
    deep = {"x": {}}
    for _ in range(20):
        deep = {f"f:{'y' * 250}": deep}
    fields = ({"f:spec": {f"f:{i}{'x' * 20}": {} for i in range(2000)}}, {f"f:{i}{'x' * 20}": {} for i in range(2000)},
              {"f:spec": {"f:owner": {f"f:{i}{'x' * 20}": {} for i in range(2000)}}}, {"f:spec": {"f:owner": deep}},
              {"f:spec": {f"f:{'x' * 20_000}": {}}})
    for path, ask, make in ((f"{G}/endpoints", host, lambda: endpoint("h1", a)), (LEASES, host, lambda: lease("host-h1")),
                            (f"{G}/endpoints", edge, lambda: endpoint("e1", vtep="fd00::3", ip="fd02::1")),
                            (EVENTS, host, lambda: event("h1"))):
        for f in fields:
            new = make()
            new["metadata"]["managedFields"] = [{"manager": "m", "operation": "Update", "apiVersion": new["apiVersion"],
                                                 "fieldsType": "FieldsV1", "fieldsV1": f}]
            answer = ask("POST", path, new)
            assert answer.status in (403, 422) or len(answer.text) < 8192, (path, len(answer.text))
            if answer.status == 201:
                assert server.delete(path + "/" + answer.json["metadata"]["name"]).status == 200
        allowed(ask("POST", path, make()))
    many = endpoint("e1", vtep="fd00::3", ip="fd02::1", routes=[{"prefix": "::/0"}] * 64)
    refused(edge("PUT", f"{G}/endpoints/edge-e1", many))


# On kube-apiserver nacre-controller deletes what these requests make (tests/controller).
def nacre_only(server):
    if not hasattr(server, "database"):
        pytest.skip("deploy/admission.yaml can't look up other objects; nacre-controller takes such Endpoints down")


def says(a, *words):
    refused(a)
    assert all(w in a.json["message"] for w in words), a.json["message"]


def test_endpoints_are_what_the_instance_was_given(addressed):
    server, a, b = addressed
    nacre_only(server)
    ask, E = as_user(server, HOST), f"{G}/endpoints"
    post = lambda owner=a, **spec: ask("POST", E, endpoint("h1", owner, **spec))
    X = f"{E}/{own_name('h1', a)}"
    says(post(vtep="fd00::2"), "spec.vtep is fd00::2", "Host h1", "fd00::1")
    says(post(ip="fd01::2"), "spec.ip is fd01::2", "overlayAddress", "Instance default/a", "fd01::1")
    says(post(mac="02:00:00:00:00:02"), "spec.mac")
    says(post(routes=[{"prefix": "2001:db8:1::/64"}, {"prefix": "2001:db8:1:1::/64"}]), "spec.routes[1].prefix", "2001:db8:1:1::/64")
    says(post(b), "Instance default/b", "not on host h1")
    says(post({"metadata": {"name": "a", "uid": b["metadata"]["uid"]}}), "doesn't exist")
    says(post({"metadata": {"name": "none", "uid": "x"}}), "doesn't exist")
    says(post({"metadata": {"name": "c", "uid": server.get(f"{I}/c").json["metadata"]["uid"]}}), "not on host h1")
    allowed(post())
    # An instance that came from another API server keeps the id that it had there.
    assert server.patch(f"{I}/a/status", {"status": {"id": "of-old"}}).status == 200
    says(ask("PATCH", X, {"spec": {"routes": []}}), "doesn't exist")
    says(ask("PATCH", X, {"spec": {"owner": {"uid": "of-old"}}}), "must name this Endpoint i-of-old")
    allowed(ask("DELETE", X))
    X = f"{E}/i-of-old"
    allowed(post({"metadata": {"name": "a", "uid": "of-old"}}))
    says(ask("PATCH", X, {"spec": {"vtep": "fd00::2"}}), "spec.vtep")
    says(ask("PATCH", X, {"spec": {"ip": "fd01::9"}}), "spec.ip")
    assert server.delete(f"{G}/hosts/h1").status == 200
    says(ask("PATCH", X, {"spec": {"vtep": "fd00::9"}}), "no Host h1 yet")
    allowed(ask("DELETE", X))


def test_edges_have_addresses_of_their_own(addressed):
    server, _, _ = addressed
    nacre_only(server)
    server.create({"apiVersion": V, "kind": "AddressPool", "metadata": {"name": "p"},
                   "spec": {"use": "overlay", "prefix": "fd01::/64"}})
    ask, E = as_user(server, EDGE), f"{G}/endpoints"
    says(ask("POST", E, endpoint("e1", vtep="fd00::3")), "spec.ip fd01::1", "AddressPool p")
    says(ask("POST", E, endpoint("e1", ip="fd02::1")), "spec.vtep")
    allowed(ask("POST", E, endpoint("e1", vtep="fd00::3", ip="fd02::1")))


def test_instances(placed):
    ask = as_user(placed, HOST)
    running = {"status": {"phase": "Running", "restarts": 1}}
    allowed(ask("PATCH", f"{I}/a/status", running))
    refused(ask("PATCH", f"{I}/b/status", running))
    refused(ask("PATCH", f"{I}/c/status", running))
    refused(ask("PATCH", f"{I}/c/status", {"status": {"host": "h1"}}))  # assigns a host to itself
    refused(ask("PATCH", f"{I}/a/status", {"status": {"host": "h2"}}))
    refused(ask("PATCH", f"{I}/a/status", {"status": {"address": "2001:db8::2"}}))
    refused(ask("PATCH", f"{I}/a/status", {"status": {"address": None}}))
    refused(ask("PATCH", f"{I}/a/status", {"status": {"vcpus": 64}}))
    refused(ask("PATCH", f"{I}/a/status", {"status": {"id": "0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab"}}))
    refused(ask("PATCH", f"{I}/a/status", {"status": None}))
    refused(ask("PATCH", f"{I}/a", {"spec": {"running": False}}))
    refused(ask("PATCH", f"{I}/a", {"metadata": {"finalizers": None}}))
    refused(ask("DELETE", f"{I}/a"))
    refused(ask("POST", I, instance("d")))
    allowed(as_user(placed, OTHER)("PATCH", f"{I}/b/status", running))
    assert placed.get(f"{I}/a").json["status"] == {"host": "h1", "address": "2001:db8::1", "phase": "Running", "restarts": 1}


def test_events(placed):
    ask = as_user(placed, HOST)
    placed.create(host("h1"))
    allowed(ask("POST", EVENTS, event("h1")))
    made = ask("POST", EVENTS, event("h1", "Instance", "a"))
    allowed(made)
    name = f"{EVENTS}/{made.json['metadata']['name']}"
    allowed(ask("PATCH", name, {"count": 2}))
    refused(ask("POST", EVENTS, event("h2")))
    refused(ask("POST", EVENTS, event("h1", "Host", "h2")))
    refused(ask("POST", EVENTS, event("h1", "AddressPool", "p")))
    refused(ask("DELETE", name))
    refused(ask("PATCH", name, {"source": {"host": "h2"}}))
    # It is short, and about one object.
    for more in ({"reportingComponent": "x" * 1025}, {"action": "x" * 1025}, {"related": {"kind": "Host", "name": "h1"}},
                 {"involvedObject": {"fieldPath": "x" * 254}}):
        refused(ask("PATCH", name, more))
    for character in "xé😀":
        n = 1024 // len(character.encode())
        allowed(ask("PATCH", name, {"message": character * n}))
        refused(ask("PATCH", name, {"message": character * (n + 1)}))
        refused(ask("PATCH", name, {"involvedObject": {"fieldPath": character * (253 // len(character.encode()) + 1)}}))
    # An Event belongs in the namespace of its object.
    of_both = event("h1")
    of_both["involvedObject"]["namespace"] = "default"
    refused(ask("POST", EVENTS, of_both))
    system = EVENTS.replace("default", "nacre-system")
    refused(ask("POST", system, event("h1", ns="nacre-system")))
    elsewhere = event("h1", "Instance", "a", "nacre-system")
    elsewhere["involvedObject"]["namespace"] = "default"
    refused(ask("POST", system, elsewhere))


def test_events_are_about_what_is_there(placed):
    nacre_only(placed)
    ask = as_user(placed, HOST)
    uid = placed.get(f"{I}/a").json["metadata"]["uid"]
    says(ask("POST", EVENTS, event("h1")), "its own objects that exist")  # there is no Host h1 yet
    for name in ("b", "c", "none"):
        says(ask("POST", EVENTS, event("h1", "Instance", name)), "its own objects that exist")
    system = EVENTS.replace("default", "nacre-system")
    says(ask("POST", system, event("h1", "Instance", "a", "nacre-system")), "its own objects that exist")
    of = lambda uid: {**event("h1", "Instance", "a"), "involvedObject": {"kind": "Instance", "namespace": "default", "name": "a", "uid": uid}}
    says(ask("POST", EVENTS, of("another")), "its own objects that exist")
    made = ask("POST", EVENTS, of(uid))
    allowed(made)
    # An Event can't be moved to another object, nor updated after its object is gone.
    path = f"{EVENTS}/{made.json['metadata']['name']}"
    says(ask("PATCH", path, {"involvedObject": {"name": "b", "uid": None}}), "its own objects that exist")
    assert placed.delete(f"{I}/a").status == 200
    says(ask("PATCH", path, {"count": 3}), "its own objects that exist")


def test_edge(placed):
    ask = as_user(placed, EDGE)
    allowed(ask("POST", f"{G}/hosts", host("e1", "edge")))
    refused(ask("PATCH", f"{G}/hosts/e1", {"spec": {"role": "compute"}}))
    allowed(ask("POST", LEASES, lease("host-e1")))
    refused(ask("POST", LEASES, lease("host-h1")))
    for name, edge in (("mine", "e1"), ("theirs", "e2")):
        placed.create({"apiVersion": V, "kind": "EdgePeer", "metadata": {"name": name},
                       "spec": {"edge": edge, "localASN": 64512, "remoteASN": 64513, "interface": "up0"}})
    allowed(ask("PATCH", f"{G}/edgepeers/mine/status", {"status": {"state": "Established"}}))
    refused(ask("PATCH", f"{G}/edgepeers/theirs/status", {"status": {"state": "Established"}}))
    refused(ask("PATCH", f"{G}/edgepeers/mine", {"spec": {"remoteASN": 1}}))
    refused(ask("PATCH", f"{I}/a/status", {"status": {"phase": "Running"}}))


def shared_pool(name, prefix, use="shared"):
    return {"apiVersion": V, "kind": "AddressPool", "metadata": {"name": name}, "spec": {"use": use, "prefix": prefix}}


def test_balancer(placed):
    ask = as_user(placed, BALANCER)
    for role in ("edge", "compute"):
        refused(ask("POST", f"{G}/hosts", host("l1", role)))
    allowed(ask("POST", f"{G}/hosts", host("l1", "balancer")))
    refused(ask("POST", f"{G}/hosts", host("l2", "balancer")))
    for user in (HOST, EDGE):
        refused(as_user(placed, user)("POST", f"{G}/hosts", host(user[0].split(":")[-1], "balancer")))
    allowed(ask("PATCH", f"{G}/hosts/l1/status", {"status": {"version": "1"}}))
    refused(ask("PATCH", f"{G}/hosts/l1", {"spec": {"role": "edge"}}))
    allowed(ask("POST", LEASES, lease("host-l1")))
    refused(ask("POST", LEASES, lease("host-h1")))
    allowed(ask("POST", EVENTS, event("l1", name="l1")))
    placed.create({"apiVersion": V, "kind": "EdgePeer", "metadata": {"name": "p"},
                   "spec": {"edge": "l1", "localASN": 64512, "remoteASN": 64513, "interface": "up0"}})
    refused(ask("PATCH", f"{G}/edgepeers/p/status", {"status": {"state": "Established"}}))
    refused(ask("PATCH", f"{I}/a/status", {"status": {"phase": "Running"}}))


def test_balancer_endpoints(addressed):
    server, a, _ = addressed
    server.create(host("l1", "balancer", vtep="fd00::4"))
    server.create(shared_pool("s1", "198.51.100.0/25"))
    server.create(shared_pool("s2", "198.51.100.128/25"))
    ask, E = as_user(server, BALANCER), f"{G}/endpoints"
    mine, at = f"{E}/lb-l1", dict(vtep="fd00::4", ip="fd02::4", routes=[{"prefix": "198.51.100.0/25"}])
    for name in ("lb-l2", "edge-l1", "out", own_name("h1", a)):
        refused(ask("POST", E, endpoint("l1", name=name, **at)))
    refused(ask("POST", E, endpoint("l1", a, name="lb-l1", **at)))
    allowed(ask("POST", E, endpoint("l1", name="lb-l1", **at)))
    for routes in ([{"prefix": "0.0.0.0/0"}], [{"prefix": "::/0"}], [{"prefix": "2001:db8:1::/64"}],
                   [{"prefix": "198.51.100.7/32", "firstPort": 1024, "lastPort": 1535}]):
        refused(ask("PATCH", mine, {"spec": {"routes": routes}}))
    allowed(ask("PATCH", mine, {"spec": {"routes": [{"prefix": "198.51.100.0/25"}, {"prefix": "198.51.100.128/25"}]}}))
    for user, name in ((HOST, "h1"), (EDGE, "e1")):
        refused(as_user(server, user)("POST", E, endpoint(name, name=f"lb-{name}")))
    refused(as_user(server, EDGE)("POST", E, endpoint("e1", vtep="fd00::3", ip="fd02::1", routes=[{"prefix": "198.51.100.0/25"}])))
    allowed(ask("DELETE", mine))


def test_balancers_announce_shared_pools_only(addressed):
    server, _, _ = addressed
    nacre_only(server)
    server.create(host("l1", "balancer", vtep="fd00::4"))
    server.create(shared_pool("s", "198.51.100.0/24"))
    server.create(shared_pool("d", "203.0.113.0/24", "dedicated"))
    server.create(shared_pool("o", "fd01::/64", "overlay"))
    ask = as_user(server, BALANCER)
    def post(*prefixes, **spec):
        spec = {"vtep": "fd00::4", "ip": "fd02::4", "routes": [{"prefix": p} for p in prefixes], **spec}
        return ask("POST", f"{G}/endpoints", endpoint("l1", name="lb-l1", **spec))
    for prefix in ("203.0.113.0/24", "198.51.100.0/25", "198.51.0.0/16", "198.51.100.7/32", "192.0.2.0/24"):
        says(post("198.51.100.0/24", prefix), f"spec.routes[1].prefix {prefix}", "use shared")
    says(post("198.51.100.0/24", "198.51.100.0/24"), "occurs twice")
    says(post("198.51.100.0/24", ip="fd01::4"), "spec.ip fd01::4", "AddressPool o")
    says(post("198.51.100.0/24", vtep="fd00::1"), "spec.vtep")
    allowed(post("198.51.100.0/24"))


def test_everything_else(placed):
    for user in (HOST, EDGE, BALANCER):
        ask = as_user(placed, user)
        refused(ask("POST", f"{G}/images", {"apiVersion": V, "kind": "Image", "metadata": {"name": "i"},
                                            "spec": {"kernel": {"kernel": "k"}}}))
        refused(ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}}))
        refused(ask("GET", "/api/v1/namespaces/default/secrets"))
        refused(ask("POST", f"{G}/addresspools", {"apiVersion": V, "kind": "AddressPool", "metadata": {"name": "p"},
                                                  "spec": {"use": "instance", "prefix": "2001:db8::/40"}}))


def test_strangers(placed):
    for user in STRANGERS:
        ask = as_user(placed, user)
        refused(ask("POST", f"{G}/hosts", host("h1")))
        refused(ask("POST", f"{G}/hosts", host("h1", "edge")))
        refused(ask("PATCH", f"{I}/a/status", {"status": {"phase": "Running"}}))


def test_groups(placed):
    both = as_user(placed, HOST_OF_BOTH)
    refused(both("POST", f"{G}/hosts", host("h2")))
    refused(both("POST", f"{G}/hosts", host("h1", "edge")))
    allowed(both("POST", f"{G}/hosts", host("h1")))
    allowed(both("PATCH", f"{I}/a/status", {"status": {"phase": "Running"}}))
    both = as_user(placed, EDGE_OF_BOTH)
    refused(both("POST", f"{G}/hosts", host("e1")))
    allowed(both("POST", f"{G}/hosts", host("e1", "edge")))
    refused(both("PATCH", f"{I}/a/status", {"status": {"phase": "Running"}}))
    # Members of system:masters may do everything.
    allowed(as_user(placed, (*HOST, "system:masters"))("POST", f"{G}/hosts", host("h2")))


def test_id_of_an_instance_stays(placed):
    """Not even an operator may give an instance another's id, and so another's guest."""
    a = placed.patch(f"{I}/a/status", {"status": {"id": "0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab"}})
    assert a.status == 200, a.text
    for other in ("00000000-4b0e-4c1f-9d6e-0123456789ab", None):
        a = placed.patch(f"{I}/a/status", {"status": {"id": other}})
        assert a.status == 422 and "can't change once it is set" in a.text, a.text
    # Create and update by a tenant ignore the status.
    a = placed.put(f"{I}/a", {**placed.get(f"{I}/a").json, "status": {"id": "x"}})
    assert a.status == 200 and a.json["status"]["id"].startswith("0b5ac4a8"), a.text
