# SPDX-License-Identifier: Apache-2.0
"""An object can be sent back as it was read, and errors in large bodies are reported."""

import json

import pytest
from apilib import instance
from tenant import CONFIGMAPS, OF_RED, ask, make

APPLY = "application/apply-patch+yaml"


@pytest.mark.parametrize("type", ["application/json", "application/yaml"])
def test_back_as_it_was_read(server, type):
    """6,000 values are 12,000 with managedFields."""
    make(server)
    obj = {"metadata": {"name": "m", "namespace": "red"}, "data": {f"k{i}": "" for i in range(4000)}}
    assert ask(server, "POST", CONFIGMAPS, obj).status == 201
    obj["binaryData"] = {f"l{i}": "" for i in range(2000)}
    assert ask(server, "PUT", CONFIGMAPS + "/m", obj).status == 200
    now = ask(server, "GET", CONFIGMAPS + "/m").json
    assert len(now["metadata"]["managedFields"]) == 1 and len(json.dumps(now)) < 1 << 20
    now["data"]["k1"] = "other"
    a = ask(server, "PUT", CONFIGMAPS + "/m", now, type)
    assert a.status == 200 and a.json["data"]["k1"] == "other", a.text[:300]
    assert ask(server, "DELETE", CONFIGMAPS + "/m").status == 200
    del now["metadata"]["resourceVersion"], now["metadata"]["uid"]
    assert ask(server, "POST", CONFIGMAPS, now, type).status == 201


def test_large_json_applied(server):
    """The error is that of the JSON, not that YAML may not be so large."""
    make(server)
    assert ask(server, "POST", OF_RED, instance("a", "red")).status == 201
    text = json.dumps(instance("a", "red", x="y" * (1 << 20)))
    for broken, word in ((text[:-1], "the body can't be read: invalid JSON"),
                         (text[:-1] + ',"kind":"Instance"}', "an object has a member twice")):
        a = ask(server, "PATCH", OF_RED + "/a?fieldManager=m", broken, APPLY)
        assert a.status == 400 and word in a.text, a.text[:300]
