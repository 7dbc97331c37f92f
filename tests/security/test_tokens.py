# SPDX-License-Identifier: Apache-2.0
"""Tokens end: the requested lifetime is limited, and a signed token is accepted for no longer than the limit."""

import base64
import json
import time
from datetime import datetime, timezone

import pytest
from apilib import Server, Watch, eventually
from database import rewrite
from test_auth import ACCOUNTS, NS, account, claims_of, signed, unb64, whoami

DAY, YEAR = 86400, 365 * 86400
RBAC = "rbac.authorization.k8s.io"
ME = "system:serviceaccount:default:sa"


def ask_for(server, seconds):
    a = server.post(f"{ACCOUNTS}/sa/token", {"spec": {"expirationSeconds": seconds}})
    assert a.status == 201, a.text
    claims = claims_of(a.json["status"]["token"])
    told = datetime.fromisoformat(a.json["status"]["expirationTimestamp"].replace("Z", "+00:00")).astimezone(timezone.utc)
    assert claims["exp"] == told.timestamp() == claims["iat"] + a.json["spec"]["expirationSeconds"]
    return a, claims["exp"] - claims["iat"]


def signer(server, token):
    """Returns a function that signs claims as the server does. TOKEN has the key's id."""
    kid, own = json.loads(unb64(token.split(".")[0]))["kid"], f"{server.database}.service-account.key"
    return lambda claims: signed(claims, own, kid=kid)


def test_a_day_at_most(server):
    account(server)
    for seconds in (600, DAY):
        a, life = ask_for(server, seconds)
        assert life == seconds and "Warning" not in a.headers
    for seconds in (DAY + 1, 1 << 32):
        a, life = ask_for(server, seconds)
        assert life == DAY and f"requested expiration of {seconds} seconds shortened to {DAY} seconds" in a.headers["Warning"]


def test_tokens_of_before(server):
    """Tokens from before the limit."""
    account(server)
    a, _ = ask_for(server, 600)
    real, sign, now = claims_of(a.json["status"]["token"]), signer(server, a.json["status"]["token"]), int(time.time())
    for age, who in ((DAY - 600, ME), (DAY + 1, None)):
        token = sign({**real, "iat": now - age, "nbf": now - age, "exp": now + 100 * YEAR})
        assert whoami(server, token=token) == 401 if who is None else whoami(server, token=token)["username"] == who


@pytest.mark.parametrize("allowed", [3600, 2 * YEAR])
def test_the_operator_decides(tmp_path, allowed):
    server = Server(tmp_path)
    try:
        server.start(args=["--service-account-max-token-expiration", str(allowed)])
        account(server)
        assert ask_for(server, 1 << 32)[1] == allowed
        a, life = ask_for(server, 700)
        assert life == 700
        token = secret_token(server)
        assert claims_of(token)["exp"] - claims_of(token)["nbf"] == max(YEAR, allowed)
    finally:
        server.stop()


def secret_token(server):
    a = server.post(f"{NS}/default/secrets", {
        "metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "sa"}},
        "type": "kubernetes.io/service-account-token"})
    assert a.status == 201, a.text
    return base64.b64decode(a.json["data"]["token"]).decode()


def put_token(server, token):
    """Puts TOKEN into the Secret, as if an earlier version had made it."""
    a = server.patch(f"{NS}/default/secrets/s", {"data": {"token": base64.b64encode(token.encode()).decode()}})
    assert a.status == 200, a.text
    return token


def held(server):
    return base64.b64decode(server.get(f"{NS}/default/secrets/s").json["data"]["token"]).decode()


def lives(token, now):
    claims = claims_of(token)
    return claims.get("exp", 0) > now + 600 and claims.get("nbf", 0) > now - 600


def test_secrets_of_an_earlier_version(server):
    """Tokens of Secrets had no end in that version, so they are void; the server replaces them at its start."""
    account(server)
    token = secret_token(server)
    claims, sign, now = claims_of(token), signer(server, token), int(time.time())
    old = base64.b64encode(sign({k: v for k, v in claims.items() if k not in ("nbf", "exp")}).encode())
    server.stop()
    rewrite(server, lambda name, text: text.replace(base64.b64encode(token.encode()), old) if name == "s" else text)
    server.start()
    fresh = eventually("a new token", 10, lambda: held(server) if lives(held(server), now) else None)
    assert whoami(server, token=fresh)["username"] == ME


def watch_with(server, token):
    class As:
        @staticmethod
        def connection(timeout):
            return server.connection((), timeout)
    w = Watch(As, f"{NS}/default/configmaps?watch=true", {"Authorization": f"Bearer {token}"})
    assert w.status == 200
    return w


def test_watches_end_with_their_token(server):
    """Watches end when their token expires or the object that it is bound to is deleted. Others go on."""
    for name in ("sa", "other"):
        account(server, name)
        binding = {"metadata": {"name": name}, "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
                   "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]}
        assert server.post(f"/apis/{RBAC}/v1/namespaces/default/rolebindings", binding).status == 201
    other = server.post(f"{ACCOUNTS}/other/token", {}).json["status"]["token"]
    real = claims_of(ask_for(server, 600)[0].json["status"]["token"])
    sign = signer(server, other)
    watches = {"secret": watch_with(server, secret_token(server)), "account": watch_with(server, sign(real)),
               "other": watch_with(server, other)}
    watches["short"] = watch_with(server, sign({**real, "exp": int(time.time()) + 5}))
    closed = lambda: [n for n, w in watches.items() if w.closed]  # noqa: E731
    eventually("the short one has ended", 20, lambda: closed() == ["short"])
    assert server.delete(f"{NS}/default/secrets/s").status == 200
    eventually("that of the Secret has ended", 20, lambda: closed() == ["secret", "short"])
    assert server.delete(f"{ACCOUNTS}/sa").status == 200
    eventually("that of the account has ended", 20, lambda: closed() == ["secret", "account", "short"])
    assert server.post(f"{NS}/default/configmaps", {"metadata": {"name": "c"}}).status == 201
    assert ("ADDED", "c") in watches["other"].wait(1)
    watches["other"].close()


def test_secrets(server):
    account(server)
    token = secret_token(server)
    claims, sign, now = claims_of(token), signer(server, token), int(time.time())
    assert claims["exp"] - claims["nbf"] == YEAR and abs(claims["nbf"] - now) < 3600
    assert whoami(server, token=token)["username"] == ME
    aged = {**claims, "nbf": now - YEAR + 600, "exp": now + 600}
    assert whoami(server, token=put_token(server, sign(aged)))["username"] == ME
    for bad in ({k: v for k, v in claims.items() if k not in ("nbf", "exp")},
                {**claims, "exp": now - 1}, {**claims, "nbf": now - YEAR - 1, "exp": now + YEAR}):
        assert whoami(server, token=put_token(server, sign(bad))) == 401
        # The server replaces it.
        fresh = eventually("a new token", 5, lambda: held(server) if lives(held(server), now) else None)
        assert whoami(server, token=fresh)["username"] == ME
    # A token that is still valid stays, and so does any other text.
    for kept in (sign(aged), "of.my.own"):
        put_token(server, kept)
        server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{len(kept)}"}})
        assert held(server) == kept
    # After the token is removed the server makes a new one.
    assert server.patch(f"{NS}/default/secrets/s", {"data": {"token": None}}).status == 200
    fresh = eventually("a new token", 5, lambda: server.get(f"{NS}/default/secrets/s").json["data"].get("token"))
    assert whoami(server, token=base64.b64decode(fresh).decode())["username"] == ME
