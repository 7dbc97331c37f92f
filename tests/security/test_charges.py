# SPDX-License-Identifier: Apache-2.0
"""Handshakes, deliveries to watches and commits are charged to whoever causes them, like requests, and done in
turns."""

import array
import contextlib
import fcntl
import resource
import select
import signal
import socket
import ssl
import subprocess
import termios
import time

from agents import H1, LEASES, as_user, thing
from apilib import context, fresh_server, namespace, pki
from conftest import SMALL_SHARE
from harness import eventually, patient
from tenant import CONFIGMAPS, EVENTS, RBAC, RED, ask, make
from test_limits import answer, bind, refused

BLUE = ("blue",)
OF_BLUE = "/api/v1/namespaces/blue/configmaps"
ELSEWHERE = "127.0.0.9"
WATCHES, CHANGES = 200, 80  # some 0.5 ms for each change and watch
READER = (b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n")


def metric(server, name, conn=None):
    text = server.get("/metrics", conn=conn).text
    return next(float(x.split()[-1]) for x in text.splitlines() if x.startswith(name + " "))


def charged(server, work, conn=None):
    return metric(server, f'nacre_apiserver_charged_cpu_seconds_total{{work="{work}"}}', conn)


def blue(server):
    server.create(namespace("blue"))
    a = server.post(f"{RBAC}/namespaces/blue/rolebindings", bind("admin", "blue", "admin", "blue"))
    assert a.status == 201, a.text


def host(server):
    server.create(thing("Host", "h1", {"role": "compute", "vtep": "fd00::1"}))
    server.create(thing("Lease", "host-h1", {"holderIdentity": "h1"}))


def beat(server, conn=None):
    """A heartbeat of host h1."""
    a = server.request("PATCH", f"{LEASES}/host-h1", {"spec": {"leaseDurationSeconds": 40}},
                       "application/merge-patch+json", conn=conn or server.connection(H1))
    assert a.status == 200, a.text


def hello():
    """The first message of a client's handshake."""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


def from_elsewhere(server, timeout=60):
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout, source_address=(ELSEWHERE, 0))


def costly_certificate(directory):
    """An RSA certificate of 4,096 bits: a handshake takes some ms of the server, and almost nothing of its client."""
    cert, key, names = (f"{directory}/rsa.{x}" for x in ("crt", "key", "ext"))
    with open(names, "w") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for argv in (["req", "-newkey", "rsa:4096", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", cert + ".csr"],
                 ["x509", "-req", "-in", cert + ".csr", "-CA", pki().ca, "-CAkey", f"{pki().dir}/ca.key", "-CAcreateserial",
                  "-CAserial", cert + ".srl", "-days", "2", "-extfile", names, "-out", cert]):
        subprocess.run(["openssl", *argv], check=True, capture_output=True, timeout=patient(120))
    return "--tls-cert", cert, "--tls-key", key


def begin_handshakes(server):
    """Begins many handshakes at a time and completes none, until one isn't answered."""
    text, poll, open_ = hello(), select.poll(), {}
    end = time.monotonic() + patient(120)
    with contextlib.ExitStack() as stack:
        while time.monotonic() < end:
            while len(open_) < 20:
                s = stack.enter_context(from_elsewhere(server))
                with contextlib.suppress(OSError):
                    s.sendall(text)
                open_[s.fileno()] = s
                poll.register(s, select.POLLIN)
            for fd, _ in poll.poll(1000):
                s = open_.pop(fd)
                poll.unregister(s)
                try:
                    answered = s.recv(4096) != b""
                except ConnectionError:
                    answered = False
                s.close()
                if not answered and refused(server, "time"):
                    return
    raise TimeoutError("all handshakes were answered")


def test_handshakes(tmp_path):
    """Unfinished handshakes are charged to the address; connections past its budget are closed."""
    with fresh_server(tmp_path, *costly_certificate(tmp_path), *SMALL_SHARE) as server:
        refuse_handshakes(server)


def refuse_handshakes(server):
    host(server)
    make(server)
    request = f"GET {LEASES}/host-h1 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with context(*H1).wrap_socket(from_elsewhere(server), server_hostname="localhost") as early:
        early.sendall(request)
        assert answer(early)[0] == 200
        begin_handshakes(server)
        # An agent with an open connection goes on, although it shares the address; and so do others.
        early.sendall(request)
        assert answer(early)[0] == 200
    for _ in range(5):
        beat(server)
        assert ask(server, "GET", CONFIGMAPS).status == 200
        assert server.request("GET", "/healthz", conn=server.connection(())).status == 200
    assert refused(server, "time") > 0
    assert charged(server, "handshakes") > 1

    def again():
        with context().wrap_socket(from_elsewhere(server), server_hostname="localhost") as s:
            s.sendall(READER % b"/healthz")
            return answer(s)[0] == 200

    # Each attempt costs a handshake.
    eventually("the address is listened to again", 60, again, interval=2, catch=(OSError,))


def test_handshakes_of_users(server):
    """An authenticated user pays for the handshake himself, so that users who share an address don't use it up."""
    make(server)

    def paid(who):
        return metric(server, f'nacre_apiserver_handshakes_total{{charged="{who}"}}')

    def grows(who, act):
        before = paid(who)
        act()
        eventually(f"the {who} pays", 20, lambda: paid(who) > before)

    users = paid("user")
    for _ in range(5):
        assert ask(server, "GET", CONFIGMAPS).status == 200
    assert paid("user") >= users + 5
    grows("address", lambda: server.request("GET", "/healthz", conn=server.connection(())))
    grows("address", lambda: from_elsewhere(server).close())


def test_handshake_that_waits(server):
    """A handshake costs nothing while it waits for its client."""
    conn = server.connection()

    def rests():
        before = charged(server, "handshakes", conn)
        for _ in range(50):
            assert server.get("/healthz", conn=conn).status == 200
        return charged(server, "handshakes", conn) == before

    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(from_elsewhere(server)).sendall(hello()[:1])
        eventually("nothing is charged", 20, rests)


def wide_event():
    return {"metadata": {"name": "wide"}, "involvedObject": {"namespace": "red"}, "reason": "r",
            **{f"k{i}": {f"m{j:03}": "" for j in range(98)} for i in range(95)}}


def watch(server, stack, user, path):
    s = stack.enter_context(server.socket(user, timeout=60))
    s.sendall(READER % path.encode())
    data = b""
    while b"\r\n" not in data:
        data += s.recv(4096)
    assert data.startswith(b"HTTP/1.1 200"), data
    return s


def reads(s, word):
    data = b""
    while word not in data:
        more = s.recv(65536)
        assert more, data[-300:]
        data = data[-300:] + more


def test_watches(strict_server):
    """A user with many costly watches waits for their events; nobody else does."""
    server = strict_server
    make(server)
    blue(server)
    host(server)
    assert server.post(EVENTS, wide_event()).status == 201
    version = server.get(EVENTS + "/wide").json["metadata"]["resourceVersion"]
    for n in range(CHANGES):
        assert server.patch(EVENTS + "/wide", {"reason": f"r{n}" if n < CHANGES - 1 else "last"}).status == 200
    terms = ",".join(["reason!=x"] * 62 + ["reason=last"])
    with contextlib.ExitStack() as stack:
        others = watch(server, stack, BLUE, f"{OF_BLUE}?watch=1")
        mine = [stack.enter_context(server.socket(RED, timeout=patient(60))) for _ in range(WATCHES)]
        for s in mine:
            s.sendall(READER % f"{EVENTS}?watch=1&resourceVersion={version}&fieldSelector={terms}".encode())
        eventually("they wait", 60, lambda: metric(server, "nacre_apiserver_watches_late") > 0, interval=0.01)
        for i in range(5):
            beat(server)
            assert ask(server, "POST", OF_BLUE, {"metadata": {"name": f"c{i}"}}, user=BLUE).status == 201
            reads(others, f'"c{i}"'.encode())
        # No event is lost. (Watches that began when the user had no time left were refused.)
        kept = 0
        for s in mine:
            if kept < 3 and s.recv(12) == b"HTTP/1.1 200":
                kept += 1
                mine[kept - 1] = s
            else:
                s.close()
        for s in mine[:kept]:
            reads(s, b'"last"')
        assert kept
    eventually("no watch waits", 60, lambda: metric(server, "nacre_apiserver_watches_late") == 0)


def test_watches_that_are_closed(tmp_path):
    """Waiting watches cost nothing after their clients disconnected, not even for events that they had not sent."""
    with fresh_server(tmp_path, "--processor-share", "1") as server:
        make(server)
        assert server.post(EVENTS, wide_event()).status == 201
        terms = ",".join(["reason!=x"] * 62 + ["reason=last"])
        with contextlib.ExitStack() as stack:
            for _ in range(WATCHES):
                s = stack.enter_context(server.socket(RED))
                s.sendall(READER % f"{EVENTS}?watch=1&fieldSelector={terms}".encode())
            eventually("all watch", 60, lambda: metric(server, "nacre_apiserver_watches") == WATCHES)
            # Until all watches wait, the changes cost the user's burst of 2 s. Serving all closed watches would cost
            # more.
            for n in range(CHANGES):
                assert server.patch(EVENTS + "/wide", {"reason": f"r{n}"}).status == 200
            eventually("they wait", 60, lambda: metric(server, "nacre_apiserver_watches_late") == WATCHES)
            before = charged(server, "watches")
        eventually("no watch is left", 60, lambda: metric(server, "nacre_apiserver_watches") == 0)
        assert charged(server, "watches") - before < before / 2


def test_watches_that_take_long_to_find_it(strict_server):
    """To find their next event takes these watches longer than a turn: they still get it, and others go on."""
    server, many = strict_server, 24
    make(server)
    blue(server)
    wide = {f"k{i}": {f"m{j:03}": "" for j in range(98)} for i in range(95)}
    a = server.post(EVENTS, {"metadata": {"name": "wide"}, "involvedObject": {"namespace": "red", **wide}, "reason": "r"})
    assert a.status == 201, a.text[:500]
    version = a.json["metadata"]["resourceVersion"]
    # Some ms for each watch: the old and the new object are searched once for each field.
    terms = ",".join(f"involvedObject.{x}!=x"
                     for x in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"))
    with contextlib.ExitStack() as stack:
        mine = [watch(server, stack, RED, f"{EVENTS}?watch=1&resourceVersion={version}&fieldSelector={terms}")
                for _ in range(many)]
        before = charged(server, "watches")
        assert server.patch(EVENTS + "/wide", {"reason": "new"}).status == 200
        assert ask(server, "GET", OF_BLUE, user=BLUE).status == 200
        for s in mine:
            s.settimeout(patient(60))
            reads(s, b'"MODIFIED"')
        assert charged(server, "watches") - before < 1, "they were looked through again and again"


def test_many_watches(server):
    """The delivery of one write to thousands of watches is done in turns."""
    many = 8000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert server.post(CONFIGMAPS.replace("red", "default"), {"metadata": {"name": "c"}, "data": {"a": ""}}).status == 201
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        all_ = []
        for _ in range(many):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.settimeout(patient(60))
            s.connect(f"{server.dir}/sock")
            s.sendall(READER % b"/api/v1/namespaces/default/configmaps?watch=1")
            reads(s, b'"ADDED"')
            all_.append(s)
        for n in range(3):
            a = server.patch("/api/v1/namespaces/default/configmaps/c", {"data": {"a": f"{n}" + "x" * 8000}})
            assert a.status == 200
            for s in all_:
                reads(s, f'"{n}xx'.encode())
        assert metric(server, "nacre_apiserver_longest_turn_cpu_seconds") < 0.03


def test_writes_among_many_reads(server):
    """However long connections keep the server busy without a break, commits, timers and signals come between."""
    at, many, each = "/api/v1/namespaces/default/configmaps", 1000, 40
    assert server.post(at, {"metadata": {"name": "c"}}).status == 201
    get = READER % f"{at}/c".encode()
    body = b'{"metadata": {"name": "w"}}'
    post = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        at.encode(), len(body))

    def connect(stack):
        s = stack.enter_context(socket.socket(socket.AF_UNIX))
        s.settimeout(patient(60))
        s.connect(f"{server.dir}/sock")
        s.sendall(get)
        return s, len(s.recv(65536))

    def waiting(s):
        n = array.array("i", [0])
        fcntl.ioctl(s, termios.FIONREAD, n)
        return n[0]

    with contextlib.ExitStack() as stack:
        writer, _ = connect(stack)
        readers = [connect(stack) for _ in range(many)]
        server.process.send_signal(signal.SIGSTOP)
        for s, _ in readers:
            s.sendall(get * each)
        writer.sendall(post + body)
        server.process.send_signal(signal.SIGCONT)
        assert writer.recv(65536).startswith(b"HTTP/1.1 201")
        unanswered = sum(waiting(s) < size * each for s, size in readers)
        assert unanswered, "the write had to wait for all reads"


def test_commits(server):
    make(server)
    before = charged(server, "commits")
    assert ask(server, "GET", CONFIGMAPS).status == 200
    assert charged(server, "commits") == before
    assert ask(server, "POST", CONFIGMAPS, {"metadata": {"name": "big"}, "data": {"a": "x" * 1_000_000}}).status == 201
    assert charged(server, "commits") > before
