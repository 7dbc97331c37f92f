# SPDX-License-Identifier: Apache-2.0
"""Bad input gets an answer that says what is wrong, and changes nothing."""

import json
import os
import resource
import signal
import subprocess
import time

import pytest
from apilib import G, JSONPATCH, SERVER, V, Server, image, instance
from harness import patient

A = f"{G}/namespaces/default/instances"


def state(server):
    return {p: [(o["metadata"]["name"], o["metadata"]["resourceVersion"]) for o in server.list(p)["items"]]
            for p in (f"{G}/instances", f"{G}/images", f"{G}/addresspools", "/api/v1/namespaces")}


BAD_OBJECTS = {
    "wrong type": (instance(running="yes"), "spec.running"),
    "port 70000": (instance(ingress=[{"protocol": "tcp", "port": 70000}]), "spec.ingress[0].port"),
    "no port": (instance(ingress=[{"protocol": "tcp"}]), "spec.ingress[0].port"),
    "float": (instance(ingress=[{"protocol": "tcp", "port": 1.5}]), "spec.ingress[0].port"),
    "huge number": (instance(ingress=[{"protocol": "tcp", "port": 10**30}]), ""),
    "bad label": (instance(labels={"a b": "c"}), "metadata.labels"),
    "bad name": (instance("A_b"), "metadata.name"),
    "bad prefix of a name": (instance("", meta={"generateName": "ö" * 40}), "metadata.name"),
    "long name": (instance("a" * 254), "metadata.name"),
    "missing field": ({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"}, "spec": {}}, "spec.type"),
    "no spec": ({"apiVersion": V, "kind": "Instance", "metadata": {"name": "a"}}, "spec"),
    "metadata a list": ({"apiVersion": V, "kind": "Instance", "metadata": [], "spec": {}}, "metadata"),
    "metadata absent": ({"apiVersion": V, "kind": "Instance", "spec": {"type": "a", "image": "b"}}, "metadata.name"),
    "finalizer": (instance(meta={"finalizers": ["not a name"]}), "metadata.finalizers"),
    "duplicate in a set": (instance(meta={"finalizers": ["a.b/c", "a.b/c"]}), "metadata.finalizers"),
    "owner without uid": (instance(meta={"ownerReferences": [{"apiVersion": V, "kind": "Image", "name": "x"}]}),
                          "metadata.ownerReferences[0].uid"),
}


@pytest.mark.parametrize("what", BAD_OBJECTS)
def test_bad_object(server, what):
    obj, field = BAD_OBJECTS[what]
    before = state(server)
    a = server.post(A, obj)
    assert a.status in (400, 422), a.text
    assert a.json["kind"] == "Status" and a.json["status"] == "Failure" and field in a.json["message"], a.text
    if a.status == 422:
        assert a.json["details"]["causes"][0]["field"].startswith(field), a.text
    assert state(server) == before


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"hello",
    "truncated": b'{"apiVersion": "nacre.dev/v1alpha1", "kind": "Ins',
    "trailing": json.dumps(instance()).encode() + b"x",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "invalid UTF-8": json.dumps(instance()).encode().replace(b"debian", b"deb\xff\xfean"),
    "overlong UTF-8": json.dumps(instance()).encode().replace(b"debian", b"\xc0\xaf"),
    "lone surrogate": json.dumps(instance()).encode().replace(b"debian", rb"\ud800"),
    "NUL": json.dumps(instance()).encode().replace(b"debian", rb"a\u0000b"),
    "deep": b'{"a":' * 10000 + b"1" + b"}" * 10000,
    "deep lists": b"[" * 100000 + b"]" * 100000,
    "other kind": json.dumps(image()).encode(),
    "other namespace": json.dumps(instance(ns="nacre-system")).encode(),
    "no kind": json.dumps({"metadata": {"name": "x"}, "spec": {}}).encode(),
}


@pytest.mark.parametrize("what", BAD_BODIES)
def test_bad_body(server, what):
    before = state(server)
    a = server.post(A, BAD_BODIES[what])
    wrong = 422 if what == "other kind" else 400
    assert a.status == wrong and a.json["message"], a.text
    assert server.post(A, BAD_BODIES[what], type="application/yaml").status == wrong
    assert server.post(A, BAD_BODIES[what], type="text/plain").status == 415
    assert state(server) == before


def test_too_large(server):
    before = state(server)
    big = instance(meta={"annotations": {"x": "y" * 5_000_000}})
    a = server.post(A, big)
    assert (a.status, a.json["reason"]) == (413, "RequestEntityTooLarge")
    with server.socket() as s:
        s.sendall(f"POST {A} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n".encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 413 ")
    a = server.post(A, instance(meta={"annotations": {f"x{n}": "y" * 200_000 for n in range(10)}}))
    assert a.status == 413 and "limit" in a.json["message"], a.text
    a = server.post(A, instance(meta={"annotations": {"x": "y" * 300_000}}))
    assert a.status == 422 and "metadata.annotations" in a.json["message"]
    a = server.post(A, instance(labels={f"x{n}": "y" for n in range(1000)}))
    assert a.status == 422 and "metadata.labels" in a.json["message"]
    # A chunked body of unknown length that doesn't end.
    with server.socket() as s:
        s.sendall(f"POST {A} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with pytest.raises(OSError):
            for _ in range(10000):
                s.sendall(chunk)
    assert state(server) == before


def test_patch_bombs(server):
    server.create(instance())
    before = state(server)
    bomb = [{"op": "add", "path": "/metadata/annotations", "value": {"a": {"x": "y" * 1000}}}]
    bomb += [{"op": "copy", "from": "/metadata/annotations", "path": f"/metadata/annotations/a{n}"} for n in range(40)]
    started = time.monotonic()
    a = server.patch(f"{A}/a", bomb, JSONPATCH)
    assert a.status == 422 and time.monotonic() - started < patient(5), a.text
    deep = [{"op": "add", "path": "/spec/x", "value": {}}]
    deep += [{"op": "add", "path": "/spec/x" + "/y" * n, "value": {}} for n in range(1, 500)]
    assert server.patch(f"{A}/a", deep, JSONPATCH).status in (200, 400, 413, 422)
    assert server.patch(f"{A}/a", [{"op": "remove", "path": ""}], JSONPATCH).status == 422
    assert server.patch(f"{A}/a", [{"op": "move", "from": "/spec", "path": "/spec/x"}], JSONPATCH).status == 422
    assert server.patch(f"{A}/a", [{"op": "replace", "path": "", "value": 1}], JSONPATCH).status == 400
    assert server.patch(f"{A}/a", [{"op": "remove", "path": "/metadata"}], JSONPATCH).status == 400
    assert server.patch(f"{A}/a", {"metadata": None}).status in (400, 422)
    assert server.patch(f"{A}/a", [{}] * 2000, JSONPATCH).status == 413
    assert state(server) == before


def raw(server, data, wait=5):
    with server.socket(timeout=wait) as s:
        out = b""
        try:
            s.sendall(data)
            while b"\r\n\r\n" not in out:
                more = s.recv(65536)
                if not more:
                    break
                out += more
        except OSError:  # it closed the connection, or waits for more
            pass
        return out


def test_bad_http(server):
    before = state(server)
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                 b"POST " + A.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                 b"POST " + A.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                 b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"X-Header: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 5000 + b"\r\n"):
        answer = raw(server, data, 2)
        assert not answer.startswith(b"HTTP/1.1 2"), (data[:60], answer)
    for path in (f"{G}/images/%00", f"{G}/images/%zz", f"{G}/images/a%0ab", f"{G}/images/a%ff", f"{G}/images?labelSelector=%zz",
                 f"{G}/images?" + "&".join(f"a{n}=b" for n in range(100))):
        assert server.get(path).status == 400, path
    for path in ("/../etc/passwd", f"{G}/images/..%2f..", f"{G}/images/" + "x" * 1500, "/apis//x"):
        assert server.get(path).status == 404, path
    assert server.request("BREW", f"{G}/images").status == 405
    assert server.request("OPTIONS", f"{G}/images").status == 405
    assert server.get(f"{G}/images", headers={"Accept": "application/vnd.kubernetes.protobuf"}).status == 406
    assert state(server) == before


def test_a_half_sent_request_holds_up_nobody(server):
    slow = []
    for _ in range(50):
        s = server.socket()
        s.sendall(b"POST " + A.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Content-Length: 100\r\n\r\n{")
        slow.append(s)
    server.create(instance())
    for s in slow:
        s.close()
    server.create(instance("b"))


def test_tcp_needs_tls(tmp_path):
    s = Server(tmp_path)
    for where in ("127.0.0.1:1", "[::]:1", "192.0.2.1:1", "example.com:1", "junk"):
        p = subprocess.run([SERVER, "--database", s.database, "--listen", where], stderr=subprocess.PIPE, timeout=240)
        assert p.returncode == 1 and b"TCP requires TLS" in p.stderr and b"--tls-cert" in p.stderr, p.stderr


def test_second_server_refuses(server, tmp_path):
    p = subprocess.run([SERVER, "--database", server.database, "--listen", f"unix:{tmp_path}/other"],
                       stderr=subprocess.PIPE, timeout=240)
    assert p.returncode == 1 and b"another nacre-apiserver uses database" in p.stderr
    server.create(instance())


def test_damaged_database(server):
    for n in range(200):
        server.create(instance(f"i{n}"))
    server.stop()
    whole = open(server.database, "rb").read()
    assert not os.path.exists(server.database + "-wal")

    def refused(content, words):
        with open(server.database, "wb") as f:
            f.write(content)
        server.start(wait=False)
        assert server.process.wait(patient(20)) == 1
        log = open(server.log).read().splitlines()[-1]
        assert all(w in log for w in words), log

    refused(b"junk" * 1000, ["damaged", "restore"])
    refused(whole[:len(whole) // 2 // 4096 * 4096], ["damaged", "restore"])
    middle = len(whole) // 2 // 4096 * 4096
    refused(whole[:middle] + os.urandom(4096) + whole[middle + 4096:], ["damaged"])
    half = whole.replace(b'{"apiVersion":"nacre.dev/v1alpha1","kind":"Instance"', b'["apiVersion":"nacre.dev/v1alpha1","kind":"Instance"')
    refused(half, ["damaged", "row"])
    os.unlink(server.database)
    subprocess.run(["python3", "-c", f"import sqlite3; sqlite3.connect({server.database!r}).execute('create table x(y)')"],
                   check=True)
    server.start(wait=False)
    assert server.process.wait(patient(20)) == 1
    assert "another program" in open(server.log).read().splitlines()[-1]
    with open(server.database, "wb") as f:
        f.write(whole)
    server.start()
    assert len(server.list(f"{G}/instances")["items"]) == 200


def test_full_disk(tmp_path):
    """A file size limit simulates a full disk: writes fail and say why, reads go on, nothing is lost."""
    s = Server(tmp_path)
    limit = 600_000
    s.start(preexec_fn=lambda: (resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
                                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)))
    made, failed = [], None
    for n in range(200):
        a = s.post(A, instance(f"i{n}", meta={"annotations": {"x": "y" * 10_000}}))
        if a.status == 201:
            made.append(f"i{n}")
        else:
            failed = failed or a
    assert made and failed and failed.status == 500 and "could not be stored" in failed.json["message"], failed
    names = lambda: [o["metadata"]["name"] for o in s.list(f"{G}/instances")["items"]]
    assert sorted(names()) == sorted(made)
    a = s.get("/readyz")
    assert a.status == 503 and a.text
    s.kill()
    s.start()
    assert sorted(names()) == sorted(made)
    s.create(instance("more"))
    s.kill()


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def test_protobuf(server):
    """kubectl's bodies for core kinds are accepted; other kinds and damaged bodies are refused."""
    typed = lambda kind, raw: b"k8s\0" + field(1, field(1, b"v1") + field(2, kind)) + field(2, raw)
    meta = field(1, b"tenant") + field(11, field(1, b"team") + field(2, b"blue")) + field(14, b"a.b/c") + b"\x38\x07"
    good = typed(b"Namespace", field(1, meta) + field(2, field(1, b"kubernetes")))
    pb = "application/vnd.kubernetes.protobuf"
    before = state(server)
    for n in range(len(good)):
        assert server.post("/api/v1/namespaces", good[:n], type=pb).status in (400, 422), n
    for bad in (good.replace(b"blue", b"bl\xffe"), good.replace(b"tenant", b"ten\0nt"), typed(b"Pod", b""),
                b"k8s\0" + b"\xff" * 20, typed(b"Namespace", b"\x0b" * 10), b"k8s\1" + good[4:]):
        assert server.post("/api/v1/namespaces", bad, type=pb).status in (400, 422), bad
    assert server.post(A, good, type=pb).status == 415
    assert state(server) == before
    o = server.post("/api/v1/namespaces", good, type=pb).json
    assert o["metadata"]["labels"]["team"] == "blue" and o["metadata"]["finalizers"] == ["a.b/c"]
    wrong = typed(b"DeleteOptions", field(2, field(1, b"other-uid")))
    assert server.request("DELETE", "/api/v1/namespaces/tenant", wrong, type=pb).status == 409
