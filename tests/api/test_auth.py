# SPDX-License-Identifier: Apache-2.0
"""Authentication: certificates, tokens, and what must not be accepted as either."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time

import leftovers
import pytest
from apilib import ADMIN, SERVER, Pki, Server, context, eventually, namespace, pki
from harness import MORTAL

NS = "/api/v1/namespaces"
ACCOUNTS = f"{NS}/default/serviceaccounts"
REVIEWS = "/apis/authentication.k8s.io/v1"


def ask(server, method, path, body=None, user=(), token=None, tls=None):
    """A request as USER by certificate, by TOKEN, or without credentials."""
    conn = server.connection(user) if tls is None else http.client.HTTPSConnection("127.0.0.1", server.port, timeout=240,
                                                                                    context=tls)
    with contextlib.closing(conn):
        return server.request(method, path, body, headers={"Authorization": f"Bearer {token}"} if token else {}, conn=conn)


def whoami(server, **kw):
    a = ask(server, "POST", f"{REVIEWS}/selfsubjectreviews", {}, **kw)
    return a.json["status"]["userInfo"] if a.status == 201 else a.status


def account(server, name="sa"):
    a = server.post(ACCOUNTS, {"metadata": {"name": name}})
    assert a.status == 201, a.text
    return a.json


def token_of(server, name="sa", **spec):
    a = server.post(f"{ACCOUNTS}/{name}/token", {"spec": spec})
    assert a.status == 201, a.text
    return a.json["status"]["token"]


def unb64(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def b64(data):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=240)


def signed(claims, key, alg="ES256", kid=None):
    """A token signed with KEY instead of the server's key."""
    header = {"alg": alg, **({"kid": kid} if kid else {})}
    text = f"{b64(header)}.{b64(claims)}"
    der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
    n, raw, at = 2, b"", 2
    for _ in range(n):
        length = der[at + 1]
        raw += int.from_bytes(der[at + 2:at + 2 + length], "big").to_bytes(32, "big")
        at += 2 + length
    return f"{text}.{b64(raw)}"


def claims_of(token):
    return json.loads(unb64(token.split(".")[1]))


# ---- certificates ----

def test_certificates(server):
    me = whoami(server, user=("ann", "one", "two"))
    assert me["username"] == "ann" and sorted(me["groups"]) == ["one", "system:authenticated", "two"]
    with open(pki().client("ann", "one", "two")[0]) as f:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()
    assert me["extra"] == {"authentication.kubernetes.io/credential-id": [f"X509SHA256={digest}"]}
    assert ask(server, "GET", NS, user=("ann",)).status == 403
    assert ask(server, "GET", NS, user=ADMIN).status == 200
    a = ask(server, "GET", NS)
    assert a.status == 403 and 'User "system:anonymous" cannot list resource "namespaces"' in a.json["message"]
    assert whoami(server) == 403
    assert ask(server, "GET", "/readyz").status == 200 and ask(server, "GET", "/api").status == 403


def with_certificate(cert, key):
    tls = ssl.create_default_context(cafile=pki().ca)
    tls.load_cert_chain(cert, key)
    return tls


def expired(directory):
    """An expired certificate of our authority."""
    base = f"{directory}/old"
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/O=system:masters/CN=old",
            "-keyout", f"{base}.key", "-out", f"{base}.csr")
    openssl("x509", "-req", "-in", f"{base}.csr", "-CA", pki().ca, "-CAkey", f"{pki().dir}/ca.key", "-days", "0",
            "-set_serial", "1", "-out", f"{base}.crt")
    made = time.time()
    eventually("it has ended", 5, lambda: time.time() > made + 2)
    return f"{base}.crt", f"{base}.key"


def test_certificates_that_are_no_good(server, tmp_path):
    other = Pki(str(tmp_path / "other"))
    server_cert = f"{pki().dir}/server.crt", f"{pki().dir}/server.key"
    own = f"{tmp_path}/own.crt", f"{tmp_path}/own.key"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/O=system:masters/CN=me",
            "-keyout", own[1], "-out", own[0])
    for what, pair in {"another authority": other.client(*ADMIN), "for servers": server_cert, "self-made": own,
                       "expired": expired(tmp_path)}.items():
        a = ask(server, "GET", NS, tls=with_certificate(*pair))
        assert a.status == 401, (what, a.text)
        assert (a.status, a.json["reason"], a.json["message"]) == (401, "Unauthorized", "Unauthorized"), what
    a = ask(server, "GET", NS, tls=with_certificate(*pki().client(*ADMIN)))
    assert a.status == 200


def test_tls_only(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as s:
        s.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not s.recv(100).startswith(b"HTTP/1.1 2")
    old = ssl.create_default_context(cafile=pki().ca)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(OSError):
        ask(server, "GET", "/version", tls=old)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = with_certificate(*pki().client(*ADMIN))
        tls.minimum_version = tls.maximum_version = version
        tls.set_alpn_protocols(["h2", "http/1.1"])
        with contextlib.closing(server.connection()) as c, socket.create_connection(("127.0.0.1", server.port)) as raw:
            assert c
            with tls.wrap_socket(raw, server_hostname="localhost") as s:
                assert s.selected_alpn_protocol() == "http/1.1"
        assert ask(server, "GET", NS, tls=tls).status == 200
    # Unfinished handshakes hold up nobody.
    half = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for s in half:
        s.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    assert ask(server, "GET", NS, user=ADMIN).status == 200
    for s in half:
        s.close()


def test_files_are_read_again(tmp_path):
    """New certificates and authorities take effect without a restart, also for open connections."""
    mine = Pki(str(tmp_path / "pki"))
    cert, key = mine.server()
    s = Server(tmp_path)
    s.process = subprocess.Popen([*MORTAL, SERVER, "--database", s.database, "--listen", f"127.0.0.1:{s.port}", "--tls-cert", cert,
                                  "--tls-key", key, "--client-ca", mine.ca], stderr=open(s.log, "a"))
    try:
        def trusting(p, *user):
            tls = ssl.create_default_context(cafile=p.ca)
            tls.load_cert_chain(*p.client(*user))
            return tls

        def answers(tls):
            with contextlib.suppress(OSError):
                return ask(s, "GET", NS, tls=tls).status

        eventually("the server answers", 20, lambda: answers(trusting(mine, *ADMIN)) == 200)
        with contextlib.closing(http.client.HTTPSConnection("127.0.0.1", s.port, timeout=240, context=trusting(mine, *ADMIN))) as conn:
            assert s.get(NS, conn=conn).status == 200
            # A key that doesn't fit changes nothing.
            good = open(key).read()
            with open(key, "w") as f:
                f.write(open(f"{mine.dir}/ca.key").read())
            s.process.send_signal(signal.SIGHUP)
            eventually("it says so", 10, lambda: "certificates stay as they were" in open(s.log).read())
            assert answers(trusting(mine, *ADMIN)) == 200
            with open(key, "w") as f:
                f.write(good)
            # Another authority, for the server and the clients.
            other = Pki(str(tmp_path / "other"))
            new = other.server()
            for source, to in ((new[1], key), (new[0], cert), (other.ca, mine.ca)):
                data = open(source).read()
                with open(to + ".new", "w") as f:
                    f.write(data)
                os.rename(to + ".new", to)
            eventually("the new ones are in force", 10, lambda: answers(trusting(other, *ADMIN)) == 200)
            assert s.get(NS, conn=conn).status == 401
    finally:
        s.stop()


# ---- tokens ----

def test_tokens(server):
    sa = account(server)
    token = token_of(server)
    who = whoami(server, token=token)
    assert who["username"] == "system:serviceaccount:default:sa" and who["uid"] == sa["metadata"]["uid"]
    assert who["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    claims = claims_of(token)
    assert claims["exp"] - claims["iat"] == 3600 and claims["sub"] == who["username"]
    assert who["extra"]["authentication.kubernetes.io/credential-id"] == ["JTI=" + claims["jti"]]
    assert ask(server, "GET", NS, token=token).status == 403
    review = server.post(f"{REVIEWS}/tokenreviews", {"spec": {"token": token}})
    assert review.status == 201 and review.json["status"]["authenticated"] and review.json["status"]["user"] == who
    # A valid certificate takes precedence, as in kube-apiserver.
    assert whoami(server, user=("ann",), token="junk")["username"] == "ann"


def test_tokens_that_are_no_good(server, tmp_path):
    account(server)
    account(server, "gone")
    good, gone = token_of(server), token_of(server, "gone")
    assert server.delete(f"{ACCOUNTS}/gone").status == 200
    header, claims, signature = good.split(".")
    key = f"{tmp_path}/key.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    kid, own = json.loads(unb64(header))["kid"], f"{server.database}.service-account.key"
    flipped = unb64(signature)
    flipped = flipped[:40] + bytes([flipped[40] ^ 1]) + flipped[41:]
    real = claims_of(good)
    now = int(time.time())
    bad = {
        "junk": "junk", "dots": "..", "many dots": good + ".x", "no signature": f"{header}.{claims}.",
        "flipped signature": f"{header}.{claims}.{b64(flipped)}",
        "zero signature": f"{header}.{claims}.{b64(bytes(64))}",
        "other claims": f"{header}.{b64({**real, 'sub': 'system:admin'})}.{signature}",
        "alg none": f"{b64({'alg': 'none', 'kid': kid})}.{claims}.",
        "HMAC with the public part": f"{b64({'alg': 'HS256', 'kid': kid})}.{claims}.{signature}",
        "self-made": signed(real, key, kid=kid), "self-made, own kid": signed(real, key, kid="x"),
        "expired": signed({**real, "exp": now - 1}, own, kid=kid),
        "not yet valid": signed({**real, "nbf": now + 3600}, own, kid=kid),
        "no end": signed({k: v for k, v in real.items() if k != "exp"}, own, kid=kid),
        "another issuer": signed({**real, "iss": "https://example.com"}, own, kid=kid),
        "no account": signed({k: v for k, v in real.items() if k != "kubernetes.io"}, own, kid=kid),
        "another uid": signed({**real, "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "sa", "uid": "x"}}},
                              own, kid=kid),
        "claims are a list": signed([], own, kid=kid),
        "deleted account": gone, "wrong audience": token_of(server, audiences=["x"]),
        "10,000 bytes": "a" * 10000, "10,000 bytes and dots": f"{header}.{'a' * 10000}.{signature}", "not ASCII": "\u00e4.\u00e4.\u00e4",
    }
    # The method is right: the same token without a fault is accepted.
    assert whoami(server, token=signed(real, own, kid=kid))["username"] == "system:serviceaccount:default:sa"
    for what, token in bad.items():
        try:
            a = ask(server, "GET", NS, token=token.encode().decode("latin-1"))
        except (OSError, http.client.HTTPException):
            assert "10,000" in what  # longer than a header may be
            continue
        assert a.status == 401 or ("10,000" in what and a.status == 431), (what, a.status, a.text)
        if "ASCII" in what:
            continue
        a = server.post(f"{REVIEWS}/tokenreviews", {"spec": {"token": token}})
        assert a.status == 201 and not a.json["status"].get("authenticated") and a.json["status"]["error"], what


def test_audiences(server):
    account(server)
    token = token_of(server, audiences=["x", "y"])
    ok = server.post(f"{REVIEWS}/tokenreviews", {"spec": {"token": token, "audiences": ["y", "z"]}}).json["status"]
    assert ok["authenticated"] and ok["audiences"] == ["y"]
    no = server.post(f"{REVIEWS}/tokenreviews", {"spec": {"token": token, "audiences": ["z"]}}).json["status"]
    assert not no.get("authenticated") and "audience" in no["error"]


@pytest.mark.parametrize("body,code,words", [
    ({"spec": {"expirationSeconds": 60}}, 422, "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"),
    ({"spec": {"expirationSeconds": 1 << 33}}, 422, "may not specify a duration larger than 2^32 seconds"),
    ({"spec": {"expirationSeconds": "a"}}, 400, "malformed"),
    ({"spec": {"audiences": "a"}}, 400, "malformed"),
    ({"spec": {"audiences": [1]}}, 400, "audiences[0]"),
    ({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}}, 400, "cannot bind token to object of type"),
    ({"spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s"}}}, 404, 'secrets "s" not found'),
    ({"metadata": {"name": "b"}}, 422, "must match the service account name if specified"),
    ({"kind": "Foo"}, 400, "Foo"),
], ids=str)
def test_bad_token_requests(server, body, code, words):
    account(server)
    a = server.post(f"{ACCOUNTS}/sa/token", body)
    assert a.status == code and words in a.json["message"], a.text


def test_token_routes(server):
    account(server)
    assert server.get(f"{ACCOUNTS}/sa/token").status == 405
    assert server.post(f"{ACCOUNTS}/none/token", {}).status == 404
    assert server.post(f"{ACCOUNTS}/sa/token", {}, headers={}).status == 201
    assert server.get(f"{REVIEWS}/tokenreviews").status == 405
    assert server.post(f"{REVIEWS}/tokenreviews", {"spec": {}}).status == 400
    assert server.get(REVIEWS).status == 200


def test_token_secrets(server):
    account(server)
    secret = {"metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "sa"}},
              "type": "kubernetes.io/service-account-token"}
    a = server.post(f"{NS}/default/secrets", secret)
    assert a.status == 201, a.text
    data = {k: base64.b64decode(v).decode() for k, v in a.json["data"].items()}
    assert data["namespace"] == "default" and data["ca.crt"] == open(pki().ca).read()
    assert whoami(server, token=data["token"])["username"] == "system:serviceaccount:default:sa"
    bound = token_of(server, boundObjectRef={"kind": "Secret", "apiVersion": "v1", "name": "s"})
    assert whoami(server, token=bound)["username"] == "system:serviceaccount:default:sa"
    assert server.delete(f"{NS}/default/secrets/s").status == 200
    assert whoami(server, token=data["token"]) == 401 and whoami(server, token=bound) == 401
    assert server.post(f"{NS}/default/secrets", secret).status == 201
    assert whoami(server, token=data["token"]) == 401  # a Secret of the same name, but with another token


def test_token_secrets_are_kept_filled(server):
    """The account is created later; somebody removes the token; both also happen while the server is stopped."""
    at = f"{NS}/default/secrets"
    secret = lambda name, sa: {"metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": sa}},
                               "type": "kubernetes.io/service-account-token"}

    def token(name):
        text = server.get(f"{at}/{name}").json.get("data", {}).get("token")
        return text and base64.b64decode(text).decode()

    def is_of(name, sa):
        eventually(f"{name} holds a token", 60, lambda: token(name))
        assert whoami(server, token=token(name))["username"] == f"system:serviceaccount:default:{sa}"

    for name in ("s", "t"):
        assert server.post(at, secret(name, "later")).status == 201
    assert server.post(at, {"metadata": {"name": "other"}, "data": {"token": ""}}).status == 201
    assert token("s") is None
    account(server, "later")
    is_of("s", "later")
    is_of("t", "later")
    first = token("s")
    for body in ({"data": None}, {"data": {"token": None}}, {"data": {"token": ""}}):
        assert server.patch(f"{at}/s", body).status == 200
        is_of("s", "later")
    assert token("t") and first and server.get(f"{at}/other").json["data"] == {"token": ""}
    o = server.get(f"{at}/s").json
    assert o["metadata"]["annotations"]["kubernetes.io/service-account.uid"] and set(o["data"]) == {"token", "namespace", "ca.crt"}
    version = server.get(f"{at}/s").json["metadata"]["resourceVersion"]
    server.kill()
    server.start()
    is_of("s", "later")
    assert server.get(f"{at}/s").json["metadata"]["resourceVersion"] == version, "nothing is written without need"


def test_tokens_live_on(server):
    """Tokens survive a restart of the server, and are void when their namespace is deleted."""
    server.create(namespace("t"))
    assert server.post(f"{NS}/t/serviceaccounts", {"metadata": {"name": "sa"}}).status == 201
    token = server.post(f"{NS}/t/serviceaccounts/sa/token", {}).json["status"]["token"]
    server.kill()
    server.start()
    assert whoami(server, token=token)["username"] == "system:serviceaccount:t:sa"
    key = f"{server.database}.service-account.key"
    assert os.stat(key).st_mode & 0o777 == 0o600
    assert server.delete(f"{NS}/t").status == 200
    eventually("the token is void", 10, lambda: whoami(server, token=token) == 401)


# ---- the audit log ----

def lines(path):
    with contextlib.suppress(FileNotFoundError), open(path) as f:
        return [json.loads(line) for line in f]
    return []


def test_audit_log(tmp_path):
    s = Server(tmp_path)
    log = f"{tmp_path}/audit"
    s.start(args=("--audit-log", log))
    try:
        assert os.stat(log).st_mode & 0o777 == 0o600
        s.post(f"{NS}/default/secrets", {"metadata": {"name": "s"}, "stringData": {"k": "very-secret"}})
        s.get(f"{NS}/default/secrets/s", headers={"User-Agent": "me/1\u00e4"})
        s.get(f"{NS}/default/secrets/s", headers={"Impersonate-User": "ann"})
        ask(s, "GET", f"{NS}?limit=1", token="junk")
        w = s.watch(NS)
        w.wait(1)
        w.close()

        def of(**want):
            return [e for e in lines(log) if all(e.get(k) == v for k, v in want.items())]

        read = eventually("the read is there", 10, lambda: of(requestURI=f"{NS}/default/secrets/s", verb="get"))
        eventually("the watch's end is there", 20, lambda: of(verb="watch"))
        assert "very-secret" not in open(log).read() and "dmVyeS1zZWNyZXQ" not in open(log).read()
        e = read[0]
        assert (e["kind"], e["apiVersion"], e["level"], e["stage"]) == ("Event", "audit.k8s.io/v1", "Metadata", "ResponseComplete")
        assert e["user"] == {"username": "system:admin", "groups": ["system:masters", "system:authenticated"]}
        assert e["objectRef"] == {"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"}
        assert e["responseStatus"]["code"] == 200 and e["sourceIPs"] == ["127.0.0.1"] and e["userAgent"].startswith("me/1?")
        assert e["requestReceivedTimestamp"] <= e["stageTimestamp"] and len(e["auditID"]) == 36
        forbidden = of(requestURI=f"{NS}/default/secrets/s", verb="get", responseStatus={"code": 403})
        assert forbidden[0]["impersonatedUser"]["username"] == "ann" and forbidden[0]["user"]["username"] == "system:admin"
        refused = of(requestURI=f"{NS}?limit=1")[0]
        assert refused["responseStatus"] == {"code": 401} and "user" not in refused
        os.rename(log, log + ".1")
        s.process.send_signal(signal.SIGHUP)
        eventually("there is a new log", 10, lambda: s.get("/readyz").status == 200 and lines(log))
    finally:
        s.stop()
    before = len(lines(log))
    assert before and all(e["kind"] == "Event" for e in lines(log))


def test_audit_log_on_a_full_disk(tmp_path):
    """Requests are served, lines past the bound are dropped and counted, and the log continues when there is room."""
    full = tmp_path / "full"
    full.mkdir()
    leftovers.claim("mount", full)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(full)], check=False).returncode:
        pytest.skip("can't mount")
    s = Server(tmp_path)
    try:
        s.start(args=("--audit-log", f"{full}/audit"))
        with contextlib.closing(s.connection()) as conn:
            def once():
                assert s.get(NS, conn=conn).status == 200
                return "audit log can't be written" in open(s.log).read()

            eventually("the log says so", 30, once)
            have = lines(f"{full}/audit")  # whole lines only
            subprocess.run(["mount", "-o", "remount,size=4m", str(full)], check=True)
            eventually("what waited is written", 10, lambda: len(lines(f"{full}/audit")) > len(have))
            eventually("and it says so", 10, lambda: "audit log works again" in open(s.log).read())
    finally:
        s.stop()
        subprocess.run(["umount", str(full)], check=True)


def test_audit_log_that_cannot_be(tmp_path):
    p = subprocess.run([SERVER, "--database", f"{tmp_path}/db", "--listen", f"unix:{tmp_path}/sock", "--audit-log", f"{tmp_path}/no/audit"],
                       stderr=subprocess.PIPE, timeout=120)
    assert p.returncode == 1 and b"audit log" in p.stderr


