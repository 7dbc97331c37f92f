# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load: no acknowledged write is lost, none is half done, versions never go back."""

import http.client
import os
import random
import threading
import time

from apilib import G, eventually, image

ROUNDS = 30 if os.environ.get("NACRE_TEST_ALL") else 8
WRITERS = 6


def writer(server, number, stop, acked, writes):
    """Creates, increments and deletes objects of its own, and records the server's answers."""
    conn = server.connection()
    rng = random.Random(number)
    try:
        while not stop.is_set():
            name = f"w{number}-{rng.randrange(5)}"
            have = acked.get(name)
            acked[name] = ("unsure", have)
            if have is None:
                a = server.post(f"{G}/images", image(name, {"n": "0"}), conn=conn)
            elif rng.random() < 0.2:
                a = server.delete(f"{G}/images/{name}", conn=conn)
            else:
                a = server.patch(f"{G}/images/{name}", {"metadata": {"labels": {"n": str(have[0] + 1)}}}, conn=conn)
            assert a.status in (200, 201), a.text
            o = a.json
            acked[name] = None if o["kind"] == "Status" else (int(o["metadata"]["labels"]["n"]),
                                                               int(o["metadata"]["resourceVersion"]))
            writes.append(name)
    except (OSError, http.client.HTTPException):
        pass


def test_kill_under_load(server):
    acked, last_version = [{} for _ in range(WRITERS)], 0
    for round in range(ROUNDS):
        stop, writes = threading.Event(), []
        threads = [threading.Thread(target=writer, args=(server, n, stop, acked[n], writes)) for n in range(WRITERS)]
        for t in threads:
            t.start()
        eventually("they write", 20, lambda: len(writes) >= WRITERS, 0.001)
        time.sleep(random.uniform(0.02, 0.4))
        server.kill()
        stop.set()
        for t in threads:
            t.join()
        server.start()
        got = server.list(f"{G}/images")
        version = int(got["metadata"]["resourceVersion"])
        there = {o["metadata"]["name"]: (int(o["metadata"]["labels"]["n"]), int(o["metadata"]["resourceVersion"]))
                 for o in got["items"]}
        newest = max([v[1] for d in acked for v in d.values() if v and v[0] != "unsure"], default=0)
        assert version >= max(newest, last_version)
        last_version = version
        for d in acked:
            for name, state in d.items():
                now = there.get(name)
                if state is None or state[0] != "unsure":
                    assert now == state, (name, state, now)
                else:  # the answer was lost: the write was done or not
                    before = state[1]
                    assert now == before or (before is None and now[0] == 0) or \
                        (before is not None and (now is None or now[0] == before[0] + 1)), (name, state, now)
                d[name] = now
        assert sum(len(d) for d in acked) >= len(there)


def test_versions_never_go_back(server):
    rv = int(server.create(image())["metadata"]["resourceVersion"])
    server.delete(f"{G}/images/img")
    for _ in range(3):
        server.stop()
        server.start()
        now = int(server.list(f"{G}/images")["metadata"]["resourceVersion"])
        assert now > rv
        rv = int(server.create(image())["metadata"]["resourceVersion"])
        assert rv > now
        server.delete(f"{G}/images/img")


def test_many_writers_of_one_object(server):
    """Patches never conflict, updates do; no change is lost."""
    server.create(image(labels={"n": "0"}))
    done = []

    def count():
        conn = server.connection()
        for _ in range(20):
            while True:
                o = server.get(f"{G}/images/img", conn=conn).json
                o["metadata"]["labels"]["n"] = str(int(o["metadata"]["labels"]["n"]) + 1)
                a = server.put(f"{G}/images/img", o, conn=conn)
                if a.status == 200:
                    break
                assert a.status == 409, a.text
        done.append(1)

    threads = [threading.Thread(target=count) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(done) == 5
    assert server.get(f"{G}/images/img").json["metadata"]["labels"]["n"] == "100"
