# SPDX-License-Identifier: Apache-2.0
"""Exchanges with a server of the Kubernetes API, recorded so that two servers can be compared.

A topic is a function in exchanges/TOPIC.py that sends requests by a Script. kube-apiserver's answers are in
exchanges/TOPIC.jsonl, one exchange in each line. Values that differ between runs are replaced: times, uids, generated
names, tokens, and versions. A version is named after the exchange that showed it first, which reveals whether a write made
a new version."""

import contextlib
import http.client
import importlib
import json
import os
import pkgutil
import re
import socket
import threading
import time
import urllib.parse

from apilib import JSONPATCH, MERGE, G
from harness import patient

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exchanges")
APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
TIMES = {"creationTimestamp", "deletionTimestamp", "time", "expirationTimestamp"}
CLUSTER_KINDS = ("instancetypes", "images", "hosts", "endpoints", "addresspools", "allocations",
                 "allocationrecords", "edgepeers")


def topics():
    return sorted(m.name for m in pkgutil.iter_modules([HERE]))


def recording(topic):
    path = os.path.join(HERE, topic + ".jsonl")
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [json.loads(line) for line in f]


def record(topic, said):
    with open(os.path.join(HERE, topic + ".jsonl"), "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in said)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=240):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Normaliser:
    """Replaces values that differ between runs. The same value always gets the same replacement."""

    def __init__(self):
        self.versions, self.uids, self.names = {}, {}, {}
        self.at, self.fresh = 0, {}

    def begin(self, at):
        """Names values that are new from here on after exchange `at`, so that one difference doesn't shift all later
        ones."""
        self.at, self.fresh = at, {}

    def _first_seen(self, seen, value, word):
        if value not in seen:
            self.fresh[word] = self.fresh.get(word, 0) + 1
            seen[value] = f"{self.at}.{self.fresh[word]}"
        return f"<{word} {seen[value]}>"

    def text(self, s):
        for name, word in self.names.items():
            s = s.replace(name, word)
        for uid, n in self.uids.items():
            s = s.replace(uid, f"<uid {n}>")
        s = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>", s)
        # If several bindings allow it, the server names a random one.
        s = re.sub(r"^RBAC: allowed by .*", "RBAC: allowed by <binding>", s)
        s = re.sub(r"too old resource version: \d+ \(\d+\)", "too old resource version: <old> (<oldest>)", s)
        s = re.sub(r"Too large resource version: \d+, current: \d+", "Too large resource version: <n>, current: <n>", s)
        return re.sub(r"in the precondition \(\d+\) does not match the ResourceVersion in record \(\d+\)",
                      "in the precondition (<n>) does not match the ResourceVersion in record (<n>)", s)

    def value(self, v, path=()):
        key = path[-1] if path else None
        if isinstance(v, dict):
            meta = v.get("metadata")
            if isinstance(meta, dict) and meta.get("generateName") and meta.get("name", "").startswith(meta["generateName"]):
                self.names.setdefault(meta["name"], meta["generateName"] + f"<random {self.at}>")
            if v.get("kind") == "Table":
                dates = [i for i, c in enumerate(v.get("columnDefinitions") or []) if c["name"] in ("Age", "Last Seen")]
                for row in v.get("rows") or []:
                    row["cells"] = ["<age>" if i in dates else c for i, c in enumerate(row["cells"])]
            is_list = "items" in v or v.get("kind") == "Table"
            return {self.text(k): self.value(c, (*path, "listmeta" if is_list and k == "metadata" else k))
                    for k, c in v.items()}
        if isinstance(v, list):
            return [self.value(c, (*path, i)) for i, c in enumerate(v)]
        if not isinstance(v, str):
            return v
        if key == "resourceVersion":
            # The version of a list is the store's version, which other writers change.
            return "<version>" if path[-2:-1] == ("listmeta",) else self._first_seen(self.versions, v, "version") if v else v
        if key == "uid" and re.fullmatch(r"[0-9a-f-]{36}", v):
            return self._first_seen(self.uids, v, "uid")
        if key == "continue" and v:
            return "<continue>"
        if key in TIMES and re.match(r"\d{4}-\d\d-\d\dT", v):
            return "<time>"
        return self.text(v)


class Stream:
    def __init__(self, conn, response):
        self.conn, self.response, self.status, self.events, self.taken = conn, response, response.status, [], 0
        self.closed = False
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            while line := self.response.readline():
                event = json.loads(line)
                # The server may send bookmarks at any time, except the one that ends the initial events.
                if event.get("type") != "BOOKMARK" or event["object"]["metadata"].get("annotations"):
                    self.events.append(event)
        self.closed = True

    def take(self, n=None, seconds=15):
        """The next n events, or those that came in time. Without n: all events until the server ends the stream."""
        deadline = time.monotonic() + patient(seconds)
        while time.monotonic() < deadline and not self.closed and (n is None or len(self.events) < self.taken + n):
            time.sleep(0.005)
        new = self.events[self.taken:self.taken + n if n is not None else None]
        self.taken += len(new)
        return new

    def close(self):
        with contextlib.suppress(OSError, AttributeError):
            self.conn.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(60)
        self.conn.close()


class Script:
    """Sends requests to one server and records the exchanges. The methods return the answer's JSON as it came. In paths
    $I is the topic's instances, $C its clusters, $N its namespace in api/v1, $G the group nacre.dev, $ns the
    namespace's name. `differs` names the known differences of this exchange; docs/apiserver.md has the reasons."""

    def __init__(self, topic, connect):
        self.topic, self.connect = topic, connect
        self.ns = "x-" + topic.replace("_", "-")
        self.exchanges, self.streams, self.normal, self.differs = [], {}, Normaliser(), {}

    def path(self, path):
        for short, long in (("$I", f"{G}/namespaces/{self.ns}/instances"), ("$C", f"{G}/namespaces/{self.ns}/clusters"),
                            ("$N", f"/api/v1/namespaces/{self.ns}"),
                            ("$G", G), ("$ns", self.ns)):
            path = path.replace(short, long)
        return path

    def send(self, method, path, body=None, type="application/json", accept=None, headers=None, conn=None):
        conn = conn or self.connect()
        h = {"User-Agent": "exchange/1", "Accept": accept or "application/json", **(headers or {})}
        if body is not None:
            body = body if isinstance(body, (bytes, str)) else json.dumps(body)
            body = body.encode() if isinstance(body, str) else body
            if type:
                h["Content-Type"] = type
        conn.request(method, self.path(path), body, h)
        return conn.getresponse()

    def _record(self, what, status, headers, body, differs):
        self.normal.begin(len(self.exchanges))
        r = {"do": self.normal.text(what), "status": status}
        for name in ("Content-Type", "Warning", "Retry-After", "Allow"):
            values = headers.get_all(name) if headers else None
            if values:
                r[name] = [self.normal.text(v) for v in values]
        r["body"] = self.normal.value(body)
        if differs:
            self.differs[len(self.exchanges)] = (differs,) if isinstance(differs, str) else differs
        self.exchanges.append(r)

    def do(self, method, path, body=None, differs=None, only=None, **kw):
        """`only` selects the part of the answer's body that is recorded."""
        response = self.send(method, path, body, **kw)
        text = response.read().decode("utf-8", "replace")
        response.close()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text
        kept = json.loads(text) if isinstance(answer, dict) else answer
        self._record(self.short(method, path), response.status, response.headers,
                     only(kept) if only and response.status < 400 else kept, differs)
        return answer

    @staticmethod
    def short(method, path):
        what = f"{method} {urllib.parse.unquote_plus(path)}"
        what = re.sub(r"resourceVersion=[1-9]\d*", "resourceVersion=N", re.sub(r"continue=[^&]{9,}", "continue=TOKEN", what))
        return what if len(what) < 160 else what[:157] + "..."

    def get(self, path, **kw):
        return self.do("GET", path, **kw)

    def post(self, path, body, **kw):
        return self.do("POST", path, body, **kw)

    def put(self, path, body, **kw):
        return self.do("PUT", path, body, **kw)

    def merge(self, path, body, **kw):
        return self.do("PATCH", path, body, type=MERGE, **kw)

    def jsonpatch(self, path, body, **kw):
        return self.do("PATCH", path, body, type=JSONPATCH, **kw)

    def apply(self, path, body, **kw):
        return self.do("PATCH", path, body, type=APPLY, **kw)

    def strategic(self, path, body, **kw):
        return self.do("PATCH", path, body, type=STRATEGIC, **kw)

    def delete(self, path, body=None, **kw):
        return self.do("DELETE", path, body, **kw)

    def watch(self, path, name="watch", differs=None, accept=None, **params):
        """Opens a watch; events() records its events."""
        params = {"watch": "true", **params}
        full = f"{path}{'&' if '?' in path else '?'}{urllib.parse.urlencode(params)}"
        conn = self.connect()
        response = self.send("GET", full, accept=accept, conn=conn)
        shown = {k: "N" if k == "resourceVersion" and v not in ("", "0") else v for k, v in params.items()}
        what = f"GET {path}?{urllib.parse.unquote(urllib.parse.urlencode(shown))}"
        if response.status != 200:
            body = response.read().decode()
            with contextlib.suppress(ValueError):
                body = json.loads(body)
            self._record(what, response.status, response.headers, body, differs)
            return
        self._record(what, 200, response.headers, None, differs)
        self.streams[name] = Stream(conn, response)

    def events(self, n=None, name="watch", differs=None, seconds=15):
        events = self.streams[name].take(n, seconds) if name in self.streams else None
        self._record(f"events of {name}: {'all' if n is None else n}", None, None, json.loads(json.dumps(events)), differs)
        return events or []

    def close(self):
        for name, s in self.streams.items():
            s.close()
            rest = s.events[s.taken:]
            if rest:
                self._record(f"events of {name}: left at the end", None, None, rest, None)
        self.streams = {}

    def clean(self):
        """Deletes all objects of a topic; removes their finalizers first."""
        for kind in [f"{G}/{k}" for k in CLUSTER_KINDS] + [f"{G}/namespaces/{self.ns}/{k}" for k in ("instances", "clusters", "firewalls")]:
            items = json.loads(self.send("GET", kind).read()).get("items", [])
            for o in items:
                path = f"{kind}/{o['metadata']['name']}"
                if o["metadata"].get("finalizers"):
                    self.send("PATCH", path, {"metadata": {"finalizers": None}}, type=MERGE).read()
                self.send("DELETE", path, {"propagationPolicy": "Background"}).read()


def play(topic, connect):
    """Sends a topic's requests. Returns the Script; if an error stopped it, the last exchange is that error."""
    function = importlib.import_module("exchanges." + topic).topic
    s = Script(topic, connect)
    s.send("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": s.ns}}).read()
    try:
        s.clean()
        function(s)
    except (KeyError, IndexError, TypeError, OSError, http.client.HTTPException) as e:
        s.exchanges.append({"do": "stopped", "status": None, "body": repr(e)})
    finally:
        s.close()
        s.clean()
    return s


# Differences that occur in any exchange; compare() and test_random.py ignore them.
GENERAL = {"wording", "item-kinds", "managed-lost", "idle-version"}

# Reasons of errors whose messages may be worded differently. For other reasons the messages are compared too.
WORDED = {"Invalid", "BadRequest", "UnsupportedMediaType", "MethodNotAllowed", "RequestEntityTooLarge", "NotAcceptable", None}


def without(v, *paths):
    """V without the given members; each is given as (name,) or (name of the parent, name)."""
    def walk(v, inside):
        if isinstance(v, dict):
            return {k: walk(c, k) for k, c in v.items() if (k,) not in paths and (inside, k) not in paths}
        return [walk(c, inside) for c in v] if isinstance(v, list) else v
    return walk(v, None)


def owner(entry):
    return [entry.get(n, "") for n in ("manager", "operation", "subresource")]


def ordered(v):
    """V with sorted managedFields, so that the time at which each entry was written doesn't matter."""
    if isinstance(v, dict):
        return {k: sorted(c, key=owner) if k == "managedFields" and isinstance(c, list) else ordered(c) for k, c in v.items()}
    return [ordered(c) for c in v] if isinstance(v, list) else v


def plain(record):
    """A record without what compare() ignores; docs/apiserver.md explains it under the keys of GENERAL."""
    body = ordered(without(record.get("body"), ("columnDefinitions", "description")))
    record = {k: sorted(v) if k == "Warning" else v for k, v in record.items()}
    if not isinstance(body, dict):
        return {**record, "body": body}
    if body.get("details") == {}:
        del body["details"]
    if isinstance(body.get("details"), dict) and "causes" in body["details"]:
        # kube-apiserver's order is random.
        body["details"] = {**body["details"], "causes": sorted(body["details"]["causes"], key=str)}
    if isinstance(body.get("metadata"), dict) and body["metadata"].get("continue") == "":
        body["metadata"] = {k: v for k, v in body["metadata"].items() if k != "continue"}
    if (record.get("status") or 0) >= 400 and body.get("reason") in WORDED:
        body.pop("message", None)
        details = dict(body.get("details") or {})
        causes = []
        for c in details.get("causes") or []:
            c = {k: v for k, v in c.items() if k != "message"}
            # kube-apiserver repeats some causes, and adds one that says that it gave up.
            if c not in causes and c.get("field") != "<nil>":
                causes.append(c)
        if causes:
            details["causes"] = sorted(causes, key=str)
        if details:
            body["details"] = details
    return {**record, "body": body}


def difference(want, got, path):
    """The paths at which two values differ, with both values."""
    if isinstance(want, dict) and isinstance(got, dict):
        return [d for k in [*want, *(k for k in got if k not in want)]
                for d in difference(want.get(k, "(absent)"), got.get(k, "(absent)"), f"{path}.{k}" if path else k)]
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        return [d for i, (a, b) in enumerate(zip(want, got)) for d in difference(a, b, f"{path}[{i}]")]
    return [] if want == got else [f"{path}: {json.dumps(want)} there, {json.dumps(got)} here"]


def compare(want, got):
    """The differences between two records of one exchange."""
    return difference(plain(want), plain(got), "")
