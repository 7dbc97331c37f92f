# SPDX-License-Identifier: Apache-2.0
"""Revoked client certificates are refused on new connections and on open ones."""

import http.client
import os
import ssl
import subprocess

import pytest
from apilib import NACRE, Pki, Server, eventually
from harness import output, patient, run

LIST = "/apis/nacre.dev/v1alpha1/images"
ANN, BOB = ("ann", "system:masters"), ("bob", "system:masters")


class Cloud(Server):
    """A server with a certificate authority of its own and that authority's revocation list."""

    def __init__(self, directory):
        super().__init__(directory)
        self.pki = Pki(f"{directory}/pki")
        self.server_cert = self.pki.server()
        self.crl = f"{self.pki.dir}/ca.crl"
        assert self.revoke() == f"{self.crl}: 0 revoked\n"

    def revoke(self, *args):
        return output(NACRE, "pki", "revoke", self.pki.dir, *args) if not args or not args[0].startswith("--") \
            else output(NACRE, "pki", "revoke", *args, self.pki.dir)

    def start(self, wait=True, **kw):
        cert, key = self.server_cert
        # Of an option that is given twice the last counts.
        return super().start(wait, args=["--tls-cert", cert, "--tls-key", key, "--client-ca", self.pki.ca,
                                         "--client-crl-file", self.crl], **kw)

    def connection(self, user=BOB, timeout=240):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.pki.context(*user))

    def says(self, text):
        with open(self.log) as f:
            return text in f.read()

    def status(self, user, path=LIST):
        conn = self.connection(user)
        try:
            return self.get(path, conn=conn).status
        finally:
            conn.close()


@pytest.fixture
def cloud(tmp_path):
    c = Cloud(tmp_path)
    yield c
    c.stop()


def watch_as(cloud, user):
    class As:
        @staticmethod
        def connection(timeout):
            return cloud.connection(user, timeout)
    from apilib import Watch
    w = Watch(As, f"{LIST}?watch=true")
    assert w.status == 200
    return w


def test_open_connections_too(cloud):
    cloud.start()
    ann, bob = cloud.connection(ANN), cloud.connection(BOB)
    for conn in (ann, bob):
        assert cloud.get(LIST, conn=conn).status == 200
    watches = watch_as(cloud, ANN), watch_as(cloud, BOB)
    assert cloud.revoke(cloud.pki.client(*ANN)[0]) == f"{cloud.crl}: 1 revoked\n"
    eventually("ann is refused", 10, lambda: cloud.status(ANN) == 401)
    eventually("ann's watch has ended", 10, lambda: watches[0].closed)
    assert cloud.get(LIST, conn=ann).status == 401
    # Nobody else is affected, and ann can get a new certificate.
    assert cloud.get(LIST, conn=bob).status == 200 and cloud.status(BOB) == 200 and not watches[1].closed
    new = cloud.pki.client.__wrapped__(cloud.pki, *ANN)
    assert os.path.exists(new[0]) and cloud.status(ANN) == 200
    for w in watches:
        w.close()


def test_what_is_revoked(cloud):
    """By kubeconfig and by serial number; repetitions change nothing; openssl reads the list in the same way."""
    cloud.pki("kubeconfig", cloud.pki.dir, "--server=https://x", "--user=eve", f"--out={cloud.dir}/eve")
    ann = cloud.pki.client(*ANN)[0]
    serial = output("openssl", "x509", "-in", ann, "-noout", "-serial").strip().split("=")[1]
    assert "1 revoked" in cloud.revoke(f"{cloud.dir}/eve")
    assert "2 revoked" in cloud.revoke("--serial", serial)
    assert "2 revoked" in cloud.revoke(ann, f"{cloud.dir}/eve")
    check = ["openssl", "verify", "-crl_check", "-CAfile", cloud.pki.ca, "-CRLfile", cloud.crl]
    assert "revoked" in run(*check, ann, check=False).stderr
    assert output(*check, cloud.pki.client(*BOB)[0]).endswith("OK\n")
    cloud.start()
    assert cloud.status(ANN) == 401 and cloud.status(BOB) == 200


def test_refused(cloud, tmp_path):
    other = Pki(f"{tmp_path}/other")
    for args, words in (([other.client(*ANN)[0]], "was not issued by this authority"), (["/etc/hostname"], "holds no certificate"),
                        (["/nowhere"], "/nowhere")):
        p = run(NACRE, "pki", "revoke", cloud.pki.dir, *args, check=False)
        assert p.returncode == 1 and words in p.stderr, p.stderr
    for serial in ("", "1", "xy", "00" * 21):
        assert "two hexadecimal digits" in run(NACRE, "pki", "revoke", "--serial", serial, cloud.pki.dir, check=False).stderr
    run("cp", cloud.crl, f"{other.dir}/ca.crl")
    assert "was not signed by this authority" in run(NACRE, "pki", "revoke", other.dir, check=False).stderr


def test_bad_lists(cloud, tmp_path):
    """An unusable list changes nothing while the server runs, and keeps the server from starting."""
    other = Pki(f"{tmp_path}/other")
    output(NACRE, "pki", "revoke", other.dir)
    cloud.revoke(cloud.pki.client(*ANN)[0])
    cloud.start()
    bad = {"junk": "holds no list of revoked certificates", open(f"{other.dir}/ca.crl").read(): "is not signed by an authority in",
           None: "No such file"}
    for text, words in bad.items():
        if text is None:
            os.unlink(cloud.crl)
        else:
            with open(cloud.crl, "w") as f:
                f.write(text)
        eventually(words, 5, lambda: cloud.says(words))
        assert cloud.status(ANN) == 401 and cloud.status(BOB) == 200
    cloud.stop()
    cloud.start(wait=False)
    assert cloud.process.wait(patient(10)) == 1


def test_an_old_list_stays_in_force(cloud):
    """After its next update a list stays in force, and the certificates that it doesn't name are still accepted."""
    ann = cloud.pki.client(*ANN)[0]
    serial = output("openssl", "x509", "-in", ann, "-noout", "-serial").strip().split("=")[1]
    at = f"{cloud.dir}/openssl"
    os.mkdir(at)
    with open(f"{at}/index", "w") as f:
        f.write(f"R\t300101000000Z\t200101000000Z\t{serial}\tunknown\t/CN=ann\n")
    with open(f"{at}/conf", "w") as f:
        f.write(f"[ca]\ndefault_ca=d\n[d]\ndatabase={at}/index\ndefault_md=sha256\n")
    subprocess.run(["openssl", "ca", "-config", f"{at}/conf", "-gencrl", "-keyfile", f"{cloud.pki.dir}/ca.key", "-cert",
                    cloud.pki.ca, "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z",
                    "-out", cloud.crl], check=True, capture_output=True, timeout=patient(10))
    cloud.start()
    assert cloud.status(ANN) == 401 and cloud.status(BOB) == 200
    eventually("the log says so", 5, lambda: cloud.says("is past its next update and stays in force"))
    # The list that the authority signs again has the same entries.
    assert "1 revoked" in cloud.revoke()
    assert cloud.status(ANN) == 401 and cloud.status(BOB) == 200


def test_expired_while_watching(cloud):
    """The same check finds certificates whose authority is no longer trusted."""
    cloud.start()
    watch = watch_as(cloud, ANN)
    other = Pki(f"{cloud.dir}/other")
    with open(cloud.pki.ca) as a, open(other.ca) as b:
        ours, theirs = a.read(), b.read()
    output(NACRE, "pki", "revoke", other.dir)
    both = open(f"{other.dir}/ca.crl").read()
    with open(cloud.crl, "w") as f:
        f.write(both)
    with open(cloud.pki.ca, "w") as f:
        f.write(theirs)
    eventually("ann's watch has ended", 10, lambda: watch.closed)
    context = ssl.create_default_context(cadata=ours)
    context.load_cert_chain(*other.client(*ANN))
    conn = http.client.HTTPSConnection("127.0.0.1", cloud.port, timeout=patient(60), context=context)
    assert cloud.get(LIST, conn=conn).status == 200
    conn.close()
    watch.close()
