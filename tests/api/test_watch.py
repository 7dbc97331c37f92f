# SPDX-License-Identifier: Apache-2.0
"""Watches: exactly the events after a version, and none twice."""

import socket
import time

import pytest
from apilib import G, V, eventually, image, instance, path_of
from harness import patient

IMAGES = f"{G}/images"


@pytest.mark.both
def test_exactly_after_a_version(server):
    versions = [int(server.create(image(f"i{n}"))["metadata"]["resourceVersion"]) for n in range(5)]
    w = server.watch(IMAGES, resourceVersion=versions[2])
    assert w.wait(2) == [("ADDED", "i3"), ("ADDED", "i4")]
    server.create(image("i5"))
    server.delete(f"{IMAGES}/i0")
    assert w.wait(4)[2:] == [("ADDED", "i5"), ("DELETED", "i0")]
    w.close()
    everything = server.watch(IMAGES)
    assert everything.wait(5) == [("ADDED", f"i{n}") for n in range(1, 6)]
    everything.close()
    listed = server.list(IMAGES)["metadata"]["resourceVersion"]
    w = server.watch(IMAGES, resourceVersion=listed)
    server.create(image("i6"))
    assert w.wait(1) == [("ADDED", "i6")]
    w.close()


@pytest.mark.both
def test_selectors_entering_and_leaving(server):
    w = server.watch(IMAGES, labelSelector="on=yes")
    o = image("i")
    server.create(o)
    server.patch(path_of(o), {"metadata": {"labels": {"on": "yes"}}})
    server.patch(path_of(o), {"metadata": {"labels": {"more": "1"}}})
    server.patch(path_of(o), {"metadata": {"labels": {"on": "no"}}})
    server.patch(path_of(o), {"metadata": {"labels": {"more": "2"}}})
    server.patch(path_of(o), {"metadata": {"labels": {"on": "yes"}}})
    server.delete(path_of(o))
    assert [t for t, _ in w.wait(5)] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    w.close()


def test_field_selectors(server):
    by_name = server.watch(f"{G}/instances", fieldSelector="metadata.name=b")
    by_host = server.watch(f"{G}/instances", fieldSelector="status.host=h1")
    for n in "abc":
        server.create(instance(n))
    server.patch(path_of(instance("b")) + "/status", {"status": {"host": "h1"}})
    server.patch(path_of(instance("b")) + "/status", {"status": {"host": "h2"}})
    assert by_name.wait(3) == [("ADDED", "b"), ("MODIFIED", "b"), ("MODIFIED", "b")]
    assert by_host.wait(2) == [("ADDED", "b"), ("DELETED", "b")]
    for w in (by_name, by_host):
        w.close()


@pytest.mark.both
def test_namespace(server):
    w = server.watch(f"{G}/namespaces/nacre-system/instances")
    server.create(instance("a"))
    server.create(instance("b", "nacre-system"))
    assert w.wait(1) == [("ADDED", "b")]
    w.close()


def test_timeout_and_bookmarks(server):
    rv = server.create(image())["metadata"]["resourceVersion"]
    server.create(instance())  # another kind: the store's version rises
    w = server.watch(IMAGES, resourceVersion=rv, timeoutSeconds=1, allowWatchBookmarks="true")
    eventually("the watch ends", 10, lambda: w.closed)
    assert [e["type"] for e in w.events] == ["BOOKMARK"]
    mark = w.events[0]["object"]
    assert mark["kind"] == "Image" and mark["apiVersion"] == V
    assert int(mark["metadata"]["resourceVersion"]) > int(rv)


@pytest.mark.both
def test_initial_events(server):
    for n in "ab":
        server.create(image(n))
    w = server.watch(IMAGES, sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true",
                     resourceVersion="")
    w.wait(3)
    assert [e["type"] for e in w.events] == ["ADDED", "ADDED", "BOOKMARK"]
    assert w.events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    server.create(image("c"))
    assert w.wait(4)[3] == ("ADDED", "c")
    w.close()
    assert server.get(f"{IMAGES}?watch=1&sendInitialEvents=true").status == 422


def test_expired_and_future(server):
    a = server.get(f"{IMAGES}?watch=1&resourceVersion=999999")
    assert a.status == 504 and a.json["reason"] == "Timeout"
    assert a.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert server.get(f"{IMAGES}?resourceVersion=999999").status == 504
    assert server.get(f"{IMAGES}?watch=1&resourceVersion=x").status == 400
    # More events than the server keeps: 32 MiB of objects.
    big = {"metadata": {"annotations": {f"big{n}": "x" * 175_000 for n in range(4)}}}
    first = server.create(image())["metadata"]["resourceVersion"]
    for n in range(60):
        big["metadata"]["annotations"]["n"] = str(n)
        assert server.patch(f"{IMAGES}/img", big).status == 200
    w = server.watch(IMAGES, resourceVersion=first)
    eventually("an event", 10, lambda: w.events)
    assert w.status == 200 and w.events[0]["type"] == "ERROR"
    assert (w.events[0]["object"]["code"], w.events[0]["object"]["reason"]) == (410, "Expired")
    server.kill()
    server.start()
    w = server.watch(IMAGES, resourceVersion=first)
    eventually("an event", 10, lambda: w.events)
    assert w.events[0]["object"]["code"] == 410


def test_watch_across_a_restart(server):
    rv = server.create(image("a"))["metadata"]["resourceVersion"]
    server.create(image("b", {"x": "1"}))
    server.patch(f"{IMAGES}/b", {"metadata": {"labels": {"x": "2"}}})
    server.delete(f"{IMAGES}/a")
    server.kill()
    server.start()
    w = server.watch(IMAGES, resourceVersion=rv)
    assert w.wait(3) == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]
    left = server.watch(IMAGES, resourceVersion=rv, labelSelector="x=1")
    assert left.wait(2) == [("ADDED", "b"), ("DELETED", "b")]
    w.close()
    left.close()


@pytest.mark.both
def test_table(server):
    w = server.watch(IMAGES, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
    server.create(image())
    eventually("an event", 10, lambda: w.events)
    table = w.events[0]["object"]
    assert table["kind"] == "Table" and table["rows"][0]["cells"][0] == "img"
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    w.close()


def watches(server):
    return [int(float(l.split()[1])) for l in server.get("/metrics").text.splitlines()
            if l.startswith("nacre_apiserver_watches ")][0]


def test_clients_that_leave_or_do_not_read(server):
    gone = [server.watch(IMAGES) for _ in range(20)]
    deaf = server.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(f"GET {IMAGES}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    eventually("21 watches", 10, lambda: watches(server) == 21)
    for w in gone:
        w.close()
    big = {"metadata": {"annotations": {"big": ""}}}
    server.create(image())
    started = time.monotonic()
    for n in range(50):
        big["metadata"]["annotations"]["big"] = str(n) + "x" * 200_000
        assert server.patch(f"{IMAGES}/img", big).status == 200
    assert time.monotonic() - started < patient(10)
    eventually("1 watch", 15, lambda: watches(server) == 1)
    deaf.close()
    eventually("none", 15, lambda: watches(server) == 0)


def test_stop_ends_watches(server):
    """Watches of clients that don't read end too, after a short wait."""
    server.create(image(meta={"annotations": {f"big{n}": "x" * 200_000 for n in range(5)}}))
    deaf = [server.socket() for _ in range(4)]
    for n, s in enumerate(deaf):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall((f"GET {IMAGES}{'?watch=1' if n % 2 else ''} HTTP/1.1\r\nHost: x\r\n\r\n" * 20).encode())
    w = server.watch(IMAGES)
    w.wait(1)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < patient(10)
    eventually("the stream ends", 5, lambda: w.closed)
    for s in deaf:
        s.close()


def test_websocket(server):
    """The server has no WebSockets. Its answer ends at once, so that a client that reads it to its end (fabric8) uses
    HTTP."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    a = server.get(f"{G}/images?watch=true", headers=headers, conn=server.connection(timeout=60))
    assert a.status == 200 and a.text == ""
