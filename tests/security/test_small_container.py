# SPDX-License-Identifier: Apache-2.0
"""Rulesets work without names of protocols and services, as in a small container."""

import os

import pytest
from harness import ROOT, run

BUILD = os.environ.get("NACRE_BUILD", "build")
EMPTY = "for f in /etc/protocols /etc/services; do [ ! -e $f ] || mount --bind /dev/null $f; done; exec \"$@\""


def where_names_are_unknown(*argv):
    return run("unshare", "--mount", "sh", "-c", EMPTY, "sh", *argv, check=False)


def test_the_names_are_gone():
    assert where_names_are_unknown("getent", "protocols", "icmp").returncode != 0
    # The cause: nft(8) looks this name up.
    p = where_names_are_unknown("nft", "-c", "add table inet t; add chain inet t c; add rule inet t c meta l4proto ipv6-icmp")
    assert p.returncode != 0


@pytest.mark.parametrize("program", ["net/test-net", "node/test-instnet"])
def test_rulesets(program):
    """These programs make the rulesets of `public` and of a container in namespaces of their own."""
    p = where_names_are_unknown(os.path.join(ROOT, BUILD, "src", program))
    assert p.returncode == 0, p.stdout + p.stderr
