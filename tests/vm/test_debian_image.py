# SPDX-License-Identifier: Apache-2.0
"""The Debian cloud image (./dev image debian) boots, configures itself by NoCloud metadata and is reached by ssh. Each
boot takes a minute or two under software emulation, so only with --all."""

import os
import socket

import pytest
from cloudlib import ADDRESS6, DNS6, METADATA6, NAME, Guest, Metadata, Network6, directory, remove
from vmlib import enter_netns

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.skipif(not os.environ.get("NACRE_TEST_ALL"), reason="only with --all"),
              pytest.mark.skipif(not os.path.exists(f"{NAME}.qcow2"), reason=f"no {NAME}.qcow2; make it: ./dev image debian")]


@pytest.fixture
def work():
    made = directory()
    try:
        yield made
    finally:
        remove(made)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# Each command prints a line. A login costs seconds under software emulation, so there is only one.
FACTS = {
    "cloud-init status --wait | tail -n 1": "status: done",
    "hostname": "web",
    "ls /run/user-data-ran": "/run/user-data-ran",
    "getent hosts $(hostname) | cut -d' ' -f1": "127.0.1.1",
    "sudo id -u": "0",
    "sudo /usr/sbin/sshd -T | grep -E '^(password|kbdinteractive)authentication' | xargs": "passwordauthentication no kbdinteractiveauthentication no",
    "sudo grep -c '^root:!' /etc/shadow": "1",
    "echo /etc/ssh/ssh_host_*_key": "/etc/ssh/ssh_host_ed25519_key",
    # The root file system has grown to the disk.
    "test $(df --output=size -BM / | tail -n 1 | tr -d M) -gt 3000 && echo grown": "grown",
    "systemctl --failed --no-legend | wc -l": "0",
    "sudo grep WARN /var/log/cloud-init.log | wc -l": "0",
}


def check_is_cloud_image(guest, **more):
    facts = {**FACTS, **more}
    lines = guest.do("\n".join(f"({command}) || echo failed" for command in facts)).splitlines()
    assert dict(zip(facts, lines)) == facts


@pytest.mark.parametrize("boot", ["kernel", "uefi", "bios"])
def test_boot(work, boot):
    port = free_port()
    guest = Guest(work, (), f"user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22", "127.0.0.1", port)
    with Metadata("127.0.0.1", guest.seed()) as metadata:
        try:
            guest.start(boot, metadata.url("10.0.2.2"))
            guest.await_ssh()
            check_is_cloud_image(guest)
            assert metadata.asked == ["/meta-data", "/user-data", "/vendor-data"]
            # Neither GRUB nor the kernel complains, about the missing display or anything else.
            assert "error" not in guest.console() and "blind mode" not in guest.console()
        finally:
            guest.stop()
            metadata.shutdown()


def test_ipv6_only(work):
    network = Network6()
    try:
        network.start()
        guest = Guest(work, network.enter, "tap,id=net,ifname=tap,script=no,downscript=no", ADDRESS6)
        with enter_netns(network.netns):
            metadata = Metadata(METADATA6, guest.seed())
        with metadata:
            try:
                guest.start("kernel", metadata.url(f"[{METADATA6}]"))
                guest.await_ssh()
                check_is_cloud_image(guest, **{"resolvectl dns | grep -o '2001:db8:.*'": DNS6})
                assert network.leases >= 1
            finally:
                guest.stop()
                metadata.shutdown()
    finally:
        network.stop()
