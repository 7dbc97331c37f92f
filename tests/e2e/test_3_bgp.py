# SPDX-License-Identifier: Apache-2.0
"""Protection of BGP sessions: passwords and TTL security. The lab has all of it; these tests change edge2."""

import json
import os

import pytest
from conftest import Ping, condition, eventually

from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

PEER = "edge2-internet"
TCP_MD5 = 19  # RFC 2385


def session(lab):
    return condition(lab.get("edgepeer", PEER), "Ready")


def await_reason(lab, reason):
    return eventually(f"{PEER} is {reason}", 60, lambda: (c := session(lab))["reason"] == reason and c)


def change(lab, **spec):
    lab.kubectl("patch", "edgepeer", PEER, "--type=merge", "-p", json.dumps({"spec": spec}))


@pytest.fixture
def peer(lab, hello):
    """Edge2's session, restored at the end. The other edge carries the traffic meanwhile."""
    before = {k: lab.get("edgepeer", PEER)["spec"].get(k) for k in ("remoteASN", "passwordFile", "ttlSecurity")}
    await_reason(lab, "Established")
    yield
    change(lab, **before)
    await_reason(lab, "Established")
    eventually("edge2 announces again", 60, lambda: "edge2" in lab.exec(
        "internet", "ip", "-6", "route", "show", "2001:db8:1000::/40"))


def options(packet):
    """Kinds of the options of a TCP header; scapy doesn't know all of them."""
    kinds, rest = [], bytes(packet[TCP])[20:packet[TCP].dataofs * 4]
    while rest and rest[0] != 0:
        kinds.append(rest[0])
        rest = rest[1:] if rest[0] == 1 else rest[max(rest[1], 2):]
    return kinds


@pytest.mark.parametrize("place, interface, ttl", [("leaf1", "host1", 1), ("internet", "edge2", 255)])
def test_sessions_are_authenticated(lab, hello, place, interface, ttl):
    with lab.capture(place, interface, "ip6 and tcp port 179") as packets:
        eventually("keepalives have passed", 20, lambda: lab.answers("internet", hello["status"]["address"]))
        lab.exec(place, "sleep", "3")  # each side sends a keepalive each second
    assert packets
    for p in packets:
        assert TCP_MD5 in options(p), p.summary()
        assert p[IPv6].hlim == ttl, p.summary()


def test_wrong_password(lab, peer, hello):
    path = f"{lab.dir}/bgp/wrong"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write("not-the-one\n")
    ping = Ping(lab, "internet", hello["status"]["address"])
    change(lab, passwordFile="wrong")
    await_reason(lab, "NotEstablished")
    assert "not-the-one" not in json.dumps(lab.get("edgepeer", PEER)) + lab.log("edge2")
    ping.stop()
    ping.note_gap("an edge's session ends")


@pytest.mark.parametrize("content, mode, says", [(None, 0, "No such file"), ("two words", 0o600, "without blanks"),
                                                 ("", 0o600, "one line"), ("x" * 81, 0o600, "80"), ("open", 0o640, "chmod"), ("open", 0o604, "chmod")])
def test_bad_password_files(lab, peer, content, mode, says):
    path = f"{lab.dir}/bgp/bad"
    if content is not None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write(content)
        os.chmod(path, mode)
    change(lab, passwordFile="bad" if content is not None else "none")
    c = await_reason(lab, "PasswordUnavailable")
    assert says in c["message"] and path.rpartition("/")[0] in c["message"]


def test_changed_as_number(lab, peer):
    """FRR forgets a neighbor when its AS number changes. The agent configures its password, lists and families
    again."""
    def config():
        text = lab.exec("edge2/public", "vtysh", "--vty_socket", f"{lab.dir}/edge2/frr-public", "-d", "bgpd", "-c", "show running-config")
        return sorted(line.strip() for line in text.splitlines() if " neighbor " in line)

    before, asn = config(), lab.get("edgepeer", PEER)["spec"]["remoteASN"]
    change(lab, remoteASN=asn + 1)
    await_reason(lab, "NotEstablished")
    assert config() == [line.replace(f"remote-as {asn}", f"remote-as {asn + 1}") for line in before]
    change(lab, remoteASN=asn)
    await_reason(lab, "Established")
    assert config() == before


def test_peer_without_ttl_security(lab, peer):
    """The internet checks the TTL: a session that doesn't send 255 is not established."""
    change(lab, ttlSecurity=False)
    vty = f"{lab.dir}/edge2/frr-public"
    eventually("FRR knows", 20, lambda: "ttl-security" not in lab.exec(
        "edge2/public", "vtysh", "--vty_socket", vty, "-d", "bgpd", "-c", "show running-config"))
    # The change takes effect for the next session.
    lab.exec("edge2/public", "vtysh", "--vty_socket", vty, "-c", "clear bgp *")
    await_reason(lab, "NotEstablished")
