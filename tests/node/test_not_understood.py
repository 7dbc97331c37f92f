# SPDX-License-Identifier: Apache-2.0
"""Objects that another version wrote and that this agent can't read. After its restart an Instance seems to be missing,
but its machine, its network, its Endpoint and its disk stay as they were."""

import json
import os
import re
import signal
import time

import netns
import pytest
from nodelib import GROUP, cloud, images, rewriter, run, until  # noqa: F401 (three are fixtures)

INSTANCES = f"{GROUP}/namespaces/t/instances"


def touch(cloud, path):
    status, data = cloud.request("PATCH", path, {"metadata": {"annotations": {"touched": str(time.time())}}},
                                 "application/merge-patch+json")
    assert status == 200, data


def vanish(cloud, name):
    """The Instance is deleted without waiting for its finalizer."""
    cloud.request("DELETE", f"{INSTANCES}/{name}")
    cloud.request("PATCH", f"{INSTANCES}/{name}", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    assert cloud.instance(name) is None


def machines(*guests):
    return [g.pids("qemu-system-x86_64") for g in guests]


def endpoint_of(cloud, guest):
    status, data = cloud.request("GET", f"{GROUP}/endpoints/i-{guest.uid}")
    return data["metadata"] if status == 200 else None


def routes_of(cloud, guest):
    """On this host."""
    return sorted(line for line in run("ip", "-6", "-n", cloud.public, "route").splitlines() if str(guest.net) in line)


def deliveries(cloud):
    """The MACs to which frames out of the overlay are delivered on this host."""
    program = re.search(r"nacre_deliver.* id (\d+)", run("tc", "-n", cloud.public, "filter", "show", "dev", "overlay", "ingress"))
    maps = json.loads(run("bpftool", "-j", "prog", "show", "id", program.group(1)))["map_ids"]
    (table,) = [m for m in maps if json.loads(run("bpftool", "-j", "map", "show", "id", str(m)))["name"] == "devices"]
    entries = json.loads(run("bpftool", "-j", "map", "dump", "id", str(table)))
    return sorted(":".join(byte[2:] for byte in e["key"][:6]) for e in entries)


def is_removed(cloud, guest):
    return not os.path.exists(guest.dir) and netns.is_gone(guest.netns) and not endpoint_of(cloud, guest)


# What has no id may be any machine that nobody knows.
@pytest.mark.parametrize("has_id", [True, False])
def test_instance(cloud, rewriter, has_id):
    name, other = f"web-{has_id}".lower(), f"orphan-{has_id}".lower()
    cloud.create(name, "lab", ingress=[{"protocol": "tcp", "port": 80}])
    cloud.create(other, "lab")
    web, orphan = (cloud.wait(n, "Running", 90) for n in (name, other))
    before, endpoint = machines(web, orphan), endpoint_of(cloud, web)
    assert endpoint
    cloud.kill("node")
    cloud.kill("controller")
    vanish(cloud, other)
    rewriter.changes = {b'"protocol":"tcp"': b'"protocol":"tcq"', **({} if has_id else {b'"id":"': b'"xd":"'})}
    cloud.start_node_behind(rewriter)
    cloud.wait_node()
    until("an operator can learn of it", lambda: cloud.not_understood() == 1)
    fault = f'what="Instance t/{name}" error="not understood, left as it was: spec.ingress[0].protocol: must be one of '
    assert fault in cloud.node_log()
    if has_id:
        until("what can't be the Instance is removed", lambda: is_removed(cloud, orphan))
    run("ip", "netns", "add", f"{cloud.host}-i-0123456789ab")
    touch(cloud, f"{INSTANCES}/{name}")
    assert cloud.not_understood() == 1
    assert machines(web) == before[:1] and endpoint_of(cloud, web) == endpoint
    assert has_id or machines(orphan) == before[1:]
    # The reason is the same in each version of the object.
    assert cloud.node_log().count(fault) == 1
    if has_id:
        vanish(cloud, name)
    else:
        rewriter.changes = {}
        touch(cloud, f"{INSTANCES}/{name}")
    until("what was kept for it is removed", lambda: is_removed(cloud, web if has_id else orphan))
    until("leftovers are removed", lambda: netns.is_gone(f"{cloud.host}-i-0123456789ab"))
    until("an operator can learn of it", lambda: cloud.not_understood() == 0)
    assert f'msg="well" what="Instance t/{name}"' in cloud.node_log()
    if not has_id:
        assert machines(web) == before[:1] and endpoint_of(cloud, web) == endpoint
        cloud.start_controller()
        cloud.delete(name)


def test_endpoint(cloud, rewriter):
    cloud.create("end", "lab")
    web = cloud.wait("end", "Running", 90)
    endpoint, routes = endpoint_of(cloud, web), until("it has routes", lambda: routes_of(cloud, web))
    mac = cloud.instance("end")["status"]["mac"]
    until("frames are delivered to it", lambda: mac in deliveries(cloud))
    cloud.kill("node")
    rewriter.changes = {b'{"prefix":"2001': b'{"prefix":"z001'}
    cloud.start_node_behind(rewriter)
    cloud.wait_node()
    until("an operator can learn of it", lambda: cloud.not_understood() == 1)
    assert f'what="Endpoint i-{web.uid}" error="not understood, left as it was: spec.routes[0].prefix: ' in cloud.node_log()
    assert routes_of(cloud, web) == routes
    time.sleep(4)  # a look or two of the agent at its host
    assert mac in deliveries(cloud)
    (pid,) = machines(web)[0]
    os.kill(pid, signal.SIGKILL)
    until("the agent goes on to report", lambda: cloud.instance("end")["status"].get("restarts"))
    cloud.wait("end", "Running", 90)
    assert endpoint_of(cloud, web) == endpoint
    # Its name says that it is the agent's.
    cloud.delete("end")
    assert is_removed(cloud, web)
    until("its routes are gone", lambda: not routes_of(cloud, web))
    until("nothing is delivered to it", lambda: mac not in deliveries(cloud))
    until("an operator can learn of it", lambda: cloud.not_understood() == 0)


def test_image(cloud, rewriter):
    cloud.create("old", "lab")
    web = cloud.wait("old", "Running", 90)
    before = machines(web)
    cloud.kill("node")
    rewriter.changes = {b'"kernel":"vmlinuz"': b'"kernel":700000000'}
    cloud.start_node_behind(rewriter)
    cloud.wait_node()
    cloud.create("new", "lab")
    cloud.wait("new", "Invalid")
    assert cloud.ready("new")["message"] == "Image `lab` is not understood by the host's agent, whose log names the field"
    assert 'what="Image lab" error="not understood, left as it was: spec.kernel.kernel: must be a string' in cloud.node_log()
    rewriter.changes = {}
    touch(cloud, f"{GROUP}/images/lab")
    cloud.wait("new", "Running", 90)
    assert machines(web) == before
    cloud.delete("new")
    cloud.delete("old")
