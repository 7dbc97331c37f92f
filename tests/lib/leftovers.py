# SPDX-License-Identifier: Apache-2.0
"""Records by name what a run of tests makes besides processes, so that the next run removes what a killed run left.
Each run has a file in /run/nacre-tests, named by its pid: its start time, then a line for each thing. The tests in C
write such files, too (test_claim() in src/base/testing.h)."""

import atexit
import contextlib
import errno
import fcntl
import glob
import os
import shutil
import signal
import subprocess
import time

from harness import BIN, run

DIRECTORY = "/run/nacre-tests"


def start_time(pid):
    """Distinguishes a process from a later one with the same pid. None: there is no such process."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[19]


def claim(kind, name):
    """Records NAME. KIND is "netns" (namespaces whose names begin with NAME), "dir" (a folder or a file), "mount" or "lab"."""
    path = f"{DIRECTORY}/{os.getpid()}"
    if not os.path.exists(path):
        os.makedirs(DIRECTORY, exist_ok=True)
        sweep()
        with open(path, "w") as f:
            f.write(f"{start_time(os.getpid())}\n")
        atexit.register(remove, path)
    with open(path, "a") as f:
        f.write(f"{kind} {name}\n")


def sweep():
    """Removes what ended runs left."""
    with open(f"{DIRECTORY}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for pid in filter(str.isdigit, os.listdir(DIRECTORY)):
            path = f"{DIRECTORY}/{pid}"
            try:
                with open(path) as f:
                    alive = start_time(pid) == f.readline().strip()
            except FileNotFoundError:  # the test has ended
                continue
            if not alive:
                remove(path)


def remove(path):
    try:
        with open(path) as f:
            things = [line.rstrip("\n").split(" ", 1) for line in f.readlines()[1:]]
    except FileNotFoundError:  # the test has ended since it was looked at
        return
    for kind, name in reversed(things):
        REMOVERS[kind](name)
    os.unlink(path)


def remove_namespaces(prefix):
    names = [n for n in os.listdir("/run/netns") if n.startswith(prefix)] if os.path.isdir("/run/netns") else []
    for name in names:
        for pid in run("ip", "netns", "pids", name, check=False).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    for name in names:
        run("ip", "netns", "del", name, check=False)
    remove_cgroups(prefix)


def cgroups(prefix):
    """The control groups of instances whose names begin with PREFIX, in all hierarchies."""
    return [d for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/*") for d in glob.glob(f"{root}/nacre/{glob.escape(prefix)}*")]


def remove_cgroups(prefix):
    """Retries, since a killed process may take a moment to leave its group."""
    deadline = time.monotonic() + 20
    while left := cgroups(prefix):
        for path in left:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
            except OSError as e:
                if e.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))
        time.sleep(0.01)


def remove_mount(path):
    run("umount", "-l", path, check=False)


def remove_dir(path):
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def remove_lab(name):
    if os.path.exists(f"/run/nacre-lab/{name}"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            run(os.path.join(BIN, "nacre"), "lab", "down", "--name", name, check=False)


REMOVERS = {"netns": remove_namespaces, "mount": remove_mount, "lab": remove_lab, "dir": remove_dir}
