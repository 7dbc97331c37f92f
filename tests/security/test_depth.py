# SPDX-License-Identifier: Apache-2.0
"""No request can make a tree deeper than 64 levels, or larger than the limits: recursion over it would end the server
by a stack overflow."""

import json

import pytest
from apilib import JSONPATCH, MERGE, Server, V, instance
from tenant import CONFIGMAPS, EVENTS, OF_RED, ask, make, refused

STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
YAML = "application/yaml"
MAX = 64
dry = pytest.mark.parametrize("dry", [False, True], ids=["real", "dry"])


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    """One server for all of these tests, which must survive them."""
    server = Server(tmp_path_factory.mktemp("depth")).start()
    try:
        make(server)
        for path, obj in ((OF_RED, instance("a", "red")), (CONFIGMAPS, {"metadata": {"name": "a"}}), (EVENTS, event("a"))):
            a = ask(server, "POST", path, obj)
            assert a.status == 201, a.text
        yield server
        for path in (OF_RED, CONFIGMAPS, EVENTS):
            assert ask(server, "GET", path + "/a").status == 200
    finally:
        server.stop()
    with open(server.log) as f:
        log = f.read()
    assert "Sanitizer" not in log and "runtime error" not in log, log


def event(name, **more):
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "red"},
            "involvedObject": {"kind": "Instance", "name": "a", "namespace": "red"}, **more}


def nested(n, inner="{}"):
    """JSON of N objects, each inside the one before, around INNER."""
    return '{"a":' * n + inner + "}" * n


def self_copies(levels, ops):
    """Copies /x, LEVELS deep, into its own innermost member OPS times. Each copy doubles its depth."""
    out = [{"op": "add", "path": "/x", "value": json.loads(nested(levels - 1))}]
    for _ in range(ops):
        out.append({"op": "copy", "from": "/x", "path": "/x" + "/a" * levels})
        levels *= 2
    return json.dumps(out)


@dry
@pytest.mark.parametrize("path", [OF_RED, CONFIGMAPS, EVENTS])
def test_copy_into_itself(red, path, dry):
    body = self_copies(50, 13)
    assert len(body) > 800_000
    a = ask(red, "PATCH", path + "/a", body, JSONPATCH, dry=dry)
    refused(red, a, "operation 1", "nested more than 64 levels deep")
    assert a.status == 422


@dry
@pytest.mark.parametrize("op", ["add", "replace", "copy", "move"])
def test_operations(red, op, dry):
    """A value that is too deep by itself, and one that becomes too deep where it is put."""
    deep = json.loads(nested(40))
    ops = [{"op": "add", "path": "/x", "value": deep}, {"op": "add", "path": "/y", "value": deep}]
    where = "/x" + "/a" * 40
    ops.append({"op": op, "path": where, **({"value": deep} if op in ("add", "replace") else {"from": "/y"})})
    a = ask(red, "PATCH", EVENTS + "/a", ops, JSONPATCH, dry=dry)
    refused(red, a, "operation 2", where[:60], "nested more than 64 levels deep")
    assert a.status == 422


@dry
def test_moves_into_each_other(red, dry):
    """Each move puts everything into a new object: one level deeper each time, at the cost of its size."""
    ops = [{"op": "add", "path": "/x", "value": {}}]
    for i in range(400):
        ops += [{"op": "add", "path": f"/y{i}", "value": {}}, {"op": "move", "from": "/x" if i == 0 else f"/y{i - 1}",
                                                               "path": f"/y{i}/a"}]
    refused(red, ask(red, "PATCH", EVENTS + "/a", ops, JSONPATCH, dry=dry), "nested more than 64 levels deep")


@dry
def test_doubling(red, dry):
    """A large value is copied repeatedly; the patch is refused before the memory is taken."""
    ops = [{"op": "add", "path": "/x", "value": {"a": "x" * (1 << 20)}}]
    ops += [{"op": "copy", "from": "/x", "path": f"/x/b{i}"} for i in range(14)]
    before = memory(red)
    refused(red, ask(red, "PATCH", EVENTS + "/a", ops, JSONPATCH, dry=dry), "too large")
    assert memory(red) - before < 64 << 20
    many = [{"op": "add", "path": "/x", "value": {"a": [0] * 1000}}]
    many += [{"op": "copy", "from": "/x", "path": f"/x/b{i}"} for i in range(14)]
    refused(red, ask(red, "PATCH", EVENTS + "/a", many, JSONPATCH, dry=dry), "too many values: a body or a patch may have 10000")


def memory(server):
    """The peak memory of the server."""
    with open(f"/proc/{server.process.pid}/status") as f:
        return int(next(x for x in f if x.startswith("VmHWM")).split()[1]) << 10


BODIES = {
    "object": lambda n: nested(n),
    "list": lambda n: "[" * n + "]" * n,
    "mixed": lambda n: '[{"a":' * (n // 2) + "1" + "}]" * (n // 2),
}


@dry
@pytest.mark.parametrize("shape", BODIES)
@pytest.mark.parametrize("n", [MAX + 2, 100_000, 500_000])
@pytest.mark.parametrize("how", [("POST", EVENTS, "application/json"), ("PUT", EVENTS + "/a", "application/json"),
                                 ("PATCH", EVENTS + "/a", MERGE), ("PATCH", CONFIGMAPS + "/a", STRATEGIC),
                                 ("PATCH", EVENTS + "/a?fieldManager=m", APPLY), ("PUT", EVENTS + "/a", YAML)],
                         ids=["post", "put", "merge", "strategic", "apply", "yaml"])
def test_bodies(red, how, n, shape, dry):
    method, path, type = how
    body = json.dumps(event("b" if method == "POST" else "a", x=0)).replace('"x": 0', '"x": ' + BODIES[shape](n))
    refused(red, ask(red, method, path, body, type, dry=dry), "nested")


@dry
def test_block_yaml(red, dry):
    lines = "".join("  " * i + "a:\n" for i in range(200)) + "  " * 200 + "1\n"
    refused(red, ask(red, "PUT", EVENTS + "/a", lines, YAML, dry=dry), "nested")


@dry
def test_yaml_aliases(red, dry):
    """Each line repeats the one before, 60 levels further down."""
    def lines(levels, n):
        flow = lambda inner: "{a: " * levels + inner + "}" * levels  # noqa: E731
        return "".join(f"x{i}: &x{i} {flow(f'*x{i - 1}' if i else '1')}\n" for i in range(n))

    refused(red, ask(red, "PUT", EVENTS + "/a", lines(60, 100), YAML, dry=dry), "nested")
    # An anchor that is repeated within itself, and anchors around a large value that nothing repeats.
    refused(red, ask(red, "PUT", EVENTS + "/a", "a: &a {b: *a}\n", YAML, dry=dry), "unknown anchor")
    many = "".join("  " * i + f"a: &a{i}\n" for i in range(60)) + "  " * 60 + "[" + "1," * 9000 + "1]\n"
    before = memory(red)
    refused(red, ask(red, "PUT", EVENTS + "/a", many, YAML, dry=dry), "aliasing")
    assert memory(red) - before < 64 << 20


@dry
def test_yaml_bomb(red, dry):
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    refused(red, ask(red, "PUT", EVENTS + "/a", bomb, YAML, dry=dry), "aliasing")


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def message(*fields):
    return b"".join(varint(number << 3 | 2) + varint(len(data)) + data for number, data in fields)


def test_protobuf(red):
    """Nested messages in undeclared fields are ignored; too many are refused."""
    deep = b""
    for _ in range(2000):
        deep = message((1, deep))
    unknown = b"k8s\0" + message((1, message((1, b"v1"), (2, b"Event"))),
                                 (2, message((1, message((1, b"p"))), (2, message((1, b"Instance"), (3, b"a"))), (77, deep))))
    a = ask(red, "POST", EVENTS, unknown, "application/vnd.kubernetes.protobuf", dry=True)
    assert a.status == 201, a.text
    spread = message(*[(1, deep)] * 50)
    a = ask(red, "POST", EVENTS, b"k8s\0" + message((2, spread)), "application/vnd.kubernetes.protobuf", dry=True)
    refused(red, a)
    a = ask(red, "POST", EVENTS, b"k8s\0" + message((2, message(*[(3, b"")] * 100_000))),
            "application/vnd.kubernetes.protobuf", dry=True)
    refused(red, a)


def test_what_is_stored_can_be_read(red):
    """managedFields are nested as deep as their object and 4 levels more; both count."""
    for n in range(MAX - 8, MAX):
        for how in ("POST", "PATCH"):
            path = EVENTS if how == "POST" else f"{EVENTS}/d?fieldManager=m"
            body = json.dumps(event("d", x=0)).replace('"x": 0', '"x": ' + nested(n - 1))
            a = ask(red, how, path, body, "application/json" if how == "POST" else APPLY)
            assert a.status in (201, 422), a.text
            if a.status == 422:
                assert "nested more than 64 levels deep" in a.text
                continue
            assert ask(red, "PATCH", EVENTS + "/d", {"reason": "R"}, MERGE).status == 200
            a = ask(red, "DELETE", EVENTS + "/d")
            assert a.status == 200, a.text
    a = ask(red, "PATCH", EVENTS + "/a", f'{{"x":{nested(MAX - 2)}}}', MERGE)
    refused(red, a, "nested more than 64 levels deep")


def test_annotation_of_kubectl(red):
    """A server-side apply by kubectl reads the annotation last-applied-configuration as JSON."""
    text = f'{{"apiVersion":"{V}","kind":"Instance","x":{nested(1500)}}}'
    obj = instance("k", "red", meta={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}})
    assert ask(red, "POST", OF_RED + "?fieldManager=other", obj).status == 201
    a = ask(red, "PATCH", OF_RED + "/k?fieldManager=kubectl", instance("k", "red", type="large"), APPLY)
    assert a.status == 409, a.text


@pytest.mark.parametrize("key", ["k:", "v:"])
def test_managed_fields(red, key):
    """FieldsV1 that are nested too deeply, directly or in the texts of their keys."""
    def entry(fields):
        return [{"manager": "m", "operation": "Update", "apiVersion": V, "fieldsType": "FieldsV1", "fieldsV1": fields}]

    obj = ask(red, "GET", OF_RED + "/a").json
    was = obj["metadata"]["managedFields"]
    obj["metadata"]["managedFields"] = entry({"f:spec": {key + nested(1000): {}}})
    a = ask(red, "PUT", OF_RED + "/a", obj)
    assert a.status == 200 and a.json["metadata"]["managedFields"] == was, "ignored, as Kubernetes does with what it can't read"
    body = json.dumps(obj).replace(json.dumps(obj["metadata"]["managedFields"][0]["fieldsV1"]), '{"f:a":' * 70 + "{}" + "}" * 70)
    refused(red, ask(red, "PUT", OF_RED + "/a", body), "nested")
