# SPDX-License-Identifier: Apache-2.0
"""Thousands of watchers, slow and vanished clients, a full disk, damage at any place, clocks that jump."""

import contextlib
import json
import os
import random
import resource
import selectors
import shutil
import socket
import subprocess
import time
import uuid

import leftovers
import pytest
from apilib import G, SERVER, V, Server, eventually, image, instance, pki
from harness import MORTAL, patient

ALL = bool(os.environ.get("NACRE_TEST_ALL"))


def rss(server):
    """Memory of the server's process, in bytes."""
    with open(f"/proc/{server.process.pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def unix(server):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(240)
    while True:
        try:
            s.connect(f"{server.dir}/sock")
            return s
        except BlockingIOError:  # more than the kernel's queue holds
            time.sleep(0.01)


def watch(server, name):
    s = unix(server)
    s.sendall(f"GET {G}/images?watch=1&fieldSelector=metadata.name%3D{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return s


# With NACRE_TEST_ALL: nine thousand watchers (a limit of 20,000 descriptors for two listeners is enough), and the wait
# until those that don't read are disconnected.
@pytest.mark.parametrize("n_readers,n_deaf", [(8000, 1000)] if ALL else [(900, 100)])
def test_watchers_that_do_not_read(server, n_readers, n_deaf):
    """Watchers that don't read take bounded memory, delay nobody, and are disconnected; the others miss nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    changes = 8
    for name in ("small", "big"):
        server.create(image(name))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        before, fds = rss(server), descriptors(server)
        poll = stack.enter_context(selectors.EpollSelector())
        seen, tails = {}, {}
        for _ in range(n_readers):
            s = stack.enter_context(watch(server, "small"))
            s.settimeout(240)
            poll.register(s, selectors.EVENT_READ)
            seen[s] = 0
            tails[s] = b""
        for _ in range(n_deaf):
            stack.enter_context(watch(server, "big"))
        eventually("all watch", 60, lambda: descriptors(server) >= fds + n_readers + n_deaf - 5)
        idle = (rss(server) - before) / (n_readers + n_deaf)

        def read_until(count):
            deadline = time.monotonic() + patient(120)
            late = {s for s, n in seen.items() if n < count}
            while late:
                assert time.monotonic() < deadline, f"{len(late)} watchers have not got {count} events"
                for key, _ in poll.select(5):
                    data = key.fileobj.recv(65536)
                    assert data, "a watcher that reads was cut"
                    data = tails[key.fileobj] + data
                    seen[key.fileobj] += data.count(b'{"type":')
                    tails[key.fileobj] = data[-7:]  # one byte less than the searched text
                    if seen[key.fileobj] >= count:
                        late.discard(key.fileobj)

        read_until(1)
        for n in range(changes):
            text = chr(ord("a") + n) * 200_000
            assert server.patch(f"{G}/images/big", {"metadata": {"annotations": {"x": text}}}).status == 200
            began = time.monotonic()
            assert server.patch(f"{G}/images/small", {"metadata": {"labels": {"n": str(n)}}}).status == 200
            assert time.monotonic() - began < patient(20)
            read_until(n + 2)
        assert set(seen.values()) == {changes + 1}
        full = (rss(server) - before) / (n_readers + n_deaf)
        print(f"\n{n_readers + n_deaf:,} watchers: {idle / 1000:.1f} kB each, {full / 1000:.1f} kB with {n_deaf:,} that "
              f"don't read and {changes} changes of 200 kB")
        assert full < 64_000
        if ALL:
            eventually("those that don't read are cut", 150, lambda: descriptors(server) <= fds + n_readers + 5)
            assert server.patch(f"{G}/images/small", {"metadata": {"labels": {"n": "last"}}}).status == 200
            read_until(changes + 2)


def test_deaf_watchers_of_much(server):
    """The server keeps no copy of the initial objects for watchers that don't read, however much has changed since."""
    at, size, watchers = "/api/v1/namespaces/default/configmaps", 20, 6
    conn = server.connection()

    def write(n):
        for i in range(size):
            a = server.patch(f"{at}/c{i}", {"data": {"x": chr(97 + n) * 1_000_000}}, conn=conn)
            assert a.status == 200, a.text

    for i in range(size):
        assert server.post(at, {"metadata": {"name": f"c{i}"}}).status == 201
    for n in range(3):  # until the history of events has its full size
        write(n)
    before = rss(server)
    with contextlib.ExitStack() as stack:
        for n in range(watchers):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.settimeout(30)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(f"{server.dir}/sock")
            s.sendall(f"GET {at}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert s.recv(15) == b"HTTP/1.1 200 OK"
            write(n)
        grown = rss(server) - before
        print(f"\n{watchers} watchers that don't read {size} MB, all changed after each: {grown / 1e6:.1f} MB more")
        assert grown < watchers * 5_000_000


@pytest.mark.skipif(not ALL, reason="takes a minute and a half")
def test_clients_that_say_nothing(server):
    """Half a request line, half a head, half a body, half a TLS hello, single bytes with pauses: all are closed in
    time."""
    starts = [b"", b"GET /api", b"GET /api HTTP/1.1\r\nHost: x\r\nX-A: ",
              b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"]
    fds = descriptors(server)
    with contextlib.ExitStack() as stack:
        silent, dripping = [], []
        for n in range(200):
            s = stack.enter_context(unix(server))
            s.sendall(starts[n % 4])
            (dripping if n % 4 == 2 else silent).append(s)
        for n in range(50):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            s.sendall(b"\x16\x03\x01\x02\x00\x01"[:n % 7])
            silent.append(s)
        assert server.get("/readyz").status == 200

        def gone():
            for s in dripping:
                with contextlib.suppress(OSError):
                    s.sendall(b"x")
            time.sleep(1)
            return descriptors(server) <= fds

        eventually("all are cut", 150, gone)
        assert server.get("/readyz").status == 200


@pytest.mark.skipif(not ALL or os.geteuid() != 0, reason="takes a minute and a half, and root")
def test_a_client_whose_machine_is_gone(tmp_path):
    """The client's packets are dropped and nobody closes the connection: its watch ends all the same."""
    run = "na" + uuid.uuid4().hex[:6]
    leftovers.claim("netns", run)
    ip = lambda *a: subprocess.run(["ip", *a], check=True)
    try:
        ip("netns", "add", run)
        ip("link", "add", run + "a", "type", "veth", "peer", "name", run + "b", "netns", run)
        ip("addr", "add", "fd4e:1::1/64", "dev", run + "a", "nodad")
        ip("link", "set", run + "a", "up")
        ip("-n", run, "addr", "add", "fd4e:1::2/64", "dev", run + "b", "nodad")
        ip("-n", run, "link", "set", run + "b", "up")
        s = Server(tmp_path)
        cert, key = pki().client("system:admin", "system:masters")
        s.process = subprocess.Popen(
            [*MORTAL, SERVER, "--database", str(tmp_path / "db"), "--listen", "[fd4e:1::1]:6443", "--tls-cert",
             f"{pki().dir}/server.crt", "--tls-key", f"{pki().dir}/server.key", "--client-ca", pki().ca])
        curl = ["ip", "netns", "exec", run, "curl", "-skN", "--cert", cert, "--key", key]
        eventually("it answers", 20, lambda: subprocess.run(
            [*curl, "https://[fd4e:1::1]:6443/readyz"], stdout=subprocess.DEVNULL).returncode == 0)
        fds = descriptors(s)
        clients = [subprocess.Popen([*MORTAL, *curl, f"https://[fd4e:1::1]:6443{G}/images?watch=1"], stdout=subprocess.DEVNULL)
                   for _ in range(5)]
        eventually("they watch", 20, lambda: descriptors(s) >= fds + 5)
        ip("-n", run, "link", "set", run + "b", "down")
        for c in clients:
            c.kill()
            c.wait()
        eventually("their watches end", 100, lambda: descriptors(s) <= fds)
        s.stop()
    finally:
        with contextlib.suppress(NameError):
            s.process.poll() is None and s.kill()
        subprocess.run(["ip", "netns", "del", run], check=False)
        subprocess.run(["ip", "link", "del", run + "a"], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_full_disk(tmp_path):
    """A file system that is really full: writes fail and say why, reads and watches go on, nothing is lost, and it
    recovers."""
    disk = tmp_path / "disk"
    disk.mkdir()
    leftovers.claim("mount", disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32M", "none", str(disk)], check=True)
    try:
        s = Server(tmp_path)
        s.database = str(disk / "db")
        s.start()
        made, failed = [], []

        def write(n):
            a = s.post(f"{G}/images", image(f"i{n}", meta={"annotations": {"x": "y" * 100_000}}))
            (made if a.status == 201 else failed).append((f"i{n}", a))
            return a.status

        names = lambda: sorted(o["metadata"]["name"] for o in s.list(f"{G}/images")["items"])
        eventually("the log has its length", 10, lambda: os.stat(s.database + "-wal").st_size >= 16 << 20)
        for n in range(5):
            assert write(n) == 201
        w = s.watch(f"{G}/images", resourceVersion="0")
        with open(disk / "ballast", "wb", 0) as f, contextlib.suppress(OSError):
            while f.write(b"x" * 65536):
                pass
        n = 100
        while not failed:
            write(n)
            n += 1
            assert n < 2000, "the disk never filled"
        a = failed[0][1]
        assert a.status == 500 and "could not be stored" in a.json["message"] and "space" in a.json["message"], a.text
        assert s.get("/readyz").status == 503
        assert names() == sorted(name for name, _ in made)
        os.unlink(disk / "ballast")
        assert write(5000) == 201, "room is enough"
        assert s.get("/readyz").status == 200
        w.wait(len(made), 20)
        w.close()
        s.kill()
        s.start()
        assert names() == sorted(name for name, _ in made)
        s.stop()
    finally:
        with contextlib.suppress(NameError):
            s.process and s.process.poll() is None and s.kill()
        subprocess.run(["umount", str(disk)], check=True)


def test_damage_anywhere(server, tmp_path):
    """Flipped bytes at many places: the server refuses to start and says why, or serves what was stored. It never
    crashes."""
    for n in range(60):
        server.create(instance(f"i{n}", labels={"n": str(n)}))
    good = {o["metadata"]["name"]: o for o in server.list(f"{G}/instances")["items"]}
    server.stop()
    whole = open(server.database, "rb").read()
    rng, refused, served = random.Random(7), 0, 0
    for _ in range(200 if ALL else 40):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3, 20])):
            at = rng.choice([rng.randrange(len(data)), rng.randrange(4096), rng.randrange(len(data) // 512) * 512])
            data[at] ^= 1 << rng.randrange(8)
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        broken.mkdir()
        with open(broken / "db", "wb") as f:
            f.write(data)
        s = Server(broken)
        s.database = str(broken / "db")
        s.start(wait=False)
        answer = None
        deadline = time.monotonic() + patient(20)
        while s.process.poll() is None and answer is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                answer = s.get(f"{G}/instances")
        if answer is None:
            assert s.process.wait(patient(20)) == 1, f"it crashed: {s.process.returncode}"
            last = open(s.log).read().splitlines()[-1]
            assert "database" in last or "is not" in last, last
            refused += 1
            continue
        assert s.kill(15) == 0
        assert answer.status == 200, answer.text
        assert {o["metadata"]["name"]: o for o in answer.json["items"]} == good
        served += 1
    assert refused > 0 and refused + served > 0
    server.start()
    assert {o["metadata"]["name"]: o for o in server.list(f"{G}/instances")["items"]} == good


FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


@pytest.mark.skipif(not os.path.exists(FAKETIME), reason="no libfaketime (package faketime)")
def test_clock_that_jumps(tmp_path):
    """Years ahead and back: versions rise, watches go on, only old Events are deleted, times stay readable."""
    s, clock = Server(tmp_path), tmp_path / "clock"

    def jump(offset):
        (tmp_path / "clock.new").write_text(offset + "\n")
        os.rename(tmp_path / "clock.new", clock)

    jump("+0d")
    env = {**os.environ, "LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
           "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    s.start(env=env, wait=False)

    def ask(method, path, body=None):
        with unix(s) as c:
            data = json.dumps(body).encode() if body else b""
            c.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                      f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
            text = b""
            while more := c.recv(65536):
                text += more
        head, _, text = text.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(text)

    def up():
        with contextlib.suppress(OSError):
            return unix(s).close() is None

    try:
        eventually("it answers", 20, up)
        ask("POST", f"{G}/images", image("first"))
        with unix(s) as w:
            w.sendall(f"GET {G}/images?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            last, years, got = 0, [], b""
            for n, offset in enumerate(("+3650d", "-9000d", "+20000d", "-1d", "+0d")):
                jump(offset)
                status, o = ask("POST", f"{G}/images", image(f"i{n}"))
                assert status == 201 and int(o["metadata"]["resourceVersion"]) > last
                last = int(o["metadata"]["resourceVersion"])
                years.append(int(o["metadata"]["creationTimestamp"][:4]))
                while f'"name":"i{n}"'.encode() not in got:
                    more = w.recv(65536)
                    assert more, "the watch ended"
                    got += more
            assert years[0] > years[4] > years[1], years
        status, listed = ask("GET", f"{G}/images")
        assert len(listed["items"]) == 6
        assert s.kill(15) == 0
    finally:
        if s.process.poll() is None:
            s.kill()
