# SPDX-License-Identifier: Apache-2.0
"""
Network namespaces by name. The name is a file in /run/netns before the namespace is mounted on it, and again for a moment
when it is deleted (ip-netns(8) and src/net/netns.c both do it like that), so that "the file exists" tells nothing.
"""

import fcntl
import os

from harness import until

DIRECTORY = "/run/netns"
NS_GET_NSTYPE, CLONE_NEWNET = 0xB703, 0x40000000  # ioctl_ns(2)


def is_usable(name):
    try:
        with open(f"{DIRECTORY}/{name}") as f:
            return fcntl.ioctl(f.fileno(), NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:  # not there, or not mounted
        return False


def await_usable(name, seconds=20):
    until(f"network namespace {name} can be entered", lambda: is_usable(name), seconds)


def is_gone(name):
    """Nothing of it is left, not even the name."""
    return not os.path.lexists(f"{DIRECTORY}/{name}")
