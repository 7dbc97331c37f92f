# SPDX-License-Identifier: Apache-2.0
"""OpenSSH's client for tests: keys without a passphrase, and commands that ask nothing and remember nothing."""

from harness import run


def make_key(path):
    """Writes a private key to PATH and its public key to PATH.pub. Returns the public key, a line without its end."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path)
    with open(f"{path}.pub") as f:
        return f.read().strip()


def argv(key, port=22):
    """The client and its options; USER@ADDRESS and a command come behind."""
    return ["ssh", "-i", key, "-p", str(port), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
