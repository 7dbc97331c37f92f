# SPDX-License-Identifier: Apache-2.0
"""What the kernel has in a network namespace, in a form that is equal if the configuration is: no counters, handles,
numbers of devices, nor what packets have put there."""

import json
import os
import re

from harness import output as run

# Change by themselves, or can't be read.
UNSTABLE = ("nf_conntrack_count", "stable_secret")
TREES = ("ipv4/conf", "ipv6/conf", "netfilter")


def settings():
    """Of the namespace of the thread that calls this."""
    found = {}
    for tree in TREES:
        for d, _, names in os.walk(f"/proc/sys/net/{tree}"):
            for name in names:
                path = f"{d}/{name}"
                if name in UNSTABLE:
                    continue
                try:
                    with open(path, encoding="ascii") as f:
                        found[path] = f.read().strip()
                except OSError:  # can't be read, or the device has gone
                    pass
    return found


def clean(row, nexthops):
    """Without numbers that the kernel or a program chose; NEXTHOPS says what those of nexthops mean."""
    if isinstance(row, list):
        return [clean(r, nexthops) for r in row]
    if not isinstance(row, dict):
        return row
    # The user of a tap is any that no other instance has.
    return {k: nexthops.get(v, v) if k in ("id", "nhid") else clean(v, nexthops) for k, v in row.items()
            if k not in ("ifindex", "link_index", "link_netnsid", "user", "valid_life_time")}


def names_of_nexthops(found):
    names = {n["id"]: f"{n['gateway']} {n['dev']}" for n in found if "gateway" in n}
    for n in found:
        if "group" in n:
            names[n["id"]] = " or ".join(sorted(names[m["id"]] for m in n["group"]))
    return names


LISTS = {"nexthops": "nexthop", "routes": "route show table all", "neighbours": "neigh show nud permanent",
         "devices": "addr"}


def rules(netns):
    """The tables in the order of their names. The firewall's has one of two names in turn (src/node/firewall.h)."""
    listed = run("nsenter", f"--net=/run/netns/{netns}", "nft", "-s", "-t", "list", "ruleset")
    return sorted(re.split(r"^(?=table )", listed.replace("nacre_firewall2", "nacre_firewall"), flags=re.M))


def of_netns(netns, inside):
    """INSIDE is a function that calls another in a namespace."""
    listed = run("ip", "-n", netns, "-d", "-j", "-batch", "-", input="\n".join(LISTS.values())).splitlines()
    found = dict(zip(LISTS, map(json.loads, listed), strict=True))
    found["forwarding entries"] = json.loads(run("bridge", "-n", netns, "-j", "fdb", "show") or "[]")
    nexthops = names_of_nexthops(found["nexthops"])
    return {
        **{what: sorted(json.dumps(clean(row, nexthops), sort_keys=True) for row in rows) for what, rows in found.items()},
        "rules": rules(netns),
        "settings": inside(netns, settings),
    }
