# SPDX-License-Identifier: Apache-2.0
"""Backup of a running server, restore, and what clients see of it."""

import os
import random
import sqlite3
import subprocess
import threading
import time

import pytest
from apilib import G, SERVER, image, instance


def command(*argv, status=0):
    p = subprocess.run([SERVER, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240)
    assert p.returncode == status, p.stderr
    return p.stdout + p.stderr


def objects(server):
    """All objects, without their versions."""
    out = {}
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for path in (f"{G}/instances", f"{G}/images", "/api/v1/namespaces", "/api/v1/serviceaccounts", f"{rbac}/roles",
                 f"{rbac}/rolebindings", f"{rbac}/clusterroles", f"{rbac}/clusterrolebindings"):
        for o in server.list(path)["items"]:
            o["metadata"].pop("resourceVersion")
            out[path, o["metadata"].get("namespace"), o["metadata"]["name"]] = o
    return out


def test_backup_and_restore(server, tmp_path):
    copy = str(tmp_path / "copy")
    for n in range(30):
        server.create(image(f"i{n}"))
    for n in range(10):
        server.patch(f"{G}/images/i{n}", {"metadata": {"labels": {"n": str(n)}}})
        server.delete(f"{G}/images/i{n + 10}")
    server.create(instance(meta={"finalizers": ["a.b/c"]}))
    server.patch(f"{G}/namespaces/default/instances/a/status", {"status": {"host": "h", "vcpus": 2}})
    saved = objects(server)
    out = command("backup", "--database", server.database, copy)
    assert f"{len(saved)} objects" in out, out
    assert sorted(os.listdir(tmp_path)) == sorted(["copy", "log", "sock", "state"]), "one file"
    assert os.stat(copy).st_mode & 0o777 == 0o600
    # Writes after the copy are lost; their versions are not given again.
    server.create(image("late"))
    late = server.patch(f"{G}/images/i5", {"metadata": {"labels": {"n": "late"}}}).json
    assert "another nacre-apiserver uses" in command("restore", "--database", server.database, "--force", copy, status=1)
    server.stop()
    assert "exists; with --force" in command("restore", "--database", server.database, copy, status=1)
    command("restore", "--database", server.database, "--force", copy)
    server.start()
    assert objects(server) == saved
    listed = server.list(f"{G}/images")
    versions = [int(o["metadata"]["resourceVersion"]) for o in listed["items"]]
    assert min(versions) > int(late["metadata"]["resourceVersion"]) and len(set(versions)) == len(versions)
    assert int(listed["metadata"]["resourceVersion"]) >= max(versions)
    # A client that watches from a lost version, or updates from one, is told.
    w = server.watch(f"{G}/images", resourceVersion=late["metadata"]["resourceVersion"])
    e = w.wait(1) and w.events[0] if w.status == 200 else None
    assert (e["object"]["code"] if e else w.status) == 410
    w.close()
    assert server.put(f"{G}/images/i5", late).status == 409
    # A watch from the list works as usual.
    w = server.watch(f"{G}/images", resourceVersion=listed["metadata"]["resourceVersion"])
    server.patch(f"{G}/images/i5", {"metadata": {"labels": {"n": "new"}}})
    assert w.wait(1) == [("MODIFIED", "i5")]
    w.close()
    # The replaced database is still available.
    old = str(tmp_path / "old")
    command("restore", "--database", old, server.database + ".replaced")
    server.stop()
    server.database = old
    server.start()
    assert server.get(f"{G}/images/late").status == 200


def test_backup_after_a_crash(server, tmp_path):
    for n in range(20):
        server.create(image(f"i{n}"))
    server.kill()
    copy = str(tmp_path / "copy")
    command("backup", "--database", server.database, copy)
    fresh = str(tmp_path / "new" / "db")
    command("restore", "--database", fresh, copy)
    server.database = fresh
    server.start()
    assert len(server.list(f"{G}/images")["items"]) == 20


def test_backup_under_load(server, tmp_path):
    """Each copy shows one moment: a writer creates pairs of objects in order, so a copy never has only the second."""
    for name in ("a", "b"):
        server.create(image(name, {"n": "0"}))
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            for name in ("a", "b"):
                assert server.patch(f"{G}/images/{name}", {"metadata": {"labels": {"n": str(n)}}}).status == 200

    threads = [threading.Thread(target=write)]
    threads[0].start()
    try:
        copies = [str(tmp_path / f"c{n}") for n in range(8)]
        for copy in copies:
            command("backup", "--database", server.database, copy)
    finally:
        stop.set()
        threads[0].join()
    server.stop()
    for copy in copies:
        server.database = copy + ".db"
        command("restore", "--database", server.database, copy)
        server.start()
        a, b = (int(server.get(f"{G}/images/{n}").json["metadata"]["labels"]["n"]) for n in ("a", "b"))
        assert a - 1 <= b <= a, (a, b)
        server.stop()


@pytest.mark.parametrize("what", ["missing", "junk", "cut", "flipped", "directory"])
def test_bad_copy(server, tmp_path, what):
    for n in range(200):
        server.create(image(f"i{n}", {"x": "y" * 60}))
    copy = str(tmp_path / "copy")
    command("backup", "--database", server.database, copy)
    data = bytearray(open(copy, "rb").read())
    if what == "cut":
        data = data[:len(data) // 2]
    elif what == "flipped":
        at = data.rindex(b'{"apiVersion"')
        data[at:at + 2] = b"[["
    elif what == "junk":
        data = b"junk" * 10000
    with open(copy, "wb") as f:
        f.write(data)
    if what == "missing":
        os.unlink(copy)
    elif what == "directory":
        copy = str(tmp_path)
    server.stop()
    before = open(server.database, "rb").read()
    files = sorted(os.listdir(os.path.dirname(server.database)))
    out = command("restore", "--database", server.database, "--force", copy, status=1)
    assert "can't be restored" in out and copy in out, out
    assert open(server.database, "rb").read() == before
    assert sorted(os.listdir(os.path.dirname(server.database))) == files


def test_backup_says_what_is_wrong(server, tmp_path):
    assert "No such file" in command("backup", "--database", str(tmp_path / "none"), str(tmp_path / "copy"), status=1)
    out = command("backup", "--database", server.database, str(tmp_path / "no" / "copy"), status=1)
    assert str(tmp_path / "no" / "copy") in out, out
    assert "give one file" in command("backup", status=2)
    assert not os.path.exists(tmp_path / "none"), "a database that is not there is not made"


def everything(directory):
    return {f: open(os.path.join(directory, f), "rb").read() for f in os.listdir(directory)}


def test_not_onto_itself(server, tmp_path):
    server.create(image("i"))
    state = os.path.dirname(server.database)
    link, hard = str(tmp_path / "link"), str(tmp_path / "hard")
    os.symlink(server.database, link)
    os.link(server.database, hard)
    for to in (server.database, server.database + "-wal", server.database + ".lock", os.path.join(state, ".", "api.db"), link, hard):
        assert "database itself" in command("backup", "--database", server.database, to, status=1), to
    assert server.get(f"{G}/images/i").status == 200
    server.stop()
    before = everything(state)
    for source in (server.database, link, hard):
        assert "database itself" in command("restore", "--database", server.database, "--force", source, status=1), source
    assert everything(state) == before
    server.start()
    assert server.get(f"{G}/images/i").status == 200


def test_a_second_restore_keeps_what_the_first_kept(server, tmp_path):
    copy = str(tmp_path / "copy")
    command("backup", "--database", server.database, copy)
    server.create(image("precious"))
    server.stop()
    command("restore", "--database", server.database, "--force", copy)
    before = everything(os.path.dirname(server.database))
    out = command("restore", "--database", server.database, "--force", copy, status=1)
    assert f"{server.database}.replaced" in out and "move it away" in out, out
    assert everything(os.path.dirname(server.database)) == before
    os.rename(server.database + ".replaced", str(tmp_path / "kept"))
    command("restore", "--database", server.database, "--force", copy)
    command("restore", "--database", str(tmp_path / "db"), str(tmp_path / "kept"))
    server.database = str(tmp_path / "db")
    server.start()
    assert server.get(f"{G}/images/precious").status == 200


def names(database):
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return {row[0] for row in db.execute("SELECT name FROM log WHERE kind LIKE '%mage%'")}


def test_restore_killed_at_any_moment(server, tmp_path):
    """After a kill either the old database, with its log, or the new one is in place, and the next restore succeeds."""
    copy = str(tmp_path / "copy")
    for n in range(300):
        server.create(image(f"i{n}", {"x": "y" * 60}))
    command("backup", "--database", server.database, copy)
    server.create(image("late"))
    server.kill()
    kept, rng, ended = server.database + ".replaced", random.Random(3), 0
    began = time.monotonic()
    command("restore", "--database", str(tmp_path / "probe"), copy)
    whole = time.monotonic() - began
    for _ in range(25):
        p = subprocess.Popen([SERVER, "restore", "--database", server.database, "--force", copy],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            p.wait(rng.uniform(0.2, 1.6) * whole)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        there = names(server.database)
        assert len(there) >= 300
        if "late" not in there:
            ended += 1
            assert "late" in names(kept), "what it replaced is kept"
            os.rename(kept, server.database)  # begin again
    print(f"\n{ended} of 25 came to their end before they were killed")
    command("restore", "--database", server.database, "--force", copy)
    assert "late" in names(kept)
    server.start()
    assert server.get(f"{G}/images/late").status == 404 and server.get(f"{G}/images/i0").status == 200


def test_unknown_command(tmp_path):
    for words in (["bakup"], ["bakup", "--database", str(tmp_path / "db"), str(tmp_path / "copy")],
                  ["--database", str(tmp_path / "db"), "serve"]):
        out = command(*words, status=2)
        assert "is not a command" in out and "restore" in out, out
    assert os.listdir(tmp_path) == []
