# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by name. The name is a file in /run/netns that exists before the namespace is mounted on it, and
for a moment after the namespace is unmounted (in ip-netns(8) and in src/net/netns.c). So an existing file doesn't mean
that the namespace exists."""

import fcntl
import os

from harness import until

DIRECTORY = "/run/netns"
NS_GET_NSTYPE, CLONE_NEWNET = 0xB703, 0x40000000  # ioctl_ns(2)


def is_usable(name):
    try:
        with open(f"{DIRECTORY}/{name}") as f:
            return fcntl.ioctl(f.fileno(), NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:  # missing, or not mounted
        return False


def await_usable(name, seconds=20):
    until(f"network namespace {name} can be entered", lambda: is_usable(name), seconds)


def is_gone(name):
    """Neither the namespace nor its name exists."""
    return not os.path.lexists(f"{DIRECTORY}/{name}")
