# SPDX-License-Identifier: Apache-2.0
"""Parts fail while 100 pings a second run."""

import os
import signal
import time

import pytest
from bgproutes import routes_given
from conftest import GAPS, Ping, condition, eventually, instance
from harness import patient
from renewals import Renewals

HANGS_S = 25  # FRR is waited for 20 s
LEASE_S = 15
ALL = "NACRE_TEST_ALL" in os.environ


def kill_and_restart(lab, daemon):
    os.kill(lab.pid(daemon), signal.SIGKILL)
    lab.restart(daemon)

    def ready():
        status = lab.nacre("lab", "status", "--name", lab.name, check=False).stdout
        assert f"{daemon:<12} ready" in status, f"{status}\n{lab.log(daemon)[-2000:]}"
        return True

    eventually(f"{daemon} is ready", 30, ready)


@pytest.mark.parametrize("daemon", ["apiserver", "controller", "edge1", "edge2", "host1", "host2", "host3"])
def test_kill_daemon_no_packet_lost(lab, hello, daemon):
    address = hello["status"]["address"]
    lab.await_answer("internet", address)
    ping = Ping(lab, "internet", address)
    kill_and_restart(lab, daemon)
    # Late effects of a restart (leases, stale routes) appear within a few turns of the loops.
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert lab.instance("demo", "hello")["status"]["phase"] == "Running"
    ping.stop()
    assert ping.lost == [], f"lost {len(ping.lost)} of {ping.sent}, longest gap {ping.gap:.3f} s"


def test_api_away_longer_than_leases(lab, hello):
    """Nothing is withdrawn because the API was away."""
    address = hello["status"]["address"]
    lab.await_answer("internet", address)

    def endpoints():
        return {e["metadata"]["uid"] for e in lab.items("endpoints.nacre.dev")}

    def hosts():
        return {h["metadata"]["name"]: condition(h, "Ready")["lastTransitionTime"] for h in lab.items("hosts")}

    before = endpoints(), hosts()
    ping = Ping(lab, "internet", address)
    os.kill(lab.pid("apiserver"), signal.SIGKILL)
    time.sleep(20)  # the length of the outage; nothing is waited for
    lab.restart("apiserver")
    eventually("the API is back", 60, lambda: lab.items("hosts"))
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        assert (endpoints(), hosts()) == before
        time.sleep(0.5)
    assert ping.stop().lost == []
    # Clients back off while the API is away; afterwards all of them connect again, and every host gets the new
    # Endpoint.
    for at in ("edge1", "host1"):
        name = f"news-{at}"
        lab.apply({"apiVersion": "nacre.dev/v1alpha1", "kind": "Endpoint", "metadata": {"name": name},
                   "spec": {"host": at, "vtep": lab.get("host", at)["spec"]["vtep"], "ip": "2001:db8:0:3::2",
                            "mac": "02:00:00:00:03:02"}})
        for place in {"edge1", "edge2", "host1", "host2", "host3"} - {at}:
            eventually(f"the news of {at} reaches {place}", 40,
                       lambda: lab.exec(f"{place}/public", "ip", "-6", "route", "show", "2001:db8:0:3::2"))
        lab.kubectl("delete", "endpoint.nacre.dev", name)


def test_frr_of_an_edge_dies(lab, hello):
    """The other edge carries the traffic; the agent starts FRR again."""
    address = hello["status"]["address"]
    directory = f"{lab.dir}/edge1/frr-public"
    lab.await_answer("internet", address)
    ping = Ping(lab, "internet", address)
    for daemon in ("bgpd", "zebra"):
        with open(f"{directory}/{daemon}.pid") as f:
            os.kill(int(f.read()), signal.SIGKILL)
        eventually(f"edge1 is back after the death of {daemon}", 30, lambda: "edge1" in lab.exec(
            "internet", "ip", "-6", "route", "show", "2001:db8:1000::/40") and any(
            e["metadata"]["name"] == "edge-edge1" for e in lab.items("endpoints.nacre.dev")))
        eventually("pings go through", 10, lambda: all(lab.answers("internet", address) for _ in range(3)))
    # Otherwise the new zebra would delete the default routes two minutes later.
    eventually("bgpd gave the default routes to the new zebra", 30, lambda: min(routes_given(directory)) > 0)
    ping.stop()
    ping.note_gap("death of an edge's FRR")
    assert ping.gap < patient(5)


def test_frr_of_an_edge_hangs(lab, hello):
    """
    Its sessions end, and the other edge gets what comes. Meanwhile the edge is alive, and what its kernel has carries packets
    on. This also holds for an agent that is started only then; with NACRE_TEST_ALL both wait for FRR until they give up.
    """
    address, public = hello["status"]["address"], "edge2/public"
    with open(f"{lab.dir}/edge2/frr-public/bgpd.pid") as f:
        bgpd = int(f.read())

    def routes():
        return lab.exec(public, "ip", "-6", "route") + lab.exec(public, "ip", "-4", "route")

    lab.await_answer("internet", address)
    before, ping = routes(), Ping(lab, "internet", address)
    renewals = Renewals(lambda: lease(lab, "edge2")["renewTime"])
    os.kill(bgpd, signal.SIGSTOP)
    try:
        for hangs_s in (HANGS_S if ALL else 0, HANGS_S):
            end = time.monotonic() + hangs_s
            eventually("the sessions end", hangs_s + 30, lambda: renewals.look() or (time.monotonic() > end and "edge2" not in lab.exec(
                "internet", "ip", "-6", "route", "show", "2001:db8:1000::/40")), interval=0)
            assert routes() == before
            os.kill(lab.pid("edge2"), signal.SIGKILL)
            lab.restart("edge2")
        eventually("the new one renews the lease", 20, lambda: (n := len(renewals.times)) and (
            renewals.look() or len(renewals.times) > n))
        ping.stop()
    finally:
        os.kill(bgpd, signal.SIGCONT)
        eventually("edge2 is back", 60, lambda: "edge2" in lab.exec(
            "internet", "ip", "-6", "route", "show", "2001:db8:1000::/40") and condition(
            lab.get("edgepeer", "edge2-internet"), "Ready")["status"] == "True")
    ping.note_gap("an edge's FRR hangs")
    assert ping.lost == []
    renewals.check(LEASE_S)


@pytest.mark.skipif(not ALL, reason="takes long; in --all")
def test_edge_without_its_daemon_is_withdrawn(lab, hello):
    """Its routes get old, so it loses its Endpoint when its heartbeat runs out. Its kernel and FRR go on until then."""
    address = hello["status"]["address"]

    def announced(edge="edge2"):
        return {e["metadata"]["uid"] for e in lab.items("endpoints.nacre.dev") if e["metadata"]["name"] == f"edge-{edge}"}

    lab.await_answer("internet", address)
    before, ping = announced(), Ping(lab, "internet", address)
    assert len(before) == 1
    assert announced("edge1"), "the other edge takes what goes out"
    os.kill(lab.pid("edge2"), signal.SIGKILL)
    since = time.monotonic()
    try:
        eventually("edge2 is withdrawn", LEASE_S + 5, lambda: not announced())
        GAPS.append(f"an edge's daemon is dead: its Endpoint is withdrawn after {time.monotonic() - since:.1f} s")
        ping.await_answers(100)
    finally:
        lab.restart("edge2")
    back = eventually("edge2 is back", 30, announced)
    assert back != before
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert announced() == back, "it is announced once and stays"
    ping.stop()
    ping.note_gap("an edge's daemon is dead")
    assert ping.lost == []


@pytest.mark.skipif(not ALL, reason="takes long; in --all")
def test_edge_without_its_daemon_is_taken_out(lab, hello):
    """By its uplink, as docs/public-network.md says. The daemon brings it back."""
    address = hello["status"]["address"]

    def attracts():
        return "edge2" in lab.exec("internet", "ip", "-6", "route", "show", "2001:db8:1000::/40")

    lab.await_answer("internet", address)
    assert attracts()
    os.kill(lab.pid("edge2"), signal.SIGKILL)
    try:
        assert attracts()
        lab.exec("edge2/public", "ip", "link", "set", "wan", "down")
        eventually("nothing goes to edge2", 10, lambda: not attracts())
        lab.await_answer("internet", address)
    finally:
        lab.restart("edge2")
    eventually("edge2 is back", 60, lambda: attracts() and any(
        e["metadata"]["name"] == "edge-edge2" for e in lab.items("endpoints.nacre.dev")))
    lab.await_answer("internet", address)


def qemu_pids(lab, host, uid):
    """Processes named qemu in the container of the instance."""
    pids = []
    ns = os.stat(f"/run/netns/nl-{lab.name}-{host}-i-{uid.replace('-', '')[:12]}").st_ino
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as f:
                if f.read().startswith("qemu-system") and os.stat(f"/proc/{pid}/ns/net").st_ino == ns:
                    pids.append(int(pid))
        except OSError:
            pass
    return pids


def test_kill_qemu_comes_back(lab, hello):
    uid, host, address = hello["metadata"]["uid"], hello["status"]["host"], hello["status"]["address"]
    before = hello["status"].get("restarts", 0)
    (pid,) = qemu_pids(lab, host, uid)
    os.kill(pid, signal.SIGKILL)
    eventually("it was started again", 60, lambda: lab.instance("demo", "hello")["status"].get("restarts", 0) > before)
    lab.wait_ready("demo", "hello")
    lab.await_answer("internet", address, 60)
    events = lab.items("-n", "demo", "events")
    messages = [e["message"] for e in events if e["involvedObject"].get("uid") == uid]
    assert any("signal 9" in m for m in messages), messages


def measure_loss(lab, address, what, break_it, mend):
    lab.await_answer("internet", address)
    ping = Ping(lab, "internet", address)
    try:
        ping.await_answers(100)
        break_it()
        eventually(f"pings recover from {what}", 30, lambda: all(lab.answers("internet", address) for _ in range(5)))
        ping.await_answers(200)
        ping.stop()
    finally:
        mend()
    ping.note_gap(what)
    assert ping.gap < patient(15)


def test_lose_an_edge(lab, hello):
    """Cables and daemon at the same time, as in a power failure."""
    address = hello["status"]["address"]
    cables = [("leaf1", "edge1"), ("leaf2", "edge1"), ("internet", "edge1")]

    def links(state):
        for place, link in cables:
            lab.exec(place, "ip", "link", "set", link, state)

    def lose():
        os.kill(lab.pid("edge1"), signal.SIGKILL)
        links("down")

    def mend():
        links("up")
        lab.restart("edge1")
        eventually("edge1 announces again", 60, lambda: condition(
            lab.get("edgepeer", "edge1-internet"), "Ready")["status"] == "True" and any(
            e["metadata"]["name"] == "edge-edge1" for e in lab.items("endpoints.nacre.dev")))

    measure_loss(lab, address, "loss of edge1", lose, mend)


def test_edge_falls_silent(lab, hello):
    """The edge answers nobody, but all its links are up: only the timers of the sessions detect this."""
    address = hello["status"]["address"]
    dead = """table inet dead {
        chain in { type filter hook prerouting priority -500; drop; }
        chain out { type filter hook output priority -500; drop; }
    }"""
    places = ["edge1/underlay", "edge1/public"]

    def lose():
        for place in places:
            lab.exec(place, "nft", "-f", "-", input=dead)

    def mend():
        for place in places:
            lab.exec(place, "nft", "delete", "table", "inet", "dead")
        eventually("edge1 is back", 60, lambda: "edge1" in lab.exec(
            "internet", "ip", "-6", "route", "show", "2001:db8:1000::/40") and condition(
            lab.get("edgepeer", "edge1-internet"), "Ready")["status"] == "True")

    measure_loss(lab, address, "edge1 falls silent", lose, mend)


def test_edge_cut_off_from_the_fabric(lab, hello):
    """An edge that reaches no host must not attract traffic from outside."""
    address = hello["status"]["address"]

    def links(state):
        for leaf in ("leaf1", "leaf2"):
            lab.exec(leaf, "ip", "link", "set", "edge2", state)

    def mend():
        links("up")
        eventually("edge2 announces again", 60, lambda: "edge2" in lab.exec(
            "internet", "ip", "-6", "route", "show", "2001:db8:1000::/40"))

    measure_loss(lab, address, "edge2 cut off from the fabric", lambda: links("down"), mend)


def test_lose_a_leaf(lab, hello):
    address = hello["status"]["address"]
    links = [f"{m}{i}" for m in ("edge", "lb") for i in (1, 2)] + [f"host{i}" for i in range(1, lab.hosts + 1)]

    def set_links(state):
        for link in links:
            lab.exec("leaf1", "ip", "link", "set", link, state)

    def mend():
        set_links("up")
        eventually("all is well again", 60,
                   lambda: "All is well." in lab.nacre("lab", "status", "--name", lab.name, check=False).stdout)

    measure_loss(lab, address, "loss of leaf1", lambda: set_links("down"), mend)


def transitions(lab):
    """The last change of each host's readiness."""
    return {h["metadata"]["name"]: condition(h, "Ready")["lastTransitionTime"] for h in lab.items("hosts")}


def machine(lab, name="hello"):
    """What an instance's host runs for it; changes if the instance is moved or started anew."""
    status = lab.instance("demo", name)["status"]
    return status["host"], status.get("restarts", 0), status["address"]


@pytest.fixture
def cut(lab, hello):
    """Functions that cut and restore the management link of the first instance's host. The link is up again at the
    end."""
    host = hello["status"]["host"]

    def set_link(state):
        lab.exec("mgmt", "ip", "link", "set", host, state)

    yield lambda: set_link("down"), lambda: set_link("up")
    set_link("up")
    eventually("all is well again", 60,
               lambda: "All is well." in lab.nacre("lab", "status", "--name", lab.name, check=False).stdout)


def test_short_cut_from_the_api(lab, hello, cut):
    """Shorter than the host's lease: nobody reacts, and no packet is lost."""
    address, host = hello["status"]["address"], hello["status"]["host"]
    lab.await_answer("internet", address)
    before = transitions(lab), machine(lab)
    ping = Ping(lab, "internet", address)
    take, give = cut
    # Right after a renewal, so that the agent has the whole lease duration to come back.
    renewed = lease(lab, host)["renewTime"]
    eventually("the lease is renewed", 20, lambda: lease(lab, host)["renewTime"] != renewed)
    take()
    time.sleep(8)  # the length of the cut; nothing is waited for
    give()
    renewed = lease(lab, host)["renewTime"]
    eventually("the lease is renewed again", 20, lambda: lease(lab, host)["renewTime"] != renewed)
    assert (transitions(lab), machine(lab)) == before
    assert ping.stop().lost == []


def lease(lab, host):
    return lab.get("-n", "nacre-system", "lease", f"host-{host}")["spec"]


def test_long_cut_from_the_api(lab, hello, cut):
    """The host counts as lost and gets no new instance, but its instances keep running, stay reachable and stay on
    it."""
    address, host = hello["status"]["address"], hello["status"]["host"]
    lab.await_answer("internet", address)
    before = machine(lab)
    endpoints = {e["metadata"]["uid"] for e in lab.items("endpoints.nacre.dev") if e["spec"]["host"] == host}
    ping = Ping(lab, "internet", address)
    take, give = cut
    take()
    eventually("the host is not ready", 60, lambda: condition(lab.get("host", host), "Ready")["status"] == "Unknown")
    c = eventually("its instance says so", 20, lambda: (lambda c: c if c["status"] == "Unknown" else None)(
        condition(lab.instance("demo", "hello"), "Ready")))
    assert c["reason"] == "HostLost" and host in c["message"]
    lab.apply(instance("elsewhere"))
    eventually("a new one goes elsewhere", 60, lambda: lab.instance("demo", "elsewhere").get("status", {}).get("host"))
    assert machine(lab, "elsewhere")[0] != host
    assert machine(lab) == before
    give()
    eventually("the host is ready", 60, lambda: condition(lab.get("host", host), "Ready")["status"] == "True")
    lab.wait_ready("demo", "hello", timeout=60)
    assert machine(lab) == before
    assert {e["metadata"]["uid"] for e in lab.items("endpoints.nacre.dev") if e["spec"]["host"] == host} >= endpoints
    assert ping.stop().lost == []
    lab.delete_instances("demo", "elsewhere")


def test_host_dies_and_comes_back(lab, hello):
    host, address, name = hello["status"]["host"], hello["status"]["address"], "hello"

    def links(state):
        for leaf in ("leaf1", "leaf2", "mgmt"):
            lab.exec(leaf, "ip", "link", "set", host, state)

    links("down")
    try:
        eventually("the host is not ready", 60,
                   lambda: condition(lab.get("host", host), "Ready")["status"] == "Unknown")
        c = eventually("its instance says so", 20, lambda: (lambda c: c if c["status"] == "Unknown" else None)(
            condition(lab.instance("demo", name), "Ready")))
        assert c["reason"] == "HostLost" and host in c["message"]
        assert not lab.answers("internet", address)
    finally:
        links("up")
    eventually("the host is ready", 60, lambda: condition(lab.get("host", host), "Ready")["status"] == "True")
    lab.wait_ready("demo", name, timeout=60)
    lab.await_answer("internet", address, 60)
