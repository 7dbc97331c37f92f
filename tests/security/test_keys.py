# SPDX-License-Identifier: Apache-2.0
"""`nacre pki check` names private keys that clients refuse, and its remedies work."""

import base64
import os
import subprocess

from apilib import NACRE, Pki
from harness import output, run


def check(*files):
    p = run(NACRE, "pki", "check", *files, check=False)
    return p.returncode, p.stdout


def test_old_keys_are_named(tmp_path):
    pki = Pki(str(tmp_path))
    crt, key = pki.client("ann")
    files = [crt, key, pki.ca, f"{tmp_path}/ca.key"]
    assert check(*files)[0] == 0
    # The earlier form of keys: PKCS #8. src/base/test-pki.c has keys of 33 octets.
    for path in (key, f"{tmp_path}/ca.key"):
        old = output("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", path)
        with open(path, "w") as f:
            f.write(old)
    code, said = check(*files)
    assert code == 1 and said.count("PKCS #8") == 2 and said.count("openssl ec -in OLD -out NEW") == 2, said
    with open(f"{tmp_path}/ca.kubeconfig", "w") as f:
        f.write(f"users:\n- user:\n    client-key-data: {base64.b64encode(open(key, 'rb').read()).decode()}\n")
    assert check(f.name)[0] == 1
    # One remedy for each key: rewrite the same key, or make a new one.
    ca = f"{tmp_path}/ca.key"
    subprocess.run(f"umask 077; openssl ec -in {ca} -out {ca}.new && mv {ca}.new {ca}", shell=True, check=True,
                   stderr=subprocess.DEVNULL)
    assert os.stat(ca).st_mode & 0o777 == 0o600
    pki("client", pki.dir, "--user=ann", "--if-due", f"--out={tmp_path}/ann")
    assert check(*files)[0] == 0, check(*files)
