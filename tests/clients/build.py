# SPDX-License-Identifier: Apache-2.0
"""Builds the clients from their package registries, by the lock files here. The results are kept outside the tree, and
made again when a source or a lock file has changed."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.environ.get("NACRE_CLIENTS", os.path.join(os.environ.get("XDG_CACHE_HOME", "/var/cache"), "nacre", "clients"))


def _run(*argv, cwd, **env):
    p = subprocess.run(["nice", "-n", "10", *argv], cwd=cwd, env={**os.environ, **env}, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=7200)
    assert p.returncode == 0, p.stdout[-8000:]


def _copy(source, work):
    """Copies the sources, since the tools write beside them."""
    shutil.copytree(source, work, dirs_exist_ok=True)


def _go(source, out, package, name):
    _run("go", "build", "-o", os.path.join(out, name), package, cwd=source, GOFLAGS="-mod=readonly", GOTOOLCHAIN="local")


def controller(source, out):
    _go(source, out, "./controller", "controller")


def helm(source, out):
    _go(source, out, "helm.sh/helm/v3/cmd/helm", "helm")


def rust(source, out):
    _run("cargo", "build", "--locked", "--manifest-path", os.path.join(source, "Cargo.toml"), cwd=out,
         CARGO_TARGET_DIR=os.path.join(out, "target"))


def java(source, out):
    _run("mvn", "--batch-mode", "-q", f"-Dout={out}/target", "-f", os.path.join(source, "pom.xml"), "compile",
         "dependency:copy-dependencies", f"-DoutputDirectory={out}/lib", cwd=out)


def js(source, out):
    _copy(source, out)
    _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=out)


def python(source, out):
    _run(sys.executable, "-m", "pip", "install", "-q", "--require-hashes", "--no-deps", "--only-binary=:all:", "--upgrade",
         "--target", os.path.join(out, "lib"), "-r", os.path.join(source, "requirements.txt"), cwd=out)


# name: (how to build, folder of the sources, required tools, command to run)
CLIENTS = {
    "controller-runtime": (controller, "go", ["go"], lambda out, src: [f"{out}/controller"]),
    "kube-rs": (rust, "rust", ["cargo"], lambda out, src: [f"{out}/target/debug/nacre-client"]),
    "fabric8": (java, "java", ["mvn", "java"], lambda out, src: ["java", "-cp", f"{out}/target/classes:{out}/lib/*", "Life"]),
    "client-node": (js, "js", ["npm", "node"], lambda out, src: ["node", f"{out}/life.js"]),
    "python": (python, "python", [], lambda out, src: ["env", f"PYTHONPATH={out}/lib", sys.executable, f"{src}/life.py"]),
    "helm": (helm, "go", ["go"], lambda out, src: [f"{out}/helm"]),
}


def missing(client):
    """The reason why CLIENT can't be built here, or None."""
    lacks = [tool for tool in CLIENTS[client][2] if not shutil.which(tool)]
    return f"no {lacks[0]} here" if lacks else None


def _stamp(source):
    h = hashlib.sha256(sys.version.encode())
    for top in (source, os.path.abspath(__file__)):
        found = [top] if os.path.isfile(top) else sorted(os.path.join(d, f) for d, _, names in os.walk(top) for f in names)
        for path in found:
            with open(path, "rb") as f:
                h.update(path.encode() + b"\0" + f.read())
    return h.hexdigest()


def build(client):
    """The command that runs CLIENT; builds CLIENT first if necessary."""
    how, folder, _, command = CLIENTS[client]
    source, out = os.path.join(HERE, folder), os.path.join(OUT, client)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, wanted = os.path.join(out, "stamp"), _stamp(source)
        if not os.path.exists(stamp) or open(stamp).read() != wanted:
            how(source, out)
            with open(stamp, "w") as f:
                f.write(wanted)
    return command(out, source)
