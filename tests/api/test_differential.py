# SPDX-License-Identifier: Apache-2.0
"""nacre-apiserver must give the recorded answers of kube-apiserver, exchange by exchange. If kube-apiserver is
available (tests/oracle/build), the recordings are compared with it too. NACRE_RECORD=1 records its answers again."""

import functools
import os
import re

import exchange
import pytest
from apilib import ROOT, Server

RECORD = os.environ.get("NACRE_RECORD")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """nacre-apiserver's answers, by topic."""
    server = Server(tmp_path_factory.mktemp("nacre"))
    server.start()
    yield functools.lru_cache(None)(
        lambda topic: exchange.play(topic, lambda: exchange.UnixConnection(os.path.join(server.dir, "sock"))))
    server.stop()


def exchanges():
    for topic in exchange.topics():
        for n, record in enumerate(exchange.recording(topic)):
            yield pytest.param(topic, n, record, id=f"{topic}-{n:03}-{record['do'][:60]}")


@pytest.mark.parametrize("topic,n,record", exchanges())
def test_exchange(played, topic, n, record):
    script = played(topic)
    assert n < len(script.exchanges), f"stopped: {script.exchanges[-1]}"
    found = exchange.compare(record, script.exchanges[n])
    if n in script.differs:
        assert found, f"differs no more: take {script.differs[n]} away"
    else:
        assert not found, "\n".join(found)


@pytest.mark.parametrize("topic", exchange.topics())
def test_recording(kube, topic):
    """The recordings are what kube-apiserver answers."""
    said = exchange.play(topic, kube.connection).exchanges
    if RECORD:
        exchange.record(topic, said)
    was = exchange.recording(topic)
    assert len(was) == len(said), f"recorded {len(was)}, now {len(said)} exchanges; see NACRE_RECORD. Last: {said[-1]}"
    for a, b in zip(was, said):
        assert a["do"] == b["do"] and not exchange.compare(a, b), f"{a['do']}: {exchange.compare(a, b)}; see NACRE_RECORD"


@pytest.mark.parametrize("topic", exchange.topics())
def test_all_was_recorded(played, topic):
    assert [r["do"] for r in exchange.recording(topic)] == [r["do"] for r in played(topic).exchanges]


def test_differences_are_documented(played):
    used = {key for topic in exchange.topics() for keys in played(topic).differs.values() for key in keys}
    with open(os.path.join(ROOT, "docs", "apiserver.md")) as f:
        section = f.read().split("## What differs from kube-apiserver")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.M))
    assert used | exchange.GENERAL == listed


def test_crds_by_client_side_apply(kube):
    """Client-side apply of deploy/crds.yaml works too: no field is dropped and nothing conflicts."""
    path = os.path.join(ROOT, "deploy", "crds.yaml")
    kube.oracle.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", path)
    p = kube.oracle.kubectl("get", "crd", "-o", "jsonpath={range .items[*]}{.status.conditions[*].type} {end}")
    assert "NonStructuralSchema" not in p.stdout and p.stdout.count("Established") == p.stdout.count("NamesAccepted") > 0
