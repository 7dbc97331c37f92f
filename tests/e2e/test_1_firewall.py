# SPDX-License-Identifier: Apache-2.0
"""Firewalls, as tenants write them, in front of running guests: what the internet, other instances and the guest itself
can reach, while rules, labels and agents change."""

import contextlib
import subprocess
import sys
import time

import pytest
from conftest import GAPS, Console, condition, eventually, instance
from guests import servers
from harness import MORTAL, patient, run

INTERNET = "192.0.2.1"
ANYONE = {"protocol": "tcp", "port": 80}

# Opens a connection to each ADDRESS PORT every 20 ms, until standard input ends. Nothing listens there: the guest's kernel answers
# that it is refused, however many there are. Prints for each address when the connections began that got an answer, and
# that got none within three seconds, in which the kernel asks three times.
LOAD = """
import socket, sys, threading, time
targets, over = [a.rsplit(" ", 1) for a in sys.argv[1:]], threading.Event()
seen = {tuple(t): ([], []) for t in targets}
def ask(target):
    began = time.time()
    try:
        socket.create_connection(target, 3).close()
        ok = True
    except ConnectionRefusedError:
        ok = True
    except OSError:
        ok = False
    seen[target][0 if ok else 1].append(began)
threads = []
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
print("begun", flush=True)
while not over.wait(0.02):
    for target in seen:
        threads.append(threading.Thread(target=ask, args=(target,)))
        threads[-1].start()
for t in threads:
    t.join()
for target, (ok, bad) in seen.items():
    print(*sorted(ok), sep=" ")
    print(*sorted(bad), sep=" ")
"""


def firewall(name, instances, *ingress, **spec):
    return {"apiVersion": "nacre.dev/v1alpha1", "kind": "Firewall", "metadata": {"name": name, "namespace": "demo"},
            "spec": {"instances": {"matchLabels": instances}, "ingress": list(ingress), **spec}}


class Guarded:
    """`web` has an address of its own, `client` is on another host and shares one; its port 80 is forwarded."""

    def __init__(self, lab):
        self.lab = lab
        self.web, self.client = (lab.instance("demo", n)["status"] for n in ("web", "client"))

    def opens(self, address, port=80, place="internet", seconds=0.7):
        """True if a connection is made; in vain it is tried for that long."""
        host = f"[{address}]" if ":" in address else address
        return run(*self.lab.exec_argv(place, "curl", "-s", "-o", "/dev/null", "-m", "20", "--connect-timeout", str(seconds),
                                       f"http://{host}:{port}/"), check=False).returncode == 0

    def await_state(self, is_open, *addresses, **kwargs):
        for address in addresses:
            eventually(f"{address} is {'open' if is_open else 'closed'}", 30,
                       lambda: self.opens(address, **kwargs) == is_open)


@contextlib.contextmanager
def applied(lab, *firewalls):
    lab.apply(*firewalls)
    try:
        yield
    finally:
        lab.kubectl("-n", "demo", "delete", "firewall", "--ignore-not-found", *(f["metadata"]["name"] for f in firewalls))


@pytest.fixture(scope="module")
def guarded(lab):
    with contextlib.ExitStack() as stack:
        for host, where in (("host1", "web"), ("host2", "client")):
            lab.kubectl("label", "host", host, f"e2e={where}")
        stack.callback(lab.kubectl, "label", "host", "host1", "host2", "e2e-")
        web = instance("web", ipv4="dedicated", ingress=[], hostSelector={"e2e": "web"})
        web["metadata"]["labels"] = {"app": "web"}
        client = instance("client", ingress=[], hostSelector={"e2e": "client"},
                          forwards=[{"protocol": "tcp", "targetPort": 80}])
        client["metadata"]["labels"] = {"app": "client"}
        lab.apply(web, client)
        stack.callback(lab.delete_instances, "demo", "web", "client")
        lab.wait_ready("demo", "web", "client")
        guarded = Guarded(lab)
        guarded.consoles = {}
        for name in ("web", "client"):
            guarded.consoles[name] = Console(lab, f"demo/{name}")
            stack.callback(guarded.consoles[name].close)
            guarded.consoles[name].await_shell()
            eventually(f"{name} has a default route", 60, lambda: "default" in guarded.consoles[name].run(
                "ip -4 route; echo $((40+2))-over", "42-over"))
        # The forward is open without a Firewall, and shows that the guest's server runs.
        (forward,) = guarded.client["forwards"]
        guarded.await_state(True, forward["address"], port=forward["port"])
        yield guarded


def test_counters_and_drops(lab, guarded):
    """It comes first: counters are told at once the first time, and then once a minute."""
    with applied(lab, firewall("counted", {"app": "web"}, {**ANYONE, "name": "http"})):
        guarded.await_state(True, guarded.web["address"])
        assert not guarded.opens(guarded.web["address"], 4444)
        eventually("the agent logs what was dropped", 60, lambda: any(
            "dropped by the firewall" in line and "instance=web" in line and "port=4444" in line
            for line in lab.log("host1").splitlines()), interval=1)
        eventually("the Instance counts", 150, lambda: any(
            row["rule"] == "http" and row["firewall"] == "counted" and row["packets"] > 0
            for row in lab.instance("demo", "web")["status"].get("firewall", {}).get("rules", [])), interval=1)
        assert lab.instance("demo", "web")["status"]["firewall"]["droppedIn"] > 0


def test_rules_open_and_close(lab, guarded):
    """Both families; a Firewall that is made, changed and deleted."""
    both = guarded.web["address"], guarded.web["publicIPv4"]
    for address in both:
        assert not guarded.opens(address)
    with applied(lab, firewall("open", {"app": "web"}, ANYONE)):
        guarded.await_state(True, *both)
        obj = eventually("the Firewall says that it is applied", 30, lambda: next(
            (f for f in [lab.get("-n", "demo", "firewall", "open")] if condition(f, "Applied")["status"] == "True"), None))
        assert obj["status"]["instances"] == 1
        assert "open" in lab.kubectl("-n", "demo", "get", "firewalls").stdout
        assert condition(lab.instance("demo", "web"), "FirewallApplied")["status"] == "True"
        # Only from elsewhere, then only another port, then from the internet's prefixes.
        lab.apply(firewall("open", {"app": "web"}, {**ANYONE, "prefixes": ["2001:db8:eeee::/48", "10.0.0.0/8"]}))
        guarded.await_state(False, *both)
        lab.apply(firewall("open", {"app": "web"}, {"protocol": "tcp", "port": 81}))
        assert not any(guarded.opens(address) for address in both)
        lab.apply(firewall("open", {"app": "web"}, {"protocol": "tcp", "port": 70, "endPort": 90, "prefixes": [f"{INTERNET}/32"]}))
        guarded.await_state(True, guarded.web["publicIPv4"])
        assert not guarded.opens(guarded.web["address"])
    guarded.await_state(False, *both)


def test_peers_follow_labels(lab, guarded):
    web, console = guarded.web["address"], guarded.consoles["client"]

    # By echo requests: what of the guest's busybox looks up names crashes at IPv6 addresses.
    def reaches():
        return " bytes from " in console.run(f"ping -c 1 -W 1 {web}; echo $((40+2))-over", "42-over", 40)

    assert not reaches()
    with applied(lab, firewall("peers", {"app": "web"}, {"protocol": "icmpv6", "peers": {"matchLabels": {"app": "client"}}})):
        eventually("a peer reaches it", 30, reaches)
        assert not lab.answers("internet", web)
        lab.kubectl("-n", "demo", "label", "instance", "client", "app=other", "--overwrite")
        eventually("an instance that is no peer any more does not reach it", 30, lambda: not reaches())
        lab.kubectl("-n", "demo", "label", "instance", "client", "app=client", "--overwrite")
        eventually("a peer reaches it again", 30, reaches)


def test_egress(lab, guarded):
    console = guarded.consoles["web"]

    def gets(port):
        return f"got{port}" in console.run(f"echo got{port} | timeout 10 nc -w 2 {INTERNET} {port}; echo $((40+2))-over", "42-over", 40).replace(
            f"echo got{port}", "")

    with servers(lab.exec_argv("internet"), INTERNET):
        assert gets(8000)
        deny = firewall("out", {"app": "web"}, defaultEgress="deny", egress=[{"protocol": "tcp", "port": 8002}])
        with applied(lab, deny):
            eventually("what no rule allows is dropped", 30, lambda: not gets(8000))
            lab.apply(firewall("out", {"app": "web"}, defaultEgress="deny", egress=[
                {"protocol": "tcp", "port": 8000, "prefixes": [f"{INTERNET}/32"]}]))
            eventually("a rule allows it", 30, lambda: gets(8000))
        eventually("everything is allowed again", 30, lambda: gets(8000))


def test_errors_name_the_field(lab):
    for spec, said in (({"egress": [ANYONE]}, "defaultEgress"), ({"ingress": [{"protocol": "icmp", "port": 5}]}, "port"),
                       ({"ingress": [{"protocol": "tcp", "port": 5, "endPort": 4}]}, "endPort"),
                       ({"ingress": [{"prefixes": ["10.0.0.1/8"]}]}, "prefixes")):
        obj = firewall("wrong", {})
        obj["spec"].update(spec)
        result = lab.apply(obj, check=False)
        assert result.returncode != 0 and said in result.stderr, result.stderr
    assert lab.kubectl("-n", "demo", "get", "firewall", "wrong", check=False).returncode != 0


@contextlib.contextmanager
def load(lab, *targets):
    """Connections from the internet. Yields a function that ends them and returns for each target the times of the
    connections that had an answer, and that had none."""
    process = subprocess.Popen([*MORTAL, *lab.exec_argv("internet", sys.executable, "-c", LOAD, *targets)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def result():
        lines = process.communicate(timeout=patient(120))[0].split("\n")
        return [([float(x) for x in lines[2 * k].split()], [float(x) for x in lines[2 * k + 1].split()])
                for k in range(len(targets))]

    try:
        assert process.stdout.readline() == "begun\n"
        yield result
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_changes_under_load(lab, guarded):
    """New connections all the time, while rules change and the agent is killed. Those that stay allowed are all
    answered; those that are not have no answer once the change is in the kernel."""
    allowed, forbidden = guarded.web["publicIPv4"], guarded.web["address"]
    both = {"protocol": "tcp", "port": 80, "endPort": 81}
    closed = {**both, "prefixes": [f"{INTERNET}/32"]}
    with applied(lab, firewall("busy", {"app": "web"}, both)):
        guarded.await_state(True, allowed, forbidden)
        with load(lab, f"{allowed} 81", f"{forbidden} 81") as result:
            for k in range(4):
                lab.apply(firewall("busy", {"app": "web"}, both, *({"protocol": "udp", "port": p} for p in range(1000, 1000 + k))))
            lab.restart("host1")
            since = time.time()
            lab.apply(firewall("busy", {"app": "web"}, closed))
            applied_at = time.time()
            guarded.await_state(False, forbidden)
            closed_at = time.time()
            time.sleep(1)
            answered, other = result()
        assert answered[1] == [], f"{len(answered[1])} of {sum(map(len, answered))} allowed connections had no answer"
        assert not [t for t in other[1] if t < since - 3], "a connection had no answer while it was allowed"
        assert max(other[0]) < closed_at < max(other[1]), "a connection had an answer when it was allowed no longer"
        GAPS.append(f"a Firewall closes a port: the last connection came in {max(0, max(other[0]) - applied_at) * 1000:.0f} ms "
                    f"after kubectl ended; {len(answered[0])} allowed ones all had an answer")
