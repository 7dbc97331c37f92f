# SPDX-License-Identifier: Apache-2.0
"""What an agent does with the Firewalls of its instances' namespaces: what it waits for, what it does with one that it
does not understand, and what a restart or an absent API changes. tests/node/test_firewall.py has the packets."""

import json
import os
import re
import signal
import time

import pytest
from nodelib import GROUP, UnixConnection, cloud, images, rewriter, run, until  # noqa: F401 (three are fixtures)

ALL = bool(os.environ.get("NACRE_TEST_ALL"))
FIREWALLS = f"{GROUP}/namespaces/t/firewalls"


def firewall(cloud, name, *ingress, labels=None, **spec):
    body = {"apiVersion": "nacre.dev/v1alpha1", "kind": "Firewall", "metadata": {"name": name},
            "spec": {"instances": {"matchLabels": labels} if labels else {}, "ingress": list(ingress), **spec}}
    status, data = cloud.request("POST", FIREWALLS, body)
    assert status == 201, data


def change(cloud, name, spec):
    status, data = cloud.request("PATCH", f"{FIREWALLS}/{name}", {"spec": spec}, "application/merge-patch+json")
    assert status == 200, data


def delete(cloud, *names):
    for name in names:
        cloud.request("DELETE", f"{FIREWALLS}/{name}")


def table(guest):
    """The rules, without what changes by itself."""
    for name in ("nacre_firewall", "nacre_firewall2"):
        try:
            text = run("ip", "netns", "exec", guest.netns, "nft", "-s", "list", "table", "inet", name)
        except Exception:  # noqa: BLE001 (there is no such table)
            continue
        return re.sub(r"nacre_firewall2?|0x[0-9a-f]{8}|expires \S+", "", text)
    return ""


def opens(guest, port):
    return f"tcp . {port} " in table(guest)


def applied(cloud, name):
    found = [c for c in cloud.instance(name)["status"].get("conditions", []) if c["type"] == "FirewallApplied"]
    return found[0] if found else {"status": "", "reason": "", "message": ""}


def label(cloud, name, labels):
    status, data = cloud.request("PATCH", f"{GROUP}/namespaces/t/instances/{name}", {"metadata": {"labels": labels}},
                                 "application/merge-patch+json")
    assert status == 200, data


@pytest.fixture
def web(cloud):
    cloud.create("web", "lab", running=False)
    yield cloud.wait("web", "Stopped", 60)
    cloud.delete("web")
    # A test that failed left its own.
    delete(cloud, *(f["metadata"]["name"] for f in cloud.request("GET", FIREWALLS)[1]["items"]))


def test_follows_firewalls_and_labels(cloud, web):
    firewall(cloud, "a", {"protocol": "tcp", "port": 4001}, labels={"app": "web"})
    firewall(cloud, "b", {"protocol": "tcp", "port": 4002})
    until("the one that selects all is applied", lambda: opens(web, 4002))
    assert not opens(web, 4001)
    label(cloud, "web", {"app": "web"})
    until("a label lets another one select it", lambda: opens(web, 4001))
    change(cloud, "b", {"ingress": [{"protocol": "tcp", "port": 4003}]})
    until("a change is applied", lambda: opens(web, 4003) and not opens(web, 4002))
    until("the instance says so", lambda: applied(cloud, "web")["status"] == "True")
    label(cloud, "web", {"app": None})
    until("without the label it is gone", lambda: not opens(web, 4001))
    delete(cloud, "a", "b")
    until("what is deleted allows nothing", lambda: not opens(web, 4003))


def test_restarts_and_an_absent_api_change_nothing(cloud, web):
    firewall(cloud, "a", {"protocol": "tcp", "port": 4001})
    until("it is applied", lambda: opens(web, 4001))
    before = table(web)
    cloud.kill("node", signal.SIGKILL)
    cloud.start_node()
    cloud.wait_node()
    until("the rules are the same", lambda: table(web) == before)
    cloud.kill("node")
    cloud.kill("api")
    cloud.start_node()
    assert table(web) == before
    cloud.start_api()
    cloud.wait_node()
    until("the rules are the same", lambda: table(web) == before)
    delete(cloud, "a")
    until("changes are followed again", lambda: not opens(web, 4001))


def test_waits_until_firewalls_are_known(cloud, rewriter, web):
    """A new instance isn't started before, and one that exists keeps its rules."""
    firewall(cloud, "a", {"protocol": "tcp", "port": 4001})
    until("it is applied", lambda: opens(web, 4001))
    before = table(web)
    cloud.kill("node")
    rewriter.questions = {b"/firewalls?": b"/firewallz?"}
    cloud.start_node_behind(rewriter)
    cloud.create("new", "lab", running=False)
    until("the new instance has its host", lambda: cloud.instance("new").get("status", {}).get("host"))
    delete(cloud, "a")
    until("the agent has asked in vain", lambda: rewriter.asked.count(b"/firewallz?") > 1)
    until("an operator can learn of it", lambda: 'msg="not well" what="Firewalls of namespace t"' in cloud.node_log())
    assert table(web) == before and cloud.ready("new")["reason"] == "Placed"
    assert not os.path.exists(f"{cloud.dir}/h1/instances/{cloud.instance('new')['metadata']['uid']}")
    rewriter.questions = {}
    new = cloud.wait("new", "Stopped", 60)
    assert 'msg="well" what="Firewalls of namespace t"' in cloud.node_log()
    until("all follow", lambda: not opens(web, 4001) and table(new))
    cloud.delete("new")


def test_not_understood(cloud, rewriter, web):
    firewall(cloud, "a", {"protocol": "tcp", "port": 4001})
    until("it is applied", lambda: opens(web, 4001))
    before = table(web)
    cloud.kill("node")
    firewall(cloud, "b", {"protocol": "udp", "port": 4002})
    rewriter.changes = {b'"protocol":"udp"': b'"protocol":"udq"'}
    cloud.start_node_behind(rewriter)
    cloud.wait_node()
    until("an operator can learn of it", lambda: cloud.not_understood() == 1)
    assert 'what="Firewall t/b" error="not understood: spec.ingress[0].protocol: must be one of ' in cloud.node_log()
    until("the instance says so", lambda: applied(cloud, "web")["reason"] == "NotUnderstood")
    cloud.create("new", "lab", running=False, ingress=[{"protocol": "tcp", "port": 4009}])
    new = cloud.wait("new", "Stopped", 60)
    assert table(web) == before
    # Of a new one only what it says itself is open, and nothing goes out.
    assert opens(new, 4009) and not opens(new, 4001)
    assert '"tap" . "uplink" . original : goto ok' not in table(new)
    rewriter.changes = {}
    status, data = cloud.request("PATCH", f"{FIREWALLS}/b", {"metadata": {"annotations": {"touched": "1"}}},
                                 "application/merge-patch+json")
    assert status == 200, data
    until("all are applied", lambda: all("udp . 4002 " in table(g) and opens(g, 4001) for g in (web, new)))
    until("the instance says so", lambda: applied(cloud, "web")["status"] == "True")
    assert '"tap" . "uplink" . original : goto ok' in table(new)
    until("an operator can learn of it", lambda: cloud.not_understood() == 0)
    delete(cloud, "a", "b")
    cloud.delete("new")


def test_the_last_version_that_was_understood_holds(cloud, rewriter, web):
    """And what else changes in the namespace is followed."""
    firewall(cloud, "a", {"protocol": "tcp", "port": 4001})
    firewall(cloud, "b", {"protocol": "tcp", "port": 4002})
    cloud.kill("node")
    rewriter.changes = {b'"protocol":"udp"': b'"protocol":"udq"'}
    cloud.start_node_behind(rewriter)
    cloud.wait_node()
    until("both are applied", lambda: opens(web, 4001) and opens(web, 4002))
    change(cloud, "b", {"ingress": [{"protocol": "udp", "port": 4002}]})
    until("the instance says so", lambda: applied(cloud, "web")["reason"] == "NotUnderstood")
    change(cloud, "a", {"ingress": [{"protocol": "tcp", "port": 4003}]})
    until("the other one is followed", lambda: opens(web, 4003) and not opens(web, 4001))
    assert opens(web, 4002) and "last version" in applied(cloud, "web")["message"]
    delete(cloud, "a", "b")


def test_what_exceeds_a_limit_is_not_applied(cloud, web):
    firewall(cloud, "a", {"protocol": "tcp", "port": 4001})
    # Ports overlap each other in part, with prefixes that are apart from none.
    deep = [{"protocol": "tcp", "port": 100 + k, "endPort": 200 + k, "prefixes": [f"2001:db8::/{32 + k}"]} for k in range(10)]
    firewall(cloud, "b", *deep)
    until("the instance says so", lambda: applied(cloud, "web")["reason"] == "TooManyOverlaps")
    assert "Firewall `b` is not applied" in applied(cloud, "web")["message"]
    assert any(reason == "FirewallNotApplied" for reason, _ in cloud.events("web"))
    assert opens(web, 4001)
    _, obj = cloud.request("GET", f"{FIREWALLS}/b")
    until("the Firewall says so, too", lambda: "TooManyOverlaps" in json.dumps(
        cloud.request("GET", f"{FIREWALLS}/b")[1].get("status", {})), 60)
    change(cloud, "b", {"ingress": deep[:1]})
    until("the instance says so", lambda: applied(cloud, "web")["status"] == "True")
    delete(cloud, "a", "b")


# ---- changes of members, and large tables ----


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except OSError:
        return ""


def long_lived(cloud):
    """The agent's process that changes the members of sets: the one that stays while workers come and go."""
    first = children(cloud)
    time.sleep(1)
    found = [p for p in first & children(cloud) if comm(p) == "nacre-node"]
    return found[0] if len(found) == 1 else None


def children(cloud):
    pid = cloud.daemons["node"].pid
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return set(map(int, f.read().split()))


def worked(pid):
    """Ticks on a processor."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
    except OSError:
        return 0


def counted(cloud):
    """How many changes of members the agent has made without a worker, and how many of those have failed."""
    c = UnixConnection(f"{cloud.dir}/node.sock")
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    return [int(re.search(rf'^nacre_node_firewall_members_total{{result="{r}"}} (\d+)$', text, re.M).group(1))
            for r in ("done", "failed")]


def test_members_change_without_a_look(cloud, web):
    """A process that is there already changes them; without it, or if it hangs, a look does."""
    cloud.create("peer", "lab", running=False)
    peer = cloud.wait("peer", "Stopped", 60)
    label(cloud, "web", {"app": "web"})
    rule = {"protocol": "tcp", "port": 443, "peers": {"matchLabels": {"role": "peer"}}}
    firewall(cloud, "a", rule, labels={"app": "web"})

    def has():
        return str(peer.net.network_address) in table(web)

    def member(is_one):
        label(cloud, "peer", {"role": "peer" if is_one else None})
        until(f"the peer is a member: {is_one}", lambda: has() == is_one, 30)

    def counts_one():
        """The process makes a change. (While a look at the instance is under way, the look makes it.)"""
        for _ in range(5):
            done, failed = counted(cloud)
            for is_one in (not has(), has()):
                member(is_one)
            try:
                until("it is counted", lambda: counted(cloud)[0] >= done + 2, 3)
            except AssertionError:
                continue
            assert counted(cloud) == [done + 2, failed]
            return
        assert False, "looks have made all changes"

    member(True)  # the first one makes the sets
    pid = until("there is such a process", lambda: long_lived(cloud), 60)
    counts_one()
    failed = counted(cloud)[1]
    os.kill(pid, signal.SIGSTOP)
    member(not has())
    until("it was ended", lambda: not comm(pid), 30)
    until("that is counted", lambda: counted(cloud)[1] == failed + 1)
    member(not has())
    pid = until("there is another one", lambda: long_lived(cloud), 60)
    counts_one()
    os.kill(pid, signal.SIGKILL)
    member(not has())
    if not has():
        member(True)
    cloud.delete("peer")
    until("who is gone is no member", lambda: not has())
    delete(cloud, "a")


@pytest.mark.skipif(not ALL, reason="takes long: in --all")
def test_members_of_many_instances_change_without_a_look(cloud):
    """Requests for more instances than the process has room for wait until there is some."""
    n = 36
    teams = {f"team{k}": "a" for k in range(32)}
    rules = [{"protocol": "tcp", "port": 1000 + k, "peers": {"matchLabels": {t: "a"}}} for k, t in enumerate(teams)]
    firewall(cloud, "a", *rules, labels={"app": "many"})
    for name in ["first", "peer"] + [f"many{k}" for k in range(n)]:
        cloud.create(name, "lab", running=False)
    label(cloud, "first", teams)
    for k in range(n):
        label(cloud, f"many{k}", {"app": "many"})
    first, peer = [cloud.wait(name, "Stopped", 120) for name in ("first", "peer")]
    many = [cloud.wait(f"many{k}", "Stopped", 120) for k in range(n)]
    # The first member makes the sets.
    until("they have the first member", lambda: all(table(g).count(str(first.net.network_address)) == 32 for g in many), 120)

    def unread():
        """Bytes in the socket of the process that changes members."""
        lines = run("nsenter", f"--net=/run/netns/{cloud.host}", "ss", "-xanH").splitlines()
        return sum(int(line.split()[2]) for line in lines if line.startswith("u_seq"))

    def have(times):
        return all(table(g).count(str(peer.net.network_address)) == times for g in many)

    for _ in range(5):
        pid = until("there is a process for members", lambda: long_lived(cloud), 60)
        done, failed = counted(cloud)
        os.kill(pid, signal.SIGSTOP)
        label(cloud, "peer", teams)
        until("the agent has sent the first requests", unread)
        os.kill(pid, signal.SIGCONT)
        until("all have the change", lambda: have(32), 60)
        try:
            until("the changes are counted", lambda: counted(cloud) == [done + n, failed], 3)
            break
        except AssertionError:  # looks at some of the instances were under way
            label(cloud, "peer", dict.fromkeys(teams))
            until("all have the change", lambda: have(0), 60)
    else:
        assert False, "not all changes were made without a look"
    delete(cloud, "a")
    for name in ["first", "peer"] + [f"many{k}" for k in range(n)]:
        cloud.delete(name)


class Stopper:
    """Stops workers that load a table, so that they get no further. A look that loads nothing takes less."""

    def __init__(self, cloud):
        self.cloud, self.others, self.stopped = cloud, children(cloud), set()

    def stop(self):
        """Returns how many workers it has stopped."""
        for pid in children(self.cloud) - self.others - self.stopped:
            if worked(pid) >= 5:
                os.kill(pid, signal.SIGSTOP)
                self.stopped.add(pid)
        return len(self.stopped)

    def alive(self):
        return self.stopped & children(self.cloud)

    def until(self, what, condition, seconds=30):
        until(what, lambda: self.stop() >= 0 and condition(), seconds)

    def go_on(self):
        for pid in self.alive():
            os.kill(pid, signal.SIGCONT)


@pytest.mark.skipif(not ALL, reason="takes long: in --all")
def test_large_tables_hold_up_nobody(cloud, web):
    """While more of them than there are workers are to be loaded, and none gets on, other instances are looked at."""
    names = [f"large{k}" for k in range(10)]
    for name in names + ["peer"]:
        cloud.create(name, "lab", running=False)
        label(cloud, name, {"app": "large" if name in names else "peer"})
    peer = cloud.wait("peer", "Stopped", 120)
    large = [cloud.wait(name, "Stopped", 120) for name in names]
    label(cloud, "web", {"app": "web"})
    rules = [{"protocol": "tcp", "port": 1000 + k} for k in range(9000)]
    of_peers = {"protocol": "tcp", "port": 443, "peers": {"matchLabels": {"role": "peer"}}}
    firewall(cloud, "small", {"protocol": "tcp", "port": 4001}, labels={"app": "web"})
    until("the small one is applied", lambda: opens(web, 4001), 60)

    def holds_up_nobody(change_all, port):
        stopper = Stopper(cloud)
        change_all()
        try:
            stopper.until("large ones are being loaded", lambda: stopper.stop() >= 4, 60)
            change(cloud, "small", {"ingress": [{"protocol": "tcp", "port": port}]})
            stopper.until("the small one is changed", lambda: opens(web, port))
            assert len(stopper.alive()) >= 4
        except BaseException:
            stopper.go_on()
            raise
        return stopper

    stopper = holds_up_nobody(lambda: firewall(cloud, "large", of_peers, *rules, labels={"app": "large"}), 4002)
    stopper.go_on()
    for g in large:
        until("a large one is loaded", lambda: opens(g, 1000), 120)
    # The first member of a group needs sets, so the table is made anew.
    stopper = holds_up_nobody(lambda: label(cloud, "peer", {"role": "peer"}), 4003)
    try:
        # The first one that goes or starts while no worker has ended has waited.
        rest = list(names)
        while True:
            before = stopper.alive()
            cloud.delete(rest.pop())
            if before <= children(cloud):
                break
            stopper.until("another one is being loaded", lambda: len(stopper.alive()) >= 4)
        for name in rest:
            cloud.patch(name, {"running": True})
        until("one that waits starts", lambda: any(cloud.ready(n).get("reason") != "Stopped" for n in rest), 60)
        assert len(stopper.alive()) >= 4
    finally:
        stopper.go_on()
    for g in large:
        until("a large one has the member", lambda: not table(g) or str(peer.net.network_address) in table(g), 120)
    delete(cloud, "large", "small")
    for name in names + ["peer"]:
        cloud.delete(name)
