# SPDX-License-Identifier: Apache-2.0
"""scripts/check-layers on small trees: which includes it refuses, and that it says where they are."""

import os
import shutil
import subprocess

import pytest
from harness import ROOT

ALONE = ("bpf", "service", "hw", "rdma", "storage", "boot")  # planned layers that know no API


def check(directory, files):
    """Output and exit status for a tree whose files below src/ have the includes in FILES."""
    os.makedirs(f"{directory}/scripts")
    shutil.copy(f"{ROOT}/scripts/check-layers", f"{directory}/scripts/check-layers")
    for path, includes in files.items():
        os.makedirs(os.path.dirname(f"{directory}/src/{path}"), exist_ok=True)
        with open(f"{directory}/src/{path}", "w") as f:
            f.write("/* A comment. */\n" + "".join(f'#include "{i}"\n' for i in includes))
    done = subprocess.run([f"{directory}/scripts/check-layers"], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.splitlines(), done.returncode


@pytest.mark.parametrize(
    "path, target",
    [
        ("base/a.c", "api/api.h"),
        ("net/a.c", "api/api.h"),
        ("kube/a.h", "apiserver/server.h"),
        ("apiserver/server.c", "kube/client.h"),
        ("apiserver/write/a.c", "kube/client.h"),
        ("apiserver/json/a.c", "apiserver/store/store.h"),
        ("apiserver/store/a.c", "apiserver/request/stats.h"),
        ("apiserver/request/a.h", "apiserver/auth/authn.h"),
        ("apiserver/auth/a.c", "apiserver/write/stage.h"),
        ("apiserver/read/a.c", "apiserver/write/stage.h"),
        ("apiserver/write/a.c", "apiserver/read/watch.h"),
        ("apiserver/write/a.c", "apiserver/schema/discovery.h"),
        ("apiserver/schema/a.c", "apiserver/read/watch.h"),
        ("apiserver/schema/a.c", "apiserver/http/http.h"),
        ("apiserver/http/a.c", "apiserver/server.h"),
        ("controller/a.c", "apiserver/json/tree.h"),
        *((f"{layer}/a.c", f"{known}/a.h") for layer in ALONE for known in ("api", "kube", "apiserver", "controller")),
        *((f"{layer}/a.c", "apiserver/json/tree.h") for layer in ALONE),
    ],
)
def test_forbidden(tmp_path, path, target):
    said, rc = check(tmp_path, {path: ["base/util.h", target], "base/util.h": []})
    layer = os.path.dirname(path)
    assert rc == 1
    assert len(said) == 1 and said[0].startswith(f"src/{path}:3: {layer} must not include {os.path.dirname(target)}")


def test_allowed(tmp_path):
    files = {
        "base/util.h": [],
        "apiserver/json/tree.h": ["base/util.h", "api/api.h"],
        "apiserver/fields/typed.c": ["apiserver/json/tree.h", "apiserver/fields/typed.h"],
        "apiserver/read/read.c": ["apiserver/auth/auth.h", "apiserver/read/watch.h"],
        "apiserver/http/http.c": ["apiserver/read/read.h", "apiserver/write/write.h", "apiserver/schema/other.h"],
        "apiserver/server.c": ["apiserver/http/http.h", "apiserver/json/tree.h", "apiserver/server.h"],
        "cmd/nacre-apiserver.c": ["apiserver/server.h", "apiserver/store/store.h"],
        "net/overlay.c": ["bpf/nat.h", "service/nat.h"],
        "node/gpu.c": ["hw/pci.h", "rdma/rdma.h", "storage/volume.h", "boot/netboot.h", "kube/client.h"],
        "console/console.c": ["kube/client.h"],
        **{f"{layer}/a.c": ["base/util.h", f"{layer}/a.h"] for layer in ALONE},
    }
    assert check(tmp_path, files) == ([], 0)


def test_unknown_folders(tmp_path):
    said, rc = check(tmp_path, {"base/util.h": ["nowhere/a.h"], "apiserver/attic/a.c": [], "toys/a.c": []})
    assert rc == 1
    assert sorted(said) == [
        "src/apiserver/attic/ is no layer of scripts/check-layers",
        "src/base/util.h:2: nowhere is no layer of scripts/check-layers",
        "src/toys/ is no layer of scripts/check-layers",
    ]


def test_no_folder_is_named(tmp_path):
    said, rc = check(tmp_path, {"base/a.c": ["util.h"]})
    assert (said, rc) == (["src/base/a.c:2: util.h is no layer of scripts/check-layers"], 1)
