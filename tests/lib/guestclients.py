# SPDX-License-Identifier: Apache-2.0
"""Real programs by which guests configure their network, run in the namespace of a guest whose interface is eth0."""

import contextlib
import json
import subprocess
import tempfile

from harness import MORTAL, run

# A client sees an /etc and a /run of its own, and no udev: networkd believes that there is none if /sys is read-only.
ROOT = """set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
mount -t tmpfs tmpfs /run
mount -t sysfs -o ro sysfs /sys
rm -f /etc/resolv.conf
touch /etc/resolv.conf
echo 0b5ac4a84b0e4c359c3d000000000001 >/etc/machine-id
hostname localhost
mkdir -p /run/systemd/network
shift
exec "$@"
"""


class Client:
    def __init__(self, netns, process):
        self.netns, self.process = netns, process

    def ip(self, *argv):
        assert self.process.poll() is None, "the client ended"
        return json.loads(run("ip", "-n", self.netns, "-j", *argv).stdout)

    def addresses(self, family="-4"):
        return [(a["local"], a["prefixlen"]) for link in self.ip(family, "addr", "show", "dev", "eth0") for a in link["addr_info"]
                if "local" in a]

    def routes(self, family="-4"):
        """Destination and gateway."""
        return {(r["dst"], r.get("gateway")) for r in self.ip(family, "route", "show", "dev", "eth0")}

    def mtu(self):
        return self.ip("link", "show", "dev", "eth0")[0]["mtu"]

    def read(self, path):
        """A file as the client sees it."""
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{self.process.pid}/root{path}") as f:
            return f.read()
        return ""

    def hostname(self):
        return run("nsenter", f"--uts=/proc/{self.process.pid}/ns/uts", "hostname").stdout.strip()


@contextlib.contextmanager
def running(netns, directory, *argv, files=()):
    """Runs a client, which is killed at the end. FILES are written for it: (path, text). DIRECTORY gets its log."""
    root = tempfile.mkdtemp(dir=directory)
    write = "".join(f"cat >{path} <<'EOF'\n{text}EOF\n" for path, text in files)
    with open(f"{directory}/client.log", "ab") as log:
        p = subprocess.Popen([*MORTAL, "nsenter", f"--net=/run/netns/{netns}", "unshare", "-mu", "sh", "-c",
                              ROOT.replace("shift\n", f"shift\n{write}"), "sh", root, *argv],
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield Client(netns, p)
    finally:
        with open(f"{directory}/client.log") as log:
            print("".join(log.readlines()[-60:]))  # pytest shows it if the test fails
        p.kill()
        p.wait()
