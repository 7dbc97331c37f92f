# SPDX-License-Identifier: Apache-2.0
"""What the agent leaves for the guest: SSH keys and user data, of the object and of Secrets, and the DNS."""

import base64
import contextlib
import json
import os
import random
import signal
import time

from nodelib import GROUP, cloud, images, run, until  # noqa: F401 (two are fixtures)

KEY, OTHER = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{c * 43} {c}@example" for c in "AB")
SECRETS = "/api/v1/namespaces/t/secrets"
HIDDEN = "the-password-is-swordfish"


def secret(cloud, name, /, **data):
    """Makes or replaces the Secret."""
    code, text = cloud.request("POST", SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                                                 "data": {k.replace("_", "-"): base64.b64encode(v).decode() for k, v in data.items()}})
    if code == 409:
        drop(cloud, name)
        secret(cloud, name, **data)
    else:
        assert code == 201, text


def drop(cloud, name):
    assert cloud.request("DELETE", f"{SECRETS}/{name}")[0] == 200


def files(guest):
    found = {}
    for name in os.listdir(f"{guest.dir}/seed"):
        with open(f"{guest.dir}/seed/{name}", "rb") as f:
            found[name] = f.read()
    return {k: v for k, v in found.items() if not k.startswith(".")}


def becomes(guest, **want):
    want = {k.replace("_", "-"): v for k, v in want.items()}
    until(f"{want}, not {files(guest)}", lambda: files(guest) == want)


@contextlib.contextmanager
def instance(cloud, name, **spec):
    cloud.create(name, "lab", **spec)
    try:
        yield
    finally:
        cloud.delete(name)


def can_read(path, uid, gid):
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        try:
            os.close(os.open(path, os.O_RDONLY))
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_of_the_object(cloud):
    with instance(cloud, "a", sshKeys=[KEY, OTHER], userData="#cloud-config\n# ö\n"):
        guest = cloud.wait("a", "Running", 60)
        started = guest.pids("qemu-system-x86_64")
        assert files(guest) == {"ssh-keys": f"{KEY}\n{OTHER}\n".encode(), "user-data": "#cloud-config\n# ö\n".encode()}
        # nacre-vm in the container can read the files, QEMU can't, nobody can write. The folder above is root's alone; nacre-vm
        # gets this one.
        with open(f"{guest.dir}/config.json") as f:
            qemu = json.load(f)["uid"]
        os.chmod(guest.dir, 0o711)
        os.chmod(os.path.dirname(guest.dir), 0o711)
        for name in ("user-data", "ssh-keys"):
            path = f"{guest.dir}/seed/{name}"
            assert can_read(path, qemu + 60000, qemu + 60000) and not can_read(path, qemu, qemu)
            assert os.stat(path).st_mode & 0o777 == 0o640 and os.stat(path).st_uid == 0
        os.chmod(os.path.dirname(guest.dir), 0o700)
        os.chmod(guest.dir, 0o700)
        # A change is there without a restart; what doesn't differ isn't written.
        before = os.stat(f"{guest.dir}/seed/ssh-keys").st_ino
        cloud.patch("a", {"userData": "new"})
        becomes(guest, ssh_keys=f"{KEY}\n{OTHER}\n".encode(), user_data=b"new")
        assert os.stat(f"{guest.dir}/seed/ssh-keys").st_ino == before
        cloud.patch("a", {"userData": None, "sshKeys": [OTHER]})
        becomes(guest, ssh_keys=f"{OTHER}\n".encode())
        os.unlink(f"{guest.dir}/seed/ssh-keys")
        cloud.restart_node()
        becomes(guest, ssh_keys=f"{OTHER}\n".encode())
        assert guest.pids("qemu-system-x86_64") == started
    until("nothing is left", lambda: not os.path.exists(guest.dir))


def test_a_secret_that_is_missing(cloud):
    """The instance doesn't start before it has what it names, and the condition says what that is."""
    with instance(cloud, "a", sshKeys=[KEY], sshKeysFrom={"secret": "s"}, userDataFrom={"secret": "u", "key": "cloud"}):
        cloud.wait("a", "SecretMissing")
        assert cloud.ready("a")["message"] == "Secret `s` of spec.sshKeysFrom does not exist: create it with key `ssh-keys`"
        secret(cloud, "s", other=b"x")
        until("the key is named", lambda: cloud.ready("a")["message"] == "Secret `s` has no key `ssh-keys`: add it, or correct spec.sshKeysFrom.key")
        secret(cloud, "s", ssh_keys=b"# mine\n\n" + OTHER.encode() + b"\r\n-----BEGIN OPENSSH PRIVATE KEY-----\n")
        until("the line is named", lambda: cloud.ready("a")["reason"] == "SecretInvalid")
        assert cloud.ready("a")["message"].startswith("line 4 of key `ssh-keys` of Secret `s` of spec.sshKeysFrom is a private key")
        secret(cloud, "s", ssh_keys=f"{OTHER}\n".encode() * 64)
        until("the limit is named", lambda: "have more than 64 public keys together: remove some" in cloud.ready("a")["message"])
        secret(cloud, "s", ssh_keys=b"# mine\n\n" + OTHER.encode() + b"\r\n")
        until("the Secret `u` is named", lambda: cloud.ready("a")["message"].startswith("Secret `u` of spec.userDataFrom does not exist"))
        secret(cloud, "u", cloud=bytes(range(256)) * 257)
        until("it is too long", lambda: "must be at most 65536 bytes" in cloud.ready("a")["message"])
        assert not cloud.instance("a")["status"].get("restarts")
        secret(cloud, "u", cloud=bytes(range(256)) * 256)
        guest = cloud.wait("a", "Running", 60)
        assert files(guest) == {"ssh-keys": f"{KEY}\n{OTHER}\n".encode(), "user-data": bytes(range(256)) * 256}
    drop(cloud, "s")
    drop(cloud, "u")


def test_a_running_instance_goes_on_with_what_it_has(cloud):
    secret(cloud, "s", user_data=HIDDEN.encode())
    with instance(cloud, "a", userDataFrom={"secret": "s"}):
        guest = cloud.wait("a", "Running", 60)
        started = guest.pids("qemu-system-x86_64")
        becomes(guest, user_data=HIDDEN.encode())
        secret(cloud, "s", user_data=HIDDEN.encode() * 2)
        cloud.patch("a", {"sshKeys": [KEY]})  # every change of the instance asks for its Secrets
        becomes(guest, user_data=HIDDEN.encode() * 2, ssh_keys=f"{KEY}\n".encode())
        drop(cloud, "s")
        cloud.patch("a", {"sshKeys": [OTHER]})
        until("an event says so", lambda: ("SecretMissing", "Secret `s` of spec.userDataFrom does not exist: create it with key "
                                           "`user-data`; the instance goes on with what it has") in cloud.events("a"))
        # What an agent leaves that is killed while it writes.
        rests = [f"{guest.dir}/seed/.{name}" for name in ("user-data", "ssh-keys")]
        for path in rests:
            with open(path, "w") as f:
                f.write(HIDDEN)
        cloud.restart_node()
        until("the rests are gone", lambda: not any(map(os.path.exists, rests)))
        time.sleep(1)
        # All else of the instance still follows the API.
        cloud.patch("a", {"ingress": [{"protocol": "tcp", "port": 4321}]})
        until("the port is open", lambda: "4321" in run("ip", "netns", "exec", guest.netns, "nft", "list", "ruleset"))
        assert cloud.ready("a")["reason"] == "Running" and guest.pids("qemu-system-x86_64") == started
        # A key that is taken away is gone, although the user data's Secret is.
        assert files(guest) == {"user-data": HIDDEN.encode() * 2, "ssh-keys": f"{OTHER}\n".encode()}
        cloud.patch("a", {"sshKeys": [KEY]})
        becomes(guest, user_data=HIDDEN.encode() * 2, ssh_keys=f"{KEY}\n".encode())
        # It also starts again with it.
        os.kill(started[0], signal.SIGKILL)
        until("another machine runs", lambda: guest.pids("qemu-system-x86_64") not in ([], started), 60)
        assert files(guest) == {"user-data": HIDDEN.encode() * 2, "ssh-keys": f"{KEY}\n".encode()}
        secret(cloud, "s", user_data=b"")
        becomes(guest, user_data=b"", ssh_keys=f"{KEY}\n".encode())
        shown = [json.dumps(cloud.instance("a")), json.dumps(cloud.events("a"))]
        for path in (f"{guest.dir}/config.json", f"{guest.dir}/log", f"{cloud.dir}/node.log", f"{cloud.dir}/controller.log", f"{cloud.dir}/api.log"):
            with open(path) as f:
                shown.append(f.read())
        for text in shown:
            assert "swordfish" not in text and base64.b64encode(HIDDEN.encode()).decode()[:30] not in text
    drop(cloud, "s")


def test_an_agent_that_is_killed_at_any_moment(cloud):
    """At each moment a file has one of the contents, whole, and in the end the last one."""
    contents = [f"{n} ".encode() * 8000 for n in range(12)]
    secret(cloud, "s", user_data=contents[0])
    with instance(cloud, "a", userDataFrom={"secret": "s"}):
        guest = cloud.wait("a", "Running", 60)
        for n, content in enumerate(contents):
            secret(cloud, "s", user_data=content)
            cloud.patch("a", {"sshKeys": [KEY] if n % 2 else [OTHER]})
            time.sleep(random.random() * 0.1)
            cloud.kill("node")
            found = files(guest)
            assert found["user-data"] in contents and found.get("ssh-keys") in (None, f"{KEY}\n".encode(), f"{OTHER}\n".encode())
            cloud.start_node()
            if n % 4 == 3:
                cloud.wait_node()
        cloud.wait_node()
        becomes(guest, user_data=contents[-1], ssh_keys=f"{KEY}\n".encode())
    drop(cloud, "s")


def test_dns_at_the_next_start(cloud):
    def pool(**spec):
        code, text = cloud.request("PATCH", f"{GROUP}/addresspools/net", {"spec": spec}, "application/merge-patch+json")
        assert code == 200, text

    def config(guest):
        with open(f"{guest.dir}/config.json") as f:
            c = json.load(f)
        return [d["address"] for d in c.get("dns", [])], [d["domain"] for d in c.get("search", [])], c.get("domain", "")
    with instance(cloud, "a"):
        guest = cloud.wait("a", "Running", 60)
        started = guest.pids("qemu-system-x86_64")
        pool(dnsServers=["192.0.2.53", "2001:db8::53"], dnsSearch=["t.example", "example"])
        until("the status says it", lambda: cloud.instance("a")["status"].get("dnsSearch"))
        assert config(guest) == ([], [], "") and guest.pids("qemu-system-x86_64") == started
        # The machine ends without the guest's help, which may not have got as far as hearing the power button.
        os.kill(started[0], signal.SIGKILL)
        until("another machine runs", lambda: guest.pids("qemu-system-x86_64") not in ([], started), 60)
        assert config(guest) == (["192.0.2.53", "2001:db8::53"], ["t.example", "example"], "t.example")
    pool(dnsServers=None, dnsSearch=None)
