# SPDX-License-Identifier: Apache-2.0
"""What a zebra that was started while its bgpd was running knows of BGP."""

import re

from harness import output

# For so long zebra keeps the routes of a killed predecessor (src/net/frr.c).
STALE_ROUTES_S = 120


def routes_given(directory):
    """How many IPv4 and IPv6 routes bgpd has given to the zebra of that directory since zebra was started."""
    found = re.search(r"^bgp .* (\d+)/\d+ +(\d+)/\d+ *$", output(
        "vtysh", "--vty_socket", directory, "-d", "zebra", "-c", "show zebra client summary"), re.M)
    return tuple(map(int, found.groups())) if found else (0, 0)
