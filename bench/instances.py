# SPDX-License-Identifier: Apache-2.0
"""Measures an Instance in a lab, from `create` to its first answered ping from the internet side."""

import json
import os
import select
import socket
import struct
import threading
import time

from lib import Api, UnixConnection, in_netns, wait


def in_thread(ns, fn, *args):
    """Runs FN in a thread that lives in namespace NS; returns (thread, result list)."""
    result = []

    def run():
        in_netns(ns)
        result.append(fn(*args))

    th = threading.Thread(target=run, daemon=True)
    th.start()
    return th, result


def ping_until_answered(address, stop, timeout=120):
    """Sends an echo request every 10 ms. Returns the time of the first answer."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    s.setblocking(False)
    end, seq = time.monotonic() + timeout, 0
    target = address()
    while not target and not stop.is_set():
        time.sleep(0.002)
        target = address()
    while time.monotonic() < end and not stop.is_set():
        seq += 1
        try:
            s.sendto(struct.pack("!BBHHH", 128, 0, 0, os.getpid() & 0xFFFF, seq & 0xFFFF) + b"nacre", (target, 0))
        except OSError:
            pass
        if select.select([s], [], [], 0.01)[0]:
            while True:
                try:
                    data, peer = s.recvfrom(2048)
                except BlockingIOError:
                    break
                if data[0] == 129 and peer[0] == target:
                    return time.monotonic()
    return None


def first_ping(lab, name):
    """Makes an Instance in LAB, waits for its first answered ping, deletes it. Returns seconds since the create, by
    stage."""
    sock = f"/run/nacre-lab/{lab}/api.sock"
    base = "/apis/nacre.dev/v1alpha1/namespaces/demo/instances"
    stages, address, stop = {}, [], threading.Event()
    conn = UnixConnection(sock)
    version = Api(sock).json("GET", base)["metadata"]["resourceVersion"]
    conn.request("GET", f"{base}?watch=1&resourceVersion={version}&fieldSelector=metadata.name={name}")
    stream = conn.getresponse()

    def follow():
        for line in stream:
            now, obj = time.monotonic(), json.loads(line)["object"]
            st = obj.get("status", {})
            if st.get("address"):
                stages.setdefault("addresses", now)
                if not address:
                    address.append(st["address"])
            if st.get("host"):
                stages.setdefault("bound", now)
            if st.get("phase") == "Running":
                stages.setdefault("running", now)
            if any(c["type"] == "Ready" and c["status"] == "True" for c in st.get("conditions", [])):
                stages.setdefault("ready", now)

    threading.Thread(target=follow, daemon=True).start()
    th, result = in_thread(f"nl-{lab}-internet", ping_until_answered, lambda: address and address[0], stop)
    t0 = time.monotonic()
    body = {
        "apiVersion": "nacre.dev/v1alpha1",
        "kind": "Instance",
        "metadata": {"name": name},
        "spec": {"type": "small", "image": "lab", "ingress": [{"protocol": "icmp"}]},
    }
    api = Api(sock)
    api.request("POST", base, body)
    stages["created"] = time.monotonic()
    th.join(130)
    stop.set()
    stages["answered"] = result[0]
    api.request("DELETE", f"{base}/{name}")
    wait("the instance to go", lambda: not api.json("GET", base + f"?fieldSelector=metadata.name={name}")["items"], 60)
    return {k: v - t0 for k, v in stages.items()}
