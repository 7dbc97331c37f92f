# SPDX-License-Identifier: Apache-2.0
"""A proxy between a controller and the API server that delays, refuses or loses what a test chooses."""

import collections
import json
import socket
import threading

from harness import patient

LOSE = "lose"  # the server gets the request, the client gets no answer


def refusal(code, reason):
    body = json.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no",
                       "reason": reason, "code": code}).encode()
    return (b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (code, len(body))) + body


def end(*sockets):
    for s in sockets:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Proxy:
    """RULE(method, path, body) returns None: the request passes; an Event: it passes when that is set; bytes: they are
    the answer; LOSE. If it raises an OSError, the connection is closed and the server gets nothing. While `flow` is
    cleared, watches bring nothing."""

    def __init__(self, path, upstream, rule):
        self.upstream, self.rule = upstream, rule
        self.flow = threading.Event()
        self.flow.set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(100)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.flow.set()
        end(self.listener)
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        server = socket.socket(socket.AF_UNIX)
        how = {"pending": collections.deque()}  # an event for each request whose answer has not begun
        try:
            server.connect(self.upstream)
            threading.Thread(target=self.bring, args=(server, client, how), daemon=True).start()
            data = b""
            while True:
                data = self.pass_request(client, server, how, data)
        except OSError:
            pass
        finally:
            end(client, server)

    def pass_request(self, client, server, how, data):
        while b"\r\n\r\n" not in data:
            data += self.receive(client)
        head, rest = data.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        length = next((int(x.split(":")[1]) for x in lines if x.lower().startswith("content-length:")), 0)
        while len(rest) < length:
            rest += self.receive(client)
        method, path, _ = lines[0].split(" ")
        does = self.rule(method, path, rest[:length])
        how["watch"] = "watch=" in path
        how["lose"] = does == LOSE
        if isinstance(does, bytes):
            client.sendall(does)
            return rest[length:]
        if does and does != LOSE:
            does.wait()
        answered = threading.Event()
        how["pending"].append(answered)
        server.sendall(head + b"\r\n\r\n" + rest[:length])
        if does:
            # The client may be gone. The server drops what it hasn't begun when its connection ends.
            assert answered.wait(patient(30)), f"no answer to {method} {path}"
        return rest[length:]

    @staticmethod
    def receive(client):
        data = client.recv(65536)
        if not data:
            raise OSError("closed")
        return data

    def bring(self, server, client, how):
        try:
            while data := server.recv(65536):
                # An answer begins so, and none of its later parts does.
                if data.startswith(b"HTTP/1.") and how["pending"]:
                    how["pending"].popleft().set()
                if how["lose"]:
                    break
                if how.get("watch"):
                    self.flow.wait()
                client.sendall(data)
        except OSError:
            pass
        end(client, server)
        while how["pending"]:
            how["pending"].popleft().set()
