# SPDX-License-Identifier: Apache-2.0
"""A Debian cloud image, which knows nothing of Nacre, configures itself with cloud-init and is reached by ssh: by IPv6, by
an address of its own, by a forwarded port of a shared address, and without IPv4. The guests boot at the same time, which
takes minutes under software emulation, so only with --all."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import tempfile
import time

import leftovers
import pytest
import sshclient
from conftest import GAPS, eventually, instance
from harness import IMAGES, Failed, run
from test_2_disturb import qemu_pids

pytestmark = [pytest.mark.skipif("NACRE_TEST_ALL" not in os.environ, reason="boots Debian; in --all"),
              pytest.mark.skipif(not os.path.exists(f"{IMAGES}/debian-12.qcow2"),
                                 reason=f"no {IMAGES}/debian-12.qcow2; make it: ./dev image debian")]

OWN, SHARED, SIX = "debian-own", "debian-shared", "debian-six"
DNS4, DNS6, DOMAIN = "192.0.2.53", "2001:db8:53::53", "cloud.example"
USER_DATA = """#cloud-config
write_files: [{path: /srv/from-the-secret, content: hello}]
runcmd: [[touch, /run/user-data-ran]]
"""
TOKEN = "curl -sgf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://{at}/latest/api/token"


class Guests:
    """The instances, the keys of a person at the internet's side, and what that person does by ssh."""

    def __init__(self, lab, directory):
        self.lab, self.key, self.other = lab, f"{directory}/key", f"{directory}/other"
        self.public_key, self.other_public_key = map(sshclient.make_key, (self.key, self.other))

    def make(self):
        debian = {"type": "medium", "image": "debian-12", "sshKeys": [self.public_key],
                  "ingress": [{"protocol": "icmp"}, {"protocol": "tcp", "port": 22}],
                  "userDataFrom": {"secret": "debian", "key": "cloud-config"}}
        self.applied = time.monotonic()
        self.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "debian", "namespace": "demo"},
                        "stringData": {"cloud-config": USER_DATA}},
                       instance(OWN, **debian, ipv4="dedicated"),
                       # No rule for ssh: the forward opens its port itself.
                       instance(SHARED, **{**debian, "ingress": [], "forwards": [{"protocol": "tcp", "targetPort": 22}]}),
                       instance(SIX, **debian, ipv4="none"))
        self.lab.wait_ready("demo", OWN, SHARED, SIX)
        self.status = {name: self.lab.instance("demo", name)["status"] for name in (OWN, SHARED, SIX)}

    def place(self, name, way):
        """Address and port of the guest's sshd, as the internet sees them."""
        status = self.status[name]
        if way == "forward":
            return status["forwards"][0]["address"], status["forwards"][0]["port"]
        return status["address" if way == "IPv6" else "publicIPv4"], 22

    def do(self, name, way, command, key=None):
        address, port = self.place(name, way)
        return run(*self.lab.exec_argv("internet", *sshclient.argv(key or self.key, port), f"debian@{address}", command),
                   timeout=120).stdout.strip()

    def await_ssh(self, name, way):
        eventually(f"{name} accepts the key", 240, lambda: self.do(name, way, "hostname") == name, 1)
        obj = self.lab.instance("demo", name)
        (pid,) = qemu_pids(self.lab, obj["status"]["host"], obj["metadata"]["uid"])
        with open(f"/proc/{pid}/stat") as f:
            ticks = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
        GAPS.append(f"{name}, one of three Debian guests that are created at once: ssh {time.monotonic() - self.applied:.0f} s "
                    f"after kubectl apply, {ticks / os.sysconf('SC_CLK_TCK'):.0f} s of CPU")


WAYS = [(OWN, "IPv6"), (OWN, "dedicated IPv4"), (SHARED, "forward"), (SIX, "IPv6")]
FIRST_WAY = {OWN: "IPv6", SHARED: "forward", SIX: "IPv6"}


@pytest.fixture(scope="module")
def guests(lab):
    with contextlib.ExitStack() as stack:
        directory = tempfile.mkdtemp(prefix="nacre-test-")
        leftovers.claim("dir", directory)
        stack.callback(shutil.rmtree, directory)
        guests = Guests(lab, directory)

        def resolvers(servers, search):
            lab.kubectl("patch", "addresspool", "instances", "--type", "merge", "-p",
                        json.dumps({"spec": {"dnsServers": servers, "dnsSearch": search}}))

        resolvers([DNS4, DNS6], [DOMAIN])
        stack.callback(resolvers, None, None)
        stack.callback(lab.kubectl, "-n", "demo", "delete", "secret", "debian")
        stack.callback(lab.delete_instances, "demo", OWN, SHARED, SIX)
        guests.make()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(guests.await_ssh, *zip(*FIRST_WAY.items())))
        yield guests


@pytest.mark.parametrize("name, way", WAYS)
def test_ssh_from_the_internet(lab, guests, name, way):
    """sshd sees the client's own address, and the address of the guest that was meant."""
    client, _, server, port = guests.do(name, way, "echo $SSH_CONNECTION").split()
    assert client in lab.exec("internet", "ip", "-o", "addr"), client
    assert (server, port) == ("192.0.0.2" if way == "forward" else guests.place(name, way)[0], "22")


def test_ssh_needs_the_key(guests):
    with pytest.raises(Failed, match="Permission denied"):
        guests.do(OWN, "IPv6", "true", guests.other)


# Each command prints a line. A login costs seconds under software emulation, so there is only one for a guest.
FACTS = {
    "cloud-init status --wait | tail -n 1": "status: done",
    "sudo cat /srv/from-the-secret": "hello",
    "ls /run/user-data-ran": "/run/user-data-ran",
    "systemctl --failed --no-legend | wc -l": "0",
    "sudo grep -c WARN /var/log/cloud-init.log": "0",
    "ip -6 -o addr show scope global to $PREFIX | wc -l": "2",
    "resolvectl domain | grep -c $DOMAIN": "1",
    "ping -6 -c 1 -W 5 $GATEWAY | grep -c 'bytes from'": "1",
}


@pytest.mark.parametrize("name", [OWN, SHARED, SIX])
def test_configures_itself(lab, guests, name):
    """Host name, addresses, resolvers, user data of the Secret."""
    status, four = guests.status[name], {OWN: guests.status[OWN].get("publicIPv4"), SHARED: "192.0.0.2", SIX: ""}[name]
    facts = {**FACTS, "hostname": name, "ip -4 -o addr show scope global | awk '{print $4}'": four and f"{four}/32",
             "grep ^nameserver /run/systemd/resolve/resolv.conf | cut -d' ' -f2 | sort | xargs": f"{DNS4} {DNS6}" if four else DNS6}
    script = "\n".join(f"echo $( ({command}) 2>&1)" for command in facts)
    lines = guests.do(name, FIRST_WAY[name], f"PREFIX={status['prefix']} DOMAIN={DOMAIN} GATEWAY=fe80::1%$(ls /sys/class/net | grep -v ^lo)\n"
                      + script).splitlines()
    assert dict(zip(facts, lines)) == facts


@pytest.mark.parametrize("name, at", [(OWN, "169.254.169.254"), (SIX, "[fd00:ec2::254]")])
def test_added_key_is_in_the_metadata(lab, guests, name, at):
    """By EC2's paths with a token, and by NoCloud's."""
    def ask():
        number, text = guests.do(name, FIRST_WAY[name], f"""
            curl -sgf -H "X-aws-ec2-metadata-token: $({TOKEN.format(at=at)})" http://{at}/latest/meta-data/public-keys/ | grep -c =key-
            curl -sgf http://{at}/nocloud/meta-data""").split("\n", 1)
        return int(number), json.loads(text)["public-keys"]

    keys = [guests.public_key, guests.other_public_key]
    lab.kubectl("-n", "demo", "patch", "instance", name, "--type", "merge", "-p", json.dumps({"spec": {"sshKeys": keys}}))
    eventually("the metadata has both keys", 30, lambda: ask() == (2, keys))
